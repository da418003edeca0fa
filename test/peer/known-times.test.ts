import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KnownTimes } from "../../src/peer/known-times.ts";

describe("known times", () => {
  it("knows nothing at first", () => {
    const times = new KnownTimes(1_000);
    expect(times.knownAt(1e9)).toBe(0);
    expect(times.ageMs(0, 1e9)).toBe(0);
  });

  it("says what was known when, as far as it looks back", () => {
    const steps = fc.record({ ms: fc.integer({ min: 50, max: 400 }), more: fc.nat(20) });
    fc.assert(
      fc.property(fc.array(steps, { maxLength: 80 }), fc.nat(3_000), (walk, backMs) => {
        const times = new KnownTimes(2_000);
        const samples: { ms: number; known: number }[] = [];
        let ms = 0;
        let known = 0;
        for (const step of walk) {
          ms += step.ms;
          known += step.more;
          times.sample(known, ms);
          samples.push({ ms, known });
        }
        const atMs = ms - backMs;
        const truth = samples.filter((sample) => sample.ms <= atMs).at(-1)?.known ?? 0;
        if (backMs <= 2_000) expect(times.knownAt(atMs)).toBe(truth);
        const first = samples.find((sample) => sample.known > known - 1);
        if (known > 0 && first !== undefined && ms - first.ms <= 2_000) {
          expect(times.ageMs(known - 1, ms)).toBe(ms - first.ms);
        }
        expect(times.ageMs(known, ms)).toBe(0);
      }),
    );
  });

  it("takes a sample each 50 ms and never forgets what it knew", () => {
    const times = new KnownTimes(1_000);
    times.sample(10, 0);
    times.sample(20, 49);
    expect(times.knownAt(49)).toBe(10);
    times.sample(5, 50);
    expect(times.knownAt(50)).toBe(10);
    expect(times.ageMs(9, 100)).toBe(100);
  });
});
