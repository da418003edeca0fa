/** The main proof: a swarm of real peers under drawn faults, seed after seed. See swarm-more.test.ts. */

import { describe, expect, test } from "vitest";
import { CPU_MS_MAX, runSeeds } from "./swarm-seeds.ts";

describe("swarm of 8 to 25 peers", () => {
  test("seeds 1 to 150: everybody in good standing gets everything, no checker speaks up", () => {
    const { goodShare, reports, cpuMs } = runSeeds(1, 150);
    // A run in which everybody is excused proves nothing.
    expect(goodShare).toBeGreaterThan(0.8);
    expect(cpuMs).toBeLessThan(CPU_MS_MAX);
    const long = ({ fragments, options }: (typeof reports)[number]): boolean =>
      fragments > 2 * options.windowFragments;
    expect(reports.filter(long).length).toBeGreaterThan(25);
    for (const { healedMs, options } of reports) expect(healedMs).toBeLessThan(options.healMs);
  }, 600_000);
});
