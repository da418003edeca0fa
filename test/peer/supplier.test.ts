import { describe, expect, it } from "vitest";
import { REQUESTS_IN_FLIGHT_MAX } from "../../src/base/limits.ts";
import type { Neighbour } from "../../src/peer/neighbour.ts";
import { Supplier } from "../../src/peer/supplier.ts";

function supplier(): Supplier {
  return new Supplier({ mapKnown: true, requestsInFlight: 0 } as Neighbour);
}

/** Keeps `inFlight` requests under way at one that answers one each `serviceMs` after a round trip. */
function serve(by: Supplier, answers: number, inFlight: number, serviceMs: number): number {
  let nowMs = 0;
  let next = 0;
  for (let i = 0; i < answers; i++) {
    while (by.asked.length < inFlight) by.ask(next++, nowMs);
    nowMs += serviceMs;
    expect(by.answered(by.asked[0] as number, nowMs)).toBe(true);
    by.checkInvariants();
  }
  return nowMs;
}

describe("supplier", () => {
  it("is asked for as much as it answers within a while, and never for more than the limit", () => {
    const fast = supplier();
    const slow = supplier();
    serve(fast, 200, 8, 1);
    serve(slow, 200, 3, 100);
    expect(fast.room(1e6) + fast.asked.length).toBe(REQUESTS_IN_FLIGHT_MAX);
    const inFlight = slow.room(1e6) + slow.asked.length;
    expect(inFlight).toBeGreaterThanOrEqual(6);
    expect(inFlight).toBeLessThanOrEqual(10);
    expect(slow.expectedMs()).toBeGreaterThan(fast.expectedMs());
  });

  it("counts the round trip of a request that stood alone", () => {
    const far = supplier();
    let nowMs = 0;
    for (let i = 0; i < 30; i++) {
      far.ask(i, nowMs);
      nowMs += 300;
      far.answered(i, nowMs);
    }
    expect(far.roundTripMs).toBeGreaterThan(290);
    expect(far.roundTripMs).toBeLessThanOrEqual(300);
  });

  it("is asked for less after each timeout, and as before once it answers", () => {
    const one = supplier();
    const endMs = serve(one, 200, 8, 1);
    one.forget(0, Number.POSITIVE_INFINITY, () => undefined);
    const before = one.room(endMs);
    const dropped: number[] = [];
    let nowMs = endMs;
    for (let strike = 1; strike <= 5; strike++) {
      one.ask(1_000 + strike, nowMs);
      expect(one.dueMs()).toBeGreaterThanOrEqual(nowMs + 1_000);
      expect(one.dueMs()).toBeLessThanOrEqual(nowMs + 5_000);
      one.expire(one.dueMs() - 1, (index) => dropped.push(index));
      expect(dropped.length).toBe(strike - 1);
      nowMs = one.dueMs();
      one.expire(nowMs, (index) => dropped.push(index));
      expect(dropped.at(-1)).toBe(1_000 + strike);
      expect(one.room(nowMs)).toBe(strike >= 4 ? 1 : before >> strike);
    }
    one.ask(9, nowMs);
    one.answered(9, nowMs + 1);
    expect(one.room(nowMs)).toBe(before);
  });

  it("asks nothing of one that is busy, before its time, and nothing of one without a map", () => {
    const busy = supplier();
    busy.busy(500, 0);
    expect(busy.room(499)).toBe(0);
    expect(busy.room(500)).toBeGreaterThan(0);
    const blind = new Supplier({ mapKnown: false, requestsInFlight: 0 } as Neighbour);
    expect(blind.room(0)).toBe(0);
  });

  it("asks one that would be let be for an hour again after five seconds", () => {
    const busy = supplier();
    busy.busy(3_600_000, 0);
    expect(busy.room(4_999)).toBe(0);
    expect(busy.room(5_000)).toBeGreaterThan(0);
  });

  it("is doubtful once it refused many requests for long, and mute after longer, until it sends", () => {
    const one = supplier();
    for (let nowMs = 0; nowMs < 5_000; nowMs += 100) {
      one.refused(nowMs);
      expect(one.isDoubtful(nowMs)).toBe(false);
    }
    one.refused(5_000);
    expect(one.isDoubtful(5_000)).toBe(true);
    expect(one.isDoubtful(34_999)).toBe(true);
    expect(one.isDoubtful(35_000)).toBe(false);
    expect(one.isMute(35_000)).toBe(false);
    one.refused(35_000);
    expect([one.isDoubtful(35_000), one.isMute(35_000)]).toEqual([true, true]);
    one.pushed();
    expect([one.isDoubtful(35_000), one.isMute(35_000)]).toEqual([false, false]);
    for (const nowMs of [40_000, 50_000]) one.refused(nowMs);
    expect(one.isDoubtful(50_000)).toBe(false);
    for (let i = 0; i < 8; i++) one.refused(50_000);
    expect(one.isDoubtful(50_000)).toBe(true);
    one.ask(3, 50_000);
    one.answered(3, 50_001);
    expect(one.isDoubtful(50_001)).toBe(false);
  });

  it("forgets ranges, and what it was not asked for is no answer", () => {
    const one = supplier();
    for (const index of [3, 9, 4, 20]) one.ask(index, 0);
    const dropped: number[] = [];
    one.forget(4, 10, (index) => dropped.push(index));
    expect(dropped.sort((a, b) => a - b)).toEqual([4, 9]);
    expect(one.asked).toEqual([3, 20]);
    expect(one.answered(9, 1)).toBe(false);
    expect(one.neighbour.requestsInFlight).toBe(2);
  });
});
