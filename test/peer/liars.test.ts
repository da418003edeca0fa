/** One member that lies, or only takes: the others lose nothing by it. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES, GET_FLAG_PATIENT } from "../../src/base/layout.ts";
import { RANGES_PER_FRAME_MAX } from "../../src/base/limits.ts";
import { BUSY, encodeFrame, PARTNER } from "../../src/protocol/r10.ts";
import { encodeBuffermap, encodeRanges, readRanges } from "../../src/protocol/r10-binary.ts";
import { type Node, type Stranger, settingsOf, World } from "./harness.ts";

const NO_BITS = new Uint8Array(0);
const DATA_COUNT = 400;
/** A datum every 100 ms, and the time it takes to come round what a liar holds up. */
const TURN_MS = 50;
const TURNS_MAX = 1_400;

interface Scene {
  readonly world: World;
  readonly source: Node;
  readonly peers: readonly Node[];
  /** The links of one stranger: to the source peer, and to each peer. */
  readonly atSource: Stranger;
  readonly atPeers: readonly Stranger[];
}

/** A source peer and three peers, all linked; a stranger takes its share of the substreams. */
function scene(delivery: "live" | "complete"): Scene {
  const world = new World();
  const source = world.node();
  const settings = settingsOf(source.keys.peerId, { delivery, maxLagMs: 10_000 });
  source.open("source", settings, { waitPeers: 2 }).register("s");
  const peers = [0, 1, 2].map(() => world.node().open("peer", settings).dial(source));
  peers.forEach((peer, i) => {
    for (const other of peers.slice(0, i)) peer.dial(other);
  });
  world.advance(1_000);
  const atSource = world.stranger().join(source);
  const atPeers = peers.map((peer) => world.stranger(atSource.keys).join(peer));
  for (const each of [atSource, ...atPeers]) each.send(encodeBuffermap(each.tag, 0, 0, NO_BITS));
  atSource.send(encodeFrame(PARTNER, { tag: atSource.tag, mask: 0xff, from: 0 }));
  world.advance(500);
  return { world, source, peers, atSource, atPeers };
}

/** Writes all data and lets the stranger do what it does at each turn, until all peers have ended. */
function play(scene: Scene, does: (highest: number, before: number) => void): void {
  const { world, source, peers, atSource } = scene;
  let written = 0;
  let before = 0;
  for (let turn = 0; turn < TURNS_MAX && !peers.every((peer) => peer.has("ended")); turn++) {
    if (written < DATA_COUNT && turn % 2 === 0) {
      written += source.write("s", new Uint8Array(3_000)).accepted;
      if (written === DATA_COUNT) source.end();
    }
    const { highest } = source.overlay.window;
    // It needs nothing, so that it holds nobody up.
    atSource.send(encodeRanges(FRAME_TYPES.HAVE, atSource.tag, highest, []));
    does(highest, before);
    before = highest;
    world.advance(TURN_MS);
  }
  for (const peer of peers) {
    expect(peer.has("ended")).toBe(true);
    expect(peer.eventsOf("gap")).toEqual([]);
    expect(peer.taken.map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: DATA_COUNT }, (_, i) => i + 1),
    );
  }
}

describe.each(["live", "complete"] as const)("in a %s overlay", (delivery) => {
  it("who says that it holds everything and hands on nothing is found out", () => {
    const all = scene(delivery);
    play(all, (highest, before) => {
      if (highest === before) return;
      for (const each of all.atPeers) {
        each.send(encodeRanges(FRAME_TYPES.HAVE, each.tag, 0, [before, highest - before]));
      }
    });
    expect(all.peers.every((peer) => peer.counters.requestTimeouts > 0)).toBe(true);
  });

  it("who asks the source peer for everything again and again takes it from nobody", () => {
    const all = scene(delivery);
    const { atSource } = all;
    play(all, (highest) => {
      const first = Math.max(0, highest - 250);
      const ranges = [first, highest - first + 20];
      atSource.send(encodeRanges(FRAME_TYPES.GET, atSource.tag, 0, ranges, 1, GET_FLAG_PATIENT));
    });
    expect(all.source.counters.busySent).toBeGreaterThan(0);
  });

  it("who is near nobody but a liar finds other holders long before it gives up", () => {
    const world = new World();
    const source = world.node();
    const settings = settingsOf(source.keys.peerId, { delivery, maxLagMs: 30_000 });
    source.open("source", settings, { waitPeers: 1 }).register("s");
    const honest = world.node().open("peer", settings).dial(source);
    const lonely = world.node().open("peer", settings);
    // No server is here: who asks for holders is told of the honest one.
    const askedMs: number[] = [];
    lonely.onEvent = (event) => {
      if (event.kind !== "needMembers" || event.holding === undefined) return;
      askedMs.push(world.nowMs);
      if (askedMs.length === 1) lonely.dial(honest);
    };
    const liar = world.stranger().join(lonely);
    liar.send(encodeBuffermap(liar.tag, 0, 0, NO_BITS));
    world.advance(500);
    expect(source.write("s", new Uint8Array(3_000)).accepted).toBe(1);
    world.run(() => honest.has("readable"));
    const { highest } = source.overlay.window;
    liar.send(encodeRanges(FRAME_TYPES.HAVE, liar.tag, 0, [0, highest]));
    const startMs = world.nowMs;
    // It does not go silent: its link stands.
    for (let turn = 0; turn < 25 && lonely.taken.length === 0; turn++) {
      liar.send(encodeRanges(FRAME_TYPES.HAVE, liar.tag, 0, []));
      world.advance(1_000);
    }
    expect(lonely.eventsOf("gap")).toEqual([]);
    expect(lonely.taken.map(({ sequence }) => sequence)).toEqual([1]);
    expect((askedMs[0] as number) - startMs).toBeLessThan(12_000);
  });

  it.each(["BUSY", "GONE and HAVE"])("who answers everything by %s is found out, too", (way) => {
    const world = new World();
    const source = world.node();
    const settings = settingsOf(source.keys.peerId, { delivery, maxLagMs: 30_000 });
    source.open("source", settings, { waitPeers: 1 }).register("s");
    world.node().open("peer", settings).dial(source);
    world.advance(1_000);
    for (let i = 0; i < 20; i++) {
      expect(source.write("s", new Uint8Array(3_000)).accepted).toBe(1);
      world.advance(20);
    }
    const { highest } = source.overlay.window;
    const node = world.node().open("peer", settings, { from: "oldest" }).dial(source);
    const liar = world.stranger().join(node);
    liar.send(encodeBuffermap(liar.tag, 0, highest, NO_BITS));
    const ranges = new Float64Array(2 * RANGES_PER_FRAME_MAX);
    let seen = 0;
    let asked = 0;
    for (let turn = 0; turn < 400 && node.taken.length < 20; turn++) {
      for (const { type, bytes } of liar.frames.slice(seen)) {
        if (type !== FRAME_TYPES.GET) continue;
        const pairs = readRanges(bytes, 0, bytes.length, ranges);
        for (let i = 0; i < pairs; i++) {
          const [first, count] = [ranges[2 * i] as number, ranges[2 * i + 1] as number];
          asked += count;
          const { tag } = liar;
          if (way === "BUSY") {
            liar.send(encodeFrame(BUSY, { tag, first, count, retryAfterMs: 0 }));
          } else {
            liar.send(encodeRanges(FRAME_TYPES.GONE, tag, 0, [first, count]));
            liar.send(encodeRanges(FRAME_TYPES.HAVE, tag, 0, [first, count]));
          }
        }
      }
      seen = liar.frames.length;
      world.advance(TURN_MS);
    }
    expect(asked).toBeGreaterThan(0);
    expect(node.taken).toHaveLength(20);
    expect(node.eventsOf("gap")).toEqual([]);
  });
});
