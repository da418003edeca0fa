import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ErrorCode } from "../../src/base/errors.ts";
import type { ReceiveArena } from "../../src/base/receive-arena.ts";
import { FrameReader, type FrameReaderOptions } from "../../src/transport/frame-reader.ts";
import { CONTROL_TYPE, concat, DATA_TYPE, frameOf } from "./frames.ts";
import { PlainArena } from "./plain-arena.ts";

interface Read {
  readonly frames: Uint8Array[];
  /** Frames of each hand-over. */
  readonly batches: number[];
  readonly failure: ErrorCode | undefined;
  readonly takenBytes: number;
}

/** Feeds `stream` to a reader, at most the next of `cuts` bytes a read (cyclic). */
function readAll(
  arena: ReceiveArena,
  stream: Uint8Array,
  cuts: readonly number[],
  options: FrameReaderOptions = {},
): Read {
  const reader = new FrameReader(arena.bytes, arena.open(), options);
  const frames: Uint8Array[] = [];
  const batches: number[] = [];
  let failure: ErrorCode | undefined;
  let at = 0;
  let turn = 0;
  while (at < stream.length && failure === undefined) {
    const space = reader.space();
    if (space === undefined) throw new Error("memory exhausted");
    expect(space.length).toBeGreaterThan(0);
    const cut = cuts[turn++ % cuts.length] ?? 1;
    const bytes = Math.min(cut, space.length, stream.length - at);
    arena.bytes.set(stream.subarray(at, at + bytes), space.offset);
    at += bytes;
    failure = reader.received(bytes, (memory, ranges, count) => {
      batches.push(count);
      for (let i = 0; i < count; i++) {
        const offset = ranges[2 * i] ?? 0;
        frames.push(memory.slice(offset, offset + (ranges[2 * i + 1] ?? 0)));
      }
    });
  }
  reader.close();
  return { frames, batches, failure, takenBytes: at };
}

describe("FrameReader", () => {
  test("any cutting into pieces gives the same frames", () => {
    const sizes = fc.array(
      fc.oneof(fc.integer({ min: 8, max: 40 }), fc.integer({ min: 8, max: 900 })),
      {
        minLength: 1,
        maxLength: 40,
      },
    );
    const cuts = fc.array(fc.integer({ min: 1, max: 1024 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(sizes, cuts, (frameSizes, pieces) => {
        const sent = frameSizes.map((bytes, i) => frameOf(bytes, i, DATA_TYPE));
        const arena = new PlainArena(1024, 1);
        const read = readAll(arena, concat(sent), pieces);
        expect(read.failure).toBeUndefined();
        expect(read.frames).toEqual(sent);
        expect(arena.freeSegments).toBe(1);
      }),
      { numRuns: 300 },
    );
  });

  test("all frames of one read are handed over in one call", () => {
    const sent = Array.from({ length: 500 }, (_, i) => frameOf(8 + (i % 5), i));
    const read = readAll(new PlainArena(), concat(sent), [1 << 20]);
    expect(read.batches).toEqual([500]);
    expect(read.frames).toEqual(sent);
  });

  test("a frame that fills the segment arrives whole behind a small one", () => {
    const sent = [frameOf(100, 1), frameOf(4096, 2, DATA_TYPE), frameOf(9, 3)];
    const read = readAll(new PlainArena(4096, 1), concat(sent), [3000]);
    expect(read.frames).toEqual(sent);
  });

  test.each<[string, Uint8Array, ErrorCode]>([
    ["a length of zero", new Uint8Array(8), "FRAME_MALFORMED"],
    ["a length below the header", frameWith({ 0: 7 }), "FRAME_MALFORMED"],
    ["a wrong magic", frameWith({ 4: 0xb5 }), "FRAME_MALFORMED"],
    ["version 0", frameWith({ 5: 0 }), "VERSION_UNSUPPORTED"],
    ["a future version", frameWith({ 5: 2 }), "VERSION_UNSUPPORTED"],
    ["more than any frame may have", frameWith({ 2: 0xff, 6: DATA_TYPE }), "FRAME_TOO_LARGE"],
    ["more than a control frame may have", frameWith({ 1: 0x80 }), "FRAME_TOO_LARGE"],
    ["a length past 2^31", frameWith({ 3: 0xff, 6: DATA_TYPE }), "FRAME_TOO_LARGE"],
  ])("refuses %s at its header, after the good frames before it", (_, bad, code) => {
    const good = [frameOf(20, 1), frameOf(30, 2)];
    const stream = concat([...good, bad, new Uint8Array(5000)]);
    for (const cuts of [[1], [7], [1 << 20]]) {
      const read = readAll(new PlainArena(), stream, cuts);
      expect(read.failure).toBe(code);
      expect(read.frames).toEqual(good);
      if (cuts[0] === 1) expect(read.takenBytes).toBeLessThanOrEqual(50 + 8);
    }
  });

  test("a large DATA frame passes where a control frame of that size does not", () => {
    const large = frameOf(40_000, 5, DATA_TYPE);
    expect(readAll(new PlainArena(), large, [999]).frames).toEqual([large]);
    expect(readAll(new PlainArena(), frameOf(40_000, 5, CONTROL_TYPE), [999]).failure).toBe(
      "FRAME_TOO_LARGE",
    );
    const options = { maxFrameBytes: 30_000 };
    expect(readAll(new PlainArena(), large, [999], options).failure).toBe("FRAME_TOO_LARGE");
  });

  test("after an error nothing more is handed over and no space is given", () => {
    const arena = new PlainArena();
    const reader = new FrameReader(arena.bytes, arena.open());
    const space = reader.space();
    arena.bytes.set(new Uint8Array(8), space?.offset);
    let calls = 0;
    expect(reader.received(8, () => calls++)).toBe("FRAME_MALFORMED");
    expect(reader.space()).toBeUndefined();
    expect(reader.received(0, () => calls++)).toBe("FRAME_MALFORMED");
    expect(calls).toBe(0);
  });

  test("exhausted memory gives no space until some is free again", () => {
    const arena = new PlainArena(4096, 1);
    const giveBack = arena.exhaust();
    const reader = new FrameReader(arena.bytes, arena.open());
    expect(reader.space()).toBeUndefined();
    giveBack();
    expect(reader.space()?.length).toBe(4096);
  });

  test("a receiver may close the reader while it takes frames", () => {
    const arena = new PlainArena(4096, 1);
    const reader = new FrameReader(arena.bytes, arena.open());
    arena.bytes.set(frameOf(20, 1), reader.space()?.offset);
    expect(reader.received(20, () => reader.close())).toBeUndefined();
    expect(reader.space()).toBeUndefined();
    expect(arena.freeSegments).toBe(1);
  });
});

/** A 16-byte control frame with some header bytes replaced. */
function frameWith(bytes: Record<number, number>): Uint8Array {
  const frame = frameOf(16, 9);
  for (const [at, value] of Object.entries(bytes)) frame[Number(at)] = value;
  return frame;
}
