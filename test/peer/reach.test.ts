/** How far the stream reaches, and what of it a peer misses. */

import { describe, expect, it } from "vitest";
import { missingFrom } from "../../src/peer/reach.ts";
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
