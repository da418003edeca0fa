/**
 * The kernel in JavaScript: the twin of wasm-kernel, its oracle under test, and what runs where
 * SIMD or shared memory is missing. Plain ArrayBuffer, no threads.
 *
 * Never: keeps state besides the views of its memory.
 */

import { assert } from "../base/assert.ts";
import {
  DATA_CHECKED_FROM,
  DATA_CHECKSUM,
  DATA_CREATED_US,
  DATA_FLAGS,
  DATA_HEADER_BYTES,
  DATA_INDEX,
  DATA_RECORD_COUNT,
  DATA_TAG,
  DATUM_HEADER_BYTES,
  DATUM_PAYLOAD_BYTES,
  DATUM_TIMESTAMP,
  FRAME_FLAGS,
  FRAME_LENGTH,
  FRAME_MAGIC,
  FRAME_MAGIC_AT,
  FRAME_TYPE,
  FRAME_TYPES,
  FRAME_VERSION,
  FRAME_VERSION_AT,
  OVERLAY_TAG_BYTES,
  RECORD_KIND_DATUM,
  RECORD_KIND_SLICE,
  SLICE_HEADER_BYTES,
  SLICE_OFFSET,
  SLICE_TOTAL_BYTES,
} from "../base/layout.ts";
import type { MemoryOffset } from "../base/units.ts";
import {
  clearRange,
  countRange,
  fromWire,
  nextClear,
  nextDifference,
  nextDifference2,
  nextSet,
  setRange,
  toWire,
} from "./js-bits.ts";
import { crc32cOf } from "./js-crc32c.ts";
import { JsPicker } from "./js-picker.ts";
import { splitFragmentOf } from "./js-split.ts";
import type { Kernel } from "./kernel.ts";

/** Offset 0 stays unused, so that it can mean "nowhere"; one cache line keeps alignment. */
const HEAP_BASE = 64;

/** `memoryBytes`: a multiple of 8, at least 1 KiB. The memory is the kernel's own. */
export function createJsKernel(options: { readonly memoryBytes: number }): Kernel {
  return new JsKernel(new ArrayBuffer(options.memoryBytes));
}

class JsKernel implements Kernel {
  readonly name = "js";
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly u32: Uint32Array;
  readonly f64: Float64Array;
  readonly memoryBytes: number;
  readonly heapBase = HEAP_BASE;

  constructor(buffer: ArrayBuffer) {
    assert(buffer.byteLength >= 1024, "the memory holds at least 1 KiB");
    assert(buffer.byteLength % 8 === 0, "the memory is a whole number of words");
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.u32 = new Uint32Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.memoryBytes = buffer.byteLength;
    assert(new Uint8Array(new Uint16Array([1]).buffer)[0] === 1, "the machine is little-endian");
  }

  crc32c(offset: MemoryOffset, length: number): number {
    return crc32cOf(this.bytes, this.u32, offset, length);
  }

  checksumFragments(pairs: MemoryOffset, count: number): void {
    for (let i = 0; i < count; i++) {
      const frame = this.view.getUint32(pairs + 8 * i, true);
      const frameBytes = this.view.getUint32(pairs + 8 * i + 4, true);
      const crc = this.#checksum(frame, frameBytes);
      this.view.setUint32(frame + DATA_CHECKSUM, crc, true);
    }
  }

  verifyFragments(pairs: MemoryOffset, count: number, good: MemoryOffset): number {
    let holds = 0;
    for (let i = 0; i < count; i++) {
      const frame = this.view.getUint32(pairs + 8 * i, true);
      const frameBytes = this.view.getUint32(pairs + 8 * i + 4, true);
      const claimed = this.view.getUint32(frame + DATA_CHECKSUM, true);
      const ok = this.#checksum(frame, frameBytes) === claimed ? 1 : 0;
      this.bytes[good + i] = ok;
      holds += ok;
    }
    return holds;
  }

  copyBytes(target: MemoryOffset, source: MemoryOffset, bytes: number): void {
    this.bytes.copyWithin(target, source, source + bytes);
  }

  mergeData(
    write: MemoryOffset,
    limit: MemoryOffset,
    payloads: MemoryOffset,
    lengths: MemoryOffset,
    count: number,
    sourceNumber: number,
    timestampDelta: number,
  ): number {
    const view = this.view;
    const kindAndNumber = RECORD_KIND_DATUM | (sourceNumber << 8);
    let at = write;
    let payload = payloads;
    for (let i = 0; i < count; i++) {
      const length = view.getUint32(lengths + 4 * i, true);
      if (at + DATUM_HEADER_BYTES + length > limit) return i;
      view.setUint32(at, kindAndNumber, true);
      view.setUint32(at + DATUM_PAYLOAD_BYTES, length, true);
      view.setInt32(at + DATUM_TIMESTAMP, timestampDelta, true);
      at += DATUM_HEADER_BYTES;
      this.bytes.copyWithin(at, payload, payload + length);
      at += length;
      payload += length;
    }
    return count;
  }

  writeDatum(
    write: MemoryOffset,
    payload: MemoryOffset,
    payloadBytes: number,
    sourceNumber: number,
    timestampDelta: number,
  ): MemoryOffset {
    const view = this.view;
    const at = write + DATUM_HEADER_BYTES;
    // First: the payload may lie where the header goes.
    this.bytes.copyWithin(at, payload, payload + payloadBytes);
    view.setUint32(write, RECORD_KIND_DATUM | (sourceNumber << 8), true);
    view.setUint32(write + DATUM_PAYLOAD_BYTES, payloadBytes, true);
    view.setInt32(write + DATUM_TIMESTAMP, timestampDelta, true);
    return at + payloadBytes;
  }

  writeSlice(
    write: MemoryOffset,
    payload: MemoryOffset,
    payloadBytes: number,
    sourceNumber: number,
    flags: number,
    timestampDelta: number,
    sliceOffset: number,
    totalBytes: number,
  ): MemoryOffset {
    const view = this.view;
    const at = write + SLICE_HEADER_BYTES;
    this.bytes.copyWithin(at, payload, payload + payloadBytes);
    view.setUint32(write, RECORD_KIND_SLICE | (sourceNumber << 8) | (flags << 16), true);
    view.setUint32(write + DATUM_PAYLOAD_BYTES, payloadBytes, true);
    view.setInt32(write + DATUM_TIMESTAMP, timestampDelta, true);
    view.setUint32(write + SLICE_OFFSET, sliceOffset, true);
    view.setUint32(write + SLICE_TOTAL_BYTES, totalBytes, true);
    return at + payloadBytes;
  }

  writeDataHeader(
    frame: MemoryOffset,
    frameBytes: number,
    flags: number,
    recordCount: number,
    tag: MemoryOffset,
    index: number,
    createdUs: number,
  ): void {
    const view = this.view;
    view.setUint32(frame + FRAME_LENGTH, frameBytes, true);
    view.setUint8(frame + FRAME_MAGIC_AT, FRAME_MAGIC);
    view.setUint8(frame + FRAME_VERSION_AT, FRAME_VERSION);
    view.setUint8(frame + FRAME_TYPE, FRAME_TYPES.DATA);
    view.setUint8(frame + FRAME_FLAGS, 0);
    view.setUint32(frame + DATA_CHECKSUM, 0, true);
    view.setUint16(frame + DATA_FLAGS, flags, true);
    view.setUint16(frame + DATA_RECORD_COUNT, recordCount, true);
    this.bytes.copyWithin(frame + DATA_TAG, tag, tag + OVERLAY_TAG_BYTES);
    this.#writeU64(frame + DATA_INDEX, index);
    this.#writeU64(frame + DATA_CREATED_US, createdUs);
  }

  splitFragment(
    frame: MemoryOffset,
    frameBytes: number,
    entries: MemoryOffset,
    entryCapacity: number,
    declarations: MemoryOffset,
  ): number {
    return splitFragmentOf(this.view, frame, frameBytes, entries, entryCapacity, declarations);
  }

  bitTest(words: MemoryOffset, bit: number): boolean {
    return (((this.u32[(words >>> 2) + (bit >>> 5)] as number) >>> (bit & 31)) & 1) === 1;
  }

  bitsSet(words: MemoryOffset, from: number, to: number): void {
    setRange(this.u32, words >>> 2, from, to);
  }

  bitsClear(words: MemoryOffset, from: number, to: number): void {
    clearRange(this.u32, words >>> 2, from, to);
  }

  bitsCount(words: MemoryOffset, from: number, to: number): number {
    return countRange(this.u32, words >>> 2, from, to);
  }

  bitsNextSet(words: MemoryOffset, from: number, to: number): number {
    return nextSet(this.u32, words >>> 2, from, to);
  }

  bitsNextClear(words: MemoryOffset, from: number, to: number): number {
    return nextClear(this.u32, words >>> 2, from, to);
  }

  bitsNextDifference(a: MemoryOffset, b: MemoryOffset, from: number, to: number): number {
    return nextDifference(this.u32, a >>> 2, b >>> 2, from, to);
  }

  bitsNextDifference2(
    a: MemoryOffset,
    b: MemoryOffset,
    c: MemoryOffset,
    from: number,
    to: number,
  ): number {
    return nextDifference2(this.u32, a >>> 2, b >>> 2, c >>> 2, from, to);
  }

  bitsShiftDown(words: MemoryOffset, wordCount: number, shiftWords: number): void {
    const end = words + 8 * wordCount;
    const kept = Math.max(0, wordCount - shiftWords);
    if (kept > 0) this.bytes.copyWithin(words, words + 8 * shiftWords, end);
    this.bytes.fill(0, words + 8 * kept, end);
  }

  bitsToWire(words: MemoryOffset, from: number, to: number, target: MemoryOffset): number {
    return toWire(this.u32, this.view, words >>> 2, from, to, target);
  }

  bitsFromWire(source: MemoryOffset, count: number, words: MemoryOffset, to: number): void {
    fromWire(this.u32, this.view, source, count, words >>> 2, to);
  }

  pickerAdvertise(table: MemoryOffset, have: MemoryOffset, from: number, to: number): number {
    return this.#picker(table).advertise(have, from, to);
  }

  pickerWithdraw(table: MemoryOffset, have: MemoryOffset, from: number, to: number): number {
    return this.#picker(table).withdraw(have, from, to);
  }

  pickerReplace(table: MemoryOffset, have: MemoryOffset, fresh: MemoryOffset): number {
    return this.#picker(table).replace(have, fresh);
  }

  pickerTake(table: MemoryOffset, from: number, to: number): void {
    this.#picker(table).take(from, to);
  }

  pickerRelease(table: MemoryOffset, from: number, to: number): void {
    this.#picker(table).release(from, to);
  }

  pickerStored(table: MemoryOffset, bit: number): void {
    this.#picker(table).stored(bit);
  }

  pickerReserve(
    table: MemoryOffset,
    run: number,
    stride: number,
    from: number,
    to: number,
    on: 0 | 1,
  ): void {
    this.#picker(table).reserve(run, stride, from, to, on);
  }

  pickerAvailability(table: MemoryOffset, bit: number): number {
    return this.#picker(table).availability(bit);
  }

  pickerNext(table: MemoryOffset, from: number, to: number): number {
    return this.#picker(table).next(from, to);
  }

  pickerPick(
    table: MemoryOffset,
    have: MemoryOffset,
    from: number,
    urgentEnd: number,
    to: number,
    max: number,
    random: number,
    out: MemoryOffset,
  ): number {
    return this.#picker(table).pick(have, from, urgentEnd, to, max, random, out);
  }

  pickerShift(table: MemoryOffset, words: number): void {
    this.#picker(table).shift(words);
  }

  /** Tables are many and short calls more: the object lives for one call. */
  #picker(table: MemoryOffset): JsPicker {
    return new JsPicker(this.u32, table);
  }

  #checksum(frame: MemoryOffset, frameBytes: number): number {
    assert(frameBytes >= DATA_HEADER_BYTES, "a DATA frame holds its header");
    return crc32cOf(
      this.bytes,
      this.u32,
      frame + DATA_CHECKED_FROM,
      frameBytes - DATA_CHECKED_FROM,
    );
  }

  #writeU64(at: MemoryOffset, value: number): void {
    this.view.setUint32(at, value >>> 0, true);
    this.view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
  }
}
