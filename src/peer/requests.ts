/**
 * Of whom each fragment is asked, by index: one supplier, and a second one where the first holds the
 * consumer up. Whoever wants to know it need not look at all suppliers.
 *
 * The two of one fragment are told in the order of suppliers, however old their requests are.
 */

import { assert } from "../base/assert.ts";
import type { FragmentIndex } from "../base/units.ts";
import type { Supplier } from "./supplier.ts";

export class Requests {
  readonly #first = new Map<FragmentIndex, Supplier>();
  /** Nothing is in it that the other does not have. */
  readonly #second = new Map<FragmentIndex, Supplier>();

  indices(): Iterable<FragmentIndex> {
    return this.#first.keys();
  }

  add(index: FragmentIndex, supplier: Supplier): void {
    const first = this.#first.get(index);
    if (first === undefined) {
      this.#first.set(index, supplier);
      return;
    }
    assert(first !== supplier && !this.#second.has(index), "a fragment is asked of two at most");
    const isBefore = supplier.order < first.order;
    this.#first.set(index, isBefore ? supplier : first);
    this.#second.set(index, isBefore ? first : supplier);
  }

  remove(index: FragmentIndex, supplier: Supplier): void {
    const second = this.#second.size === 0 ? undefined : this.#second.get(index);
    if (second === undefined) {
      this.#first.delete(index);
      return;
    }
    this.#second.delete(index);
    if (second !== supplier) this.#first.set(index, second);
  }

  /** Undefined: it is asked of nobody. */
  firstOf(index: FragmentIndex): Supplier | undefined {
    return this.#first.get(index);
  }

  secondOf(index: FragmentIndex): Supplier | undefined {
    return this.#second.size === 0 ? undefined : this.#second.get(index);
  }

  isAsked(index: FragmentIndex, supplier: Supplier): boolean {
    return this.#first.get(index) === supplier || this.secondOf(index) === supplier;
  }

  /** What is asked for in [first, end), in no order. */
  within(first: FragmentIndex, end: FragmentIndex): FragmentIndex[] {
    const within: FragmentIndex[] = [];
    if (end - first < this.#first.size) {
      for (let index = first; index < end; index++) if (this.#first.has(index)) within.push(index);
    } else {
      for (const index of this.#first.keys()) if (index >= first && index < end) within.push(index);
    }
    return within;
  }

  /** Throws AssertionError when it differs from what all suppliers say. */
  checkInvariants(suppliers: readonly Supplier[]): void {
    let requests = 0;
    for (const supplier of suppliers) {
      for (const index of supplier.asked) {
        assert(this.isAsked(index, supplier), "what a supplier is asked for is found by its index");
        requests++;
      }
    }
    assert(requests === this.#first.size + this.#second.size, "what is found is asked for");
    for (const [index, second] of this.#second) {
      const first = this.#first.get(index);
      assert(first !== undefined && first.order < second.order, "two in the order of suppliers");
    }
  }
}
