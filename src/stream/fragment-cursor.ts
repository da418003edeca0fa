/**
 * The other way to consume a window: whole fragments in index order, as they lie, without taking
 * them apart. It lends one at a time, or lets all go by (a peer that only forwards). It stands in
 * the place of an assembler and gives no data.
 *
 * What is lent keeps a reference on its memory until the next step or release(), so it stays where
 * it is whatever the window frees meanwhile. Nothing is copied.
 */

import { assert } from "../base/assert.ts";
import { DATA_FLAG_END, DATA_FLAGS } from "../base/layout.ts";
import type { FragmentIndex, MemoryOffset } from "../base/units.ts";
import type { Gap } from "./assembler.ts";
import type { AssembledSource } from "./source-book.ts";
import type { FragmentWindow } from "./window.ts";

/** A whole DATA frame in the engine's memory: header and records as they came over the wire. */
export interface LentFragment {
  readonly index: FragmentIndex;
  readonly offset: MemoryOffset;
  readonly length: number;
}

const NO_SOURCES: ReadonlyMap<string, AssembledSource> = new Map();

export class FragmentCursor {
  /** It knows no sources: it never looks into a fragment. */
  readonly sources = NO_SOURCES;
  readonly #window: FragmentWindow;
  readonly #gaps: Gap[] = [];
  #head: FragmentIndex;
  #lent: LentFragment | undefined;
  #ended = false;

  constructor(window: FragmentWindow, head: FragmentIndex) {
    this.#window = window;
    this.#head = head;
  }

  /** Next fragment in order: everything below was taken and given back. */
  get head(): FragmentIndex {
    return this.#head;
  }
  /** Whether END was taken: nothing comes any more. */
  get ended(): boolean {
    return this.#ended;
  }
  get isTaking(): boolean {
    return this.#lent !== undefined;
  }
  get readable(): boolean {
    return !this.#ended && (this.#lent !== undefined || this.#window.holds(this.#head));
  }

  /** Lends the next fragment; undefined when it is not there. Takes back what was lent before. */
  nextFragment(): LentFragment | undefined {
    this.release();
    const window = this.#window;
    if (this.#ended || !window.holds(this.#head)) return undefined;
    const offset = window.offsetOf(this.#head);
    const length = window.lengthOf(this.#head);
    window.memory.retain(offset, length);
    this.#lent = { index: this.#head, offset, length };
    return this.#lent;
  }

  /** Takes back what is lent. */
  release(): void {
    const lent = this.#lent;
    if (lent === undefined) return;
    this.#lent = undefined;
    if (lent.index === this.#head) this.#pass(lent.offset);
    this.#window.memory.release(lent.offset, lent.length);
  }

  /** Lets all go by that is there in order, up to END. */
  forward(): void {
    const window = this.#window;
    while (!this.#ended && window.holds(this.#head)) this.#pass(window.offsetOf(this.#head));
  }

  /** The next fragment, which lies at `offset`, is done with. */
  #pass(offset: MemoryOffset): void {
    this.#head++;
    const flags = this.#window.kernel.view.getUint16(offset + DATA_FLAGS, true);
    if ((flags & DATA_FLAG_END) !== 0) this.#ended = true;
  }

  /** Gives up [head, index): reported as a gap. What is lent is not lost. */
  skipTo(index: FragmentIndex): void {
    const from = this.#lent?.index === this.#head ? this.#head + 1 : this.#head;
    if (index <= from) return;
    this.#gaps.push({ kind: "fragments", from, to: index - 1 });
    this.#head = index;
  }

  /** Moves the start of a newcomer that has taken nothing yet: not a loss. */
  startAt(index: FragmentIndex): void {
    assert(this.#lent === undefined, "start moves before anything was taken");
    this.#head = index;
  }

  /** Gaps found since the last call. */
  takeGaps(): Gap[] {
    return this.#gaps.splice(0);
  }

  /** An assembler would give data here. */
  next(): undefined {
    return undefined;
  }
  sourceOf(): AssembledSource {
    throw new Error("a cursor over fragments has no sources");
  }

  close(): void {
    this.release();
  }
}
