/** A chain whose last reads slowly, so that windows before it are full, when the source peer is gone. */

import { describe, expect, it } from "vitest";
import { Feed, type Node, received, swarm } from "./harness.ts";

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
    const { overlayId } = last;
    for (const node of [first, middle, last]) {
      node.command({ kind: "overlayEnded", overlayId, startedOver: true, movesOn: true });
    }
    const goesOn = (node: Node): void => {
      if (!node.has("drained") || !node.machine.overlays.has(overlayId)) return;
      node.command({ kind: "leaveOverlay", overlayId, announced: true, movesOn: true });
    };
    const all = reads(400, () => {
      for (const node of [first, middle, last]) goesOn(node);
      return last.has("drained");
    });
    expect(all).toBe(true);
    expect(first.taken).toHaveLength(held);
    expect(middle.taken).toHaveLength(held);
    expect(last.taken).toHaveLength(held);
  });
});
