/** Fragment indices that something is true of, and stays: ranges that grow together. */

import type { FragmentIndex } from "../base/units.ts";

/** Ranges kept, the lowest of them. */
const RANGES_MAX = 64;

export class IndexRanges {
  /** Pairs (first, end), ascending; none touch. */
  readonly #pairs: FragmentIndex[] = [];

  /** Adds [first, end). */
  add(first: FragmentIndex, end: FragmentIndex): void {
    if (first >= end) return;
    const pairs = this.#pairs;
    let low = first;
    let high = end;
    let from = 0;
    while (from < pairs.length && (pairs[from + 1] as FragmentIndex) < low) from += 2;
    let to = from;
    for (; to < pairs.length && (pairs[to] as FragmentIndex) <= high; to += 2) {
      low = Math.min(low, pairs[to] as FragmentIndex);
      high = Math.max(high, pairs[to + 1] as FragmentIndex);
    }
    pairs.splice(from, to - from, low, high);
    if (pairs.length > 2 * RANGES_MAX) pairs.length = 2 * RANGES_MAX;
  }

  /** The lowest index that was not added. */
  get to(): FragmentIndex {
    return this.#pairs[0] === 0 ? (this.#pairs[1] as FragmentIndex) : 0;
  }
}
