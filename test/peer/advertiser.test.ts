/** What a node tells its neighbours of what it holds, when, and what it keeps in order to. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { HAVE_BATCH_FRAGMENTS } from "../../src/base/limits.ts";
import type { Advertiser } from "../../src/peer/advertiser.ts";
import { encodeFrame, REFRESH } from "../../src/protocol/r10.ts";
import { type Node, settingsOf, swarm, World } from "./harness.ts";

function untold(node: Node): number {
  return (node.overlay as unknown as { advertiser: Advertiser }).advertiser.untold;
}

/** Writes so many fragments, one every 5 ms; the most that was kept meanwhile. */
function mostKept(world: World, source: Node, fragments: number, each = (_: number) => {}): number {
  let most = 0;
  for (let i = 0; i < fragments; i++) {
    source.write("s", new Uint8Array(3_000));
    most = Math.max(most, untold(source));
    world.advance(5);
    each(i);
  }
  return most;
}

describe("what was stored and is still to be told", () => {
  it("is nothing where nobody listens, and who comes is told of all that is held", () => {
    const world = new World();
    const source = world.node();
    const settings = settingsOf(source.keys.peerId, { delivery: "live" });
    source.open("source", settings, { waitPeers: 0 }).register("s");
    expect(mostKept(world, source, 500)).toBe(0);
    const late = world.node().open("peer", settings, { from: "oldest" }).dial(source);
    world.run(() => late.has("started"));
    const { start, highest } = source.overlay.window;
    expect(highest).toBeGreaterThan(400);
    world.run(() => late.overlay.consumer?.consumedTo === highest);
    expect(late.taken.length).toBeGreaterThan((highest - start) / 2);
    mostKept(world, source, 20);
    world.run(() => late.overlay.consumer?.consumedTo === source.overlay.window.highest);
    expect(late.has("gap")).toBe(false);
  });

  it("is dropped once nobody is left to be told", () => {
    const { world, source, peers } = swarm(2, { delivery: "live", waitPeers: 0 });
    world.advance(500);
    mostKept(world, source, 3);
    source.write("s", new Uint8Array(3_000));
    expect(untold(source)).toBeGreaterThan(0);
    for (const peer of peers) peer.crash();
    world.run(() => source.overlay.neighbours.length === 0);
    mostKept(world, source, 100);
    expect(untold(source)).toBe(0);
  });

  it("is little with neighbours, also with one that asks for the map again and again", () => {
    const { world, source } = swarm(1, { delivery: "live", waitPeers: 0 });
    const asks = world.stranger().join(source);
    world.advance(500);
    const most = mostKept(world, source, 400, (i) => {
      if (i % 10 === 0) asks.send(encodeFrame(REFRESH, { tag: asks.tag }));
    });
    expect(asks.of(FRAME_TYPES.BUFFERMAP).length).toBeGreaterThan(3);
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(2 * HAVE_BATCH_FRAGMENTS);
  });
});

describe("a map that was put off", () => {
  it("is told when the second is over, at whatever fraction of a millisecond that began", () => {
    for (let tenths = 1; tenths <= 10; tenths++) {
      const { world, source } = swarm(0);
      // The second is over beyond 2,048 ms, from where on numbers are rounded more coarsely.
      world.advance(300 + tenths / 10);
      const asks = world.stranger().join(source);
      const input = source.input.bind(source);
      let turns = 0;
      source.input = (each) => {
        if (++turns > 1_000) throw new Error("it is due again and again");
        input(each);
      };
      const refresh = encodeFrame(REFRESH, { tag: asks.tag });
      asks.send(refresh, refresh, refresh);
      world.advance(500);
      expect(asks.of(FRAME_TYPES.BUFFERMAP)).toHaveLength(3);
      world.advance(600);
      expect(asks.of(FRAME_TYPES.BUFFERMAP)).toHaveLength(4);
    }
  });
});
