/**
 * Who is a member and where: stands in for the OMS in large runs. It answers at once with random
 * members that can be dialled; it learns of a crash late, as a lease runs out.
 */

import type { Address } from "../../base/machine.ts";
import type { Rng } from "../../base/rng.ts";
import type { Member } from "../swarm.ts";

/** A crashed member stays listed for so long. */
export const LEASE_MS = 10_000;

export class Roster {
  readonly #rng: Rng;
  readonly #members: Member[] = [];
  readonly #place = new Map<Member, number>();
  readonly #addresses = new Map<Member, Address>();
  readonly #byPeerId = new Map<string, Member>();

  constructor(rng: Rng) {
    this.#rng = rng;
  }

  /** `address` undefined: nobody can dial it. */
  enter(member: Member, peerId: string, address: Address | undefined): void {
    this.#byPeerId.set(peerId, member);
    if (address === undefined) return;
    this.#place.set(member, this.#members.length);
    this.#members.push(member);
    this.#addresses.set(member, address);
  }

  remove(member: Member): void {
    const at = this.#place.get(member);
    const last = this.#members.pop();
    if (at === undefined || last === undefined) {
      if (last !== undefined) this.#members.push(last);
      return;
    }
    this.#place.delete(member);
    if (last === member) return;
    this.#members[at] = last;
    this.#place.set(last, at);
  }

  memberOf(peerId: string): Member | undefined {
    return this.#byPeerId.get(peerId);
  }

  addressOf(member: Member): Address | undefined {
    return this.#addresses.get(member);
  }

  /** Up to `count` different members that can be dialled, not `asker`, not one of `known`. */
  suggest(asker: Member, count: number, known: ReadonlySet<Member>): Address[] {
    const found = new Set<Member>();
    const total = this.#members.length;
    for (let tries = 0; tries < 8 * count && found.size < count && total > 0; tries++) {
      const member = this.#members[this.#rng.below(total)] as Member;
      if (member !== asker && !known.has(member)) found.add(member);
    }
    return [...found].map((member) => this.#addresses.get(member) as Address);
  }
}
