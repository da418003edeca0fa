import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AssertionError } from "../../src/base/assert.ts";
import { OperationError } from "../../src/base/errors.ts";
import type { ReceiveCursor } from "../../src/base/receive-arena.ts";
import { EngineMemory, type SegmentOwner } from "../../src/kernel/engine-memory.ts";
import { createJsKernel } from "../../src/kernel/js-kernel.ts";

const KIB = 1024;

function memoryOf(memoryBytes = 128 * KIB, segmentBytes = 4 * KIB): EngineMemory {
  return new EngineMemory(createJsKernel({ memoryBytes }), { segmentBytes });
}

function write(memory: EngineMemory, cursor: ReceiveCursor, bytes: number, fill: number): void {
  const at = cursor.writeOffset;
  memory.bytes.fill(fill, at, at + bytes);
  cursor.commit(bytes);
}

describe("tables", () => {
  test("are zeroed, aligned, apart, and all come back", () => {
    const memory = memoryOf();
    const sizes = [1, 8, 128, 200, 1024, 2048, 2049, 4096, 4097, 20_000];
    const offsets = sizes.map((size, i) => {
      const offset = memory.allocate(size);
      expect(offset % 8).toBe(0);
      expect(memory.bytes.subarray(offset, offset + size).every((byte) => byte === 0)).toBe(true);
      memory.bytes.fill(i + 1, offset, offset + size);
      memory.checkInvariants();
      return offset;
    });
    sizes.forEach((size, i) => {
      const offset = offsets[i] as number;
      expect(memory.bytes.subarray(offset, offset + size).every((b) => b === i + 1)).toBe(true);
      memory.free(offset);
      memory.checkInvariants();
    });
    expect(memory.freeSegments).toBe(memory.segmentCount);
  });

  test("small ones share a segment", () => {
    const memory = memoryOf();
    for (let i = 0; i < 32; i++) memory.allocate(128);
    expect(memory.segmentCount - memory.freeSegments).toBe(1);
  });

  test("that do not fit name the memoryMiB to set", () => {
    const memory = memoryOf();
    expect(() => memory.allocate(3 * 1024 * KIB)).toThrow(OperationError);
    expect(() => memory.allocate(3 * 1024 * KIB)).toThrow(/set memoryMiB to 4 or more/);
    memory.checkInvariants();
  });

  test("freed twice are a bug", () => {
    const memory = memoryOf();
    const offset = memory.allocate(100);
    memory.free(offset);
    expect(() => memory.free(offset)).toThrow(AssertionError);
  });
});

describe("cursors", () => {
  test("what nobody retained costs no memory", () => {
    const memory = memoryOf();
    const cursor = memory.open();
    expect(cursor.reserve(8)).toBe(true);
    const start = cursor.writeOffset;
    for (let i = 0; i < 10_000; i++) {
      expect(cursor.reserve(100)).toBe(true);
      expect(cursor.writeOffset).toBe(start);
      write(memory, cursor, 100, i);
      cursor.consume(100);
    }
    expect(memory.segmentCount - memory.freeSegments).toBe(1);
    cursor.close();
    expect(memory.freeSegments).toBe(memory.segmentCount);
  });

  test("write on past the last retained range", () => {
    const memory = memoryOf();
    const cursor = memory.open();
    cursor.reserve(100);
    const start = cursor.writeOffset;
    write(memory, cursor, 300, 1);
    memory.retain(start + 100, 100);
    cursor.consume(300);
    expect(cursor.writeOffset).toBe(start + 200);
    memory.release(start + 100, 100);
    cursor.reserve(8);
    expect(cursor.writeOffset).toBe(start);
  });

  test("move an unfinished frame to a fresh segment", () => {
    const memory = memoryOf();
    const cursor = memory.open();
    cursor.reserve(4000);
    write(memory, cursor, 3000, 1);
    memory.retain(cursor.parseOffset, 3000);
    cursor.consume(3000);
    write(memory, cursor, 500, 7);
    const before = cursor.parseOffset;
    expect(cursor.reserve(2000)).toBe(true);
    expect(cursor.parseOffset).not.toBe(before);
    expect(cursor.parsableBytes).toBe(500);
    expect(memory.bytes.subarray(cursor.parseOffset, cursor.writeOffset)).toEqual(
      new Uint8Array(500).fill(7),
    );
    expect(cursor.writableBytes).toBeGreaterThanOrEqual(1500);
  });

  test("say so when memory is exhausted, and go on after a release", () => {
    const memory = memoryOf(64 * KIB);
    const cursor = memory.open();
    const kept: number[] = [];
    while (cursor.reserve(4096)) {
      write(memory, cursor, 4096, 1);
      memory.retain(cursor.parseOffset, 4096);
      kept.push(cursor.parseOffset);
      cursor.consume(4096);
    }
    expect(memory.freeSegments).toBe(1);
    expect(() => memory.allocate(64)).toThrow(OperationError);
    memory.release(kept[0] as number, 4096);
    expect(cursor.reserve(4096)).toBe(true);
    memory.checkInvariants();
  });

  test("a generation tells a recycled segment", () => {
    const memory = memoryOf();
    const cursor = memory.open();
    cursor.reserve(100);
    const at = cursor.writeOffset;
    const generation = memory.generationOf(at);
    cursor.close();
    expect(memory.generationOf(at)).toBe(generation + 1);
  });

  test("a release without its retain is a bug", () => {
    const memory = memoryOf();
    const cursor = memory.open();
    cursor.reserve(100);
    const at = cursor.writeOffset;
    write(memory, cursor, 200, 1);
    memory.retain(at, 100);
    memory.retain(at + 100, 100);
    expect(() => memory.release(at, 201)).toThrow(/fewer are retained/);
    memory.release(at, 100);
    expect(() => memory.release(at, 50)).toThrow(/names the bytes/);
    memory.release(at + 100, 100);
    expect(() => memory.release(at, 100)).toThrow(/nothing retained/);
    cursor.consume(200);
    cursor.close();
    expect(() => memory.release(at, 100)).toThrow(/not in use/);
    expect(() => memory.retain(at, 100)).toThrow(/only what a cursor wrote/);
    expect(() => memory.retain(0, 100)).toThrow(AssertionError);
  });
});

/** Keeps fragments and knows what must lie in them. */
class ModelOwner implements SegmentOwner {
  readonly #memory: EngineMemory;
  readonly kept: { offset: number; bytes: number; fill: number; pins: number[] }[] = [];
  constructor(memory: EngineMemory) {
    this.#memory = memory;
  }

  keep(offset: number, bytes: number, fill: number): void {
    this.#memory.retain(offset, bytes);
    this.kept.push({ offset, bytes, fill, pins: [] });
  }

  drop(at: number): void {
    const fragment = this.kept[at];
    if (fragment === undefined || fragment.pins.length > 0) return;
    this.#memory.release(fragment.offset, fragment.bytes);
    this.kept.splice(at, 1);
  }

  pin(at: number): void {
    const fragment = this.kept[at];
    if (fragment === undefined) return;
    this.#memory.retain(fragment.offset, fragment.bytes);
    fragment.pins.push(fragment.offset);
  }

  unpin(at: number): void {
    const fragment = this.kept[at];
    const offset = fragment?.pins.pop();
    if (fragment === undefined || offset === undefined) return;
    this.#memory.release(offset, fragment.bytes);
  }

  relocate(
    start: number,
    end: number,
    move: (offset: number, bytes: number) => number | undefined,
  ): void {
    for (const fragment of this.kept) {
      if (fragment.offset < start || fragment.offset >= end || fragment.pins.length > 0) continue;
      const moved = move(fragment.offset, fragment.bytes);
      if (moved === undefined) return;
      this.#memory.release(fragment.offset, fragment.bytes);
      fragment.offset = moved;
    }
  }

  check(): void {
    const { bytes } = this.#memory;
    for (const fragment of this.kept) {
      for (let i = 0; i < fragment.bytes; i++) {
        if (bytes[fragment.offset + i] === fragment.fill) continue;
        throw new Error(`a retained range changed at ${fragment.offset + i}`);
      }
    }
  }
}

describe("compaction", () => {
  test("empties sparse segments and keeps contents", () => {
    const memory = memoryOf(128 * KIB);
    const owner = new ModelOwner(memory);
    memory.addOwner(owner);
    const cursor = memory.open();
    for (let i = 0; cursor.reserve(1000); i++) {
      write(memory, cursor, 1000, i);
      owner.keep(cursor.parseOffset, 1000, i & 255);
      cursor.consume(1000);
    }
    for (let i = owner.kept.length - 1; i >= 0; i--) if (i % 4 !== 0) owner.drop(i);
    expect(memory.freeSegments).toBe(1);
    while (memory.compact()) {
      owner.check();
      memory.checkInvariants();
    }
    expect(memory.freeSegments).toBeGreaterThan(memory.segmentCount / 2);
    owner.check();
    memory.removeOwner(owner);
    cursor.close();
    while (owner.kept.length > 0) owner.drop(0);
    memory.compact();
    expect(memory.freeSegments).toBe(memory.segmentCount);
  });

  test("leaves what is pinned where it is", () => {
    const memory = memoryOf();
    const owner = new ModelOwner(memory);
    memory.addOwner(owner);
    const cursor = memory.open();
    cursor.reserve(100);
    write(memory, cursor, 100, 3);
    owner.keep(cursor.parseOffset, 100, 3);
    cursor.consume(100);
    cursor.close();
    owner.pin(0);
    const before = owner.kept[0]?.offset;
    expect(memory.compact()).toBe(false);
    expect(owner.kept[0]?.offset).toBe(before);
    owner.unpin(0);
    owner.check();
  });
});

test("random use keeps contents and gives all memory back", () => {
  const step = fc.record({
    kind: fc.constantFrom(
      "read",
      "keep",
      "skip",
      "drop",
      "pin",
      "unpin",
      "table",
      "free",
      "compact",
      "close",
    ),
    which: fc.nat(1 << 20),
    bytes: fc.integer({ min: 1, max: 2000 }),
  });
  let steps = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 200, size: "max" }), (script) => {
      const memory = memoryOf(64 * KIB, 4 * KIB);
      const owner = new ModelOwner(memory);
      memory.addOwner(owner);
      const cursors = [memory.open(), memory.open(), memory.open()];
      // The frames not consumed of each cursor, as (bytes, fill).
      const unread: { bytes: number; fill: number }[][] = [[], [], []];
      const tables: number[] = [];
      script.forEach(({ kind, which, bytes }, i) => {
        steps++;
        const slot = which % 3;
        const cursor = cursors[slot] as ReceiveCursor;
        const frames = unread[slot] as { bytes: number; fill: number }[];
        const fragment = owner.kept.length === 0 ? 0 : which % owner.kept.length;
        const fill = i & 255;
        if (kind === "read") {
          const needed = cursor.parsableBytes + bytes;
          if (needed > memory.segmentBytes || !cursor.reserve(needed)) return;
          write(memory, cursor, bytes, fill);
          frames.push({ bytes, fill });
        } else if (kind === "keep" || kind === "skip") {
          const frame = frames.shift();
          if (frame === undefined) return;
          const at = cursor.parseOffset;
          const found = memory.bytes.subarray(at, at + frame.bytes);
          expect(found.every((byte) => byte === frame.fill)).toBe(true);
          if (kind === "keep") owner.keep(at, frame.bytes, frame.fill);
          cursor.consume(frame.bytes);
        } else if (kind === "drop") owner.drop(fragment);
        else if (kind === "pin") owner.pin(fragment);
        else if (kind === "unpin") owner.unpin(fragment);
        else if (kind === "table") {
          try {
            tables.push(memory.allocate(bytes * 3));
          } catch (error) {
            expect(error).toBeInstanceOf(OperationError);
          }
        } else if (kind === "free") {
          const table = tables.shift();
          if (table !== undefined) memory.free(table);
        } else if (kind === "compact") memory.compact();
        else {
          cursor.close();
          cursors[slot] = memory.open();
          frames.length = 0;
        }
        memory.checkInvariants();
        owner.check();
      });
      for (const cursor of cursors) cursor.close();
      for (let i = owner.kept.length - 1; i >= 0; i--) {
        while ((owner.kept[i]?.pins.length ?? 0) > 0) owner.unpin(i);
        owner.drop(i);
      }
      for (const table of tables) memory.free(table);
      memory.compact();
      memory.checkInvariants();
      expect(memory.freeSegments).toBe(memory.segmentCount);
    }),
    { numRuns: 300 },
  );
  expect(steps).toBeGreaterThan(10_000);
});
