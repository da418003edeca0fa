/**
 * Cache servers in whole sessions: the real servers, a source peer, peers, and a cache server whose
 * virtual peers are real peers, on a virtual clock. Messages are read by independent code.
 */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { parseAddress } from "../../src/base/machine.ts";
import type { AllocateOrder, ReleaseOrder } from "../../src/protocol/r8.ts";
import { createCs } from "../../src/servers/cs.ts";
import type { OmsSnapshot } from "../../src/servers/oms-types.ts";
import type { PamsSnapshot } from "../../src/servers/pams.ts";
import { decodeFragment } from "../support/fragment-decoder.ts";
import { type MsgpackValue, readMsgpack } from "../support/msgpack-reader.ts";
import { Feed, type Keys, type Node, received, World } from "./harness.ts";
import type { Messenger } from "./messages.ts";
import { IXS, OMS, ServerNode, type Servers, startServers } from "./server-node.ts";

const KEY = new Uint8Array(32).fill(7);
const hex = (bytes: unknown): string => Buffer.from(bytes as Uint8Array).toString("hex");
const TYPES = {
  removeOverlay: 0x11,
  registerPeer: 0x20,
  join: 0x45,
  register: 0x60,
  withdraw: 0x62,
  allocate: 0x68,
  release: 0x69,
} as const;

/** Fields of messages from one machine to another. */
function said(world: World, from: Messenger, to: Messenger, type: number): MsgpackValue[][] {
  return world.messages.log
    .filter((message) => message.from === from && message.to === to)
    .map(({ bytes }) => readMsgpack(bytes) as MsgpackValue[])
    .filter((fields) => fields[0] === type);
}

/** A cache server's process: its machine, and a peer for each virtual peer. */
class CacheServer {
  readonly node: ServerNode;
  readonly peers: Node[];
  readonly #world: World;
  /** Session of a virtual peer in an overlay. */
  readonly #sessions = new Map<string, number>();
  #nextSession = 1;

  constructor(world: World, port: number, peers = 2, overlaysPerPeer = 2, keys: Keys[] = []) {
    this.#world = world;
    this.peers = Array.from({ length: peers }, (_, i) =>
      world.node(keys[i] === undefined ? {} : { keys: keys[i] }),
    );
    this.node = new ServerNode(world, port, (base) =>
      createCs({
        ...base,
        oms: parseAddress("ws://oms:1") ?? OMS,
        serviceKey: KEY,
        cacheServerId: port.toString(16).padStart(64, "0"),
        label: "rack",
        virtualPeers: this.peers.map((peer) => peer.keys.peerId),
        overlaysPerPeer,
        leavingMax: 2,
      }),
    );
    this.node.onEvent = (event) => {
      if (event.type === "enter") this.#enter((event as never as { order: AllocateOrder }).order);
      if (event.type === "leave") this.#leave((event as never as { order: ReleaseOrder }).order);
    };
    for (const peer of this.peers) {
      peer.command({ kind: "setListen", addresses: [peer.address] });
      peer.onEvent = (event) => {
        if (event.kind === "failed") this.#failed(peer, event.overlayId, event.code);
        if (event.kind === "sessionFailed") this.#closed(peer, event.sessionId, event.code);
        if (event.kind === "sessionClosed") this.#closed(peer, event.sessionId, "");
      };
    }
  }

  #enter({ overlayId, peerId, title }: AllocateOrder): void {
    const peer = this.peers.find(({ keys }) => keys.peerId === peerId) as Node;
    const sessionId = this.#nextSession++;
    this.#sessions.set(`${overlayId}/${peerId}`, sessionId);
    this.#world.after(0, () =>
      peer.command({
        kind: "joinSession",
        sessionId,
        ixs: IXS,
        title,
        dataSourceId: "",
        dataId: "",
        from: undefined,
        virtualIn: overlayId,
        consume: false,
        waitMs: 30_000,
        node: { windowFragments: 256, windowBytes: 256 * 1024, repairMs: 2_000 },
      }),
    );
  }

  #leave({ overlayId, peerId, reason }: ReleaseOrder): void {
    const peer = this.peers.find(({ keys }) => keys.peerId === peerId) as Node;
    const sessionId = this.#sessions.get(`${overlayId}/${peerId}`);
    if (reason === 0 || sessionId === undefined) return;
    this.#world.after(0, () => peer.command({ kind: "leaveSession", sessionId }));
  }

  #failed(peer: Node, overlayId: string, code: string): void {
    const sessionId = this.#sessions.get(`${overlayId}/${peer.keys.peerId}`);
    this.#out(peer, overlayId, code);
    if (sessionId === undefined) return;
    this.#world.after(0, () => peer.command({ kind: "leaveSession", sessionId }));
  }

  #closed(peer: Node, sessionId: number, code: string): void {
    for (const [place, each] of this.#sessions) {
      const [overlayId, peerId] = place.split("/") as [string, string];
      if (each === sessionId && peerId === peer.keys.peerId) this.#out(peer, overlayId, code);
    }
  }

  #out(peer: Node, overlayId: string, code: string): void {
    const { peerId } = peer.keys;
    if (!this.#sessions.delete(`${overlayId}/${peerId}`)) return;
    this.#world.after(0, () =>
      this.node.command({ type: "out", overlayId, peerId, code, detail: "" }),
    );
  }

  /** kill -9. */
  kill(): void {
    this.node.kill();
    for (const peer of this.peers) peer.crash();
  }
}

interface Scene {
  readonly world: World;
  readonly servers: Servers;
  readonly cache: CacheServer;
}

function scene(options: { withoutPams?: boolean; peers?: number } = {}): Scene {
  const world = new World();
  const { withoutPams = false } = options;
  const servers = startServers(world, { serviceKey: KEY, refreshMs: 6_000, withoutPams });
  const cache = new CacheServer(world, 20, options.peers ?? 2);
  world.run(() => cache.node.events.some(({ type }) => type === "registered"));
  return { world, servers, cache };
}

function session(
  world: World,
  virtualPeers: number,
  more: { title?: string; waitPeers?: number; priority?: number },
): Node {
  const { title = "weather", waitPeers = 1, priority = 5 } = more;
  const node = world.node();
  node.command({ kind: "setListen", addresses: [node.address] });
  node.command({
    kind: "createSession",
    sessionId: 1,
    oms: OMS,
    ixs: IXS,
    title,
    dataSources: [{ sourceId: `s-${title}`, dataId: "d", contentType: "", description: "" }],
    fragmentBytes: 4096,
    integrity: "checksum",
    delivery: "complete",
    substreams: 8,
    maxLagMs: 1_000,
    waitPeers,
    ...(virtualPeers === 0 ? {} : { virtualPeers: { count: virtualPeers, priority } }),
    node: { windowFragments: 256, windowBytes: 256 * 1024, repairMs: 2_000, holdMs: 10_000 },
  });
  world.run(() => node.has("sessionOpen"));
  node.overlayId = node.eventsOf("sessionOpen")[0]?.overlayId ?? "";
  node.register(`s-${title}`);
  return node;
}

function joins(world: World, title = "weather", dial?: readonly string[]): Node {
  const node = world.node();
  node.command({ kind: "setListen", addresses: [node.address] });
  node.command({
    kind: "joinSession",
    sessionId: 1,
    ixs: IXS,
    title,
    dataSourceId: "",
    dataId: "",
    from: "oldest",
    waitMs: 60_000,
    ...(dial === undefined ? {} : { dial }),
    node: { windowFragments: 256, windowBytes: 256 * 1024, repairMs: 2_000 },
  });
  node.onEvent = (event) => {
    if (event.kind !== "sessionOpen") return;
    node.overlayId = event.overlayId;
    node.take();
  };
  world.run(() => node.has("sessionOpen"));
  return node;
}

const isIn = (peer: Node, overlayId: string): boolean => peer.machine.overlays.has(overlayId);
const bothIn = ({ cache }: Scene, overlayId: string): boolean =>
  cache.peers.every((peer) => isIn(peer, overlayId));

/** Indices of DATA that one node sent, checked by independent code. */
function indicesSent(node: Node): Set<number> {
  const frames = node.sentOf(FRAME_TYPES.DATA);
  return new Set(frames.map(({ bytes }) => decodeFragment(bytes).index));
}

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
    const all = scene();
    const { world } = all;
    const source = session(world, 2, {});
    world.run(() => bothIn(all, source.overlayId));
    const first = joins(world);
    world.run(() => first.has("started"));
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
    const all = scene();
    const { world } = all;
    const source = session(world, 2, {});
    world.run(() => bothIn(all, source.overlayId));
    const first = joins(world);
    world.run(() => first.has("started"));
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
