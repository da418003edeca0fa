/** Several newcomers at once, linked with each other and with others, and not with the source peer. */

import { describe, expect, it } from "vitest";
import { type Node, settingsOf, World } from "./harness.ts";

const HALF = 200;

/** Half of the stream is over when newcomers come; what each of all took of the rest. */
function join(delivery: "live" | "complete", settled: number, newcomers: number) {
  const world = new World();
  const source = world.node();
  const settings = settingsOf(source.keys.peerId, { delivery });
  source.open("source", settings, { waitPeers: 1 }).register("s");
  const before = Array.from({ length: settled }, () =>
    world.node().open("peer", settings).dial(source),
  );
  const write = (): void => {
    for (let i = 0; i < HALF; i++) {
      source.write("s", new Uint8Array(3_000));
      world.advance(50);
    }
  };
  world.advance(1_000);
  write();
  const late: Node[] = [];
  for (let i = 0; i < newcomers; i++) {
    const node = world.node().open("peer", settings);
    for (const other of [...late, ...before]) node.dial(other);
    late.push(node);
  }
  write();
  source.command({ kind: "endSession", overlayId: settings.overlayId });
  world.run(() => [...late, ...before].every((node) => node.has("ended")), 60_000);
  return { late, before };
}

describe.each(["live", "complete"] as const)("%s: newcomers", (delivery) => {
  it.each([
    [1, 2],
    [1, 8],
    [3, 4],
    [4, 8],
  ])("beside %d others, %d at once begin where the stream is", (settled, count) => {
    const { late, before } = join(delivery, settled, count);
    for (const node of [...late, ...before]) expect(node.eventsOf("gap")).toEqual([]);
    for (const node of before) expect(node.taken).toHaveLength(2 * HALF);
    for (const node of late) expect(node.taken.length).toBeGreaterThanOrEqual(HALF - 3);
  });
});
