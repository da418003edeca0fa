/**
 * R10 Peer-Peer: control frames of fixed layout (base/layout.ts): frame header, BUFFERMAP header,
 * HAVE, GET, GONE, CANCEL, CREDIT, PING, PONG, SEAL.
 *
 * Readers work on a frame range of a larger memory, check every bound and reserved bit, and
 * allocate nothing: they fill a caller's array or return a number. What does not follow the layout
 * is a RemoteProtocolError FRAME_MALFORMED (VERSION_UNSUPPORTED for a foreign version). Writers
 * assert: a wrong argument is a bug of ours.
 *
 * Never looks into the bits of a buffermap or the records of DATA.
 */

import { assert } from "../base/assert.ts";
import { RemoteProtocolError } from "../base/errors.ts";
import {
  BUFFERMAP_BITS_BYTES,
  BUFFERMAP_HEADER_BYTES,
  BUFFERMAP_RUN,
  BUFFERMAP_START,
  CREDIT_BYTES,
  CREDIT_LIMIT,
  FRAME_FLAGS,
  FRAME_HEADER_BYTES,
  FRAME_LENGTH,
  FRAME_MAGIC,
  FRAME_MAGIC_AT,
  FRAME_TYPE,
  FRAME_TYPES,
  FRAME_VERSION,
  FRAME_VERSION_AT,
  FRAME_VERSION_MIN,
  GET_FLAG_PATIENT,
  HAVE_FLAG_HELD_BACK,
  HAVE_READERS_MASK,
  OVERLAY_TAG_BYTES,
  PING_BYTES,
  PING_TOKEN,
  RANGE_BYTES,
  RANGES_COUNT,
  RANGES_FLAGS,
  RANGES_HEADER_BYTES,
  RANGES_START,
  RANGES_TAG,
  SEAL_COUNT,
  SEAL_COUNT_MAX,
  SEAL_FIRST_INDEX,
  SEAL_HEADER_BYTES,
  SEAL_LEAF_BYTES,
  SEAL_LEAF_BYTES_AT,
  SEAL_SIGNATURE_BYTES_AT,
} from "../base/layout.ts";
import {
  INDEX_MAX,
  RANGE_COUNT_MAX,
  RANGES_PER_FRAME_MAX,
  WINDOW_FRAGMENTS_MAX,
} from "../base/limits.ts";
import { SIGNATURE_BYTES } from "./common.ts";

/** Frame types whose body is a list of ranges. */
export type RangesType =
  | typeof FRAME_TYPES.HAVE
  | typeof FRAME_TYPES.GET
  | typeof FRAME_TYPES.GONE
  | typeof FRAME_TYPES.CANCEL;

/** Bytes of BUFFERMAP bits that a window can have. */
export const BUFFERMAP_BITS_BYTES_MAX = WINDOW_FRAGMENTS_MAX / 8;

function malformed(detail: string): never {
  throw new RemoteProtocolError("FRAME_MALFORMED", { detail });
}

// ------------------------------------------------------------------------------- little-endian

function u16At(memory: Uint8Array, at: number): number {
  return (memory[at] as number) | ((memory[at + 1] as number) << 8);
}

function u32At(memory: Uint8Array, at: number): number {
  return (u16At(memory, at) | (u16At(memory, at + 2) << 16)) >>> 0;
}

/** An index or one past the last: at most INDEX_MAX + 1. */
function indexAt(memory: Uint8Array, at: number): number {
  const high = u32At(memory, at + 4);
  const value = high * 0x1_0000_0000 + u32At(memory, at);
  if (high > 0x1f_ffff) malformed("an index beyond 2^53 - 1");
  return value;
}

function putU16(memory: Uint8Array, at: number, value: number): void {
  memory[at] = value & 0xff;
  memory[at + 1] = (value >>> 8) & 0xff;
}

function putU32(memory: Uint8Array, at: number, value: number): void {
  putU16(memory, at, value & 0xffff);
  putU16(memory, at + 2, value >>> 16);
}

function putU64(memory: Uint8Array, at: number, value: number): void {
  putU32(memory, at, value % 0x1_0000_0000);
  putU32(memory, at + 4, Math.floor(value / 0x1_0000_0000));
}

// ---------------------------------------------------------------------------------- frame header

/** Writes the 8 bytes of a frame header at `offset`. */
export function writeFrameHeader(
  memory: Uint8Array,
  offset: number,
  frameBytes: number,
  type: number,
): void {
  putU32(memory, offset + FRAME_LENGTH, frameBytes);
  memory[offset + FRAME_MAGIC_AT] = FRAME_MAGIC;
  memory[offset + FRAME_VERSION_AT] = FRAME_VERSION;
  memory[offset + FRAME_TYPE] = type;
  memory[offset + FRAME_FLAGS] = 0;
}

/**
 * Checks the header of the frame [offset, offset + frameBytes) and gives its type. Types this
 * version does not know are given too: the link decides. Throws FRAME_MALFORMED (magic, length,
 * reserved flags) or VERSION_UNSUPPORTED.
 */
export function readFrameHeader(memory: Uint8Array, offset: number, frameBytes: number): number {
  if (frameBytes < FRAME_HEADER_BYTES || offset < 0 || offset + frameBytes > memory.length) {
    malformed("shorter than a frame header");
  }
  if (memory[offset + FRAME_MAGIC_AT] !== FRAME_MAGIC) malformed("wrong magic");
  const version = memory[offset + FRAME_VERSION_AT] as number;
  if (version < FRAME_VERSION_MIN || version > FRAME_VERSION) {
    throw new RemoteProtocolError("VERSION_UNSUPPORTED", { detail: `frame version ${version}` });
  }
  if (memory[offset + FRAME_FLAGS] !== 0) malformed("reserved flags set");
  if (u32At(memory, offset + FRAME_LENGTH) !== frameBytes) malformed("wrong length");
  return memory[offset + FRAME_TYPE] as number;
}

// ------------------------------------------------------------------------------------------ tags

/** Whether the 8 bytes at `at` are this overlay's tag. */
export function tagEquals(memory: Uint8Array, at: number, tag: Uint8Array): boolean {
  for (let i = 0; i < OVERLAY_TAG_BYTES; i++) if (memory[at + i] !== tag[i]) return false;
  return true;
}

function putTag(frame: Uint8Array, at: number, tag: Uint8Array): void {
  assert(tag.length === OVERLAY_TAG_BYTES, "overlay tag of 8 bytes");
  frame.set(tag, at);
}

// ---------------------------------------------------------------------------------------- ranges

/**
 * A HAVE, GET, GONE or CANCEL frame. `ranges` holds `pairs` pairs (first index, count), ascending,
 * disjoint, not touching; `start` is HAVE's own lowest index, 0 for the others.
 */
export function encodeRanges(
  type: RangesType,
  tag: Uint8Array,
  start: number,
  ranges: ArrayLike<number>,
  pairs: number = ranges.length / 2,
  flags = 0,
): Uint8Array {
  const have = type === FRAME_TYPES.HAVE;
  assert(Number.isInteger(pairs) && 2 * pairs <= ranges.length, "whole pairs");
  assert(pairs <= RANGES_PER_FRAME_MAX && (pairs > 0 || have), "number of ranges");
  assert(have ? start >= 0 && start <= INDEX_MAX + 1 : start === 0, "start is for HAVE");
  const frame = new Uint8Array(RANGES_HEADER_BYTES + RANGE_BYTES * pairs);
  writeFrameHeader(frame, 0, frame.length, type);
  putTag(frame, RANGES_TAG, tag);
  putU64(frame, RANGES_START, start);
  putU32(frame, RANGES_COUNT, pairs);
  assert((flags & ~rangesFlags(type)) === 0, "flags of ranges");
  putU32(frame, RANGES_FLAGS, flags);
  let next = -1;
  for (let i = 0; i < pairs; i++) {
    const first = ranges[2 * i] as number;
    const count = ranges[2 * i + 1] as number;
    assert(
      first > next && count >= 1 && count <= RANGE_COUNT_MAX,
      "ascending ranges, not touching",
    );
    next = first + count;
    assert(next - 1 <= INDEX_MAX, "index within 2^53 - 2");
    putU64(frame, RANGES_HEADER_BYTES + RANGE_BYTES * i, first);
    putU32(frame, RANGES_HEADER_BYTES + RANGE_BYTES * i + 8, count);
  }
  return frame;
}

/** Ascending pairs (first, count) of `indices`, in any order and with repeats. */
export function rangesOf(indices: number[]): number[] {
  const ranges: number[] = [];
  let end = -1;
  for (const index of indices.sort((a, b) => a - b)) {
    if (index < end) continue;
    if (index === end) ranges[ranges.length - 1] = (ranges.at(-1) as number) + 1;
    else ranges.push(index, 1);
    end = index + 1;
  }
  return ranges;
}

/** The flags that a frame of this type may carry. */
function rangesFlags(type: number): number {
  if (type === FRAME_TYPES.HAVE) return HAVE_FLAG_HELD_BACK | HAVE_READERS_MASK;
  return type === FRAME_TYPES.GET ? GET_FLAG_PATIENT : 0;
}

/**
 * Reads the ranges of a frame whose header was accepted into `into` as pairs (first index, count);
 * `into` holds at least 2 x RANGES_PER_FRAME_MAX numbers. Returns the number of pairs. All pairs
 * are checked before it returns. Throws FRAME_MALFORMED; `into` then holds rubbish.
 */
export function readRanges(
  memory: Uint8Array,
  offset: number,
  frameBytes: number,
  into: Float64Array,
): number {
  if (frameBytes < RANGES_HEADER_BYTES) malformed("ranges frame too short");
  const have = memory[offset + FRAME_TYPE] === FRAME_TYPES.HAVE;
  const pairs = u32At(memory, offset + RANGES_COUNT);
  if (pairs > RANGES_PER_FRAME_MAX || (pairs === 0 && !have)) malformed("number of ranges");
  if (frameBytes !== RANGES_HEADER_BYTES + RANGE_BYTES * pairs) malformed("length of ranges");
  const reserved = ~rangesFlags(memory[offset + FRAME_TYPE] as number);
  if ((u32At(memory, offset + RANGES_FLAGS) & reserved) !== 0) malformed("reserved bits set");
  const start = indexAt(memory, offset + RANGES_START);
  if (!have && start !== 0) malformed("start set");
  assert(into.length >= 2 * pairs, "room for the ranges");
  let next = -1;
  for (let i = 0; i < pairs; i++) {
    const at = offset + RANGES_HEADER_BYTES + RANGE_BYTES * i;
    const first = indexAt(memory, at);
    const count = u32At(memory, at + 8);
    if (count === 0) malformed("empty range");
    if (first <= next) malformed("ranges not ascending, or touching");
    if (first > INDEX_MAX || count - 1 > INDEX_MAX - first) malformed("an index beyond 2^53 - 2");
    next = first + count;
    into[2 * i] = first;
    into[2 * i + 1] = count;
  }
  return pairs;
}

/** HAVE: the sender's lowest index still held or wanted. Call after readRanges accepted. */
export function readHaveStart(memory: Uint8Array, offset: number): number {
  return indexAt(memory, offset + RANGES_START);
}

/** HAVE: HAVE_FLAG_*, GET: GET_FLAG_*, others 0. Call after readRanges accepted. */
export function readRangesFlags(memory: Uint8Array, offset: number): number {
  return u32At(memory, offset + RANGES_FLAGS);
}

// ------------------------------------------------------------------------------- CREDIT, PING

/** CREDIT: DATA below `limit` may be sent. */
export function encodeCredit(tag: Uint8Array, limit: number): Uint8Array {
  assert(limit >= 0 && limit <= INDEX_MAX + 1, "credit limit");
  const frame = new Uint8Array(CREDIT_BYTES);
  writeFrameHeader(frame, 0, CREDIT_BYTES, FRAME_TYPES.CREDIT);
  putTag(frame, RANGES_TAG, tag);
  putU64(frame, CREDIT_LIMIT, limit);
  return frame;
}

/** The limit (exclusive) of a CREDIT frame. Throws FRAME_MALFORMED. */
export function readCredit(memory: Uint8Array, offset: number, frameBytes: number): number {
  if (frameBytes !== CREDIT_BYTES) malformed("length of CREDIT");
  return indexAt(memory, offset + CREDIT_LIMIT);
}

/** PING or PONG with 8 bytes of the pinger's choice. */
export function encodePing(
  type: typeof FRAME_TYPES.PING | typeof FRAME_TYPES.PONG,
  token: Uint8Array,
): Uint8Array {
  assert(token.length === PING_BYTES - PING_TOKEN, "ping token of 8 bytes");
  const frame = new Uint8Array(PING_BYTES);
  writeFrameHeader(frame, 0, PING_BYTES, type);
  frame.set(token, PING_TOKEN);
  return frame;
}

/** A copy of the 8-byte token of PING or PONG. Throws FRAME_MALFORMED. */
export function readPing(memory: Uint8Array, offset: number, frameBytes: number): Uint8Array {
  if (frameBytes !== PING_BYTES) malformed("length of PING or PONG");
  return memory.slice(offset + PING_TOKEN, offset + PING_BYTES);
}

// ------------------------------------------------------------------------------------- BUFFERMAP

/** Where the parts of a BUFFERMAP frame are; the bits stay where they arrived. */
export interface BuffermapHeader {
  start: number;
  run: number;
  bitsOffset: number;
  bitsBytes: number;
}

/** A whole BUFFERMAP frame around opaque bits (none, or the last byte not zero). */
export function encodeBuffermap(
  tag: Uint8Array,
  start: number,
  run: number,
  bits: Uint8Array,
): Uint8Array {
  assert(start >= 0 && run >= 0 && start + run <= INDEX_MAX + 1, "buffermap range");
  assert(run <= 0xffff_ffff && bits.length <= BUFFERMAP_BITS_BYTES_MAX, "buffermap size");
  assert(bits.length === 0 || bits[bits.length - 1] !== 0, "last byte of bits is not zero");
  const frame = new Uint8Array(BUFFERMAP_HEADER_BYTES + bits.length);
  writeFrameHeader(frame, 0, frame.length, FRAME_TYPES.BUFFERMAP);
  putTag(frame, RANGES_TAG, tag);
  putU64(frame, BUFFERMAP_START, start);
  putU32(frame, BUFFERMAP_RUN, run);
  putU32(frame, BUFFERMAP_BITS_BYTES, bits.length);
  frame.set(bits, BUFFERMAP_HEADER_BYTES);
  return frame;
}

/**
 * Fills `into` from a BUFFERMAP frame. Throws FRAME_MALFORMED; guarantees that every index the
 * bits can name is at most INDEX_MAX.
 */
export function readBuffermap(
  memory: Uint8Array,
  offset: number,
  frameBytes: number,
  into: BuffermapHeader,
): void {
  if (frameBytes < BUFFERMAP_HEADER_BYTES) malformed("BUFFERMAP too short");
  const bitsBytes = u32At(memory, offset + BUFFERMAP_BITS_BYTES);
  if (bitsBytes > BUFFERMAP_BITS_BYTES_MAX) malformed("BUFFERMAP larger than a window");
  if (frameBytes !== BUFFERMAP_HEADER_BYTES + bitsBytes) malformed("length of BUFFERMAP");
  if (bitsBytes > 0 && memory[offset + frameBytes - 1] === 0) malformed("last byte of bits zero");
  const start = indexAt(memory, offset + BUFFERMAP_START);
  const run = u32At(memory, offset + BUFFERMAP_RUN);
  if (start > INDEX_MAX + 1 - run - 8 * bitsBytes) malformed("an index beyond 2^53 - 2");
  into.start = start;
  into.run = run;
  into.bitsOffset = offset + BUFFERMAP_HEADER_BYTES;
  into.bitsBytes = bitsBytes;
}

// ------------------------------------------------------------------------------------------ SEAL

/** A SEAL, copied out of its frame. */
export interface Seal {
  readonly firstIndex: number;
  /** `count` leaf hashes of 32 bytes, back to back. */
  readonly leaves: Uint8Array;
  /** Empty until integrity 'signed' exists, else 64 bytes. */
  readonly signature: Uint8Array;
}

export function encodeSeal(tag: Uint8Array, seal: Seal): Uint8Array {
  const count = seal.leaves.length / SEAL_LEAF_BYTES;
  assert(Number.isInteger(count) && count >= 1 && count <= SEAL_COUNT_MAX, "leaves of a SEAL");
  const signatureBytes = seal.signature.length;
  assert(signatureBytes === 0 || signatureBytes === SIGNATURE_BYTES, "signature of a SEAL");
  assert(seal.firstIndex >= 0 && seal.firstIndex + count - 1 <= INDEX_MAX, "index of a SEAL");
  const frame = new Uint8Array(SEAL_HEADER_BYTES + seal.leaves.length + signatureBytes);
  writeFrameHeader(frame, 0, frame.length, FRAME_TYPES.SEAL);
  putTag(frame, RANGES_TAG, tag);
  putU64(frame, SEAL_FIRST_INDEX, seal.firstIndex);
  putU16(frame, SEAL_COUNT, count);
  frame[SEAL_LEAF_BYTES_AT] = SEAL_LEAF_BYTES;
  frame[SEAL_SIGNATURE_BYTES_AT] = signatureBytes;
  frame.set(seal.leaves, SEAL_HEADER_BYTES);
  frame.set(seal.signature, SEAL_HEADER_BYTES + seal.leaves.length);
  return frame;
}

/** Throws FRAME_MALFORMED. */
export function readSeal(memory: Uint8Array, offset: number, frameBytes: number): Seal {
  if (frameBytes < SEAL_HEADER_BYTES) malformed("SEAL too short");
  const count = u16At(memory, offset + SEAL_COUNT);
  const signatureBytes = memory[offset + SEAL_SIGNATURE_BYTES_AT] as number;
  if (count < 1 || count > SEAL_COUNT_MAX) malformed("count of SEAL");
  if (memory[offset + SEAL_LEAF_BYTES_AT] !== SEAL_LEAF_BYTES) malformed("leaf size of SEAL");
  if (signatureBytes !== 0 && signatureBytes !== SIGNATURE_BYTES) malformed("signature of SEAL");
  if (u32At(memory, offset + SEAL_SIGNATURE_BYTES_AT + 1) !== 0) malformed("reserved bytes set");
  const leavesAt = offset + SEAL_HEADER_BYTES;
  const signatureAt = leavesAt + count * SEAL_LEAF_BYTES;
  if (signatureAt + signatureBytes !== offset + frameBytes) malformed("length of SEAL");
  const firstIndex = indexAt(memory, offset + SEAL_FIRST_INDEX);
  if (firstIndex > INDEX_MAX - (count - 1)) malformed("an index beyond 2^53 - 2");
  return {
    firstIndex,
    leaves: memory.slice(leavesAt, signatureAt),
    signature: memory.slice(signatureAt, signatureAt + signatureBytes),
  };
}
