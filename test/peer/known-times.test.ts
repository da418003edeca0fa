import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KnownTimes } from "../../src/peer/known-times.ts";

describe("KnownTimes", () => {
  it("tells from when an index was known, by samples and not by when it was asked", () => {
    const times = new KnownTimes(1_000);
    times.sample(10, 100);
    times.sample(25, 200);
    times.sample(25, 900);
    expect(times.ageMs(9, 1_000)).toBe(900);
    expect(times.ageMs(10, 1_000)).toBe(800);
    expect(times.ageMs(24, 1_000)).toBe(800);
    expect(times.ageMs(25, 1_000)).toBe(0);
    expect(times.knownBefore(850, 1_000)).toBe(10);
    expect(times.knownBefore(800, 1_000)).toBe(25);
    expect(times.knownBefore(901, 1_000)).toBe(0);
  });

  it("takes what came too soon with the next sample: nothing is older than it is", () => {
    const times = new KnownTimes(254_000);
    times.sample(1, 0);
    times.sample(2, 10);
    expect(times.highest).toBe(1);
    times.sample(2, 1_001);
    expect(times.ageMs(1, 1_001)).toBe(0);
    expect(times.ageMs(1, 2_001)).toBe(1_000);
  });

  it("never says older than true, nor later than a spacing and the pause between samples", () => {
    const stream = fc.array(fc.tuple(fc.nat(5), fc.integer({ min: 1, max: 200 })), {
      minLength: 1,
      maxLength: 2_000,
    });
    fc.assert(
      fc.property(stream, fc.integer({ min: 100, max: 20_000 }), (steps, spanMs) => {
        const times = new KnownTimes(spanMs);
        const slackMs = Math.max(25, spanMs / 254) + 200;
        const learnedMs: number[] = [];
        let nowMs = 0;
        let known = 0;
        for (const [grown, passedMs] of steps) {
          nowMs += passedMs;
          for (let i = 0; i < grown; i++) learnedMs.push(nowMs);
          known += grown;
          times.sample(known, nowMs);
          const bound = times.knownBefore(spanMs, nowMs);
          // All it names are so old, and all that are much older it names.
          if (bound > 0)
            expect(nowMs - (learnedMs[bound - 1] as number)).toBeGreaterThanOrEqual(spanMs);
          const next = learnedMs[bound];
          if (next !== undefined) expect(nowMs - next).toBeLessThanOrEqual(spanMs + slackMs);
        }
      }),
      { numRuns: 60 },
    );
  });
});
