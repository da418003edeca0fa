/**
 * When this node first learned how far the stream reaches: samples of "all below this index exist",
 * by its own monotonic clock. An index counts as known from when it, or a higher one, was heard of;
 * a creation time never comes into it.
 *
 * What was learned later never has an earlier time. So the lowest hole is always the first to be
 * late, and one bound tells of any number of holes which are: they do not wait for each other.
 *
 * O(1) a sample, O(log SAMPLES) a question, whatever the number of fragments.
 */

import type { FragmentIndex, MonoMs } from "../base/units.ts";

const SAMPLES = 256;
/** Finer than a tick is of no use to anybody. */
const SPACING_MS_MIN = 25;

export class KnownTimes {
  readonly #spacingMs: number;
  readonly #ms = new Float64Array(SAMPLES);
  readonly #index = new Float64Array(SAMPLES);
  /** Samples ever taken: sample n lies at n modulo SAMPLES. */
  #count = 0;

  /** `spanMs`: the longest age that is asked for. What is told is late by spanMs / 254 at most. */
  constructor(spanMs: number) {
    this.#spacingMs = Math.max(SPACING_MS_MIN, spanMs / (SAMPLES - 2));
  }

  /** One past the highest index that was known at the last sample. */
  get highest(): FragmentIndex {
    return this.#count === 0 ? 0 : this.#indexAt(this.#count - 1);
  }

  /** When an index was learned of last; -Infinity when none was. */
  get latestMs(): MonoMs {
    return this.#count === 0 ? Number.NEGATIVE_INFINITY : this.#msAt(this.#count - 1);
  }

  /**
   * All below `known` exist, as this node knows at `nowMs`. Called at every tick: what came too soon
   * after the last sample is taken with the next, so nothing counts as older than it is.
   */
  sample(known: FragmentIndex, nowMs: MonoMs): void {
    if (known <= this.highest) return;
    if (this.#count > 0 && nowMs - this.#msAt(this.#count - 1) < this.#spacingMs) return;
    this.#ms[this.#count % SAMPLES] = nowMs;
    this.#index[this.#count % SAMPLES] = known;
    this.#count++;
  }

  /** All below this was known `ageMs` before `nowMs` already; 0 when nothing was, or none is left. */
  knownBefore(ageMs: number, nowMs: MonoMs): FragmentIndex {
    const boundMs = nowMs - ageMs;
    const at = this.#first((n) => this.#msAt(n) > boundMs) - 1;
    return at < this.#oldest ? 0 : this.#indexAt(at);
  }

  /**
   * Live: all below has been known for `windowMs`, and leaves the window. Never the newest index, nor
   * END: a consumer that comes back late must find it.
   */
  expiredTo(windowMs: number, nowMs: MonoMs, endIndex: FragmentIndex | undefined): FragmentIndex {
    const old = this.knownBefore(windowMs, nowMs);
    return Math.min(old, this.highest - 1, endIndex ?? Number.POSITIVE_INFINITY);
  }

  /** How long fragment `index` has been known to exist, as far as samples reach; 0: not at all. */
  ageMs(index: FragmentIndex, nowMs: MonoMs): number {
    const at = this.#first((n) => this.#indexAt(n) > index);
    return at >= this.#count ? 0 : Math.max(0, nowMs - this.#msAt(at));
  }

  /** Time between two fragments, over the last `overMs`; Infinity when none came to be known. */
  intervalMs(overMs: number, nowMs: MonoMs): number {
    if (this.#count === 0) return Number.POSITIVE_INFINITY;
    const since = this.#first((n) => this.#msAt(n) > nowMs - overMs) - 1;
    const at = Math.max(since, this.#oldest);
    const fragments = this.highest - this.#indexAt(at);
    return fragments <= 0 ? Number.POSITIVE_INFINITY : (nowMs - this.#msAt(at)) / fragments;
  }

  get #oldest(): number {
    return Math.max(0, this.#count - SAMPLES);
  }

  /** The first sample for which `holds`, which holds for all after it; their number if none. */
  #first(holds: (n: number) => boolean): number {
    let low = this.#oldest;
    let high = this.#count;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (holds(middle)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #msAt(n: number): MonoMs {
    return this.#ms[n % SAMPLES] as number;
  }
  #indexAt(n: number): FragmentIndex {
    return this.#index[n % SAMPLES] as number;
  }
}
