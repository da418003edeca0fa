import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { seededRng } from "../../src/base/rng.ts";
import type { Neighbour } from "../../src/peer/neighbour.ts";
import { Ranking } from "../../src/peer/ranking.ts";
import { Supplier } from "../../src/peer/supplier.ts";

/** One whose round trip is about this, and each request before it takes ten milliseconds more. */
function supplier(roundTripMs: number): Supplier {
  const one = new Supplier({ mapKnown: true, requestsInFlight: 0 } as Neighbour);
  for (let i = 0; i < 60; i++) {
    one.ask(i, 1_000 * i);
    one.answered(i, 1_000 * i + roundTripMs);
  }
  return one;
}

function rankingOf(suppliers: readonly Supplier[], seed = 1): Ranking<Supplier> {
  const ranking = new Ranking<Supplier>(seededRng(seed));
  for (const one of suppliers) ranking.put(one);
  return ranking;
}

describe("ranking", () => {
  it("finds who answers first, until others would", () => {
    const far = supplier(70);
    const near = supplier(35);
    const ranking = rankingOf([far, near]);
    expect(ranking.soonest()).toBe(near);
    for (let i = 0; i < 5; i++) {
      near.ask(100 + i, 1e6);
      ranking.put(near);
    }
    expect(ranking.soonest()).toBe(far);
  });

  it("leaves out who is taken away or unfit, and goes on with the others", () => {
    const all = [40, 20, 80, 30].map(supplier);
    const ranking = rankingOf(all);
    expect(ranking.soonest((one) => one !== all[1])).toBe(all[3]);
    const found: Supplier[] = [];
    for (let one = ranking.soonest(); one !== undefined; one = ranking.soonest()) {
      found.push(one);
      ranking.remove(one);
      ranking.remove(one);
      ranking.checkInvariants(all);
    }
    expect(found).toEqual([all[1], all[3], all[0], all[2]]);
    expect(ranking.soonest(() => false)).toBeUndefined();
  });

  it("takes any of those that are about equal, about as often, among however many", () => {
    const equals = Array.from({ length: 100 }, (_, n) => supplier(50 + n / 100));
    const ranking = rankingOf(equals, 3);
    const found = new Map<Supplier | undefined, number>();
    for (let n = 0; n < 10_000; n++) {
      const one = ranking.soonest();
      found.set(one, (found.get(one) ?? 0) + 1);
    }
    expect(found.size).toBe(100);
    expect(Math.min(...found.values())).toBeGreaterThan(50);
    expect(Math.max(...found.values())).toBeLessThan(160);
  });

  it("never finds one while another that is fit would answer an eighth sooner", () => {
    const timesMs = fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(timesMs, fc.nat(), (all, seed) => {
        const suppliers = all.map(supplier);
        const ranking = rankingOf(suppliers, seed);
        ranking.checkInvariants(suppliers);
        const isFit = (one: Supplier): boolean => suppliers.indexOf(one) % 3 !== 1;
        const fitMs = suppliers.filter(isFit).map((one) => one.expectedMs());
        const found = ranking.soonest(isFit) as Supplier;
        expect(isFit(found)).toBe(true);
        expect(found.expectedMs()).toBeLessThanOrEqual(1.125 * Math.min(...fitMs));
      }),
      { numRuns: 200 },
    );
  });

  it("bears times shorter and longer than it tells apart", () => {
    const [never, soon, fast] = [{ expectedMs: () => 1e12 }, supplier(200), supplier(0)];
    const rank = { timeClass: -1, place: 0 };
    const ranking = rankingOf([{ ...never, rank } as unknown as Supplier, soon, fast]);
    const found = [ranking.soonest(), ranking.soonest((one) => one !== fast)];
    expect(found).toEqual([fast, soon]);
    expect(ranking.soonest((one) => one.rank === rank)).toBeDefined();
  });
});
