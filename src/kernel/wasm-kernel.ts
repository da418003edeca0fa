/**
 * The kernel in WebAssembly (`assembly/`): SIMD, one imported shared memory of fixed size. Any
 * number of instances, on any thread, work on one memory: the module keeps no state, and what
 * instantiation writes (the checksum tables below heapBase) is the same bytes each time.
 *
 * Never: reads the module's bytes from anywhere (they are handed in), grows the memory.
 */

import { instantiateSync } from "@assemblyscript/loader";
import { assert } from "../base/assert.ts";
import { LocalUsageError, OperationError } from "../base/errors.ts";
import { MEMORY_MIB_MAX, MEMORY_MIB_MIN } from "../base/limits.ts";
import { type MemoryOffset, MIB } from "../base/units.ts";
import type { Kernel } from "./kernel.ts";

const PAGE_BYTES = 65_536;

export interface WasmKernelOptions {
  /** Contents of build/kernel.wasm, or the module compiled from it. */
  readonly wasm: WebAssembly.Module | Uint8Array<ArrayBuffer> | ArrayBuffer;
  /** From createKernelMemory, possibly of another instance. */
  readonly memory: WebAssembly.Memory;
}

/**
 * Compiles build/kernel.wasm once, for the kernels of this thread and of the pool's workers alike.
 * Blocks for about a millisecond; a browser's main thread uses WebAssembly.compile.
 */
export function compileKernel(wasm: Uint8Array<ArrayBuffer> | ArrayBuffer): WebAssembly.Module {
  return new WebAssembly.Module(wasm);
}

/** Instantiates the kernel on `memory`; writes nothing outside [0, heapBase). */
export function createWasmKernel(options: WasmKernelOptions): Kernel {
  const { instance } = instantiateSync(options.wasm, { env: { memory: options.memory } });
  const raw = instance.exports as unknown as RawExports;
  raw.init();
  return new WasmKernel(raw, options.memory.buffer);
}

/**
 * A shared memory for one engine; it never grows. Throws LocalUsageError USAGE outside of
 * MEMORY_MIB_MIN to MEMORY_MIB_MAX, OperationError ENGINE_MEMORY when the system has not that much.
 */
export function createKernelMemory(memoryMiB: number): WebAssembly.Memory {
  if (!(memoryMiB >= MEMORY_MIB_MIN && memoryMiB <= MEMORY_MIB_MAX)) {
    const detail = `memoryMiB is ${memoryMiB}; it goes from ${MEMORY_MIB_MIN} to ${MEMORY_MIB_MAX}`;
    throw new LocalUsageError("USAGE", { detail });
  }
  const pages = Math.ceil((memoryMiB * MIB) / PAGE_BYTES);
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (cause) {
    const detail = `the system refuses ${memoryMiB} MiB; set a smaller memoryMiB`;
    throw new OperationError("ENGINE_MEMORY", { detail, cause });
  }
}

/** Whether this platform has what the kernel needs: SIMD and shared memory. */
export function wasmSupported(): boolean {
  return (
    typeof WebAssembly === "object" &&
    typeof SharedArrayBuffer === "function" &&
    WebAssembly.validate(PROBE)
  );
}

/** The module's functions. Offsets and counts are u32, which arrive in JavaScript as i32. */
interface RawExports {
  readonly HEAP_BASE: WebAssembly.Global;
  init(): void;
  crc32c(offset: number, length: number): number;
  checksumFragments(pairs: number, count: number): void;
  verifyFragments(pairs: number, count: number, good: number): number;
  copyBytes(target: number, source: number, bytes: number): void;
  mergeData(
    write: number,
    limit: number,
    payloads: number,
    lengths: number,
    count: number,
    sourceNumber: number,
    timestampDelta: number,
  ): number;
  writeDatum(
    write: number,
    payload: number,
    payloadBytes: number,
    sourceNumber: number,
    timestampDelta: number,
  ): number;
  writeSlice(
    write: number,
    payload: number,
    payloadBytes: number,
    sourceNumber: number,
    flags: number,
    timestampDelta: number,
    sliceOffset: number,
    totalBytes: number,
  ): number;
  writeDataHeader(
    frame: number,
    frameBytes: number,
    flags: number,
    recordCount: number,
    tag: number,
    index: number,
    createdUs: number,
  ): void;
  splitFragment(
    frame: number,
    frameBytes: number,
    entries: number,
    entryCapacity: number,
    declarations: number,
  ): number;
  bitTest(words: number, bit: number): number;
  bitsSet(words: number, from: number, to: number): void;
  bitsClear(words: number, from: number, to: number): void;
  bitsCount(words: number, from: number, to: number): number;
  bitsNextSet(words: number, from: number, to: number): number;
  bitsNextClear(words: number, from: number, to: number): number;
  bitsNextDifference(a: number, b: number, from: number, to: number): number;
  bitsNextDifference2(a: number, b: number, c: number, from: number, to: number): number;
  bitsShiftDown(words: number, wordCount: number, shiftWords: number): void;
  bitsToWire(words: number, from: number, to: number, target: number): number;
  bitsFromWire(source: number, count: number, words: number, to: number): void;
  pickerAdvertise(table: number, have: number, from: number, to: number): number;
  pickerWithdraw(table: number, have: number, from: number, to: number): number;
  pickerReplace(table: number, have: number, fresh: number): number;
  pickerTake(table: number, from: number, to: number): void;
  pickerRelease(table: number, from: number, to: number): void;
  pickerStored(table: number, bit: number): void;
  pickerReserve(
    table: number,
    run: number,
    stride: number,
    from: number,
    to: number,
    on: number,
  ): void;
  pickerAvailability(table: number, bit: number): number;
  pickerNext(table: number, from: number, to: number): number;
  pickerPick(
    table: number,
    have: number,
    from: number,
    urgentEnd: number,
    to: number,
    max: number,
    random: number,
    out: number,
  ): number;
  pickerShift(table: number, words: number): void;
}

class WasmKernel implements Kernel {
  readonly name = "wasm";
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly u32: Uint32Array;
  readonly f64: Float64Array;
  readonly memoryBytes: number;
  readonly heapBase: MemoryOffset;
  readonly #raw: RawExports;

  constructor(raw: RawExports, buffer: ArrayBufferLike) {
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.u32 = new Uint32Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.memoryBytes = buffer.byteLength;
    this.heapBase = raw.HEAP_BASE.value as number;
    this.#raw = raw;
    assert(this.heapBase % 8 === 0, "tables above the kernel's own are aligned");
    assert(this.heapBase < this.memoryBytes, "the memory has room above the kernel's tables");
  }

  crc32c(offset: MemoryOffset, length: number): number {
    return this.#raw.crc32c(offset, length) >>> 0;
  }

  checksumFragments(pairs: MemoryOffset, count: number): void {
    this.#raw.checksumFragments(pairs, count);
  }

  verifyFragments(pairs: MemoryOffset, count: number, good: MemoryOffset): number {
    return this.#raw.verifyFragments(pairs, count, good) >>> 0;
  }

  copyBytes(target: MemoryOffset, source: MemoryOffset, bytes: number): void {
    this.#raw.copyBytes(target, source, bytes);
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
    return (
      this.#raw.mergeData(write, limit, payloads, lengths, count, sourceNumber, timestampDelta) >>>
      0
    );
  }

  writeDatum(
    write: MemoryOffset,
    payload: MemoryOffset,
    payloadBytes: number,
    sourceNumber: number,
    timestampDelta: number,
  ): MemoryOffset {
    return this.#raw.writeDatum(write, payload, payloadBytes, sourceNumber, timestampDelta) >>> 0;
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
    return (
      this.#raw.writeSlice(
        write,
        payload,
        payloadBytes,
        sourceNumber,
        flags,
        timestampDelta,
        sliceOffset,
        totalBytes,
      ) >>> 0
    );
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
    this.#raw.writeDataHeader(frame, frameBytes, flags, recordCount, tag, index, createdUs);
  }

  splitFragment(
    frame: MemoryOffset,
    frameBytes: number,
    entries: MemoryOffset,
    entryCapacity: number,
    declarations: MemoryOffset,
  ): number {
    return this.#raw.splitFragment(frame, frameBytes, entries, entryCapacity, declarations);
  }

  bitTest(words: MemoryOffset, bit: number): boolean {
    return this.#raw.bitTest(words, bit) === 1;
  }

  bitsSet(words: MemoryOffset, from: number, to: number): void {
    this.#raw.bitsSet(words, from, to);
  }

  bitsClear(words: MemoryOffset, from: number, to: number): void {
    this.#raw.bitsClear(words, from, to);
  }

  bitsCount(words: MemoryOffset, from: number, to: number): number {
    return this.#raw.bitsCount(words, from, to) >>> 0;
  }

  bitsNextSet(words: MemoryOffset, from: number, to: number): number {
    return this.#raw.bitsNextSet(words, from, to) >>> 0;
  }

  bitsNextClear(words: MemoryOffset, from: number, to: number): number {
    return this.#raw.bitsNextClear(words, from, to) >>> 0;
  }

  bitsNextDifference(a: MemoryOffset, b: MemoryOffset, from: number, to: number): number {
    return this.#raw.bitsNextDifference(a, b, from, to) >>> 0;
  }

  bitsNextDifference2(
    a: MemoryOffset,
    b: MemoryOffset,
    c: MemoryOffset,
    from: number,
    to: number,
  ): number {
    return this.#raw.bitsNextDifference2(a, b, c, from, to) >>> 0;
  }

  bitsShiftDown(words: MemoryOffset, wordCount: number, shiftWords: number): void {
    this.#raw.bitsShiftDown(words, wordCount, shiftWords);
  }

  bitsToWire(words: MemoryOffset, from: number, to: number, target: MemoryOffset): number {
    return this.#raw.bitsToWire(words, from, to, target) >>> 0;
  }

  bitsFromWire(source: MemoryOffset, count: number, words: MemoryOffset, to: number): void {
    this.#raw.bitsFromWire(source, count, words, to);
  }

  pickerAdvertise(table: MemoryOffset, have: MemoryOffset, from: number, to: number): number {
    return this.#raw.pickerAdvertise(table, have, from, to) >>> 0;
  }

  pickerWithdraw(table: MemoryOffset, have: MemoryOffset, from: number, to: number): number {
    return this.#raw.pickerWithdraw(table, have, from, to) >>> 0;
  }

  pickerReplace(table: MemoryOffset, have: MemoryOffset, fresh: MemoryOffset): number {
    return this.#raw.pickerReplace(table, have, fresh) >>> 0;
  }

  pickerTake(table: MemoryOffset, from: number, to: number): void {
    this.#raw.pickerTake(table, from, to);
  }

  pickerRelease(table: MemoryOffset, from: number, to: number): void {
    this.#raw.pickerRelease(table, from, to);
  }

  pickerStored(table: MemoryOffset, bit: number): void {
    this.#raw.pickerStored(table, bit);
  }

  pickerReserve(
    table: MemoryOffset,
    run: number,
    stride: number,
    from: number,
    to: number,
    on: 0 | 1,
  ): void {
    this.#raw.pickerReserve(table, run, stride, from, to, on);
  }

  pickerAvailability(table: MemoryOffset, bit: number): number {
    return this.#raw.pickerAvailability(table, bit) >>> 0;
  }

  pickerNext(table: MemoryOffset, from: number, to: number): number {
    return this.#raw.pickerNext(table, from, to) >>> 0;
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
    return this.#raw.pickerPick(table, have, from, urgentEnd, to, max, random, out) >>> 0;
  }

  pickerShift(table: MemoryOffset, words: number): void {
    this.#raw.pickerShift(table, words);
  }
}

/** A module that imports a shared memory and counts bits in a vector. */
const PROBE = new Uint8Array([
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
  // type: () -> v128
  ...[0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b],
  // import "env" "memory": shared, one page
  ...[0x02, 0x10, 0x01, 0x03, 0x65, 0x6e, 0x76, 0x06, 0x6d, 0x65, 0x6d, 0x6f, 0x72, 0x79],
  ...[0x02, 0x03, 0x01, 0x01],
  // one function: i32.const 0, i8x16.splat, i8x16.popcnt
  ...[0x03, 0x02, 0x01, 0x00],
  ...[0x0a, 0x0a, 0x01, 0x08, 0x00, 0x41, 0x00, 0xfd, 0x0f, 0xfd, 0x62, 0x0b],
]);
