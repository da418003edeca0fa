/** How far the stream reaches, and what of it a peer misses. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Neighbour } from "../../src/peer/neighbour.ts";
import { missingFrom, Reach } from "../../src/peer/reach.ts";
import type { FragmentWindow } from "../../src/stream/window.ts";

/** A window from `start` on with these fragments. */
function windowOf(start: number, held: readonly number[]): FragmentWindow {
  const countHeld = (from: number): number => held.filter((index) => index >= from).length;
  return { start, countHeld } as FragmentWindow;
}

describe("what a peer misses", () => {
  const window = windowOf(10, [10, 11, 15, 16, 18]);

  it("is what is known and not held", () => {
    expect(missingFrom(window, 0, 20)).toBe(5);
    expect(missingFrom(window, 12, 20)).toBe(5);
  });

  it("is not what it gave up, below where its consumer stands", () => {
    expect(missingFrom(window, 15, 20)).toBe(2);
    expect(missingFrom(window, 19, 20)).toBe(1);
    expect(missingFrom(window, 20, 20)).toBe(0);
  });

  it("is nothing where nothing more is known", () => {
    expect(missingFrom(window, 15, 12)).toBe(0);
  });
});

/** Only what Reach looks at. */
function neighbourOf(remoteHighest: number, more: Partial<Neighbour> = {}): Neighbour {
  return { mapKnown: true, isSource: false, remoteStart: 0, remoteHighest, ...more } as Neighbour;
}

describe("how far the stream is", () => {
  it("is what more than half of the members speak of", () => {
    expect(new Reach().confirmedTo([], 7)).toBe(7);
    expect(new Reach().confirmedTo([neighbourOf(9)], 7)).toBe(9);
    expect(new Reach().confirmedTo([neighbourOf(9), neighbourOf(30)], 7)).toBe(9);
    const four = [2 ** 50, 2 ** 50, 12, 11].map((highest) => neighbourOf(highest));
    expect(new Reach().confirmedTo(four, 7)).toBe(12);
  });

  it("is what the source peer says, whatever members do", () => {
    const all = [2 ** 50, 2 ** 50, 40].map((highest) => neighbourOf(highest));
    expect(new Reach().confirmedTo([...all, neighbourOf(41, { isSource: true })], 7)).toBe(41);
    expect(new Reach().confirmedTo([...all, neighbourOf(41, { isSource: true })], 42)).toBe(42);
  });

  it("is told by nobody whose map is not known", () => {
    const silent = neighbourOf(0, { isSource: true, mapKnown: false });
    expect(new Reach().confirmedTo([silent, neighbourOf(5)], 0)).toBe(5);
  });

  it("is not told by those who have nothing, however many they are", () => {
    const newcomers = Array.from({ length: 8 }, () => neighbourOf(0));
    expect(new Reach().confirmedTo([...newcomers, neighbourOf(9)], 0)).toBe(9);
    expect(new Reach().confirmedTo(newcomers, 0)).toBe(0);
  });

  it("is hearsay of those who hold nothing, and counts where nobody knows better", () => {
    const misled = [1_000, 1_000, 1_000].map((at) => neighbourOf(at, { remoteStart: at }));
    expect(new Reach().confirmedTo([...misled, neighbourOf(9)], 0)).toBe(9);
    expect(new Reach().confirmedTo(misled, 0)).toBe(1_000);
  });

  it("tells who starts beyond it, after five seconds and every five from then on", () => {
    const reach = new Reach();
    const told = (nowMs: number, ...all: Neighbour[]) => reach.isMisled(all, 1_000, nowMs);
    const source = neighbourOf(0, { isSource: true });
    const misled = neighbourOf(1_000, { remoteStart: 1_000 });
    expect(told(0, misled)).toBe(false);
    expect(told(9_000, misled)).toBe(false);
    expect([10_000, 14_999, 15_000, 15_100].map((ms) => told(ms, misled, source))).toEqual([
      false,
      false,
      true,
      false,
    ]);
    expect([20_000, 20_100].map((ms) => told(ms, source))).toEqual([false, true]);
    // One that holds something as far as that clears it.
    expect(told(24_000, neighbourOf(1_004, { remoteStart: 1_000 }))).toBe(false);
    expect(told(29_000, neighbourOf(9))).toBe(false);
    expect(told(34_000, neighbourOf(9))).toBe(true);
  });

  it("is the same whatever was known before", () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 70 }), { maxLength: 30 }),
        (rounds) => {
          const reach = new Reach();
          for (const highest of rounds) {
            const sorted = highest.filter((each) => each > 0).sort((a, b) => b - a);
            const most = sorted[sorted.length >>> 1] ?? 0;
            const all = highest.map((each) => neighbourOf(each));
            expect(reach.confirmedTo(all, 3)).toBe(Math.max(3, most));
          }
        },
      ),
    );
  });
});
