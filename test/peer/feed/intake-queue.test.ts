/** What waits between a data source's link and the overlay: order, bounds, pieces, memory. */

import v8 from "node:v8";
import vm from "node:vm";
import { describe, expect, it } from "vitest";
import { FEED_ASSEMBLY_BYTES_MAX } from "../../../src/base/limits.ts";
import { AssemblyBudget } from "../../../src/peer/feed/assembly-budget.ts";
import { IntakeQueue } from "../../../src/peer/feed/intake-queue.ts";
import { DatumFrame, readDatumFrame } from "../../../src/protocol/r11.ts";
import { datumFrame } from "../../support/raw-data-source.ts";

const BIG = FEED_ASSEMBLY_BYTES_MAX / 4;

/** A queue before an overlay that takes `room` more data. */
class Driven {
  room = 0;
  next = 1;
  readonly taken: { readonly payload: string; readonly timestampUs: number }[] = [];
  /** The memory that the last write came from; asked for, it lives to the next turn of the loop. */
  lent: WeakRef<ArrayBufferLike> | undefined;
  lends = false;
  readonly queue: IntakeQueue;
  readonly #frame = new DatumFrame();

  constructor(budget = new AssemblyBudget()) {
    const sink = {
      write: (id: string, payloads: Uint8Array, lengths: Uint32Array, timestampUs: number) => {
        if (id !== "pump") throw new Error(id);
        const count = Math.min(lengths.length, this.room);
        this.room -= count;
        let at = 0;
        for (let i = 0; i < count; i++) {
          const payload = payloads.subarray(at, at + (lengths[i] as number));
          at += payload.length;
          const text = payload.length > 100 ? `${payload.length} bytes` : payload.join();
          this.taken.push({ payload: text, timestampUs });
        }
        if (this.lends && count > 0) this.lent = new WeakRef(payloads.buffer);
        return count;
      },
    };
    this.queue = new IntakeQueue("pump", sink, budget);
  }

  get payloads(): string[] {
    return this.taken.map(({ payload }) => payload);
  }

  /** Offers a frame whose memory is overwritten afterwards, as that of a link is. */
  offer(frame: Buffer, skip = 0): void {
    const bytes = Uint8Array.from(frame);
    readDatumFrame(bytes, 0, bytes.length, this.#frame);
    this.queue.offer(bytes, this.#frame, skip, bytes.length);
    bytes.fill(0xee);
  }

  /** A frame of data of one byte each, which is their number. Returns its size. */
  small(count = 1, skip = 0): number {
    const data = Array.from({ length: count }, (_, i) => ({
      payload: Uint8Array.of(this.next + i),
    }));
    const frame = datumFrame(this.next, data);
    this.next += count;
    this.offer(frame, skip);
    return frame.length;
  }

  piece(first: number, total: number, offset: number, bytes: number): number {
    const frame = datumFrame(first, [{ payload: new Uint8Array(bytes) }], { total, offset });
    this.offer(frame);
    return frame.length;
  }

  big(first: number, total: number): void {
    const half = total / 2;
    this.piece(first, total, 0, half);
    this.piece(first, total, half, half);
  }
}

describe("the intake queue", () => {
  it("passes on at once what is taken, and keeps nothing of it", () => {
    const driven = new Driven();
    driven.room = 10;
    driven.small(3);
    driven.small(2, 1);
    expect(driven.payloads).toEqual(["1", "2", "3", "5"]);
    expect(driven.queue.bytes).toBe(0);
    expect(driven.queue.isEmpty).toBe(true);
  });

  it("keeps the rest in order, and counts whole frames until the last of each is taken", () => {
    const driven = new Driven();
    driven.room = 1;
    const frames = [driven.small(3), driven.small(2)] as const;
    expect(driven.payloads).toEqual(["1"]);
    expect(driven.queue.bytes).toBe(frames[0] + frames[1]);
    expect(driven.queue.drain(1_000)).toBe(false);
    driven.room = 3;
    expect(driven.queue.drain(1_000)).toBe(false);
    expect(driven.queue.bytes).toBe(frames[1]);
    expect(driven.queue.isEmpty).toBe(false);
    // What comes now waits behind.
    driven.room = 9;
    driven.small(1);
    expect(driven.payloads).toEqual(["1", "2", "3", "4"]);
    expect(driven.queue.drain(1_000)).toBe(false);
    expect(driven.payloads).toEqual(["1", "2", "3", "4", "5", "6"]);
    expect([driven.queue.bytes, driven.queue.isEmpty]).toEqual([0, true]);
  });

  it("goes on with about as much as it is told, and says that there is more", () => {
    const driven = new Driven();
    let frameBytes = 0;
    for (let i = 0; i < 10; i++) frameBytes = driven.small();
    driven.room = 10;
    expect(driven.queue.drain(3 * frameBytes)).toBe(true);
    expect(driven.payloads).toEqual(["1", "2", "3"]);
    expect(driven.queue.bytes).toBe(7 * frameBytes);
    expect(driven.queue.drain(100 * frameBytes)).toBe(false);
    expect(driven.taken.length).toBe(10);
  });

  it("gives each datum its own time", () => {
    const driven = new Driven();
    const data = [0, 0, 7, -2].map((deltaUs) => ({ payload: Uint8Array.of(9), deltaUs }));
    driven.offer(datumFrame(1, data, { baseUs: 1_000 }));
    driven.room = 3;
    driven.queue.drain(1_000);
    driven.room = 1;
    driven.queue.drain(1_000);
    expect(driven.taken.map(({ timestampUs }) => timestampUs)).toEqual([1_000, 1_000, 1_007, 998]);
  });

  it("holds on to nothing that has gone on, however long it is never empty", async () => {
    v8.setFlagsFromString("--expose-gc");
    const collect = vm.runInNewContext("gc") as () => void;
    const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    const driven = new Driven();
    const frameBytes = driven.small();
    const rounds = (count: number): void => {
      for (let i = 0; i < count; i++) {
        driven.next = 1;
        driven.small();
        driven.room = 1;
        driven.queue.drain(1);
        driven.taken.length = 0;
      }
    };
    const heapBytes = async (): Promise<number> => {
      await nextTurn();
      collect();
      return process.memoryUsage().heapUsed;
    };
    rounds(1_000);
    const before = await heapBytes();
    // A place in a list for each, with nothing in it, would be 800 kB.
    rounds(100_000);
    expect(driven.queue.bytes).toBe(frameBytes);
    expect((await heapBytes()) - before).toBeLessThan(400_000);
    // Nor does what went last stay until the list is made short.
    driven.lends = true;
    rounds(10);
    await heapBytes();
    expect(driven.lent).toBeDefined();
    expect(driven.lent?.deref()).toBeUndefined();
    expect(driven.queue.isEmpty).toBe(false);
  });

  it("puts pieces together; a datum that is whole waits as one and its pieces are done with", () => {
    const driven = new Driven();
    driven.piece(1, 300, 0, 100);
    driven.piece(1, 300, 100, 100);
    expect([driven.queue.bytes, driven.queue.isEmpty]).toEqual([0, true]);
    driven.piece(1, 300, 200, 100);
    expect([driven.queue.bytes, driven.queue.isEmpty]).toEqual([0, false]);
    driven.next = 2;
    const behind = driven.small();
    driven.room = 1;
    driven.queue.drain(1_000);
    expect(driven.payloads).toEqual(["300 bytes"]);
    expect(driven.queue.bytes).toBe(behind);
    driven.room = 1;
    driven.queue.drain(1_000);
    expect(driven.payloads).toEqual(["300 bytes", "2"]);
  });

  it("has memory for what has come of big data, not for what was announced", () => {
    const budget = new AssemblyBudget();
    for (let i = 0; i < 100; i++) new Driven(budget).piece(1, BIG, 0, 1_000);
    const last = new Driven(budget);
    last.room = 1;
    last.big(1, BIG);
    expect(last.payloads).toEqual([`${BIG} bytes`]);
  });

  it("shares one budget for big data; who finds none left waits until it is given back", () => {
    const budget = new AssemblyBudget();
    const others = [1, 2, 3].map(() => new Driven(budget));
    for (const other of others) {
      other.piece(1, BIG, 0, BIG / 2);
      other.piece(1, BIG, BIG / 2, BIG / 2 - 1_000);
    }
    expect(budget.isShort).toBe(false);
    // One may go beyond what all share, whatever the size of its datum, and no other meanwhile.
    const first = new Driven(budget);
    first.piece(1, BIG, 0, BIG / 2);
    expect(budget.isShort).toBe(false);
    const last = new Driven(budget);
    last.room = 1;
    const cost = last.piece(1, 2_000, 0, 1_000) + last.piece(1, 2_000, 1_000, 1_000);
    expect([last.queue.bytes, last.queue.waitsForMemory, budget.isShort]).toEqual([
      cost,
      true,
      true,
    ]);
    expect(last.queue.drain(10_000)).toBe(false);
    // A link that is lost amid its datum gives its share back.
    others[0]?.queue.dropPartial(1);
    others[1]?.queue.dropPartial(1);
    expect(last.queue.drain(10_000)).toBe(false);
    expect(last.payloads).toEqual(["2000 bytes"]);
    expect([last.queue.bytes, last.queue.isEmpty, budget.isShort]).toEqual([0, true, false]);
    // Of the same budget as before: the next large one fits.
    const next = others[0] as Driven;
    next.room = 1;
    next.big(1, BIG);
    expect(next.payloads).toEqual([`${BIG} bytes`]);
  });

  it("lets one go on whenever all have begun and nobody finds memory any more", () => {
    const budget = new AssemblyBudget();
    const all = Array.from({ length: 10 }, () => new Driven(budget));
    const part = BIG / 16;
    for (let offset = 0; offset < BIG; offset += part) {
      for (const one of all) one.piece(1, BIG, offset, part);
    }
    for (const one of all) one.room = 1;
    for (let i = 0; i < all.length; i++) for (const one of all) one.queue.drain(2 * BIG);
    expect(all.map(({ payloads }) => payloads)).toEqual(all.map(() => [`${BIG} bytes`]));
  });

  it("drops the pieces of a datum whose link is gone, and nothing else", () => {
    const driven = new Driven();
    const first = driven.small(2);
    driven.piece(3, 500, 0, 100);
    driven.piece(3, 500, 100, 100);
    driven.queue.dropPartial(3);
    expect(driven.queue.bytes).toBe(first);
    // It comes again from its beginning.
    driven.big(3, 500);
    driven.room = 9;
    driven.queue.drain(10_000);
    expect(driven.payloads).toEqual(["1", "2", "500 bytes"]);
    driven.queue.dropPartial(4);
    expect([driven.queue.bytes, driven.queue.isEmpty]).toEqual([0, true]);
  });
});
