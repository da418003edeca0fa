/**
 * One neighbour as a supplier of pulled fragments (R10.a): what it was asked for, how fast it
 * answers, and how much it is to be asked for at a time.
 *
 * Two figures are learned from its answers: the round trip of a request that found nothing before
 * it, and the time it takes for each further one of a queue. Together they say when one more request
 * would be answered: that is how suppliers are compared. Nobody's word is taken for it.
 */

import { assert } from "../base/assert.ts";
import { REQUESTS_IN_FLIGHT_MAX } from "../base/limits.ts";
import type { FragmentIndex, MonoMs } from "../base/units.ts";
import type { Neighbour } from "./neighbour.ts";
import { Punctuality } from "./punctuality.ts";
import type { Rank } from "./ranking.ts";

/** Until the first answer: a path of some length, a link that is not the slowest. */
const ROUND_TRIP_MS_FIRST = 100;
const SERVICE_MS_FIRST = 10;
/** Requests under way are to be answered within this; more would only wait there. */
const IN_FLIGHT_SPAN_MS = 800;
const IN_FLIGHT_MIN = 4;
const IN_FLIGHT_FIRST = 16;
/** A request waits at least and at most this long. */
const TIMEOUT_MS_MIN = 2_500;
const TIMEOUT_MS_MAX = 6_000;
/** Timeouts in a row after which it is asked for one fragment at a time. */
const STRIKES_MAX = 4;
/** And after which nobody counts on what it says that it holds, for so long. */
const STRIKES_DOUBTFUL = 2;
const DOUBTFUL_MS = 30_000;
/** As are so many refusals in a row, over so long, without a fragment. */
const REFUSALS_DOUBTFUL = 8;
const REFUSED_MS = 5_000;
/** Who says BUSY is let be at least so long. */
const BUSY_MS_MIN = 50;
/** It may say a longer time: it is asked again all the same, and found out if it always declines. */
const BUSY_MS_MAX = 5_000;
/** Without an answer for longer than a dead link stands (LINK_DEAD_MS), it holds nothing. */
const MUTE_MS = 30_000;

interface Request {
  readonly index: FragmentIndex;
  readonly sentMs: MonoMs;
  readonly dueMs: MonoMs;
  /** It found nothing before it. */
  readonly isAlone: boolean;
}

export class Supplier {
  readonly neighbour: Neighbour;
  /** Of two suppliers the one that came first has the lower one. */
  readonly order: number;
  /** As a partner. */
  readonly pushes = new Punctuality();
  /** Of the Ranking that it is in. */
  readonly rank: Rank = { timeClass: -1, place: 0 };
  /** It holds nothing that is to be asked for; Suppliers alone change it. */
  isResting = false;
  /** Under way, in the order in which it was asked. */
  readonly #requests: Request[] = [];
  /** As many may be, unless it is busy. */
  #requestsMax = IN_FLIGHT_FIRST;
  #roundTripMs = ROUND_TRIP_MS_FIRST;
  #varianceMs = ROUND_TRIP_MS_FIRST / 2;
  #serviceMs = SERVICE_MS_FIRST;
  #answeredMs: MonoMs = Number.NEGATIVE_INFINITY;
  #answers = 0;
  /** Timeouts since the last answer. */
  #strikes = 0;
  #firstStrikeMs: MonoMs = 0;
  #struckMs: MonoMs = 0;
  /** Requests that it declined, or withdrew what was asked for, since the last answer. */
  #refusals = 0;
  #firstRefusalMs: MonoMs = 0;
  #refusedMs: MonoMs = 0;
  #notBeforeMs: MonoMs = 0;

  constructor(neighbour: Neighbour, order = 0) {
    this.neighbour = neighbour;
    this.order = order;
  }

  /** What it was asked for and did not send yet. */
  get asked(): FragmentIndex[] {
    return this.#requests.map(({ index }) => index);
  }

  /** It let or refused several requests in a row: what it advertises may not be there to be had. */
  isDoubtful(nowMs: MonoMs): boolean {
    if (this.#strikes >= STRIKES_DOUBTFUL && nowMs - this.#struckMs < DOUBTFUL_MS) return true;
    return this.#refusesFor(REFUSED_MS) && nowMs - this.#refusedMs < DOUBTFUL_MS;
  }

  /** And nothing came of it for long: it holds nothing, whatever it says. */
  isMute(nowMs: MonoMs): boolean {
    if (this.#strikes >= STRIKES_DOUBTFUL && nowMs - this.#firstStrikeMs >= MUTE_MS) return true;
    return this.#refusesFor(MUTE_MS);
  }

  #refusesFor(ms: number): boolean {
    const refusedForMs = this.#refusedMs - this.#firstRefusalMs;
    return this.#refusals >= REFUSALS_DOUBTFUL && refusedForMs >= ms;
  }

  /** It pushed something: it is there. */
  pushed(): void {
    this.#refusals = 0;
    if (this.#strikes === 0) return;
    this.#strikes = 0;
    this.#requestsMax = this.#countRequestsMax();
  }

  get roundTripMs(): number {
    return this.#roundTripMs;
  }

  /** How many more fragments it may be asked for now. */
  room(nowMs: MonoMs): number {
    return !this.neighbour.mapKnown || nowMs < this.#notBeforeMs ? 0 : this.spare;
  }

  /** And when it is not busy, and what it holds is known. */
  get spare(): number {
    return this.#requestsMax - this.#requests.length;
  }

  /** In how long one more request would be answered. */
  expectedMs(): number {
    return (this.#roundTripMs + this.#serviceMs * this.#requests.length) * (1 + this.#strikes);
  }

  /** Returns when the request is over. */
  ask(index: FragmentIndex, nowMs: MonoMs): MonoMs {
    const waitMs = 3 * this.expectedMs() + 4 * this.#varianceMs;
    const dueMs = nowMs + Math.min(TIMEOUT_MS_MAX, Math.max(TIMEOUT_MS_MIN, waitMs));
    this.#requests.push({ index, sentMs: nowMs, dueMs, isAlone: this.#requests.length === 0 });
    this.neighbour.requestsInFlight = this.#requests.length;
    return dueMs;
  }

  /** Fragment `index` came from it. Returns whether it was asked for it. */
  answered(index: FragmentIndex, nowMs: MonoMs): boolean {
    const at = this.#placeOf(index);
    if (at < 0) return false;
    const { sentMs, isAlone } = this.#requests[at] as Request;
    if (isAlone) {
      const sampleMs = nowMs - sentMs;
      const errorMs = Math.abs(sampleMs - this.#roundTripMs);
      this.#varianceMs += (errorMs - this.#varianceMs) / 4;
      this.#roundTripMs += (sampleMs - this.#roundTripMs) / 4;
    } else {
      const sampleMs = nowMs - Math.max(sentMs, this.#answeredMs);
      this.#serviceMs += (sampleMs - this.#serviceMs) / 8;
      this.#serviceMs = Math.max(0.01, this.#serviceMs);
    }
    this.#answeredMs = nowMs;
    this.#answers++;
    this.#strikes = 0;
    this.#refusals = 0;
    this.#requestsMax = this.#countRequestsMax();
    this.#removeAt(at);
    return true;
  }

  /** Nothing is waited for any more in [first, end). Calls `dropped` for each. */
  forget(first: FragmentIndex, end: FragmentIndex, dropped: (index: FragmentIndex) => void): void {
    for (let at = this.#requests.length - 1; at >= 0; at--) {
      const { index } = this.#requests[at] as Request;
      if (index < first || index >= end) continue;
      this.#removeAt(at);
      dropped(index);
    }
  }

  /** Requests whose time is over are forgotten: `dropped` is called for each. */
  expire(nowMs: MonoMs, dropped: (index: FragmentIndex) => void): void {
    let any = false;
    for (let at = this.#requests.length - 1; at >= 0; at--) {
      const { index, dueMs } = this.#requests[at] as Request;
      if (nowMs < dueMs) continue;
      this.#removeAt(at);
      dropped(index);
      any = true;
    }
    if (!any) return;
    if (this.#strikes++ === 0) this.#firstStrikeMs = nowMs;
    this.#struckMs = nowMs;
    this.#requestsMax = this.#countRequestsMax();
  }

  /** When the first of its requests is over; Infinity when none is under way. */
  dueMs(): MonoMs {
    let firstMs = Number.POSITIVE_INFINITY;
    for (const { dueMs } of this.#requests) if (dueMs < firstMs) firstMs = dueMs;
    return firstMs;
  }

  /** How long ago it was asked for `index`; 0 when it was not. */
  waitedMs(index: FragmentIndex, nowMs: MonoMs): number {
    const at = this.#placeOf(index);
    return at < 0 ? 0 : nowMs - (this.#requests[at] as Request).sentMs;
  }

  /** It said BUSY: nothing is asked of it for so long. */
  busy(retryAfterMs: number, nowMs: MonoMs): void {
    const untilMs = nowMs + Math.min(BUSY_MS_MAX, Math.max(BUSY_MS_MIN, retryAfterMs));
    this.#notBeforeMs = Math.max(this.#notBeforeMs, untilMs);
  }

  /** It will not send what it was asked for. */
  refused(nowMs: MonoMs): void {
    if (this.#refusals++ === 0) this.#firstRefusalMs = nowMs;
    this.#refusedMs = nowMs;
  }

  checkInvariants(): void {
    const { asked } = this;
    assert(asked.length <= REQUESTS_IN_FLIGHT_MAX, "requests under way within the limit");
    assert(new Set(asked).size === asked.length, "a fragment is asked for once a link");
    assert(this.neighbour.requestsInFlight === asked.length, "requests in flight");
    assert(this.#requestsMax === this.#countRequestsMax(), "as many as it answers well");
  }

  #countRequestsMax(): number {
    let most = Math.floor(IN_FLIGHT_SPAN_MS / this.#serviceMs);
    most = Math.max(IN_FLIGHT_MIN, Math.min(REQUESTS_IN_FLIGHT_MAX, most));
    if (this.#answers < IN_FLIGHT_FIRST) most = Math.min(most, IN_FLIGHT_FIRST);
    if (this.#strikes > 0) most = this.#strikes >= STRIKES_MAX ? 1 : most >> this.#strikes;
    return Math.max(1, most);
  }

  /** Of the request for `index`; -1 when there is none. Most answers come in order. */
  #placeOf(index: FragmentIndex): number {
    const requests = this.#requests;
    for (let at = 0; at < requests.length; at++) {
      if ((requests[at] as Request).index === index) return at;
    }
    return -1;
  }

  #removeAt(at: number): void {
    if (at === 0) this.#requests.shift();
    else this.#requests.splice(at, 1);
    this.neighbour.requestsInFlight = this.#requests.length;
  }
}
