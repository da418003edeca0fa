/** Rules (a) to (e): what is kept, who holds a session back, who is left behind, and who holds on. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES, HAVE_FLAG_HELD_BACK } from "../../src/base/layout.ts";
import { overlayReport } from "../../src/host/report.ts";
import type { Neighbour } from "../../src/peer/neighbour.ts";
import { encodeBuffermap, encodeCredit, encodeRanges } from "../../src/protocol/r10-binary.ts";
import { Feed, Keys, type Node, received, swarm } from "./harness.ts";

describe("retention and standing (complete)", () => {
  it("(a) nothing is freed before as many members came as the source waits for", () => {
    const { world, source, peers } = swarm(1, { waitPeers: 2 });
    const feed = new Feed(source, 1_000, () => 1_000);
    world.advance(3_000);
    expect(feed.isWritten).toBe(false);
    expect(source.overlay.window.start).toBe(0);
    expect(peers[0]?.taken.length).toBeGreaterThan(100);
    const late = world.node().open("peer", source.overlay.settings).dial(source);
    world.run(() => late.has("ended") && (peers[0]?.has("ended") ?? false));
    expect(late.eventsOf("started")[0]?.index).toBe(0);
    expect(received(late)).toEqual(feed.written);
  });

  it("(a) one member that comes again over new links is not counted as several", () => {
    const { world, source } = swarm(1, { waitPeers: 3 });
    const feed = new Feed(source, 1_000, () => 1_000);
    const keys = new Keys();
    for (let i = 0; i < 3; i++) {
      world.stranger(keys).join(source);
      world.advance(1_000);
    }
    expect(feed.isWritten).toBe(false);
    expect(source.overlay.window.start).toBe(0);
  });

  it("(a) while members still come in, nothing is freed, but not for ever", () => {
    const { world, source, peers } = swarm(1, { waitPeers: 1, gatherMs: 2_000 });
    const feed = new Feed(source, 1_000, () => 1_000);
    world.advance(1_500);
    expect(source.overlay.window.start).toBe(0);
    expect(feed.isWritten).toBe(false);
    const late = world.node().open("peer", source.overlay.settings).dial(source);
    world.advance(1_500);
    expect(source.overlay.window.start).toBe(0);
    world.run(() => late.has("ended") && (peers[0]?.has("ended") ?? false));
    expect(received(late)).toEqual(feed.written);
  });

  it("(b) a consumer that does not take holds the source back, and goes on when it takes", () => {
    const { world, source, peers } = swarm(2, { stallMs: 1_000_000 });
    const slow = peers[0];
    if (slow === undefined) throw new Error("no peer");
    slow.takes = false;
    const feed = new Feed(source, 3_000, () => 1_000);
    world.advance(20_000);
    const stuck = feed.written.length;
    expect(stuck).toBeLessThan(1_000);
    world.advance(20_000);
    expect(feed.written.length).toBe(stuck);
    slow.takes = true;
    slow.take();
    world.run(() => peers.every((peer) => peer.has("ended")));
    for (const peer of peers) expect(received(peer)).toEqual(feed.written);
  });

  it("a source counts who had all, who left before, and who lagged behind", () => {
    const { world, source, peers } = swarm(3, { links: "source", stallMs: 2_000, lingerMs: 500 });
    const [stuck, leaves, stays] = peers as [Node, Node, Node];
    stuck.takes = false;
    const { overlay } = source;
    const feed = new Feed(source, 2_000, () => 1_000);
    world.advance(1_000);
    expect(overlay.finale.members()).toEqual({ complete: 0, left: 0, behind: 3 });
    leaves.leave();
    world.run(() => source.has("ended"));
    expect(received(stays)).toEqual(feed.written);
    const members = { complete: 1, left: 1, behind: 1 };
    expect(overlay.finale.members()).toEqual(members);
    source.leave();
    expect(overlay.finale.members()).toEqual(members);
  });

  it("a source counts as behind who lagged and lost some, also when it came after all", () => {
    const { world, source, peers } = swarm(2, { links: "source", stallMs: 2_000 });
    const [stopped] = peers as [Node, Node];
    stopped.takes = false;
    const feed = new Feed(source, 2_000, () => 1_000, { ends: false });
    world.run(() => feed.isWritten, 30_000);
    stopped.takes = true;
    stopped.take();
    source.end();
    world.run(() => peers.every((peer) => peer.has("ended")), 30_000);
    expect(stopped.has("gap")).toBe(true);
    // It tells that it has all that there is to be had.
    const { endIndex } = source.overlay;
    const told = ({ peerId, ackedTo }: Neighbour) =>
      peerId === stopped.keys.peerId && ackedTo > (endIndex as number);
    world.run(() => source.overlay.neighbours.some(told));
    expect(source.overlay.finale.members()).toEqual({ complete: 1, left: 0, behind: 1 });
    world.run(() => source.has("ended"), 30_000);
    expect(source.overlay.finale.members()).toEqual({ complete: 1, left: 0, behind: 1 });
  });

  it("a peer without a link to the source knows for how long it learned of nothing new", () => {
    const { world, source, peers } = swarm(2, { links: "chain" });
    const noNewsMs = (): number[] => peers.map((peer) => peer.overlay.finale.noNewsMs);
    source.write("s", Uint8Array.of(1));
    world.advance(10_000);
    expect(noNewsMs()).toEqual([0, expect.closeTo(10_000, -3)]);
    source.write("s", Uint8Array.of(2));
    world.advance(1_000);
    expect(noNewsMs()).toEqual([0, expect.closeTo(1_000, -3)]);
    source.crash();
    world.advance(6_000);
    expect(noNewsMs()).toEqual([expect.closeTo(6_000, -3), expect.closeTo(7_000, -3)]);
  });

  it("a peer that knows the end of the stream awaits no news", () => {
    const { world, source, peers } = swarm(2, { links: "chain" });
    const { finale } = (peers[1] as Node).overlay;
    new Feed(source, 10, () => 1_000);
    world.run(() => peers.every((peer) => peer.has("ended")));
    expect(finale.noNewsMs).toBe(0);
  });

  it("(c) who gets on a little at a time keeps its standing, sets the pace, and is named", () => {
    const { world, source, peers } = swarm(3, { links: "source", stallMs: 4_000 });
    const slow = peers[0];
    if (slow === undefined) throw new Error("no peer");
    slow.takes = false;
    const feed = new Feed(source, 2_000, () => 1_000);
    for (let turn = 0; turn < 12; turn++) {
      world.advance(1_500);
      slow.take(1);
    }
    const { written } = feed;
    expect(written.length).toBeLessThan(600);
    expect(source.eventsOf("neighbour").some(({ state }) => state === "lagging")).toBe(false);
    expect(source.overlay.heldBackBy?.peerId).toBe(slow.keys.peerId);
    expect(source.overlay.heldBackBy?.heldBack).toBe(false);
    // The others wait for the source, not for each other.
    expect(peers[1]?.overlay.heldBackBy).toBeUndefined();
    slow.takes = true;
    slow.take();
    world.run(() => peers.every((peer) => peer.has("ended")), 60_000);
    world.advance(1_500);
    expect(source.overlay.heldBackBy).toBeUndefined();
    for (const peer of peers) expect(received(peer)).toEqual(feed.written);
  });

  it("(c) who stands still with a full window is lagging, is told what is gone, reports a gap", () => {
    const { world, source, peers } = swarm(3, { stallMs: 2_000 });
    const [stuck, ...others] = peers;
    if (stuck === undefined) throw new Error("no peer");
    stuck.takes = false;
    const feed = new Feed(source, 3_000, () => 1_000);
    world.run(() => others.every((peer) => peer.has("ended")), 60_000);
    for (const peer of others) expect(received(peer)).toEqual(feed.written);
    expect(source.eventsOf("neighbour").some(({ state }) => state === "lagging")).toBe(true);
    expect(source.sentOf(FRAME_TYPES.GONE).length).toBeGreaterThan(0);
    // It takes again: what it holds comes, what is gone is said, what follows comes.
    stuck.takes = true;
    stuck.take();
    world.run(() => stuck.has("ended"), 60_000);
    const gaps = stuck.eventsOf("gap").map(({ gap }) => gap);
    const lost = gaps.flatMap((gap) => (gap.kind === "data" ? [gap] : []));
    const missing = lost.reduce((sum, gap) => sum + gap.to - gap.from + 1, 0);
    expect(missing).toBeGreaterThan(0);
    expect(stuck.taken.length + missing).toBe(3_000);
    expect(gaps.some(({ kind }) => kind === "fragments")).toBe(true);
  });

  it("(c) who says that it is held back by others gets twice the time", () => {
    const { world, source } = swarm(0, { waitPeers: 1, stallMs: 4_000, holdMs: 60_000 });
    const [waits, stands] = [world.stranger().join(source), world.stranger().join(source)];
    for (const stranger of [waits, stands]) {
      stranger.send(
        encodeBuffermap(stranger.tag, 0, 0, new Uint8Array(0)),
        encodeCredit(stranger.tag, 50),
      );
    }
    waits.send(encodeRanges(FRAME_TYPES.HAVE, waits.tag, 0, [], 0, HAVE_FLAG_HELD_BACK));
    const feed = new Feed(source, 2_000, () => 1_000);
    world.advance(1_000);
    expect(feed.isWritten).toBe(false);
    const lagging = (): string[] =>
      source.eventsOf("neighbour").flatMap((e) => (e.state === "lagging" ? [e.peerId] : []));
    const fullMs = world.nowMs;
    world.run(() => lagging().length === 1, 10_000);
    expect(lagging()).toEqual([stands.keys.peerId]);
    world.run(() => lagging().length === 2, 10_000);
    expect(world.nowMs - fullMs).toBeGreaterThan(6_500);
    expect(world.nowMs - fullMs).toBeLessThan(9_000);
  });

  it("(c) who was stopped is not said to be held back by others for ever", () => {
    const { world, source } = swarm(0, { waitPeers: 1, stallMs: 20_000, holdMs: 60_000 });
    const waits = world.stranger().join(source);
    const { tag } = waits;
    waits.send(encodeBuffermap(tag, 0, 0, new Uint8Array(0)), encodeCredit(tag, 50));
    waits.send(encodeRanges(FRAME_TYPES.HAVE, tag, 0, [], 0, HAVE_FLAG_HELD_BACK));
    new Feed(source, 2_000, () => 1_000);
    world.advance(8_000);
    const { heldBackBy } = overlayReport(source.overlay);
    expect(heldBackBy).toMatchObject({ peerId: waits.keys.peerId, byOthers: true });
    expect(heldBackBy?.silentMs).toBeGreaterThan(7_000);
    world.advance(5_000);
    expect(overlayReport(source.overlay).heldBackBy).toMatchObject({ byOthers: false });
  });

  it("(c) only who the full window waits for can be lagging, not who stands a little further", () => {
    const { world, source } = swarm(0, { waitPeers: 1, stallMs: 4_000, holdMs: 60_000 });
    const [waits, further] = [world.stranger().join(source), world.stranger().join(source)];
    for (const [stranger, run] of [
      [waits, 0],
      [further, 20],
    ] as const) {
      stranger.send(
        encodeBuffermap(stranger.tag, 0, run, new Uint8Array(0)),
        encodeCredit(stranger.tag, 50),
      );
    }
    waits.send(encodeRanges(FRAME_TYPES.HAVE, waits.tag, 0, [], 0, HAVE_FLAG_HELD_BACK));
    new Feed(source, 2_000, () => 1_000);
    const lagging = (): string[] =>
      source.eventsOf("neighbour").flatMap((e) => (e.state === "lagging" ? [e.peerId] : []));
    world.run(() => lagging().length === 1, 20_000);
    expect(lagging()).toEqual([waits.keys.peerId]);
    // Then the window waits for it.
    world.run(() => lagging().length === 2, 20_000);
  });

  it.each([
    ["is a gap after repairMs, once more members were asked for", 5, 3_000],
    ["and all wait for is given up after three times that", 0, 9_000],
  ])("(d) what nobody holds any more %s", (_, dropped, patienceMs) => {
    const { world, source, peers } = swarm(1, { links: "chain", repairMs: 3_000 });
    const peer = peers[0];
    if (peer === undefined) throw new Error("no peer");
    const feed = new Feed(source, 30, () => 1_000, { ends: false });
    world.run(() => peer.taken.length === feed.written.length);
    const head = peer.overlay.consumer?.consumedTo ?? 0;
    const stranger = world.stranger().join(peer);
    // It has some that the source has not made yet, and the source is gone for good.
    stranger.send(encodeBuffermap(stranger.tag, 0, 0, new Uint8Array(0)));
    source.crash();
    const { overlayId } = peer.overlay.settings;
    peer.command({ kind: "overlayEnded", overlayId, startedOver: false, movesOn: false });
    const start = dropped === 0 ? 0 : head + dropped;
    stranger.send(encodeRanges(FRAME_TYPES.HAVE, stranger.tag, start, [head + 5, 2]));
    const atMs = world.nowMs;
    world.run(() => peer.has("gap"), 20_000);
    expect(world.nowMs - atMs).toBeGreaterThan(patienceMs - 100);
    expect(world.nowMs - atMs).toBeLessThan(patienceMs + 1_000);
    expect(peer.eventsOf("gap")[0]?.gap).toEqual({ kind: "fragments", from: head, to: head + 4 });
    expect(peer.eventsOf("needMembers").some(({ holding }) => holding === head)).toBe(true);
  });

  it("(d) a holder that comes in time spares the gap", () => {
    const { world, source, peers } = swarm(2, { links: "chain", repairMs: 5_000, waitPeers: 1 });
    const [near, far] = peers;
    if (near === undefined || far === undefined) throw new Error("no peer");
    const feed = new Feed(source, 90, () => 1_000, { ends: false });
    world.run(() => far.taken.length > 20);
    near.crash();
    world.advance(2_000);
    far.dial(source);
    source.end();
    world.run(() => far.has("ended"));
    expect(received(far)).toEqual(feed.written);
  });

  it("(d) a member that is being met gets the time to answer before a gap is given up", () => {
    const { world, source, peers } = swarm(2, { links: "chain", repairMs: 3_000, waitPeers: 1 });
    const [near, far] = peers as [Node, Node];
    const feed = new Feed(source, 90, () => 1_000, { ends: false });
    world.run(() => far.taken.length > 20);
    near.crash();
    const head = far.overlay.consumer?.consumedTo ?? 0;
    // It has something further on: so there is a hole that nobody can fill.
    const stranger = world.stranger().join(far);
    stranger.send(
      encodeBuffermap(stranger.tag, 0, 0, new Uint8Array(0)),
      encodeRanges(FRAME_TYPES.HAVE, stranger.tag, 0, [head + 50, 2]),
    );
    world.advance(1_500);
    // Who has it is slow to prove who it is.
    source.holdJobs = true;
    far.dial(source);
    world.advance(3_500);
    expect(far.has("gap")).toBe(false);
    source.releaseJobs();
    world.run(() => far.taken.length === feed.written.length, 10_000);
    expect(received(far)).toEqual(feed.written);
    expect(far.has("gap")).toBe(false);
  });

  it("(e) a source without members holds for holdMs, then says NO_PEERS", () => {
    const { world, source } = swarm(0, { holdMs: 4_000, waitPeers: 1 });
    source.write("s", new Uint8Array(10));
    world.advance(3_800);
    expect(source.has("failed")).toBe(false);
    world.run(() => source.has("failed"), 1_000);
    expect(source.eventsOf("failed")[0]).toMatchObject({ code: "NO_PEERS" });
    world.advance(20_000);
    expect(source.eventsOf("failed").length).toBe(1);
  });

  it("(e) a source that waits for more than came does so for holdMs once they have gone", () => {
    const { world, source, peers } = swarm(1, { holdMs: 20_000, waitPeers: 3 });
    const feed = new Feed(source, 50, () => 500);
    const [only] = peers as [Node];
    world.run(() => only.has("ended"));
    expect(received(only)).toEqual(feed.written);
    only.leave();
    const leftMs = world.nowMs;
    world.run(() => source.has("ended") || source.has("failed"), 60_000);
    expect(world.nowMs - leftMs).toBeGreaterThan(19_000);
    expect(source.eventsOf("failed")[0]).toMatchObject({ code: "NO_PEERS" });
  });

  /** A source whose only member has all that was written, and no END. */
  function allHeld() {
    const { world, source, peers } = swarm(1, { holdMs: 20_000, lingerMs: 6_000, waitPeers: 1 });
    const [peer] = peers as [Node];
    // The last datum is in several fragments.
    const feed = new Feed(source, 50, (i) => (i === 50 ? 9_000 : 500), { ends: false });
    const { overlay } = source;
    const acked = (): boolean => overlay.neighbours[0]?.ackedTo === overlay.window.highest;
    world.run(() => received(peer).length === 50 && acked());
    expect(received(peer)).toEqual(feed.written);
    return { world, source, peer };
  }

  it("(e) where the members held everything and left, the end is not held for anybody", () => {
    const { world, source, peer } = allHeld();
    peer.leave();
    world.advance(60_000);
    expect(source.has("failed")).toBe(false);
    expect(source.overlay.finale.holdLeftMs).toBeUndefined();
    source.end();
    world.run(() => source.has("ended"), 1_000);
    expect(source.overlay.finale.members()).toEqual({ complete: 0, left: 1, behind: 0 });
  });

  it("(e) one whose link broke is waited for as long as the source lingers", () => {
    const lost = allHeld();
    lost.source.end();
    lost.peer.crash();
    lost.world.advance(5_500);
    expect(lost.source.has("ended")).toBe(false);
    lost.world.run(() => lost.source.has("ended"), 2_000);
    const { world, source, peer } = allHeld();
    peer.crash();
    source.end();
    world.advance(4_000);
    const again = world.node({ keys: peer.keys }).open("peer", source.overlay.settings);
    again.dial(source);
    world.run(() => again.has("ended"), 2_000);
    world.run(() => source.has("ended"), 5_000);
  });

  it("(e) what was written after the members left is held for holdMs, whether END follows or not", () => {
    for (const ends of [false, true]) {
      const { world, source, peer } = allHeld();
      peer.leave();
      world.advance(10_000);
      source.write("s", new Uint8Array(10));
      if (ends) source.end();
      world.advance(15_000);
      expect(source.has("failed") || source.has("ended")).toBe(false);
      expect(source.overlay.finale.holdLeftMs).toBeGreaterThan(4_000);
      expect(source.overlay.finale.holdLeftMs).toBeLessThan(6_000);
      world.run(() => source.has("failed"), 6_000);
      expect(source.eventsOf("failed")[0]).toMatchObject({ code: "NO_PEERS" });
      expect(source.overlay.finale.holdLeftMs).toBeUndefined();
    }
  });

  it("without a datum there is nothing to hold, for who would not wait for peers", () => {
    const ended = (data: number, waits: boolean, linked = 0) => {
      const { world, source, peers } = swarm(linked, { holdMs: 4_000, waitPeers: 2 });
      for (let i = 0; i < data; i++) source.write("s", new Uint8Array(10));
      source.end();
      world.advance(1_000);
      expect(source.has("ended") || source.has("failed")).toBe(false);
      if (!waits) source.end(source.overlayId, false);
      world.advance(500);
      expect(peers.every((peer) => peer.has("ended"))).toBe(true);
      const soon = source.has("ended");
      world.advance(5_000);
      return [soon, source.eventsOf("failed")[0]?.code];
    };
    expect(ended(0, false)).toEqual([true, undefined]);
    expect(ended(0, true)).toEqual([false, "NO_PEERS"]);
    expect(ended(1, false)).toEqual([false, "NO_PEERS"]);
    // Those who are linked get END; the second that was to be awaited would get no more.
    expect(ended(0, false, 1)).toEqual([true, undefined]);
  });

  it("(e) a member that comes while it holds gets everything", () => {
    const { world, source } = swarm(0, { holdMs: 4_000, waitPeers: 1 });
    const feed = new Feed(source, 30, () => 500);
    world.advance(3_000);
    const peer = world.node().open("peer", source.overlay.settings).dial(source);
    world.run(() => peer.has("ended") && source.has("ended"));
    expect(received(peer)).toEqual(feed.written);
    expect(source.has("failed")).toBe(false);
  });

  it("the last member in good standing crashing does not hold the source for ever", () => {
    const { world, source, peers } = swarm(1, { holdMs: 3_000 });
    new Feed(source, 5_000, () => 1_000);
    world.run(() => source.counters.fragmentsSent > 50);
    peers[0]?.crash();
    world.run(() => source.has("failed"), 10_000);
    expect(source.eventsOf("failed")[0]).toMatchObject({ code: "NO_PEERS" });
  });

  it("a newcomer starts at the oldest fragment held, at the start of a datum", () => {
    const { world, source, peers } = swarm(2);
    const feed = new Feed(source, 2_000, (i) => (i % 10 === 0 ? 9_000 : 500), { ends: false });
    world.run(() => feed.written.length > 1_500);
    const late = world.node().open("peer", source.overlay.settings).dial(source);
    for (const peer of peers) late.dial(peer);
    world.run(() => feed.isWritten);
    source.end();
    world.run(() => late.has("ended"));
    const own = received(late);
    expect(own.length).toBeGreaterThan(0);
    expect(own.length).toBeLessThan(2_000);
    expect(feed.written.slice(-own.length)).toEqual(own);
    expect(late.has("gap")).toBe(false);
  });

  it("from start: fails with START_GONE when index 0 is held by nobody", () => {
    const { world, source } = swarm(1);
    const feed = new Feed(source, 2_000, () => 500, { ends: false });
    world.run(() => feed.isWritten && source.overlay.window.start > 0);
    const late = world.node().open("peer", source.overlay.settings, { from: "start" }).dial(source);
    world.run(() => late.has("failed"), 5_000);
    expect(late.eventsOf("failed")[0]).toMatchObject({ code: "START_GONE" });
  });
});

describe("live", () => {
  it("a newcomer starts at the live edge, and a slow consumer drops, with a gap", () => {
    const { world, source, peers } = swarm(2, { delivery: "live", waitPeers: 0 });
    const [quick, slow] = peers;
    if (quick === undefined || slow === undefined) throw new Error("no peer");
    world.advance(1_000);
    slow.takes = false;
    // It holds a batch all the while.
    let written = 0;
    for (let turn = 0; turn < 400; turn++) {
      for (let i = 0; i < 3; i++) written += source.write("s", new Uint8Array(1_000)).accepted;
      world.advance(20);
      if (turn === 20) slow.take(1);
    }
    slow.takes = true;
    slow.take();
    source.end();
    world.run(() => quick.has("ended") && slow.has("ended"));
    expect(written).toBe(1_200);
    expect(quick.taken.length).toBe(1_200);
    expect(slow.taken.length).toBeLessThan(1_200);
    const missing = slow
      .eventsOf("gap")
      .reduce((sum, { gap }) => sum + (gap.kind === "data" ? gap.to - gap.from + 1 : 0), 0);
    expect(slow.taken.length + missing).toBe(1_200);
    expect(source.has("failed")).toBe(false);

    const edge = written;
    expect(edge).toBe(1_200);
  });

  it("joins at the edge and not before", () => {
    const { world, source } = swarm(1, { delivery: "live", waitPeers: 0 });
    for (let i = 0; i < 100; i++) {
      source.write("s", new Uint8Array(1_000));
      world.advance(10);
    }
    const edge = source.overlay.window.highest;
    const late = world.node().open("peer", source.overlay.settings).dial(source);
    world.run(() => late.has("started"));
    expect(late.eventsOf("started")[0]?.index).toBe(edge);
    source.write("s", new Uint8Array(20));
    source.end();
    world.run(() => late.has("ended"));
    expect(late.taken.map(({ sequence }) => sequence)).toEqual([101]);
    expect(late.has("gap")).toBe(false);
  });
});
