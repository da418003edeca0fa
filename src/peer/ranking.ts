/**
 * Suppliers by when they would answer one more request, kept in classes of about equal times: an
 * eighth of an octave each, that is 6 to 12 %. Who is to be asked is one of the soonest class; which
 * of them is left to chance, so that peers that know the same do not all ask the same.
 *
 * A request or an answer moves one supplier to another class, if at all, and the search goes by the
 * classes that are not empty: neither costs more among more suppliers.
 */

import { assert } from "../base/assert.ts";
import type { Rng } from "../base/rng.ts";

/** Of the first class, and all that are shorter. */
const SHORTEST_MS = 1 / 8;
const OCTAVES = 20;
const CLASSES_PER_OCTAVE = 8;
const CLASSES = OCTAVES * CLASSES_PER_OCTAVE;

/** Where one supplier is; the Ranking alone changes it. */
export interface Rank {
  /** -1: it is not ranked. */
  timeClass: number;
  place: number;
}

export interface Ranked {
  readonly rank: Rank;
  /** In how long it would answer one more request. */
  expectedMs(): number;
}

export class Ranking<T extends Ranked> {
  readonly #rng: Rng;
  readonly #classes: T[][] = Array.from({ length: CLASSES }, () => []);
  /** Bit c: class c is not empty. */
  readonly #filled = new Uint32Array(CLASSES / 32);

  constructor(rng: Rng) {
    this.#rng = rng;
  }

  /** It is one of them from now on, or still is, as it is now. */
  put(supplier: T): void {
    const { rank } = supplier;
    const timeClass = classOf(supplier.expectedMs());
    if (rank.timeClass === timeClass) return;
    this.remove(supplier);
    rank.timeClass = timeClass;
    rank.place = this.#suppliersOf(timeClass).push(supplier) - 1;
    this.#mark(timeClass, true);
  }

  remove(supplier: T): void {
    const { rank } = supplier;
    if (rank.timeClass < 0) return;
    const suppliers = this.#suppliersOf(rank.timeClass);
    const last = suppliers.pop() as T;
    if (last !== supplier) {
      suppliers[rank.place] = last;
      last.rank.place = rank.place;
    } else if (suppliers.length === 0) this.#mark(rank.timeClass, false);
    rank.timeClass = -1;
  }

  /** One that `isFit`, of the soonest class that has any, from a place by chance on; else undefined. */
  soonest(isFit: (supplier: T) => boolean = () => true): T | undefined {
    for (let word = 0; word < this.#filled.length; word++) {
      let filled = this.#filled[word] as number;
      for (; filled !== 0; filled &= filled - 1) {
        const suppliers = this.#suppliersOf(32 * word + 31 - Math.clz32(filled & -filled));
        const { length } = suppliers;
        const first = length === 1 ? 0 : this.#rng.below(length);
        for (let n = 0; n < length; n++) {
          const at = first + n;
          const supplier = suppliers[at < length ? at : at - length] as T;
          if (isFit(supplier)) return supplier;
        }
      }
    }
    return undefined;
  }

  /** Throws AssertionError; only some of `all` are ranked, and nobody else. */
  checkInvariants(all: readonly T[]): void {
    for (const [timeClass, suppliers] of this.#classes.entries()) {
      const filled = this.#filled[timeClass >>> 5] as number;
      assert(((filled >>> (timeClass & 31)) & 1) === Math.min(1, suppliers.length), "not empty");
      for (const [place, supplier] of suppliers.entries()) {
        const { rank } = supplier;
        assert(all.includes(supplier), "who is ranked is there");
        assert(rank.timeClass === timeClass && rank.place === place, "who is ranked knows where");
        assert(classOf(supplier.expectedMs()) === timeClass, "ranked as it is now");
      }
    }
  }

  #suppliersOf(timeClass: number): T[] {
    return this.#classes[timeClass] as T[];
  }

  #mark(timeClass: number, isFilled: boolean): void {
    const word = timeClass >>> 5;
    const bit = 1 << (timeClass & 31);
    const filled = this.#filled[word] as number;
    this.#filled[word] = isFilled ? filled | bit : filled & ~bit;
  }
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The first bits of a number behind its exponent tell an eighth of an octave. */
function classOf(expectedMs: number): number {
  float[0] = expectedMs / SHORTEST_MS;
  const eighths = ((bits[0] as number) >>> 20) - (127 << 3);
  return Math.max(0, Math.min(CLASSES - 1, eighths));
}
