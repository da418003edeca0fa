/** The second half of swarm.test.ts, so that two workers share the seeds. */

import { describe, expect, test } from "vitest";
import { runSeeds } from "./swarm-seeds.ts";

describe("swarm of 8 to 25 peers", () => {
  test("seeds 56 to 110: everybody in good standing gets everything, no checker speaks up", () => {
    const { goodShare } = runSeeds(56, 110);
    expect(goodShare).toBeGreaterThan(0.8);
  }, 240_000);
});
