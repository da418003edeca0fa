/**
 * How many substreams a peer wants of the source peer. That gives each to one neighbour alone, and
 * all others get it from there: what this one can't hand on in time is late for everybody. So it
 * wants all, until its way out was found to bear not half of what it was given; then only so many, and now
 * and then one more, after twice the time if that was too much.
 *
 * It judges itself alone. It never asks for less because of others, nor because of one slow link.
 */

import type { MonoMs } from "../../base/units.ts";
import { allSubstreams } from "../settings.ts";
import { bitCount } from "./grants.ts";

/**
 * Where all send as fast as they can, ways out are full and bear just what the stream's pace is: who
 * is found to bear a little less is not weak.
 */
const MARGIN = 2;
/** One more is tried after this, at first and at most. */
const AGAIN_MS = 30_000;
const AGAIN_MS_MAX = 480_000;

export class SourceShare {
  readonly #substreams: number;
  /** So many are wanted; Infinity: all. */
  #most = Number.POSITIVE_INFINITY;
  /** Those that are, while it is not all. */
  #mask = 0;
  #againMs = AGAIN_MS;
  #changedMs: MonoMs = 0;

  constructor(substreams: number) {
    this.#substreams = substreams;
  }

  /** What to ask of it, which pushes `given` now; `bears`: as in bears(). */
  mask(given: number, bears: number, nowMs: MonoMs): number {
    const all = allSubstreams(this.#substreams);
    if (bears * MARGIN < bitCount(given)) this.bears(Math.floor(bears), nowMs);
    if (this.#most === Number.POSITIVE_INFINITY) return all;
    if (nowMs - this.#changedMs >= this.#againMs) this.#changeTo(this.#most + 1, nowMs);
    if (this.#most >= this.#substreams) {
      this.#most = Number.POSITIVE_INFINITY;
      return all;
    }
    // Those that it pushes already, then any.
    if (bitCount(this.#mask) !== this.#most) {
      const kept = lowest((given & this.#mask) >>> 0 || given, this.#most);
      const more = lowest((all & ~kept) >>> 0, this.#most - bitCount(kept));
      this.#mask = (kept | more) >>> 0;
    }
    return this.#mask;
  }

  /** This node can hand on `copies` copies of a substream at most. */
  bears(copies: number, nowMs: MonoMs): void {
    if (copies >= this.#most) return;
    const isAgain = this.#most < Number.POSITIVE_INFINITY;
    this.#againMs = isAgain ? Math.min(2 * this.#againMs, AGAIN_MS_MAX) : AGAIN_MS;
    this.#changeTo(copies, nowMs);
  }

  #changeTo(most: number, nowMs: MonoMs): void {
    this.#most = most;
    this.#changedMs = nowMs;
  }
}

/** The lowest `count` bits of `mask`. */
function lowest(mask: number, count: number): number {
  let rest = mask;
  let kept = 0;
  for (let i = 0; i < count && rest !== 0; i++) {
    const bit = rest & -rest;
    kept |= bit;
    rest = (rest & ~bit) >>> 0;
  }
  return kept >>> 0;
}
