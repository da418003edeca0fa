/**
 * How far peers hold what a source peer made, in fragments and in sequence numbers of its sources.
 *
 * Held is a fragment that at least `minHolders` neighbours advertised or were done with, or that
 * this node's own rules let go (its window moved on). Where a neighbour began, which may be the
 * live edge, says nothing of what lies below: it never had that. Held never falls: who held a
 * fragment and lost it since does not count back. Read off neighbours' maps a run at a time; nothing
 * is kept per fragment and neighbour.
 */

import type { FragmentIndex, MonoMs, SequenceNumber } from "../base/units.ts";
import type { DataSourceEntry } from "../stream/source-table.ts";
import type { FragmentWindow } from "../stream/window.ts";
import type { Neighbour } from "./neighbour.ts";

/** Looked at again after this at the earliest: neighbours tell in batches of 20 ms anyway. */
const LOOK_MS = 5;

export class HeldWatch {
  readonly #window: FragmentWindow;
  readonly #neighbours: readonly Neighbour[];
  readonly #minHolders: number;
  readonly #marks = new Map<DataSourceEntry, SequenceMarks>();
  readonly #runEnds: number[] = [];
  #lookedMs: MonoMs = Number.NEGATIVE_INFINITY;
  #to: FragmentIndex = 0;

  constructor(
    window: FragmentWindow,
    neighbours: readonly Neighbour[],
    minHolders: number,
    sources: Iterable<DataSourceEntry>,
  ) {
    this.#window = window;
    this.#neighbours = neighbours;
    this.#minHolders = minHolders;
    for (const source of sources) this.add(source);
  }

  add(source: DataSourceEntry): void {
    this.#marks.set(source, new SequenceMarks(source.nextSequence - 1));
  }

  remove(source: DataSourceEntry): void {
    this.#marks.delete(source);
  }

  /** Fragment `index` is sealed: what it completes is noted. */
  sealed(index: FragmentIndex): void {
    for (const [source, marks] of this.#marks) marks.sealed(source.nextSequence - 1, index);
  }

  sequenceOf(source: DataSourceEntry): SequenceNumber {
    return this.#marks.get(source)?.upTo(this.#to) ?? 0;
  }

  /** Looks how far others hold what there is. Whether more is held than was. */
  look(nowMs: MonoMs): boolean {
    if (nowMs - this.#lookedMs < LOOK_MS) return false;
    this.#lookedMs = nowMs;
    const window = this.#window;
    const before = this.#to;
    if (window.start > this.#to) this.#to = window.start;
    const neighbours = this.#neighbours;
    if (neighbours.length < this.#minHolders) return this.#to > before;
    const ends = this.#runEnds;
    for (;;) {
      ends.length = 0;
      for (const neighbour of neighbours) {
        // Below its start it is done with them, as far down as where it began.
        if (neighbour.beganAt > this.#to) {
          ends.push(this.#to);
          continue;
        }
        const from = Math.max(this.#to, neighbour.remoteStart);
        ends.push(window.nextClear(neighbour.have, from, window.highest));
      }
      // As far as minHolders of them go without a hole: the minHolders-th longest run.
      ends.sort((a, b) => b - a);
      const end = ends[this.#minHolders - 1] as number;
      if (end <= this.#to) return this.#to > before;
      this.#to = end;
    }
  }
}

/** Which fragment completes which datum of one source, for fragments that are not held yet. */
class SequenceMarks {
  /** Pairs (sequence number, index), both rising. */
  #pairs: number[] = [];
  #head = 0;
  #last: SequenceNumber;
  #held: SequenceNumber;

  constructor(sequence: SequenceNumber) {
    this.#last = sequence;
    this.#held = sequence;
  }

  /** Fragment `index` is sealed; all up to `sequence` lies in it and in those before. */
  sealed(sequence: SequenceNumber, index: FragmentIndex): void {
    if (sequence === this.#last) return;
    this.#last = sequence;
    this.#pairs.push(sequence, index);
  }

  upTo(heldTo: FragmentIndex): SequenceNumber {
    const pairs = this.#pairs;
    while (this.#head < pairs.length && (pairs[this.#head + 1] as number) < heldTo) {
      this.#held = pairs[this.#head] as number;
      this.#head += 2;
    }
    if (this.#head > 1_024 && this.#head * 2 > pairs.length) {
      this.#pairs = pairs.slice(this.#head);
      this.#head = 0;
    }
    return this.#held;
  }
}
