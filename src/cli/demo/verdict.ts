/**
 * The judgement of the demo: what every peer says it got against what the data sources wrote, and
 * who carried the load. Pure: facts in, checks out.
 */

import { count, dataText } from "../units.ts";
import type { SourceDigest, WrittenData } from "./digest.ts";

/** The source may send each fragment twice on average, however many peers there are. */
export const SOURCE_COPIES_MAX = 2;
/** What a full-time peer must get from other peers. */
export const PEER_SHARE_MIN = 0.4;

export interface PeerFacts {
  readonly name: string;
  readonly kind: "full-time" | "killed" | "late";
  /** Fragment it started with; undefined when it never did. */
  readonly startedAt: number | undefined;
  /** Undefined when it did not get to the end. */
  readonly digests: readonly SourceDigest[] | undefined;
  readonly gaps: number;
  readonly bytesFromSource: number;
  readonly bytesFromPeers: number;
  /** Why it failed, if it did. */
  readonly failure?: string;
}

export interface Facts {
  readonly written: ReadonlyMap<string, WrittenData>;
  readonly peers: readonly PeerFacts[];
  /** Fragments of the stream, and how many the source sent, copies included. */
  readonly streamFragments: number;
  readonly sourceFragments: number;
}

export interface Check {
  readonly name: string;
  readonly passed: boolean;
  readonly detail: string;
}

export function judge(facts: Facts): Check[] {
  const checks: Check[] = [];
  for (const peer of facts.peers) {
    if (peer.kind !== "killed") checks.push(digestCheck(peer, facts.written));
  }
  const copies = facts.sourceFragments / Math.max(1, facts.streamFragments);
  checks.push({
    name: `the source sent at most ${SOURCE_COPIES_MAX}x the stream`,
    passed: facts.streamFragments > 0 && copies <= SOURCE_COPIES_MAX,
    detail: `${copies.toFixed(2)}x: ${facts.sourceFragments} of ${count(facts.streamFragments, "fragment", "fragments")}`,
  });
  for (const peer of facts.peers) {
    if (peer.kind === "full-time") checks.push(shareCheck(peer));
  }
  return checks;
}

/** A full-time peer has all of every source; a late one all from where it began. */
function digestCheck(peer: PeerFacts, written: ReadonlyMap<string, WrittenData>): Check {
  const name = `${peer.name} (${peer.kind}) has the data of every source, byte for byte`;
  const failed = (detail: string): Check => ({ name, passed: false, detail });
  if (peer.failure !== undefined) return failed(peer.failure);
  if (peer.digests === undefined) return failed("it did not get to the end");
  if (peer.gaps > 0) return failed(count(peer.gaps, "gap", "gaps"));
  let dataCount = 0;
  let missedCount = 0;
  const told = new Map(peer.digests.map((digest) => [digest.sourceId, digest]));
  for (const [sourceId, data] of written) {
    const digest = told.get(sourceId);
    if (digest === undefined) {
      if (peer.kind === "late" && (peer.startedAt ?? 0) > 0) {
        missedCount += data.count;
        continue;
      }
      return failed(`nothing of ${sourceId}`);
    }
    if (peer.kind === "full-time" && digest.first !== 1) {
      return failed(`${sourceId} begins with datum ${digest.first}`);
    }
    if (digest.last !== data.count) {
      return failed(`${sourceId} ends with datum ${digest.last} of ${data.count}`);
    }
    if (digest.digest !== data.suffixDigest(digest.first)) return failed(`${sourceId} differs`);
    dataCount += digest.last - digest.first + 1;
    missedCount += digest.first - 1;
  }
  const unknown = peer.digests.find(({ sourceId }) => !written.has(sourceId));
  if (unknown !== undefined) return failed(`data of ${unknown.sourceId}, which nobody sent`);
  if (dataCount === 0) return failed("no data at all");
  const missed = missedCount === 0 ? "" : `; ${missedCount} came before it joined`;
  return {
    name,
    passed: true,
    detail: `${dataText(dataCount)} of ${count(told.size, "source", "sources")}${missed}`,
  };
}

function shareCheck(peer: PeerFacts): Check {
  const all = peer.bytesFromPeers + peer.bytesFromSource;
  const share = peer.bytesFromPeers / Math.max(1, all);
  return {
    name: `${peer.name} got at least ${100 * PEER_SHARE_MIN} % from other peers`,
    passed: share >= PEER_SHARE_MIN,
    detail: `${Math.round(100 * share)} %`,
  };
}
