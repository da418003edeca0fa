/** What is left to partners: one window, partners that hold everything, no transport. */

import { beforeEach, describe, expect, it } from "vitest";
import { seededRng } from "../../src/base/rng.ts";
import { KnownTimes } from "../../src/peer/known-times.ts";
import type { PeerLink } from "../../src/peer/link.ts";
import { Neighbour } from "../../src/peer/neighbour.ts";
import { PushBounds } from "../../src/peer/push-bounds.ts";
import { Suppliers } from "../../src/peer/suppliers.ts";
import { ROLES } from "../../src/protocol/common.ts";
import { Picker } from "../../src/stream/picker.ts";
import { FragmentWindow } from "../../src/stream/window.ts";
import { createMemory } from "../stream/world.ts";

const FRAGMENTS = 256;
/** Longer than a partner that is new may pause (500 ms), shorter than what it pushes late (2 s). */
const PAUSE_MS = 700;

let window: FragmentWindow;
let suppliers: Suppliers;
let bounds: PushBounds;

beforeEach(() => {
  const options = { start: 0, fragments: FRAGMENTS, bytes: 2 ** 40, fragmentBytes: 1_024 };
  window = new FragmentWindow(createMemory(1), options);
  suppliers = new Suppliers(seededRng(1));
  const times = new KnownTimes(4_000);
  times.sample(FRAGMENTS, 0);
  const picker = new Picker(window, 1);
  bounds = new PushBounds({ window, picker, suppliers, times, patienceMs: 3_000 });
});

/** One that pushes the only substream from `pullFrom` on. */
function partner(pullFrom = 0): Neighbour {
  const link = { openLane: () => ({}) } as unknown as PeerLink;
  const neighbour = new Neighbour({}, window, undefined, link, "aa", ROLES.peer, 0);
  neighbour.advertised(0, FRAGMENTS);
  neighbour.grantedLimit = FRAGMENTS;
  neighbour.pullFrom[0] = pullFrom;
  suppliers.add(neighbour);
  return neighbour;
}

/** It pushed fragment `index` at this time. */
function pushed(by: Neighbour, index: number, nowMs: number): void {
  by.lastDataMs = nowMs;
  suppliers.of(by)?.pushes.pushed(index, 0, nowMs);
}

function boundAt(nowMs: number, by: Neighbour): number {
  bounds.update([by], [], nowMs);
  return bounds.of(0);
}

describe("what is left to a partner", () => {
  it("is all from where it was asked to push", () => {
    expect(boundAt(0, partner(64))).toBe(64);
  });

  it("is not what it passed over: it pushed what lies behind, and went on", () => {
    const one = partner();
    pushed(one, 5, 0);
    expect(boundAt(0, one)).toBe(0);
    pushed(one, 6, PAUSE_MS);
    expect(boundAt(PAUSE_MS, one)).toBe(1);
  });

  it("is what it has not come to, as long as it goes on", () => {
    const one = partner();
    expect(boundAt(0, one)).toBe(0);
    one.lastDataMs = PAUSE_MS;
    expect(boundAt(PAUSE_MS, one)).toBe(0);
  });

  it("is nothing once it pauses for longer than it should", () => {
    const one = partner();
    pushed(one, 5, 0);
    expect(boundAt(0, one)).toBe(0);
    expect(boundAt(PAUSE_MS, one)).toBe(FRAGMENTS);
  });

  it("is what its predecessor goes on with, until that has gone", () => {
    const [before, after] = [partner(), partner(64)];
    after.tookOver[0] = before;
    expect(boundAt(0, after)).toBe(0);
    suppliers.remove(before);
    expect(boundAt(0, after)).toBe(64);
  });
});
