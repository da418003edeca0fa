/**
 * When this node first knew that the stream reaches so far, by its own monotonic clock: samples of
 * (time, one past the highest index known), a fixed number of them. What was known at a sample was
 * learned in the SAMPLE_MS before it. Never compares a creation time with a local clock.
 */

import type { FragmentIndex, MonoMs } from "../base/units.ts";

const SAMPLE_MS = 50;

export class KnownTimes {
  readonly #ms: Float64Array;
  readonly #known: Float64Array;
  /** Samples taken so far. */
  #count = 0;
  #lastMs: MonoMs = Number.NEGATIVE_INFINITY;

  /** Looks back as far as `spanMs` at least. */
  constructor(spanMs: number) {
    const samples = Math.ceil(spanMs / SAMPLE_MS) + 2;
    this.#ms = new Float64Array(samples);
    this.#known = new Float64Array(samples);
  }

  /** Notes that everything below `known` is known to exist at `nowMs`. */
  sample(known: FragmentIndex, nowMs: MonoMs): void {
    if (nowMs - this.#lastMs < SAMPLE_MS) return;
    this.#lastMs = nowMs;
    const at = this.#count % this.#ms.length;
    const before = this.#count === 0 ? 0 : this.#at(this.#count - 1, this.#known);
    this.#ms[at] = nowMs;
    this.#known[at] = Math.max(known, before);
    this.#count++;
  }

  /** Everything below this was known at `ms`; 0 when nothing was, or it is too long ago. */
  knownAt(ms: MonoMs): FragmentIndex {
    const sample = this.#first((at) => this.#at(at, this.#ms) > ms) - 1;
    return sample < this.#oldest ? 0 : this.#at(sample, this.#known);
  }

  /** How long ago at `nowMs` it was known that fragment `index` exists; 0 when it is not. */
  ageMs(index: FragmentIndex, nowMs: MonoMs): number {
    const sample = this.#first((at) => this.#at(at, this.#known) > index);
    return sample >= this.#count ? 0 : nowMs - this.#at(sample, this.#ms);
  }

  get #oldest(): number {
    return Math.max(0, this.#count - this.#ms.length);
  }

  /** The first sample for which `holds`; both columns ascend. The count when there is none. */
  #first(holds: (at: number) => boolean): number {
    let low = this.#oldest;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (holds(middle)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #at(sample: number, column: Float64Array): number {
    return column[sample % column.length] as number;
  }
}
