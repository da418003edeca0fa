/**
 * All suppliers of one overlay, and of whom what is asked. What is looked for at every fragment is
 * kept, so that nobody has to look at all of them: of whom one fragment is asked, who may be asked
 * for more, when the first request is over. It is what a fragment costs among many neighbours.
 */

import { assert } from "../base/assert.ts";
import type { Rng } from "../base/rng.ts";
import type { FragmentIndex, MonoMs } from "../base/units.ts";
import type { Neighbour } from "./neighbour.ts";
import { Ranking } from "./ranking.ts";
import { Requests } from "./requests.ts";
import { Supplier } from "./supplier.ts";

export class Suppliers {
  readonly #of = new Map<Neighbour, Supplier>();
  /** In the order in which they came. */
  #all: readonly Supplier[] = [];
  #source: Supplier | undefined;
  /** Members that have room for requests, unless they are busy or rest. */
  readonly #open: Ranking<Supplier>;
  /** Open, and set aside. */
  readonly #aside: Supplier[] = [];
  readonly #resting = new Set<Supplier>();
  /** Those that rest hold nothing below it that is to be asked for. */
  #restTo: FragmentIndex = Number.POSITIVE_INFINITY;
  readonly #requests = new Requests();
  /** No request is over before. */
  #dueMs: MonoMs = Number.POSITIVE_INFINITY;
  /** False: none of them is doubtful. */
  #doubts = false;
  #came = 0;

  /** `rng` decides between those that would answer at about the same time. */
  constructor(rng: Rng) {
    this.#open = new Ranking(rng);
  }

  get size(): number {
    return this.#all.length;
  }

  /** The source peer, when it is a neighbour. */
  get source(): Supplier | undefined {
    return this.#source;
  }

  of(neighbour: Neighbour): Supplier | undefined {
    return this.#of.get(neighbour);
  }

  add(neighbour: Neighbour): void {
    const supplier = new Supplier(neighbour, this.#came++);
    this.#of.set(neighbour, supplier);
    this.#setAll([...this.#all, supplier]);
    this.#settle(supplier);
  }

  /** Its requests have been forgotten. */
  remove(neighbour: Neighbour): void {
    const supplier = this.#of.get(neighbour);
    if (supplier === undefined) return;
    this.#of.delete(neighbour);
    this.#resting.delete(supplier);
    this.#setAll(this.#all.filter((each) => each !== supplier));
    this.#open.remove(supplier);
  }

  // ------------------------------------------------------------------------ requests under way

  ask(supplier: Supplier, index: FragmentIndex, nowMs: MonoMs): void {
    this.#dueMs = Math.min(this.#dueMs, supplier.ask(index, nowMs));
    this.#requests.add(index, supplier);
    this.#settle(supplier);
  }

  /** Fragment `index` came from it. Returns whether it was asked for it. */
  answered(supplier: Supplier, index: FragmentIndex, nowMs: MonoMs): boolean {
    if (!this.#requests.isAsked(index, supplier)) return false;
    supplier.answered(index, nowMs);
    this.#requests.remove(index, supplier);
    this.#settle(supplier);
    return true;
  }

  /** It pushed something. */
  pushed(supplier: Supplier): void {
    supplier.pushed();
    this.#settle(supplier);
  }

  /** It is asked for nothing in [first, end) any more. Calls `dropped` for each. */
  forget(
    supplier: Supplier,
    first: FragmentIndex,
    end: FragmentIndex,
    dropped: (index: FragmentIndex) => void,
  ): void {
    supplier.forget(first, end, (index) => {
      this.#requests.remove(index, supplier);
      dropped(index);
    });
    this.#settle(supplier);
  }

  /** It will not send what it was asked for in [first, end). Calls `dropped` for each. */
  refused(
    supplier: Supplier,
    first: FragmentIndex,
    end: FragmentIndex,
    nowMs: MonoMs,
    dropped: (index: FragmentIndex) => void,
  ): void {
    let any = false;
    this.forget(supplier, first, end, (index) => {
      any = true;
      dropped(index);
    });
    if (!any) return;
    supplier.refused(nowMs);
    if (supplier.isDoubtful(nowMs)) this.#doubts = true;
  }

  /** Nobody is asked for fragment `index` any more. Calls `dropped` for who was, in order. */
  forgetAll(index: FragmentIndex, dropped: (supplier: Supplier) => void): void {
    const first = this.#requests.firstOf(index);
    if (first === undefined) return;
    const second = this.#requests.secondOf(index);
    this.forget(first, index, index + 1, () => dropped(first));
    if (second !== undefined) this.forget(second, index, index + 1, () => dropped(second));
  }

  /** Nobody is asked for anything in [first, end) any more. Calls `dropped` for who was, in order. */
  forgetWithin(
    first: FragmentIndex,
    end: FragmentIndex,
    dropped: (supplier: Supplier, index: FragmentIndex) => void,
  ): void {
    const asked = new Set<Supplier>();
    for (const index of this.#requests.within(first, end)) {
      asked.add(this.#requests.firstOf(index) as Supplier);
      const second = this.#requests.secondOf(index);
      if (second !== undefined) asked.add(second);
    }
    for (const supplier of [...asked].sort((a, b) => a.order - b.order)) {
      this.forget(supplier, first, end, (index) => dropped(supplier, index));
    }
  }

  /** Requests whose time is over are forgotten. Calls `dropped` for each, in order of suppliers. */
  expire(nowMs: MonoMs, dropped: (supplier: Supplier, index: FragmentIndex) => void): void {
    if (nowMs < this.#dueMs) return;
    this.#dueMs = Number.POSITIVE_INFINITY;
    for (const supplier of this.#all) {
      if (supplier.dueMs() <= nowMs) {
        supplier.expire(nowMs, (index) => {
          this.#requests.remove(index, supplier);
          dropped(supplier, index);
        });
        if (supplier.isDoubtful(nowMs)) this.#doubts = true;
        this.#settle(supplier);
      }
      this.#dueMs = Math.min(this.#dueMs, supplier.dueMs());
    }
  }

  /** What is under way, in no order. */
  get asked(): Iterable<FragmentIndex> {
    return this.#requests.indices();
  }

  isAsked(index: FragmentIndex): boolean {
    return this.#requests.firstOf(index) !== undefined;
  }

  /** Who alone is asked for fragment `index`; undefined when nobody is, or two are. */
  onlyAsked(index: FragmentIndex): Supplier | undefined {
    return this.#requests.secondOf(index) === undefined ? this.#requests.firstOf(index) : undefined;
  }

  // ---------------------------------------------------------------------------- whom to ask

  /**
   * The member that would answer one more request soonest, of those that may have room for it and
   * that are fit, or one that is about as good. Undefined: there is none.
   */
  soonest(isFit?: (supplier: Supplier) => boolean): Supplier | undefined {
    return this.#open.soonest(isFit);
  }

  /** It is passed over until all that were set aside are put back. */
  setAside(supplier: Supplier): void {
    this.#open.remove(supplier);
    this.#aside.push(supplier);
  }

  putBack(): void {
    for (const supplier of this.#aside) this.#settle(supplier);
    this.#aside.length = 0;
  }

  /**
   * It holds nothing below `to` that is to be asked for, and is passed over until it is woken: when
   * it has more to offer.
   */
  rest(supplier: Supplier, to: FragmentIndex): void {
    supplier.isResting = true;
    this.#resting.add(supplier);
    this.#restTo = Math.min(this.#restTo, to);
    this.#settle(supplier);
  }

  wake(supplier: Supplier): void {
    if (!this.#resting.delete(supplier)) return;
    supplier.isResting = false;
    this.#settle(supplier);
  }

  /** Wakes those that are fit; all of them when none is given. */
  wakeSome(isFit: (supplier: Supplier) => boolean = () => true): void {
    for (const supplier of this.#resting) if (isFit(supplier)) this.wake(supplier);
    if (this.#resting.size === 0) this.#restTo = Number.POSITIVE_INFINITY;
  }

  get resting(): Iterable<Supplier> {
    return this.#resting;
  }

  get restTo(): FragmentIndex {
    return this.#restTo;
  }

  /** The same, among those that rest as well. */
  soonestOfAll(isFit: (supplier: Supplier) => boolean): Supplier | undefined {
    let soonest = this.soonest(isFit);
    for (const supplier of this.#resting) {
      const isSooner = soonest === undefined || supplier.expectedMs() < soonest.expectedMs();
      if (isSooner && isFit(supplier)) soonest = supplier;
    }
    return soonest;
  }

  /** Whether any of them let several requests in a row lie. */
  areSomeDoubtful(nowMs: MonoMs): boolean {
    if (this.#doubts) this.#doubts = this.#all.some((supplier) => supplier.isDoubtful(nowMs));
    return this.#doubts;
  }

  checkInvariants(neighbours: readonly Neighbour[], nowMs: MonoMs): void {
    const all = this.#all;
    assert(all.length === neighbours.length, "a supplier for each neighbour");
    for (const neighbour of neighbours) {
      assert(this.#of.get(neighbour)?.neighbour === neighbour, "a neighbour's own supplier");
    }
    for (const supplier of all) {
      supplier.checkInvariants();
      assert(this.#dueMs <= supplier.dueMs(), "no request is over unnoticed");
      assert(this.#doubts || !supplier.isDoubtful(nowMs), "no doubt is overlooked");
    }
    assert(this.#source === all.find(({ neighbour }) => neighbour.isSource), "the source peer");
    for (const supplier of all) {
      assert(supplier.rank.timeClass >= 0 === isOpen(supplier), "who has room is open");
      assert(this.#resting.has(supplier) === supplier.isResting, "who rests is known");
    }
    assert(this.#aside.length === 0, "nobody is left aside");
    this.#open.checkInvariants(all);
    this.#requests.checkInvariants(all);
  }

  #setAll(all: readonly Supplier[]): void {
    this.#all = all;
    this.#source = all.find(({ neighbour }) => neighbour.isSource);
  }

  /** What it was asked for, how much it may be, or when it would answer changed. */
  #settle(supplier: Supplier): void {
    if (isOpen(supplier)) this.#open.put(supplier);
    else this.#open.remove(supplier);
  }
}

function isOpen({ neighbour, spare, isResting }: Supplier): boolean {
  return spare > 0 && !neighbour.isSource && !isResting;
}
