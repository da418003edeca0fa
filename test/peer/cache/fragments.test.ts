/** What virtual peers hold and give, and for whom a source peer lets its data go. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../../src/base/layout.ts";
import type { OmsSnapshot } from "../../../src/servers/oms-types.ts";
import { Feed, type Node, received, World } from "../harness.ts";
import { IXS, startServers } from "../server-node.ts";
import { bothIn, CacheServer, indicesSent, isIn, joins, KEY, scene, session } from "./scene.ts";

/** A source with two virtual peers in its session, and one member that has started. */
function oneReads() {
  const all = scene();
  const { world } = all;
  const source = session(world, 2, {});
  world.run(() => bothIn(all, source.overlayId));
  const first = joins(world);
  world.run(() => first.has("started"));
  return { world, source, first };
}

describe("fragments", () => {
  it("P2.2: they reach peers and cache servers, which exchange them among themselves", () => {
    const all = scene();
    const { world, cache } = all;
    const source = session(world, 2, { waitPeers: 3 });
    world.run(() => bothIn(all, source.overlayId));
    const peers = [joins(world), joins(world), joins(world)];
    // Each has found the others and knows what they push.
    world.advance(2_000);
    const feed = new Feed(source, 1_200, () => 1_000, { sourceId: "s-weather" });
    world.run(() => peers.every((peer) => peer.has("ended")), 120_000);
    for (const peer of peers) expect(received(peer)).toEqual(feed.written);
    const sent = indicesSent(source);
    expect(sent.size).toBeGreaterThan(300);
    // Each virtual peer got all, from the source peer and from others, and gave what it got.
    for (const virtual of cache.peers) {
      expect(virtual.counters.fragmentsReceived).toBeGreaterThanOrEqual(sent.size);
      const given = indicesSent(virtual);
      expect(given.size).toBeGreaterThan(20);
      for (const index of given) expect(sent.has(index)).toBe(true);
      const { bytesFromSource, bytesFromPeers } = virtual.overlayOf(source.overlayId).traffic();
      expect(Math.min(bytesFromSource, bytesFromPeers)).toBeGreaterThan(20 * 4_000);
    }
    // And so did peers.
    const byPeers = peers.map((peer) => indicesSent(peer).size);
    expect(Math.max(...byPeers)).toBeGreaterThan(20);
    // And nothing is read there.
    for (const { taken } of cache.peers) expect(taken).toEqual([]);
  });

  it("P2.2 (negative): none reach a cache server that is in no overlay, or in another one", () => {
    const { world, cache } = scene({ peers: 1 });
    const [virtual] = cache.peers as [Node];
    const other = session(world, 1, { title: "rain" });
    world.run(() => isIn(virtual, other.overlayId));
    const source = session(world, 0, {});
    const peer = joins(world);
    const feed = new Feed(source, 100, () => 1_000, { sourceId: "s-weather" });
    world.run(() => peer.has("ended"));
    expect(received(peer)).toEqual(feed.written);
    expect(virtual.counters.fragmentsReceived).toBe(0);
    expect(virtual.sentOf(FRAME_TYPES.DATA)).toEqual([]);
  });

  it("virtual peers alone are no audience: a source peer waits for members, and gives up", () => {
    const all = scene();
    const { world } = all;
    const source = session(world, 2, { waitPeers: 0 });
    world.run(() => bothIn(all, source.overlayId));
    new Feed(source, 1_000, () => 1_000, { sourceId: "s-weather", ends: false });
    world.advance(5_000);
    // They hold what they got, and nothing is let go: a member still gets all.
    expect(source.overlay.window.start).toBe(0);
    expect(source.overlay.finale.members()).toEqual({ complete: 0, left: 0, behind: 0 });
    const lonely = session(world, 2, { title: "lonely", waitPeers: 0 });
    world.run(() => bothIn(all, lonely.overlayId));
    new Feed(lonely, 5, () => 1_000, { sourceId: "s-lonely" });
    world.run(() => lonely.has("failed"), 30_000);
    expect(lonely.eventsOf("failed")[0]?.code).toBe("NO_PEERS");
  });

  it("nor are they after the only member was killed: what it did not get is held for the next", () => {
    const { world, source, first } = oneReads();
    const feed = new Feed(source, 6_000, () => 1_000, { sourceId: "s-weather" });
    world.run(() => received(first).length > 1_000);
    first.crash();
    const had = received(first).length;
    world.advance(8_000);
    // The source peer stands still; it gave up nothing beyond what the member had.
    expect(feed.isWritten).toBe(false);
    const second = joins(world);
    world.run(() => second.has("ended"));
    const rest = received(second);
    expect(rest).toEqual(feed.written.slice(-rest.length));
    expect(rest.length).toBeGreaterThanOrEqual(feed.written.length - had);
    world.run(() => source.has("ended"), 30_000);
    expect(source.overlay.finale.members()).toMatchObject({ complete: 1 });
  });

  it("with all to the end but no reader left a source peer ends in failure, whoever holds it", () => {
    const { world, source, first } = oneReads();
    new Feed(source, 30, () => 1_000, { sourceId: "s-weather", ends: false });
    world.run(() => received(first).length > 0);
    first.crash();
    source.end();
    world.run(() => source.has("ended") || source.has("failed"), 30_000);
    expect(source.eventsOf("failed")[0]?.code).toBe("NO_PEERS");
  });

  it.each([
    [0, 1_500],
    [1, 1_500],
    [1, 20],
  ])(
    "a member that hangs on a virtual peer alone counts, where %i are waited for, of %i data",
    (waitPeers, count) => {
      const all = scene();
      const { world, cache } = all;
      const source = session(world, 1, { waitPeers });
      const isServing = () => cache.peers.find((each) => isIn(each, source.overlayId));
      world.run(() => isServing() !== undefined);
      const virtual = isServing() as Node;
      const member = joins(world, "weather", [virtual.keys.peerId]);
      const feed = new Feed(source, count, () => 1_000, { sourceId: "s-weather" });
      world.run(() => member.has("ended"), 60_000);
      expect(received(member)).toEqual(feed.written);
      const met = member.eventsOf("neighbour").filter(({ state }) => state === "up");
      expect(new Set(met.map(({ peerId }) => peerId))).toEqual(new Set([virtual.keys.peerId]));
      expect(source.overlay.finale.members()).toEqual({ complete: 0, left: 0, behind: 0 });
      world.run(() => source.has("ended"), 30_000);
      expect(source.has("failed")).toBe(false);
    },
  );
});

describe("a virtual peer that comes into a running session", () => {
  it("declares no start before it has chosen one, whatever it has to say", () => {
    const world = new World();
    const servers = startServers(world, { serviceKey: KEY, refreshMs: 6_000 });
    const source = session(world, 2, {});
    const reader = joins(world);
    new Feed(source, 4_000, () => 1_000, { sourceId: "s-weather" });
    world.run(() => received(reader).length > 1_500);
    // Its offer comes in the middle of it.
    const cache = new CacheServer(world, 20);
    world.run(() => cache.peers.every((peer) => peer.has("started")), 20_000);
    for (const peer of cache.peers) {
      const started = peer.eventsOf("started")[0]?.index ?? -1;
      expect(started).toBeGreaterThan(0);
      const told = peer
        .sentOf(FRAME_TYPES.HAVE)
        .map(({ bytes }) => Number(Buffer.from(bytes).readBigUInt64LE(16)));
      expect(told.length).toBeGreaterThan(0);
      expect(Math.min(...told)).toBe(started);
    }
    world.run(() => reader.has("ended"));
    expect(servers.oms.snapshot<OmsSnapshot>().overlays).toHaveLength(1);
  });

  it("that can not open the overlay leaves nothing behind at the servers", () => {
    const { world, servers, cache } = scene({ peers: 1 });
    const [virtual] = cache.peers as [Node];
    const source = session(world, 0, {});
    // Taken already, by whatever else this process does.
    const settings = { ...source.overlay.settings };
    virtual.command({ kind: "openOverlay", role: "peer", settings, consume: false });
    const members = () => servers.oms.snapshot<OmsSnapshot>().overlays[0]?.members;
    virtual.command({
      kind: "joinSession",
      sessionId: 77,
      ixs: IXS,
      title: "weather",
      dataSourceId: "",
      dataId: "",
      from: undefined,
      waitMs: 2_000,
      node: {},
    });
    world.run(() => virtual.has("sessionFailed"));
    world.advance(100);
    expect(members()).toBe(1);
  });
});
