/** Peers that have nobody but the source peer, and that has upload for a part of them at a time. */

import { describe, expect, it } from "vitest";
import { MIB } from "../../src/base/units.ts";
import { Feed, received, settingsOf, World } from "./harness.ts";

function star(count: number, uploadLimitBytesPerSecond: number) {
  const world = new World();
  const source = world.node({ uploadLimitBytesPerSecond, memoryMiB: 16 });
  const settings = settingsOf(source.keys.peerId, {
    fragmentBytes: 16_384,
    windowBytes: MIB,
    windowFragments: 1_024,
  });
  source.open("source", settings, { waitPeers: count }).register("s");
  const peers = Array.from({ length: count }, () =>
    world.node({ memoryMiB: 8 }).open("peer", settings).dial(source),
  );
  world.run(() => source.overlay.neighbours.length === count);
  return { world, source, peers };
}

describe("a source peer with little upload", () => {
  it.each([
    [7, 100_000],
    [10, 100_000],
  ])(
    "serves all of %d in turn: nobody is found lagging for what it did not get",
    (count, limit) => {
      const { world, source, peers } = star(count, limit);
      const feed = new Feed(source, 80, () => 16_200);
      const wholeMs = (count * 80 * 16_384 * 1_000) / limit;
      world.run(() => peers.every((peer) => peer.has("ended")), 1.5 * wholeMs);
      const standing = source.eventsOf("neighbour").filter(({ state }) => state === "lagging");
      expect(standing).toEqual([]);
      for (const peer of peers) {
        expect(peer.eventsOf("gap")).toEqual([]);
        expect(received(peer)).toEqual(feed.written);
      }
    },
  );

  it("goes on without one that asks and takes nothing", () => {
    const { world, source, peers } = star(7, 300_000);
    const [idle, ...others] = peers;
    if (idle === undefined) throw new Error("seven");
    idle.takes = false;
    const feed = new Feed(source, 160, () => 16_200);
    world.run(() => others.every((peer) => peer.has("ended")), 600_000);
    for (const peer of others) expect(received(peer)).toEqual(feed.written);
    const lagging = source.eventsOf("neighbour").filter(({ state }) => state === "lagging");
    expect(new Set(lagging.map(({ peerId }) => peerId))).toEqual(new Set([idle.keys.peerId]));
  });
});
