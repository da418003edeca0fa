/** One with little upload or download among others: nobody else suffers. */

import { describe, expect, it } from "vitest";
import { MIB } from "../../src/base/units.ts";
import type { Delivery } from "../../src/peer/settings.ts";
import { Feed, type Node, received, settingsOf, World } from "./harness.ts";

const DATUM_BYTES = 8_000;
const EVERY_MS = 10;
const COUNT = 1_000;

/** `strong` peers and `count` weak ones, all linked with each other; the stream: 800,000 bytes/s. */
function overlay(
  delivery: Delivery,
  strong: number,
  limits: Record<string, number>,
  maxLagMs = 10_000,
  count = 1,
) {
  const world = new World();
  const source = world.node({ memoryMiB: 64 });
  const settings = settingsOf(source.keys.peerId, {
    delivery,
    fragmentBytes: 16_384,
    windowBytes: 8 * MIB,
    windowFragments: 8_192,
    maxLagMs,
  });
  source.open("source", settings, { waitPeers: strong + count }).register("s");
  const nodes = [...Array(strong).fill({}), ...Array(count).fill(limits)].map((each) =>
    world
      .node({ memoryMiB: 32, ...each })
      .open("peer", settings)
      .dial(source),
  );
  for (const [i, node] of nodes.entries()) for (const other of nodes.slice(i + 1)) node.dial(other);
  world.run(() => source.overlay.neighbours.length === nodes.length);
  world.advance(500);
  const weak = nodes.slice(strong);
  return { world, source, others: nodes.slice(0, strong), weak: weak[0] as Node, allWeak: weak };
}

function feed(world: World, source: ReturnType<World["node"]>, count: number): void {
  for (let i = 0; i < count; i++) {
    source.write("s", new Uint8Array(DATUM_BYTES));
    world.advance(EVERY_MS);
  }
  source.command({ kind: "endSession", overlayId: source.overlayId });
}

describe("one with a twentieth of the stream's rate as its upload", () => {
  it.each([1, 3])("does not hold %d others up (complete)", (strong) => {
    const { world, source, others, weak } = overlay("complete", strong, {
      uploadLimitBytesPerSecond: 40_000,
    });
    const startMs = world.nowMs;
    const fed = new Feed(source, COUNT, () => DATUM_BYTES);
    world.run(() => [...others, weak].every((node) => node.has("ended")), 120_000);
    expect(world.nowMs - startMs).toBeLessThan(20_000);
    for (const node of [...others, weak]) expect(received(node)).toEqual(fed.written);
    // Who passes on little is given little to pass on: the source peer makes up for the beginning.
    const { bytesToPeers } = source.overlay.traffic();
    expect(bytesToPeers).toBeLessThan(1.7 * COUNT * DATUM_BYTES);
  });

  it.each([10_000, 3_000])("costs others nothing (live, %d ms)", (maxLagMs) => {
    const { world, source, others } = overlay(
      "live",
      2,
      { uploadLimitBytesPerSecond: 40_000 },
      maxLagMs,
    );
    feed(world, source, COUNT);
    world.run(() => others.every((node) => node.has("ended")), 30_000);
    for (const node of others) {
      expect(node.eventsOf("gap")).toEqual([]);
      expect(node.taken.length).toBeGreaterThan(COUNT - 20);
    }
  });
});

describe("several with a twentieth of the stream's rate as their upload around one of plenty", () => {
  it.each([2, 3])("all get what is there, and most of it from that one (live, %d)", (count) => {
    const limits = { uploadLimitBytesPerSecond: 40_000 };
    const { world, source, others, allWeak } = overlay("live", 1, limits, 3_000, count);
    feed(world, source, COUNT);
    const all = [...others, ...allWeak];
    world.run(() => all.every((node) => node.has("ended")), 30_000);
    expect(others[0]?.eventsOf("gap")).toEqual([]);
    for (const node of all) expect(node.taken.length).toBeGreaterThan(0.99 * COUNT);
    const { bytesToPeers } = source.overlay.traffic();
    expect(bytesToPeers).toBeLessThan(1.4 * COUNT * DATUM_BYTES);
  });
});

describe("a newcomer among such members", () => {
  it.each([1, 3])("gets what was there before it of the source peer (%d of them)", (count) => {
    const limits = { uploadLimitBytesPerSecond: 40_000 };
    const { world, source, allWeak } = overlay("complete", 0, limits, 10_000, count);
    const before = 300;
    for (let i = 0; i < before; i++) {
      source.write("s", new Uint8Array(DATUM_BYTES));
      world.advance(40);
    }
    const newcomer = world.node({ memoryMiB: 32 }).open("peer", source.overlay.settings);
    for (const node of [source, ...allWeak]) newcomer.dial(node);
    let refused = 0;
    const write = (): void => {
      if (source.write("s", new Uint8Array(DATUM_BYTES)).accepted === 0) refused++;
      world.advance(40);
    };
    for (let i = 0; i < 250 && newcomer.taken.length < before; i++) write();
    expect(newcomer.taken.length).toBeGreaterThanOrEqual(before);
    expect(refused).toBe(0);
  });
});

describe("one with a quarter of the stream's rate as its download (live)", () => {
  it.each([10_000, 3_000])(
    "gets its share, in time, and costs others nothing (%d ms)",
    (maxLagMs) => {
      const download = 200_000;
      const { world, source, others, weak } = overlay(
        "live",
        2,
        { downloadLimitBytesPerSecond: download },
        maxLagMs,
      );
      feed(world, source, COUNT);
      const endMs = world.nowMs;
      world.run(() => [...others, weak].every((node) => node.has("ended")), 60_000);
      expect(world.nowMs - endMs).toBeLessThan(maxLagMs + 6_000);
      for (const node of others) expect(node.eventsOf("gap")).toEqual([]);
      const shareOf = (ms: number): number => (ms * download) / 1_000 / DATUM_BYTES;
      expect(weak.taken.length).toBeGreaterThan(0.85 * shareOf(COUNT * EVERY_MS));
      expect(weak.taken.length).toBeLessThan(1.1 * shareOf(COUNT * EVERY_MS + maxLagMs));
    },
  );
});

describe("a download limit that bears the stream", () => {
  it("leaves nothing out, though all uplinks stopped for a while (live)", () => {
    const limits = { downloadLimitBytesPerSecond: 8_000_000 };
    const { world, source, others, weak } = overlay("live", 3, limits, 3_000);
    const links = [...others, weak].flatMap((node) =>
      node.openLinks.map((id) => [node, id] as const),
    );
    const write = (count: number): void => {
      for (let i = 0; i < count; i++) {
        source.write("s", new Uint8Array(DATUM_BYTES));
        world.advance(EVERY_MS);
      }
    };
    write(20);
    for (const [node, id] of links) node.stall(id, true);
    write(500);
    for (const [node, id] of links) node.stall(id, false);
    write(300);
    // Some is late for all. One that left out what was in time lacks thirty more.
    const least = Math.min(...others.map((node) => node.taken.length));
    expect(weak.taken.length).toBeGreaterThan(least - 10);
  });
});

describe("one with little upload between the source peer and another", () => {
  it("gets all of the stream all the same", () => {
    const world = new World();
    const source = world.node({ memoryMiB: 64 });
    const settings = settingsOf(source.keys.peerId, {
      delivery: "live",
      fragmentBytes: 16_384,
      windowBytes: 8 * MIB,
      windowFragments: 8_192,
      maxLagMs: 3_000,
    });
    source.open("source", settings, { waitPeers: 1 }).register("s");
    const weak = world
      .node({ memoryMiB: 32, uploadLimitBytesPerSecond: 40_000 })
      .open("peer", settings)
      .dial(source);
    const last = world.node({ memoryMiB: 32 }).open("peer", settings).dial(weak);
    world.run(() => weak.overlay.neighbours.length === 2);
    world.advance(500);
    feed(world, source, COUNT);
    world.run(() => weak.has("ended"), 30_000);
    expect(weak.eventsOf("gap")).toEqual([]);
    expect(weak.taken.length).toBeGreaterThan(COUNT - 20);
    expect(last.taken.length).toBeGreaterThan(20);
  });
});
