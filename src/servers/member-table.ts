/**
 * The members of one overlay: soft state of the OMS. Random lists in time proportional to the list,
 * not to the overlay.
 */

import type { Rng } from "../base/rng.ts";
import { REACH, type Reach, ROLES, type Role } from "../protocol/common.ts";
import type { Member } from "../protocol/r5.ts";
import type { Reachability } from "./reachability.ts";

export interface MemberRow {
  readonly peerId: string;
  role: Role;
  reachability: Reachability;
  /** SHA-256 of its token. */
  tokenHash: Uint8Array;
  /** Fragments it said it holds without hole: [heldStart, heldEnd). */
  heldStart: number;
  heldEnd: number;
  /** Its place in the table's order. */
  place: number;
}

export interface ListWish {
  readonly sourceId: string;
  readonly maxPeers: number;
  /** The asker and whom it has already. */
  readonly without: ReadonlySet<string>;
  /** Prefer members that hold this index. */
  readonly holding: number | undefined;
  /** Members known to hold it; without `holding`, known to be good neighbours. */
  readonly preferred: readonly string[];
  /** Where the OMS sees the asker. */
  readonly askerHost: string;
  /** Whether the asker can be dialled. */
  readonly askerReach: Reach;
  /** Encoded size the list may have. */
  readonly roomBytes: number;
}

/** More encoded bytes than a member can have beside the hosts of its candidates. */
const MEMBER_BYTES = 50;
const CANDIDATE_BYTES = 18;
/** Members looked at for one list, so that no asker makes it cost the whole overlay. */
const VISITS_MAX = 1_000;

export class MemberTable {
  readonly #rows = new Map<string, MemberRow>();
  readonly #order: MemberRow[] = [];

  get size(): number {
    return this.#rows.size;
  }

  get(peerId: string): MemberRow | undefined {
    return this.#rows.get(peerId);
  }

  keys(): IterableIterator<string> {
    return this.#rows.keys();
  }

  /** Members of this reach. */
  reaching(reach: Reach): number {
    let count = 0;
    for (const row of this.#order) if (row.reachability.reach === reach) count++;
    return count;
  }

  /** Whether members can not be dialled, and nobody but virtual peers is there for them to dial. */
  isStranded(): boolean {
    let waits = false;
    for (const { role, reachability } of this.#order) {
      if (reachability.reach === REACH.inbound && role !== ROLES.virtual) return false;
      if (reachability.reach === REACH.outboundOnly && role === ROLES.peer) waits = true;
    }
    return waits;
  }

  /** Adds a member or replaces what is known of it. */
  put(row: Omit<MemberRow, "place">): void {
    const before = this.#rows.get(row.peerId);
    if (before !== undefined) {
      Object.assign(before, row);
      return;
    }
    const added = { ...row, place: this.#order.length };
    this.#order.push(added);
    this.#rows.set(row.peerId, added);
  }

  delete(peerId: string): boolean {
    const row = this.#rows.get(peerId);
    if (row === undefined) return false;
    this.#rows.delete(peerId);
    const last = this.#order.pop();
    if (last !== undefined && last !== row) {
      this.#order[row.place] = last;
      last.place = row.place;
    }
    return true;
  }

  /**
   * A list for one asker: the source peer; of those that hold what is asked for as many as fit, or
   * else of good neighbours up to half; then others by lot, so that the overlay stays one random
   * graph and not one of favourites. Who can not be dialled comes only where room is left. Handed
   * out in random order, so that not everybody dials the same one first.
   *
   * An asker that can not be dialled itself gets none that can't either, and never more members of
   * unknown reach than ones that were found reachable, if there are any of those.
   */
  list(wish: ListWish, rng: Rng): Member[] {
    const picker = new Picker(wish);
    const { holding, maxPeers } = wish;
    const source = this.#rows.get(wish.sourceId);
    if (source !== undefined) picker.take(source, { always: true });
    if (holding !== undefined) {
      this.#visit(rng, (row) => {
        if (row.heldStart <= holding && holding < row.heldEnd) picker.take(row);
        return picker.count < maxPeers;
      });
    }
    const preferredMax = holding === undefined ? Math.ceil(maxPeers / 2) : maxPeers;
    for (const peerId of drawn(wish.preferred, rng)) {
      if (picker.count >= preferredMax) break;
      const row = this.#rows.get(peerId);
      if (row !== undefined) picker.take(row);
    }
    if (wish.askerReach === REACH.outboundOnly) {
      this.#visit(rng, (row) => {
        if (row.reachability.reach === REACH.inbound) picker.take(row);
        return picker.count < maxPeers && picker.inbound < Math.ceil(maxPeers / 2);
      });
    }
    for (const always of [false, true]) {
      this.#visit(rng, (row) => {
        picker.take(row, { always });
        return picker.count < maxPeers;
      });
    }
    return drawn(picker.members, rng);
  }

  /**
   * Visits members in random order until `visit` says no, at most VISITS_MAX. Draws with a table of
   * swaps, so that a short visit costs as much as its length.
   */
  #visit(rng: Rng, visit: (row: MemberRow) => boolean): void {
    const swapped = new Map<number, number>();
    const last = Math.max(0, this.#order.length - VISITS_MAX);
    for (let left = this.#order.length; left > last; left--) {
      const draw = rng.below(left);
      const place = swapped.get(draw) ?? draw;
      swapped.set(draw, swapped.get(left - 1) ?? left - 1);
      if (!visit(this.#order[place] as MemberRow)) return;
    }
  }
}

/** Fills one list, within its number, its size and what its asker can use. */
class Picker {
  readonly #wish: ListWish;
  readonly #picked = new Map<string, Member>();
  #room: number;
  /** Members in the list that were found reachable. */
  inbound = 0;

  constructor(wish: ListWish) {
    this.#wish = wish;
    this.#room = wish.roomBytes;
  }

  get count(): number {
    return this.#picked.size;
  }

  get members(): readonly Member[] {
    return [...this.#picked.values()];
  }

  /** `always`: also a member that the asker can not dial, or whose reach is not known. */
  take(row: MemberRow, { always = false } = {}): void {
    const { maxPeers, without, askerHost, askerReach } = this.#wish;
    if (this.count >= maxPeers || this.#picked.has(row.peerId) || without.has(row.peerId)) return;
    const candidates = row.reachability.toldTo(askerHost);
    const { reach } = row.reachability;
    const isInbound = reach === REACH.inbound && candidates.length > 0;
    if (askerReach === REACH.outboundOnly && !isInbound) {
      if (candidates.length === 0 || reach === REACH.outboundOnly) return;
      if (this.inbound > 0 && this.count - this.inbound >= this.inbound) return;
    } else if (!always && candidates.length === 0) return;
    const bytes = candidates.reduce(
      (sum, { host }) => sum + CANDIDATE_BYTES + 3 * host.length,
      MEMBER_BYTES,
    );
    if (bytes > this.#room) return;
    this.#room -= bytes;
    if (isInbound) this.inbound++;
    this.#picked.set(row.peerId, { peerId: row.peerId, role: row.role, candidates, reach });
  }
}

/** In random order. */
function drawn<T>(items: readonly T[], rng: Rng): T[] {
  const all = [...items];
  for (let i = all.length - 1; i > 0; i--) {
    const j = rng.below(i + 1);
    const a = all[i] as T;
    all[i] = all[j] as T;
    all[j] = a;
  }
  return all;
}
