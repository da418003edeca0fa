/** The second half of swarm.test.ts, so that two workers share the seeds. */

import { describe, expect, test } from "vitest";
import { runSeeds } from "./swarm-seeds.ts";

describe("swarm of 8 to 25 peers", () => {
  test("seeds 151 to 300: everybody in good standing gets everything, no checker speaks up", () => {
    const { goodShare } = runSeeds(151, 300);
    expect(goodShare).toBeGreaterThan(0.8);
  }, 600_000);
});
