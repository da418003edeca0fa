/** Delivery `live`: where a window ends, what is late, who starts where, and that nobody waits. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import type { OverlaySettings, StartFrom } from "../../src/peer/settings.ts";
import { encodeBuffermap, encodeRanges } from "../../src/protocol/r10-binary.ts";
import { buildFragment } from "../kernel/fragment-builder.ts";
import { crc32c } from "../support/crc32c.ts";
import { readRangesOf } from "./frames.ts";
import { Keys, type Node, type Stranger, settingsOf, swarm, World } from "./harness.ts";

const NO_BITS = new Uint8Array(0);

/** Fragment `index` with datum `index + 1` of source s. */
function data(from: Stranger, index: number): Uint8Array {
  const frame = buildFragment(
    [
      { kind: "source", number: 0, id: "s", contentType: "", base: index + 1, timestamp: 1 },
      { kind: "datum", number: 0, bytes: 10, delta: 0 },
    ],
    index,
    1,
  );
  frame.set(from.tag, 16);
  new DataView(frame.buffer).setUint32(8, crc32c(frame.subarray(12)), true);
  return frame;
}

const have = (s: Stranger, ...ranges: number[]): Uint8Array =>
  encodeRanges(FRAME_TYPES.HAVE, s.tag, 0, ranges);

/** A peer whose source peer is played by hand. */
function scene(more: Partial<OverlaySettings> = {}): {
  world: World;
  node: Node;
  source: Stranger;
} {
  const world = new World();
  const keys = new Keys();
  const settings = settingsOf(keys.peerId, { delivery: "live", maxLagMs: 2_000, ...more });
  const node = world.node().open("peer", settings);
  const source = world.stranger(keys).join(node, 0);
  source.send(encodeBuffermap(source.tag, 0, 0, NO_BITS));
  world.run(() => node.has("started"));
  return { world, node, source };
}

interface Lost {
  readonly atMs: number;
  readonly from: number;
  readonly to: number;
}

/** Gaps of fragments as they are told, with the time since now. */
function gapsOf(world: World, node: Node): Lost[] {
  const found: Lost[] = [];
  const sinceMs = world.nowMs;
  const before = node.onEvent;
  node.onEvent = (event) => {
    before(event);
    if (event.kind !== "gap" || event.gap.kind !== "fragments") return;
    found.push({ atMs: world.nowMs - sinceMs, from: event.gap.from, to: event.gap.to });
  };
  return found;
}

const sequences = (node: Node): number[] => node.taken.map(({ sequence }) => sequence);

describe("lateness", () => {
  it("each of several holes has its own time: none waits for another", () => {
    const { world, node, source } = scene();
    const gaps = gapsOf(world, node);
    // 0 and 4 never come; each is known from when it, or a higher one, was heard of.
    source.send(have(source, 0, 3), data(source, 1), data(source, 2));
    world.advance(500);
    source.send(have(source, 3, 3), data(source, 3), data(source, 5));
    world.advance(600);
    source.send(have(source, 8, 1), data(source, 8));
    world.advance(5_000);
    expect(gaps.map(({ from, to }) => [from, to])).toEqual([
      [0, 0],
      [4, 4],
      [6, 7],
    ]);
    const due = [2_000, 2_500, 3_100];
    gaps.forEach(({ atMs }, i) => {
      expect(atMs).toBeGreaterThanOrEqual(due[i] as number);
      expect(atMs).toBeLessThan((due[i] as number) + 300);
    });
    expect(sequences(node)).toEqual([2, 3, 4, 6, 9]);
  });

  it("many holes that are late at once are passed at once, each reported once", () => {
    const { world, node, source } = scene();
    const gaps = gapsOf(world, node);
    source.send(have(source, 0, 60));
    for (let index = 1; index < 60; index += 2) source.send(data(source, index));
    world.advance(1_800);
    expect(node.taken).toEqual([]);
    world.advance(400);
    expect(sequences(node)).toEqual(Array.from({ length: 30 }, (_, i) => 2 * i + 2));
    expect(gaps.map(({ from }) => from)).toEqual(Array.from({ length: 30 }, (_, i) => 2 * i));
    const lost = node.eventsOf("gap").flatMap(({ gap }) => (gap.kind === "data" ? [gap.from] : []));
    // What went before the first datum of a source that starts at fragment 0 counts as well.
    expect(lost).toEqual(Array.from({ length: 30 }, (_, i) => 2 * i + 1));
  });

  it("what comes before it is late is no gap, however old its stamp says it is", () => {
    const { world, node, source } = scene();
    source.send(have(source, 0, 2), data(source, 1));
    world.advance(1_900);
    // Created in 1970, as the source's clock would have it.
    source.send(data(source, 0));
    world.advance(3_000);
    expect(sequences(node)).toEqual([1, 2]);
    expect(node.has("gap")).toBe(false);
  });

  it("one member alone can not make anything late: its word on what there is does not count", () => {
    const { world, node, source } = scene();
    const liar = world.stranger().join(node);
    liar.send(encodeBuffermap(liar.tag, 0, 0, NO_BITS), have(liar, 1_000_000, 1));
    world.advance(4_000);
    source.send(have(source, 0, 2), data(source, 0), data(source, 1));
    world.advance(500);
    expect(sequences(node)).toEqual([1, 2]);
    expect(node.has("gap")).toBe(false);
  });

  it("the newest fragment stays wanted: it may be END, and nothing waits behind it", () => {
    const { world, node, source } = scene();
    source.send(have(source, 0, 4), data(source, 0));
    world.advance(6_000);
    expect(node.eventsOf("gap").map(({ gap }) => gap)).toEqual([
      { kind: "fragments", from: 1, to: 2 },
    ]);
    source.send(data(source, 3));
    world.advance(500);
    expect(sequences(node)).toEqual([1, 4]);
  });

  it("what lies behind a hole is not lost with it, though it leaves the window as soon", () => {
    const { world, node, source } = scene({ maxLagMs: 2_000, windowMs: 2_000 });
    // All is known at once: the hole is late when all is old enough to be dropped.
    source.send(have(source, 0, 6));
    for (const index of [0, 2, 3, 4, 5]) source.send(data(source, index));
    world.advance(4_000);
    expect(sequences(node)).toEqual([1, 3, 4, 5, 6]);
    expect(node.eventsOf("gap").map(({ gap }) => gap)).toMatchObject([
      { kind: "fragments", from: 1, to: 1 },
      { kind: "data", from: 2, to: 2 },
    ]);
  });

  it("complete knows no lateness", () => {
    const { world, node, source } = scene({ delivery: "complete" });
    source.send(have(source, 0, 2), data(source, 1));
    world.advance(20_000);
    source.send(data(source, 0));
    world.advance(500);
    expect(sequences(node)).toEqual([1, 2]);
    expect(node.has("gap")).toBe(false);
  });
});

describe("the window", () => {
  /** Writes a datum of 500 bytes every 20 ms for so long: a fragment each. */
  function stream(world: World, source: Node, forMs: number): number {
    let written = 0;
    for (let ms = 0; ms < forMs; ms += 20) {
      written += source.write("s", new Uint8Array(500)).accepted;
      world.advance(20);
    }
    return written;
  }

  it("ends after windowMs, long before fragments and bytes end it", () => {
    const { world, source, peers } = swarm(2, { delivery: "live", waitPeers: 0, windowMs: 1_000 });
    world.advance(500);
    stream(world, source, 4_000);
    for (const node of [source, ...peers]) {
      const { window } = node.overlay;
      expect(window.start).toBeGreaterThan(100);
      // 50 a second, kept for a second.
      expect(window.highest - window.start).toBeLessThan(70);
      expect(window.highest - window.start).toBeGreaterThan(35);
    }
    expect(peers[0]?.has("gap")).toBe(false);
    world.advance(2_000);
    // The newest stays, however long nothing follows.
    expect(source.overlay.window.heldCount).toBe(1);
  });

  it("ends at fragments or bytes when these come first", () => {
    const { world, source, peers } = swarm(1, {
      delivery: "live",
      waitPeers: 0,
      windowMs: 60_000,
      maxLagMs: 60_000,
    });
    world.advance(500);
    stream(world, source, 12_000);
    for (const node of [source, ...peers]) {
      expect(node.overlay.window.start).toBeGreaterThan(300);
      expect(node.overlay.window.heldCount).toBeLessThanOrEqual(256);
    }
    expect(peers[0]?.has("gap")).toBe(false);
  });

  it("does not end before as many members came as the source waits for", () => {
    const { world, source } = swarm(0, { delivery: "live", waitPeers: 1, windowMs: 3_000 });
    const written = stream(world, source, 8_000);
    expect(source.overlay.window.start).toBe(0);
    expect(written).toBeLessThanOrEqual(256);
    const peer = world.node();
    peer.open("peer", source.overlay.settings, { from: "oldest" }).dial(source);
    world.run(() => peer.taken.length === written);
    expect(peer.eventsOf("started")[0]?.index).toBe(0);
  });

  it("is not held up by members that come one after the other", () => {
    const { world, source } = swarm(1, { delivery: "live", waitPeers: 1, windowMs: 1_000 });
    let written = 0;
    for (let i = 0; i < 20; i++) {
      world.node().open("peer", source.overlay.settings).dial(source);
      written += stream(world, source, 300);
    }
    // 6 s, a datum every 20 ms: far more than the window has room for.
    expect(written).toBe(300);
    expect(source.overlay.window.start).toBeGreaterThan(200);
  });

  it("moves on past what is still in its checksum job; that is dropped, and told", () => {
    const { world, source, peers } = swarm(2, {
      delivery: "live",
      waitPeers: 0,
      windowMs: 1_000,
      maxLagMs: 500,
    });
    world.advance(500);
    stream(world, source, 200);
    const index = source.overlay.source?.produced as number;
    source.holdJobs = true;
    source.write("s", new Uint8Array(500));
    source.holdJobs = false;
    stream(world, source, 3_000);
    expect(source.overlay.window.start).toBeGreaterThan(index);
    source.releaseJobs();
    world.advance(100);
    expect(source.counters.lateFragments).toBe(1);
    source.overlay.checkInvariants();
    const told = source.sentOf(FRAME_TYPES.GONE).flatMap(({ bytes }) => readRangesOf(bytes));
    expect(told.some(([first = 0, count = 0]) => first <= index && index < first + count)).toBe(
      true,
    );
    source.end();
    world.run(() => peers.every((peer) => peer.has("ended")));
    for (const peer of peers) {
      const gaps = peer.eventsOf("gap").map(({ gap }) => gap);
      expect(gaps.filter(({ kind }) => kind === "fragments")).toEqual([
        { kind: "fragments", from: index, to: index },
      ]);
    }
  });

  it("complete waits for what is in its checksum job, whoever has moved on", () => {
    const { world, source, peers } = swarm(1, { delivery: "complete", waitPeers: 0 });
    const [peer] = peers as [Node];
    world.advance(500);
    stream(world, source, 200);
    const index = source.overlay.source?.produced as number;
    source.holdJobs = true;
    source.write("s", new Uint8Array(500));
    source.holdJobs = false;
    stream(world, source, 200);
    // Its start lies past what nobody has: it waits for none of that.
    const late = world.node().open("peer", source.overlay.settings, { from: "live" }).dial(source);
    world.run(() => late.has("started"));
    peer.leave();
    stream(world, source, 10_000);
    expect(source.overlay.window.start).toBeLessThanOrEqual(index);
    source.releaseJobs();
    world.advance(500);
    expect(source.counters.lateFragments).toBe(0);
    stream(world, source, 2_000);
    expect(source.overlay.window.start).toBeGreaterThan(index);
  });

  it("of one who does not take drops what is old, and all it lost is told at once", () => {
    const { world, source, peers } = swarm(2, { delivery: "live", waitPeers: 0, windowMs: 1_000 });
    const [quick, slow] = peers as [Node, Node];
    world.advance(500);
    slow.takes = false;
    const written = stream(world, source, 6_000);
    expect(slow.has("gap")).toBe(false);
    expect(quick.taken.length).toBeGreaterThan(written - 5);
    slow.takes = true;
    slow.take();
    source.end();
    world.run(() => quick.has("ended") && slow.has("ended"));
    const gaps = slow.eventsOf("gap").map(({ gap }) => gap);
    expect(gaps.map(({ kind }) => kind)).toEqual(["fragments", "data"]);
    const lost = gaps[1];
    if (lost?.kind !== "data") throw new Error("no gap of data");
    expect(slow.taken.length + lost.to - lost.from + 1).toBe(written);
    expect(quick.taken.length).toBe(written);
    expect(quick.has("gap")).toBe(false);
    expect(source.eventsOf("neighbour").some(({ state }) => state === "lagging")).toBe(false);
  });

  it("keeps END for one who takes again long after it", () => {
    const { world, source, peers } = swarm(1, {
      delivery: "live",
      waitPeers: 0,
      windowMs: 500,
      lingerMs: 60_000,
    });
    const peer = peers[0] as Node;
    world.advance(500);
    peer.takes = false;
    const written = stream(world, source, 2_000);
    source.end();
    world.advance(10_000);
    peer.takes = true;
    peer.take();
    world.run(() => peer.has("ended"));
    const lost = peer
      .eventsOf("gap")
      .reduce((sum, { gap }) => sum + (gap.kind === "data" ? gap.to - gap.from + 1 : 0), 0);
    expect(lost).toBeGreaterThan(0);
    expect(peer.taken.length + lost).toBe(written);
  });
});

describe("where a newcomer starts", () => {
  const outcomes: readonly (readonly [
    OverlaySettings["delivery"],
    StartFrom | undefined,
    "oldest" | "edge" | "fails",
  ])[] = [
    ["complete", undefined, "oldest"],
    ["complete", "oldest", "oldest"],
    ["complete", "live", "edge"],
    ["complete", "start", "fails"],
    ["live", undefined, "edge"],
    ["live", "oldest", "oldest"],
    ["live", "live", "edge"],
    ["live", "start", "fails"],
  ];
  for (const [delivery, from, outcome] of outcomes) {
    it(`${delivery}, from ${from ?? "what is usual"}: ${outcome}`, () => {
      const { world, source, peers } = swarm(1, { delivery, waitPeers: 0, windowMs: 1_000 });
      world.advance(500);
      // More than a window of either delivery.
      for (let i = 0; i < 400; i++) {
        source.write("s", new Uint8Array(500));
        world.advance(10);
      }
      const { start, highest } = source.overlay.window;
      expect(start).toBeGreaterThan(0);
      const late = world.node();
      late.open("peer", source.overlay.settings, from === undefined ? {} : { from });
      late.dial(source);
      if (outcome === "fails") {
        world.run(() => late.has("failed"), 5_000);
        expect(late.eventsOf("failed")[0]).toMatchObject({ code: "START_GONE" });
        expect(late.taken).toEqual([]);
        return;
      }
      world.run(() => late.has("started"), 5_000);
      const { index } = late.eventsOf("started")[0] ?? { index: -1 };
      if (outcome === "edge") expect(index).toBe(highest);
      else {
        expect(index).toBeGreaterThanOrEqual(start);
        expect(index).toBeLessThan(start + 30);
      }
      source.write("s", new Uint8Array(500));
      source.end();
      world.run(() => late.has("ended") && (peers[0]?.has("ended") ?? false), 20_000);
      expect(late.has("gap")).toBe(false);
      expect(sequences(late).at(-1)).toBe(401);
      expect(late.taken.length).toBe(401 - index);
    });
  }

  for (const delivery of ["complete", "live"] as const) {
    it(`${delivery}, from start while fragment 0 is there: all of it`, () => {
      const { world, source } = swarm(1, { delivery, waitPeers: 0 });
      for (let i = 0; i < 20; i++) source.write("s", new Uint8Array(500));
      world.advance(500);
      const late = world.node().open("peer", source.overlay.settings, { from: "start" });
      late.dial(source);
      source.end();
      world.run(() => late.has("ended"));
      expect(late.eventsOf("started")[0]?.index).toBe(0);
      expect(late.taken.length).toBe(20);
    });
  }

  for (const delivery of ["complete", "live"] as const) {
    it(`${delivery}, from live when all is over: END, and nothing before it`, () => {
      const { world, source, peers } = swarm(1, {
        delivery,
        waitPeers: 0,
        windowMs: 1_000,
        lingerMs: 60_000,
      });
      world.advance(500);
      (peers[0] as Node).takes = delivery === "live";
      for (let i = 0; i < 300; i++) {
        source.write("s", new Uint8Array(500));
        world.advance(10);
      }
      (peers[0] as Node).takes = true;
      (peers[0] as Node).take();
      source.end();
      world.run(() => peers[0]?.has("ended") ?? false);
      world.advance(3_000);
      const late = world.node().open("peer", source.overlay.settings, { from: "live" });
      late.dial(source);
      world.run(() => late.has("ended"), 10_000);
      expect(late.taken).toEqual([]);
      expect(late.has("gap")).toBe(false);
    });
  }

  it("live, met by another newcomer first: with what comes, not with fragment 0", () => {
    const { world, source } = swarm(1, { delivery: "live", waitPeers: 0, windowMs: 1_000 });
    world.advance(500);
    for (let i = 0; i < 300; i++) {
      source.write("s", new Uint8Array(500));
      world.advance(5);
    }
    const { settings } = source.overlay;
    const [one, two] = [world.node().open("peer", settings), world.node().open("peer", settings)];
    two.dial(one);
    world.advance(400);
    expect(two.has("started")).toBe(false);
    one.dial(source);
    world.run(() => one.has("started") && two.has("started"), 5_000);
    for (let i = 0; i < 20; i++) {
      source.write("s", new Uint8Array(500));
      world.advance(20);
    }
    source.end();
    world.run(() => one.has("ended") && two.has("ended"), 20_000);
    for (const { has, taken } of [one, two].map((n) => ({ has: n.has("gap"), taken: n.taken }))) {
      expect(has).toBe(false);
      expect(taken.at(-1)?.sequence).toBe(320);
    }
    expect(two.eventsOf("started")[0]?.index).toBeGreaterThan(200);
  });
});
