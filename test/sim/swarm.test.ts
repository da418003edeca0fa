/** The main proof: a swarm of real peers under drawn faults, seed after seed. See swarm-more.test.ts. */

import { describe, expect, test } from "vitest";
import { runSeeds } from "./swarm-seeds.ts";

describe("swarm of 8 to 25 peers", () => {
  test("seeds 1 to 55: everybody in good standing gets everything, no checker speaks up", () => {
    const { goodShare, hits, reports } = runSeeds(1, 55);
    // A run in which everybody is excused proves nothing.
    expect(goodShare).toBeGreaterThan(0.8);
    expect(
      reports.filter(({ fragments, options }) => fragments > 2 * options.windowFragments).length,
    ).toBeGreaterThan(10);
    const kinds = [
      "reset",
      "silence",
      "stall",
      "partition",
      "pause",
      "crash",
      "leave",
      "join",
      "wallJump",
    ];
    for (const kind of kinds) expect(hits[kind], kind).toBeGreaterThan(0);
  }, 240_000);
});
