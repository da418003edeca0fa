/** What keeps fragments from coming twice: once pushed, once pulled. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { ACCEPT, encodeFrame, PARTNER } from "../../src/protocol/r10.ts";
import { encodeBuffermap, encodeCredit, encodeRanges } from "../../src/protocol/r10-binary.ts";
import { type MsgpackValue, readMsgpack } from "../support/msgpack-reader.ts";
import { dataFrame } from "./data-frame.ts";
import { readRangesOf } from "./frames.ts";
import { type Node, type SeenFrame, type Stranger, settingsOf, World } from "./harness.ts";

const ALL = 0xff;
const NO_BITS = new Uint8Array(0);
const RECORDS = [
  { kind: "source", number: 0, id: "s", contentType: "", base: 1, timestamp: 1 },
  { kind: "datum", number: 0, bytes: 10, delta: 0 },
] as const;

const indicesOf = (frames: readonly SeenFrame[]): number[] =>
  frames
    .flatMap(({ bytes }) => readRangesOf(bytes))
    .flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i))
    .sort((a, b) => a - b);
const askedOf = (s: Stranger): number[] => indicesOf(s.of(FRAME_TYPES.GET));
const cancelledAt = (s: Stranger): number[] => indicesOf(s.of(FRAME_TYPES.CANCEL));
const have = (s: Stranger, first: number, count: number): Uint8Array =>
  encodeRanges(FRAME_TYPES.HAVE, s.tag, 0, [first, count]);

function accept(s: Stranger, mask: number, open: number, wanted: number): Uint8Array {
  const depths = new Uint8Array(8).fill(1);
  return encodeFrame(ACCEPT, { tag: s.tag, mask, depths, open, wanted, spare: 8 });
}

interface Scene {
  readonly world: World;
  readonly node: Node;
  /** It was asked to push everything, and has not answered. */
  readonly pusher: Stranger;
  readonly other: Stranger;
}

/** A peer and two members by hand that have nothing yet; one offers to push. */
function scene(): Scene {
  const world = new World();
  const node = world.node().open("peer", settingsOf(world.stranger().keys.peerId));
  const [pusher, other] = [world.stranger().join(node), world.stranger().join(node)];
  for (const one of [pusher, other]) {
    one.send(encodeBuffermap(one.tag, 0, 0, NO_BITS), encodeCredit(one.tag, 1_000));
  }
  pusher.send(accept(pusher, 0, ALL, 0));
  world.run(() => pusher.of(FRAME_TYPES.PARTNER).length > 0, 2_000);
  const [, mask, from] = readMsgpack(
    (pusher.of(FRAME_TYPES.PARTNER)[0] as SeenFrame).bytes.subarray(8),
  ) as MsgpackValue[];
  expect({ mask, from }).toEqual({ mask: ALL, from: 0 });
  return { world, node, pusher, other };
}

/** All is pushed on from one to the other, up to fragment 40, and nothing before that is there. */
function passingOn(): Scene {
  const its = scene();
  const { world, pusher, other } = its;
  pusher.send(accept(pusher, ALL, 0, ALL));
  other.send(encodeFrame(PARTNER, { tag: other.tag, mask: ALL, from: 0 }));
  world.advance(100);
  pusher.send(dataFrame(pusher, 40, RECORDS));
  world.advance(100);
  return its;
}

describe("a peer", () => {
  it("leaves to a member that it just asked to push what is new, for half a second", () => {
    const { world, pusher, other } = scene();
    other.send(have(other, 0, 3));
    world.advance(450);
    expect([...askedOf(pusher), ...askedOf(other)]).toEqual([]);
    world.advance(150);
    expect(askedOf(other)).toEqual([0, 1, 2]);
  });

  it("pushes nothing back to who sent it, though it did not advertise that yet", () => {
    const { world, node, other } = passingOn();
    // Behind what was pushed to it already.
    other.send(dataFrame(other, 3, RECORDS));
    world.advance(100);
    expect(node.overlay.window.holds(3)).toBe(true);
    node.overlay.checkInvariants();
    expect(other.of(FRAME_TYPES.DATA).map(({ bytes }) => indexOf(bytes))).toEqual([40]);
  });

  it("takes what came from one that is gone by the time it is verified", () => {
    const { world, node, pusher, other } = passingOn();
    node.holdJobs = true;
    other.send(dataFrame(other, 3, RECORDS));
    world.advance(100);
    other.close();
    world.advance(100);
    expect(node.overlay.neighbours.map(({ peerId }) => peerId)).toEqual([pusher.keys.peerId]);
    node.releaseJobs();
    world.advance(10);
    expect(node.overlay.window.holds(3)).toBe(true);
    node.overlay.checkInvariants();
  });

  it("asks elsewhere at once when that member says no", () => {
    const { world, pusher, other } = scene();
    other.send(have(other, 0, 3));
    pusher.send(accept(pusher, 0, 0, ALL));
    world.advance(100);
    expect(askedOf(other)).toEqual([0, 1, 2]);
    expect(cancelledAt(pusher)).toEqual([]);
  });

  it("tells the partner that was to push it what it asks for elsewhere", () => {
    const { world, pusher, other } = scene();
    pusher.send(accept(pusher, ALL, 0, ALL));
    other.send(have(other, 0, 3));
    // The partner has something else that is new, and pushes none of it.
    pusher.send(have(pusher, 3, 1));
    world.run(() => askedOf(other).length === 3, 10_000);
    world.advance(10);
    expect(cancelledAt(pusher)).toEqual([0, 1, 2]);
  });
});

describe("a member that pushes", () => {
  it("leaves out what CANCEL names, also before it has it, and serves it when asked", () => {
    const world = new World();
    const source = world.node();
    source.open("source", settingsOf(source.keys.peerId), { waitPeers: 1 }).register("s");
    const child = world.stranger().join(source);
    child.send(
      encodeBuffermap(child.tag, 0, 0, NO_BITS),
      encodeCredit(child.tag, 100),
      encodeFrame(PARTNER, { tag: child.tag, mask: ALL, from: 0 }),
      encodeRanges(FRAME_TYPES.CANCEL, child.tag, 0, [2, 1, 5, 2]),
    );
    world.advance(100);
    for (let i = 0; i < 10; i++) source.write("s", new Uint8Array(3_900));
    world.advance(1_000);
    const came = (): number[] => child.of(FRAME_TYPES.DATA).map(({ bytes }) => indexOf(bytes));
    const pushed = came();
    expect(pushed.slice(0, 6)).toEqual([0, 1, 3, 4, 7, 8]);
    child.send(encodeRanges(FRAME_TYPES.GET, child.tag, 0, [5, 1]));
    world.advance(100);
    expect(came()).toEqual([...pushed, 5]);
  });
});

function indexOf(bytes: Uint8Array): number {
  return Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(24, true));
}
