/**
 * R8.a: which virtual peers are assigned to which overlays.
 *
 * What an overlay needs: as many as its source peer asked for (P1.3), and one at least while others
 * can dial nobody in it. It is looked at whenever its members, its source peer's wish or the cache
 * servers change, once a second at most. Virtual peers are spread over cache servers, then given by
 * those with most room. Where there is no room, an overlay of higher priority takes the place of the
 * one with the lowest (R8.c). A cache server that could not serve an overlay is left alone with it
 * for a while.
 */

import type { Now } from "../base/machine.ts";
import type { OverlayId } from "../base/units.ts";
import type { Assignment } from "../protocol/r8.ts";
import type { CacheRow, CacheTable } from "./cache-table.ts";
import type { OverlayRow } from "./overlay-table.ts";

const PASS_MS = 1_000;
/** A cache server that could not serve an overlay is asked again after this. */
const REFUSED_MS = 30_000;
/** What is needed no more, though nobody said so, is kept for this long. */
const SURPLUS_MS = 30_000;

export interface NeedsHost {
  readonly table: CacheTable;
  /** Virtual peers of one overlay at most. */
  readonly perOverlayMax: number;
  /** The overlay, if it stands. */
  overlay(overlayId: OverlayId): OverlayRow | undefined;
  priorityOf(row: OverlayRow): number;
  /** In memory so far; save() follows. */
  changed(row: CacheRow, assignment: Assignment, state: "assigned" | "released"): void;
}

export class CacheNeeds {
  readonly #host: NeedsHost;
  /** Overlays to be looked at. */
  readonly #due = new Set<OverlayId>();
  /** Overlays that need more than there was room for. */
  readonly #unmet = new Set<OverlayId>();
  /** Overlays of which a virtual peer has all to the end: nobody is sent into them any more. */
  readonly #over = new Set<OverlayId>();
  readonly #surplusSinceMs = new Map<OverlayId, number>();
  #passMs = 0;

  constructor(host: NeedsHost) {
    this.#host = host;
  }

  /** It is to be looked at soon. */
  note(overlayId: OverlayId): void {
    this.#due.add(overlayId);
  }

  /** They are all to be looked at soon: what cache servers offer, or have, is not as it was. */
  noteAll(overlayIds: Iterable<OverlayId>): void {
    for (const overlayId of overlayIds) this.#due.add(overlayId);
  }

  /** A cache server has room again. */
  roomCame(): void {
    for (const overlayId of this.#unmet) this.#due.add(overlayId);
  }

  /** The source peer said what it wants: it is looked at now, and nothing is kept for a while. */
  wished(overlayId: OverlayId, now: Now): void {
    this.#over.delete(overlayId);
    this.#look(overlayId, now, true);
  }

  /** The session ended for a virtual peer as sessions do. */
  isOver(overlayId: OverlayId): void {
    this.#over.add(overlayId);
  }

  /** Those that are in it give to their neighbours what these lack; nobody else comes. */
  isEnding(overlayId: OverlayId): boolean {
    return this.#over.has(overlayId) && this.#host.overlay(overlayId) !== undefined;
  }

  /** The source peer starts over: there is a stream again. */
  startedOver(overlayId: OverlayId): void {
    this.#over.delete(overlayId);
    this.#due.add(overlayId);
  }

  /** The cache server could not serve it. */
  refused(row: CacheRow, overlayId: OverlayId, now: Now): void {
    if (this.#host.overlay(overlayId) === undefined) return;
    row.notBeforeMs.set(overlayId, now.monoMs + REFUSED_MS);
    this.#due.add(overlayId);
  }

  /** The overlay stands no more. */
  forget(overlayId: OverlayId): void {
    this.#due.delete(overlayId);
    this.#unmet.delete(overlayId);
    this.#over.delete(overlayId);
    this.#surplusSinceMs.delete(overlayId);
    for (const row of this.#host.table.rows()) row.notBeforeMs.delete(overlayId);
  }

  onTime(now: Now): void {
    if (this.#due.size === 0 || now.monoMs < this.#passMs) return;
    this.#passMs = now.monoMs + PASS_MS;
    const due = [...this.#due];
    this.#due.clear();
    for (const overlayId of due) this.#look(overlayId, now, false);
  }

  earliestMs(): number {
    return this.#due.size === 0 ? Number.POSITIVE_INFINITY : this.#passMs;
  }

  /** How many virtual peers the overlay needs now. */
  of(overlayId: OverlayId): number {
    const overlay = this.#host.overlay(overlayId);
    if (overlay === undefined) return 0;
    // Those that are there still give to their neighbours what these lack.
    if (this.#over.has(overlayId)) return this.#host.table.assignedTo(overlayId).size;
    const asked = Math.min(overlay.record.virtualPeers, this.#host.perOverlayMax);
    return Math.max(asked, overlay.members.isStranded() ? 1 : 0);
  }

  /** Assigns what an overlay lacks, and releases what it needs no more. */
  #look(overlayId: OverlayId, now: Now, isSaid: boolean): void {
    const { table } = this.#host;
    const need = this.of(overlayId);
    const surplus = table.assignedTo(overlayId).size - need;
    this.#unmet.delete(overlayId);
    if (surplus > 0) this.#release(overlayId, surplus, now, isSaid);
    else this.#surplusSinceMs.delete(overlayId);
    const overlay = this.#host.overlay(overlayId);
    while (overlay !== undefined && table.assignedTo(overlayId).size < need) {
      if (this.#assignOne(overlay, now)) continue;
      this.#unmet.add(overlayId);
      return;
    }
  }

  /** False: there is no room. */
  #assignOne(overlay: OverlayRow, now: Now): boolean {
    const { table } = this.#host;
    const { overlayId } = overlay.record;
    const isAble = ({ linkId, notBeforeMs }: CacheRow) =>
      linkId !== undefined && (notBeforeMs.get(overlayId) ?? 0) <= now.monoMs;
    const able = [...table.rows()].filter(isAble);
    const shares = new Map<CacheRow, number>();
    for (const row of table.assignedTo(overlayId).values()) {
      shares.set(row, (shares.get(row) ?? 0) + 1);
    }
    const share = (row: CacheRow) => shares.get(row) ?? 0;
    able.sort((a, b) => share(a) - share(b) || a.load() - b.load() || byId(a, b));
    for (const row of able) {
      const peerId = table.roomFor(row, overlayId);
      if (peerId === undefined) continue;
      this.#assign(row, { overlayId, peerId });
      return true;
    }
    return this.#takePlace(able, overlayId, this.#host.priorityOf(overlay));
  }

  /** R8.c: the overlay with the lowest priority gives way to one with a higher. */
  #takePlace(able: readonly CacheRow[], overlayId: OverlayId, priority: number): boolean {
    const { table } = this.#host;
    let lowest = priority;
    let from: { row: CacheRow; assignment: Assignment } | undefined;
    for (const row of able) {
      for (const assignment of row.assigned.values()) {
        const holder = this.#host.overlay(assignment.overlayId);
        const other = holder === undefined ? 0 : this.#host.priorityOf(holder);
        if (other >= lowest || table.assignedTo(overlayId).has(assignment.peerId)) continue;
        lowest = other;
        from = { row, assignment };
      }
    }
    if (from === undefined) return false;
    const { row, assignment } = from;
    this.#unassign(row, assignment);
    this.#due.add(assignment.overlayId);
    this.#assign(row, { overlayId, peerId: assignment.peerId });
    return true;
  }

  /** What nobody gave back goes only after a while. */
  #release(overlayId: OverlayId, surplus: number, now: Now, isSaid: boolean): void {
    const { table } = this.#host;
    const sinceMs = this.#surplusSinceMs.get(overlayId) ?? now.monoMs;
    if (!isSaid && now.monoMs - sinceMs < SURPLUS_MS) {
      this.#surplusSinceMs.set(overlayId, sinceMs);
      this.#due.add(overlayId);
      return;
    }
    this.#surplusSinceMs.delete(overlayId);
    // Of cache servers that are away first, then of those with least room.
    const all = [...table.assignedTo(overlayId)];
    const away = (row: CacheRow) => (row.linkId === undefined ? 1 : 0);
    all.sort(([, a], [, b]) => away(b) - away(a) || b.load() - a.load());
    for (const [peerId, row] of all.slice(0, surplus)) this.#unassign(row, { overlayId, peerId });
    this.roomCame();
  }

  #assign(row: CacheRow, assignment: Assignment): void {
    this.#host.table.assign(row, assignment);
    this.#host.changed(row, assignment, "assigned");
  }

  #unassign(row: CacheRow, assignment: Assignment): void {
    this.#host.table.unassign(row, assignment);
    this.#host.changed(row, assignment, "released");
  }
}

function byId(a: CacheRow, b: CacheRow): number {
  return a.cacheServerId < b.cacheServerId ? -1 : 1;
}
