/** Peers that pass fragments on: whole fragments lent to a consumer, and peers that consume none. */

import { describe, expect, it, vi } from "vitest";
import { DATA_FLAG_END, DATA_FLAGS, FRAME_TYPES } from "../../src/base/layout.ts";
import type { TakeFragment } from "../../src/peer/commands.ts";
import { encodeBuffermap, encodeRanges } from "../../src/protocol/r10-binary.ts";
import { FragmentCursor } from "../../src/stream/fragment-cursor.ts";
import { dataFrame, sealed } from "./data-frame.ts";
import { Feed, type Node, OVERLAY, received, settingsOf, World } from "./harness.ts";

const SOURCE = { kind: "source", number: 0, id: "s", contentType: "", timestamp: 1 } as const;

/** source -> relay -> peer: the peer knows nobody else. */
function chain(consume: boolean): {
  readonly world: World;
  readonly source: Node;
  readonly relay: Node;
  readonly peer: Node;
} {
  const world = new World();
  const [source, relay, peer] = [world.node(), world.node(), world.node()];
  const settings = settingsOf(source.keys.peerId, { lingerMs: 2_000 });
  relay.takes = false;
  source.open("source", settings, { waitPeers: 1 }).register("s");
  relay.command({ kind: "openOverlay", role: "peer", settings, consume });
  peer.open("peer", settings);
  relay.dial(source);
  peer.dial(relay);
  world.run(() => peer.has("started") && relay.has("started"));
  return { world, source, relay, peer };
}
const dataOf = (node: Node): Map<number, string> =>
  new Map(
    node.sentOf(FRAME_TYPES.DATA).map(({ bytes }) => {
      const index = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(24, true));
      return [index, Buffer.from(bytes).toString("hex")];
    }),
  );

function takeFragment(node: Node, release = false): TakeFragment["fragment"] {
  const command: TakeFragment = {
    kind: "takeFragment",
    overlayId: OVERLAY,
    release,
    fragment: undefined,
  };
  node.command(command);
  return command.fragment;
}

describe("a peer that only forwards", () => {
  it("passes every frame on as it came, takes none apart, and lets its window go", () => {
    const { world, source, relay, peer } = chain(false);
    const split = vi.spyOn(relay.memory.kernel, "splitFragment");
    const starts: number[] = [];
    const feed = new Feed(source, 2_000, () => 1_000);
    world.run(() => {
      starts.push(relay.machine.overlays.get(OVERLAY)?.window.start ?? 0);
      return peer.has("ended");
    }, 60_000);
    expect(received(peer)).toEqual(feed.written);
    const [sent, passed] = [dataOf(source), dataOf(relay)];
    expect(passed.size).toBeGreaterThan(400);
    expect(passed).toEqual(sent);
    // Looked through once, when it is checked: a consumer of data would do it again.
    expect(split).toHaveBeenCalledTimes(relay.counters.fragmentsReceived);
    // 500 fragments went through a window of 64: none is held back by a consumer.
    expect(Math.max(...starts)).toBeGreaterThan(400);
    world.run(() => relay.has("ended") && relay.has("left") && source.has("ended"), 30_000);
    expect(relay.counters.gaps).toBe(0);
    expect(relay.taken).toEqual([]);
  });

  it("reports what it passed on, and stays for its neighbours after END", () => {
    const { world, source, relay, peer } = chain(false);
    peer.holdJobs = true;
    new Feed(source, 40, () => 1_000);
    world.run(() => relay.has("ended"));
    world.advance(1_000);
    const traffic = relay.overlay.traffic();
    expect(traffic.bytesFromSource).toBe(source.overlay.traffic().bytesToPeers);
    expect(traffic.bytesToPeers).toBe(traffic.bytesFromSource);
    expect(relay.has("left")).toBe(false);
    peer.releaseJobs();
    world.run(() => peer.has("ended") && relay.has("left"), 1_000);
  });

  it("reports a gap like any peer", () => {
    const { world, source, relay } = chain(false);
    new Feed(source, 10, () => 3_500, { ends: false });
    world.run(() => relay.overlay.consumer?.consumedTo === 10);
    const stranger = world.stranger().join(relay);
    expect(stranger.closed).toBeUndefined();
    source.crash();
    world.advance(100);
    const cursor = relay.overlay.consumer?.assembler;
    expect(cursor).toBeInstanceOf(FragmentCursor);
    cursor?.skipTo(15);
    world.advance(200);
    expect(relay.eventsOf("gap").map(({ gap }) => gap)).toEqual([
      { kind: "fragments", from: 10, to: 14 },
    ]);
  });

  it("loses what left its window before it came, and takes nothing that lies elsewhere for END", () => {
    const world = new World();
    const settings = settingsOf(world.stranger().keys.peerId, { delivery: "live" });
    const relay = world.node().open("peer", settings, { consume: false, from: "oldest" });
    const member = world.stranger().join(relay);
    member.send(encodeBuffermap(member.tag, 0, 1, new Uint8Array(0)));
    world.run(() => relay.overlay.consumer?.started === true, 5_000);
    // Whatever a slot named before, another fragment lies there now: of other length, all bits set.
    const missing = (i: number): boolean => i > 600 && i % 50 === 0;
    const lost: object[] = [];
    for (let i = 0; i < 1_200; i++) {
      // What it is told of gives it room, where it has none left.
      member.send(encodeRanges(FRAME_TYPES.HAVE, member.tag, 0, [i, 1]));
      world.advance(20);
      if (missing(i)) {
        lost.push({ kind: "fragments", from: i, to: i });
      } else {
        const bytes = 100 + ((i * 67) % 1_000);
        const datum = { kind: "datum", number: 0, bytes, delta: 0 } as const;
        const frame = dataFrame(member, i, [{ ...SOURCE, base: i + 1 }, datum]);
        frame.fill(0xff, frame.length - bytes);
        member.send(sealed(frame));
      }
    }
    expect(lost).toHaveLength(11);
    world.run(() => relay.eventsOf("gap").length === lost.length, 60_000);
    expect(relay.overlay.consumer?.consumedTo).toBe(1_200);
    expect(relay.has("ended")).toBe(false);
    expect(relay.eventsOf("gap").map(({ gap }) => gap)).toEqual(lost);
    relay.memory.checkInvariants();
  });

  it("ends with END, though what lies behind that is sent before it", () => {
    const world = new World();
    const relay = world.node();
    relay.open("peer", settingsOf(world.stranger().keys.peerId), { consume: false });
    const member = world.stranger().join(relay);
    member.send(encodeBuffermap(member.tag, 0, 3, new Uint8Array(0)));
    world.run(() => relay.overlay.consumer?.started === true, 5_000);
    const end = dataFrame(member, 1, []);
    new DataView(end.buffer).setUint16(DATA_FLAGS, DATA_FLAG_END, true);
    member.send(dataFrame(member, 2, []), sealed(end), dataFrame(member, 0, []));
    world.run(() => relay.has("ended"), 2_000);
  });

  it("gives nobody data or fragments", () => {
    const { relay } = chain(false);
    expect(() => relay.take()).toThrow("only forwards");
    expect(() => takeFragment(relay)).toThrow("only forwards");
  });
});

describe("fragments lent to a consumer", () => {
  it("come in order, byte for byte as they were sent, and stay where they lie while lent", () => {
    const { world, source, relay, peer } = chain(true);
    const feed = new Feed(source, 600, () => 1_000);
    const lent = new Map<number, string>();
    const take = (): void => {
      for (let each = takeFragment(relay); each !== undefined; each = takeFragment(relay)) {
        const { bytes } = relay.memory;
        lent.set(
          each.index,
          Buffer.from(bytes.subarray(each.offset, each.offset + each.length)).toString("hex"),
        );
      }
    };
    relay.onEvent = (event) => {
      if (event.kind === "readable") take();
    };
    take();
    world.run(() => relay.has("ended") && peer.has("ended"), 60_000);
    expect([...lent.keys()]).toEqual(Array.from({ length: lent.size }, (_, i) => i));
    expect(lent).toEqual(dataOf(source));
    expect(received(peer)).toEqual(feed.written);
    world.run(() => relay.has("left"));
    relay.memory.checkInvariants();
  });

  it("one that is kept holds its bytes, and the session back; what is given back goes on", () => {
    const { world, source, relay } = chain(true);
    const feed = new Feed(source, 3_000, () => 1_000, { ends: false });
    world.advance(200);
    const first = takeFragment(relay);
    if (first === undefined) throw new Error("nothing is there");
    const { offset, length, index } = first;
    const before = relay.memory.bytes.slice(offset, offset + length);
    world.advance(20_000);
    expect(index).toBe(0);
    expect(relay.memory.bytes.slice(offset, offset + length)).toEqual(before);
    expect(relay.overlay.consumer?.consumedTo).toBe(0);
    expect(feed.isWritten).toBe(false);
    expect(takeFragment(relay, true)).toBeUndefined();
    expect(relay.overlay.consumer?.consumedTo).toBe(1);
    // Given back twice is given back once.
    expect(takeFragment(relay, true)).toBeUndefined();
    expect(takeFragment(relay)?.index).toBe(1);
    relay.memory.checkInvariants();
  });

  it("do not mix with data that were taken before", () => {
    const { world, source, relay } = chain(true);
    new Feed(source, 40, () => 1_000, { ends: false });
    world.advance(200);
    relay.take(1);
    expect(() => takeFragment(relay)).toThrow("data were taken before");
  });
});
