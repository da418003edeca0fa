/** How many substreams a peer wants of the source peer, by what it can hand on. */

import { describe, expect, it } from "vitest";
import { bitCount } from "../../src/peer/partners/grants.ts";
import { SourceShare } from "../../src/peer/partners/source-share.ts";

const NONE = Number.POSITIVE_INFINITY;
const ALL = 0b1111_1111;

describe("what a peer wants of the source peer", () => {
  it("is all, while its way out bears what it is given", () => {
    const share = new SourceShare(8, 0);
    expect(share.mask(0, NONE, 0)).toBe(ALL);
    expect(share.mask(0b1100, NONE, 10)).toBe(ALL);
    expect(share.mask(0b1100, 2, 20)).toBe(ALL);
    // Nor when it bears a little less: all are as fast as they can be.
    expect(share.mask(0b1100, 1.01, 20)).toBe(ALL);
    expect(share.mask(0b1, 0.6, 20)).toBe(ALL);
    expect(share.mask(0b1100, NONE, 1e9)).toBe(ALL);
  });

  it("is so much of that as it bears, from then on", () => {
    const share = new SourceShare(8, 0);
    expect(share.mask(0b1111_0101, 2.9, 0)).toBe(0b0000_0101);
    expect(share.mask(0b0000_0101, NONE, 14_999)).toBe(0b0000_0101);
    expect(share.mask(0b0000_0101, 0.9, 14_999)).toBe(0);
    expect(share.mask(0, NONE, 15_000)).toBe(0);
  });

  it("is twice as many after a while, and after twice the time where that was too much", () => {
    const share = new SourceShare(8, 5);
    expect(share.mask(0b11, 0, 0)).toBe(0);
    expect(share.mask(0, NONE, 14_999)).toBe(0);
    // Another one than others try.
    expect(share.mask(0, NONE, 15_000)).toBe(1 << 5);
    expect(share.mask(1 << 5, 0, 16_000)).toBe(0);
    expect(share.mask(0, NONE, 45_999)).toBe(0);
    expect(bitCount(share.mask(0, NONE, 46_000))).toBe(1);
    // It bears that: soon it is all.
    expect(bitCount(share.mask(0, NONE, 76_000))).toBe(2);
    expect(bitCount(share.mask(0, NONE, 106_000))).toBe(4);
    expect(share.mask(0, NONE, 136_000)).toBe(ALL);
    // And begins with the short time again.
    expect(share.mask(0b1, 0, 600_000)).toBe(0);
    expect(bitCount(share.mask(0, NONE, 615_000))).toBe(1);
  });

  it("keeps what the source peer pushes when more are added", () => {
    const share = new SourceShare(8, 0);
    expect(share.mask(0b1110_0000, 1, 0)).toBe(0b0010_0000);
    const more = share.mask(0b0010_0000, NONE, 15_000);
    expect(more & 0b0010_0000).toBe(0b0010_0000);
    expect(bitCount(more)).toBe(2);
  });

  it("keeps of what the source peer pushes now, whatever it kept before", () => {
    const share = new SourceShare(8, 0);
    expect(share.mask(0b0001_1111, 2, 0)).toBe(0b0000_0011);
    for (const nowMs of [15_000, 30_000]) share.mask(0b11, NONE, nowMs);
    expect(share.mask(0b1111, NONE, 45_000)).toBe(ALL);
    expect(share.mask(0b1111_1000, 2, 46_000)).toBe(0b0001_1000);
  });

  it("has 32 substreams at most", () => {
    const share = new SourceShare(32, 31);
    expect(share.mask(0, NONE, 0)).toBe(0xffff_ffff);
    expect(share.mask(0xe000_0000, 1, 0)).toBe(0x8000_0000);
    expect(share.mask(0x8000_0001, 0, 1)).toBe(0);
  });
});
