/**
 * A peer's status for the PAMS (R2.c, P0.3): what it holds and misses, whom it got it from and what
 * it gave. O(neighbours), whatever the number of fragments.
 */

import type { MonoMs, PeerId } from "../../base/units.ts";
import { type PeerStatus, REPORT_EVENTS } from "../../protocol/r2.ts";
import type { Overlay } from "../overlay.ts";

/** What a rate needs of the report before. */
export interface StatusMemory {
  atMs: MonoMs;
  bytes: number;
}

export function zeroStatusMemory(): StatusMemory {
  return { atMs: Number.NaN, bytes: 0 };
}

export function overlayStatus(
  overlay: Overlay,
  peerId: PeerId,
  event: keyof typeof REPORT_EVENTS,
  memory: StatusMemory,
  nowMs: MonoMs,
): PeerStatus {
  const { window } = overlay;
  const { known } = overlay;
  const traffic = overlay.traffic();
  const bytes =
    overlay.source === undefined
      ? traffic.bytesFromSource + traffic.bytesFromPeers
      : traffic.bytesToPeers;
  const elapsedMs = nowMs - memory.atMs;
  const rate = elapsedMs > 0 ? ((bytes - memory.bytes) * 1000) / elapsedMs : 0;
  memory.atMs = nowMs;
  memory.bytes = bytes;
  const haveEnd = window.firstMissing(window.start, window.highest);
  return {
    overlayId: overlay.settings.overlayId,
    peerId,
    event: REPORT_EVENTS[event],
    start: window.start,
    haveEnd,
    missing: Math.min(0xffff_ffff, Math.max(0, known - window.start - window.heldCount)),
    fragmentsHeld: window.heldCount,
    bytesFromSource: traffic.bytesFromSource,
    bytesFromPeers: traffic.bytesFromPeers,
    bytesToPeers: traffic.bytesToPeers,
    lagMs: Math.round(overlay.lagMs()),
    links: overlay.neighbours.length,
    rateBytesPerSecond: Math.max(0, Math.round(rate)),
  };
}
