import { describe, expect, it } from "vitest";
import { Punctuality } from "../../src/peer/punctuality.ts";

const MOST_MS = 10_000;

/** Pushes `count` fragments, one each `everyMs`, each known for `ageMs(i)`. */
function pushing(count: number, everyMs: number, ageMs: (i: number) => number): Punctuality {
  const pushes = new Punctuality();
  for (let i = 0; i < count; i++) pushes.pushed(i, ageMs(i), 1_000 + i * everyMs);
  return pushes;
}

describe("how long a partner is waited for", () => {
  it("follows the age at which it usually pushes", () => {
    const quick = pushing(100, 30, () => 50);
    const slow = pushing(100, 30, () => 4_000);
    expect(quick.lateMs(0, MOST_MS)).toBeLessThan(2_000);
    expect(slow.lateMs(0, MOST_MS)).toBeGreaterThan(4_000);
    expect(slow.lateMs(0, MOST_MS)).toBeLessThan(6_000);
  });

  it("leaves room for what wavers", () => {
    const steady = pushing(100, 30, () => 3_000);
    const wavering = pushing(100, 30, (i) => (i % 2 === 0 ? 2_000 : 4_000));
    expect(wavering.lateMs(0, MOST_MS)).toBeGreaterThan(steady.lateMs(0, MOST_MS) + 1_000);
  });

  it("is never more than what is allowed", () => {
    const slow = pushing(100, 30, () => 60_000);
    expect(slow.lateMs(0, MOST_MS)).toBe(MOST_MS);
    expect(new Punctuality().lateMs(60_000, 3_000)).toBe(3_000);
  });

  it("is longer on a slow stream as long as nothing is known of it", () => {
    expect(new Punctuality().lateMs(4_000, MOST_MS)).toBeGreaterThan(
      new Punctuality().lateMs(0, MOST_MS),
    );
    expect(new Punctuality().idleMs(4_000)).toBeGreaterThan(new Punctuality().idleMs(0));
  });
});

describe("when a partner stands still", () => {
  it("is a matter of its pauses while it had something", () => {
    const brisk = pushing(100, 10, () => 500);
    const one = pushing(100, 800, () => 2_000);
    expect(brisk.idleMs(0)).toBeLessThan(500);
    expect(one.idleMs(0)).toBeGreaterThanOrEqual(800);
  });

  it("is none of its pauses while there was nothing to push", () => {
    const rare = pushing(100, 5_000, () => 20);
    expect(rare.idleMs(0)).toBeLessThan(500);
  });

  it("what it passed over lies below the highest that it pushed", () => {
    const pushes = new Punctuality();
    expect(pushes.pushedTo).toBe(0);
    pushes.pushed(17, 0, 0);
    pushes.pushed(12, 0, 0);
    expect(pushes.pushedTo).toBe(18);
  });
});
