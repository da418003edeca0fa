/** How long a source stays after the end, whoever comes and goes meanwhile. */

import { describe, expect, it } from "vitest";
import { Latecomers, type LateReader } from "../../src/host/latecomers.ts";

const END = 1_000_000;
const LATE_JOIN_MS = 3_000;
const LINGER_MS = 10_000;
const LOOK_MS = 50;

/** How long it stays, of an hour, with those who are there at each time. */
function staysMs(there: (ms: number) => LateReader[], lateJoinMs = LATE_JOIN_MS): number {
  const beganMs = 5_000_000;
  const late = new Latecomers(lateJoinMs, LINGER_MS, beganMs);
  for (let ms = 0; ms < 3_600_000; ms += LOOK_MS) {
    if (!late.stays(there(ms), END, beganMs + ms)) return ms;
  }
  return Number.POSITIVE_INFINITY;
}

const reader = (peerId: string, ackedTo: number): LateReader => ({
  peerId,
  lagging: false,
  ackedTo,
});

describe("a source after the end", () => {
  it("stays until nobody new came for lateJoinMs", () => {
    expect(staysMs(() => [])).toBe(LATE_JOIN_MS);
    expect(staysMs(() => [], 0)).toBe(0);
    const one = reader("a", END + 1);
    expect(staysMs((ms) => (ms >= 2_000 ? [one] : []))).toBe(2_000 + LATE_JOIN_MS);
    expect(staysMs(() => [one], 0)).toBe(0);
  });

  it("is not kept by who links anew again and again, under one name or many", () => {
    const every2s = (ms: number) => Math.floor(ms / 2_000);
    const one = (ms: number) => [reader("a", ms % 2_000 < 1_000 ? 0 : 5)];
    expect(staysMs(one)).toBe(1_000 + LINGER_MS);
    expect(staysMs((ms) => [reader(`${every2s(ms)}`, END + 1)])).toBe(5 * LATE_JOIN_MS);
    expect(staysMs((ms) => [reader(`${every2s(ms)}`, 0)])).toBeLessThanOrEqual(
      5 * LATE_JOIN_MS + LINGER_MS,
    );
  });

  it("stays for who came and reads, until that one stands still, and not for ever", () => {
    const reads = (toMs: number) => (ms: number) => [reader("a", Math.min(ms, toMs) + 1)];
    expect(staysMs(reads(100_000))).toBe(100_000 + LINGER_MS);
    expect(staysMs(reads(100_000), 0)).toBe(100_000 + LINGER_MS);
    expect(staysMs(reads(999_000))).toBe(60 * LINGER_MS);
    expect(staysMs((ms) => [{ ...reader("a", ms), lagging: true }])).toBe(LATE_JOIN_MS);
  });
});
