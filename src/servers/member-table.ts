/**
 * The members of one overlay: soft state of the OMS. Random lists in time proportional to the list,
 * not to the overlay.
 */

import type { Address } from "../base/machine.ts";
import type { Rng } from "../base/rng.ts";
import type { Role } from "../protocol/common.ts";
import type { Member } from "../protocol/r5.ts";

export interface MemberRow {
  readonly peerId: string;
  role: Role;
  candidates: readonly Address[];
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
  /** Encoded size the list may have. */
  readonly roomBytes: number;
}

/** More encoded bytes than a member can have beside the hosts of its candidates. */
const MEMBER_BYTES = 48;
const CANDIDATE_BYTES = 16;
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
   * A list for one asker: the source peer, then those that hold what is asked for, then others, all
   * drawn at random; handed out in random order, so that not everybody dials the same one first.
   */
  list(wish: ListWish, rng: Rng): Member[] {
    const picked = new Map<string, Member>();
    let room = wish.roomBytes;
    const take = (row: MemberRow): void => {
      if (picked.size >= wish.maxPeers || picked.has(row.peerId)) return;
      if (wish.without.has(row.peerId)) return;
      const bytes = row.candidates.reduce(
        (sum, { host }) => sum + CANDIDATE_BYTES + 3 * host.length,
        MEMBER_BYTES,
      );
      if (bytes > room) return;
      room -= bytes;
      picked.set(row.peerId, { peerId: row.peerId, role: row.role, candidates: row.candidates });
    };
    const source = this.#rows.get(wish.sourceId);
    if (source !== undefined) take(source);
    const { holding } = wish;
    if (holding !== undefined) {
      this.#visit(rng, (row) => {
        if (row.heldStart <= holding && holding < row.heldEnd) take(row);
        return picked.size < wish.maxPeers;
      });
    }
    this.#visit(rng, (row) => {
      take(row);
      return picked.size < wish.maxPeers;
    });
    const members = [...picked.values()];
    for (let i = members.length - 1; i > 0; i--) {
      const j = rng.below(i + 1);
      const a = members[i] as Member;
      members[i] = members[j] as Member;
      members[j] = a;
    }
    return members;
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
