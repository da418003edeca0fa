/** Who is asked for which fragments, and what is sent, refused, taken back. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { encodeFrame, PARTNER } from "../../src/protocol/r10.ts";
import { encodeBuffermap, encodeCredit, encodeRanges } from "../../src/protocol/r10-binary.ts";
import { readRangesOf } from "./frames.ts";
import { Feed, received, settingsOf, swarm, World } from "./harness.ts";

describe("requests", () => {
  it("who withdraws what it said that it holds is pushed it all the same", () => {
    const { world, source } = swarm(0, { waitPeers: 1 });
    const stranger = world.stranger().join(source);
    const { tag } = stranger;
    stranger.send(
      encodeBuffermap(tag, 0, 0, new Uint8Array(0)),
      encodeCredit(tag, 60),
      encodeFrame(PARTNER, { tag, mask: 0xff, from: 0 }),
      encodeRanges(FRAME_TYPES.HAVE, tag, 0, [0, 5]),
    );
    world.advance(1_000);
    new Feed(source, 10, () => 3_000, { ends: false });
    world.run(() => stranger.of(FRAME_TYPES.DATA).length === source.overlay.window.highest - 5);
    world.advance(1_000);
    const { length } = stranger.of(FRAME_TYPES.DATA);
    stranger.send(encodeRanges(FRAME_TYPES.GONE, tag, 0, [1, 3]));
    world.run(() => stranger.of(FRAME_TYPES.DATA).length === length + 3);
    source.overlay.checkInvariants();
  });

  it("R10.a: a peer asks who has it for what it needs", () => {
    const world = new World();
    const peer = world.node().open("peer", settingsOf(world.stranger().keys.peerId));
    const has = world.stranger().join(peer);
    const hasNot = world.stranger().join(peer);
    // Holds 0 to 2 and 4.
    has.send(encodeBuffermap(has.tag, 0, 3, Uint8Array.of(1)));
    hasNot.send(encodeBuffermap(hasNot.tag, 0, 0, new Uint8Array(0)));
    world.run(() => has.seen(FRAME_TYPES.GET), 5_000);
    expect(readRangesOf(has.of(FRAME_TYPES.GET)[0]?.bytes)).toEqual([
      [0, 3],
      [4, 1],
    ]);
    expect(hasNot.seen(FRAME_TYPES.GET)).toBe(false);
  });

  it("R10.a (negative): it asks nobody for what nobody has, nor for what it has", () => {
    const { world, source, peers } = swarm(2, { waitPeers: 1 });
    const feed = new Feed(source, 200, () => 500, { ends: false });
    world.run(() => peers.every((peer) => peer.taken.length === feed.written.length));
    world.advance(500);
    const before = peers.map((peer) => peer.sentOf(FRAME_TYPES.GET).length);
    world.advance(10_000);
    expect(peers.map((peer) => peer.sentOf(FRAME_TYPES.GET).length)).toEqual(before);
  });

  it("R10.b: who holds it sends the fragments asked for, and only those", () => {
    const { world, source } = swarm(1, { waitPeers: 2 });
    new Feed(source, 40, () => 1_000, { ends: false });
    const stranger = world.stranger().join(source);
    world.advance(500);
    stranger.send(encodeCredit(stranger.tag, 10), getOf(stranger.tag, [1, 2, 5, 1]));
    world.run(() => stranger.seen(FRAME_TYPES.DATA), 2_000);
    world.advance(500);
    const indices = stranger
      .of(FRAME_TYPES.DATA)
      .map(({ bytes }) => Number(new DataView(bytes.buffer).getBigUint64(24, true)));
    expect(indices).toEqual([1, 2, 5]);
    for (const frame of stranger.of(FRAME_TYPES.DATA)) {
      const index = Number(new DataView(frame.bytes.buffer).getBigUint64(24, true));
      const { window, kernel } = { window: source.overlay.window, kernel: source.memory.kernel };
      const at = window.offsetOf(index);
      expect(frame.bytes).toEqual(kernel.bytes.slice(at, at + window.lengthOf(index)));
    }
  });

  it("R10.b (negative): what the asker gave no credit for is not sent", () => {
    const { world, source } = swarm(1, { waitPeers: 2 });
    new Feed(source, 40, () => 1_000, { ends: false });
    const stranger = world.stranger().join(source);
    world.advance(500);
    stranger.send(getOf(stranger.tag, [1, 2]), encodeCredit(stranger.tag, 3));
    stranger.send(getOf(stranger.tag, [2, 8]));
    world.advance(500);
    const sent = stranger.of(FRAME_TYPES.DATA).map(({ bytes }) => bytes[24]);
    expect(sent).toEqual([2]);
    expect(source.counters.requestsBeyondCredit).toBe(2 + 7);
    expect(source.overlay.neighbours.length).toBe(2);
  });

  it("R10.b (negative): what is not held is answered with GONE, not with DATA", () => {
    const { world, source } = swarm(1, { waitPeers: 2 });
    const stranger = world.stranger().join(source);
    stranger.send(encodeCredit(stranger.tag, 10));
    stranger.send(getOf(stranger.tag, [7, 3]));
    world.run(() => stranger.seen(FRAME_TYPES.GONE), 2_000);
    expect(readRangesOf(stranger.of(FRAME_TYPES.GONE)[0]?.bytes)).toEqual([[7, 3]]);
    expect(stranger.seen(FRAME_TYPES.DATA)).toBe(false);
  });

  it("a request that is not answered moves to another holder", () => {
    const { world, source, peers } = swarm(1, { waitPeers: 1 });
    const peer = peers[0];
    if (peer === undefined) throw new Error("no peer");
    const feed = new Feed(source, 300, () => 1_000, { ends: false });
    const late = world.node().open("peer", source.overlay.settings);
    // It says it has everything, and never sends a byte.
    const liar = world.stranger().join(late);
    liar.send(encodeBuffermap(liar.tag, 0, 60, new Uint8Array(0)));
    late.dial(peer);
    world.run(() => late.taken.length > 0, 30_000);
    source.end();
    world.run(() => late.has("ended"), 30_000);
    const own = received(late);
    expect(feed.written.slice(-own.length)).toEqual(own);
    expect(late.counters.requestTimeouts).toBeGreaterThan(0);
  });

  it("a CANCEL takes back a request that waits", () => {
    const { world, source } = swarm(1, { waitPeers: 2 });
    new Feed(source, 40, () => 1_000, { ends: false });
    const stranger = world.stranger();
    const linkId = stranger.connect(source);
    stranger.send(stranger.hello(0));
    world.run(() => stranger.seen(FRAME_TYPES.HELLO));
    const signature = stranger.keys.sign(stranger.proof(2, stranger.answer()));
    stranger.send(stranger.hello(2, { signature }));
    world.advance(500);
    expect(linkId).toBeGreaterThan(0);
    const neighbour = source.overlay.neighbours.find((n) => n.peerId === stranger.keys.peerId);
    neighbour?.toServe.push(2, 4, 9, 1);
    stranger.send(getOf(stranger.tag, [20, 1], FRAME_TYPES.CANCEL));
    stranger.send(getOf(stranger.tag, [0, 8], FRAME_TYPES.CANCEL));
    world.advance(2);
    expect(neighbour?.toServe).toEqual([9, 1]);
  });
});

function getOf(tag: Uint8Array, ranges: number[], type: number = FRAME_TYPES.GET): Uint8Array {
  const frame = new Uint8Array(32 + 12 * (ranges.length / 2));
  const view = new DataView(frame.buffer);
  view.setUint32(0, frame.length, true);
  frame.set([0xb6, 1, type, 0], 4);
  frame.set(tag, 8);
  view.setUint32(24, ranges.length / 2, true);
  for (let i = 0; i < ranges.length; i += 2) {
    view.setBigUint64(32 + 6 * i, BigInt(ranges[i] ?? 0), true);
    view.setUint32(40 + 6 * i, ranges[i + 1] ?? 0, true);
  }
  return frame;
}
