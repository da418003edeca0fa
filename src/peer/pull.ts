/**
 * Pulling what is missing (R10.a): what no partner pushes, or what a partner that should push it
 * let lie too long, is asked for where it is advertised.
 *
 * Who is asked: the supplier that would answer soonest, a few fragments at a time, until all have
 * as many requests under way as they answer well. What it is asked for: of what it holds the urgent
 * part of the window by earliest deadline (lowest index), then the rest rarest first. When only a few
 * fragments are to be asked for it is the other way round: of each, who holds it is looked for. Who
 * turned out to hold nothing of what is left rests until it tells more, or something that others were
 * to send is to be had again.
 *
 * A request that is not answered in time is taken back (CANCEL) and moves elsewhere. What holds the
 * consumer up may be asked for a second time while the first request is under way, out of a small
 * budget that arriving fragments fill. The source peer is asked last: its upload is everybody's.
 */

import { assert } from "../base/assert.ts";
import { FRAME_TYPES, GET_FLAG_PATIENT } from "../base/layout.ts";
import type { FragmentIndex, MonoMs } from "../base/units.ts";
import { encodeRanges, rangesOf } from "../protocol/r10-binary.ts";
import { Picker } from "../stream/picker.ts";
import type { FragmentWindow, WindowMap } from "../stream/window.ts";
import type { PeerContext } from "./context.ts";
import { KnownTimes } from "./known-times.ts";
import type { Neighbour } from "./neighbour.ts";
import { PushBounds, SOURCE_GRACE_MS } from "./push-bounds.ts";
import { droppedTo } from "./reach.ts";
import { substreamOf } from "./settings.ts";
import { nextRun } from "./substreams.ts";
import type { Supplier } from "./supplier.ts";
import { Suppliers } from "./suppliers.ts";

/**
 * What nobody else is to be asked for is looked for in the whole window: the next time is after this,
 * unless there was more of it than the source peer had room for.
 */
const SOURCE_SEARCH_MS = 40;
/** Fragments of which a search sees who else holds them; the next one goes on behind them. */
const SOURCE_LOOKS_MAX = 1_024;
/** What members hold and had no room for in this time, or half the patience, it is asked for, too. */
const SOURCE_LATE_MS = 3_000;
/** So many fragments that are left are asked for one by one, and not supplier by supplier. */
const FEW = 8;
/** Fragments that one supplier is given before the next best is looked for. */
const CHUNK = 4;
/** Fragments from the consumer's place on that are asked for in order: the urgent part. */
const URGENT_FRAGMENTS = 64;
/** Second requests: one for so many fragments that came, and so many at most. */
const SECONDS_SHARE = 1 / 128;
const SECONDS_MAX = 2;
/** A request that holds the consumer up is doubled after so many round trips, and not before. */
const HURRY_ROUND_TRIPS = 3;
const HURRY_MS_MIN = 250;

export interface PullView {
  readonly neighbours: readonly Neighbour[];
  /** partners[s] pushes substream s; undefined = nobody. */
  readonly partners: readonly (Neighbour | undefined)[];
  /** Whose answer to being asked to push is still to come. */
  readonly awaited: Iterable<Neighbour>;
  /** What the consumer takes next. */
  readonly head: FragmentIndex;
  /** Ask for nothing from here on. */
  readonly to: FragmentIndex;
  /** A fragment of substream s is asked for since its partner let it lie. */
  readonly overdue: (s: number) => void;
}

export class Puller {
  /** What neighbours hold is counted in it. */
  readonly picker: Picker;
  /** When what was known came to have room here: before that nobody could push it. */
  readonly times: KnownTimes;
  readonly #context: PeerContext;
  readonly #window: FragmentWindow;
  readonly #tag: Uint8Array;
  readonly #substreams: number;
  /** Below it nothing is waited for. */
  #start: FragmentIndex = 0;
  readonly #suppliers: Suppliers;
  /** Requests to be made, and to be taken back. */
  readonly #asks = new Map<Neighbour, FragmentIndex[]>();
  readonly #cancels = new Map<Neighbour, FragmentIndex[]>();
  /** Asked for, or under verification. */
  readonly #underWay: WindowMap;
  /** Asked for of a member that did not answer in time. */
  readonly #letDown: WindowMap;
  readonly #pushBounds: PushBounds;
  readonly #picked = new Float64Array(CHUNK);
  #seconds = 0;
  /** Among others the source peer is asked for nothing before. */
  #sourceSearchMs: MonoMs = Number.NEGATIVE_INFINITY;
  /** Where the last search stopped; 0: it looked at all. */
  #sourceSearchedTo: FragmentIndex = 0;
  readonly #sourceLateMs: number;
  #due = false;

  constructor(
    context: PeerContext,
    window: FragmentWindow,
    tag: Uint8Array,
    substreams: number,
    patienceMs: number,
  ) {
    this.#context = context;
    this.#window = window;
    this.picker = new Picker(window, substreams);
    this.#tag = tag;
    this.#substreams = substreams;
    this.#suppliers = new Suppliers(context.rng);
    this.times = new KnownTimes(patienceMs + 1_000);
    this.#sourceLateMs = Math.min(SOURCE_LATE_MS, patienceMs / 2);
    this.#underWay = window.createMap();
    this.#letDown = window.createMap();
    const [picker, suppliers, times] = [this.picker, this.#suppliers, this.times];
    this.#pushBounds = new PushBounds({ window, picker, suppliers, times, patienceMs });
  }

  /** Whether run() has something to do before the next tick. */
  get due(): boolean {
    return this.#due;
  }

  add(neighbour: Neighbour): void {
    this.#suppliers.add(neighbour);
  }

  remove(neighbour: Neighbour): void {
    this.lost(neighbour, 0, Number.POSITIVE_INFINITY);
    this.#suppliers.remove(neighbour);
    this.#cancels.delete(neighbour);
  }

  /** It advertised more than before. */
  heard(neighbour: Neighbour): void {
    const supplier = this.#suppliers.of(neighbour);
    if (supplier !== undefined) this.#suppliers.wake(supplier);
  }

  /** DATA with fragment `index` came from `from`, whether it is of use or not. */
  came(index: FragmentIndex, from: Neighbour): void {
    const supplier = this.#suppliers.of(from);
    if (supplier === undefined) return;
    const nowMs = this.#context.now.monoMs;
    if (this.#suppliers.answered(supplier, index, nowMs)) this.#due = true;
    else if ((from.pullMask & (1 << substreamOf(index, this.#substreams))) !== 0) {
      this.#suppliers.pushed(supplier);
      supplier.pushes.pushed(index, this.times.ageMs(index, nowMs), nowMs);
    }
  }

  /** Fragment `index` is under verification: nobody else is waited for. */
  arriving(index: FragmentIndex): void {
    this.#seconds = Math.min(SECONDS_MAX, this.#seconds + SECONDS_SHARE);
    if (this.#window.test(this.#underWay, index)) this.#takeBack(index);
    this.#take(index);
  }

  /** What came as fragment `index` was none, or is of no use: it is still missing. */
  failed(index: FragmentIndex): void {
    this.#window.unmark(this.#underWay, index, index + 1);
    this.picker.release(index, index + 1);
    this.#due = true;
  }

  /** A neighbour can't send [first, end): it withdrew it. */
  lost(neighbour: Neighbour, first: FragmentIndex, end: FragmentIndex): void {
    const supplier = this.#suppliers.of(neighbour);
    if (supplier === undefined) return;
    const nowMs = this.#context.now.monoMs;
    this.#suppliers.refused(supplier, first, end, nowMs, (index) => this.#release(index));
  }

  /** BUSY: it does not send [first, end) now. */
  busy(neighbour: Neighbour, first: FragmentIndex, end: FragmentIndex, retryAfterMs: number): void {
    this.lost(neighbour, first, end);
    this.#suppliers.of(neighbour)?.busy(retryAfterMs, this.#context.now.monoMs);
  }

  /** Notes how far the stream was known at this time, as far as it has room here. */
  sample(known: FragmentIndex): void {
    this.times.sample(known, this.#context.now.monoMs);
  }

  /** What lies below the window's `start` is waited for no more. */
  forgetBelow(start: FragmentIndex): void {
    if (start === this.#start) return;
    this.#suppliers.forgetWithin(this.#start, start, ({ neighbour }, index) =>
      this.#cancel(neighbour, index),
    );
    this.#start = start;
  }

  /** Asks for what is missing and advertised by someone. */
  run(view: PullView): void {
    this.#due = false;
    const nowMs = this.#context.now.monoMs;
    this.#expire(nowMs);
    this.#pushBounds.update(view.partners, view.awaited, nowMs);
    this.#askPeers(view, nowMs);
    this.#askSource(view, nowMs);
    this.#hurry(view, nowMs);
    this.#flushCancels();
    this.#flushAsks();
  }

  close(): void {
    this.picker.close();
    this.#window.releaseMap(this.#underWay);
    this.#window.releaseMap(this.#letDown);
  }

  checkInvariants(neighbours: readonly Neighbour[]): void {
    this.#suppliers.checkInvariants(neighbours, this.#context.now.monoMs);
    for (const index of this.#suppliers.asked) {
      assert(this.#window.test(this.#underWay, index), "what is asked for is under way");
      assert(!this.#window.holds(index), "what is held is asked for no more");
    }
    assert(this.#asks.size === 0, "what is asked for has been sent");
    const areToWake = this.picker.openedFrom < this.picker.openedTo;
    for (const { neighbour } of areToWake ? [] : this.#suppliers.resting) {
      const end = Math.min(this.#suppliers.restTo, neighbour.grantedLimit);
      const request = { max: 1, urgentEnd: end, end, random: 0, have: neighbour.have };
      assert(this.picker.pick(request, this.#picked) === 0, "who rests has nothing to offer");
    }
    this.picker.checkInvariants(neighbours.filter((n) => !n.isSource).map((n) => n.have));
  }

  // ------------------------------------------------------------------------------ whom to ask

  #askPeers(view: PullView, nowMs: MonoMs): void {
    this.#wake(view.to);
    const { candidates } = this.picker;
    if (candidates === 0) return;
    if (candidates <= FEW) this.#askForFew(view, nowMs);
    else this.#askForMany(view, nowMs);
  }

  /** Each of few candidates is asked of who holds it and would answer it soonest. */
  #askForFew(view: PullView, nowMs: MonoMs): void {
    const { to } = view;
    let index = this.picker.nextCandidate(this.#window.start, to);
    while (index < to) {
      const supplier = this.#suppliers.soonest(
        (each) => each.neighbour.mayBeAskedFor(index) && this.#isReady(each, nowMs),
      );
      if (supplier !== undefined) this.#askMember(supplier, index, view, nowMs);
      index = this.picker.nextCandidate(index + 1, to);
    }
  }

  /** Who would answer soonest is asked for what it holds, a few at a time, until all have enough. */
  #askForMany(view: PullView, nowMs: MonoMs): void {
    const suppliers = this.#suppliers;
    while (true) {
      const supplier = suppliers.soonest();
      if (supplier === undefined) break;
      if (!this.#isReady(supplier, nowMs)) {
        suppliers.setAside(supplier);
        continue;
      }
      const most = Math.min(supplier.spare, CHUNK);
      // It serves nothing that it was not granted.
      const end = Math.min(view.to, supplier.neighbour.grantedLimit);
      const count = this.picker.pick(
        {
          urgentEnd: Math.min(view.head + URGENT_FRAGMENTS, end),
          end,
          max: most,
          random: Math.floor(this.#context.rng.next() * 0x1_0000_0000),
          have: supplier.neighbour.have,
        },
        this.#picked,
      );
      for (let i = 0; i < count; i++) {
        this.#askMember(supplier, this.#picked[i] as FragmentIndex, view, nowMs);
      }
      if (count === most) continue;
      if (!this.#isAnythingLeft(view.to)) break;
      // A pick looks far for one, not for all.
      if (count > 0) continue;
      const next = this.#window.nextSet(supplier.neighbour.have, end, Number.POSITIVE_INFINITY);
      if (next < view.to) suppliers.setAside(supplier);
      else suppliers.rest(supplier, next);
    }
    suppliers.putBack();
  }

  /** Those that rested for having nothing to offer, and may have something now. */
  #wake(to: FragmentIndex): void {
    const suppliers = this.#suppliers;
    const { openedFrom, openedTo } = this.picker;
    this.picker.forgetOpened();
    if (to > suppliers.restTo) suppliers.wakeSome();
    else if (openedFrom < openedTo) {
      const next = (have: WindowMap) => this.#window.nextSet(have, openedFrom, openedTo);
      suppliers.wakeSome(({ neighbour: { have } }) => next(have) < openedTo);
    }
  }

  /** Whether a member that is open may be asked now. */
  #isReady(supplier: Supplier, nowMs: MonoMs): boolean {
    // Where there is another way, what would be asked of it in vain is not held up by that.
    const hasSource = this.#suppliers.source !== undefined;
    return supplier.room(nowMs) > 0 && !(hasSource && supplier.isDoubtful(nowMs));
  }

  /** Whether anybody may be asked for anything below `to`. */
  #isAnythingLeft(to: FragmentIndex): boolean {
    return this.picker.candidates > 0 && this.picker.nextCandidate(this.#window.start, to) < to;
  }

  #askMember(supplier: Supplier, index: FragmentIndex, view: PullView, nowMs: MonoMs): void {
    this.#ask(supplier, index, nowMs);
    const s = substreamOf(index, this.#substreams);
    const partner = view.partners[s];
    if (partner === undefined) return;
    const isOwed = index >= (partner.pullFrom[s] as FragmentIndex);
    if (isOwed) view.overdue(s);
    // Who was to push it would send it a second time.
    const pusher = isOwed ? partner : partner.tookOver[s];
    if (pusher === undefined || pusher === supplier.neighbour) return;
    if (this.#suppliers.of(pusher) !== undefined) this.#cancel(pusher, index);
  }

  /** What only the source peer holds or has upload for, once pushed in vain; all, if it is alone. */
  #askSource(view: PullView, nowMs: MonoMs): void {
    const { neighbours, partners } = view;
    const supplier = this.#suppliers.source;
    if (supplier === undefined) return;
    const source = supplier.neighbour;
    // Its ACCEPT is on its way and says what it pushes: that would come twice.
    if (source.awaitingAccept && nowMs - source.askedMs < SOURCE_GRACE_MS) return;
    let room = supplier.room(nowMs);
    const alone = neighbours.length === 1;
    if (room === 0 || (nowMs < this.#sourceSearchMs && !alone)) return;
    const window = this.#window;
    const end = Math.min(view.to, source.grantedLimit);
    const graceMs = this.#pushBounds.sourceGraceMs(partners, nowMs);
    // What all others have dropped can't come from them: that is waited for by nobody.
    const later = Math.max(this.times.knownBefore(graceMs, nowMs), droppedTo(neighbours));
    const to = alone ? end : Math.min(end, later);
    const reliable = this.withoutDoubtful(neighbours);
    // What others are or would be asked for is passed over at once.
    const next = (from: FragmentIndex): FragmentIndex => {
      if (reliable !== neighbours) return window.firstMissing(from, to);
      const known = this.#underWay;
      const other = this.picker.nextOther(source.have, known, this.#letDown, from, to);
      return window.firstMissing(other, to);
    };
    let looks = 0;
    let index = next(Math.max(window.start, this.#sourceSearchedTo));
    while (index < to && room > 0 && looks++ < SOURCE_LOOKS_MAX) {
      if (index >= this.#pushBounds.of(substreamOf(index, this.#substreams))) {
        index = next(nextRun(index));
        continue;
      }
      const isHeld =
        this.picker.availabilityOf(index) > 0 &&
        !window.test(this.#letDown, index) &&
        (reliable === neighbours || reliable.some((each) => !each.isSource && each.holds(index)));
      const isWanted = !isHeld && !this.#window.test(this.#underWay, index);
      if (isWanted && source.mayBeAskedFor(index)) {
        this.#ask(supplier, index, nowMs);
        room--;
      }
      index = next(index + 1);
    }
    this.#sourceSearchedTo = looks > SOURCE_LOOKS_MAX ? index : 0;
    // Members were asked first: for what is left those that hold it have no room.
    const lateTo = Math.min(end, this.times.knownBefore(this.#sourceLateMs, nowMs));
    index = this.picker.nextCandidate(Math.max(window.start, source.remoteStart), lateTo);
    for (; index < lateTo && room > 0; index = this.picker.nextCandidate(index + 1, lateTo)) {
      if (!source.mayBeAskedFor(index)) continue;
      this.#ask(supplier, index, nowMs);
      room--;
    }
    if (room > 0) this.#sourceSearchMs = nowMs + SOURCE_SEARCH_MS;
  }

  /** `neighbours` without those that hold nothing, whatever they say: they never answer. */
  withoutMute(neighbours: readonly Neighbour[]): readonly Neighbour[] {
    const { monoMs } = this.#context.now;
    return without(neighbours, (each) => this.#suppliers.of(each)?.isMute(monoMs) === true);
  }

  /** And without those that let what they were asked for lie lately. */
  withoutDoubtful(neighbours: readonly Neighbour[]): readonly Neighbour[] {
    const { monoMs } = this.#context.now;
    if (!this.#suppliers.areSomeDoubtful(monoMs)) return neighbours;
    return without(neighbours, (each) => this.#suppliers.of(each)?.isDoubtful(monoMs) === true);
  }

  /** Asks a second supplier for what holds the consumer up. */
  #hurry(view: PullView, nowMs: MonoMs): void {
    if (this.#seconds < 1) return;
    const index = this.#window.firstMissing(view.head, view.to);
    if (index >= view.to) return;
    const first = this.#suppliers.onlyAsked(index);
    if (first === undefined) return;
    const dueMs = Math.max(HURRY_MS_MIN, HURRY_ROUND_TRIPS * first.roundTripMs);
    if (first.waitedMs(index, nowMs) <= dueMs) return;
    const others = this.picker.availabilityOf(index) - (first.neighbour.isSource ? 0 : 1);
    if (others < 1) return;
    const second = this.#suppliers.soonestOfAll(
      (each) => each !== first && each.neighbour.mayBeAskedFor(index) && each.room(nowMs) > 0,
    );
    if (second === undefined) return;
    this.#seconds--;
    this.#context.counters.requestsDoubled++;
    this.#ask(second, index, nowMs);
  }

  #ask(supplier: Supplier, index: FragmentIndex, nowMs: MonoMs): void {
    this.#suppliers.ask(supplier, index, nowMs);
    this.#take(index);
    note(this.#asks, supplier.neighbour, index);
  }

  // ------------------------------------------------------------------------------ taking back

  #expire(nowMs: MonoMs): void {
    this.#suppliers.expire(nowMs, ({ neighbour }, index) => {
      this.#context.counters.requestTimeouts++;
      this.#window.mark(this.#letDown, index, index + 1);
      this.#cancel(neighbour, index);
      this.#release(index);
    });
  }

  /** Nobody is asked for `index` any more, unless a second request is under way. */
  #release(index: FragmentIndex): void {
    if (!this.#suppliers.isAsked(index)) this.failed(index);
  }

  #take(index: FragmentIndex): void {
    this.#window.mark(this.#underWay, index, index + 1);
    this.picker.take(index, index + 1);
  }

  #takeBack(index: FragmentIndex): void {
    this.#suppliers.forgetAll(index, ({ neighbour }) => this.#cancel(neighbour, index));
  }

  #cancel(neighbour: Neighbour, index: FragmentIndex): void {
    note(this.#cancels, neighbour, index);
    this.#due = true;
  }

  #flushCancels(): void {
    if (this.#cancels.size === 0) return;
    for (const [neighbour, indices] of this.#cancels) {
      this.#context.counters.requestsCancelled += indices.length;
      const ranges = rangesOf(indices);
      neighbour.link.transmit(encodeRanges(FRAME_TYPES.CANCEL, this.#tag, 0, ranges));
    }
    this.#cancels.clear();
  }

  #flushAsks(): void {
    if (this.#asks.size === 0) return;
    for (const [neighbour, indices] of this.#asks) {
      this.#context.counters.requestsSent += indices.length;
      // The source peer's upload is everybody's: what it just gave another comes from there.
      const flags = neighbour.isSource && this.#suppliers.size > 1 ? GET_FLAG_PATIENT : 0;
      const ranges = rangesOf(indices);
      neighbour.link.transmit(
        encodeRanges(FRAME_TYPES.GET, this.#tag, 0, ranges, ranges.length / 2, flags),
      );
    }
    this.#asks.clear();
  }
}

function note(
  indicesOf: Map<Neighbour, FragmentIndex[]>,
  neighbour: Neighbour,
  index: FragmentIndex,
): void {
  const indices = indicesOf.get(neighbour);
  if (indices === undefined) indicesOf.set(neighbour, [index]);
  else indices.push(index);
}

/** `all` itself when none of them `is`. */
function without(
  all: readonly Neighbour[],
  is: (each: Neighbour) => boolean,
): readonly Neighbour[] {
  return all.some(is) ? all.filter((each) => !is(each)) : all;
}
