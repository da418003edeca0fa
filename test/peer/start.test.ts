/** Where a newcomer of a complete session starts when members answer it at different times. */

import { describe, expect, it } from "vitest";
import { encodeBuffermap } from "../../src/protocol/r10-binary.ts";
import { Feed, type Node, received, swarm } from "./harness.ts";

/** A source that waits for two; one is there, and has taken and freed what came first. */
function oneAhead() {
  const { world, source, peers } = swarm(1, { waitPeers: 2 });
  const ahead = peers[0] as Node;
  const feed = new Feed(source, 1_000, () => 900);
  world.run(() => ahead.overlay.window.start > 0);
  expect(source.overlay.window.start).toBe(0);
  const late = world.node().open("peer", source.overlay.settings);
  return { world, source, ahead, feed, late };
}

describe("a newcomer chooses its start", () => {
  it("after the source peer answered, which kept all for it, however busy that is", () => {
    const { world, source, ahead, feed, late } = oneAhead();
    late.dial(source).dial(ahead);
    source.stall(source.lastInbound, true);
    world.run(() => late.overlay.neighbours.length === 1);
    world.advance(1_000);
    expect(late.has("started")).toBe(false);
    source.stall(source.lastInbound, false);
    world.run(() => late.has("ended"));
    expect(late.eventsOf("started").map(({ index }) => index)).toEqual([0]);
    expect(received(late)).toEqual(feed.written);
  });

  it("after each neighbour has told its map", () => {
    const { world, source, ahead, feed, late } = oneAhead();
    late.dial(source);
    world.run(() => late.overlay.neighbours.length === 1);
    // Its HELLO is through, its map is not.
    source.stall(source.lastInbound, true);
    late.dial(ahead);
    world.advance(1_000);
    expect(late.overlay.neighbours.map(({ mapKnown }) => mapKnown)).toEqual([false, true]);
    expect(late.has("started")).toBe(false);
    source.stall(source.lastInbound, false);
    world.run(() => late.has("ended"));
    expect(received(late)).toEqual(feed.written);
  });

  it("without those that do not answer within two seconds", () => {
    const { world, source, ahead, late } = oneAhead();
    const dialledMs = world.nowMs;
    late.dial(source).dial(ahead);
    source.stall(source.lastInbound, true);
    world.run(() => late.has("started"), 2_500);
    expect(world.nowMs - dialledMs).toBeGreaterThan(1_900);
    expect(late.eventsOf("started")[0]?.index).toBeGreaterThan(0);
  });

  it("at once when all have answered", () => {
    const { world, source, ahead, late } = oneAhead();
    late.dial(source).dial(ahead);
    world.run(() => late.has("started"), 200);
  });
});

it("a newcomer asks the source peer at once for what all others have dropped", () => {
  const { world, source, peers } = swarm(1, { waitPeers: 1 });
  for (let i = 0; i < 200; i++) {
    expect(source.write("s", new Uint8Array(100)).accepted).toBe(1);
    world.advance(20);
  }
  expect(source.overlay.window.heldCount).toBe(200);
  const late = world.node().open("peer", source.overlay.settings).dial(source);
  const other = world.stranger().join(late);
  other.send(encodeBuffermap(other.tag, 190, 10, new Uint8Array(0)));
  world.run(() => late.has("started"));
  // There is room for a part of it at a time.
  expect(late.overlay.window.limit).toBeLessThan(100);
  const startMs = world.nowMs;
  world.run(() => late.taken.length >= 190);
  expect(world.nowMs - startMs).toBeLessThan(1_500);
  expect(late.taken.slice(0, 190)).toMatchObject(
    (peers[0] as Node).taken.slice(0, 190).map(({ sequence, digest }) => ({ sequence, digest })),
  );
});
