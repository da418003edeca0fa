/**
 * Which requests are served at all. Who asks for what can't be sent soon is told BUSY and asks
 * elsewhere, instead of finding out by a timeout.
 *
 * Pushes come first. A node whose way out has nothing to spare (it is strained) serves requests with
 * a small part of it only: whoever it makes late by serving more asks elsewhere in turn, and so a
 * few late pushes would grow into an overlay that pulls what was to be pushed, much of it twice.
 * Something is always served, for this node may be the only one that holds it.
 *
 * The source peer gives each fragment to one at a time of those who ask for it and have others to
 * get it from: what is late on its way is late for all of them, and they would all ask at once. Only
 * what was really sent counts, and nobody is put off for long: others may hand on nothing.
 */

import { BUSY_RETRY_MS, RANGE_COUNT_MAX, SERVE_WAIT_MS } from "../base/limits.ts";
import type { FragmentIndex, MonoMs } from "../base/units.ts";
import { BUSY, encodeFrame } from "../protocol/r10.ts";
import type { PeerContext } from "./context.ts";
import type { Neighbour } from "./neighbour.ts";

/** A strained node serves one fragment for so many that it pushes ... */
const PUSHED_PER_SERVED = 8;
/** ... or one in this time, if that is more, ... */
const SERVED_EVERY_MS = 125;
/** ... and so many at once. */
const SERVED_AT_ONCE = 8;

/** Who was told BUSY comes again within this, or has asked elsewhere. */
const TURN_MS = 2 * BUSY_RETRY_MS;

/** What was served on request goes to the next patient one after this ... */
const GIVEN_AGAIN_MS = 1_000;
/** ... or when it asks for the third time. */
const PUT_OFF_MAX = 2;
/** So many are remembered. */
const GIVEN_MAX = 1_024;

/** How requests are looked at. */
export interface Asking {
  /** This node has nothing to spare. */
  readonly isStrained: boolean;
  /** The asker may be declined what was just given to another. */
  readonly once: boolean;
}

export class Serving {
  readonly #context: PeerContext;
  readonly #tag: Uint8Array;
  /** Fragments that are served however strained this node is; below 0 when it was asked for more. */
  #allowance = SERVED_AT_ONCE;
  #allowedMs: MonoMs;
  /** Who was declined, since when, and when it asked last. */
  readonly #waiting = new Map<Neighbour, { readonly sinceMs: MonoMs; readonly askedMs: MonoMs }>();
  /** When what was given last, the oldest first; undefined until somebody patient asked. */
  #given: Map<FragmentIndex, MonoMs> | undefined;
  /** How often each was put off, by fragment, the oldest first. */
  readonly #putOff = new WeakMap<Neighbour, Map<FragmentIndex, number>>();

  constructor(context: PeerContext, tag: Uint8Array) {
    this.#context = context;
    this.#tag = tag;
    this.#allowedMs = context.now.monoMs;
  }

  /** So many fragments were pushed. */
  pushed(count: number): void {
    this.#allow(count / PUSHED_PER_SERVED);
  }

  /** GET arrived: `pairs` (first, count) in `ranges`. Returns whether something is to be served. */
  asked(from: Neighbour, ranges: Float64Array, pairs: number, how: Asking): boolean {
    const { now, counters } = this.#context;
    if (how.isStrained && !this.#allows(from, ranges, pairs)) {
      for (let i = 0; i < pairs; i++) {
        this.#declineForNow(from, ranges[2 * i] as number, ranges[2 * i + 1] as number);
      }
      return false;
    }
    const served = how.once ? this.#give(from, ranges, pairs) : ranges.subarray(0, 2 * pairs);
    counters.requestsBeyondCredit += from.wants(served, served.length / 2, now.monoMs);
    return served.length > 0;
  }

  /** Declines all that neighbours asked for of whom nothing was served for SERVE_WAIT_MS. */
  watch(all: readonly Neighbour[]): void {
    const { now, upload } = this.#context;
    this.#forgetWhoAskedElsewhere();
    for (const neighbour of all) {
      const { toServe } = neighbour;
      if (toServe.length === 0 || now.monoMs - neighbour.servedMs < SERVE_WAIT_MS) continue;
      for (let i = 0; i < toServe.length; i += 2) {
        const [first, fragments] = [toServe[i] as number, toServe[i + 1] as number];
        // Where upload is to spare it is the neighbour's own link that is full.
        if (upload.isSaturated) this.#declineForNow(neighbour, first, fragments);
        else this.#decline(neighbour, first, fragments);
      }
      toServe.length = 0;
    }
  }

  /** Fragments [first, end) leave for one who asked for them. */
  gave(first: FragmentIndex, end: FragmentIndex): void {
    if (this.#given === undefined) return;
    for (let index = first; index < end; index++) {
      keepNewest(this.#given, index, this.#context.now.monoMs);
    }
  }

  /** Of `pairs` ranges those that are served now, as ranges; the others are declined. */
  #give(from: Neighbour, ranges: Float64Array, pairs: number): Float64Array {
    this.#given ??= new Map();
    const given: number[] = [];
    let left = GIVEN_MAX;
    for (let i = 0; i < pairs; i++) {
      const first = ranges[2 * i] as FragmentIndex;
      const end = first + (ranges[2 * i + 1] as number);
      const to = Math.min(end, first + left);
      left -= to - first;
      for (let low = first; low < to; ) {
        const gives = this.#mayGive(from, low);
        let high = low + 1;
        while (high < to && this.#mayGive(from, high) === gives) high++;
        if (gives) given.push(low, high - low);
        else this.#putOffLater(from, low, high);
        low = high;
      }
      if (to < end) this.#decline(from, to, end - to);
    }
    return Float64Array.from(given);
  }

  #mayGive(to: Neighbour, index: FragmentIndex): boolean {
    const givenMs = this.#given?.get(index);
    if (givenMs === undefined || this.#context.now.monoMs - givenMs >= GIVEN_AGAIN_MS) return true;
    return (this.#putOff.get(to)?.get(index) ?? 0) >= PUT_OFF_MAX;
  }

  #putOffLater(from: Neighbour, first: FragmentIndex, end: FragmentIndex): void {
    let counts = this.#putOff.get(from);
    if (counts === undefined) {
      counts = new Map();
      this.#putOff.set(from, counts);
    }
    for (let index = first; index < end; index++) {
      keepNewest(counts, index, (counts.get(index) ?? 0) + 1);
    }
    this.#decline(from, first, end - first);
  }

  #allow(fragments: number): void {
    this.#allowance = Math.min(SERVED_AT_ONCE, this.#allowance + fragments);
  }

  /** In turn: who asks at each fragment that comes must not take it all from who asks seldom. */
  #allows(from: Neighbour, ranges: Float64Array, pairs: number): boolean {
    const { monoMs } = this.#context.now;
    this.#allow((monoMs - this.#allowedMs) / SERVED_EVERY_MS);
    this.#allowedMs = monoMs;
    this.#forgetWhoAskedElsewhere();
    if (this.#allowance < 1 || this.#isSomebodysTurn(from)) {
      const sinceMs = this.#waiting.get(from)?.sinceMs ?? monoMs;
      this.#waiting.set(from, { sinceMs, askedMs: monoMs });
      return false;
    }
    this.#waiting.delete(from);
    for (let i = 0; i < pairs; i++) this.#allowance -= ranges[2 * i + 1] as number;
    this.#allowance = Math.max(-SERVED_AT_ONCE, this.#allowance);
    return true;
  }

  /** Whether another was declined before `from` was, and came again since. */
  #isSomebodysTurn(from: Neighbour): boolean {
    const ownMs = this.#waiting.get(from)?.sinceMs ?? this.#context.now.monoMs;
    for (const { sinceMs, askedMs } of this.#waiting.values()) {
      if (sinceMs < askedMs && sinceMs < ownMs) return true;
    }
    return false;
  }

  /** Also at each tick: a claim must not outlive the neighbour, nor be taken up again much later. */
  #forgetWhoAskedElsewhere(): void {
    const { monoMs } = this.#context.now;
    for (const [neighbour, { askedMs }] of this.#waiting) {
      if (monoMs - askedMs > TURN_MS) this.#waiting.delete(neighbour);
    }
  }

  /** For want of room. What it needs next it can't have from here: no fault of its own. */
  #declineForNow(from: Neighbour, first: FragmentIndex, fragments: number): void {
    const needs = from.ackedTo;
    if (first <= needs && needs < first + fragments) from.declinedMs = this.#context.now.monoMs;
    this.#decline(from, first, fragments);
  }

  #decline({ link }: Neighbour, first: number, fragments: number): void {
    const count = Math.min(fragments, RANGE_COUNT_MAX);
    link.transmit(encodeFrame(BUSY, { tag: this.#tag, first, count, retryAfterMs: BUSY_RETRY_MS }));
    this.#context.counters.busySent++;
  }
}

function keepNewest(map: Map<FragmentIndex, number>, index: FragmentIndex, value: number): void {
  map.delete(index);
  map.set(index, value);
  if (map.size <= GIVEN_MAX) return;
  const [oldest] = map.keys();
  if (oldest !== undefined) map.delete(oldest);
}
