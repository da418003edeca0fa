/** When a writer that was told to wait is woken. */

import { expect, it } from "vitest";
import { swarm } from "./harness.ts";

it("a writer is not woken in the input that tells it to wait, but right after it", () => {
  // Without checksums what a write fills is stored, and found to be small, within the same input.
  const { world, source } = swarm(1, {
    integrity: "none",
    windowFragments: 64,
    windowBytes: 16 * 4_096,
  });
  world.run(() => source.overlay.neighbours.length === 1);
  world.advance(200);
  const data = Array.from({ length: 24 }, () => new Uint8Array(2_100));
  const { accepted, credit } = source.write("s", ...data);
  expect(accepted).toBeLessThan(24);
  expect(credit).toBe(0);
  expect(source.has("writable")).toBe(false);
  world.advance(1);
  expect(source.eventsOf("writable").length).toBe(1);
  expect(source.write("s", new Uint8Array(2_100)).accepted).toBe(1);
});
