/** The serving side of requests: what is answered, what is taken back, what is declined (BUSY). */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { BUSY_RETRY_MS, SERVE_WAIT_MS } from "../../src/base/limits.ts";
import type { PeerContext } from "../../src/peer/context.ts";
import type { Neighbour } from "../../src/peer/neighbour.ts";
import { Serving } from "../../src/peer/serving.ts";
import { BUSY, encodeFrame } from "../../src/protocol/r10.ts";
import { encodeBuffermap, encodeCredit, encodeRanges } from "../../src/protocol/r10-binary.ts";
import { type MsgpackValue, readMsgpack } from "../support/msgpack-reader.ts";
import { type Node, type Stranger, settingsOf, World } from "./harness.ts";

const NO_BITS = new Uint8Array(0);

interface Declined {
  readonly first: number;
  readonly count: number;
  readonly retryAfterMs: number;
}

function busyOf(bytes: Uint8Array): Declined {
  const [, first, count, retryAfterMs] = readMsgpack(bytes.subarray(8)) as MsgpackValue[];
  return { first: Number(first), count: Number(count), retryAfterMs: Number(retryAfterMs) };
}

function indexOf(bytes: Uint8Array): number {
  return Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(24, true));
}

const busyFrame = (s: Stranger, first: number, count: number, retryAfterMs: number): Uint8Array =>
  encodeFrame(BUSY, { tag: s.tag, first, count, retryAfterMs });

function scene(toServe: number[], isSaturated = true) {
  const sent: Declined[] = [];
  const link = { transmit: (bytes: Uint8Array) => sent.push(busyOf(bytes)) };
  const neighbour = { toServe, servedMs: 1_000, link } as unknown as Neighbour;
  const upload = { isSaturated };
  const context = { now: { monoMs: 1_000 }, counters: { busySent: 0 }, upload };
  const serving = new Serving(context as unknown as PeerContext, new Uint8Array(8));
  const look = (monoMs: number): void => {
    context.now = { monoMs };
    serving.watch([neighbour]);
  };
  return { sent, neighbour, context, look };
}

describe("declining", () => {
  it("tells each request that waited too long, once, and when to ask again", () => {
    const { sent, neighbour, context, look } = scene([3, 2, 9, 1]);
    look(1_000 + SERVE_WAIT_MS - 1);
    expect(sent).toEqual([]);
    look(1_000 + SERVE_WAIT_MS);
    expect(sent).toEqual([
      { first: 3, count: 2, retryAfterMs: BUSY_RETRY_MS },
      { first: 9, count: 1, retryAfterMs: BUSY_RETRY_MS },
    ]);
    expect(neighbour.toServe).toEqual([]);
    expect(context.counters.busySent).toBe(2);
    look(1_000 + 5 * SERVE_WAIT_MS);
    expect(sent.length).toBe(2);
  });

  it.each([true, false])(
    "excuses who does not get what it needs next for want of upload alone (%s)",
    (isSaturated) => {
      const { sent, neighbour, look } = scene([3, 2], isSaturated);
      Object.assign(neighbour, { ackedTo: 4, declinedMs: 0 });
      look(1_000 + SERVE_WAIT_MS);
      expect(sent).toHaveLength(1);
      expect(neighbour.declinedMs).toBe(isSaturated ? 1_000 + SERVE_WAIT_MS : 0);
    },
  );

  it("waits on while one after the other is served", () => {
    const { sent, neighbour, look } = scene([3, 2]);
    for (let i = 1; i <= 10; i++) {
      neighbour.servedMs = 1_000 + i * 500;
      look(neighbour.servedMs + SERVE_WAIT_MS - 1);
    }
    expect(sent).toEqual([]);
  });

  it("has nothing to say to who asked for nothing", () => {
    const { sent, look } = scene([]);
    look(100_000);
    expect(sent).toEqual([]);
  });
});

describe("a node whose way out has nothing to spare", () => {
  function strained() {
    const { sent, neighbour, context } = scene([]);
    const asked: number[] = [];
    const wants = (ranges: Float64Array, pairs: number): number => {
      for (let i = 0; i < pairs; i++) asked.push(ranges[2 * i] as number);
      return 0;
    };
    Object.assign(neighbour, { wants });
    Object.assign(context.counters, { requestsBeyondCredit: 0 });
    const serving = new Serving(context as unknown as PeerContext, new Uint8Array(8));
    let next = 0;
    /** How many of `count` requests for one fragment each are served. */
    const served = (count: number, isStrained = true): number => {
      const before = asked.length;
      for (let i = 0; i < count; i++) {
        serving.asked(neighbour, Float64Array.of(next++, 1), 1, { isStrained, once: false });
      }
      return asked.length - before;
    };
    const advance = (ms: number): void => {
      context.now = { monoMs: context.now.monoMs + ms };
    };
    return { sent, serving, served, advance, asked };
  }

  it("serves a few requests and declines the others at once", () => {
    const { sent, served, asked } = strained();
    expect(served(20)).toBe(8);
    expect(asked).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(sent.map(({ first }) => first)).toEqual([8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
  });

  it("serves an eighth of what it pushes, and saves up no more than a few", () => {
    const { serving, served } = strained();
    served(20);
    serving.pushed(16);
    expect(served(20)).toBe(2);
    serving.pushed(16_000);
    expect(served(20)).toBe(8);
  });

  it("serves something though it pushes nothing: it may be the only one that holds it", () => {
    const { served, advance } = strained();
    served(20);
    let count = 0;
    for (let second = 0; second < 10; second++) {
      advance(1_000);
      count += served(20);
    }
    expect(count).toBe(80);
  });

  it("counts what one request asks for, however much", () => {
    const { serving, sent, served, asked } = strained();
    const { neighbour } = scene([]);
    Object.assign(neighbour, { wants: () => asked.push(-1) - asked.length });
    expect(
      serving.asked(neighbour, Float64Array.of(0, 64), 1, { isStrained: true, once: false }),
    ).toBe(true);
    expect(served(1)).toBe(0);
    serving.pushed(64);
    expect(served(1)).toBe(0);
    serving.pushed(8);
    expect(served(1)).toBe(1);
    expect(sent.length).toBe(2);
  });

  it("gives each fragment to one patient asker a second, and puts nobody off for long", () => {
    const { serving, sent, advance } = strained();
    const asker = () => {
      const { neighbour } = scene([]);
      const served: number[][] = [];
      const wants = (ranges: Float64Array): number => served.push([...ranges]) * 0;
      Object.assign(neighbour, {
        wants,
        link: { transmit: (bytes: Uint8Array) => sent.push(busyOf(bytes)) },
      });
      const ask = (once: boolean, ...ranges: number[]): boolean => {
        const how = { isStrained: false, once };
        return serving.asked(neighbour, Float64Array.from(ranges), ranges.length / 2, how);
      };
      return { ask, served };
    };
    const [one, two] = [asker(), asker()];
    const declined = (): number[][] => sent.splice(0).map(({ first, count }) => [first, count]);
    // What was asked for and not sent is nobody's yet.
    expect(one.ask(true, 0, 4, 8, 1)).toBe(true);
    expect(two.ask(true, 0, 1)).toBe(true);
    serving.gave(0, 4);
    serving.gave(8, 9);
    expect(two.ask(true, 2, 4, 8, 1)).toBe(true);
    expect(two.served.splice(0)).toEqual([
      [0, 1],
      [4, 2],
    ]);
    expect(declined()).toEqual([
      [2, 2],
      [8, 1],
    ]);
    expect(two.ask(true, 8, 1)).toBe(false);
    expect(two.ask(true, 8, 1)).toBe(true);
    expect(two.ask(false, 2, 1)).toBe(true);
    advance(1_000);
    expect(one.ask(true, 0, 4)).toBe(true);
    expect(declined()).toEqual([[8, 1]]);
    // However many are asked for, so many are looked at.
    one.served.length = 0;
    expect(one.ask(true, 10_000, 4_000_000_000)).toBe(true);
    expect(one.served).toEqual([[10_000, 1_024]]);
    expect(declined()).toEqual([[11_024, 3_999_998_976]]);
  });

  it("serves in turn, and who did not come again has lost its turn", () => {
    const { serving, served, advance } = strained();
    const asker = () => {
      const { neighbour } = scene([]);
      Object.assign(neighbour, { wants: () => 0 });
      const how = { isStrained: true, once: false };
      return (): boolean => {
        advance(1);
        return serving.asked(neighbour, Float64Array.of(100, 1), 1, how);
      };
    };
    const [one, two, three] = [asker(), asker(), asker()];
    served(20);
    // One is declined first and never comes again; two and three go on asking.
    expect(one()).toBe(false);
    for (const ask of [two, three, two, three]) expect(ask()).toBe(false);
    advance(125);
    expect(three()).toBe(false);
    expect(two()).toBe(true);
    advance(125);
    expect(three()).toBe(true);
    advance(60_000);
    served(20);
    expect(two()).toBe(false);
    expect(three()).toBe(false);
    expect(one()).toBe(false);
    expect(two()).toBe(false);
    advance(125);
    // It was first long ago: that gives it no precedence now.
    expect(one()).toBe(false);
    expect(two()).toBe(true);
  });

  it("serves all when it is strained no more", () => {
    const { served } = strained();
    served(20);
    expect(served(20, false)).toBe(20);
  });
});

/** A source peer with 12 fragments of 4 KiB that may send 1 KiB a second, and a member by hand. */
function narrow(): { world: World; source: Node; asker: Stranger } {
  const world = new World();
  const source = world.node({ uploadLimitBytesPerSecond: 1_024 });
  source.open("source", settingsOf(source.keys.peerId), { waitPeers: 1 }).register("s");
  for (let i = 0; i < 12; i++) source.write("s", new Uint8Array(3_900));
  const asker = world.stranger().join(source);
  asker.send(encodeBuffermap(asker.tag, 0, 0, NO_BITS), encodeCredit(asker.tag, 100));
  world.advance(100);
  return { world, source, asker };
}

const get = (s: Stranger, ...ranges: number[]): Uint8Array =>
  encodeRanges(FRAME_TYPES.GET, s.tag, 0, ranges);
const cancel = (s: Stranger, ...ranges: number[]): Uint8Array =>
  encodeRanges(FRAME_TYPES.CANCEL, s.tag, 0, ranges);

const servedTo = (asker: Stranger): number[] =>
  asker.of(FRAME_TYPES.DATA).map(({ bytes }) => indexOf(bytes));
const declinedTo = (asker: Stranger): number[] =>
  asker.of(FRAME_TYPES.BUSY).flatMap(({ bytes }) => {
    const { first, count } = busyOf(bytes);
    return Array.from({ length: count }, (_, i) => first + i);
  });

describe("a way out that bears little", () => {
  it("serves what it can and declines the rest: nothing is both, nothing neither", () => {
    const { world, source, asker } = narrow();
    asker.send(get(asker, 0, 11));
    world.advance(3 * SERVE_WAIT_MS);
    const served = servedTo(asker);
    const declined = declinedTo(asker);
    expect(served.length).toBeGreaterThan(0);
    expect(declined.length).toBeGreaterThan(0);
    expect([...served, ...declined].sort((a, b) => a - b)).toEqual(
      Array.from({ length: 11 }, (_, i) => i),
    );
    expect(source.counters.busySent).toBeGreaterThan(0);
  });

  it("neither serves nor declines what was taken back", () => {
    const { world, asker } = narrow();
    asker.send(get(asker, 0, 11), cancel(asker, 6, 2, 10, 1));
    world.advance(3 * SERVE_WAIT_MS);
    const answered = [...servedTo(asker), ...declinedTo(asker)].sort((a, b) => a - b);
    expect(answered).toEqual([0, 1, 2, 3, 4, 5, 8, 9]);
  });

  it("is asked again for what it declined, and for what was taken back", () => {
    const { world, asker } = narrow();
    asker.send(get(asker, 0, 11), cancel(asker, 10, 1));
    world.advance(3 * SERVE_WAIT_MS);
    for (const index of new Set([10, ...declinedTo(asker)])) {
      // A fragment of 4 KiB leaves every 4 s.
      for (let turn = 0; turn < 10 && !servedTo(asker).includes(index); turn++) {
        asker.send(get(asker, index, 1));
        world.advance(1_000);
      }
      expect(servedTo(asker)).toContain(index);
    }
  });

  it("taking back what was never asked for changes nothing", () => {
    const { world, asker } = narrow();
    asker.send(cancel(asker, 0, 100), get(asker, 0, 2), cancel(asker, 50, 7));
    world.advance(200);
    expect(servedTo(asker)).toEqual([0, 1]);
  });
});

describe("who hears BUSY", () => {
  it("asks another at once, and the busy one not before its time", () => {
    const world = new World();
    const node = world.node().open("peer", settingsOf(world.stranger().keys.peerId));
    const [one, two] = [world.stranger().join(node), world.stranger().join(node)];
    one.send(encodeBuffermap(one.tag, 0, 4, NO_BITS));
    two.send(encodeBuffermap(two.tag, 0, 0, NO_BITS));
    world.run(() => one.seen(FRAME_TYPES.GET), 5_000);
    const asked = one.of(FRAME_TYPES.GET).length;
    two.send(encodeRanges(FRAME_TYPES.HAVE, two.tag, 0, [0, 4]));
    one.send(busyFrame(one, 0, 4, 2_000));
    world.run(() => two.seen(FRAME_TYPES.GET), 200);
    expect(node.counters.busyReceived).toBe(1);
    two.send(busyFrame(two, 0, 4, 10_000));
    world.advance(1_900);
    expect(one.of(FRAME_TYPES.GET).length).toBe(asked);
    world.advance(300);
    expect(one.of(FRAME_TYPES.GET).length).toBeGreaterThan(asked);
  });
});
