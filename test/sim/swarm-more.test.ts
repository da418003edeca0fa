/** The second half of swarm.test.ts, so that two workers share the seeds. */

import { describe, expect, test } from "vitest";
import { CPU_MS_MAX, runSeeds } from "./swarm-seeds.ts";

describe("swarm of 8 to 25 peers", () => {
  test("seeds 151 to 300: everybody in good standing gets everything, no checker speaks up", () => {
    const { goodShare, cpuMs } = runSeeds(151, 300);
    expect(goodShare).toBeGreaterThan(0.8);
    expect(cpuMs).toBeLessThan(CPU_MS_MAX);
  }, 600_000);
});
