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
  return { mapKnown: true, isSource: false, remoteHighest, ...more } as Neighbour;
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
