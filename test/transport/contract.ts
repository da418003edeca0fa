/**
 * What every byte-stream transport promises, whatever carries it. A suite is given a way to make
 * transports that reach each other, each over an arena of its own.
 */

import { describe, expect, onTestFinished, test } from "vitest";
import type { ErrorCode } from "../../src/base/errors.ts";
import type { Address } from "../../src/base/machine.ts";
import type { ReceiveArena } from "../../src/base/receive-arena.ts";
import type { Transport, TransportHandler } from "../../src/transport/transport.ts";
import { concat, DATA_TYPE, frameOf } from "./frames.ts";
import { PlainArena } from "./plain-arena.ts";

export interface ContractSubject {
  readonly any: Address;
  make(arena: ReceiveArena): Transport;
  /** Default: a plain arena of 1 MiB. */
  arena?(): ReceiveArena;
}

/** A handler that remembers everything and lets a test wait for it. */
export class Recorder implements TransportHandler {
  readonly up: { linkId: number; direction: string; remote: Address }[] = [];
  readonly down: { linkId: number; code: ErrorCode; detail: string }[] = [];
  readonly received = new Map<number, Uint8Array[]>();
  readonly sentBytes = new Map<number, number>();
  onFramesHook: ((linkId: number) => void) | undefined;
  #nextInbound = 0;
  #waiting: { until: () => boolean; resolve: () => void }[] = [];

  allocateLinkId(): number {
    this.#nextInbound += 2;
    return this.#nextInbound;
  }
  linkUp(linkId: number, direction: "inbound" | "outbound", remote: Address): void {
    this.up.push({ linkId, direction, remote });
    this.received.set(linkId, []);
    this.#wake();
  }
  linkDown(linkId: number, code: ErrorCode, detail: string): void {
    this.down.push({ linkId, code, detail });
    this.#wake();
  }
  frames(linkId: number, memory: Uint8Array, ranges: Uint32Array, count: number): void {
    const frames = this.received.get(linkId);
    if (frames === undefined) throw new Error("frames before linkUp");
    if (this.down.some((down) => down.linkId === linkId)) throw new Error("frames after linkDown");
    for (let i = 0; i < count; i++) {
      const offset = ranges[2 * i] ?? 0;
      frames.push(memory.slice(offset, offset + (ranges[2 * i + 1] ?? 0)));
    }
    this.onFramesHook?.(linkId);
    this.#wake();
  }
  sent(linkId: number, totalBytes: number): void {
    expect(totalBytes).toBeGreaterThan(this.sentBytes.get(linkId) ?? 0);
    this.sentBytes.set(linkId, totalBytes);
    this.#wake();
  }
  framesOf(linkId: number): Uint8Array[] {
    return this.received.get(linkId) ?? [];
  }
  until(condition: () => boolean): Promise<void> {
    if (condition()) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ until: condition, resolve }));
  }
  #wake(): void {
    for (const waiter of this.#waiting.filter((each) => each.until())) {
      this.#waiting = this.#waiting.filter((each) => each !== waiter);
      waiter.resolve();
    }
  }
}

/** Equality of much: the runner's own comparison looks at every element. */
export function expectBytes(got: readonly Uint8Array[], want: readonly Uint8Array[]): void {
  expect(got.map((part) => part.length)).toEqual(want.map((part) => part.length));
  expect(Buffer.compare(concat(got), concat(want))).toBe(0);
}

/** Turns of the event loop, for "nothing more happens". */
export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

export function transportContract(name: string, subject: ContractSubject): void {
  const make = (arena = subject.arena?.() ?? new PlainArena(256 * 1024, 4)) => {
    const transport = subject.make(arena);
    const recorder = new Recorder();
    transport.attach(recorder);
    onTestFinished(() => transport.shutdown());
    return { transport, recorder, arena };
  };
  const pair = async (listenerArena?: ReceiveArena) => {
    const listener = make(listenerArena);
    const opener = make();
    const listening = await listener.transport.listen(subject.any);
    opener.transport.open(1, listening.address);
    await opener.recorder.until(() => opener.recorder.up.length === 1);
    await listener.recorder.until(() => listener.recorder.up.length === 1);
    return { listener, opener, inbound: listener.recorder.up[0]?.linkId ?? 0, listening };
  };

  describe(`${name}: transport contract`, () => {
    test("a link comes up on both sides, with direction and an even inbound id", async () => {
      const { listener, opener, inbound } = await pair();
      expect(opener.recorder.up[0]).toMatchObject({ linkId: 1, direction: "outbound" });
      expect(listener.recorder.up[0]).toMatchObject({ direction: "inbound" });
      expect(inbound % 2).toBe(0);
      expect(listener.transport.stats()).toMatchObject({ links: 1, accepted: 1 });
    });

    test("frames arrive whole and in order, both ways at once", async () => {
      const { listener, opener, inbound } = await pair();
      const there = Array.from({ length: 2000 }, (_, i) => frameOf(8 + (i % 300), i, DATA_TYPE));
      const back = Array.from({ length: 1000 }, (_, i) => frameOf(8 + (i % 999), i + 7, DATA_TYPE));
      for (const frame of there) opener.transport.send(1, frame);
      for (const frame of back) listener.transport.send(inbound, frame);
      await listener.recorder.until(() => listener.recorder.framesOf(inbound).length === 2000);
      await opener.recorder.until(() => opener.recorder.framesOf(1).length === 1000);
      expectBytes(listener.recorder.framesOf(inbound), there);
      expectBytes(opener.recorder.framesOf(1), back);
    });

    test("frames cut over many sends arrive whole", async () => {
      const { listener, opener, inbound } = await pair();
      const frames = Array.from({ length: 40 }, (_, i) => frameOf(8 + i * 7, i));
      const stream = concat(frames);
      for (let at = 0; at < stream.length; at += 13) {
        opener.transport.send(1, stream.slice(at, at + 13));
        if (at % 39 === 0) await turns(1);
      }
      await listener.recorder.until(() => listener.recorder.framesOf(inbound).length === 40);
      expectBytes(listener.recorder.framesOf(inbound), frames);
    });

    test("the largest frames arrive; sent reaches their total", async () => {
      const { listener, opener, inbound } = await pair();
      const frames = Array.from({ length: 20 }, (_, i) => frameOf(256 * 1024, i, DATA_TYPE));
      for (const frame of frames) opener.transport.send(1, frame);
      const total = 20 * 256 * 1024;
      await opener.recorder.until(() => opener.recorder.sentBytes.get(1) === total);
      await listener.recorder.until(() => listener.recorder.framesOf(inbound).length === 20);
      expectBytes(listener.recorder.framesOf(inbound), frames);
    });

    test("bytes leave from shared memory, back-to-back views included", async () => {
      const { listener, opener, inbound } = await pair();
      const frames = Array.from({ length: 64 }, (_, i) => frameOf(16 * 1024, i, DATA_TYPE));
      const memory = new Uint8Array(new SharedArrayBuffer(1024 * 1024));
      memory.set(concat(frames));
      for (let i = 0; i < 64; i++) {
        opener.transport.send(1, memory.subarray(i * 16_384, (i + 1) * 16_384));
      }
      await listener.recorder.until(() => listener.recorder.framesOf(inbound).length === 64);
      expectBytes(listener.recorder.framesOf(inbound), frames);
    });

    test("a receiver without memory stops the sender's progress; resume goes on", async () => {
      const arena = new PlainArena(256 * 1024, 4);
      const giveBack = arena.exhaust();
      const { listener, opener, inbound } = await pair(arena);
      const frames = Array.from({ length: 1024 }, (_, i) => frameOf(16 * 1024, i, DATA_TYPE));
      for (const frame of frames) opener.transport.send(1, frame);
      const paused = () => listener.transport.stats().pauses > 0;
      while (!paused()) await turns(1);
      await turns(50);
      listener.transport.resume();
      await turns(50);
      // Socket buffers of the system take some; far from all of 16 MiB.
      expect(opener.recorder.sentBytes.get(1) ?? 0).toBeLessThan(12 * 1024 * 1024);
      expect(listener.recorder.framesOf(inbound)).toEqual([]);
      giveBack();
      listener.transport.resume();
      await listener.recorder.until(() => listener.recorder.framesOf(inbound).length === 1024);
      expectBytes(listener.recorder.framesOf(inbound), frames);
    });

    test("an orderly close delivers what was sent before it", async () => {
      const { listener, opener, inbound } = await pair();
      const frames = Array.from({ length: 100 }, (_, i) => frameOf(60_000, i, DATA_TYPE));
      for (const frame of frames) opener.transport.send(1, frame);
      opener.transport.close(1, false);
      opener.transport.send(1, frameOf(8, 0));
      await listener.recorder.until(() => listener.recorder.down.length === 1);
      await opener.recorder.until(() => opener.recorder.down.length === 1);
      expectBytes(listener.recorder.framesOf(inbound), frames);
      expect(listener.recorder.down[0]).toMatchObject({ linkId: inbound, code: "LINK_CLOSED" });
      expect(opener.recorder.down[0]).toMatchObject({ linkId: 1, code: "LINK_CLOSED" });
    });

    test("both sides may close at once; each gets one linkDown", async () => {
      const { listener, opener, inbound } = await pair();
      listener.transport.send(inbound, frameOf(200_000, 1, DATA_TYPE));
      opener.transport.send(1, frameOf(200_000, 1, DATA_TYPE));
      listener.transport.close(inbound, false);
      opener.transport.close(1, false);
      await listener.recorder.until(() => listener.recorder.down.length === 1);
      await opener.recorder.until(() => opener.recorder.down.length === 1);
      await turns(20);
      expect(listener.recorder.down).toHaveLength(1);
      expect(opener.recorder.down).toHaveLength(1);
    });

    test("an abort is seen as a reset, at most once, and not from within the call", async () => {
      const { listener, opener } = await pair();
      opener.transport.send(1, frameOf(200_000, 1, DATA_TYPE));
      opener.transport.close(1, true);
      expect(opener.recorder.down).toEqual([]);
      opener.transport.close(1, true);
      opener.transport.close(1, false);
      await opener.recorder.until(() => opener.recorder.down.length === 1);
      await listener.recorder.until(() => listener.recorder.down.length === 1);
      await turns(20);
      expect(opener.recorder.down).toHaveLength(1);
      expect(opener.recorder.down[0]?.code).toBe("LINK_CLOSED");
      expect(listener.recorder.down[0]?.code).toBe("LINK_RESET");
      expect(listener.transport.stats().links).toBe(0);
    });

    test("a link may be closed while it delivers frames", async () => {
      const { listener, opener, inbound } = await pair();
      listener.recorder.onFramesHook = (linkId) => listener.transport.close(linkId, true);
      for (let i = 0; i < 100; i++) opener.transport.send(1, frameOf(5000, i));
      await listener.recorder.until(() => listener.recorder.down.length === 1);
      const count = listener.recorder.framesOf(inbound).length;
      await opener.recorder.until(() => opener.recorder.down.length === 1);
      await turns(20);
      expect(listener.recorder.framesOf(inbound)).toHaveLength(count);
    });

    test.each<[string, Uint8Array, ErrorCode]>([
      ["malformed", new Uint8Array(64).fill(9), "FRAME_MALFORMED"],
      ["zero-length", new Uint8Array(16), "FRAME_MALFORMED"],
      ["oversize", frameOf(256 * 1024 + 1, 1, DATA_TYPE), "FRAME_TOO_LARGE"],
      ["oversize control", frameOf(16 * 1024 + 1, 1), "FRAME_TOO_LARGE"],
    ])("a %s frame closes the link; good frames before it count", async (_, bad, code) => {
      const { listener, opener, inbound } = await pair();
      opener.transport.send(1, frameOf(100, 3));
      opener.transport.send(1, bad);
      await listener.recorder.until(() => listener.recorder.down.length === 1);
      expect(listener.recorder.down[0]).toMatchObject({ linkId: inbound, code });
      expect(listener.recorder.framesOf(inbound)).toEqual([frameOf(100, 3)]);
      await opener.recorder.until(() => opener.recorder.down.length === 1);
      expect(opener.recorder.down[0]?.code).toBe("LINK_RESET");
    });

    test("an address where nobody listens is UNREACHABLE", async () => {
      const { listening, opener, listener } = await pair();
      await listening.close();
      opener.transport.open(3, listening.address);
      await opener.recorder.until(() => opener.recorder.down.length === 1);
      expect(opener.recorder.down[0]).toMatchObject({ linkId: 3, code: "UNREACHABLE" });
      expect(listener.recorder.down).toEqual([]);
      opener.transport.send(1, frameOf(20, 1));
      await listener.recorder.until(() => listener.recorder.framesOf(2).length === 1);
    });

    test("an address in use is refused with ADDRESS_IN_USE", async () => {
      const { listening } = await pair();
      const second = make();
      await expect(second.transport.listen(listening.address)).rejects.toMatchObject({
        code: "ADDRESS_IN_USE",
      });
    });

    test("a link closed before it came up goes down", async () => {
      const { listening, opener } = await pair();
      opener.transport.open(3, listening.address);
      opener.transport.close(3, false);
      await opener.recorder.until(() => opener.recorder.down.length === 1);
      expect(opener.recorder.down[0]).toMatchObject({ linkId: 3, code: "LINK_CLOSED" });
      expect(opener.recorder.up).toHaveLength(1);
    });

    test("one busy link leaves turns for another", async () => {
      const { listener, opener, inbound, listening } = await pair();
      const quiet = make();
      quiet.transport.open(1, listening.address);
      await listener.recorder.until(() => listener.recorder.up.length === 2);
      const busyFrames = 2000;
      for (let i = 0; i < busyFrames; i++) opener.transport.send(1, frameOf(16_384, i, DATA_TYPE));
      quiet.transport.send(1, frameOf(20, 1));
      const quietInbound = listener.recorder.up[1]?.linkId ?? 0;
      await listener.recorder.until(() => listener.recorder.framesOf(quietInbound).length === 1);
      expect(listener.recorder.framesOf(inbound).length).toBeLessThan(busyFrames);
    });

    test("shutdown releases everything", async () => {
      const arena = new PlainArena(256 * 1024, 4);
      const { listener, opener } = await pair(arena);
      await listener.transport.shutdown();
      await opener.recorder.until(() => opener.recorder.down.length === 1);
      expect(listener.transport.stats().links).toBe(0);
      expect(arena.freeSegments).toBe(4);
      expect(listener.recorder.down).toEqual([]);
    });
  });
}
