/** Sessions against the real servers: what peers ask of them, when, and what outages do. */

import { describe, expect, it } from "vitest";
import { type MsgpackValue, readMsgpack } from "../support/msgpack-reader.ts";
import { Feed, type Node, received, World } from "./harness.ts";
import type { Messenger } from "./messages.ts";
import { IXS, OMS, type Servers, startServers } from "./server-node.ts";

const TYPES = {
  registerOverlay: 0x10,
  removeOverlay: 0x11,
  registerPeer: 0x20,
  report: 0x21,
  removePeer: 0x22,
  status: 0x23,
  create: 0x41,
  refresh: 0x42,
  removeSession: 0x43,
  join: 0x45,
  memberRefresh: 0x46,
  leave: 0x48,
  registerIndex: 0x50,
} as const;

interface Said {
  readonly atMs: number;
  readonly type: number;
  readonly fields: MsgpackValue[];
}

/** Messages from one machine to another, read by independent code. */
function said(world: World, from: Messenger, to: Messenger, type?: number): Said[] {
  return world.messages.log
    .filter((message) => message.from === from && message.to === to)
    .map(({ atMs, bytes }) => {
      const fields = readMsgpack(bytes) as MsgpackValue[];
      return { atMs, type: fields[0] as number, fields };
    })
    .filter((message) => type === undefined || message.type === type);
}

interface Scene {
  readonly world: World;
  readonly servers: Servers;
}

function scene(options: Parameters<typeof startServers>[1] = {}): Scene {
  const world = new World();
  return { world, servers: startServers(world, options) };
}

function createSession(
  world: World,
  more: {
    readonly sources?: readonly string[];
    readonly waitPeers?: number;
    readonly waitMs?: number;
    readonly keys?: Node["keys"];
    readonly resumes?: boolean;
  } = {},
): Node {
  const node = world.node(more.keys === undefined ? {} : { keys: more.keys });
  node.command({ kind: "setListen", addresses: [node.address] });
  node.command({
    kind: "createSession",
    sessionId: 1,
    oms: OMS,
    ixs: IXS,
    title: "weather",
    dataSources: (more.sources ?? ["s"]).map((sourceId) => ({
      sourceId,
      dataId: "default",
      contentType: "",
      description: `what ${sourceId} sends`,
    })),
    fragmentBytes: 4096,
    integrity: "checksum",
    delivery: "complete",
    substreams: 8,
    maxLagMs: 1_000,
    waitPeers: more.waitPeers ?? 1,
    waitMs: more.waitMs ?? 0,
    resumes: more.resumes ?? false,
    node: { windowFragments: 256, windowBytes: 256 * 1024, repairMs: 2_000 },
  });
  return node;
}

function joinSession(
  world: World,
  waitMs = 60_000,
  more: { readonly followsRestarts?: boolean } = {},
): Node {
  const node = world.node();
  node.command({ kind: "setListen", addresses: [node.address] });
  node.command({
    kind: "joinSession",
    sessionId: 1,
    ixs: IXS,
    title: "weather",
    dataSourceId: "",
    dataId: "",
    from: "oldest",
    waitMs,
    ...more,
    node: { windowFragments: 256, windowBytes: 256 * 1024, repairMs: 2_000 },
  });
  node.onEvent = (event) => {
    if (event.kind !== "sessionOpen") return;
    node.overlayId = event.overlayId;
    node.take();
  };
  return node;
}

function opened(world: World, node: Node, sources: readonly string[] = ["s"]): void {
  world.run(() => node.has("sessionOpen"));
  node.overlayId = node.eventsOf("sessionOpen")[0]?.overlayId ?? "";
  for (const id of sources) {
    if (node.overlay.source?.sources.find(id) === undefined) node.register(id);
  }
}

describe("a source peer's session", () => {
  it("P0.8: the source peer creates its overlay through the OMS before anything else", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    const asked = said(world, source, servers.oms).map(({ type }) => type);
    expect(asked.slice(0, 2)).toEqual([0x40, TYPES.create]);
    const first = said(world, source, servers.ixs)[0];
    const created = said(world, source, servers.oms, TYPES.create)[0];
    expect(first?.atMs).toBeGreaterThan(created?.atMs ?? Number.POSITIVE_INFINITY);
    expect(servers.oms.events.some(({ type }) => type === "overlayCreated")).toBe(true);
  });

  it("P0.8 (negative): without an OMS there is no overlay and no index file", () => {
    const { world, servers } = scene();
    servers.oms.kill();
    const source = createSession(world);
    world.advance(20_000);
    expect(source.machine.overlays.size).toBe(0);
    expect(source.has("sessionOpen")).toBe(false);
    expect(said(world, source, servers.ixs)).toEqual([]);
    servers.oms.start();
    world.run(() => source.has("sessionOpen"), 60_000);
  });

  it("P1.2: it creates the overlay at the OMS and registers each data source at the IXS", () => {
    const { world, servers } = scene();
    const source = createSession(world, { sources: ["a", "b", "c"] });
    opened(world, source, ["a", "b", "c"]);
    expect(said(world, source, servers.oms, TYPES.create).length).toBe(1);
    expect(servers.ixs.events.filter(({ type }) => type === "indexStands").length).toBe(3);
    expect(servers.ixs.snapshot<{ indexFiles: number }>().indexFiles).toBe(3);
  });

  it("P1.2 (negative): the session is not open before the IXS has acknowledged", () => {
    const { world, servers } = scene();
    servers.ixs.kill();
    const source = createSession(world);
    world.advance(10_000);
    expect(source.has("sessionOpen")).toBe(false);
    expect(servers.oms.events.some(({ type }) => type === "overlayCreated")).toBe(true);
    servers.ixs.start();
    world.run(() => source.has("sessionOpen"), 60_000);
    expect(servers.ixs.snapshot<{ indexFiles: number }>().indexFiles).toBe(1);
  });

  it("P1.4: the OMS registers the overlay at the PAMS", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    world.advance(200);
    const [first] = said(world, servers.oms, servers.pams, TYPES.registerOverlay);
    const id = first?.fields[2];
    expect(Buffer.from(id as Uint8Array).toString("hex")).toBe(source.overlayId);
    expect(servers.pams.events.some(({ type }) => type === "overlayRegistered")).toBe(true);
  });

  it("P1.4 (negative): none before its session, none after it, none at a PAMS that is away", () => {
    const { world, servers } = scene();
    const registrations = (): Said[] =>
      said(world, servers.oms, servers.pams, TYPES.registerOverlay);
    world.advance(5_000);
    expect(registrations()).toEqual([]);
    servers.pams.kill();
    const source = createSession(world);
    // The session does not wait for it.
    opened(world, source);
    world.advance(5_000);
    expect(registrations()).toEqual([]);
    servers.pams.start();
    world.run(() => registrations().length > 0, 40_000);
    const ids = registrations().map(({ fields }) => Buffer.from(fields[2] as Uint8Array));
    expect(new Set(ids.map((id) => id.toString("hex")))).toEqual(new Set([source.overlayId]));
    source.command({ kind: "leaveSession", sessionId: 1 });
    world.run(() => source.has("sessionClosed"), 10_000);
    world.advance(200);
    const before = registrations().length;
    servers.pams.kill();
    servers.pams.start();
    world.advance(60_000);
    expect(registrations().length).toBe(before);
    expect(servers.pams.snapshot<{ overlays: unknown[] }>().overlays).toEqual([]);
  });

  it("R5.a, R5.d: it creates the overlay once and refreshes it well before it expires", () => {
    const { world, servers } = scene({ refreshMs: 6_000 });
    const source = createSession(world);
    opened(world, source);
    world.advance(60_000);
    expect(said(world, source, servers.oms, TYPES.create).length).toBe(1);
    const refreshes = said(world, source, servers.oms, TYPES.refresh).map(({ atMs }) => atMs);
    expect(refreshes.length).toBeGreaterThan(25);
    for (let i = 1; i < refreshes.length; i++) {
      expect((refreshes[i] ?? 0) - (refreshes[i - 1] ?? 0)).toBeLessThan(2_100);
    }
    expect(servers.oms.events.some(({ type }) => type === "overlayEnded")).toBe(false);
  });

  it("R6.a: the index file it registers has all fields, signed by its key", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    const [message] = said(world, source, servers.ixs, TYPES.registerIndex);
    const [body, signature] = readMsgpack(message?.fields[2] as Uint8Array) as Uint8Array[];
    const file = readMsgpack(body ?? new Uint8Array(0)) as MsgpackValue[];
    expect(signature?.length).toBe(64);
    expect(file).toContain("weather");
    expect(file).toContain("ws://oms:1");
    expect(file).toContain("s");
    expect(file).toContain("default");
    expect(file).toContain(4096);
    expect(file).toContain("what s sends");
    const hex = file.map((field) =>
      field instanceof Uint8Array ? Buffer.from(field).toString("hex") : "",
    );
    expect(hex).toContain(source.overlayId);
    expect(hex).toContain(Buffer.from(source.keys.publicKey).toString("hex"));
  });

  it("P3.2: ending deregisters at IXS and OMS, and the OMS at the PAMS", () => {
    const { world, servers } = scene();
    const source = createSession(world, { sources: ["a", "b"] });
    opened(world, source, ["a", "b"]);
    world.advance(1_000);
    source.command({ kind: "leaveSession", sessionId: 1 });
    world.run(() => source.has("sessionClosed"), 10_000);
    world.advance(200);
    expect(servers.ixs.events.filter(({ type }) => type === "indexGone").length).toBe(2);
    expect(said(world, source, servers.oms, TYPES.removeSession).length).toBe(1);
    expect(said(world, servers.oms, servers.pams, TYPES.removeOverlay).length).toBe(1);
    expect(said(world, source, servers.pams, TYPES.removePeer).length).toBe(1);
    expect(source.machine.overlays.size).toBe(0);
    expect(servers.pams.events.at(-1)).toMatchObject({ type: "overlayDropped", why: "removed" });
  });

  it("P3.2 (negative): while the session runs none of them is told to remove it", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    world.advance(30_000);
    expect(said(world, source, servers.oms, TYPES.removeSession)).toEqual([]);
    expect(said(world, servers.oms, servers.pams, TYPES.removeOverlay)).toEqual([]);
    expect(servers.ixs.events.some(({ type }) => type === "indexGone")).toBe(false);
  });

  it("P3.5: the source peer goes by termination, or its overlay expires", () => {
    const { world, servers } = scene({ refreshMs: 6_000 });
    const source = createSession(world);
    opened(world, source);
    world.advance(2_000);
    source.crash();
    world.advance(5_500);
    world.run(() => servers.oms.events.some(({ type }) => type === "overlayEnded"), 3_000);
    expect(servers.oms.events.find(({ type }) => type === "overlayEnded")?.why).toBe("expired");
  });

  it("P3.5 (negative): a source peer without members or data stays", () => {
    const { world, servers } = scene({ refreshMs: 6_000 });
    const source = createSession(world);
    opened(world, source);
    world.advance(100_000);
    expect(servers.oms.events.some(({ type }) => type === "overlayEnded")).toBe(false);
    expect(source.machine.overlays.size).toBe(1);
  });

  it("another key holds its ids: it waits for that overlay to expire, says why, then opens", () => {
    const { world, servers } = scene({ refreshMs: 6_000 });
    const killed = createSession(world);
    opened(world, killed);
    killed.crash();
    const source = createSession(world, { waitMs: 60_000 });
    world.advance(2_000);
    expect(source.eventsOf("sessionNote").map(({ text }) => text)).toEqual([
      expect.stringMatching(/^NOT_OWNER another key holds data source id "s".*--identity/),
    ]);
    const ended = (): typeof servers.oms.events =>
      servers.oms.events.filter(({ type }) => type === "overlayEnded");
    world.run(() => ended().length > 0, 8_000);
    expect(ended()).toMatchObject([{ why: "expired", overlayId: killed.overlayId }]);
    expect(source.has("sessionOpen")).toBe(false);
    // As the host of both servers does.
    servers.ixs.command({ type: "overlayGone", overlayId: killed.overlayId });
    world.run(() => source.has("sessionOpen"), 3_000);
    expect(source.has("sessionFailed")).toBe(false);
    expect(servers.ixs.events.filter(({ type }) => type === "indexStands").length).toBe(2);
  });

  it.each([0, 5_000])(
    "another key keeps its ids: NOT_OWNER after %i ms, no overlay stays",
    (waitMs) => {
      const { world, servers } = scene({ refreshMs: 6_000 });
      opened(world, createSession(world));
      const beganMs = world.nowMs;
      const source = createSession(world, { sources: ["own", "s"], waitMs });
      world.run(() => source.has("sessionClosed"), 10_000);
      expect(world.nowMs - beganMs).toBeLessThanOrEqual(waitMs + 100);
      expect(world.nowMs - beganMs).toBeGreaterThanOrEqual(waitMs - 500);
      expect(source.eventsOf("sessionFailed")).toMatchObject([{ code: "NOT_OWNER" }]);
      expect(source.machine.overlays.size).toBe(0);
      expect(servers.oms.events.filter(({ type }) => type === "overlayEnded")).toMatchObject([
        { why: "removed" },
      ]);
      expect(servers.ixs.events.filter(({ type }) => type === "indexGone").length).toBe(1);
    },
  );

  it("ends within bounds when the servers are gone for good", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    servers.oms.kill();
    servers.ixs.kill();
    servers.pams.kill();
    source.command({ kind: "leaveSession", sessionId: 1 });
    world.run(() => source.has("sessionClosed"), 6_000);
    expect(source.machine.overlays.size).toBe(0);
  });

  it("registers above the version that a removed session had", () => {
    const { world, servers } = scene();
    for (let turn = 0; turn < 3; turn++) {
      const source = turn === 0 ? createSession(world) : world.nodes[0];
      if (source === undefined) throw new Error("no node");
      if (turn > 0) {
        source.events.length = 0;
        source.command({
          kind: "createSession",
          sessionId: 1,
          oms: OMS,
          ixs: IXS,
          title: "weather",
          dataSources: [{ sourceId: "s", dataId: "default", contentType: "", description: "" }],
          fragmentBytes: 4096,
          integrity: "checksum",
          delivery: "complete",
          substreams: 8,
          maxLagMs: 1_000,
          waitPeers: 1,
          node: {},
        });
      }
      world.run(() => source.has("sessionOpen"));
      source.command({ kind: "leaveSession", sessionId: 1 });
      world.run(() => source.has("sessionClosed"), 10_000);
    }
    const versions = servers.ixs.events
      .filter(({ type }) => type === "indexStands")
      .map((e) => e.version as number);
    expect(versions.length).toBe(3);
    for (let i = 1; i < 3; i++) expect(versions[i]).toBeGreaterThan(versions[i - 1] ?? 0);
  });

  it("a data source that is taken back is gone at the IXS, and may come again; termination takes the rest", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    const added = (): string[] =>
      source.eventsOf("dataSourceAdded").map(({ sourceId }) => sourceId);
    const add = (sourceId: string): void =>
      source.command({
        kind: "addDataSource",
        sessionId: 1,
        dataSource: { sourceId, dataId: "default", contentType: "", description: "" },
      });
    const remove = (sourceId: string): void =>
      source.command({ kind: "removeDataSource", sessionId: 1, sourceId });
    const files = (): number[] =>
      ["indexStands", "indexGone"].map(
        (wanted) => servers.ixs.events.filter(({ type }) => type === wanted).length,
      );
    for (const id of ["a", "b", "c"]) add(id);
    world.run(() => added().length === 3);
    expect(files()).toEqual([4, 0]);
    // Two go while another comes, and one of them comes again at once.
    for (const id of ["a", "b", "a", "nobody"]) remove(id);
    add("d");
    add("a");
    world.run(() => added().length === 5);
    expect(files()).toEqual([6, 2]);
    // The session ends while the IXS is away.
    servers.ixs.kill();
    remove("c");
    world.advance(500);
    source.command({ kind: "leaveSession", sessionId: 1 });
    world.advance(500);
    servers.ixs.start();
    world.run(() => source.has("sessionClosed"), 10_000);
    expect(files()).toEqual([6, 6]);
  });
});

describe("a peer's session", () => {
  it("P0.2: it gets the newest index file first, then the peer list of the overlay it names", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    const peer = joinSession(world);
    world.run(() => peer.has("sessionOpen"));
    const query = said(world, peer, servers.ixs)[0];
    const join = said(world, peer, servers.oms, TYPES.join)[0];
    expect(query?.atMs).toBeLessThan(join?.atMs ?? 0);
    expect(Buffer.from(join?.fields[2] as Uint8Array).toString("hex")).toBe(source.overlayId);
    world.run(() => peer.has("started"), 5_000);
    world.run(() => peer.overlay.neighbours.some(({ isSource }) => isSource), 5_000);
  });

  it("P0.2 (negative): without an index file it asks no OMS, and fails when told not to wait", () => {
    const { world, servers } = scene();
    const peer = joinSession(world, 3_000);
    world.run(() => peer.has("sessionFailed"), 10_000);
    expect(peer.eventsOf("sessionFailed")[0]).toMatchObject({ code: "UNKNOWN_INDEX" });
    expect(said(world, peer, servers.oms)).toEqual([]);
    expect(peer.has("sessionClosed")).toBe(true);
  });

  it("P2.3, R2.a, R2.c: it registers at the PAMS and reports every interval, never late", () => {
    const { world, servers } = scene({ reportIntervalMs: 1_000 });
    const source = createSession(world);
    opened(world, source);
    const peer = joinSession(world);
    world.run(() => peer.has("sessionOpen"));
    world.advance(30_000);
    expect(said(world, peer, servers.pams, TYPES.registerPeer).length).toBe(1);
    for (const node of [source, peer]) {
      const reports = said(world, node, servers.pams, TYPES.report).map(({ atMs }) => atMs);
      expect(reports.length).toBeGreaterThan(29);
      for (let i = 1; i < reports.length; i++) {
        const pause = (reports[i] ?? 0) - (reports[i - 1] ?? 0);
        expect(pause).toBeLessThanOrEqual(1_000);
      }
    }
  });

  it("P2.3 (negative): before the PAMS gave an interval nothing is reported", () => {
    const { world, servers } = scene();
    servers.pams.kill();
    const source = createSession(world);
    opened(world, source);
    const peer = joinSession(world);
    world.run(() => peer.has("sessionOpen"));
    world.advance(10_000);
    expect(said(world, peer, servers.pams, TYPES.report)).toEqual([]);
    servers.pams.start();
    world.run(() => said(world, peer, servers.pams, TYPES.report).length > 2, 90_000);
  });

  it("R2.d, R5.0: leaving, it removes itself at the PAMS and leaves the overlay at the OMS", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    const peer = joinSession(world);
    world.run(() => peer.has("sessionOpen"));
    world.advance(1_000);
    peer.command({ kind: "leaveSession", sessionId: 1 });
    world.run(() => peer.has("sessionClosed"), 5_000);
    const [removed] = said(world, peer, servers.pams, TYPES.removePeer);
    expect(Buffer.from(removed?.fields[3] as Uint8Array).toString("hex")).toBe(peer.keys.peerId);
    expect(said(world, peer, servers.oms, TYPES.leave).length).toBe(1);
    world.advance(100);
    expect(source.overlay.neighbours).toEqual([]);
  });

  it("who could not reach the source peer at first meets it later, however many links it has", () => {
    const { world } = scene();
    const source = createSession(world, { waitPeers: 8 });
    opened(world, source);
    // Its first link to the source peer says nothing; meanwhile the others link up with it.
    let links = 0;
    const accept = source.acceptFrom.bind(source);
    source.acceptFrom = (other, remote) => {
      const wire = accept(other, remote);
      if (links++ === 0) wire.open = false;
      return wire;
    };
    const last = joinSession(world);
    world.advance(500);
    const first = Array.from({ length: 7 }, () => joinSession(world));
    world.advance(4_000);
    expect(last.overlay.neighbours.length).toBeGreaterThanOrEqual(6);
    expect(last.overlay.neighbours.some(({ isSource }) => isSource)).toBe(false);
    const feed = new Feed(source, 1_000, () => 1_000);
    world.run(() => [...first, last].every((peer) => peer.has("ended")), 60_000);
    for (const peer of [...first, last]) expect(received(peer)).toEqual(feed.written);
  });

  it("who has links enough opens one more each time that neighbours lack something, up to 12", () => {
    const { world } = scene();
    const source = createSession(world, { waitPeers: 1 });
    opened(world, source);
    const peers = Array.from({ length: 20 }, () => joinSession(world));
    world.run(() => peers.every((peer) => peer.has("started")), 20_000);
    world.advance(5_000);
    const links = (): number => last.overlay.neighbours.filter(({ link }) => link.outbound).length;
    const last = peers.at(-1) as Node;
    const before = links();
    world.advance(10_000);
    expect(links()).toBe(before);
    Object.defineProperty(last.overlay.partners, "lacks", { value: true });
    world.advance(60_000);
    expect(links()).toBeGreaterThan(before);
    expect(links()).toBeLessThanOrEqual(12);
  });

  it("P0.7: data that the source peer gets reach its peers at once", () => {
    const { world } = scene();
    const source = createSession(world);
    opened(world, source);
    const peers = [joinSession(world), joinSession(world)];
    world.run(() => peers.every((peer) => peer.has("started")), 10_000);
    world.advance(3_000);
    for (let i = 1; i <= 20; i++) {
      const atMs = world.nowMs;
      source.write("s", Uint8Array.of(i));
      world.run(() => peers.every((peer) => peer.taken.length === i), 1_000);
      expect(world.nowMs - atMs).toBeLessThan(10);
      world.advance(333);
    }
  });

  it("P0.7 (negative): nothing is shared that the source peer did not get, or refused", () => {
    const { world } = scene();
    const source = createSession(world);
    opened(world, source);
    const peers = [joinSession(world), joinSession(world)];
    world.run(() => peers.every((peer) => peer.has("started")), 10_000);
    world.advance(2_000);
    expect(source.counters.fragmentsSent).toBe(0);
    expect(() => source.write("stranger", Uint8Array.of(1))).toThrow("SOURCE_UNREGISTERED");
    world.advance(2_000);
    expect(source.counters.fragmentsSent).toBe(0);
    source.write("s", Uint8Array.of(2));
    world.run(() => peers.every((peer) => peer.taken.length === 1), 1_000);
    const sent = source.counters.fragmentsSent;
    source.command({ kind: "endSource", overlayId: source.overlayId, sourceId: "s" });
    expect(() => source.write("s", Uint8Array.of(3))).toThrow("SOURCE_ENDED");
    world.advance(2_000);
    // END is all that came after it.
    expect(source.counters.fragmentsSent - sent).toBeLessThanOrEqual(2);
    for (const peer of peers) expect(peer.taken.length).toBe(1);
  });

  it("P1.1, P3.1: a data source's session is created, fed and ended through its source peer", () => {
    const { world, servers } = scene();
    const peer = joinSession(world);
    world.advance(2_000);
    const source = createSession(world, { sources: ["a", "b"] });
    opened(world, source, ["a", "b"]);
    const a = new Feed(source, 300, () => 200, { ends: false, sourceId: "a" });
    const b = new Feed(source, 100, () => 900, { ends: false, sourceId: "b" });
    world.run(() => a.isWritten && b.isWritten);
    source.command({ kind: "endSource", overlayId: source.overlayId, sourceId: "a" });
    world.run(() => source.has("sourceEnded"));
    expect(source.eventsOf("sourceEnded")[0]).toMatchObject({ sourceId: "a", lastSequence: 300 });
    source.end();
    world.run(() => source.has("ended") && peer.has("ended"), 20_000);
    source.command({ kind: "leaveSession", sessionId: 1 });
    world.run(() => source.has("sessionClosed"), 10_000);
    expect(received(peer, "a")).toEqual(a.written);
    expect(received(peer, "b")).toEqual(b.written);
    expect(servers.oms.events.some(({ type }) => type === "overlayEnded")).toBe(true);
  });

  it("P1.1, P3.1 (negative): an ended data source's data are refused, the other's go on", () => {
    const { world } = scene();
    const source = createSession(world, { sources: ["a", "b"] });
    opened(world, source, ["a", "b"]);
    source.command({ kind: "endSource", overlayId: source.overlayId, sourceId: "a" });
    expect(() => source.write("a", Uint8Array.of(1))).toThrow(/SOURCE_ENDED/);
    expect(source.write("b", Uint8Array.of(1)).accepted).toBe(1);
    expect(source.has("sessionClosed")).toBe(false);
  });

  it("the servers killed and started again amid a session disturb no data", () => {
    const { world, servers } = scene({ reportIntervalMs: 1_000, refreshMs: 6_000 });
    const source = createSession(world);
    opened(world, source);
    const peers = [joinSession(world), joinSession(world)];
    world.run(() => peers.every((peer) => peer.has("started")), 10_000);
    const written: number[] = [];
    const feed = (): void => {
      if (written.length >= 200) return;
      const { accepted } = source.write("s", new Uint8Array(700).fill(written.length));
      for (let i = 0; i < accepted; i++) written.push(written.length + 1);
      world.after(100, feed);
    };
    feed();
    world.advance(3_000);
    for (const server of [servers.oms, servers.ixs, servers.pams]) server.kill();
    world.advance(4_000);
    for (const server of [servers.oms, servers.ixs, servers.pams]) server.start();
    const restartedMs = world.nowMs;
    // Found, listed and reported again.
    const late = joinSession(world);
    world.run(() => late.has("started"), 30_000);
    world.run(
      () =>
        [source, ...peers].every((node) =>
          said(world, node, servers.pams, TYPES.report).some(({ atMs }) => atMs > restartedMs),
        ),
      30_000,
    );
    world.run(
      () =>
        peers.every((node) =>
          said(world, node, servers.oms, TYPES.join).some(({ atMs }) => atMs > restartedMs),
        ),
      5_000,
    );
    world.run(() => written.length >= 200, 60_000);
    source.end();
    world.run(() => [...peers, late].every((peer) => peer.has("ended")), 60_000);
    for (const peer of peers) expect(peer.taken.map(({ sequence }) => sequence)).toEqual(written);
    expect(late.taken.at(-1)?.sequence).toBe(200);
    expect(servers.oms.events.some(({ type }) => type === "overlayEnded")).toBe(false);
  });

  it("a killed source that starts over: who does not follow is told at once, with all that came", () => {
    const { world, servers } = scene({ refreshMs: 60_000, memberLeaseMs: 60_000 });
    const source = createSession(world);
    opened(world, source);
    const peers = [1, 2, 3].map(() => joinSession(world, 60_000, { followsRestarts: false }));
    world.run(() => peers.every((peer) => peer.has("started")), 10_000);
    const feed = new Feed(source, 50, () => 500, { ends: false });
    world.run(() => peers.every((peer) => peer.taken.length === feed.written.length));
    const keys = source.keys;
    source.crash();
    world.advance(3_000);
    expect(peers.some((peer) => peer.has("failed"))).toBe(false);
    const again = createSession(world, { keys });
    world.run(() => peers.every((peer) => peer.has("failed")), 5_000);
    expect(again.has("sessionOpen")).toBe(true);
    for (const peer of peers) {
      expect(peer.eventsOf("failed")[0]).toMatchObject({
        code: "SESSION_LOST",
        detail: expect.stringMatching(/^the source started over: no END up to fragment/),
      });
      expect(received(peer)).toEqual(feed.written);
    }
    expect(servers.oms.events.some(({ type }) => type === "overlayEnded")).toBe(false);
  });

  it("a source that is away and did not start over: its members stay, and ask ever more seldom", () => {
    const { world, servers } = scene({ refreshMs: 60_000, memberLeaseMs: 60_000 });
    const source = createSession(world);
    opened(world, source);
    const peer = joinSession(world);
    world.run(() => peer.has("started"), 10_000);
    source.crash();
    const before = said(world, peer, servers.ixs).length;
    world.advance(30_000);
    const asked = said(world, peer, servers.ixs).length - before;
    expect(asked).toBeGreaterThan(5);
    expect(asked).toBeLessThan(20);
    expect(peer.has("failed")).toBe(false);
  });

  it("a source peer that ends without END leaves its peers with SESSION_LOST, and what came", () => {
    const { world } = scene({ refreshMs: 6_000, memberLeaseMs: 6_000 });
    const source = createSession(world);
    opened(world, source);
    const peers = [joinSession(world), joinSession(world)];
    world.run(() => peers.every((peer) => peer.has("started")), 10_000);
    const feed = new Feed(source, 50, () => 500, { ends: false });
    world.run(() => peers.every((peer) => peer.taken.length === feed.written.length));
    source.command({ kind: "leaveSession", sessionId: 1 });
    world.run(() => peers.every((peer) => peer.has("failed")), 30_000);
    for (const peer of peers) {
      expect(peer.eventsOf("failed")[0]).toMatchObject({ code: "SESSION_LOST" });
      expect(received(peer)).toEqual(feed.written);
    }
  });
});
