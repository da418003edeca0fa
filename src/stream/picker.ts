/**
 * What to ask for next (R10.a): how many neighbours hold each fragment of a window, and which of
 * those missing here are candidates, found in the order of the Mixed strategy: the urgent part of
 * the window by earliest deadline, the rest rarest first, ties broken by chance.
 *
 * A candidate is missing, held by a neighbour, not taken (requested or under verification) and not
 * reserved (a partner pushes it). Counts follow the maps of the neighbours: whoever changes such a
 * map does it here, and gives all of it back before the map is released. The window tells by itself
 * what is stored and where it moves.
 *
 * Never: knows a neighbour, a link or a clock, or draws a random number itself. What it keeps lies
 * in one table of the engine's memory; no call allocates.
 */

import { assert } from "../base/assert.ts";
import {
  PICKER_ANY,
  PICKER_CANDIDATES,
  PICKER_CELL_BYTES,
  PICKER_CELLS,
  PICKER_GROUP_BYTES,
  PICKER_GROUPS,
  PICKER_HELD,
  PICKER_UPPER,
  PICKER_UPPER_BYTES,
  PICKER_WORDS,
} from "../base/layout.ts";
import { SUBSTREAM_RUN, SUBSTREAMS_MAX } from "../base/limits.ts";
import type { FragmentIndex, MemoryOffset } from "../base/units.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { checkPickerTable } from "./picker-check.ts";
import {
  type FragmentWindow,
  type WindowFollower,
  WindowMap,
  type WireBuffermap,
} from "./window.ts";

/** Candidates of one pick at most: several links' worth of requests. */
export const PICKS_MAX = 1_024;

export interface PickRequest {
  /** At most this many; no more than PICKS_MAX and the room of `out` are written. */
  max: number;
  /** Below it: earliest deadline first. From it on: rarest first. */
  urgentEnd: FragmentIndex;
  /** Nothing from here on. */
  end: FragmentIndex;
  /** A u32 by chance, a new one for each pick. */
  random: number;
  /** Only what this map has. */
  have?: WindowMap | undefined;
}

export class Picker implements WindowFollower {
  readonly substreams: number;
  readonly #window: FragmentWindow;
  readonly #kernel: Kernel;
  readonly #table: MemoryOffset;
  readonly #out: MemoryOffset;
  /** The candidates. */
  readonly #any: WindowMap;
  /** Of each substream: what lies at or above it is reserved. */
  readonly #pushedFrom: Float64Array;
  /** All that became a candidate, though it was advertised before, lies in [#openedFrom, #openedTo). */
  #openedFrom: FragmentIndex = Number.POSITIVE_INFINITY;
  #openedTo: FragmentIndex = 0;
  #closed = false;

  /**
   * One picker a window, made before any neighbour's map is marked. `substreams` of the overlay: 1
   * to SUBSTREAMS_MAX.
   */
  constructor(window: FragmentWindow, substreams = 1) {
    assert(substreams >= 1 && substreams <= SUBSTREAMS_MAX, "substreams of a picker");
    this.substreams = substreams;
    this.#window = window;
    this.#kernel = window.kernel;
    this.#pushedFrom = new Float64Array(substreams).fill(Number.POSITIVE_INFINITY);
    const words = window.mapBits / 64;
    const cells = PICKER_GROUPS + PICKER_GROUP_BYTES * Math.ceil(words / 64);
    const any = cells + PICKER_CELL_BYTES * words;
    const upper = any + 8 * words;
    this.#table = window.memory.allocate(upper + PICKER_UPPER_BYTES * words);
    this.#out = window.memory.allocate(4 * PICKS_MAX);
    const header = (offset: number, value: number): void => {
      this.#kernel.u32[(this.#table + offset) >>> 2] = value;
    };
    header(PICKER_HELD, window.heldMap.words);
    header(PICKER_WORDS, words);
    header(PICKER_CELLS, this.#table + cells);
    header(PICKER_ANY, this.#table + any);
    this.#any = new WindowMap(this.#table + any);
    header(PICKER_UPPER, this.#table + upper);
    this.#takeBelowStart();
    window.follow(this);
  }

  /** How many candidates there are. */
  get candidates(): number {
    return this.#kernel.u32[(this.#table + PICKER_CANDIDATES) >>> 2] as number;
  }

  /**
   * What became a candidate since forgetOpened() though neighbours held it before lies from here to
   * openedTo. A neighbour of which there was nothing to be picked has nothing still, unless it holds
   * some of that, or advertised more.
   */
  get openedFrom(): FragmentIndex {
    return this.#openedFrom;
  }

  get openedTo(): FragmentIndex {
    return this.#openedTo;
  }

  forgetOpened(): void {
    this.#openedFrom = Number.POSITIVE_INFINITY;
    this.#openedTo = 0;
  }

  // ------------------------------------------------------------------- what neighbours hold

  /** A neighbour holds [first, end): marks `have` and counts; returns how many of it are new. */
  advertised(have: WindowMap, first: FragmentIndex, end: FragmentIndex): number {
    const from = this.#bit(first);
    return this.#kernel.pickerAdvertise(this.#table, have.words, from, this.#bit(end));
  }

  /** It does not hold [first, end) any more; returns how much of it it had. */
  withdrew(have: WindowMap, first: FragmentIndex, end: FragmentIndex): number {
    const from = this.#bit(first);
    return this.#kernel.pickerWithdraw(this.#table, have.words, from, this.#bit(end));
  }

  /** The neighbour is gone: withdraws all; before its map is released. */
  lost(have: WindowMap): number {
    return this.#kernel.pickerWithdraw(this.#table, have.words, 0, this.#window.mapBits);
  }

  /** Its whole buffermap, in place of what `have` said; returns how many are new. */
  replaceFromWire(have: WindowMap, buffermap: WireBuffermap, memory: Uint8Array): number {
    const fresh = this.#window.readWire(buffermap, memory);
    return this.#kernel.pickerReplace(this.#table, have.words, fresh.words);
  }

  /** How many neighbours hold fragment `index`; 0 outside the maps. */
  availabilityOf(index: FragmentIndex): number {
    const window = this.#window;
    if (index < window.origin || index >= window.mapEnd) return 0;
    return this.#kernel.pickerAvailability(this.#table, index - window.origin);
  }

  // -------------------------------------------------------------------- what is under way

  /** [first, end) is requested or under verification. */
  take(first: FragmentIndex, end: FragmentIndex): void {
    this.#kernel.pickerTake(this.#table, this.#bit(first), this.#bit(end));
  }

  /** The request failed, or what came did: candidates again, where missing and available. */
  release(first: FragmentIndex, end: FragmentIndex): void {
    const before = this.candidates;
    const from = this.#bit(Math.max(first, this.#window.start));
    this.#kernel.pickerRelease(this.#table, from, this.#bit(end));
    if (this.candidates > before) this.#opened(first, end);
  }

  /**
   * A partner pushes `substream` from `bound` on: no candidates at or above it. Infinity = nobody
   * pushes it, which is how all begin. The bound may rise and fall.
   */
  pushedFrom(substream: number, bound: FragmentIndex): void {
    const before = this.#pushedFrom[substream];
    assert(before !== undefined, "a substream of this overlay");
    if (bound === before) return;
    this.#pushedFrom[substream] = bound;
    if (bound < before) {
      this.#reserve(substream, bound, before, 1);
      return;
    }
    const candidates = this.candidates;
    this.#reserve(substream, before, bound, 0);
    if (this.candidates > candidates) this.#opened(before, bound);
  }

  // ------------------------------------------------------------------------------- picking

  /** First candidate in [from, to); `to` when there is none. */
  nextCandidate(from: FragmentIndex, to: FragmentIndex): FragmentIndex {
    const { origin } = this.#window;
    const end = this.#bit(to);
    const bit = this.#kernel.pickerNext(this.#table, this.#bit(from), end);
    return bit >= end ? to : origin + bit;
  }

  /**
   * First index in [from, to) that `have` has and that is neither a candidate nor in `known`, or that
   * `unless` has; `to` at most.
   */
  nextOther(
    have: WindowMap,
    known: WindowMap,
    unless: WindowMap,
    from: FragmentIndex,
    to: FragmentIndex,
  ): FragmentIndex {
    const end = this.#window.nextDifference(have, this.#any, known, from, to);
    return this.#window.nextSet(unless, from, end);
  }

  /**
   * Writes candidates to `out`, the most wanted first: those in [window start, urgentEnd) in order,
   * then those in [urgentEnd, end) by class of rarity (1, 2, 3, 4-7, 8-15, 16 or more holders),
   * each class in order from a place by chance on and around, of which PICK_CLASS_WORDS_MAX words are
   * searched. Returns how many: 0 only when there is none, and fewer than wanted also where those of
   * a map lie far between others of their class. Takes none of them.
   */
  pick(request: PickRequest, out: Float64Array): number {
    const { origin, start } = this.#window;
    const count = this.#kernel.pickerPick(
      this.#table,
      request.have?.words ?? 0,
      start - origin,
      this.#bit(request.urgentEnd),
      this.#bit(request.end),
      Math.min(request.max, out.length, PICKS_MAX),
      request.random,
      this.#out,
    );
    const at = this.#out >>> 2;
    for (let i = 0; i < count; i++) out[i] = origin + (this.#kernel.u32[at + i] as number);
    return count;
  }

  // -------------------------------------------------------------- what the window tells

  stored(index: FragmentIndex): void {
    this.#kernel.pickerStored(this.#table, index - this.#window.origin);
  }

  advanced(from: FragmentIndex, to: FragmentIndex): void {
    this.take(from, to);
  }

  shifted(words: number): void {
    const window = this.#window;
    this.#kernel.pickerShift(this.#table, words);
    this.#takeBelowStart();
    this.#reserveAll(window.mapEnd - 64 * words);
  }

  rebased(): void {
    this.shifted(this.#window.mapBits / 64);
  }

  /** Gives its memory back; the window goes on without. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#window.follow(undefined);
    this.#window.memory.free(this.#out);
    this.#window.memory.free(this.#table);
  }

  /** Recomputes everything from the window and the maps of all neighbours. */
  checkInvariants(haves: readonly WindowMap[]): void {
    const window = this.#window;
    checkPickerTable(this.#kernel, this.#table, window, haves, (index) => {
      const substream = Math.floor(index / SUBSTREAM_RUN) % this.substreams;
      return index >= (this.#pushedFrom[substream] as number);
    });
  }

  #opened(first: FragmentIndex, end: FragmentIndex): void {
    this.#openedFrom = Math.min(this.#openedFrom, first);
    this.#openedTo = Math.max(this.#openedTo, end);
  }

  /** The bit of `index`, clamped to the maps. */
  #bit(index: FragmentIndex): number {
    const window = this.#window;
    return Math.min(Math.max(index - window.origin, 0), window.mapBits);
  }

  #takeBelowStart(): void {
    const below = Math.min(this.#window.start - this.#window.origin, this.#window.mapBits);
    this.#kernel.pickerTake(this.#table, 0, below);
  }

  /** Reserves what partners push from index `from` on. */
  #reserveAll(from: FragmentIndex): void {
    for (let substream = 0; substream < this.substreams; substream++) {
      const bound = Math.max(from, this.#pushedFrom[substream] as number);
      this.#reserve(substream, bound, this.#window.mapEnd, 1);
    }
  }

  #reserve(substream: number, first: FragmentIndex, end: FragmentIndex, on: 0 | 1): void {
    const window = this.#window;
    const from = this.#bit(first);
    const to = this.#bit(end);
    if (from >= to) return;
    // The first run of the substream that does not end before `from`.
    const run = Math.floor((window.origin + from) / SUBSTREAM_RUN);
    const ahead = (substream - (run % this.substreams) + this.substreams) % this.substreams;
    const at = (run + ahead) * SUBSTREAM_RUN - window.origin;
    const stride = this.substreams * SUBSTREAM_RUN;
    this.#kernel.pickerReserve(this.#table, at, stride, from, to, on);
  }
}
