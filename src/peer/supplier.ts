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
/** Without an answer for longer than a dead link stands (LINK_DEAD_MS), it holds nothing. */
const MUTE_MS = 30_000;

export class Supplier {
  readonly neighbour: Neighbour;
  /** As a partner. */
  readonly pushes = new Punctuality();
  /** Asked for and not there yet, in the order in which it was asked; with the time of each. */
  readonly asked: FragmentIndex[] = [];
  readonly #sentMs: MonoMs[] = [];
  readonly #dueMs: MonoMs[] = [];
  /** Whether a request found nothing before it. */
  readonly #alone: boolean[] = [];
  #roundTripMs = ROUND_TRIP_MS_FIRST;
  #varianceMs = ROUND_TRIP_MS_FIRST / 2;
  #serviceMs = SERVICE_MS_FIRST;
  #answeredMs: MonoMs = Number.NEGATIVE_INFINITY;
  #answers = 0;
  /** Timeouts since the last answer. */
  #strikes = 0;
  #firstStrikeMs: MonoMs = 0;
  #struckMs: MonoMs = 0;
  #notBeforeMs: MonoMs = 0;

  constructor(neighbour: Neighbour) {
    this.neighbour = neighbour;
  }

  /** It let several requests in a row lie: what it advertises may not be there to be had. */
  isDoubtful(nowMs: MonoMs): boolean {
    return this.#strikes >= STRIKES_DOUBTFUL && nowMs - this.#struckMs < DOUBTFUL_MS;
  }

  /** And nothing came of it for long: it holds nothing, whatever it says. */
  isMute(nowMs: MonoMs): boolean {
    return this.#strikes >= STRIKES_DOUBTFUL && nowMs - this.#firstStrikeMs >= MUTE_MS;
  }

  /** It pushed something: it is there. */
  pushed(): void {
    this.#strikes = 0;
  }

  get roundTripMs(): number {
    return this.#roundTripMs;
  }

  /** How many more fragments it may be asked for now. */
  room(nowMs: MonoMs): number {
    if (!this.neighbour.mapKnown || nowMs < this.#notBeforeMs) return 0;
    let most = Math.floor(IN_FLIGHT_SPAN_MS / this.#serviceMs);
    most = Math.max(IN_FLIGHT_MIN, Math.min(REQUESTS_IN_FLIGHT_MAX, most));
    if (this.#answers < IN_FLIGHT_FIRST) most = Math.min(most, IN_FLIGHT_FIRST);
    if (this.#strikes > 0) most = this.#strikes >= STRIKES_MAX ? 1 : most >> this.#strikes;
    return Math.max(1, most) - this.asked.length;
  }

  /** In how long one more request would be answered. */
  expectedMs(): number {
    return (this.#roundTripMs + this.#serviceMs * this.asked.length) * (1 + this.#strikes);
  }

  ask(index: FragmentIndex, nowMs: MonoMs): void {
    const waitMs = 3 * this.expectedMs() + 4 * this.#varianceMs;
    this.#alone.push(this.asked.length === 0);
    this.asked.push(index);
    this.#sentMs.push(nowMs);
    this.#dueMs.push(nowMs + Math.min(TIMEOUT_MS_MAX, Math.max(TIMEOUT_MS_MIN, waitMs)));
    this.neighbour.requestsInFlight = this.asked.length;
  }

  /** Fragment `index` came from it. Returns whether it was asked for it. */
  answered(index: FragmentIndex, nowMs: MonoMs): boolean {
    const at = this.asked.indexOf(index);
    if (at < 0) return false;
    const sentMs = this.#sentMs[at] as number;
    if (this.#alone[at] === true) {
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
    this.#removeAt(at);
    return true;
  }

  /** Nothing is waited for any more in [first, end). Calls `dropped` for each. */
  forget(first: FragmentIndex, end: FragmentIndex, dropped: (index: FragmentIndex) => void): void {
    for (let at = this.asked.length - 1; at >= 0; at--) {
      const index = this.asked[at] as number;
      if (index < first || index >= end) continue;
      this.#removeAt(at);
      dropped(index);
    }
  }

  /** Requests whose time is over are forgotten: `dropped` is called for each. */
  expire(nowMs: MonoMs, dropped: (index: FragmentIndex) => void): void {
    let any = false;
    for (let at = this.asked.length - 1; at >= 0; at--) {
      if (nowMs < (this.#dueMs[at] as number)) continue;
      const index = this.asked[at] as number;
      this.#removeAt(at);
      dropped(index);
      any = true;
    }
    if (!any) return;
    if (this.#strikes++ === 0) this.#firstStrikeMs = nowMs;
    this.#struckMs = nowMs;
  }

  /** When the first of its requests is over; Infinity when none is under way. */
  dueMs(): MonoMs {
    let dueMs = Number.POSITIVE_INFINITY;
    for (const each of this.#dueMs) if (each < dueMs) dueMs = each;
    return dueMs;
  }

  /** How long ago it was asked for `index`; 0 when it was not. */
  waitedMs(index: FragmentIndex, nowMs: MonoMs): number {
    const at = this.asked.indexOf(index);
    return at < 0 ? 0 : nowMs - (this.#sentMs[at] as number);
  }

  /** It said BUSY: nothing is asked of it before then. */
  busy(untilMs: MonoMs): void {
    this.#notBeforeMs = Math.max(this.#notBeforeMs, untilMs);
  }

  checkInvariants(): void {
    assert(this.asked.length <= REQUESTS_IN_FLIGHT_MAX, "requests under way within the limit");
    assert(new Set(this.asked).size === this.asked.length, "a fragment is asked for once a link");
    assert(this.neighbour.requestsInFlight === this.asked.length, "requests in flight");
  }

  #removeAt(at: number): void {
    this.asked.splice(at, 1);
    this.#sentMs.splice(at, 1);
    this.#dueMs.splice(at, 1);
    this.#alone.splice(at, 1);
    this.neighbour.requestsInFlight = this.asked.length;
  }
}
