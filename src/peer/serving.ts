/**
 * Which requests are served at all. Who asks for what can't be sent soon is told BUSY and asks
 * elsewhere, instead of finding out by a timeout.
 *
 * Pushes come first. A node whose way out has nothing to spare (it is strained) serves requests with
 * a small part of it only: whoever it makes late by serving more asks elsewhere in turn, and so a
 * few late pushes would grow into an overlay that pulls what was to be pushed, much of it twice.
 * Something is always served, for this node may be the only one that holds it.
 */

import { BUSY_RETRY_MS, SERVE_WAIT_MS } from "../base/limits.ts";
import type { MonoMs } from "../base/units.ts";
import { BUSY, encodeFrame } from "../protocol/r10.ts";
import type { PeerContext } from "./context.ts";
import type { Neighbour } from "./neighbour.ts";

/** A strained node serves one fragment for so many that it pushes ... */
const PUSHED_PER_SERVED = 8;
/** ... or one in this time, if that is more, ... */
const SERVED_EVERY_MS = 125;
/** ... and so many at once. */
const SERVED_AT_ONCE = 8;

export class Serving {
  readonly #context: PeerContext;
  readonly #tag: Uint8Array;
  /** Fragments that are served however strained this node is; below 0 when it was asked for more. */
  #allowance = SERVED_AT_ONCE;
  #allowedMs: MonoMs;

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
  asked(from: Neighbour, ranges: Float64Array, pairs: number, strained: boolean): boolean {
    const { now, counters } = this.#context;
    if (strained && !this.#allows(ranges, pairs)) {
      for (let i = 0; i < pairs; i++) {
        this.#decline(from, ranges[2 * i] as number, ranges[2 * i + 1] as number);
      }
      return false;
    }
    counters.requestsBeyondCredit += from.wants(ranges, pairs, now.monoMs);
    return true;
  }

  /** Declines all that neighbours asked for of whom nothing was served for SERVE_WAIT_MS. */
  watch(all: readonly Neighbour[]): void {
    const { monoMs } = this.#context.now;
    for (const neighbour of all) {
      const { toServe } = neighbour;
      if (toServe.length === 0 || monoMs - neighbour.servedMs < SERVE_WAIT_MS) continue;
      for (let i = 0; i < toServe.length; i += 2) {
        this.#decline(neighbour, toServe[i] as number, toServe[i + 1] as number);
      }
      toServe.length = 0;
    }
  }

  #allow(fragments: number): void {
    this.#allowance = Math.min(SERVED_AT_ONCE, this.#allowance + fragments);
  }

  #allows(ranges: Float64Array, pairs: number): boolean {
    const { monoMs } = this.#context.now;
    this.#allow((monoMs - this.#allowedMs) / SERVED_EVERY_MS);
    this.#allowedMs = monoMs;
    if (this.#allowance < 1) return false;
    for (let i = 0; i < pairs; i++) this.#allowance -= ranges[2 * i + 1] as number;
    this.#allowance = Math.max(-SERVED_AT_ONCE, this.#allowance);
    return true;
  }

  #decline({ link }: Neighbour, first: number, fragments: number): void {
    const count = Math.min(fragments, 0xffff_ffff);
    link.transmit(encodeFrame(BUSY, { tag: this.#tag, first, count, retryAfterMs: BUSY_RETRY_MS }));
    this.#context.counters.busySent++;
  }
}
