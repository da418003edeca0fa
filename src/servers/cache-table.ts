/**
 * The OMS's cache servers: what each offers, which of its virtual peers are assigned to which
 * overlays, and what it is known to hold.
 *
 * Assignments are decided in memory and written behind, one write at a time per cache server; the
 * newest state goes into each write. What follows from an assignment (an order, an answer) waits
 * until the disk has it. When the store refuses, memory goes back to what the disk holds.
 *
 * Chooses places and keeps books; knows nothing of requests, links' messages or why an overlay needs
 * a virtual peer.
 */

import type { LinkId, Now } from "../base/machine.ts";
import type { OverlayId, PeerId } from "../base/units.ts";
import { ASSIGNMENTS_MAX, type Assignment } from "../protocol/r8.ts";
import { CACHE_RECORD, type CacheOffer, type CacheRecord } from "./cache-record.ts";
import type { StoreFailure, Write } from "./server-machine.ts";

export type Commit = (
  writes: readonly Write[],
  now: Now,
  then: (result: { readonly revision: number } | StoreFailure, now: Now) => void,
) => void;

export type Settled = (failure: StoreFailure | undefined, now: Now) => void;

/** One virtual peer in one overlay, as a key. */
export function placeKey({ overlayId, peerId }: Assignment): string {
  return `${overlayId}/${peerId}`;
}

export class CacheRow {
  readonly cacheServerId: PeerId;
  readonly key: string;
  offer: CacheOffer;
  /** Of the process that registered last, and when that was. */
  instance = "";
  heardMs = 0;
  /** Where it can be given orders; undefined: it is away. */
  linkId: LinkId | undefined;
  /** As decided, and as the disk has it; by place. */
  readonly assigned = new Map<string, Assignment>();
  durable = new Map<string, Assignment>();
  /** What its virtual peers are known to be in. */
  readonly holds = new Map<string, Assignment>();
  /** Orders under way, by place. */
  readonly asking = new Set<string>();
  /** Overlays that it could not serve, and when it may be asked again. */
  readonly notBeforeMs = new Map<OverlayId, number>();
  revision = 0;
  isSaving = false;
  /** Something was decided since the write under way began. */
  isBehind = false;
  readonly waiting: Settled[] = [];

  constructor(cacheServerId: PeerId, key: string, offer: CacheOffer) {
    this.cacheServerId = cacheServerId;
    this.key = key;
    this.offer = offer;
  }

  /** Overlays that its virtual peers can be in, all together. */
  get places(): number {
    return Math.min(ASSIGNMENTS_MAX, this.offer.virtualPeers.length * this.offer.overlaysPerPeer);
  }

  load(): number {
    return this.places === 0 ? 1 : this.assigned.size / this.places;
  }
}

export class CacheTable {
  readonly #rows = new Map<PeerId, CacheRow>();
  /** Virtual peer -> the cache server that offers it. */
  readonly #owners = new Map<PeerId, CacheRow>();
  readonly #byOverlay = new Map<OverlayId, Map<PeerId, CacheRow>>();
  readonly #keyPrefix: string;
  readonly #commit: Commit;
  readonly #saved: (row: CacheRow, isSaved: boolean, now: Now) => void;

  /** `saved`: the disk has what was decided for a row, or memory went back to what it has. */
  constructor(
    keyPrefix: string,
    commit: Commit,
    saved: (row: CacheRow, isSaved: boolean, now: Now) => void,
  ) {
    this.#keyPrefix = keyPrefix;
    this.#commit = commit;
    this.#saved = saved;
  }

  get size(): number {
    return this.#rows.size;
  }

  rows(): IterableIterator<CacheRow> {
    return this.#rows.values();
  }

  get(cacheServerId: PeerId): CacheRow | undefined {
    return this.#rows.get(cacheServerId);
  }

  /** Who offers this virtual peer. */
  ownerOf(peerId: PeerId): CacheRow | undefined {
    return this.#owners.get(peerId);
  }

  /** Virtual peers assigned to an overlay, with their cache servers. */
  assignedTo(overlayId: OverlayId): ReadonlyMap<PeerId, CacheRow> {
    return this.#byOverlay.get(overlayId) ?? new Map();
  }

  /** Overlays that have virtual peers assigned. */
  overlayIds(): string[] {
    return [...this.#byOverlay.keys()];
  }

  /** Takes an offer: a new row, or what is offered now in place of before. */
  offer(cacheServerId: PeerId, offer: CacheOffer): CacheRow {
    let row = this.#rows.get(cacheServerId);
    if (row === undefined) {
      row = new CacheRow(cacheServerId, this.#keyPrefix + cacheServerId, offer);
      this.#rows.set(cacheServerId, row);
    }
    for (const peerId of row.offer.virtualPeers) this.#owners.delete(peerId);
    row.offer = offer;
    for (const peerId of offer.virtualPeers) this.#owners.set(peerId, row);
    const before = [...row.assigned.values()];
    for (const assignment of before) this.unassign(row, assignment);
    for (const assignment of before) {
      if (this.fits(row, assignment.peerId)) this.assign(row, assignment);
    }
    return row;
  }

  /** Whether the virtual peer is this row's and may be in one overlay more. */
  fits(row: CacheRow, peerId: PeerId): boolean {
    if (!row.offer.virtualPeers.includes(peerId)) return false;
    return this.#overlaysOf(row, peerId) < row.offer.overlaysPerPeer;
  }

  #overlaysOf(row: CacheRow, peerId: PeerId): number {
    let count = 0;
    for (const assignment of row.assigned.values()) if (assignment.peerId === peerId) count++;
    return count;
  }

  /** The virtual peer of this row with most room for one more overlay; undefined: none has any. */
  roomFor(row: CacheRow, overlayId: OverlayId): PeerId | undefined {
    if (row.assigned.size >= row.places) return undefined;
    let best: PeerId | undefined;
    let fewest = row.offer.overlaysPerPeer;
    for (const peerId of row.offer.virtualPeers) {
      if (this.assignedTo(overlayId).has(peerId)) continue;
      const count = this.#overlaysOf(row, peerId);
      if (count >= fewest) continue;
      best = peerId;
      fewest = count;
    }
    return best;
  }

  /** In memory; save() writes it. */
  assign(row: CacheRow, assignment: Assignment): void {
    const { overlayId, peerId } = assignment;
    row.assigned.set(placeKey(assignment), assignment);
    const peers = this.#byOverlay.get(overlayId) ?? new Map<PeerId, CacheRow>();
    peers.set(peerId, row);
    this.#byOverlay.set(overlayId, peers);
  }

  /** As assign(). */
  unassign(row: CacheRow, assignment: Assignment): void {
    const { overlayId, peerId } = assignment;
    if (!row.assigned.delete(placeKey(assignment))) return;
    const peers = this.#byOverlay.get(overlayId);
    peers?.delete(peerId);
    if (peers?.size === 0) this.#byOverlay.delete(overlayId);
  }

  /** Out of memory. */
  forget(row: CacheRow): void {
    for (const assignment of [...row.assigned.values()]) this.unassign(row, assignment);
    for (const peerId of row.offer.virtualPeers) {
      if (this.#owners.get(peerId) === row) this.#owners.delete(peerId);
    }
    this.#rows.delete(row.cacheServerId);
  }

  // --------------------------------------------------------------------------------- durability

  /** Writes what was decided. `then` hears once that it is on disk, or why not. */
  save(row: CacheRow, now: Now, then?: Settled): void {
    if (then !== undefined) row.waiting.push(then);
    if (row.isSaving) {
      row.isBehind = true;
      return;
    }
    const { cacheServerId } = row;
    const decided = new Map(row.assigned);
    const record: CacheRecord = { cacheServerId, ...row.offer, assignments: [...decided.values()] };
    const write = { key: row.key, value: CACHE_RECORD.encode(record), revision: row.revision };
    const waiting = row.waiting.splice(0);
    row.isSaving = true;
    row.isBehind = false;
    this.#commit([write], now, (result, later) => {
      row.isSaving = false;
      const isSaved = "revision" in result;
      if (isSaved) {
        row.revision = result.revision;
        row.durable = decided;
      }
      for (const settled of waiting) settled(isSaved ? undefined : result, later);
      // One of them may have removed it.
      if (this.#rows.get(cacheServerId) !== row) return;
      if (row.isBehind || row.waiting.length > 0) this.save(row, later);
      this.#saved(row, isSaved, later);
    });
  }

  /** Removes the row from the disk, then from memory. */
  remove(row: CacheRow, now: Now, then: Settled): void {
    if (row.isSaving) {
      row.waiting.push((_, later) => this.remove(row, later, then));
      return;
    }
    if (row.revision === 0) {
      this.#forgetRemoved(row, now);
      then(undefined, now);
      return;
    }
    row.isSaving = true;
    const write = { key: row.key, value: undefined, revision: row.revision };
    this.#commit([write], now, (result, later) => {
      row.isSaving = false;
      const isRemoved = "revision" in result;
      if (isRemoved) this.#forgetRemoved(row, later);
      else if (row.isBehind || row.waiting.length > 0) this.save(row, later);
      then(isRemoved ? undefined : result, later);
    });
  }

  /** Who wanted something of it meanwhile asks again, and finds none. */
  #forgetRemoved(row: CacheRow, now: Now): void {
    this.forget(row);
    row.isBehind = false;
    const detail = "the cache server was just removed";
    for (const each of row.waiting.splice(0)) each({ code: "STORE_CONFLICT", detail }, now);
  }

  /** Takes what the disk holds: while loading, or after a refused write. */
  take(record: CacheRecord | undefined, cacheServerId: PeerId, revision: number): void {
    const before = this.#rows.get(cacheServerId);
    if (record === undefined) {
      if (before === undefined) return;
      for (const assignment of [...before.assigned.values()]) this.unassign(before, assignment);
      before.revision = 0;
      before.durable = new Map();
      return;
    }
    const { assignments, label, virtualPeers, overlaysPerPeer } = record;
    const row = this.offer(cacheServerId, { label, virtualPeers, overlaysPerPeer });
    row.revision = revision;
    for (const assignment of [...row.assigned.values()]) this.unassign(row, assignment);
    for (const assignment of assignments) this.assign(row, assignment);
    row.durable = new Map(row.assigned);
  }
}
