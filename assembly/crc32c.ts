/**
 * CRC32C (Castagnoli, reflected), slice-by-16: sixteen tables of 256 words advance the checksum by
 * sixteen bytes, and only the first four depend on the step before.
 */

import { DATA_CHECKED_FROM, DATA_CHECKSUM, DATA_HEADER_BYTES } from "./layout";
import { assertRange } from "./bounds";

const POLYNOMIAL: u32 = 0x82f63b78;

/** Row n: the effect of a byte followed by n zero bytes. Page-aligned, so rows share no cache set. */
const T0: usize = 4096;
const T1: usize = T0 + 1024;
const T2: usize = T1 + 1024;
const T3: usize = T2 + 1024;
const T4: usize = T3 + 1024;
const T5: usize = T4 + 1024;
const T6: usize = T5 + 1024;
const T7: usize = T6 + 1024;
const T8: usize = T7 + 1024;
const T9: usize = T8 + 1024;
const T10: usize = T9 + 1024;
const T11: usize = T10 + 1024;
const T12: usize = T11 + 1024;
const T13: usize = T12 + 1024;
const T14: usize = T13 + 1024;
const T15: usize = T14 + 1024;

/** Above this everything is the caller's. */
export const HEAP_BASE: usize = T15 + 1024;

/** Writes the tables. Each word is stored once, with its final value. */
export function init(): void {
  // Static data, had the compiler put any, would lie between the first page's start and T0.
  assert(__heap_base <= T0);
  for (let i: u32 = 0; i < 256; i++) {
    let crc = i;
    for (let bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (POLYNOMIAL & (0 - (crc & 1)));
    store<u32>(T0 + (i << 2), crc);
  }
  for (let i: usize = 256; i < 16 * 256; i++) {
    const before = load<u32>(T0 + ((i - 256) << 2));
    store<u32>(T0 + (i << 2), (before >> 8) ^ load<u32>(T0 + ((before & 255) << 2)));
  }
}

export function crc32c(offset: usize, length: usize): u32 {
  assertRange(offset, length);
  let crc: u32 = ~0;
  let at = offset;
  const end = offset + length;
  const bulkEnd = offset + (length & ~15);
  while (at < bulkEnd) {
    const a = load<u64>(at) ^ <u64>crc;
    const b = load<u64>(at, 8);
    at += 16;
    // The terms that need no earlier result come first.
    const tail =
      load<u32>(<u32>(b << 2) & 0x3fc, T7) ^
      load<u32>(<u32>(b >> 6) & 0x3fc, T6) ^
      load<u32>(<u32>(b >> 14) & 0x3fc, T5) ^
      load<u32>(<u32>(b >> 22) & 0x3fc, T4) ^
      load<u32>(<u32>(b >> 30) & 0x3fc, T3) ^
      load<u32>(<u32>(b >> 38) & 0x3fc, T2) ^
      load<u32>(<u32>(b >> 46) & 0x3fc, T1) ^
      load<u32>(<u32>(b >> 54) & 0x3fc, T0);
    const middle =
      load<u32>(<u32>(a >> 30) & 0x3fc, T11) ^
      load<u32>(<u32>(a >> 38) & 0x3fc, T10) ^
      load<u32>(<u32>(a >> 46) & 0x3fc, T9) ^
      load<u32>(<u32>(a >> 54) & 0x3fc, T8);
    crc =
      load<u32>(<u32>(a << 2) & 0x3fc, T15) ^
      load<u32>(<u32>(a >> 6) & 0x3fc, T14) ^
      load<u32>(<u32>(a >> 14) & 0x3fc, T13) ^
      load<u32>(<u32>(a >> 22) & 0x3fc, T12) ^
      middle ^
      tail;
  }
  while (at < end) {
    crc = (crc >> 8) ^ load<u32>(((crc ^ <u32>load<u8>(at)) & 255) << 2, T0);
    at++;
  }
  return ~crc;
}

export function checksumFragments(pairs: usize, count: u32): void {
  assertRange(pairs, <usize>count << 3);
  for (let i: u32 = 0; i < count; i++, pairs += 8) {
    const frame = <usize>load<u32>(pairs);
    store<u32>(frame, checksumOf(frame, load<u32>(pairs, 4)), DATA_CHECKSUM);
  }
}

export function verifyFragments(pairs: usize, count: u32, good: usize): u32 {
  assertRange(pairs, <usize>count << 3);
  assertRange(good, count);
  let holds: u32 = 0;
  for (let i: u32 = 0; i < count; i++, pairs += 8) {
    const frame = <usize>load<u32>(pairs);
    const ok = u32(checksumOf(frame, load<u32>(pairs, 4)) == load<u32>(frame, DATA_CHECKSUM));
    store<u8>(good + i, ok);
    holds += ok;
  }
  return holds;
}

// @ts-ignore: decorator
@inline
function checksumOf(frame: usize, frameBytes: u32): u32 {
  assert(frameBytes >= DATA_HEADER_BYTES);
  return crc32c(frame + DATA_CHECKED_FROM, frameBytes - DATA_CHECKED_FROM);
}
