/** A peer's session: what it asks of the servers, when, and what outages do. */

import { describe, expect, it } from "vitest";
import { lostText } from "../../../src/peer/session/successor.ts";
import { encodeBuffermap } from "../../../src/protocol/r10-binary.ts";
import { Feed, type Node, received } from "../harness.ts";
import { createSession, joinSession, opened, said, scene, TYPES } from "./scene.ts";

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

  it("when it has waited long enough, it says what was answered last, if anybody answered", () => {
    const { world, servers } = scene();
    const [early, late] = [joinSession(world, 3_000), joinSession(world, 3_000)];
    world.advance(1_000);
    servers.ixs.kill();
    world.run(() => early.has("sessionFailed") && late.has("sessionFailed"), 20_000);
    expect(early.eventsOf("sessionFailed")[0]).toMatchObject({
      code: "UNKNOWN_INDEX",
      detail: expect.stringMatching(/the last answer; then (UNREACHABLE|LINK_|TIMEOUT)/),
    });
    const never = joinSession(world, 3_000);
    world.run(() => never.has("sessionFailed"), 20_000);
    expect(never.eventsOf("sessionFailed")[0]?.code).toMatch(/UNREACHABLE|LINK_|TIMEOUT/);
    // Meanwhile it says why, and that it tries again; a title that is not there yet is no failure.
    const [first] = never.eventsOf("sessionNote");
    expect(first?.text).toMatch(/^(UNREACHABLE|LINK_|TIMEOUT).*: trying again$/);
    expect(first?.failure?.code).toMatch(/UNREACHABLE|LINK_|TIMEOUT/);
    expect(early.eventsOf("sessionNote")[0]).not.toHaveProperty("failure");
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

  it("who was told a wrong place to start begins again where the source peer is", () => {
    const { world } = scene();
    const source = createSession(world, { waitPeers: 1 });
    opened(world, source);
    const accept = source.acceptFrom.bind(source);
    let isReached = false;
    source.acceptFrom = (other, remote) => {
      const wire = accept(other, remote);
      if (!isReached) wire.open = false;
      return wire;
    };
    const peer = joinSession(world);
    world.run(() => peer.has("sessionOpen"));
    world.advance(10);
    const liar = world.stranger();
    Object.assign(liar, { overlayId: peer.overlayId, tag: peer.overlay.tag });
    liar.join(peer);
    liar.send(encodeBuffermap(liar.tag, 1_000_000, 5, new Uint8Array(0)));
    world.run(() => peer.has("started"));
    expect(peer.eventsOf("started").map(({ index }) => index)).toEqual([1_000_000]);
    isReached = true;
    // More than a window: it is done with nothing of it by standing where nothing is.
    const feed = new Feed(source, 1_500, () => 1_000);
    world.run(() => peer.has("ended"), 60_000);
    expect(received(peer)).toEqual(feed.written);
    expect(peer.eventsOf("gap")).toEqual([]);
    expect(peer.eventsOf("sessionOpen")).toHaveLength(1);
  });

  it("who has links enough opens one more each time that neighbours lack something, up to 12", () => {
    const { world } = scene();
    const source = createSession(world, { waitPeers: 1 });
    opened(world, source);
    const peers = Array.from({ length: 15 }, () => joinSession(world));
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

  it("members that died are dialled ever more seldom, and no more once the OMS forgot them", () => {
    const { world } = scene({ memberLeaseMs: 10_000 });
    opened(world, createSession(world, { waitPeers: 1 }));
    const peer = joinSession(world);
    world.run(() => peer.has("sessionOpen"));
    for (let i = 0; i < 40; i++) {
      const other = joinSession(world);
      world.advance(1_000);
      other.crash();
    }
    const failed = (): number => peer.eventsOf("linkFailed").length;
    const before = failed();
    world.advance(60_000);
    const inFirst = failed() - before;
    expect(inFirst).toBeGreaterThan(0);
    expect(inFirst).toBeLessThan(80);
    world.advance(240_000);
    expect(failed() - before - inFirst).toBeLessThan(10);
    world.advance(240_000);
    const last = failed();
    world.advance(240_000);
    expect(failed()).toBe(last);
    expect(peer.overlay.neighbours.some(({ isSource }) => isSource)).toBe(true);
  });

  it("linked to nobody, and without the OMS, it still dials those it knows", () => {
    const { world, servers } = scene();
    const source = createSession(world, { waitPeers: 1 });
    opened(world, source);
    const peer = joinSession(world);
    world.run(() => peer.has("started"));
    world.run(() => peer.overlay.neighbours.length === 1);
    servers.oms.kill();
    // Its machine stands still: its links break, and whoever dials it is refused.
    source.isAlive = false;
    world.run(() => peer.overlay.neighbours.length === 0);
    world.advance(60_000);
    source.isAlive = true;
    world.run(() => peer.overlay.neighbours.length === 1, 8_000);
  });

  it("who dials some only says when none is there, and is linked soon after one came", () => {
    const { world } = scene();
    opened(world, createSession(world, { waitPeers: 1 }));
    const relay = world.node();
    const peer = joinSession(world, 60_000, { dial: [relay.keys.peerId] });
    world.run(() => peer.has("sessionOpen"));
    const notes = (): string[] => peer.eventsOf("sessionNote").map(({ text }) => text);
    world.advance(20_000);
    expect(notes()).toEqual(["dial: none of the members named is there"]);
    expect(peer.overlay.neighbours.length).toBe(0);
    joinSession(world, 60_000, { at: relay, sessionId: 2 });
    world.run(() => relay.has("sessionOpen"));
    world.run(() => peer.overlay.neighbours.length === 1, 1_200);
  });

  it("of a source that says goodbye it tells both what that can mean", () => {
    expect(lostText("BYE")).toMatch(/left before the end .*, or ended it while this peer lagged/);
    expect(lostText("LINK_CLOSED")).toBe("the link to the source is lost: it may come back");
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

  it("of an overlay that its engine has open is refused, and the first one goes on", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    // Both at a time, then once more when the first is open.
    const peer = joinSession(world);
    joinSession(world, 60_000, { at: peer, sessionId: 2 });
    world.run(() => peer.has("sessionOpen") && peer.has("sessionClosed"));
    const feed = new Feed(source, 50, () => 500, { ends: false });
    world.run(() => peer.taken.length === feed.written.length && feed.isWritten, 10_000);
    joinSession(world, 60_000, { at: peer, sessionId: 3 });
    world.run(() => peer.eventsOf("sessionClosed").length === 2, 5_000);
    expect(peer.eventsOf("sessionFailed").map(({ code, sessionId }) => [sessionId, code])).toEqual([
      [2, "USAGE"],
      [3, "USAGE"],
    ]);
    // There is one membership for all of them: the first keeps it.
    expect(said(world, peer, servers.oms, TYPES.join).length).toBe(1);
    expect(said(world, peer, servers.oms, TYPES.leave)).toEqual([]);
    expect(peer.has("left")).toBe(false);
    source.write("s", Uint8Array.of(7));
    source.end();
    world.run(() => peer.has("ended"), 20_000);
    expect(peer.taken.length).toBe(51);
  });

  it("of an overlay that its engine has left is as any other", () => {
    const { world } = scene();
    const source = createSession(world);
    opened(world, source);
    const peer = joinSession(world);
    world.run(() => peer.has("started"), 10_000);
    peer.command({ kind: "leaveSession", sessionId: 1 });
    joinSession(world, 60_000, { at: peer, sessionId: 2 });
    world.run(() => peer.eventsOf("sessionOpen").length === 2, 10_000);
    expect(peer.has("sessionFailed")).toBe(false);
  });

  it("of an engine's own source session is refused, and the source goes on", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    joinSession(world, 60_000, { at: source, sessionId: 2 });
    world.run(() => source.has("sessionClosed"), 5_000);
    expect(source.eventsOf("sessionFailed")[0]).toMatchObject({ sessionId: 2, code: "USAGE" });
    expect(said(world, source, servers.oms, TYPES.join)).toEqual([]);
    const peer = joinSession(world);
    const feed = new Feed(source, 50, () => 500, { ends: true });
    world.run(() => source.has("ended") && peer.has("ended"), 20_000);
    expect(received(peer)).toEqual(feed.written);
  });
});
