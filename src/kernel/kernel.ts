/**
 * What the hot path asks of its kernel. Two implementations with this same interface: `wasm-kernel`
 * (AssemblyScript, SIMD, shared memory) and `js-kernel` (its twin: the test oracle, and what runs
 * where SIMD or shared memory is missing). Both pass one contract suite.
 *
 * All calls work on one memory by offset. Nothing is allocated, kept or freed by a kernel; there is
 * no current fragment, window or overlay in it. Callers keep offsets and lengths inside
 * `memoryBytes`; a kernel does not check them, except that split never reads outside the frame.
 *
 * Bit maps are arrays of 64-bit words, 8-byte aligned, least significant bit first; bit positions
 * are u32, ranges are [from, to).
 */

import type { MemoryOffset } from "../base/units.ts";

export interface Kernel {
  readonly name: "wasm" | "js";
  /** The whole memory; views stay valid for ever (the memory never grows). */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly u32: Uint32Array;
  readonly f64: Float64Array;
  readonly memoryBytes: number;
  /** Below this lie the kernel's constant tables; everything above is the caller's. 8-aligned. */
  readonly heapBase: MemoryOffset;

  // ------------------------------------------------------------------------------- checksums

  /** CRC32C (Castagnoli, reflected, init and xorout 0xffffffff) of a range, as u32. */
  crc32c(offset: MemoryOffset, length: number): number;
  /** Fills in DATA_CHECKSUM of `count` DATA frames; `pairs` points at u32 (offset, bytes) pairs. */
  checksumFragments(pairs: MemoryOffset, count: number): void;
  /** Writes one byte per frame at `good`: 1 = checksum holds. Returns how many hold. */
  verifyFragments(pairs: MemoryOffset, count: number, good: MemoryOffset): number;

  // ------------------------------------------------------------------------------- fragments

  /**
   * Copies `bytes` bytes; the ranges may overlap. For what JavaScript would copy inside of shared
   * memory byte by byte: where source and target are not aligned alike.
   */
  copyBytes(target: MemoryOffset, source: MemoryOffset, bytes: number): void;
  /**
   * Merges data into an open fragment: appends DATUM records at `write`, one per datum, until all
   * `count` are in or the next does not fit before `limit`. Payloads lie back to back at `payloads`,
   * their u32 lengths at `lengths`; all get `timestampDelta`. Returns how many were merged; the new
   * write position is `write` + sum of (12 + length).
   */
  mergeData(
    write: MemoryOffset,
    limit: MemoryOffset,
    payloads: MemoryOffset,
    lengths: MemoryOffset,
    count: number,
    sourceNumber: number,
    timestampDelta: number,
  ): number;
  /**
   * Writes one DATUM record (header and payload) at `write`. The caller made sure that it fits. The
   * payload may lie anywhere, also across the record itself. Returns the position after it.
   */
  writeDatum(
    write: MemoryOffset,
    payload: MemoryOffset,
    payloadBytes: number,
    sourceNumber: number,
    timestampDelta: number,
  ): MemoryOffset;
  /** The same for one SLICE record; `flags` as in SLICE_FLAG_*. */
  writeSlice(
    write: MemoryOffset,
    payload: MemoryOffset,
    payloadBytes: number,
    sourceNumber: number,
    flags: number,
    timestampDelta: number,
    sliceOffset: number,
    totalBytes: number,
  ): MemoryOffset;
  /**
   * Writes the frame and DATA header over [frame, frame + 40): length `frameBytes`, checksum zero.
   * `tag` points at the 8 bytes of the overlay tag.
   */
  writeDataHeader(
    frame: MemoryOffset,
    frameBytes: number,
    flags: number,
    recordCount: number,
    tag: MemoryOffset,
    index: number,
    createdUs: number,
  ): void;
  /**
   * Splits the DATA frame [frame, frame + frameBytes) into a record index: ENTRY rows at `entries`
   * (room for `entryCapacity`), DECLARATION rows at `declarations` (room for 256). Returns
   * declarations * 65536 + entries, or a negative SPLIT_*. Checks every bound, kind, reserved bit, sequence range
   * and the record count; malformed input never makes it read outside the frame. More entries than
   * `entryCapacity` or more than 256 declarations: SPLIT_COUNT_WRONG.
   */
  splitFragment(
    frame: MemoryOffset,
    frameBytes: number,
    entries: MemoryOffset,
    entryCapacity: number,
    declarations: MemoryOffset,
  ): number;

  // ------------------------------------------------------------------------------ buffermaps

  bitTest(words: MemoryOffset, bit: number): boolean;
  bitsSet(words: MemoryOffset, from: number, to: number): void;
  bitsClear(words: MemoryOffset, from: number, to: number): void;
  /** How many bits of [from, to) are set. */
  bitsCount(words: MemoryOffset, from: number, to: number): number;
  /** First set bit in [from, to); `to` when there is none. */
  bitsNextSet(words: MemoryOffset, from: number, to: number): number;
  /** First clear bit in [from, to); `to` when there is none. */
  bitsNextClear(words: MemoryOffset, from: number, to: number): number;
  /** First bit in [from, to) set in `a` and clear in `b`; `to` when there is none. */
  bitsNextDifference(a: MemoryOffset, b: MemoryOffset, from: number, to: number): number;
  /** First bit in [from, to) set in `a` and clear in both `b` and `c`; `to` when there is none. */
  bitsNextDifference2(
    a: MemoryOffset,
    b: MemoryOffset,
    c: MemoryOffset,
    from: number,
    to: number,
  ): number;
  /** Moves the map down by `shiftWords` words: bit i becomes bit i - 64 * shiftWords; zeros enter. */
  bitsShiftDown(words: MemoryOffset, wordCount: number, shiftWords: number): void;
  /**
   * Wire bits of a BUFFERMAP: copies bits [from, to) to `target`, least significant bit first, from
   * bit 0 of its first byte on; trims zero bytes at the end. Returns the number of bytes.
   */
  bitsToWire(words: MemoryOffset, from: number, to: number, target: MemoryOffset): number;
  /**
   * The other way: ORs `count` wire bits (from bit 0 of `source` on) into the map at bit `to`. The
   * caller made sure that they fit the map.
   */
  bitsFromWire(source: MemoryOffset, count: number, words: MemoryOffset, to: number): void;

  // ----------------------------------------------------------------------------------- picker

  // All on the table at `table` (base/layout, PICKER_*) that stream/picker set up: availability of
  // every index, candidates by rarity, and summaries to find them by. Bits are those of the window's
  // maps; `have` is a map of what one neighbour holds.

  /** Sets [from, to) of `have` and counts what is new there; returns how many bits were new. */
  pickerAdvertise(table: MemoryOffset, have: MemoryOffset, from: number, to: number): number;
  /** Clears [from, to) of `have` and discounts what was set; returns how many bits were. */
  pickerWithdraw(table: MemoryOffset, have: MemoryOffset, from: number, to: number): number;
  /** Makes `have` equal to the map `fresh`, counts the differences; returns how many bits are new. */
  pickerReplace(table: MemoryOffset, have: MemoryOffset, fresh: MemoryOffset): number;
  /** [from, to) are no candidates until they are released. */
  pickerTake(table: MemoryOffset, from: number, to: number): void;
  /** Takes back pickerTake. */
  pickerRelease(table: MemoryOffset, from: number, to: number): void;
  /** `bit` was set in the map of held fragments; it is not taken any more. */
  pickerStored(table: MemoryOffset, bit: number): void;
  /**
   * Reserves (`on` 1) or frees (0) what lies in [from, to) of the runs of SUBSTREAM_RUN bits that
   * begin at `run`, run + stride, ... `run` and `stride` are multiples of SUBSTREAM_RUN.
   */
  pickerReserve(
    table: MemoryOffset,
    run: number,
    stride: number,
    from: number,
    to: number,
    on: 0 | 1,
  ): void;
  /** How many maps have `bit`. */
  pickerAvailability(table: MemoryOffset, bit: number): number;
  /** First candidate in [from, to); `to` when there is none. */
  pickerNext(table: MemoryOffset, from: number, to: number): number;
  /**
   * Writes up to `max` candidates as u32 bit positions to `out`: those in [from, urgentEnd) in
   * order, then those in [urgentEnd, to), rarest class first, each class from a place drawn from
   * `random` (u32) on and around, in PICK_CLASS_WORDS_MAX words that have some of it. With `have` not
   * 0 only bits set there. Returns how many: 0 only when there is none, else fewer than `max` where
   * not all were found.
   */
  pickerPick(
    table: MemoryOffset,
    have: MemoryOffset,
    from: number,
    urgentEnd: number,
    to: number,
    max: number,
    random: number,
    out: MemoryOffset,
  ): number;
  /** Moves all down by `words` words, as bitsShiftDown does with the maps; zeros enter. */
  pickerShift(table: MemoryOffset, words: number): void;
}
