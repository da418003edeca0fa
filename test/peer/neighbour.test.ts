/** What is pushed to a neighbour: from which index on each substream, and until when. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { PeerLink } from "../../src/peer/link.ts";
import { Neighbour } from "../../src/peer/neighbour.ts";
import type { FragmentWindow } from "../../src/stream/window.ts";

function neighbour(): Neighbour {
  const window = { createMap: () => ({}) } as unknown as FragmentWindow;
  const link = { openLane: () => ({}) } as unknown as PeerLink;
  return new Neighbour({}, window, undefined, link, "aa", "peer" as never, 0);
}

function wants(it: Neighbour, mask: number, from: number, until = 0): void {
  it.wantsPushed(mask, from, until);
  it.setPush(mask);
}

describe("what is pushed to a neighbour", () => {
  it("each substream from where it was asked for: one more moves none of the others", () => {
    const it = neighbour();
    wants(it, 0b01, 100);
    it.pushCursor = 180;
    wants(it, 0b11, 150);
    expect(it.isPushed(0, 99)).toBe(false);
    expect(it.isPushed(0, 100)).toBe(true);
    expect(it.isPushed(1, 149)).toBe(false);
    expect(it.isPushed(1, 150)).toBe(true);
    expect(it.pushCursor).toBe(150);
  });

  it("what another pushes from some index on is pushed below it", () => {
    const it = neighbour();
    wants(it, 0b11, 100);
    wants(it, 0b01, 0, 300);
    expect(it.isPushed(1, 299)).toBe(true);
    expect(it.isPushed(1, 300)).toBe(false);
    expect(it.isPushed(0, 5_000)).toBe(true);
    it.trimTails(299);
    expect(it.isPushed(1, 299)).toBe(true);
    it.trimTails(300);
    expect(it.tailMask).toBe(0);
    expect(it.isPushed(1, 299)).toBe(false);
  });

  it("holds for the highest substream as well", () => {
    const it = neighbour();
    wants(it, 0x8000_0001 >>> 0, 100);
    wants(it, 1, 0, 300);
    it.trimTails(200);
    expect(it.isPushed(31, 299)).toBe(true);
    it.trimTails(300);
    expect(it.tailMask).toBe(0);
  });

  it("what is dropped without more stops at once, what is asked for again has no end", () => {
    const it = neighbour();
    wants(it, 0b11, 100);
    wants(it, 0b01, 0);
    expect(it.isPushed(1, 200)).toBe(false);
    wants(it, 0b11, 400);
    wants(it, 0b01, 0, 500);
    wants(it, 0b11, 450);
    expect(it.isPushed(1, 449)).toBe(false);
    expect(it.isPushed(1, 9_000)).toBe(true);
    expect(it.tailMask).toBe(0);
  });
});

describe("what is taken back of what was asked for", () => {
  const window = { createMap: () => ({}), mark: () => undefined, start: 0 };
  const asking = (): Neighbour => {
    const link = { openLane: () => ({}) } as unknown as PeerLink;
    const it = new Neighbour({}, window as never, undefined, link, "aa", "peer" as never, 0);
    it.creditLimit = Number.MAX_SAFE_INTEGER;
    return it;
  };
  const left = (it: Neighbour): number[] => {
    const indices: number[] = [];
    for (let i = 0; i < it.toServe.length; i += 2) {
      for (let k = 0; k < (it.toServe[i + 1] as number); k++) {
        indices.push((it.toServe[i] as number) + k);
      }
    }
    return indices;
  };
  /** Pairs of ascending ranges that do not touch. */
  const ranges = fc
    .array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 6 })), {
      minLength: 1,
      maxLength: 8,
    })
    .map((steps) => {
      let at = 0;
      return steps.flatMap(([skip, count]) => {
        const first = at + skip;
        at = first + count;
        return [first, count];
      });
    });

  it("is what the ranges name, in whatever pieces it was asked for", () => {
    fc.assert(
      fc.property(fc.array(ranges, { maxLength: 4 }), ranges, (gets, cancel) => {
        const it = asking();
        for (const get of gets) it.wants(Float64Array.from(get), get.length / 2, 0);
        const before = left(it);
        it.cancelled(Float64Array.from(cancel), cancel.length / 2);
        const taken = (index: number): boolean =>
          cancel.some(
            (first, i) => i % 2 === 0 && index >= first && index < first + (cancel[i + 1] ?? 0),
          );
        expect(left(it)).toEqual(before.filter((index) => !taken(index)));
      }),
      { numRuns: 2_000 },
    );
  });

  it("however much there is of it, a bounded number of pieces is kept and looked at", () => {
    const it = asking();
    const every = Float64Array.from({ length: 1_024 }, (_, i) => (i % 2 === 0 ? 4 * (i / 2) : 1));
    for (let n = 0; n < 200; n++) {
      it.wants(Float64Array.of(0, 4_000_000_000), 1, 0);
      it.cancelled(every, 512);
      expect(it.toServe.length).toBeLessThanOrEqual(1_024);
    }
    // The newest are kept.
    expect(it.toServe.at(-2)).toBe(4 * 511 + 1);
  });
});
