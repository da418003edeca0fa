/**
 * What a PAMS knows of one overlay: its registered peers with the latest report of each, and lists
 * of them by activity, order and conditions (R1.d).
 *
 * All soft, and advice only. A report costs one map look-up; a list costs a look at every peer of
 * the overlay, which is why only servers may ask for one.
 */

import type { LinkId } from "../base/machine.ts";
import type { Rng } from "../base/rng.ts";
import type { Role } from "../protocol/common.ts";
import {
  ACTIVITIES,
  type ActivePeer,
  type Activity,
  PEER_ORDERS,
  type PeerListRequest,
  type PeerOrder,
  SPARE_UNLIMITED,
} from "../protocol/r1.ts";
import { type PeerStatus, REPORT_CAUSES, REPORT_EVENTS } from "../protocol/r2.ts";

/** A report is overdue after so many intervals: what it said is not counted on any more. */
const INTERVALS_TO_OVERDUE = 1.5;

export interface ActivePeerRow {
  readonly peerId: string;
  role: Role;
  /** SHA-256 of its token. */
  tokenHash: Uint8Array;
  status: PeerStatus | undefined;
  /** What its events said last; interval reports do not change it. */
  completed: boolean;
  lagging: boolean;
  heardMs: number;
  /** Where it spoke last; asked there. */
  linkId: LinkId;
}

export class ActivityTable {
  readonly overlayId: string;
  omsUrl: string;
  readonly peers = new Map<string, ActivePeerRow>();
  readonly #reportIntervalMs: number;

  constructor(overlayId: string, omsUrl: string, reportIntervalMs: number) {
    this.overlayId = overlayId;
    this.omsUrl = omsUrl;
    this.#reportIntervalMs = reportIntervalMs;
  }

  /** Takes a report of a registered peer: the latest wins. */
  report(row: ActivePeerRow, status: PeerStatus): void {
    row.status = status;
    const { event, cause } = status;
    if (event === REPORT_EVENTS.started) {
      row.completed = false;
      row.lagging = false;
    }
    if (event === REPORT_EVENTS.completed) row.completed = true;
    if (event === REPORT_EVENTS.lagging) row.lagging = true;
    if (cause === REPORT_CAUSES.recovered) row.lagging = false;
  }

  activityOf(row: ActivePeerRow, nowMs: number): Activity {
    if (row.status === undefined) return ACTIVITIES.any;
    if (row.completed) return ACTIVITIES.completed;
    const overdue = nowMs - row.heardMs > INTERVALS_TO_OVERDUE * this.#reportIntervalMs;
    return row.lagging || overdue ? ACTIVITIES.lagging : ACTIVITIES.active;
  }

  /** R1.d. */
  list(
    wish: PeerListRequest,
    rng: Rng,
    nowMs: number,
  ): { peers: ActivePeer[]; matching: number; registered: number } {
    const without = new Set(wish.exclude);
    const found: { readonly row: ActivePeerRow; readonly keys: readonly number[] }[] = [];
    for (const row of this.peers.values()) {
      if (without.has(row.peerId) || !this.#matches(row, wish, nowMs)) continue;
      found.push({ row, keys: [...keysOf(row, wish.order), rng.next()] });
    }
    found.sort((a, b) => compareKeys(a.keys, b.keys));
    return {
      peers: found.slice(0, wish.maxPeers).map(({ row }) => this.told(row, nowMs)),
      matching: found.length,
      registered: this.peers.size,
    };
  }

  #matches(row: ActivePeerRow, wish: PeerListRequest, nowMs: number): boolean {
    if (wish.activity !== ACTIVITIES.any && this.activityOf(row, nowMs) !== wish.activity) {
      return false;
    }
    const { holding, maxLagMs, minSpareBytesPerSecond } = wish;
    const { status } = row;
    if (holding === undefined && maxLagMs === undefined && minSpareBytesPerSecond === undefined) {
      return true;
    }
    if (status === undefined) return false;
    const holds = (index: number): boolean => status.start <= index && index < status.haveEnd;
    return (
      (holding === undefined || holds(holding)) &&
      (maxLagMs === undefined || status.lagMs <= maxLagMs) &&
      (minSpareBytesPerSecond === undefined || spareOf(status) >= minSpareBytesPerSecond)
    );
  }

  /** One peer as an OMS is told of it. */
  told(row: ActivePeerRow, nowMs: number): ActivePeer {
    const { status } = row;
    return {
      peerId: row.peerId,
      role: row.role,
      activity: this.activityOf(row, nowMs),
      silentMs: silentMs(row, nowMs),
      heldStart: status?.start ?? 0,
      heldEnd: status?.haveEnd ?? 0,
      missing: status?.missing ?? 0,
      lagMs: status?.lagMs ?? 0,
      contributionPermille: status === undefined ? 0 : contributionPermille(status),
      rateBytesPerSecond: status?.rateBytesPerSecond ?? 0,
      uploadBytesPerSecond: status?.uploadBytesPerSecond ?? 0,
      spareBytesPerSecond: status === undefined ? 0 : spareOf(status),
      links: status?.links ?? 0,
    };
  }
}

export function silentMs(row: ActivePeerRow, nowMs: number): number {
  return Math.max(0, Math.floor(nowMs - row.heardMs));
}

/** P0.3: bytes given for 1,000 taken; a peer that took nothing is measured by one byte. */
export function contributionPermille(status: PeerStatus): number {
  const taken = Math.max(1, status.bytesFromSource + status.bytesFromPeers);
  return Math.min(0xffff_ffff, Math.floor((1_000 * status.bytesToPeers) / taken));
}

/** Upload that a peer could give beyond what it gives. */
export function spareOf(status: PeerStatus): number {
  const { uploadLimitBytesPerSecond: limit, uploadBytesPerSecond: used } = status;
  return limit === 0 ? SPARE_UNLIMITED : Math.max(0, limit - used);
}

/** Smallest first; who has not reported comes last. */
function keysOf({ status }: ActivePeerRow, order: PeerOrder): readonly number[] {
  const silent = Number.POSITIVE_INFINITY;
  switch (order) {
    case PEER_ORDERS.lag:
      return [status?.lagMs ?? silent];
    case PEER_ORDERS.spare:
      return status === undefined ? [silent] : [-spareOf(status), status.uploadBytesPerSecond];
    case PEER_ORDERS.contribution:
      return [status === undefined ? silent : -contributionPermille(status)];
    case PEER_ORDERS.held:
      return [status === undefined ? silent : -status.fragmentsHeld];
    case PEER_ORDERS.random:
      return [];
  }
}

function compareKeys(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const [x, y] = [a[i] as number, b[i] as number];
    if (x !== y) return x < y ? -1 : 1;
  }
  return 0;
}
