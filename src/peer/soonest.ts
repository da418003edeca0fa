/**
 * Those that may be asked in one run, and which of them would answer soonest: as requests are given
 * to it, another will.
 */

import type { Rng } from "../base/rng.ts";
import type { Supplier } from "./supplier.ts";

export class Soonest {
  readonly #rng: Rng;
  readonly #suppliers: Supplier[] = [];
  /** In how long each of them would answer one more request. */
  #expectedMs = new Float64Array(64);

  constructor(rng: Rng) {
    this.#rng = rng;
  }

  get isEmpty(): boolean {
    return this.#suppliers.length === 0;
  }

  add(supplier: Supplier): void {
    const place = this.#suppliers.push(supplier) - 1;
    if (place === this.#expectedMs.length) {
      const expectedMs = new Float64Array(2 * place);
      expectedMs.set(this.#expectedMs);
      this.#expectedMs = expectedMs;
    }
    this.asked(place);
  }

  /** Where that one is; among equals by chance. */
  find(): number {
    const expectedMs = this.#expectedMs;
    const end = this.#suppliers.length;
    let best = 0;
    let bestMs = Number.POSITIVE_INFINITY;
    let ties = 1;
    for (let place = 0; place < end; place++) {
      const ms = expectedMs[place] as number;
      if (ms > bestMs) continue;
      ties = ms < bestMs ? 1 : ties + 1;
      if (ties > 1 && this.#rng.below(ties) !== 0) continue;
      best = place;
      bestMs = ms;
    }
    return best;
  }

  at(place: number): Supplier {
    return this.#suppliers[place] as Supplier;
  }

  /** The one there was asked for something, and would answer one more request later. */
  asked(place: number): void {
    this.#expectedMs[place] = this.at(place).expectedMs();
  }

  /** The one there is not to be asked any more. */
  drop(place: number): void {
    const last = this.#suppliers.length - 1;
    for (let at = place; at < last; at++) {
      this.#suppliers[at] = this.#suppliers[at + 1] as Supplier;
      this.#expectedMs[at] = this.#expectedMs[at + 1] as number;
    }
    this.#suppliers.pop();
  }
}
