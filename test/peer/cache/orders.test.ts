/** Cache servers and the servers around them: offers, orders, ends of overlays, outages. */

import { describe, expect, it } from "vitest";
import type { OmsSnapshot } from "../../../src/servers/oms-types.ts";
import type { PamsSnapshot } from "../../../src/servers/pams.ts";
import type { MsgpackValue } from "../../support/msgpack-reader.ts";
import { Feed, type Node, received, World } from "../harness.ts";
import { IXS, startServers } from "../server-node.ts";
import {
  bothIn,
  CacheServer,
  hex,
  isIn,
  joins,
  KEY,
  said,
  scene,
  session,
  TYPES,
} from "./scene.ts";

describe("orders of the OMS", () => {
  it("P0.4, R8.a: it orders a cache server's virtual peers into an overlay and out of it", () => {
    const all = scene();
    const { world, servers, cache } = all;
    expect(said(world, servers.oms, cache.node, TYPES.allocate)).toEqual([]);
    const source = session(world, 2, {});
    const { overlayId } = source;
    world.run(() => bothIn(all, overlayId));
    const orders = said(world, servers.oms, cache.node, TYPES.allocate);
    expect(orders.map((order) => hex(order[3]))).toEqual([overlayId, overlayId]);
    expect(orders.map((order) => hex(order[4])).sort()).toEqual(
      cache.peers.map(({ keys }) => keys.peerId).sort(),
    );
    // Out of it: the source peer needs none any more.
    source.command({ kind: "leaveSession", sessionId: 1 });
    world.run(() => source.has("sessionClosed"));
    world.run(() => !cache.peers.some((peer) => isIn(peer, overlayId)), 30_000);
    const released = said(world, servers.oms, cache.node, TYPES.release);
    expect(released.map((order) => hex(order[3]))).toEqual([overlayId, overlayId]);
  });

  it("P0.4, R8.a (negative): no order without a need, and an order of before is not followed", () => {
    const { world, servers, cache } = scene();
    const source = session(world, 0, {});
    joins(world);
    world.advance(20_000);
    expect(said(world, servers.oms, cache.node, TYPES.allocate)).toEqual([]);
    expect(cache.peers.some((peer) => isIn(peer, source.overlayId))).toBe(false);
    // The OMS loses its disk and with it its term: its orders are of before.
    servers.oms.kill();
    servers.oms.start();
    world.run(() => cache.node.snapshot<{ term: number }>().term === 2, 20_000);
    servers.oms.kill();
    servers.oms.disk.records.clear();
    servers.oms.start();
    const other = session(world, 1, { title: "later" });
    world.run(() => said(world, servers.oms, cache.node, TYPES.allocate).length > 0, 20_000);
    world.advance(500);
    const refusals = said(world, cache.node, servers.oms, 0xff);
    expect(refusals.at(-1)?.[2]).toBe("TERM_PASSED");
    expect(cache.peers.some((peer) => isIn(peer, other.overlayId))).toBe(false);
  });

  it("R8.b, R8.c: an order names the overlay's PAMS, where its virtual peers report, and a priority", () => {
    const all = scene();
    const { world, servers, cache } = all;
    const { overlayId } = session(world, 2, {});
    world.run(() => bothIn(all, overlayId));
    const [order] = said(world, servers.oms, cache.node, TYPES.allocate);
    const [, , term, , , title, pamsUrl, priority] = order ?? [];
    expect([term, title, pamsUrl, priority]).toEqual([1, "weather", "ws://pams:3", 5]);
    world.advance(1_500);
    for (const peer of cache.peers) {
      const [registered] = said(world, peer, servers.pams, TYPES.registerPeer);
      expect(registered?.[4]).toBe(2);
    }
    const { overlays } = servers.pams.snapshot<PamsSnapshot>();
    expect(overlays[0]?.peers.filter(({ role }) => role === 2)).toHaveLength(2);
  });

  it("R8.b, R8.c (negative): without a PAMS it names none, and without a wish no priority", () => {
    const { world, servers, cache } = scene({ withoutPams: true });
    const source = session(world, 1, { priority: 0 });
    world.run(() => isIn(cache.peers[0] as Node, source.overlayId));
    const [order] = said(world, servers.oms, cache.node, TYPES.allocate);
    expect(order?.slice(6)).toEqual(["", 0]);
    world.advance(20_000);
    for (const peer of cache.peers) {
      expect(said(world, peer, servers.pams, TYPES.registerPeer)).toEqual([]);
    }
  });
});

describe("resources of a provider", () => {
  it("P1.3: a cache server registers them, and they are assigned when the source peer asks", () => {
    const all = scene();
    const { world, servers, cache } = all;
    const [offer] = said(world, cache.node, servers.oms, TYPES.register);
    const [, , key, cacheServerId, label, virtualPeers, overlaysPerPeer, holds] = offer ?? [];
    expect([hex(key), label, overlaysPerPeer, holds]).toEqual([hex(KEY), "rack", 2, []]);
    const ids = (virtualPeers as MsgpackValue[]).map(hex);
    expect(ids).toEqual(cache.peers.map(({ keys }) => keys.peerId));
    const { overlayId } = session(world, 2, {});
    const shown = () => servers.oms.snapshot<OmsSnapshot>().cacheServers;
    world.run(() => bothIn(all, overlayId));
    expect(shown()).toMatchObject([{ cacheServerId: hex(cacheServerId), places: 4, assigned: 2 }]);
    // What is in an overlay is told at each registration.
    world.advance(11_000);
    const told = said(world, cache.node, servers.oms, TYPES.register).at(-1)?.[7];
    expect((told as MsgpackValue[][]).map(([overlay]) => hex(overlay))).toEqual([
      overlayId,
      overlayId,
    ]);
  });

  it("P1.3 (negative): with another service key nothing is registered and nothing assigned", () => {
    const world = new World();
    const servers = startServers(world, { serviceKey: new Uint8Array(32).fill(9) });
    const cache = new CacheServer(world, 20);
    world.run(() => cache.node.events.some(({ type }) => type === "unregistered"));
    expect(cache.node.events).toContainEqual(expect.objectContaining({ code: "KEY_REQUIRED" }));
    const source = session(world, 2, {});
    world.advance(5_000);
    expect(servers.oms.snapshot<OmsSnapshot>().cacheServers).toEqual([]);
    expect(said(world, servers.oms, cache.node, TYPES.allocate)).toEqual([]);
    // The session is none the worse for it.
    const peer = joins(world);
    const feed = new Feed(source, 20, () => 500, { sourceId: "s-weather" });
    world.run(() => peer.has("ended"));
    expect(received(peer)).toEqual(feed.written);
  });

  it("P0.5: each virtual peer proves an id of its own, and is in several overlays at a time", () => {
    const all = scene();
    const { world, servers, cache } = all;
    const [rain, wind] = [
      session(world, 2, { title: "rain" }),
      session(world, 2, { title: "wind" }),
    ];
    world.run(() => bothIn(all, rain.overlayId) && bothIn(all, wind.overlayId));
    const keys = new Set<string>();
    for (const peer of cache.peers) {
      const joined = said(world, peer, servers.oms, TYPES.join);
      expect(joined.map((fields) => hex(fields[2])).sort()).toEqual(
        [rain.overlayId, wind.overlayId].sort(),
      );
      for (const [, , , , publicKey, , , role] of joined) {
        expect(role).toBe(2);
        expect(hex(publicKey)).toBe(hex(peer.keys.publicKey));
        keys.add(hex(publicKey));
      }
    }
    expect(keys.size).toBe(2);
    // Of both overlays it passes on what others lack.
    const readers = [joins(world, "rain"), joins(world, "wind")];
    const feeds = [rain, wind].map((source, i) => {
      const sourceId = i === 0 ? "s-rain" : "s-wind";
      return new Feed(source, 200, () => 900, { sourceId });
    });
    world.run(() => readers.every((reader) => reader.has("ended")));
    expect(readers.map((reader) => received(reader))).toEqual(feeds.map(({ written }) => written));
  });

  it("P0.5 (negative): who was not ordered there joins as no virtual peer, whatever its id", () => {
    const { world, servers, cache } = scene();
    const source = session(world, 0, {});
    const [virtual] = cache.peers as [Node];
    for (const node of [virtual, world.node()]) {
      node.command({ kind: "setListen", addresses: [node.address] });
      node.command({
        kind: "joinSession",
        sessionId: 99,
        ixs: IXS,
        title: "",
        dataSourceId: "",
        dataId: "",
        from: undefined,
        virtualIn: source.overlayId,
        consume: false,
        waitMs: 2_000,
        node: {},
      });
      world.run(() => node.has("sessionFailed"));
      expect(node.eventsOf("sessionFailed")[0]?.code).toBe("NOT_ADMITTED");
      expect(isIn(node, source.overlayId)).toBe(false);
    }
    expect(servers.oms.snapshot<OmsSnapshot>().overlays[0]?.members).toBe(1);
  });
});

describe("the end of an overlay", () => {
  it("P3.3: the OMS deregisters it at the PAMS and releases what it had of cache servers", () => {
    const all = scene();
    const { world, servers, cache } = all;
    const source = session(world, 2, {});
    const { overlayId } = source;
    world.run(() => bothIn(all, overlayId));
    const peer = joins(world);
    const feed = new Feed(source, 100, () => 1_000, { sourceId: "s-weather", ends: false });
    world.run(() => received(peer).length === feed.written.length);
    source.command({ kind: "leaveSession", sessionId: 1 });
    world.run(() => source.has("sessionClosed"));
    world.advance(500);
    const removed = said(world, servers.oms, servers.pams, TYPES.removeOverlay);
    expect(removed.map((fields) => hex(fields[2]))).toEqual([overlayId]);
    const released = said(world, servers.oms, cache.node, TYPES.release);
    expect(released.map(([, , , overlay, , reason]) => [hex(overlay), reason])).toEqual([
      [overlayId, 0],
      [overlayId, 0],
    ]);
    expect(servers.oms.snapshot<OmsSnapshot>().cacheServers).toMatchObject([{ assigned: 0 }]);
    world.run(() => !cache.peers.some((each) => isIn(each, overlayId)), 60_000);
    expect(cache.node.snapshot<{ places: unknown[] }>().places).toEqual([]);
  });

  it("P3.3 (negative): while it stands neither is, not even when the source peer is away", () => {
    const all = scene();
    const { world, servers, cache } = all;
    const source = session(world, 2, {});
    world.run(() => bothIn(all, source.overlayId));
    const isTold = (): boolean =>
      said(world, servers.oms, servers.pams, TYPES.removeOverlay).length > 0 ||
      said(world, servers.oms, cache.node, TYPES.release).length > 0;
    world.advance(30_000);
    expect(isTold()).toBe(false);
    source.crash();
    world.advance(3_000);
    expect(isTold()).toBe(false);
    world.run(isTold, 20_000);
  });
});

describe("outages", () => {
  it("a killed cache server is replaced by another one, and members lose nothing", () => {
    const all = scene();
    const { world, servers, cache } = all;
    const other = new CacheServer(world, 21);
    world.run(() => other.node.events.some(({ type }) => type === "registered"));
    const source = session(world, 1, {});
    const { overlayId } = source;
    const all4 = [...cache.peers, ...other.peers];
    world.run(() => all4.some((each) => isIn(each, overlayId)));
    const serving = cache.peers.some((each) => isIn(each, overlayId)) ? cache : other;
    const spare = serving === cache ? other : cache;
    const peers = [joins(world), joins(world)];
    const feed = new Feed(source, 3_000, () => 1_000, { sourceId: "s-weather", ends: false });
    world.advance(300);
    serving.kill();
    world.run(() => spare.peers.some((each) => isIn(each, overlayId)), 60_000);
    world.run(() => peers.every((peer) => received(peer).length === 3_000), 60_000);
    for (const peer of peers) expect(received(peer)).toEqual(feed.written);
    for (const peer of peers) expect(peer.counters.gaps).toBe(0);
    expect(servers.oms.snapshot<OmsSnapshot>().cacheServers).toHaveLength(1);
  });

  it("while the OMS is away virtual peers stay where they are, and it knows them afterwards", () => {
    const all = scene();
    const { world, servers, cache } = all;
    const { overlayId } = session(world, 2, {});
    world.run(() => bothIn(all, overlayId));
    servers.oms.kill();
    world.advance(20_000);
    expect(bothIn(all, overlayId)).toBe(true);
    servers.oms.start();
    const again = () => cache.node.events.filter(({ type }) => type === "registered").length === 2;
    world.run(again, 60_000);
    world.advance(5_000);
    expect(bothIn(all, overlayId)).toBe(true);
    expect(servers.oms.snapshot<OmsSnapshot>().cacheServers).toMatchObject([{ assigned: 2 }]);
    expect(said(world, servers.oms, cache.node, TYPES.release)).toEqual([]);
  });

  it("one that withdraws is out of everything, and takes no order any more", () => {
    const all = scene();
    const { world, servers, cache } = all;
    const source = session(world, 2, {});
    world.run(() => bothIn(all, source.overlayId));
    cache.node.command({ type: "withdraw" });
    world.run(() => cache.node.events.some(({ type }) => type === "withdrawn"));
    expect(said(world, cache.node, servers.oms, TYPES.withdraw)).toHaveLength(1);
    expect(servers.oms.snapshot<OmsSnapshot>().cacheServers).toEqual([]);
  });
});
