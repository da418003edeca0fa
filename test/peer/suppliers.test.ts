import { describe, expect, it } from "vitest";
import { seededRng } from "../../src/base/rng.ts";
import type { Neighbour } from "../../src/peer/neighbour.ts";
import type { Supplier } from "../../src/peer/supplier.ts";
import { Suppliers } from "../../src/peer/suppliers.ts";

function neighbour(isSource = false): Neighbour {
  return { mapKnown: true, requestsInFlight: 0, isSource } as Neighbour;
}

function suppliersOf(neighbours: readonly Neighbour[]): [Suppliers, Supplier[]] {
  const suppliers = new Suppliers(seededRng(1));
  for (const each of neighbours) suppliers.add(each);
  return [suppliers, neighbours.map((each) => suppliers.of(each) as Supplier)];
}

/** Who is open, soonest first. */
function openOf(suppliers: Suppliers): Supplier[] {
  const open: Supplier[] = [];
  for (let one = suppliers.soonest(); one !== undefined; one = suppliers.soonest()) {
    open.push(one);
    suppliers.setAside(one);
  }
  suppliers.putBack();
  return open;
}

const nothing = (): void => undefined;

describe("suppliers", () => {
  it("say of whom alone a fragment is asked, and of whom at all", () => {
    const [suppliers, [a, b]] = suppliersOf([neighbour(), neighbour()]) as [
      Suppliers,
      [Supplier, Supplier],
    ];
    expect(suppliers.isAsked(7)).toBe(false);
    expect(suppliers.onlyAsked(7)).toBeUndefined();
    suppliers.ask(b, 7, 0);
    expect(suppliers.onlyAsked(7)).toBe(b);
    suppliers.ask(a, 7, 10);
    expect(suppliers.onlyAsked(7)).toBeUndefined();
    expect(suppliers.isAsked(7)).toBe(true);
    expect(suppliers.answered(b, 7, 20)).toBe(true);
    expect(suppliers.answered(b, 7, 21)).toBe(false);
    expect(suppliers.onlyAsked(7)).toBe(a);
    expect(suppliers.answered(a, 7, 22)).toBe(true);
    expect([...suppliers.asked]).toEqual([]);
  });

  it("are told what is taken back in their order, whoever was asked first", () => {
    const [suppliers, [a, b, c]] = suppliersOf([neighbour(), neighbour(), neighbour()]) as [
      Suppliers,
      [Supplier, Supplier, Supplier],
    ];
    for (const [supplier, index] of [
      [c, 5],
      [a, 5],
      [c, 4],
      [b, 9],
      [a, 8],
    ] as const) {
      suppliers.ask(supplier, index, 0);
    }
    const order: Supplier[] = [];
    suppliers.forgetAll(5, (supplier) => order.push(supplier));
    expect(order).toEqual([a, c]);
    const dropped: [Supplier, number][] = [];
    suppliers.forgetWithin(0, 9, (supplier, index) => dropped.push([supplier, index]));
    expect(dropped).toEqual([
      [a, 8],
      [c, 4],
    ]);
    expect([...suppliers.asked]).toEqual([9]);
  });

  it("find what lies below a start the same way, however far it moved", () => {
    for (const end of [12, 1e15]) {
      const [suppliers, [a, b]] = suppliersOf([neighbour(), neighbour()]) as [
        Suppliers,
        [Supplier, Supplier],
      ];
      for (const index of [3, 10, 11]) suppliers.ask(b, index, 0);
      suppliers.ask(a, 10, 0);
      const dropped: number[] = [];
      suppliers.forgetWithin(9, end, (_, index) => dropped.push(index));
      expect(dropped.sort((x, y) => x - y)).toEqual([10, 10, 11]);
      expect([...suppliers.asked]).toEqual([3]);
    }
  });

  it("are open while they have room, who has least to do first; the source peer never is", () => {
    const all = [neighbour(), neighbour(true), neighbour()];
    const [suppliers, [a, source, b]] = suppliersOf(all) as [
      Suppliers,
      [Supplier, Supplier, Supplier],
    ];
    expect(suppliers.source).toBe(source);
    for (let index = 100; index < 103; index++) suppliers.ask(a, index, 0);
    expect(openOf(suppliers)).toEqual([b, a]);
    for (let index = 0; a.spare > 0; index++) suppliers.ask(a, index, 0);
    expect(openOf(suppliers)).toEqual([b]);
    suppliers.answered(a, 0, 10);
    expect(openOf(suppliers)).toEqual([b, a]);
    suppliers.remove(b.neighbour);
    suppliers.remove(source.neighbour);
    expect(openOf(suppliers)).toEqual([a]);
    expect(suppliers.source).toBeUndefined();
  });

  it("let no request go on beyond its time, and know who is doubtful", () => {
    const [suppliers, [a, b]] = suppliersOf([neighbour(), neighbour()]) as [
      Suppliers,
      [Supplier, Supplier],
    ];
    suppliers.ask(b, 1, 0);
    suppliers.ask(a, 2, 100);
    suppliers.answered(b, 1, 150);
    const dropped: [Supplier, number][] = [];
    const expire = (nowMs: number): void =>
      suppliers.expire(nowMs, (supplier, index) => dropped.push([supplier, index]));
    expire(a.dueMs() - 1);
    expect(dropped).toEqual([]);
    let nowMs = a.dueMs();
    expire(nowMs);
    expect(dropped).toEqual([[a, 2]]);
    expect(suppliers.areSomeDoubtful(nowMs)).toBe(false);
    suppliers.ask(a, 3, nowMs);
    nowMs = a.dueMs();
    expire(nowMs);
    expect(suppliers.areSomeDoubtful(nowMs)).toBe(true);
    expect(suppliers.areSomeDoubtful(nowMs + 60_000)).toBe(false);
    suppliers.ask(a, 4, nowMs);
    nowMs = a.dueMs();
    expire(nowMs);
    expect(suppliers.areSomeDoubtful(nowMs)).toBe(true);
    suppliers.pushed(a);
    expect(suppliers.areSomeDoubtful(nowMs)).toBe(false);
  });

  it("keep what they say of themselves, whatever happens to them", () => {
    const rng = seededRng(5);
    const suppliers = new Suppliers(seededRng(1));
    const neighbours: Neighbour[] = [];
    const pick = (): Supplier =>
      suppliers.of(neighbours[rng.below(neighbours.length)] as Neighbour) as Supplier;
    const of = (each: Neighbour): Supplier => suppliers.of(each) as Supplier;
    const hasRoom = (each: Supplier): boolean =>
      each.spare > 0 && !each.neighbour.isSource && !each.isResting;
    let nowMs = 0;
    let timeouts = 0;
    for (let step = 0; step < 20_000; step++) {
      nowMs += rng.below(20);
      const what = rng.below(40);
      if (neighbours.length === 0 || (what === 0 && neighbours.length < 20)) {
        const one = neighbour(rng.below(8) === 0);
        neighbours.push(one);
        suppliers.add(one);
      } else if (what === 1) {
        const supplier = pick();
        suppliers.forget(supplier, 0, Number.POSITIVE_INFINITY, nothing);
        suppliers.remove(supplier.neighbour);
        neighbours.splice(neighbours.indexOf(supplier.neighbour), 1);
      } else if (what < 22) {
        const supplier = pick();
        const index = rng.below(200);
        const isFree = !suppliers.isAsked(index);
        const isAnother = ![undefined, supplier].includes(suppliers.onlyAsked(index));
        if (supplier.room(nowMs) > 0 && (isFree || isAnother))
          suppliers.ask(supplier, index, nowMs);
      } else if (what < 34) {
        const supplier = pick();
        const { asked } = supplier;
        const index = asked[rng.below(Math.max(1, asked.length))] ?? 3;
        expect(suppliers.answered(supplier, index, nowMs)).toBe(asked.includes(index));
      } else if (what === 34) suppliers.pushed(pick());
      else if (what === 35) suppliers.forgetAll(rng.below(200), nothing);
      else if (what === 36) suppliers.forget(pick(), rng.below(200), rng.below(200), nothing);
      else if (what === 37) suppliers.forgetWithin(rng.below(200), rng.below(200), nothing);
      else if (what === 38 && rng.below(2) === 0) {
        if (rng.below(4) === 0) suppliers.wakeSome();
        else if (rng.below(3) === 0) suppliers.wake(pick());
        else suppliers.rest(pick(), rng.below(200));
      } else if (what === 38) {
        suppliers.areSomeDoubtful(nowMs);
        const open = openOf(suppliers);
        expect(new Set(open)).toEqual(new Set(neighbours.map(of).filter(hasRoom)));
      } else suppliers.expire(nowMs, () => timeouts++);
      suppliers.checkInvariants(neighbours, nowMs);
    }
    expect(timeouts).toBeGreaterThan(100);
  });
});
