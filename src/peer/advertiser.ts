/**
 * What a node tells its neighbours about its window: the buffermap when a link comes up or asks for
 * it, HAVE for what was stored since (each index once a link), credit for what it still takes.
 *
 * A fragment is queued here only after it was verified and stored, so nothing is advertised that is
 * not held. HAVE leaves when HAVE_BATCH_FRAGMENTS have gathered or the oldest waited HAVE_DELAY_MS.
 */

import { Deadlines } from "../base/deadlines.ts";
import { FRAME_TYPES, HAVE_FLAG_HELD_BACK } from "../base/layout.ts";
import {
  HAVE_BATCH_FRAGMENTS,
  HAVE_DELAY_MS,
  RANGES_PER_FRAME_MAX,
  REFRESHES_PER_SECOND_MAX,
} from "../base/limits.ts";
import type { FragmentIndex, MonoMs } from "../base/units.ts";
import { encodeFrame, REFRESH } from "../protocol/r10.ts";
import { encodeBuffermap, encodeCredit, encodeRanges } from "../protocol/r10-binary.ts";
import type { FragmentWindow } from "../stream/window.ts";
import type { PeerContext } from "./context.ts";
import type { Pace } from "./download.ts";
import type { Neighbour } from "./neighbour.ts";
import { STEP_SHIFT } from "./retention.ts";

/** A limit that grew by less than a step is told after this. */
const CREDIT_DELAY_MS = 5;
/** A neighbour whose map did not fit ours is asked for it again, at most this often. */
const REFRESH_AGAIN_MS = 500;
/** REFRESHES_PER_SECOND_MAX counts over this. */
const REFRESH_SPAN_MS = 1_000;

export class Advertiser {
  readonly #context: PeerContext;
  readonly #window: FragmentWindow;
  readonly #tag: Uint8Array;
  readonly #neighbours: readonly Neighbour[];
  readonly #pace: Pace;
  readonly #deadlines = new Deadlines<"have" | "credit" | "maps">();
  /** Indices stored and not yet advertised, in order of arrival. */
  #queue: FragmentIndex[] = [];
  #refreshedMs: MonoMs = Number.NEGATIVE_INFINITY;
  /** The start that neighbours were told last. */
  #toldStart: FragmentIndex = 0;
  #heldBack = false;
  /** False for a newcomer that has not chosen where to start: it declares nothing yet. */
  #started: boolean;

  /** `neighbours` is the overlay's own list, as it changes. */
  constructor(
    context: PeerContext,
    window: FragmentWindow,
    tag: Uint8Array,
    neighbours: readonly Neighbour[],
    started: boolean,
    pace: Pace,
  ) {
    this.#started = started;
    this.#pace = pace;
    this.#context = context;
    this.#window = window;
    this.#tag = tag;
    this.#neighbours = neighbours;
  }

  get deadlineMs(): MonoMs {
    return this.#deadlines.earliestMs();
  }

  stored(index: FragmentIndex): void {
    if (this.#queue.length === 0) {
      this.#deadlines.set("have", this.#context.now.monoMs + HAVE_DELAY_MS);
    }
    this.#queue.push(index);
  }

  /** Whether this node is full because of others: neighbours are told when it changes. */
  set heldBack(heldBack: boolean) {
    if (heldBack === this.#heldBack) return;
    this.#heldBack = heldBack;
    this.flush();
    this.#have([]);
  }

  /** Sends what is due; credit at once when `all`. */
  run(takes: boolean, all: boolean): void {
    const nowMs = this.#context.now.monoMs;
    if (this.#started && this.#window.start !== this.#toldStart) {
      this.#deadlines.setIfEarlier("have", nowMs + HAVE_DELAY_MS);
    }
    if (this.#queue.length >= HAVE_BATCH_FRAGMENTS || this.#deadlines.take("have", nowMs)) {
      this.flush();
    }
    if (this.#deadlines.take("maps", nowMs)) this.#tellDueMaps();
    if (!takes) return;
    const due = this.#deadlines.take("credit", nowMs) || all;
    for (const neighbour of this.#neighbours) this.grant(neighbour, due);
  }

  /** The start is chosen: all are told. */
  start(): void {
    this.#started = true;
    this.#have([]);
  }

  /** HAVE for all that is queued, to all. */
  flush(): void {
    this.#deadlines.clear("have");
    const queue = this.#queue;
    this.#queue = [];
    const { start } = this.#window;
    const ranges: number[] = [];
    for (const index of queue.filter((each) => each >= start).sort((a, b) => a - b)) {
      const last = ranges.length - 2;
      if (last >= 0 && (ranges[last] as number) + (ranges[last + 1] as number) === index) {
        ranges[last + 1] = (ranges[last + 1] as number) + 1;
      } else {
        ranges.push(index, 1);
      }
    }
    // A start that moved is told even when nothing new is held: others wait for it.
    if (ranges.length === 0 && this.#started && start !== this.#toldStart) this.#have([]);
    for (let at = 0; at < ranges.length; at += 2 * RANGES_PER_FRAME_MAX) {
      this.#have(ranges.slice(at, at + 2 * RANGES_PER_FRAME_MAX));
    }
  }

  /**
   * The whole buffermap. A newcomer that does not know where to start declares 0: neighbours keep
   * what they hold for it until it says more. A map costs work and bytes that asking does not: who
   * asks more than REFRESHES_PER_SECOND_MAX is told one when the second is over.
   */
  buffermap(neighbour: Neighbour): void {
    const nowMs = this.#context.now.monoMs;
    if (nowMs - neighbour.mapsSinceMs >= REFRESH_SPAN_MS) {
      neighbour.mapsSinceMs = nowMs;
      neighbour.mapsTold = 0;
    }
    if (neighbour.mapsTold >= REFRESHES_PER_SECOND_MAX) {
      if (neighbour.mapDue) this.#context.counters.ignoredFrames++;
      neighbour.mapDue = true;
      this.#deadlines.setIfEarlier("maps", neighbour.mapsSinceMs + REFRESH_SPAN_MS);
      return;
    }
    neighbour.mapsTold++;
    neighbour.mapDue = false;
    this.#sendMap(neighbour);
  }

  #tellDueMaps(): void {
    this.flush();
    for (const neighbour of this.#neighbours) if (neighbour.mapDue) this.buffermap(neighbour);
  }

  #sendMap(neighbour: Neighbour): void {
    const window = this.#window;
    const { kernel } = window;
    if (!this.#started) {
      neighbour.link.transmit(encodeBuffermap(this.#tag, 0, 0, new Uint8Array(0)));
      return;
    }
    const runEnd = window.firstMissing(window.start, window.highest);
    let bits = new Uint8Array(0);
    if (runEnd + 1 < window.highest) {
      const from = runEnd + 1 - window.origin;
      const to = window.highest - window.origin;
      const scratch = window.memory.allocate(((to - from) >> 3) + 16);
      const bytes = kernel.bitsToWire(window.heldMap.words, from, to, scratch);
      bits = kernel.bytes.slice(scratch, scratch + bytes);
      window.memory.free(scratch);
    }
    const run = runEnd - window.start;
    neighbour.link.transmit(encodeBuffermap(this.#tag, window.start, run, bits));
    if (this.#heldBack) this.#tell(neighbour, []);
  }

  /** Tells a new limit when it grew by a step, else soon, or now when `due`. */
  grant(neighbour: Neighbour, due: boolean): void {
    const { limit } = this.#pace;
    const grown = limit - neighbour.grantedLimit;
    if (grown <= 0) return;
    // Who has enough for a while need not know of each step.
    const span = limit - this.#window.start;
    const left = neighbour.grantedLimit - this.#window.highest;
    if (left * 2 > span && grown * 4 < span) return;
    if (!due && grown < span >> STEP_SHIFT) {
      this.#deadlines.setIfEarlier("credit", this.#context.now.monoMs + CREDIT_DELAY_MS);
      return;
    }
    neighbour.grantedLimit = limit;
    neighbour.link.transmit(encodeCredit(this.#tag, limit));
  }

  /** Asks those again whose maps had no room here; `now` whatever was asked last. */
  refreshClipped(now: boolean): void {
    const nowMs = this.#context.now.monoMs;
    if (!now && nowMs - this.#refreshedMs < REFRESH_AGAIN_MS) return;
    for (const neighbour of this.#neighbours) {
      if (!neighbour.clipped) continue;
      this.#refreshedMs = nowMs;
      neighbour.clipped = false;
      neighbour.link.transmit(encodeFrame(REFRESH, { tag: this.#tag }));
    }
  }

  #have(ranges: number[]): void {
    this.#toldStart = this.#window.start;
    for (const neighbour of this.#neighbours) this.#tell(neighbour, ranges);
  }

  #tell(neighbour: Neighbour, ranges: number[]): void {
    const { HAVE } = FRAME_TYPES;
    const { start } = this.#window;
    const flags = this.#heldBack ? HAVE_FLAG_HELD_BACK : 0;
    const pairs = ranges.length / 2;
    neighbour.link.transmit(encodeRanges(HAVE, this.#tag, start, ranges, pairs, flags));
  }
}
