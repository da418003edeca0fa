/**
 * How many substreams a peer wants of the source peer. That gives each to one neighbour alone, and
 * all others get it from there: what this one can't hand on in time is late for everybody. So it
 * wants all, until its way out was found to bear not half of what it was given; then only so many,
 * and twice as many after a while, that being longer each time it was too much.
 *
 * It judges itself alone, and never by what it lacks: others need time to take over what it gives up,
 * and what nobody hands on it can still ask the source peer for.
 */

import type { MonoMs } from "../../base/units.ts";
import { allSubstreams } from "../settings.ts";
import { bitCount } from "./grants.ts";

/**
 * Where all send as fast as they can, ways out are full and bear just what the stream's pace is: who
 * is found to bear a little less is not weak.
 */
const MARGIN = 2;
/** More are tried after this, at first and at most. */
const AGAIN_MS = 15_000;
const AGAIN_MS_MAX = 480_000;

export class SourceShare {
  readonly #substreams: number;
  /** Whichever are wanted, others want other ones. */
  readonly #salt: number;
  /** So many are wanted; Infinity: all. */
  #most = Number.POSITIVE_INFINITY;
  /** Those that are, while it is not all. */
  #mask = 0;
  #againMs = AGAIN_MS;
  #changedMs: MonoMs = 0;

  /** `salt`: from 0 to below `substreams`. */
  constructor(substreams: number, salt: number) {
    this.#substreams = substreams;
    this.#salt = salt;
  }

  /**
   * What to ask of the source peer, which pushes `given` now. `bears`: copies of a substream that the
   * way out was found to bear since the last call, Infinity when nothing was found.
   */
  mask(given: number, bears: number, nowMs: MonoMs): number {
    if (bears * MARGIN < bitCount(given)) this.#shrink(Math.floor(bears), nowMs);
    const all = allSubstreams(this.#substreams);
    if (this.#most === Number.POSITIVE_INFINITY) return all;
    if (nowMs - this.#changedMs >= this.#againMs) this.#changeTo(2 * this.#most || 1, nowMs);
    if (this.#most >= this.#substreams) {
      this.#most = Number.POSITIVE_INFINITY;
      return all;
    }
    // Those that it pushes already, then any.
    if (bitCount(this.#mask) !== this.#most) {
      const kept = this.#some((given & this.#mask) >>> 0 || given, this.#most);
      const more = this.#some((all & ~kept) >>> 0, this.#most - bitCount(kept));
      this.#mask = (kept | more) >>> 0;
    }
    return this.#mask;
  }

  #shrink(most: number, nowMs: MonoMs): void {
    if (most >= this.#most) return;
    const isAgain = this.#most < Number.POSITIVE_INFINITY;
    this.#againMs = isAgain ? Math.min(2 * this.#againMs, AGAIN_MS_MAX) : AGAIN_MS;
    // Which of them were wanted before counts for nothing: it keeps of those that it is given now.
    this.#mask = 0;
    this.#changeTo(most, nowMs);
  }

  #changeTo(most: number, nowMs: MonoMs): void {
    this.#most = most;
    this.#changedMs = nowMs;
  }

  /** `count` bits of `mask`. */
  #some(mask: number, count: number): number {
    let some = 0;
    let left = count;
    for (let n = 0; n < this.#substreams && left > 0; n++) {
      const bit = 1 << ((n + this.#salt) % this.#substreams);
      if ((mask & bit) === 0) continue;
      some |= bit;
      left--;
    }
    return some >>> 0;
  }
}
