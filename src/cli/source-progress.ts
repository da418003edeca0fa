/** What a source says of how it gets on: what was sent, to whom, and what it waits for. */

import type { OverlayReport, RemoteIntake } from "../host/engine-types.ts";
import type { Progress } from "./reporter.ts";
import { bytesText, count, countText, dataText, secondsText } from "./units.ts";

/** Shorter silence of a peer is usual. */
const SILENCE_TOLD_MS = 3_000;

export interface Sent {
  data: number;
  bytes: number;
}

/** Peers that must have been there before anything is let go (--wait-peers). */
export class AwaitedPeers {
  readonly #wanted: number;
  #readersMost = 0;

  constructor(wanted: number) {
    this.#wanted = wanted;
  }

  /** Undefined: there is nobody to wait for any more. */
  sentence({ members, neighbours }: Pick<OverlayReport, "members" | "neighbours">) {
    // Those behind virtual peers are known by what these say; one of them may go again.
    for (const { readers } of neighbours) this.#readersMost = Math.max(this.#readersMost, readers);
    const met = members.complete + members.left + members.behind;
    const came = Math.max(met, this.#readersMost);
    if (came >= this.#wanted) return undefined;
    const lacking = count(this.#wanted - came, "more peer", "more peers");
    const linked = `${countText(came)} of ${countText(this.#wanted)} linked to this source so far`;
    return `waits for ${lacking}: ${linked}, and peers behind others do not count`;
  }
}

export function sourceProgress(
  report: Pick<
    OverlayReport,
    "neighbours" | "traffic" | "lagMs" | "heldBackBy" | "holdLeftMs" | "members"
  >,
  sent: Sent,
  intake: ReturnType<RemoteIntake["status"]> | undefined,
  awaited: AwaitedPeers,
): Progress {
  const { neighbours, traffic, lagMs, heldBackBy, holdLeftMs } = report;
  const { bytesToPeers } = traffic;
  const waitsFor = awaited.sentence(report);
  const out = [
    `${bytesText(bytesToPeers)} sent${toWhom(report)}`,
    ...(heldBackBy === undefined ? [] : [heldSentence(heldBackBy)]),
    ...(waitsFor === undefined ? [] : [waitsFor]),
    ...(holdLeftMs === undefined ? [] : [holdSentence(holdLeftMs)]),
  ].join(", ");
  const fields = {
    ...sent,
    peers: neighbours.length,
    bytesToPeers,
    lagMs,
    heldBackBy,
    holdLeftMs,
    waitsFor,
  };
  if (intake === undefined) return { fields, sentence: `${amount(sent)} read, ${out}` };
  const linkedSources = intake.sources.filter((source) => source.linked).length;
  const acceptedData = intake.counters.dataAccepted;
  return {
    fields: { ...fields, acceptedData, linkedSources },
    sentence: `${dataText(acceptedData)} accepted, ${sourcesSentence(intake.sources)}, ${out}`,
  };
}

/** Those that came and left have what was sent. */
function toWhom({ neighbours, members }: Pick<OverlayReport, "neighbours" | "members">): string {
  const met = members.complete + members.left + members.behind;
  if (neighbours.length > 0 || met === 0) return ` to ${count(neighbours.length, "peer", "peers")}`;
  return `, no peer linked any more (${countText(met)} ${met === 1 ? "was" : "were"})`;
}

/** Who sends, and who went without an end: the session waits for those. */
function sourcesSentence(sources: ReturnType<RemoteIntake["status"]>["sources"]): string {
  const linked = sources.filter((source) => source.linked).length;
  const gone = sources.filter((source) => !source.linked && !source.ended);
  const sentence = `${count(linked, "data source", "data sources")} linked`;
  if (gone.length === 0) return sentence;
  const [first] = gone;
  const who = gone.length === 1 ? first?.sourceId : `${first?.sourceId} and others`;
  return `${sentence}, ${countText(gone.length)} without a link and not ended (${who})`;
}

/** Live: who stayed to the end may have gaps, which it alone knows of. */
export function membersSentence(
  { complete, left, behind }: OverlayReport["members"],
  delivery: "complete" | "live",
): string {
  const fared = delivery === "live" ? "stayed to the end" : "had everything";
  return (
    `${count(complete, "peer", "peers")} ${fared}` +
    (left === 0 ? "" : `, ${countText(left)} left before`) +
    (behind === 0 ? "" : `, ${countText(behind)} lagged behind`)
  );
}

/** Nobody is there who takes what no peer has. */
function holdSentence(leftMs: number): string {
  return `holds what no peer has for ${secondsText(leftMs)} more (--hold-ms), then gives up`;
}

/** Who sets the pace of a complete session, as far as this node sees. */
export function heldSentence({
  peerId,
  byOthers,
  silentMs,
}: NonNullable<OverlayReport["heldBackBy"]>): string {
  const silence = `${Math.floor(silentMs / 1_000)} s`;
  const isSilent = silentMs >= SILENCE_TOLD_MS;
  const who = `held back by peer ${peerId.slice(0, 8)}`;
  if (!byOthers) return isSilent ? `${who}, silent for ${silence}` : who;
  // It may have been stopped since.
  if (isSilent) return `${who}, which was held back by others when it was heard of ${silence} ago`;
  return `${who}, which is held back by others`;
}

/** What was read here, and what data sources on other machines brought. */
export function broughtSentence(sent: Sent | undefined, acceptedData: number | undefined): string {
  const parts = [
    ...(sent === undefined ? [] : [`${amount(sent)}${acceptedData === undefined ? "" : " read"}`]),
    ...(acceptedData === undefined ? [] : [`${dataText(acceptedData)} accepted of data sources`]),
  ];
  return parts.join(", ");
}

export function amount({ data, bytes }: Sent): string {
  return `${dataText(data)}, ${bytesText(bytes)}`;
}
