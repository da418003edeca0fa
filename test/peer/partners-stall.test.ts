/** A session that stood still because of one goes on: nobody is blamed for what had no room. */

import { expect, it } from "vitest";
import { type Node, settingsOf, World } from "./harness.ts";

const PEERS = 5;

it("partners stay, and hardly anything comes twice, when a full window moves on", () => {
  const world = new World();
  const source = world.node({ memoryMiB: 16 });
  const settings = settingsOf(source.keys.peerId, {
    fragmentBytes: 4_096,
    windowBytes: 1_024 * 1_024,
    windowFragments: 256,
  });
  source.open("source", settings, { waitPeers: PEERS - 2 }).register("s");
  const peers: Node[] = Array.from({ length: PEERS }, () =>
    world.node({ memoryMiB: 8 }).open("peer", settings),
  );
  const [idle, held, ...others] = peers as [Node, Node, ...Node[]];
  for (const other of others) {
    other.dial(source);
    held.dial(other);
  }
  idle.dial(held);
  world.run(() => held.overlay.neighbours.length === PEERS - 1);
  // What goes on comes some ticks after it was known to go on.
  for (const node of [source, ...peers]) node.latencyMs = 150;
  const write = (ms: number): void => {
    for (let at = 0; at < ms; at += 20) {
      source.write("s", new Uint8Array(3_900));
      world.advance(20);
    }
  };
  write(3_000);
  idle.takes = false;
  write(25_000);
  expect(held.eventsOf("neighbour").map(({ state }) => state)).toContain("lagging");
  const { duplicates, fragmentsReceived } = held.counters;
  expect(fragmentsReceived).toBeGreaterThan(600);
  expect(duplicates).toBeLessThan(5);
});
