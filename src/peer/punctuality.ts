/**
 * How late a partner's pushes usually are, learned from those that came: when is what it lets lie to
 * be asked for elsewhere? Too early means fragments that come twice, and work for others that makes
 * them late in turn; too late means a hole for as long.
 *
 * Two figures, each a mean with its mean deviation: the age of a fragment when it is pushed (since
 * it was known to exist and had room here), and the pause before it while there was something to
 * push. A partner with many to serve in turn has long pauses; a slow stream makes them longer.
 */

import type { FragmentIndex, MonoMs } from "../base/units.ts";

/** Before it pushed so much it is held to these. */
const SAMPLES_MIN = 8;
const LATE_MS_FIRST = 2_000;
const LATE_MS_MIN = 1_500;
const IDLE_MS_FIRST = 500;
const IDLE_MS_MIN = 300;
const IDLE_MS_MAX = 3_000;
/** And on a slow stream, in turns of a substream. */
const LATE_TURNS = 2;
const LATE_TURNS_MS_MAX = 6_000;
const IDLE_TURNS = 0.25;
/** Beyond the mean by so many deviations. */
const DEVIATIONS = 4;
const GAIN = 1 / 8;
const DEVIATION_GAIN = 1 / 4;

export class Punctuality {
  #samples = 0;
  #pushedTo: FragmentIndex = 0;
  #pushedMs: MonoMs = Number.NEGATIVE_INFINITY;
  readonly #age = new Smoothed();
  readonly #pause = new Smoothed();

  /** One past the highest index that it pushed: what it holds below was passed over. */
  get pushedTo(): FragmentIndex {
    return this.#pushedTo;
  }

  /** It pushed fragment `index`, which had been known for `ageMs`. */
  pushed(index: FragmentIndex, ageMs: number, nowMs: MonoMs): void {
    this.#samples++;
    this.#pushedTo = Math.max(this.#pushedTo, index + 1);
    this.#age.add(ageMs);
    this.#pause.add(Math.min(ageMs, nowMs - this.#pushedMs));
    this.#pushedMs = nowMs;
  }

  /**
   * What it has not pushed at this age it lets lie. `turnMs`: in this each substream has its turn; a
   * partner with many to serve may take as long. `mostMs`: whatever it is used to.
   */
  lateMs(turnMs: number, mostMs: number): number {
    const slowMs = LATE_TURNS * turnMs;
    if (this.#samples < SAMPLES_MIN) return Math.min(Math.max(LATE_MS_FIRST, slowMs), mostMs);
    const leastMs = Math.max(LATE_MS_MIN, Math.min(slowMs, LATE_TURNS_MS_MAX));
    return Math.min(Math.max(leastMs, this.#age.bound), mostMs);
  }

  /** When it has pushed nothing for this long, though it could have, it stands still. */
  idleMs(turnMs: number): number {
    const isNew = this.#samples < SAMPLES_MIN;
    const idleMs = isNew ? Math.max(IDLE_MS_FIRST, IDLE_TURNS * turnMs) : this.#pause.bound;
    return Math.min(Math.max(IDLE_MS_MIN, idleMs), IDLE_MS_MAX);
  }
}

class Smoothed {
  #mean = -1;
  #deviation = 0;

  add(value: number): void {
    if (this.#mean < 0) {
      this.#mean = value;
      this.#deviation = value / 2;
      return;
    }
    this.#deviation += (Math.abs(value - this.#mean) - this.#deviation) * DEVIATION_GAIN;
    this.#mean += (value - this.#mean) * GAIN;
  }

  get bound(): number {
    return this.#mean + DEVIATIONS * this.#deviation;
  }
}
