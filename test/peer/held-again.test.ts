/** How far others hold what a source peer made, when a member comes again over a new link. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { encodeBuffermap, encodeCredit, encodeRanges } from "../../src/protocol/r10-binary.ts";
import { Keys, type Node, received, swarm } from "./harness.ts";

const NONE = new Uint8Array(0);
const MADE = 40;
const SMALL = { windowBytes: 256 * 1024 };
const KEYS = new Keys();

/** A source of 40 fragments, and members by hand. */
function played(minHolders: number) {
  const { world, source } = swarm(0);
  source.overlay.source?.watchHeld(source.overlay.neighbours, minHolders);
  for (let i = 0; i < MADE; i++) {
    source.write("s", new Uint8Array(3_000));
    world.advance(50);
  }
  const member = (keys: Keys) => {
    const stranger = world.stranger(keys).join(source);
    const { tag } = stranger;
    const say = (...frames: Uint8Array[]): void => {
      stranger.send(...frames);
      world.advance(100);
    };
    const map = (start: number, run: number) => encodeBuffermap(tag, start, run, NONE);
    return {
      /** As it says before it takes anything; then it is at `start`, and holds [start, to). */
      begins: (at: number, start = at, to = start) =>
        say(map(at, 0), encodeCredit(tag, 1_000), map(start, to - start)),
      holds: (start: number, to: number) =>
        say(encodeRanges(FRAME_TYPES.HAVE, tag, start, [start, to - start])),
      goes: () => {
        stranger.close();
        world.advance(500);
      },
    };
  };
  const heldTo = (): number => source.overlay.source?.heldSequence("s") ?? 0;
  return { member, heldTo };
}

/** A source and members that are real. */
function real(members: number, minHolders: number, latencyMs: number) {
  const { world, source, peers } = swarm(members, SMALL);
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

  it("stands nowhere when its window moved on while its last word was under way", () => {
    const { world, source, peers, write, heldTo, written } = real(1, 1, 80);
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

  it("stands nowhere when others fed it while its link to the source was down", () => {
    const { world, source, peers, write, heldTo, written } = real(2, 2, 10);
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

  it("is nothing of what it gave up before it came to the source", () => {
    const { world, source } = swarm(0);
    source.overlay.source?.watchHeld(source.overlay.neighbours, 1);
    for (let i = 0; i < MADE; i++) {
      source.write("s", new Uint8Array(300));
      world.advance(50);
    }
    const peer = world.node().open("peer", source.overlay.settings);
    const member = world.stranger(KEYS).join(peer);
    const have = (start: number) =>
      encodeRanges(FRAME_TYPES.HAVE, member.tag, start, [30, MADE - 30]);
    member.send(encodeBuffermap(member.tag, 0, 0, NONE), have(0));
    world.run(() => peer.overlay.consumer?.started === true, 5_000);
    // Nobody holds what lies before, and nobody waits for it.
    member.send(have(30));
    world.run(() => peer.overlay.consumer?.consumedTo === 30, 30_000);
    world.run(() => peer.overlay.window.start === 30, 30_000);
    peer.dial(source);
    world.run(() => received(peer).length === 10, 10_000);
    world.advance(1_000);
    expect(source.overlay.neighbours[0]?.ackedTo).toBe(MADE);
    expect(source.overlay.source?.heldSequence("s")).toBe(0);
  });
});
