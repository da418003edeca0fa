/**
 * A peer's status for the PAMS (R2.c, P0.3): what it holds and misses, whom it got it from and what
 * it gave. O(neighbours), whatever the number of fragments.
 */

import type { MonoMs, PeerId } from "../../base/units.ts";
import {
  type PeerStatus,
  REPORT_CAUSES,
  REPORT_EVENTS,
  REPORT_NEIGHBOURS_MAX,
} from "../../protocol/r2.ts";
import type { Neighbour } from "../neighbour.ts";
import type { Overlay } from "../overlay.ts";
import { missingFrom } from "../reach.ts";

/** Why a report is made: what the wire calls event and cause. */
export type ReportReason =
  | keyof typeof REPORT_EVENTS
  | Exclude<keyof typeof REPORT_CAUSES, "event">;

/** What rates need of the report before. */
export interface StatusMemory {
  readonly atMs: MonoMs;
  /** What a rate counts: from others, at the source peer to others. */
  readonly bytes: number;
  readonly bytesToPeers: number;
}

export interface StatusInput {
  readonly overlay: Overlay;
  readonly peerId: PeerId;
  readonly reason: ReportReason;
  /** Undefined: the first report, without rates. */
  readonly before: StatusMemory | undefined;
  readonly nowMs: MonoMs;
  /** Fragments lost for good since the start. */
  readonly lost: number;
  /** 0 = none. */
  readonly uploadLimitBytesPerSecond: number;
}

export function overlayStatus(input: StatusInput): { status: PeerStatus; memory: StatusMemory } {
  const { overlay, before, nowMs, reason } = input;
  const { window, known, neighbours, consumer } = overlay;
  const traffic = overlay.traffic();
  const { bytesFromSource, bytesFromPeers, bytesToPeers } = traffic;
  const bytes = overlay.source === undefined ? bytesFromSource + bytesFromPeers : bytesToPeers;
  const rate = (now: number, then: number | undefined): number => {
    const elapsedMs = nowMs - (before?.atMs ?? nowMs);
    return elapsedMs > 0 ? Math.max(0, Math.round(((now - (then ?? now)) * 1000) / elapsedMs)) : 0;
  };
  const status: PeerStatus = {
    overlayId: overlay.settings.overlayId,
    peerId: input.peerId,
    event: reason in REPORT_EVENTS ? REPORT_EVENTS[reason as keyof typeof REPORT_EVENTS] : 0,
    start: window.start,
    haveEnd: window.firstMissing(window.start, window.highest),
    missing: Math.min(0xffff_ffff, missingFrom(window, consumer?.consumedTo ?? 0, known)),
    fragmentsHeld: window.heldCount,
    bytesFromSource,
    bytesFromPeers,
    bytesToPeers,
    lagMs: Math.round(overlay.lagMs()),
    links: neighbours.length,
    rateBytesPerSecond: rate(bytes, before?.bytes),
    known,
    lost: input.lost,
    uploadBytesPerSecond: rate(bytesToPeers, before?.bytesToPeers),
    uploadLimitBytesPerSecond: input.uploadLimitBytesPerSecond,
    cause: reason in REPORT_CAUSES ? REPORT_CAUSES[reason as keyof typeof REPORT_CAUSES] : 0,
    neighbours: busiest(neighbours),
  };
  return { status, memory: { atMs: nowMs, bytes, bytesToPeers } };
}

function busiest(neighbours: readonly Neighbour[]): PeerStatus["neighbours"] {
  return neighbours
    .map(({ peerId, bytesFrom, bytesTo }) => ({ peerId, bytesFrom, bytesTo }))
    .sort((a, b) => b.bytesFrom + b.bytesTo - a.bytesFrom - a.bytesTo)
    .slice(0, REPORT_NEIGHBOURS_MAX);
}
