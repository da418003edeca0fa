/** A source peer that is killed in the middle of what it sends: fragments that nobody got. */

import { describe, expect, it } from "vitest";
import { DATA_FLAG_END, DATA_FLAGS, FRAME_TYPES } from "../../src/base/layout.ts";
import { ROLES } from "../../src/protocol/common.ts";
import { encodeFrame, NOTIFY } from "../../src/protocol/r10.ts";
import { encodeBuffermap, encodeRanges } from "../../src/protocol/r10-binary.ts";
import { dataFrame, sealed } from "./data-frame.ts";
import { Feed, Keys, type Node, received, type Stranger, settingsOf, World } from "./harness.ts";

const REPAIR_MS = 2_000;

/**
 * Three peers that exchange among themselves, each past a hole that is the same for all. The first
 * `linked` are linked with the source.
 */
function killed(linked = 3) {
  const world = new World();
  const source = world.node({ uploadLimitBytesPerSecond: 60_000 });
  const settings = settingsOf(source.keys.peerId, { repairMs: REPAIR_MS });
  source.open("source", settings, { waitPeers: linked }).register("s");
  const peers: Node[] = [];
  for (let i = 0; i < 3; i++) {
    const peer = world.node().open("peer", settings);
    if (i < linked) peer.dial(source);
    for (const other of peers) peer.dial(other);
    peers.push(peer);
  }
  const links = (i: number): number => (i < linked ? 3 : 2);
  world.run(() => peers.every((peer, i) => peer.overlay.neighbours.length === links(i)));
  const feed = new Feed(source, 400, () => 900);
  const isPast = ({ overlay: { window, consumer } }: Node) =>
    window.highest > (consumer?.consumedTo ?? window.highest) + 8;
  world.run(() => peers.every(isPast), 20_000);
  source.crash();
  // What one has, all get.
  world.advance(1_500);
  return { world, peers, feed, settings };
}

const lacks = (peer: Node): boolean => peer.overlay.consumer?.lacksNext === true;

describe("what nobody got of a source peer that was killed", () => {
  it.each([3, 2])(
    "is waited for, %i of 3 linked with it: it comes again, what lies behind after that",
    (linked) => {
      const { world, peers, feed, settings } = killed(linked);
      const came = peers.map((peer) => peer.taken.length);
      world.run(() => peers.every(lacks), 10_000);
      world.advance(20_000);
      for (const peer of peers) {
        expect(peer.eventsOf("gap")).toEqual([]);
        expect(lacks(peer)).toBe(true);
        expect(received(peer)).toEqual(feed.written.slice(0, peer.taken.length));
        expect(peer.taken.length).toBeGreaterThanOrEqual(came[0] ?? 0);
        const { overlayId } = settings;
        peer.command({ kind: "overlayEnded", overlayId, startedOver: true, movesOn: true });
      }
      world.run(() => peers.every((peer) => peer.has("drained")), 5_000);
      for (const peer of peers) expect(peer.eventsOf("gap")).toEqual([]);
    },
  );

  it("is lost when the session is over: what lies behind it is taken, and then the end is told", () => {
    const { world, peers, settings } = killed();
    world.run(() => peers.every(lacks), 10_000);
    const before = peers.map((peer) => peer.taken.length);
    for (const peer of peers) {
      const { overlayId } = settings;
      peer.command({ kind: "overlayEnded", overlayId, startedOver: false, movesOn: false });
    }
    world.run(() => peers.every((peer) => peer.has("failed")), 60_000);
    for (const [i, peer] of peers.entries()) {
      expect(peer.eventsOf("failed").map(({ code }) => code)).toEqual(["SESSION_LOST"]);
      expect(peer.eventsOf("gap").length).toBeGreaterThan(0);
      expect(peer.taken.length).toBeGreaterThan(before[i] ?? 0);
    }
  });

  it("is given up after two minutes without the source peer", () => {
    const { world, peers } = killed();
    world.advance(100_000);
    for (const peer of peers) expect(peer.eventsOf("gap")).toEqual([]);
    world.advance(30_000);
    for (const peer of peers) expect(peer.eventsOf("gap").length).toBeGreaterThan(0);
  });
});

describe("a peer that takes part of what is told of", () => {
  const NONE = new Uint8Array(0);
  const RECORDS = [
    { kind: "source", number: 0, id: "s", contentType: "", base: 1, timestamp: 1 },
    { kind: "datum", number: 0, bytes: 10, delta: 0 },
  ] as const;

  /** A peer and its only neighbour, which says that it has fragment 0. */
  function told(consume = true) {
    const world = new World();
    const peer = world.node().open("peer", settingsOf(world.stranger().keys.peerId), { consume });
    const member = world.stranger().join(peer);
    member.send(encodeBuffermap(member.tag, 0, 1, NONE));
    world.run(() => peer.overlay.consumer?.started === true, 5_000);
    return { world, peer, member };
  }

  /** It does not wait for what comes next, so nobody else may get it of a source peer that returns. */
  function letsGo(member: Stranger): Uint8Array {
    return encodeRanges(FRAME_TYPES.HAVE, member.tag, 2, []);
  }

  /** The fragment with END. */
  function endFrame(member: Stranger, index: number): Uint8Array {
    const end = dataFrame(member, index, []);
    new DataView(end.buffer).setUint16(DATA_FLAGS, DATA_FLAG_END, true);
    return sealed(end);
  }

  it("goes on to END when that comes after all, though it gave up what was before", () => {
    const { world, peer, member } = told();
    member.send(dataFrame(member, 0, RECORDS));
    world.run(() => received(peer).length === 1);
    member.send(letsGo(member), encodeFrame(NOTIFY, { tag: member.tag, index: 39 }));
    world.run(() => peer.eventsOf("gap").length > 0, 30_000);
    const gap = { kind: "fragments", from: 1, to: 38 };
    expect(peer.eventsOf("gap").map((event) => event.gap)).toEqual([gap]);
    world.advance(10_000);
    expect(peer.overlay.consumer?.hadFrom).toBe(39);
    member.send(endFrame(member, 39));
    world.run(() => peer.has("ended"));
    expect(peer.eventsOf("gap")).toHaveLength(1);
  });

  it.each([true, false])(
    "ends with END that it gave up, told of more (takes data: %s)",
    (consume) => {
      const { world, peer, member } = told(consume);
      member.send(
        dataFrame(member, 0, RECORDS),
        letsGo(member),
        encodeFrame(NOTIFY, { tag: member.tag, index: 60 }),
      );
      world.run(() => peer.overlay.consumer?.consumedTo === 60, 30_000);
      member.send(endFrame(member, 39));
      world.run(() => peer.has("ended"), 2_000);
    },
  );

  it("looks for the newest index for a while, and then now and then", () => {
    const { world, peer, member } = told();
    member.send(dataFrame(member, 0, RECORDS));
    const asked = () => peer.eventsOf("needMembers").filter(({ holding }) => holding === 1).length;
    const askedIn = (seconds: number): number => {
      const before = asked();
      for (let i = 0; i < seconds; i++) {
        member.send(encodeFrame(NOTIFY, { tag: member.tag, index: 1 }));
        world.advance(1_000);
      }
      return asked() - before;
    };
    expect(askedIn(15)).toBeGreaterThan(4);
    const later = askedIn(60);
    expect(later).toBeGreaterThan(0);
    expect(later).toBeLessThan(5);
  });

  /** A peer that lost its source link long before its only neighbour tells it of more it lacks. */
  function abandoned() {
    const world = new World();
    const keys = new Keys();
    const peer = world.node().open("peer", settingsOf(keys.peerId));
    const member = world.stranger().join(peer);
    const source = world.stranger(keys).join(peer, ROLES.source);
    source.send(encodeBuffermap(source.tag, 0, 0, NONE));
    member.send(encodeBuffermap(member.tag, 0, 0, NONE));
    world.run(() => peer.overlay.consumer?.started === true, 5_000);
    source.close();
    const takenTo = () => peer.overlay.consumer?.consumedTo;
    for (let i = 0; i < 14; i++) {
      member.send(dataFrame(member, i, [{ ...RECORDS[0], base: i + 1 }, RECORDS[1]]));
      world.advance(10_000);
      expect(takenTo()).toBe(i + 1);
    }
    const waitedMs = (): number => {
      let ms = 0;
      for (; ms < 200_000 && takenTo() === 14; ms += 1_000) {
        world.advance(1_000);
        member.send(encodeFrame(NOTIFY, { tag: member.tag, index: 29 }));
      }
      return ms;
    };
    return { peer, member, takenTo, waitedMs };
  }

  it("waits two minutes from the last news, though its own source link went long before", () => {
    const { member, waitedMs } = abandoned();
    member.send(encodeRanges(FRAME_TYPES.HAVE, member.tag, 0, [20, 10]));
    expect(Math.round(waitedMs() / 10_000)).toBe(12);
  });

  it("does not wait for what a neighbour let go, its own source link having gone long before", () => {
    const { peer, member, takenTo, waitedMs } = abandoned();
    member.send(encodeRanges(FRAME_TYPES.HAVE, member.tag, 15, [20, 10]));
    expect(waitedMs()).toBeLessThan(10_000);
    expect(takenTo()).toBe(20);
    expect(peer.eventsOf("gap")).toHaveLength(1);
  });

  it("waits no longer than others do once END is known: what starts over is not followed then", () => {
    const { world, peer, member } = told();
    member.send(dataFrame(member, 0, RECORDS), endFrame(member, 5));
    world.run(() => peer.overlay.endIndex === 5);
    world.run(() => peer.has("ended"), 16_000);
    expect(peer.eventsOf("gap")).toHaveLength(1);
  });

  it("waits two minutes for a source peer that comes again and again and tells nothing", () => {
    const world = new World();
    const keys = new Keys();
    const peer = world.node().open("peer", settingsOf(keys.peerId));
    const member = world.stranger().join(peer);
    let source = world.stranger(keys).join(peer, ROLES.source);
    source.send(encodeBuffermap(source.tag, 0, 0, NONE));
    member.send(encodeBuffermap(member.tag, 0, 0, NONE));
    world.run(() => peer.overlay.consumer?.started === true, 5_000);
    member.send(encodeRanges(FRAME_TYPES.HAVE, member.tag, 0, [20, 10]));
    world.advance(1_000);
    source.close();
    const passes = (ms: number): void => {
      world.advance(ms);
      // It lives.
      member.send(encodeFrame(NOTIFY, { tag: member.tag, index: 29 }));
    };
    for (let i = 0; i < 8; i++) {
      passes(10_000);
      expect(peer.overlay.consumer?.consumedTo).toBe(0);
      source = world.stranger(keys).join(peer, ROLES.source);
      passes(5_000);
      source.close();
    }
    for (let i = 0; i < 3; i++) passes(10_000);
    expect(peer.overlay.consumer?.consumedTo).toBeGreaterThanOrEqual(20);
  });
});

describe("a member that says it has more and never sends it", () => {
  it.each([
    [false, "failed"],
    [true, "drained"],
  ] as const)("keeps nobody when the session is over (started over: %s)", (again, end) => {
    const world = new World();
    const source = world.node();
    const settings = settingsOf(source.keys.peerId, { repairMs: REPAIR_MS });
    source.open("source", settings, { waitPeers: 1 }).register("s");
    const peers = [0, 1, 2].map(() => world.node().open("peer", settings).dial(source));
    const [victim, ...others] = peers as [Node, Node, Node];
    for (const other of others) other.dial(victim);
    world.advance(1_000);
    for (let i = 0; i < 20; i++) {
      source.write("s", new Uint8Array(3_000));
      world.advance(100);
    }
    const liars = [100, 30].map((index) => {
      const liar = world.stranger().join(victim);
      liar.send(encodeBuffermap(liar.tag, 0, 0, new Uint8Array(0)));
      world.advance(500);
      liar.send(encodeRanges(FRAME_TYPES.HAVE, liar.tag, 0, [index, 1]));
      return liar;
    });
    source.crash();
    world.advance(500);
    for (const peer of peers) {
      const { overlayId } = settings;
      peer.command({ kind: "overlayEnded", overlayId, startedOver: again, movesOn: again });
    }
    const isOver = () => peers.every((peer) => peer.has(end));
    for (let seconds = 0; seconds < 120 && !isOver(); seconds++) {
      world.advance(1_000);
      // They live, and their links are not silent.
      for (const liar of liars) liar.send(encodeFrame(NOTIFY, { tag: liar.tag, index: 100 }));
    }
    expect(isOver()).toBe(true);
  });
});
