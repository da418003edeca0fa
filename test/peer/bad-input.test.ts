/** What breaks the protocol on an accepted link: told by an ERROR, closed, counted; others go on. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import * as r10 from "../../src/protocol/r10.ts";
import {
  encodeBuffermap,
  encodeCredit,
  encodePing,
  encodeRanges,
} from "../../src/protocol/r10-binary.ts";
import type { RecordPlan } from "../kernel/fragment-builder.ts";
import { dataFrame as data, sealed } from "./data-frame.ts";
import {
  Feed,
  Keys,
  type Node,
  received,
  type Stranger,
  settingsOf,
  swarm,
  World,
} from "./harness.ts";

const NO_BITS = new Uint8Array(0);
const LAST_INDEX = 2 ** 53 - 2;

const records = (payloadBytes = 10): readonly RecordPlan[] => [
  { kind: "source", number: 0, id: "s", contentType: "", base: 1, timestamp: 1 },
  { kind: "datum", number: 0, bytes: payloadBytes, delta: 0 },
];
const patched = (frame: Uint8Array, at: number, ...bytes: readonly number[]): Uint8Array => {
  const copy = frame.slice();
  copy.set(bytes, at);
  return copy;
};

/** A peer with a partner that holds its stream, an honest neighbour and an accepted stranger. */
function scene(): { world: World; node: Node; friend: Node; stranger: Stranger } {
  const world = new World();
  const settings = settingsOf(new Keys().peerId);
  const node = world.node().open("peer", settings);
  const friend = world.node().open("peer", settings);
  friend.dial(node);
  const stranger = world.stranger().join(node);
  stranger.send(encodeBuffermap(stranger.tag, 0, 0, NO_BITS));
  world.run(() => node.has("started"));
  world.advance(200);
  return { world, node, friend, stranger };
}

const bad: readonly (readonly [string, string, (stranger: Stranger) => Uint8Array])[] = [
  ["a wrong magic", "closed", (s) => patched(encodeCredit(s.tag, 9), 4, 0x00)],
  ["a foreign frame version", "closed", (s) => patched(encodeCredit(s.tag, 9), 5, 9)],
  ["reserved flags", "FRAME_MALFORMED", (s) => patched(encodeCredit(s.tag, 9), 7, 1)],
  ["an unknown type", "FRAME_UNEXPECTED", (s) => patched(encodeCredit(s.tag, 9), 6, 0x1e)],
  ["a type of data sources", "FRAME_UNEXPECTED", (s) => patched(encodeCredit(s.tag, 9), 6, 0x22)],
  ["a frame shorter than its header", "closed", () => Uint8Array.of(4, 0, 0, 0, 0xb6, 1, 7, 0)],
  ["a frame larger than any", "closed", () => Uint8Array.of(1, 0, 8, 0, 0xb6, 1, 1, 0)],
  ["a control frame too large", "closed", () => Uint8Array.of(1, 64, 0, 0, 0xb6, 1, 3, 0)],
  ["a truncated CREDIT", "FRAME_MALFORMED", (s) => cut(encodeCredit(s.tag, 9), 20)],
  ["a CREDIT without a tag", "FRAME_MALFORMED", (s) => cut(encodeCredit(s.tag, 9), 12)],
  ["a limit above 2^53", "FRAME_MALFORMED", (s) => patched(encodeCredit(s.tag, 9), 22, 0xff)],
  ["the tag of no overlay", "WRONG_OVERLAY", () => encodeCredit(new Uint8Array(8), 9)],
  ["a GET without ranges", "FRAME_MALFORMED", (s) => patched(get(s, [1, 1]), 24, 0)],
  ["a GET of more ranges than it has", "FRAME_MALFORMED", (s) => patched(get(s, [1, 1]), 24, 200)],
  [
    "a GET of 2^32 ranges",
    "FRAME_MALFORMED",
    (s) => patched(get(s, [1, 1]), 24, 255, 255, 255, 255),
  ],
  ["an empty range", "FRAME_MALFORMED", (s) => patched(get(s, [1, 1]), 40, 0)],
  [
    "a range past the last index",
    "FRAME_MALFORMED",
    (s) => patched(get(s, [LAST_INDEX, 1]), 40, 9),
  ],
  [
    "a HAVE with ranges out of order",
    "FRAME_MALFORMED",
    (s) => patched(have(s, 0, [5, 1, 9, 1]), 44, 1),
  ],
  [
    "a buffermap whose last byte is zero",
    "FRAME_MALFORMED",
    (s) => patched(encodeBuffermap(s.tag, 0, 0, Uint8Array.of(1)), 32, 0),
  ],
  [
    "a buffermap past the last index",
    "FRAME_MALFORMED",
    (s) => patched(encodeBuffermap(s.tag, LAST_INDEX, 0, NO_BITS), 24, 255, 255, 255, 255),
  ],
  [
    "a buffermap cut short",
    "FRAME_MALFORMED",
    (s) => cut(encodeBuffermap(s.tag, 0, 3, NO_BITS), 24),
  ],
  ["a PING of another size", "FRAME_MALFORMED", () => cut(ping(), 12)],
  ["a PARTNER that is no msgpack", "MESSAGE_MALFORMED", (s) => patched(partner(s), 8, 0xc1)],
  ["a PARTNER with a field too many", "MESSAGE_MALFORMED", (s) => patched(partner(s), 8, 0x95)],
  [
    "a BYE with bytes behind it",
    "MESSAGE_MALFORMED",
    (s) => longer(r10.encodeFrame(r10.BYE, { tag: s.tag, code: "", detail: "" })),
  ],
  ["DATA without its header", "FRAME_MALFORMED", (s) => cut(data(s, 0, records()), 30)],
  ["DATA larger than a fragment", "FRAME_MALFORMED", (s) => data(s, 0, records(4_100))],
  [
    "DATA with reserved fragment flags",
    "FRAME_MALFORMED",
    (s) => sealed(patched(data(s, 0, records()), 12, 2)),
  ],
  [
    "DATA with an absurd index",
    "FRAME_MALFORMED",
    (s) => sealed(patched(data(s, 0, records()), 31, 0xff)),
  ],
  ["DATA beyond the window", "INDEX_OUT_OF_WINDOW", (s) => data(s, 64, records())],
  ["DATA far beyond the window", "INDEX_OUT_OF_WINDOW", (s) => data(s, LAST_INDEX, records())],
  [
    "DATA with a wrong checksum",
    "FRAGMENT_CORRUPT",
    (s) => patched(data(s, 0, records()), 8, 1, 2, 3, 4),
  ],
  [
    "DATA with a flipped payload bit",
    "FRAGMENT_CORRUPT",
    (s) => patched(data(s, 0, records()), 80, 99),
  ],
  [
    "DATA whose records are malformed",
    "FRAGMENT_CORRUPT",
    (s) => data(s, 0, [{ kind: "datum", number: 3, bytes: 1, delta: 0 }]),
  ],
  [
    "DATA whose record count is wrong",
    "FRAGMENT_CORRUPT",
    (s) => sealed(patched(data(s, 0, records()), 14, 9)),
  ],
  [
    "an ERROR that is no msgpack",
    "MESSAGE_MALFORMED",
    () => patched(r10.encodeFrame(r10.ERROR, { code: "X", detail: "" }), 8, 0xc1),
  ],
];

function get(s: Stranger, ranges: number[]): Uint8Array {
  return encodeRanges(FRAME_TYPES.GET, s.tag, 0, ranges);
}
function have(s: Stranger, start: number, ranges: number[]): Uint8Array {
  return encodeRanges(FRAME_TYPES.HAVE, s.tag, start, ranges);
}
function ping(): Uint8Array {
  return encodePing(FRAME_TYPES.PING, new Uint8Array(8).fill(3));
}
function partner(s: Stranger): Uint8Array {
  return r10.encodeFrame(r10.PARTNER, { tag: s.tag, mask: 255, from: 0 });
}
function cut(frame: Uint8Array, bytes: number): Uint8Array {
  return patched(frame.slice(0, bytes), 0, bytes, 0, 0, 0);
}
function longer(frame: Uint8Array): Uint8Array {
  const copy = new Uint8Array(frame.length + 1);
  copy.set(frame);
  return patched(copy, 0, copy.length);
}

describe("bad input on an accepted link", () => {
  for (const [what, code, frame] of bad) {
    it(`${what}: ${code}`, () => {
      const { world, node, friend, stranger } = scene();
      stranger.send(frame(stranger));
      world.run(() => stranger.closed !== undefined, 2_000);
      if (code !== "closed") {
        expect(stranger.error).toBe(code);
        expect(node.counters.refusedLinks).toBe(1);
      }
      world.advance(100);
      expect(node.overlay.neighbours.map(({ peerId }) => peerId)).toEqual([friend.keys.peerId]);
      if (code === "FRAGMENT_CORRUPT") expect(node.counters.corruptFragments).toBe(1);
      if (code.endsWith("MALFORMED")) expect(node.counters.malformedFrames).toBe(1);
      expect(node.overlay.window.heldCount).toBe(0);
      node.overlay.checkInvariants();
      node.memory.checkInvariants();
    });
  }

  it("P0.1: the source peer refuses a fragment from a peer and closes the link", () => {
    const world = new World();
    const source = world.node();
    const settings = settingsOf(source.keys.peerId);
    source.open("source", settings, { waitPeers: 1 }).register("s");
    const peer = world.node().open("peer", settings).dial(source);
    const stranger = world.stranger().join(source);
    stranger.send(data(stranger, 0, records()));
    world.run(() => stranger.closed !== undefined, 2_000);
    expect(stranger.error).toBe("FRAGMENT_TO_SOURCE");
    expect(source.overlay.window.heldCount).toBe(0);
    expect(source.counters.fragmentsReceived).toBe(0);
    const feed = new Feed(source, 50, () => 500);
    world.run(() => peer.has("ended"));
    expect(received(peer)).toEqual(feed.written);
  });

  it("P0.1 (negative): a peer takes the very fragment that its source peer refuses", () => {
    const { world, node, stranger } = scene();
    stranger.send(data(stranger, 0, records()));
    world.run(() => node.taken.length === 1, 2_000);
    expect(stranger.closed).toBeUndefined();
  });

  it("DATA before this node knows where it starts is outside of every window", () => {
    const world = new World();
    const node = world.node().open("peer", settingsOf(new Keys().peerId));
    const stranger = world.stranger().join(node);
    stranger.send(data(stranger, 5, records()));
    world.run(() => stranger.closed !== undefined, 2_000);
    expect(stranger.error).toBe("INDEX_OUT_OF_WINDOW");
    const honest = world.stranger().join(node);
    honest.send(encodeBuffermap(honest.tag, 1_000, 0, NO_BITS));
    world.run(() => node.has("started"));
    expect(node.eventsOf("started")[0]?.index).toBe(1_000);
  });

  it("late and repeated fragments are counted, and no fault", () => {
    const { world, node, stranger } = scene();
    stranger.send(data(stranger, 0, records()), data(stranger, 0, records()));
    world.advance(50);
    stranger.send(data(stranger, 0, records()));
    world.advance(50);
    expect(node.counters.duplicates + node.counters.lateFragments).toBe(2);
    expect(node.taken.length).toBe(1);
    expect(stranger.closed).toBeUndefined();
  });

  it("requests for everything there could ever be cost nothing and are answered with GONE", () => {
    const { world, node, stranger } = scene();
    const startedMs = performance.now();
    stranger.send(encodeCredit(stranger.tag, LAST_INDEX + 1));
    for (let i = 0; i < 20; i++) {
      stranger.send(get(stranger, [0, 0xffff_ffff, LAST_INDEX - 0xffff_fffe, 0xffff_ffff]));
    }
    world.run(() => stranger.of(FRAME_TYPES.GONE).length === 40, 2_000);
    expect(performance.now() - startedMs).toBeLessThan(2_000);
    expect(stranger.closed).toBeUndefined();
    node.overlay.checkInvariants();
  });

  it("requests beyond the asker's own credit are counted and not answered", () => {
    const { world, node, stranger } = scene();
    for (let i = 0; i < 20; i++) {
      stranger.send(get(stranger, [0, 0xffff_ffff, LAST_INDEX - 0xffff_fffe, 0xffff_ffff]));
    }
    world.advance(100);
    expect(stranger.of(FRAME_TYPES.GONE)).toEqual([]);
    expect(node.counters.requestsBeyondCredit).toBe(40 * 0xffff_ffff);
    expect(node.overlay.neighbours[0]?.toServe).toEqual([]);
    expect(stranger.closed).toBeUndefined();
  });

  it("the highest index there is, advertised, is no reason to fail", () => {
    const { world, node, stranger } = scene();
    stranger.send(have(stranger, LAST_INDEX, [LAST_INDEX, 1]));
    stranger.send(encodeBuffermap(stranger.tag, LAST_INDEX + 1, 0, NO_BITS));
    stranger.send(encodeCredit(stranger.tag, LAST_INDEX + 1));
    stranger.send(r10.encodeFrame(r10.NOTIFY, { tag: stranger.tag, index: LAST_INDEX }));
    stranger.send(
      r10.encodeFrame(r10.PARTNER, { tag: stranger.tag, mask: 0xffff_ffff, from: LAST_INDEX + 1 }),
    );
    world.advance(1_000);
    expect(stranger.closed).toBeUndefined();
    node.overlay.checkInvariants();
  });

  it.each([2 ** 40, LAST_INDEX])(
    "one member's word of index %d makes nobody give up the session",
    (index) => {
      const { world, source, peers } = swarm(2, { waitPeers: 2, repairMs: 1_000 });
      const [peer] = peers;
      if (peer === undefined) throw new Error("no peer");
      const payload = new Uint8Array(100);
      source.write("s", payload);
      world.advance(500);
      const stranger = world.stranger().join(peer);
      stranger.send(encodeBuffermap(stranger.tag, index, 0, NO_BITS));
      stranger.send(r10.encodeFrame(r10.NOTIFY, { tag: stranger.tag, index }));
      const liar = world.stranger().join(source);
      liar.send(encodeBuffermap(liar.tag, index, 0, NO_BITS));
      world.advance(30_000);
      for (let i = 0; i < 5; i++) source.write("s", payload);
      world.advance(5_000);
      for (const each of peers) {
        expect(each.eventsOf("gap")).toEqual([]);
        expect(each.taken.length).toBe(6);
      }
      expect(source.overlay.window.start).toBe(0);
      const late = world.node().open("peer", source.overlay.settings).dial(source);
      late.dial(peer);
      world.advance(5_000);
      expect(late.taken.length).toBe(6);
    },
  );

  it("a stream that starts at the last index there is can be joined", () => {
    for (const start of [LAST_INDEX + 1, LAST_INDEX, LAST_INDEX - 100]) {
      const world = new World();
      const node = world.node().open("peer", settingsOf(new Keys().peerId));
      const stranger = world.stranger().join(node);
      stranger.send(encodeBuffermap(stranger.tag, start, 0, NO_BITS));
      world.run(() => node.has("started"));
      world.advance(500);
      node.overlay.checkInvariants();
      expect(stranger.closed).toBeUndefined();
    }
  });

  it("what is advertised below the advertiser's own start counts for nothing", () => {
    const { node, stranger, world } = scene();
    stranger.send(have(stranger, 8, [0, 20]));
    world.advance(5);
    node.overlay.checkInvariants();
    const holds = (index: number) =>
      node.overlay.neighbours.find((n) => n.peerId === stranger.keys.peerId)?.holds(index);
    expect([7, 8, 19, 20].map(holds)).toEqual([false, true, true, false]);
    stranger.send(encodeBuffermap(stranger.tag, 2, 10, NO_BITS));
    world.advance(5);
    node.overlay.checkInvariants();
    expect([7, 8, 11, 12].map(holds)).toEqual([false, true, true, false]);
    expect(stranger.closed).toBeUndefined();
  });

  it("answers PING with its token", () => {
    const { world, stranger } = scene();
    stranger.send(ping());
    world.run(() => stranger.seen(FRAME_TYPES.PONG), 1_000);
    expect(stranger.of(FRAME_TYPES.PONG)[0]?.bytes.subarray(8)).toEqual(new Uint8Array(8).fill(3));
  });

  it("whatever is mutated, nothing is thrown, invariants hold and others get their data", () => {
    const valid = (s: Stranger): Uint8Array[] => [
      encodeCredit(s.tag, 100),
      get(s, [0, 3, 9, 2]),
      have(s, 0, [0, 20, 30, 5]),
      encodeRanges(FRAME_TYPES.GONE, s.tag, 0, [3, 4]),
      encodeRanges(FRAME_TYPES.CANCEL, s.tag, 0, [0, 9]),
      encodeBuffermap(s.tag, 0, 10, Uint8Array.of(5, 129)),
      partner(s),
      r10.encodeFrame(r10.ACCEPT, {
        tag: s.tag,
        mask: 3,
        depths: new Uint8Array(8).fill(1),
        open: 1,
        wanted: 3,
      }),
      r10.encodeFrame(r10.NOTIFY, { tag: s.tag, index: 50 }),
      r10.encodeFrame(r10.REFRESH, { tag: s.tag }),
      r10.encodeFrame(r10.BUSY, { tag: s.tag, first: 2, count: 3, retryAfterMs: 10 }),
      r10.encodeFrame(r10.BYE, { tag: s.tag, code: "", detail: "" }),
      r10.encodeFrame(r10.ERROR, { code: "INTERNAL", detail: "x" }),
      data(s, 2, records()),
      data(s, 0, [...records(), { kind: "end", number: 0, last: 1 }]),
      ping(),
      s.hello(0),
    ];
    const edit = fc.record({
      frame: fc.nat(16),
      edits: fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 4 }),
      cut: fc.option(fc.nat(120), { nil: undefined }),
      again: fc.nat(1),
    });
    fc.assert(
      fc.property(
        fc.array(edit, { minLength: 1, maxLength: 40 }),
        fc.boolean(),
        (edits, toSource) => {
          const world = new World();
          const source = world.node();
          const settings = settingsOf(source.keys.peerId);
          source.open("source", settings, { waitPeers: 1 }).register("s");
          const peer = world.node().open("peer", settings).dial(source);
          world.run(() => peer.has("started"));
          const feed = new Feed(source, 30, () => 700, { ends: false });
          const target = toSource ? source : peer;
          let stranger = world.stranger().join(target);
          for (const { frame, edits: bytes, cut: at, again } of edits) {
            if (stranger.closed !== undefined) stranger = world.stranger().join(target);
            let mutated = valid(stranger)[frame]?.slice() as Uint8Array;
            for (const [where, value] of bytes)
              if (where > 3) mutated[where % mutated.length] = value;
            if (at !== undefined) mutated = mutated.slice(0, Math.max(8, at));
            // A whole frame by its length: what framing lets through.
            new DataView(mutated.buffer).setUint32(0, mutated.length, true);
            mutated[4] = 0xb6;
            for (let n = 0; n <= again; n++) stranger.send(mutated);
            world.advance(3);
            target.overlay.checkInvariants();
          }
          stranger.close();
          world.advance(50);
          target.overlay.checkInvariants();
          target.memory.checkInvariants();
          const other = toSource ? peer : source;
          expect(other.counters.refusedLinks).toBe(0);
          expect(target.overlay.neighbours.length).toBe(1);
          // DATA that a stranger made up may stand in for the source's own (integrity is a checksum).
          if (toSource) {
            source.end();
            world.run(() => peer.has("ended"), 30_000);
            expect(received(peer)).toEqual(feed.written);
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});
