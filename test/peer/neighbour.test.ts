/** What is pushed to a neighbour: from which index on each substream, and until when. */

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
