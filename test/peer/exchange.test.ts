/** Source peer and peers: fragments spread, everyone gets everything, everything is given back. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { decodeFragment } from "../support/fragment-decoder.ts";
import { Feed, received, swarm } from "./harness.ts";

describe("a small overlay", () => {
  for (const links of ["all", "source", "chain"] as const) {
    for (const [what, count, bytesOf] of [
      ["small data", 2_000, (i: number) => (i * 37) % 400],
      ["sliced data", 60, (i: number) => (i * 7_919) % 80_000],
    ] as const) {
      it(`of 4 peers (${links}) delivers ${what} to all, in order, once`, () => {
        const waitPeers = links === "chain" ? 1 : 4;
        const { world, source, peers } = swarm(4, { links, waitPeers });
        const feed = new Feed(source, count, bytesOf);
        world.run(() => [...peers, source].every((node) => node.has("ended")));
        for (const peer of peers) {
          expect(received(peer)).toEqual(feed.written);
          expect(peer.counters.gaps).toBe(0);
        }
        expect(source.counters.fragmentsReceived).toBe(0);
      });
    }
  }

  it("hands a single datum on at once, through two peers", () => {
    const { world, source, peers } = swarm(2, { links: "chain", waitPeers: 1 });
    world.advance(1_000);
    for (let i = 0; i < 5; i++) {
      const atMs = world.nowMs;
      source.write("s", Uint8Array.of(i));
      world.run(() => peers.every((peer) => peer.taken.length === i + 1));
      // Two links of 2 ms each, and two verifications: nothing waits for a timer.
      expect(world.nowMs - atMs).toBeLessThan(10);
      world.advance(137);
    }
  });

  it("fragments reach all peers, and peers exchange them among themselves", () => {
    const { world, source, peers } = swarm(4);
    const feed = new Feed(source, 1_500, () => 900);
    world.run(() => [...peers, source].every((node) => node.has("ended")));
    const produced = new Set(
      source.sentOf(FRAME_TYPES.DATA).map((f) => decodeFragment(f.bytes).index),
    );
    for (const peer of peers) {
      expect(received(peer)).toEqual(feed.written);
      expect(peer.sentOf(FRAME_TYPES.DATA).length).toBeGreaterThan(0);
    }
    // Each fragment left the source about once; the rest of four copies came from peers.
    const fromSource = source.sentOf(FRAME_TYPES.DATA).length;
    const fromPeers = peers.reduce((sum, peer) => sum + peer.sentOf(FRAME_TYPES.DATA).length, 0);
    expect(fromSource).toBeLessThan(1.5 * produced.size);
    expect(fromPeers).toBeGreaterThan(2 * produced.size);
  });

  it("the only peer is sent each fragment once, of what was there before it, too", () => {
    const { world, source } = swarm(0, { waitPeers: 1 });
    const feed = new Feed(source, 300, () => 900);
    world.advance(1_000);
    const peer = world.node().open("peer", source.overlay.settings).dial(source);
    world.run(() => [peer, source].every((node) => node.has("ended")));
    expect(received(peer)).toEqual(feed.written);
    expect(peer.counters.duplicates).toBe(0);
    expect(source.counters.fragmentsSent).toBe(peer.counters.fragmentsReceived);
  });

  it("a peer without links gets nothing", () => {
    const { world, source, peers } = swarm(2, { waitPeers: 1 });
    const alone = world.node().open("peer", source.overlay.settings);
    new Feed(source, 100, () => 500);
    world.run(() => peers.every((peer) => peer.has("ended")));
    expect(alone.taken).toEqual([]);
    expect(alone.has("ended")).toBe(false);
  });

  it("sends each fragment from the source once before any second copy", () => {
    const { world, source, peers } = swarm(3);
    world.advance(1_000);
    new Feed(source, 1_200, () => 1_000);
    world.run(() => peers.every((peer) => peer.has("ended")));
    const seen = new Set<number>();
    let second = 0;
    for (const frame of source.sentOf(FRAME_TYPES.DATA)) {
      const { index } = decodeFragment(frame.bytes);
      if (seen.has(index)) second++;
      seen.add(index);
    }
    expect(second).toBeLessThan(seen.size * 0.05);
    // Shared out evenly: nobody gets more than half of what leaves the source.
    for (const peer of peers) {
      const own = peer.overlay.traffic();
      expect(own.fragmentsFromSource).toBeLessThan(0.5 * seen.size);
      expect(own.fragmentsFromPeers).toBeGreaterThan(0.4 * seen.size);
    }
  });

  it("shares the source anew when a neighbour leaves", () => {
    const { world, source, peers } = swarm(3);
    const feed = new Feed(source, 3_000, () => 1_000, { ends: true });
    world.run(() => source.counters.fragmentsSent > 100);
    peers[0]?.crash();
    const rest = peers.slice(1);
    world.run(() => rest.every((peer) => peer.has("ended")));
    for (const peer of rest) expect(received(peer)).toEqual(feed.written);
    expect(source.has("failed")).toBe(false);
  });

  it("never sends beyond the credit it was granted, and advertises only what is verified", () => {
    const { world, source, peers } = swarm(3);
    new Feed(source, 1_500, () => 1_000);
    world.run(() => peers.every((peer) => peer.has("ended")));
    for (const peer of peers) expect(peer.counters.refusedLinks).toBe(0);
    expect(source.counters.refusedLinks).toBe(0);
  });

  it("gives all memory back when everyone has left", () => {
    const { world, source, peers } = swarm(3);
    const nodes = [source, ...peers];
    new Feed(source, 800, (i) => (i % 50 === 0 ? 30_000 : 300));
    world.run(() => nodes.every((node) => node.has("ended")));
    for (const node of nodes) if (node.machine.overlays.size > 0) node.leave();
    world.advance(2_000);
    for (const node of nodes) {
      expect([...node.machine.links.rows()]).toEqual([]);
      node.memory.compact();
      node.memory.checkInvariants();
      const used = node.memory.segmentCount - node.memory.freeSegments;
      // What is left is the machine's own: its copy cursor, opened or not.
      expect(used).toBeLessThanOrEqual(1);
    }
  });
});
