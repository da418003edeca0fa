/** How far others hold what a source peer made, when a member comes again over a new link. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES, HAVE_READERS_SHIFT } from "../../src/base/layout.ts";
import { ROLES, type Role } from "../../src/protocol/common.ts";
import { encodeBuffermap, encodeCredit, encodeRanges } from "../../src/protocol/r10-binary.ts";
import { Keys, type Node, received, settingsOf, swarm, World } from "./harness.ts";

const NONE = new Uint8Array(0);
const MADE = 40;
const ONE_READER = 1 << HAVE_READERS_SHIFT;
/** A limited one tells its start before it gives credit. */
const LIMITS = [{}, { downloadLimitBytesPerSecond: 20_000_000 }];
const KEYS = new Keys();

/** A source of `made` fragments, and members by hand. */
function played(minHolders: number, made = MADE) {
  const { world, source } = swarm(0);
  source.overlay.source?.watchHeld(source.overlay.neighbours, minHolders);
  const write = (count: number): void => {
    for (let i = 0; i < count; i++) {
      source.write("s", new Uint8Array(3_000));
      world.advance(50);
    }
  };
  write(made);
  const member = (keys: Keys, role: Role = ROLES.peer) => {
    const stranger = world.stranger(keys).join(source, role);
    const flags = role === ROLES.virtual ? ONE_READER : 0;
    const { tag } = stranger;
    const say = (...frames: Uint8Array[]): void => {
      stranger.send(...frames);
      world.advance(100);
    };
    const map = (start: number, run: number) => encodeBuffermap(tag, start, run, NONE);
    const has = (start: number, to: number) => {
      const ranges = start < to ? [start, to - start] : [];
      return encodeRanges(FRAME_TYPES.HAVE, tag, start, ranges, ranges.length / 2, flags);
    };
    return {
      /** As it says before it takes anything; then it is at `start`, and holds [start, to). */
      begins: (at: number, start = at, to = start) =>
        say(has(at, at), encodeCredit(tag, 1_000), map(start, to - start)),
      holds: (start: number, to: number) => say(has(start, to)),
      goes: () => {
        stranger.close();
        world.advance(500);
      },
    };
  };
  const heldTo = (): number => source.overlay.source?.heldSequence("s") ?? 0;
  return { world, source, member, write, heldTo };
}

/** A source and members that are real. */
function real(members: number, minHolders: number, latencyMs: number, options = {}) {
  const world = new World();
  const source = world.node();
  const settings = settingsOf(source.keys.peerId, { windowBytes: 256 * 1024 });
  source.open("source", settings, { waitPeers: members }).register("s");
  const peers = Array.from({ length: members }, () => world.node(options).open("peer", settings));
  for (const [i, peer] of peers.entries()) {
    for (const other of [source, ...peers.slice(0, i)]) peer.dial(other);
  }
  source.overlay.source?.watchHeld(source.overlay.neighbours, minHolders);
  world.run(() => peers.every((peer) => peer.has("started")));
  for (const node of [source, ...peers]) node.latencyMs = latencyMs;
  let written = 0;
  const write = (everyMs = 20): void => {
    if (source.write("s", new Uint8Array(3_000)).accepted === 1) written++;
    world.advance(everyMs);
  };
  const heldTo = (): number => source.overlay.source?.heldSequence("s") ?? 0;
  return { world, source, peers, write, heldTo, written: () => written };
}

describe("held, when a member comes again", () => {
  it("is what it had since it began, which it says before it gives credit", () => {
    const { member, heldTo } = played(2);
    const other = member(new Keys());
    other.begins(0);
    const first = member(KEYS);
    first.begins(0);
    other.holds(0, 5);
    first.holds(0, 20);
    expect(heldTo()).toBe(5);
    first.goes();
    // Meanwhile it had more from others, and freed that.
    const again = member(KEYS);
    again.begins(0, 30, 35);
    other.holds(0, MADE);
    expect(heldTo()).toBe(35);
  });

  it("is nothing below where it began, though one with the same key held some of that", () => {
    const { member, heldTo } = played(1);
    const first = member(KEYS);
    first.begins(0);
    first.holds(0, 10);
    expect(heldTo()).toBe(10);
    first.goes();
    const another = member(KEYS);
    another.begins(25);
    another.holds(25, MADE);
    expect(heldTo()).toBe(10);
    another.goes();
    member(KEYS).begins(25, 30, MADE);
    expect(heldTo()).toBe(10);
  });

  it("is nothing that was never held, whatever it said over the link before", () => {
    const { member, heldTo } = played(1);
    const first = member(KEYS);
    first.begins(0);
    first.goes();
    const another = member(KEYS);
    another.begins(25);
    another.holds(25, MADE);
    expect(heldTo()).toBe(0);
  });

  it.each(LIMITS)("stands nowhere when its window moved on before its last word came, %o", (of) => {
    const { world, source, peers, write, heldTo, written } = real(1, 1, 80, of);
    const [peer] = peers as [Node];
    const acked = (): number => source.overlay.neighbours[0]?.ackedTo ?? 0;
    const isAhead = (): boolean => peer.overlay.window.start > acked() + 4;
    for (let i = 0; i < 600 && !isAhead(); i++) write(5);
    expect(isAhead()).toBe(true);
    peer.loseLinks();
    world.advance(500);
    peer.dial(source);
    world.run(() => heldTo() === written(), 5_000);
    expect(peer.counters.gaps).toBe(0);
    // And it need not be there any more when the source ends.
    peer.leave();
    source.end();
    world.advance(70_000);
    expect(source.eventsOf("failed")).toEqual([]);
    expect(source.has("ended")).toBe(true);
  });

  it.each(LIMITS)("stands nowhere when others fed it while its link was down, %o", (of) => {
    const { world, source, peers, write, heldTo, written } = real(2, 2, 10, of);
    const [, other] = peers as [Node, Node];
    world.advance(2_000);
    const linked = (): number => source.overlay.neighbours.length;
    for (let i = 0; i < 150; i++) write();
    other.loseLinks();
    world.advance(100);
    other.dial(peers[0] as Node);
    for (let i = 0; i < 150; i++) write();
    expect(linked()).toBe(1);
    other.dial(source);
    world.advance(1_000);
    for (let i = 0; i < 5; i++) write();
    world.run(() => heldTo() === written(), 5_000);
    expect(received(other)).toHaveLength(written());
  });

  /** A peer that took from one that has only what comes from fragment 30 on. */
  function misserved() {
    const { world, source } = swarm(0);
    source.overlay.source?.watchHeld(source.overlay.neighbours, 1);
    for (let i = 0; i < MADE; i++) {
      source.write("s", new Uint8Array(300));
      world.advance(50);
    }
    const peer = world.node().open("peer", source.overlay.settings);
    const member = world.stranger(KEYS).join(peer);
    const haveFrom = (start: number): void => {
      member.send(encodeRanges(FRAME_TYPES.HAVE, member.tag, start, [30, MADE - 30]));
    };
    member.send(encodeBuffermap(member.tag, 0, 0, NONE));
    haveFrom(0);
    world.run(() => peer.overlay.consumer?.started === true, 5_000);
    const heldTo = (): number => source.overlay.source?.heldSequence("s") ?? 0;
    return { world, source, peer, haveFrom, heldTo };
  }

  it("is nothing of what it gave up before it came, its window being past that", () => {
    const { world, source, peer, haveFrom, heldTo } = misserved();
    // Nobody holds what lies before, and nobody waits for it.
    haveFrom(30);
    world.run(() => peer.overlay.consumer?.consumedTo === 30, 30_000);
    world.run(() => peer.overlay.window.start === 30, 30_000);
    peer.dial(source);
    world.run(() => received(peer).length === 10, 10_000);
    world.advance(1_000);
    expect(source.overlay.neighbours[0]?.ackedTo).toBe(MADE);
    expect(heldTo()).toBe(0);
  });

  it("is nothing of what it gave up before it came, its window standing at that", () => {
    const { world, source, peer, haveFrom, heldTo } = misserved();
    haveFrom(1);
    world.run(() => peer.overlay.consumer?.consumedTo === 30, 30_000);
    expect(peer.overlay.window.start).toBe(1);
    peer.dial(source);
    world.run(() => peer.overlay.neighbours.length === 2, 10_000);
    haveFrom(30);
    world.run(() => source.overlay.neighbours[0]?.ackedTo === MADE, 10_000);
    world.advance(1_000);
    expect(heldTo()).toBe(0);
  });

  it.each([
    [10, 14_000, 0],
    [300, 14_000, 0],
    [300, 4_600, 30],
  ])("is had by one whose source comes %i ms away after %i ms, before it gave up", (...of) => {
    const [latency, waited, start] = of;
    const { world, source, peer, haveFrom, heldTo } = misserved();
    haveFrom(start);
    world.advance(waited);
    expect(peer.overlay.consumer?.consumedTo).toBe(0);
    source.latencyMs = latency;
    peer.dial(source);
    world.run(() => heldTo() === MADE, 10_000);
    expect(received(peer)).toHaveLength(MADE);
    expect(peer.counters.gaps).toBe(0);
  });

  it("is had by one whose source comes back with what others passed over, 300 ms away", () => {
    const { world, source, peers, write, heldTo, written } = real(1, 1, 2);
    const [peer] = peers as [Node];
    for (let i = 0; i < MADE; i++) write();
    peer.loseLinks();
    world.advance(200);
    for (let i = 0; i < 10; i++) write();
    const end = source.overlay.window.highest;
    const member = world.stranger(KEYS).join(peer);
    const latest = encodeRanges(FRAME_TYPES.HAVE, member.tag, 0, [end - 5, 5]);
    member.send(encodeBuffermap(member.tag, 0, 0, NONE), latest);
    world.advance(20_000);
    source.latencyMs = 300;
    peer.dial(source);
    world.run(() => heldTo() === written(), 10_000);
    expect(received(peer)).toHaveLength(written());
    expect(peer.counters.gaps).toBe(0);
  });

  it("is nothing of what a relay let go that never came", () => {
    const world = new World();
    const settings = settingsOf(world.stranger().keys.peerId, { delivery: "live" });
    const relay = world.node().open("peer", settings, { consume: false, from: "oldest" });
    const member = world.stranger(KEYS).join(relay);
    const have = (first: number, count: number): void => {
      member.send(encodeRanges(FRAME_TYPES.HAVE, member.tag, 0, [first, count]));
    };
    member.send(encodeBuffermap(member.tag, 0, 20, NONE));
    world.run(() => relay.overlay.consumer?.started === true, 5_000);
    const { start } = relay.overlay.window;
    for (let i = 20; i < 80; i++) {
      have(i, 1);
      world.advance(500);
    }
    expect(relay.overlay.window.start).toBeGreaterThan(start + 10);
    expect(relay.overlay.consumer?.hadFrom).toBe(relay.overlay.window.start);
  });

  it("is no less at the end where a virtual peer had it meanwhile", () => {
    const { world, source, member, write, heldTo } = played(1, 0);
    const first = member(KEYS);
    const virtual = member(new Keys(), ROLES.virtual);
    first.begins(0);
    virtual.begins(0);
    write(20);
    first.holds(0, 20);
    virtual.holds(0, 20);
    first.goes();
    for (let to = 40; to <= 200; to += 20) {
      write(20);
      virtual.holds(0, to);
      world.advance(300);
    }
    expect(source.overlay.window.start).toBeGreaterThan(20);
    const again = member(KEYS);
    again.begins(0, 190, 200);
    expect(heldTo()).toBe(200);
    again.goes();
    world.advance(1_500);
    virtual.goes();
    source.end();
    world.advance(75_000);
    expect(source.eventsOf("failed")).toEqual([]);
    expect(source.has("ended")).toBe(true);
  });
});
