/** Limits: relations between them, and what DESIGN promises to users. */

import { describe, expect, test } from "vitest";
import * as layout from "../../src/base/layout.ts";
import * as limits from "../../src/base/limits.ts";

describe("limits", () => {
  test("every limit is a positive whole number that JavaScript holds exactly", () => {
    for (const [name, value] of Object.entries(limits)) {
      expect(Number.isSafeInteger(value) && value > 0, name).toBe(true);
    }
  });

  test("defaults lie between their lowest and highest values", () => {
    const within = (low: number, value: number, high: number): void => {
      expect(low).toBeLessThanOrEqual(value);
      expect(value).toBeLessThanOrEqual(high);
    };
    within(limits.FRAGMENT_BYTES_MIN, limits.FRAGMENT_BYTES_DEFAULT, limits.FRAGMENT_BYTES_MAX);
    within(1, limits.WINDOW_FRAGMENTS_DEFAULT, limits.WINDOW_FRAGMENTS_MAX);
    within(limits.MEMORY_MIB_MIN, limits.MEMORY_MIB_DEFAULT, limits.MEMORY_MIB_MAX);
    within(1, limits.SUBSTREAMS_DEFAULT, limits.SUBSTREAMS_MAX);
  });

  test("P2.1: the largest datum takes fewer slices than a 32-bit length can say", () => {
    expect(limits.DATUM_BYTES_MAX).toBe(16 * 1024 * 1024);
    expect(limits.DATUM_BYTES_MAX).toBeLessThan(2 ** 32);
  });

  test("a frame of the most ranges and a full buffermap fit their frames", () => {
    const rangesBytes =
      layout.RANGES_HEADER_BYTES + limits.RANGES_PER_FRAME_MAX * layout.RANGE_BYTES;
    expect(rangesBytes).toBeLessThanOrEqual(limits.CONTROL_FRAME_BYTES_MAX);
    const mapBytes = layout.BUFFERMAP_HEADER_BYTES + limits.WINDOW_FRAGMENTS_MAX / 8;
    expect(mapBytes).toBeLessThanOrEqual(limits.FRAME_BYTES_MAX);
  });

  test("a queue holds a run of default fragments and more; a window several", () => {
    const runBytes =
      layout.FRAME_HEADER_BYTES + limits.SUBSTREAM_RUN * limits.FRAGMENT_BYTES_DEFAULT;
    expect(limits.LINK_QUEUE_BYTES_MAX).toBeGreaterThan(runBytes);
    expect(limits.WINDOW_BYTES_DEFAULT).toBeGreaterThanOrEqual(8 * runBytes);
    expect(limits.WINDOW_BYTES_MIN).toBeGreaterThanOrEqual(4 * limits.FRAGMENT_BYTES_DEFAULT);
  });

  test("memory at its smallest holds a window and what is queued for a datum", () => {
    expect(limits.MEMORY_MIB_MIN * 1024 * 1024).toBeGreaterThanOrEqual(limits.WINDOW_BYTES_DEFAULT);
  });

  test("times come in the order in which things must be noticed", () => {
    expect(limits.HAVE_DELAY_MS).toBeLessThan(limits.PING_MS);
    expect(limits.LINK_DEAD_MS).toBeGreaterThan(2 * limits.PING_MS);
    expect(limits.REPAIR_MS_DEFAULT).toBeLessThan(limits.STALL_MS_DEFAULT);
    expect(limits.STALL_MS_DEFAULT).toBeLessThan(limits.HOLD_MS_DEFAULT);
  });

  test("local source numbers and substreams fit where they are written", () => {
    expect(limits.SOURCES_MAX).toBe(256);
    expect(limits.SUBSTREAMS_MAX).toBe(32);
    expect(limits.SOURCE_ID_BYTES_MAX).toBeLessThan(256);
    expect(limits.CONTENT_TYPE_BYTES_MAX).toBeLessThan(256);
    expect(limits.INDEX_MAX + 1).toBe(Number.MAX_SAFE_INTEGER);
  });
});
