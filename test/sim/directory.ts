/**
 * Who is a member and where: plays the part of the overlay's server in runs without servers. It
 * answers at once and may name members that are gone, as a real list does. It may be gone itself for
 * a while: then nobody is named, and members know only those they are linked to.
 */

import type { Address } from "../../src/base/machine.ts";
import type { Rng } from "../../src/base/rng.ts";
import type { Member } from "../../src/sim/swarm.ts";

export class Directory {
  readonly #rng: Rng;
  readonly #entries = new Map<Member, Address>();
  /** When it was gone last, or will be back. */
  goneUntilMs = Number.NEGATIVE_INFINITY;

  constructor(rng: Rng) {
    this.#rng = rng;
  }

  /** Its process is gone until then; members it knew it knows again after that. */
  crash(untilMs: number): void {
    this.goneUntilMs = Math.max(this.goneUntilMs, untilMs);
  }

  enter(member: Member, address: Address): void {
    this.#entries.set(member, address);
  }

  addressOf(member: Member): Address | undefined {
    return this.#entries.get(member);
  }

  /**
   * Up to `count` members in random order, not `asker`, not `known`, not those that left; if fragment
   * `holding` is asked for, those who hold it come first.
   */
  suggest(
    asker: Member,
    count: number,
    known: readonly Member[] = [],
    holding: number | undefined = undefined,
  ): Address[] {
    const others = [...this.#entries].filter(
      ([member]) => member !== asker && !member.excuses.has("left") && !known.includes(member),
    );
    for (let i = others.length - 1; i > 0; i--) {
      const j = this.#rng.below(i + 1);
      const swapped = others[i] as [Member, Address];
      others[i] = others[j] as [Member, Address];
      others[j] = swapped;
    }
    if (holding !== undefined) {
      const lacks = (member: Member) => Number(member.driver.inspect()?.held(holding) !== true);
      others.sort(([a], [b]) => lacks(a) - lacks(b));
    }
    return others.slice(0, count).map(([, address]) => address);
  }
}
