/**
 * The simulated world: one virtual clock, one heap of events, all chance from one seed, one trace.
 * Nothing here knows what runs in it. Time moves from event to event; a run that takes a minute of
 * virtual time takes as long as its events take to compute.
 */

import { type Rng, seededRng } from "../base/rng.ts";
import { type Action, EventHeap } from "./event-heap.ts";
import { Trace } from "./trace.ts";

export interface Violation {
  /** The checker or part of the harness that found it. */
  readonly checker: string;
  readonly atMs: number;
  readonly message: string;
}

/** Of one checker so many are kept: more would say the same. */
const VIOLATIONS_PER_CHECKER_MAX = 5;

export class World {
  readonly seed: number;
  readonly trace = new Trace();
  readonly violations: Violation[] = [];
  nowMs = 0;
  eventCount = 0;
  readonly #heap = new EventHeap();
  readonly #violationCounts = new Map<string, number>();
  /** Readable history for a person, kept only while someone asks for it. */
  log: ((line: string) => void) | undefined;

  constructor(seed: number) {
    this.seed = seed;
  }

  /** A generator of its own for `label`: chance spent in one place does not shift another's. */
  rng(label: string): Rng {
    let hash = (this.seed ^ 0x811c9dc5) >>> 0;
    for (let i = 0; i < label.length; i++) hash = Math.imul(hash ^ label.charCodeAt(i), 0x01000193);
    return seededRng(hash >>> 0);
  }

  /** Runs `action` at `atMs`, now at the earliest. */
  at(atMs: number, action: Action): void {
    this.#heap.push(Math.max(atMs, this.nowMs), action);
  }

  after(delayMs: number, action: Action): void {
    this.at(this.nowMs + delayMs, action);
  }

  /** Runs events until `untilMs`, until there are none or `done` says so. Returns whether it did. */
  run(untilMs: number, done: () => boolean = () => false): boolean {
    const heap = this.#heap;
    while (heap.earliestMs <= untilMs) {
      this.nowMs = heap.earliestMs;
      this.eventCount++;
      heap.pop()();
      if (done()) return true;
    }
    if (Number.isFinite(untilMs) && untilMs > this.nowMs) this.nowMs = untilMs;
    return done();
  }

  violate(checker: string, message: string): void {
    const count = (this.#violationCounts.get(checker) ?? 0) + 1;
    this.#violationCounts.set(checker, count);
    if (count > VIOLATIONS_PER_CHECKER_MAX) return;
    this.violations.push({ checker, atMs: this.nowMs, message });
    this.log?.(`${this.nowMs.toFixed(3)} VIOLATION ${checker}: ${message}`);
  }
}

/** Exponential interval with the mean `meanMs`. */
export function exponentialMs(rng: Rng, meanMs: number): number {
  return -Math.log(1 - rng.next()) * meanMs;
}

/** Uniform in [low, high). */
export function between(rng: Rng, low: number, high: number): number {
  return low + rng.next() * (high - low);
}

/** Log-uniform in [low, high): each order of magnitude equally likely. `low` > 0. */
export function betweenLog(rng: Rng, low: number, high: number): number {
  return low * (high / low) ** rng.next();
}

export function chance(rng: Rng, probability: number): boolean {
  return rng.next() < probability;
}
