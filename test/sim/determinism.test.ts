/** One seed is one run, event for event. */

import { describe, expect, test } from "vitest";
import { peerDriver } from "./peer-driver.ts";
import { type Report, simulate } from "./run.ts";

function run(seed: number, signatures: "stand-in" | "ed25519" = "stand-in"): Report {
  const overrides = { signatures, dataPerSource: 60 };
  return simulate({ seed, driver: peerDriver, overrides });
}

describe("determinism", () => {
  test("the same seed gives the same trace hash and the same counts", () => {
    const hashes = new Set<string>();
    const seeds = [1, 2, 3, 4];
    for (const seed of seeds) {
      const [one, two] = [run(seed), run(seed)];
      expect(two.traceHash, `seed ${seed}`).toBe(one.traceHash);
      expect(two.events).toBe(one.events);
      expect(two.framesByType).toEqual(one.framesByType);
      expect(two.virtualMs).toBe(one.virtualMs);
      hashes.add(one.traceHash);
    }
    expect(hashes.size).toBe(seeds.length);
  }, 120_000);

  test("with real signatures as well", () => {
    const [one, two] = [run(9, "ed25519"), run(9, "ed25519")];
    expect(two.traceHash).toBe(one.traceHash);
    expect(run(9).traceHash).not.toBe(one.traceHash);
  });
});
