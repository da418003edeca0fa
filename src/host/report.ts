/** Snapshots of overlays and links for users, status pages and tables. */

import { LocalUsageError } from "../base/errors.ts";
import type { Neighbour } from "../peer/neighbour.ts";
import type { Overlay } from "../peer/overlay.ts";
import type { PeerMachine } from "../peer/peer.ts";
import { missingFrom } from "../peer/reach.ts";
import { ROLES } from "../protocol/common.ts";
import type { EngineReport, OverlayReport } from "./engine-types.ts";

/** Links and limits of an engine, all overlays together. */
export function linksReport(
  machine: PeerMachine,
): Pick<EngineReport, "links" | "upload" | "download"> {
  const { upload, download, now } = machine.context;
  const limited = (bytesPerSecond: number): number | undefined =>
    Number.isFinite(bytesPerSecond) ? bytesPerSecond : undefined;
  return {
    links: { peers: machine.links.provenPeers(), open: machine.links.size },
    upload: {
      limitBytesPerSecond: limited(upload.limitBytesPerSecond),
      rateBytesPerSecond: upload.rateBytesPerSecond(now.monoMs),
      spareBytesPerSecond: limited(upload.spareBytesPerSecond(now.monoMs)),
    },
    download: { limitBytesPerSecond: limited(download.limitBytesPerSecond) },
  };
}

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
    missing: missingFrom(window, consumer?.consumedTo ?? 0, known),
    consumedTo: consumer?.consumedTo ?? source?.produced ?? 0,
    lagMs: overlay.lagMs(),
    noNewsMs: overlay.finale.noNewsMs,
    holdLeftMs: overlay.finale.holdLeftMs,
    heldBackBy: heldBackBy === undefined ? undefined : heldBackReport(overlay, heldBackBy),
    ended: overlay.hasEnded,
    members: overlay.finale.members(),
    neighbours: overlay.neighbours.map((neighbour) => ({
      peerId: neighbour.peerId,
      role:
        neighbour.role === ROLES.source
          ? "source"
          : neighbour.role === ROLES.virtual
            ? "virtual"
            : "peer",
      readers: neighbour.role === ROLES.virtual ? neighbour.readers : 0,
      lagging: neighbour.lagging,
      bytesFrom: neighbour.bytesFrom,
      bytesTo: neighbour.bytesTo,
      queuedBytes: neighbour.link.queuedBytes,
    })),
    traffic: overlay.traffic(),
  };
}

function heldBackReport(
  overlay: Overlay,
  neighbour: Neighbour,
): NonNullable<OverlayReport["heldBackBy"]> {
  const { isFresh, silentMs } = overlay.silenceOf(neighbour);
  return {
    peerId: neighbour.peerId,
    behind: Math.max(0, overlay.window.highest - neighbour.ackedTo),
    // One that was stopped can't take back what it said before.
    byOthers: neighbour.heldBack && isFresh,
    silentMs: Math.round(silentMs),
  };
}

/**
 * What a session's handle tells of its overlay: how it stands, and after it was left, how it ended.
 * A node may leave in the very input in which it took END, before anybody hears of either; so the
 * overlay is held here, and not looked up.
 */
export class ReportKeeper {
  #overlay: Overlay | undefined;
  #last: OverlayReport | undefined;

  constructor(overlay: Overlay | undefined) {
    this.#overlay = overlay;
  }

  /** The session goes on in this one. */
  follow(overlay: Overlay | undefined): void {
    this.#overlay = overlay ?? this.#overlay;
  }

  /** Throws LocalUsageError CLOSED when there never was an overlay. */
  report(): OverlayReport {
    if (this.#overlay !== undefined) return overlayReport(this.#overlay);
    if (this.#last === undefined) throw new LocalUsageError("CLOSED");
    return this.#last;
  }

  /** The session is over: keeps the figures, and lets go of the rest. */
  close(): void {
    if (this.#overlay === undefined) return;
    this.#last = overlayReport(this.#overlay);
    this.#overlay = undefined;
  }
}
