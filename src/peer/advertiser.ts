/**
 * What a node tells its neighbours about its window: the buffermap when a link comes up or asks for
 * it, HAVE for what was stored since (each index once a link), credit for what it still takes.
 *
 * A fragment is queued here only after it was verified and stored, so nothing is advertised that is
 * not held. HAVE leaves when HAVE_BATCH_FRAGMENTS have gathered or the oldest waited: HAVE_DELAY_MS
 * where the next copy of it may come from, and for the source peer, which keeps what nobody has;
 * HAVE_DELAY_MS_MAX where it is only of use to who looks for what its partners let lie. On a slow
 * stream HAVE is most of what control costs, and the latter are most of the neighbours.
 */

import { Deadlines } from "../base/deadlines.ts";
import {
  FRAME_TYPES,
  HAVE_FLAG_HELD_BACK,
  HAVE_READERS_MASK,
  HAVE_READERS_SHIFT,
} from "../base/layout.ts";
import {
  HAVE_BATCH_FRAGMENTS,
  HAVE_DELAY_MS,
  HAVE_DELAY_MS_MAX,
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
import { substreamOf } from "./settings.ts";

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
  /** Indices stored and not yet advertised to all, in order of arrival, and the place of the first. */
  #log: FragmentIndex[] = [];
  #logBase = 0;
  readonly #substreams: number;
  #grantedTo: FragmentIndex = 0;
  /** By what neighbours were looked at last: while it is the same, none of them is to be told more. */
  readonly #lookedAt = { start: -1, highest: -1, limit: -1 };
  #refreshedMs: MonoMs = Number.NEGATIVE_INFINITY;
  #flags = 0;
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
    substreams: number,
  ) {
    this.#substreams = substreams;
    this.#started = started;
    this.#pace = pace;
    this.#context = context;
    this.#window = window;
    this.#tag = tag;
    this.#neighbours = neighbours;
  }

  /** Nobody was granted more. */
  get grantedTo(): FragmentIndex {
    return this.#grantedTo;
  }

  get deadlineMs(): MonoMs {
    return this.#deadlines.earliestMs();
  }

  /** How many indices are kept because a neighbour is still to be told of them. */
  get untold(): number {
    return this.#log.length;
  }

  /** Fragment `index` is held now; `from` sent it. `atOnce`: all are to know without delay. */
  stored(index: FragmentIndex, from: Neighbour | undefined, atOnce: boolean): void {
    if (this.#neighbours.length === 0) {
      // Who comes is told the whole map: without neighbours nothing is ever due, and nothing kept.
      this.#logBase = this.#logEnd + 1;
      this.#log.length = 0;
      return;
    }
    this.#log.push(index);
    const nowMs = this.#context.now.monoMs;
    const bit = 1 << substreamOf(index, this.#substreams);
    for (const neighbour of this.#neighbours) {
      const pushed = neighbour.awaitingAccept ? neighbour.askedMask : neighbour.pullMask;
      const isUrgent = neighbour.isSource || (neighbour !== from && (pushed & bit) !== 0);
      let dueMs = nowMs + (isUrgent ? HAVE_DELAY_MS : HAVE_DELAY_MS_MAX);
      if (atOnce || this.#logEnd - neighbour.haveTold >= HAVE_BATCH_FRAGMENTS) dueMs = nowMs;
      this.#tellBy(neighbour, dueMs);
    }
  }

  #tellBy(neighbour: Neighbour, dueMs: MonoMs): void {
    if (dueMs >= neighbour.haveDueMs) return;
    neighbour.haveDueMs = dueMs;
    this.#deadlines.setIfEarlier("have", dueMs);
  }

  /**
   * Neighbours are told when it changes, once the start is chosen. `heldBack`: this node is full
   * because of others; `readers`: it is a virtual peer, and so many read what it passes on.
   */
  say(heldBack: boolean, readers: number): void {
    const flags =
      (heldBack ? HAVE_FLAG_HELD_BACK : 0) |
      (Math.min(readers, HAVE_READERS_MASK >>> HAVE_READERS_SHIFT) << HAVE_READERS_SHIFT);
    if (flags === this.#flags) return;
    this.#flags = flags;
    // A HAVE would declare a start: it is told with that.
    if (!this.#started) return;
    this.flush();
    for (const neighbour of this.#neighbours) this.#tell(neighbour, []);
  }

  /** Sends what is due; credit at once when `all`. */
  run(takes: boolean, all: boolean): void {
    const nowMs = this.#context.now.monoMs;
    const { start, highest } = this.#window;
    const { limit } = this.#pace;
    const looked = this.#lookedAt;
    const isStart = looked.start === start;
    const isSame = isStart && looked.highest === highest && looked.limit === limit;
    if (this.#started && !isStart) {
      looked.start = start;
      // A start that moved is told even when nothing new is held: others wait for it.
      for (const neighbour of this.#neighbours) {
        if (neighbour.haveToldStart !== start) this.#tellBy(neighbour, nowMs + HAVE_DELAY_MS);
      }
    }
    if (this.#deadlines.take("have", nowMs)) this.#tellDue(nowMs);
    if (this.#deadlines.take("maps", nowMs)) this.#tellDueMaps();
    if (!takes) return;
    const due = this.#deadlines.take("credit", nowMs) || all;
    if (isSame && !due) return;
    looked.highest = highest;
    looked.limit = limit;
    for (const neighbour of this.#neighbours) this.grant(neighbour, due);
  }

  /** The start is chosen: all are told. */
  start(): void {
    this.#started = true;
    for (const neighbour of this.#neighbours) this.#tell(neighbour, []);
  }

  /** HAVE for all that was not told yet, to all. */
  flush(): void {
    this.#tellDue(Number.POSITIVE_INFINITY);
  }

  /** HAVE to those who are to be told by `nowMs`, of all that is new to each. */
  #tellDue(nowMs: MonoMs): void {
    const { start } = this.#window;
    // Most are at the same place.
    let told = -1;
    let ranges: number[] = [];
    let nextMs = Number.POSITIVE_INFINITY;
    let leastTold = this.#logEnd;
    for (const neighbour of this.#neighbours) {
      if (neighbour.haveDueMs > nowMs) {
        nextMs = Math.min(nextMs, neighbour.haveDueMs);
        leastTold = Math.min(leastTold, neighbour.haveTold);
        continue;
      }
      if (neighbour.haveTold !== told) {
        told = neighbour.haveTold;
        ranges = rangesOf(this.#log.slice(told - this.#logBase), start);
      }
      neighbour.haveTold = this.#logEnd;
      neighbour.haveDueMs = Number.POSITIVE_INFINITY;
      if (ranges.length === 0 && (!this.#started || neighbour.haveToldStart === start)) continue;
      let at = 0;
      do {
        this.#tell(neighbour, ranges.slice(at, at + 2 * RANGES_PER_FRAME_MAX));
        at += 2 * RANGES_PER_FRAME_MAX;
      } while (at < ranges.length);
    }
    this.#log.splice(0, leastTold - this.#logBase);
    this.#logBase = leastTold;
    if (nextMs < Number.POSITIVE_INFINITY) this.#deadlines.set("have", nextMs);
    else this.#deadlines.clear("have");
  }

  get #logEnd(): number {
    return this.#logBase + this.#log.length;
  }

  /**
   * A link came up: the buffermap, and credit when this node takes DATA, which it had without a gap
   * from `hadFrom` on (undefined: it takes none yet). The source peer is told of that first when its
   * window starts elsewhere: to it the last start before CREDIT is where a member began, and what a
   * member had from there on, over whatever links, is held.
   */
  cameUp(neighbour: Neighbour, hadFrom: FragmentIndex | undefined): void {
    const { start } = this.#window;
    if (neighbour.isSource && hadFrom !== undefined && hadFrom !== start) {
      this.#tell(neighbour, [], hadFrom);
      // No other start before CREDIT; the buffermap tells it.
      neighbour.haveToldStart = start;
      this.grant(neighbour, true);
    }
    this.buffermap(neighbour);
    if (hadFrom !== undefined) this.grant(neighbour, true);
  }

  /**
   * The whole buffermap. A newcomer that does not know where to start declares 0: neighbours keep
   * what they hold for it until it says more. A map costs work and bytes that asking does not: who
   * asks more than REFRESHES_PER_SECOND_MAX is told one when the second is over.
   */
  buffermap(neighbour: Neighbour): void {
    const nowMs = this.#context.now.monoMs;
    // Added up as the deadline below is: rounded otherwise, that would be due again and again.
    if (nowMs >= neighbour.mapsSinceMs + REFRESH_SPAN_MS) {
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
    for (const neighbour of this.#neighbours) if (neighbour.mapDue) this.buffermap(neighbour);
  }

  #sendMap(neighbour: Neighbour): void {
    const window = this.#window;
    neighbour.haveTold = this.#logEnd;
    neighbour.haveDueMs = Number.POSITIVE_INFINITY;
    if (this.#started) neighbour.haveToldStart = window.start;
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
    if (this.#flags !== 0) this.#tell(neighbour, []);
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
    // With little download nothing may come that went before the start: that is to be known first.
    const startsLater = this.#context.download.isLimited && this.#started;
    if (startsLater && neighbour.haveToldStart !== this.#window.start) this.#tell(neighbour, []);
    neighbour.grantedLimit = limit;
    if (limit > this.#grantedTo) this.#grantedTo = limit;
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

  #tell(neighbour: Neighbour, ranges: number[], start = this.#window.start): void {
    const { HAVE } = FRAME_TYPES;
    neighbour.haveToldStart = start;
    const pairs = ranges.length / 2;
    neighbour.link.transmit(encodeRanges(HAVE, this.#tag, start, ranges, pairs, this.#flags));
  }
}

/** Ascending pairs (first, count) of `indices` at or above `start`, each of which occurs once. */
function rangesOf(indices: FragmentIndex[], start: FragmentIndex): number[] {
  const ranges: number[] = [];
  for (const index of indices.sort((a, b) => a - b)) {
    if (index < start) continue;
    const last = ranges.length - 2;
    if (last >= 0 && (ranges[last] as number) + (ranges[last + 1] as number) === index) {
      ranges[last + 1] = (ranges[last + 1] as number) + 1;
    } else {
      ranges.push(index, 1);
    }
  }
  return ranges;
}
