/**
 * What partners are to push is left to them for a while: of each substream all from one index on,
 * its bound. What lies below it is asked for.
 */

import type { FragmentIndex, MonoMs } from "../base/units.ts";
import type { Picker } from "../stream/picker.ts";
import type { FragmentWindow } from "../stream/window.ts";
import type { KnownTimes } from "./known-times.ts";
import type { Neighbour } from "./neighbour.ts";
import { firstMissingOf, turnMs } from "./substreams.ts";
import type { Supplier } from "./supplier.ts";
import type { Suppliers } from "./suppliers.ts";

/** What only the source peer holds is left to its pushes for this long, or as partners are late. */
export const SOURCE_GRACE_MS = 2_000;
/** And no longer: who was to hand it on may be stuck, and after repairMs others give it up. */
const SOURCE_GRACE_MS_MAX = 4_000;
/** Live: where little time is left it is half of it, but not less than this. */
const SOURCE_GRACE_MS_MIN = 250;
/** What somebody was asked to push is left to it for so long, who may have said yes already. */
const ACCEPT_GRACE_MS = 500;
/**
 * A partner that got nothing new itself for this long is not waited for any longer than this: who
 * does is found lagging in turn, and at the end others are gone by then.
 */
const QUIET_MS = 2_500;
const QUIET_PATIENCE_MS = 500;

type Partners = readonly (Neighbour | undefined)[];

interface PushBoundsParts {
  readonly window: FragmentWindow;
  readonly picker: Picker;
  readonly suppliers: Suppliers;
  readonly times: KnownTimes;
  /** No partner is waited for longer. */
  readonly patienceMs: number;
}

export class PushBounds {
  readonly #window: FragmentWindow;
  readonly #picker: Picker;
  readonly #suppliers: Suppliers;
  readonly #times: KnownTimes;
  readonly #patienceMs: number;
  readonly #substreams: number;
  readonly #bounds: Float64Array;
  /** What the partner of each substream owes first, and since when. */
  readonly #owedIndex: Float64Array;
  readonly #owedMs: Float64Array;

  constructor({ window, picker, suppliers, times, patienceMs }: PushBoundsParts) {
    this.#window = window;
    this.#picker = picker;
    this.#suppliers = suppliers;
    this.#times = times;
    this.#patienceMs = patienceMs;
    this.#substreams = picker.substreams;
    this.#bounds = new Float64Array(picker.substreams);
    this.#owedIndex = new Float64Array(picker.substreams);
    this.#owedMs = new Float64Array(picker.substreams);
  }

  /** From here on substream s is left to who pushes it; Infinity = nobody does. */
  of(s: number): FragmentIndex {
    return this.#bounds[s] as FragmentIndex;
  }

  /**
   * Sets them as they are now, here and in the picker. partners[s] pushes substream s (undefined =
   * nobody); of those `awaited` the answer to being asked to push is still to come.
   */
  update(partners: Partners, awaited: Iterable<Neighbour>, nowMs: MonoMs): void {
    const turn = turnMs(this.#times, this.#substreams, nowMs);
    for (let s = 0; s < this.#substreams; s++) {
      const partner = partners[s];
      let bound = Number.POSITIVE_INFINITY;
      if (partner !== undefined) {
        const { pushes } = this.#suppliers.of(partner) as Supplier;
        const activeMs = Math.max(partner.lastDataMs, partner.pullSinceMs);
        const isActive = nowMs - partner.advancedMs < QUIET_MS;
        let waitMs = pushes.lateMs(
          turn,
          isActive ? this.#patienceMs : Math.min(this.#patienceMs, QUIET_PATIENCE_MS),
        );
        const owed = this.#owed(partner, s);
        if (owed !== this.#owedIndex[s]) {
          this.#owedIndex[s] = owed;
          this.#owedMs[s] = nowMs;
        }
        let passedOver = 0;
        if (owed >= 0) {
          const idleMs = pushes.idleMs(turn);
          if (nowMs - activeMs > idleMs) waitMs = Math.min(waitMs, idleMs);
          const forMs = nowMs - (this.#owedMs[s] as MonoMs);
          if (owed < pushes.pushedTo && forMs > idleMs) passedOver = owed + 1;
        }
        // What it was not asked for it does not push, nor what it passed over.
        // Who pushed it before goes on with what lies behind.
        const before = partner.tookOver[s];
        const hasTail = before !== undefined && this.#suppliers.of(before) !== undefined;
        bound = Math.max(
          this.#times.knownBefore(waitMs, nowMs),
          hasTail ? 0 : (partner.pullFrom[s] as FragmentIndex),
          partner.remoteStart,
          passedOver,
        );
      } else {
        const from = this.#askedToPush(s, awaited, nowMs);
        if (from >= 0) bound = Math.max(this.#times.knownBefore(ACCEPT_GRACE_MS, nowMs), from);
      }
      this.#bounds[s] = bound;
      this.#picker.pushedFrom(s, bound);
    }
  }

  /** How long the source peer's pushes may take on their way here. */
  sourceGraceMs(partners: Partners, nowMs: MonoMs): number {
    let graceMs = SOURCE_GRACE_MS;
    const turn = turnMs(this.#times, this.#substreams, nowMs);
    for (const partner of partners) {
      if (partner === undefined) continue;
      const { pushes } = this.#suppliers.of(partner) as Supplier;
      graceMs = Math.max(graceMs, pushes.lateMs(turn, this.#patienceMs));
    }
    return Math.min(
      graceMs,
      SOURCE_GRACE_MS_MAX,
      Math.max(this.#patienceMs / 2, SOURCE_GRACE_MS_MIN),
    );
  }

  /** What is missing first of substream s, if `partner` holds it and so could push it; else -1. */
  #owed(partner: Neighbour, s: number): FragmentIndex {
    const from = Math.max(this.#window.start, partner.pullFrom[s] as FragmentIndex);
    const to = Math.min(partner.remoteHighest, partner.grantedLimit);
    if (from >= to) return -1;
    const index = firstMissingOf(this.#window, this.#substreams, s, from, to);
    return index < to && partner.holds(index) ? index : -1;
  }

  /** From which index on a member was just asked to push substream s; -1 = none was. */
  #askedToPush(s: number, awaited: Iterable<Neighbour>, nowMs: MonoMs): FragmentIndex {
    let first: Supplier | undefined;
    for (const neighbour of awaited) {
      const { askedMask, askedMs, isSource } = neighbour;
      if (isSource || (askedMask & (1 << s)) === 0 || nowMs - askedMs >= ACCEPT_GRACE_MS) continue;
      const supplier = this.#suppliers.of(neighbour) as Supplier;
      if (first === undefined || supplier.order < first.order) first = supplier;
    }
    return first === undefined ? -1 : (first.neighbour.pullFrom[s] as FragmentIndex);
  }
}
