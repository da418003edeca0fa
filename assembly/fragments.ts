/** Writing fragments: merging small data, slicing big ones, the DATA header. */

import {
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
  FRAME_LENGTH,
  FRAME_MAGIC,
  FRAME_MAGIC_AT,
  FRAME_TYPE_DATA,
  FRAME_VERSION,
  RECORD_KIND_DATUM,
  RECORD_KIND_SLICE,
  SLICE_HEADER_BYTES,
  SLICE_OFFSET,
  SLICE_TOTAL_BYTES,
} from "./layout";
import { assertRange } from "./bounds";

/** From here on memory.copy beats the loop. */
const BULK_COPY_BYTES: u32 = 512;

export function mergeData(
  write: usize,
  limit: usize,
  payloads: usize,
  lengths: usize,
  count: u32,
  sourceNumber: u32,
  timestampDelta: i32,
): u32 {
  assertRange(write, limit - write);
  assertRange(lengths, <usize>count << 2);
  const kindAndNumber = RECORD_KIND_DATUM | (sourceNumber << 8);
  let room = limit - write;
  for (let i: u32 = 0; i < count; i++) {
    const length = load<u32>(lengths + (<usize>i << 2));
    if (room < DATUM_HEADER_BYTES || room - DATUM_HEADER_BYTES < length) return i;
    store<u32>(write, kindAndNumber);
    store<u32>(write, length, DATUM_PAYLOAD_BYTES);
    store<i32>(write, timestampDelta, DATUM_TIMESTAMP);
    write += DATUM_HEADER_BYTES;
    copy(write, payloads, length);
    write += length;
    payloads += length;
    room -= DATUM_HEADER_BYTES + length;
  }
  return count;
}

export function writeDatum(
  write: usize,
  payload: usize,
  payloadBytes: u32,
  sourceNumber: u32,
  timestampDelta: i32,
): usize {
  assertRange(write, DATUM_HEADER_BYTES + payloadBytes);
  move(write + DATUM_HEADER_BYTES, payload, payloadBytes);
  store<u32>(write, RECORD_KIND_DATUM | (sourceNumber << 8));
  store<u32>(write, payloadBytes, DATUM_PAYLOAD_BYTES);
  store<i32>(write, timestampDelta, DATUM_TIMESTAMP);
  return write + DATUM_HEADER_BYTES + payloadBytes;
}

export function writeSlice(
  write: usize,
  payload: usize,
  payloadBytes: u32,
  sourceNumber: u32,
  flags: u32,
  timestampDelta: i32,
  sliceOffset: u32,
  totalBytes: u32,
): usize {
  assertRange(write, SLICE_HEADER_BYTES + payloadBytes);
  move(write + SLICE_HEADER_BYTES, payload, payloadBytes);
  store<u32>(write, RECORD_KIND_SLICE | (sourceNumber << 8) | (flags << 16));
  store<u32>(write, payloadBytes, DATUM_PAYLOAD_BYTES);
  store<i32>(write, timestampDelta, DATUM_TIMESTAMP);
  store<u32>(write, sliceOffset, SLICE_OFFSET);
  store<u32>(write, totalBytes, SLICE_TOTAL_BYTES);
  return write + SLICE_HEADER_BYTES + payloadBytes;
}

export function writeDataHeader(
  frame: usize,
  frameBytes: u32,
  flags: u32,
  recordCount: u32,
  tag: usize,
  index: f64,
  createdUs: f64,
): void {
  assertRange(frame, DATA_HEADER_BYTES);
  store<u32>(frame, frameBytes, FRAME_LENGTH);
  // Magic, version, type, flags.
  store<u32>(frame, FRAME_MAGIC | (FRAME_VERSION << 8) | (FRAME_TYPE_DATA << 16), FRAME_MAGIC_AT);
  store<u32>(frame, 0, DATA_CHECKSUM);
  store<u16>(frame, flags, DATA_FLAGS);
  store<u16>(frame, recordCount, DATA_RECORD_COUNT);
  store<u64>(frame, load<u64>(tag), DATA_TAG);
  store<u64>(frame, <u64>index, DATA_INDEX);
  store<u64>(frame, <u64>createdUs, DATA_CREATED_US);
}

/** A plain copy; the ranges may overlap. */
export function copyBytes(target: usize, source: usize, bytes: usize): void {
  assertRange(target, bytes);
  assertRange(source, bytes);
  memory.copy(target, source, bytes);
}

/** Copies a payload, also one that lies across the header that is still to be written. */
// @ts-ignore: decorator
@inline
function move(target: usize, payload: usize, bytes: u32): void {
  assertRange(payload, bytes);
  if (payload != target) memory.copy(target, payload, bytes);
}

/** Copies between ranges that do not overlap, and touches no byte outside of them. */
// @ts-ignore: decorator
@inline
function copy(target: usize, source: usize, bytes: u32): void {
  assertRange(source, bytes);
  if (bytes >= BULK_COPY_BYTES) {
    memory.copy(target, source, bytes);
  } else if (bytes >= 16) {
    let at: usize = 0;
    const last = <usize>bytes - 16;
    while (at < last) {
      v128.store(target + at, v128.load(source + at));
      at += 16;
    }
    // The last vector overlaps the one before.
    v128.store(target + last, v128.load(source + last));
  } else if (bytes >= 8) {
    const last = <usize>bytes - 8;
    store<u64>(target, load<u64>(source));
    store<u64>(target + last, load<u64>(source + last));
  } else if (bytes >= 4) {
    const last = <usize>bytes - 4;
    store<u32>(target, load<u32>(source));
    store<u32>(target + last, load<u32>(source + last));
  } else if (bytes > 0) {
    store<u8>(target, load<u8>(source));
    store<u8>(target + (bytes >> 1), load<u8>(source + (bytes >> 1)));
    store<u8>(target + bytes - 1, load<u8>(source + bytes - 1));
  }
}
