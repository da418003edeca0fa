/**
 * Pulling what is missing (R10.a): what no partner pushes, or what a partner that should push it
 * let lie too long, is asked for where it is advertised, lowest index first. Requests that are not
 * answered in time move elsewhere. The source peer is asked last: its upload is everybody's.
 */

import { FRAME_TYPES } from "../base/layout.ts";
import { REQUESTS_IN_FLIGHT_MAX, SUBSTREAM_RUN } from "../base/limits.ts";
import type { FragmentIndex, MonoMs } from "../base/units.ts";
import { encodeRanges } from "../protocol/r10-binary.ts";
import type { FragmentWindow, WindowMap } from "../stream/window.ts";
import type { PeerContext } from "./context.ts";
import type { Neighbour } from "./neighbour.ts";
import { substreamOf } from "./settings.ts";

/** A request that was not answered within this moves elsewhere. */
const REQUEST_TIMEOUT_MS = 2_000;
/** A partner that has been silent for this while there was something to push is not waited for. */
const IDLE_PARTNER_MS = 300;
/** What an active partner has not pushed after this is asked for elsewhere. */
const LATE_PUSH_MS = 2_000;
/** What only the source peer holds is left to its pushes for this long. */
const SOURCE_GRACE_MS = 1_000;
/** Samples of the highest known index: one each SAMPLE_MS, long enough for LATE_PUSH_MS. */
const SAMPLE_MS = 50;
const SAMPLES = 64;

interface Request {
  readonly neighbour: Neighbour;
  readonly first: FragmentIndex;
  readonly count: number;
  readonly deadlineMs: MonoMs;
}

export class Puller {
  readonly #context: PeerContext;
  readonly #window: FragmentWindow;
  readonly #tag: Uint8Array;
  readonly #substreams: number;
  /** Fragments asked for and not there yet. */
  readonly #requested: WindowMap;
  #requests: Request[] = [];
  readonly #sampleMs = new Float64Array(SAMPLES).fill(Number.POSITIVE_INFINITY);
  readonly #sampleIndex = new Float64Array(SAMPLES);
  #sampleAt = 0;
  #sampledMs = Number.NEGATIVE_INFINITY;

  constructor(context: PeerContext, window: FragmentWindow, tag: Uint8Array, substreams: number) {
    this.#context = context;
    this.#window = window;
    this.#tag = tag;
    this.#substreams = substreams;
    this.#requested = window.createMap();
  }

  get inFlight(): number {
    return this.#requests.length;
  }

  /** Fragment `index` is there or under verification: it is not asked for any more. */
  arrived(index: FragmentIndex): void {
    this.#window.unmark(this.#requested, index, index + 1);
  }

  /** A neighbour withdrew or lost [first, first + count), or it is gone altogether. */
  lost(neighbour: Neighbour, first = 0, count = Number.POSITIVE_INFINITY): void {
    const kept: Request[] = [];
    for (const request of this.#requests) {
      const outside = request.first >= first + count || request.first + request.count <= first;
      if (request.neighbour !== neighbour || outside) {
        kept.push(request);
        continue;
      }
      this.#forget(request);
    }
    this.#requests = kept;
  }

  /** Drops finished and timed-out requests. */
  expire(): void {
    const nowMs = this.#context.now.monoMs;
    let timedOut = 0;
    this.#requests = this.#requests.filter((request) => {
      const end = request.first + request.count;
      const open = this.#window.nextSet(this.#requested, request.first, end);
      if (open >= end) {
        request.neighbour.requestsInFlight -= request.count;
        return false;
      }
      if (nowMs < request.deadlineMs) return true;
      timedOut++;
      this.#forget(request);
      return false;
    });
    this.#context.counters.requestTimeouts += timedOut;
  }

  /** Notes how far the stream was known at this time; `limit` = what may come at all. */
  sample(known: FragmentIndex): void {
    const nowMs = this.#context.now.monoMs;
    if (nowMs - this.#sampledMs < SAMPLE_MS) return;
    this.#sampledMs = nowMs;
    this.#sampleMs[this.#sampleAt] = nowMs;
    this.#sampleIndex[this.#sampleAt] = known;
    this.#sampleAt = (this.#sampleAt + 1) % SAMPLES;
  }

  /** How long ago it was known that fragment `index` exists; 0 when it is not. */
  lagMs(index: FragmentIndex): number {
    let firstMs = Number.POSITIVE_INFINITY;
    for (let i = 0; i < SAMPLES; i++) {
      const ms = this.#sampleMs[i] as number;
      if ((this.#sampleIndex[i] as number) > index && ms < firstMs) firstMs = ms;
    }
    return Math.max(0, this.#context.now.monoMs - firstMs);
  }

  /** Everything below this was known `ageMs` ago. */
  #knownBefore(ageMs: number): FragmentIndex {
    const boundMs = this.#context.now.monoMs - ageMs;
    let known = 0;
    for (let i = 0; i < SAMPLES; i++) {
      const ms = this.#sampleMs[i] as number;
      if (ms <= boundMs && (this.#sampleIndex[i] as number) > known) {
        known = this.#sampleIndex[i] as number;
      }
    }
    return known;
  }

  /**
   * Asks for what is missing in [window start, to) and advertised by someone.
   * `partners[s]` pushes substream s; undefined = nobody.
   */
  run(
    neighbours: readonly Neighbour[],
    partners: readonly (Neighbour | undefined)[],
    pending: WindowMap,
    to: FragmentIndex,
  ): void {
    this.expire();
    const window = this.#window;
    const idleBefore = this.#knownBefore(IDLE_PARTNER_MS);
    const lateBefore = this.#knownBefore(LATE_PUSH_MS);
    const sourceBefore = this.#knownBefore(SOURCE_GRACE_MS);
    const nowMs = this.#context.now.monoMs;
    const wanted = new Map<Neighbour, number[]>();
    let index = window.firstMissing(window.start, to);
    while (index < to) {
      const partner = partners[substreamOf(index, this.#substreams)];
      if (partner !== undefined) {
        const activeMs = Math.max(partner.lastDataMs, partner.pullSinceMs);
        const idle = nowMs - activeMs > IDLE_PARTNER_MS;
        const overdue = index < (idle ? idleBefore : lateBefore);
        if (!overdue) {
          const next = (Math.floor(index / SUBSTREAM_RUN) + 1) * SUBSTREAM_RUN;
          index = window.firstMissing(next, to);
          continue;
        }
      }
      if (!window.test(this.#requested, index) && !window.test(pending, index)) {
        const supplier = this.#supplier(neighbours, index, index < sourceBefore);
        if (supplier !== undefined) this.#add(wanted, supplier, index);
        else if (neighbours.every((n) => n.requestsInFlight >= REQUESTS_IN_FLIGHT_MAX)) break;
      }
      index = window.firstMissing(index + 1, to);
    }
    for (const [neighbour, ranges] of wanted) this.#send(neighbour, ranges);
  }

  close(): void {
    for (const request of this.#requests) {
      request.neighbour.requestsInFlight -= request.count;
    }
    this.#requests = [];
    this.#window.releaseMap(this.#requested);
  }

  /** Who advertises `index`, can take a request, and has the fewest under way. */
  #supplier(
    neighbours: readonly Neighbour[],
    index: FragmentIndex,
    askSource: boolean,
  ): Neighbour | undefined {
    let best: Neighbour | undefined;
    let ties = 0;
    for (const neighbour of neighbours) {
      if (!neighbour.mapKnown || neighbour.requestsInFlight >= REQUESTS_IN_FLIGHT_MAX) continue;
      if (neighbour.isSource && !askSource && neighbours.length > 1) continue;
      if (!neighbour.mayBeAskedFor(index)) continue;
      const better =
        best === undefined ||
        (best.isSource && !neighbour.isSource) ||
        (best.isSource === neighbour.isSource &&
          neighbour.requestsInFlight < best.requestsInFlight);
      if (better) {
        best = neighbour;
        ties = 1;
      } else if (
        best !== undefined &&
        best.isSource === neighbour.isSource &&
        best.requestsInFlight === neighbour.requestsInFlight
      ) {
        ties++;
        if (this.#context.rng.below(ties) === 0) best = neighbour;
      }
    }
    return best;
  }

  #add(wanted: Map<Neighbour, number[]>, neighbour: Neighbour, index: FragmentIndex): void {
    let ranges = wanted.get(neighbour);
    if (ranges === undefined) {
      ranges = [];
      wanted.set(neighbour, ranges);
    }
    const last = ranges.length - 2;
    if (last >= 0 && (ranges[last] as number) + (ranges[last + 1] as number) === index) {
      ranges[last + 1] = (ranges[last + 1] as number) + 1;
    } else {
      ranges.push(index, 1);
    }
    neighbour.requestsInFlight++;
    this.#window.mark(this.#requested, index, index + 1);
  }

  #send(neighbour: Neighbour, ranges: number[]): void {
    neighbour.link.transmit(encodeRanges(FRAME_TYPES.GET, this.#tag, 0, ranges));
    const deadlineMs = this.#context.now.monoMs + REQUEST_TIMEOUT_MS;
    for (let i = 0; i < ranges.length; i += 2) {
      const first = ranges[i] as number;
      const count = ranges[i + 1] as number;
      this.#requests.push({ neighbour, first, count, deadlineMs });
      this.#context.counters.requestsSent += count;
    }
  }

  #forget(request: Request): void {
    request.neighbour.requestsInFlight -= request.count;
    this.#window.unmark(this.#requested, request.first, request.first + request.count);
  }
}
