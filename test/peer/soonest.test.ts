import { describe, expect, it } from "vitest";
import { seededRng } from "../../src/base/rng.ts";
import type { Neighbour } from "../../src/peer/neighbour.ts";
import { Soonest } from "../../src/peer/soonest.ts";
import { Supplier } from "../../src/peer/supplier.ts";

/** One whose round trip is this. */
function supplier(roundTripMs: number): Supplier {
  const one = new Supplier({ mapKnown: true, requestsInFlight: 0 } as Neighbour);
  for (let i = 0; i < 60; i++) {
    one.ask(i, 1_000 * i);
    one.answered(i, 1_000 * i + roundTripMs);
  }
  return one;
}

describe("soonest", () => {
  it("finds who answers first, until others would", () => {
    const soonest = new Soonest(seededRng(1));
    const far = supplier(62);
    const near = supplier(35);
    soonest.add(far);
    soonest.add(near);
    expect(soonest.at(soonest.find())).toBe(near);
    // Ten milliseconds more for each request before it.
    for (let i = 0; i < 3; i++) {
      near.ask(100 + i, 1e6);
      soonest.asked(soonest.find());
    }
    expect(soonest.at(soonest.find())).toBe(far);
  });

  it("leaves out who is dropped, and goes on with the others in their order", () => {
    const soonest = new Soonest(seededRng(1));
    const all = [40, 20, 60, 30].map(supplier);
    for (const one of all) soonest.add(one);
    const found: Supplier[] = [];
    while (!soonest.isEmpty) {
      const place = soonest.find();
      found.push(soonest.at(place));
      soonest.drop(place);
    }
    expect(found).toEqual([all[1], all[3], all[0], all[2]]);
  });

  it("takes any of those that are equal, about as often, among however many", () => {
    const rng = seededRng(3);
    const soonest = new Soonest(rng);
    const equals = Array.from({ length: 100 }, () => supplier(50));
    for (const one of equals) soonest.add(one);
    const found = new Float64Array(equals.length);
    for (let n = 0; n < 10_000; n++) {
      const place = soonest.find();
      found[place] = (found[place] as number) + 1;
    }
    expect(Math.min(...found)).toBeGreaterThan(50);
    expect(Math.max(...found)).toBeLessThan(160);
  });
});
