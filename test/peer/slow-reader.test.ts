/** A chain whose last reads slowly, so that windows before it are full, when the source peer is gone. */

import { describe, expect, it } from "vitest";
import { Feed, type Node, received, settingsOf, swarm, World } from "./harness.ts";

const READS_MS = 1_500;

function chain(ends: boolean) {
  const { world, source, peers } = swarm(3, { links: "chain", waitPeers: 1 });
  const [first, middle, last] = peers as [Node, Node, Node];
  last.takes = false;
  const feed = new Feed(source, 220, () => 4_000, { ends });
  /** One datum is read in READS_MS. Returns whether `done` became true. */
  const reads = (times: number, done: () => boolean): boolean => {
    for (let i = 0; i < times && !done(); i++) {
      world.advance(READS_MS);
      last.take(1);
    }
    return done();
  };
  return { world, source, first, middle, last, feed, reads };
}

/** The source peer started over: each goes on there once it has no more to do here. */
function startedOver(nodes: readonly Node[]): () => void {
  const overlayId = nodes[0]?.overlayId ?? "";
  for (const node of nodes) {
    node.command({ kind: "overlayEnded", overlayId, startedOver: true, movesOn: true });
  }
  return () => {
    for (const node of nodes) {
      if (!node.has("drained") || !node.machine.overlays.has(overlayId)) continue;
      node.command({ kind: "leaveOverlay", overlayId, announced: true, movesOn: true });
    }
  };
}

describe("a peer with a full window", () => {
  it("has not lost the session while a neighbour has the rest", () => {
    const { source, first, middle, last, feed, reads } = chain(true);
    expect(reads(400, () => source.has("ended"))).toBe(true);
    source.leave();
    const { overlayId } = source;
    for (const node of [first, middle, last]) {
      if (node.machine.overlays.has(overlayId)) node.command({ kind: "overlayEnded", overlayId });
    }
    expect(reads(400, () => last.has("ended") || last.has("failed"))).toBe(true);
    for (const node of [first, middle, last]) {
      expect(node.eventsOf("failed")).toEqual([]);
      expect(received(node)).toEqual(feed.written);
    }
  });

  it("goes on to where the source started over only when who reads here has all of it", () => {
    const { world, source, first, middle, last, reads } = chain(false);
    reads(30, () => false);
    const held = first.overlay.window.highest;
    expect(middle.overlay.window.highest).toBeLessThan(held);
    source.crash();
    world.advance(1_000);
    const goOn = startedOver([first, middle, last]);
    const all = reads(400, () => {
      goOn();
      return last.has("drained");
    });
    expect(all).toBe(true);
    expect(first.taken).toHaveLength(held);
    expect(middle.taken).toHaveLength(held);
    expect(last.taken).toHaveLength(held);
  });
});

describe("a live peer that goes on to where the source started over", () => {
  it("waits for nobody who has less download than it is sent", () => {
    const world = new World();
    const source = world.node();
    const settings = settingsOf(source.keys.peerId, { delivery: "live", maxLagMs: 60_000 });
    source.open("source", settings, { waitPeers: 1 }).register("s");
    const first = world.node().open("peer", settings).dial(source);
    const slow = world.node({ downloadLimitBytesPerSecond: 8_000 }).open("peer", settings);
    slow.dial(first);
    world.run(() => first.overlay.neighbours.length === 2);
    world.advance(500);
    for (let i = 0; i < 60; i++) {
      source.write("s", new Uint8Array(4_000));
      world.advance(50);
    }
    world.run(() => first.taken.length === 60);
    source.crash();
    world.advance(1_000);
    startedOver([first]);
    world.run(() => first.has("drained"), 3_000);
    expect(slow.taken.length).toBeLessThan(50);
    expect(slow.has("gap")).toBe(false);
  });
});
