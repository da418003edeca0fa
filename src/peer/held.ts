/**
 * How far peers hold what a source peer made: every fragment below `to` was advertised by at least
 * `minHolders` neighbours, or was let go by this node's own rules (its window moved on). It never
 * falls: who held a fragment and lost it since does not count back.
 *
 * Read off neighbours' maps when they changed, a run at a time; nothing is kept per fragment.
 */

import type { FragmentIndex } from "../base/units.ts";
import type { FragmentWindow } from "../stream/window.ts";
import type { Neighbour } from "./neighbour.ts";

export class HeldTracker {
  readonly #window: FragmentWindow;
  readonly #neighbours: readonly Neighbour[];
  readonly #minHolders: number;
  readonly #runEnds: number[] = [];
  #to: FragmentIndex = 0;
  /** Whether a neighbour advertised something since the last look. */
  isStale = true;

  /** `neighbours` is the overlay's own list, as it changes. */
  constructor(window: FragmentWindow, neighbours: readonly Neighbour[], minHolders: number) {
    this.#window = window;
    this.#neighbours = neighbours;
    this.#minHolders = minHolders;
  }

  get to(): FragmentIndex {
    return this.#to;
  }

  /** Looks again. Whether `to` has risen. */
  update(): boolean {
    this.isStale = false;
    const window = this.#window;
    const before = this.#to;
    if (window.start > this.#to) this.#to = window.start;
    const neighbours = this.#neighbours;
    if (neighbours.length < this.#minHolders) return this.#to > before;
    const ends = this.#runEnds;
    for (;;) {
      ends.length = 0;
      for (const neighbour of neighbours) {
        ends.push(window.nextClear(neighbour.have, this.#to, window.highest));
      }
      // As far as minHolders of them go without a hole: the minHolders-th longest run.
      ends.sort((a, b) => b - a);
      const end = ends[this.#minHolders - 1] as number;
      if (end <= this.#to) return this.#to > before;
      this.#to = end;
    }
  }
}
