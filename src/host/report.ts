/** Snapshots of overlays for users, status pages and tables. */

import type { Overlay } from "../peer/overlay.ts";
import { ROLES } from "../protocol/common.ts";
import type { OverlayReport } from "./engine-types.ts";

export function overlayReport(overlay: Overlay): OverlayReport {
  const { window, consumer, source } = overlay;
  const { known, heldBackBy } = overlay;
  return {
    overlayId: overlay.settings.overlayId,
    role: source === undefined ? "peer" : "source",
    start: window.start,
    highest: window.highest,
    known,
    fragmentsHeld: window.heldCount,
    bytesHeld: window.heldBytes,
    missing: Math.max(0, known - window.start - window.heldCount),
    consumedTo: consumer?.consumedTo ?? source?.produced ?? 0,
    lagMs: overlay.lagMs(),
    heldBackBy:
      heldBackBy === undefined
        ? undefined
        : {
            peerId: heldBackBy.peerId,
            behind: Math.max(0, window.highest - heldBackBy.ackedTo),
            byOthers: heldBackBy.heldBack,
          },
    ended: overlay.hasEnded,
    neighbours: overlay.neighbours.map((neighbour) => ({
      peerId: neighbour.peerId,
      role:
        neighbour.role === ROLES.source
          ? "source"
          : neighbour.role === ROLES.virtual
            ? "virtual"
            : "peer",
      lagging: neighbour.lagging,
      bytesFrom: neighbour.bytesFrom,
      bytesTo: neighbour.bytesTo,
      queuedBytes: neighbour.link.queuedBytes,
    })),
    traffic: overlay.traffic(),
  };
}
