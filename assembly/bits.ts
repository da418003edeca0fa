/**
 * Bit maps of 64-bit words. Ranges are [from, to). The words at both ends are masked, those in
 * between go by vectors of two.
 */

import { assertRange, assertWords } from "./bounds";

/** Vectors whose byte counts (at most 8 a byte) add up without overflow: 31 * 8 < 256. */
const BLOCK_VECTORS: usize = 31;

export function bitTest(words: usize, bit: u32): u32 {
  assertWords(words, bit);
  return <u32>((load<u64>(wordOf(words, bit)) >> (bit & 63)) & 1);
}

export function bitsSet(words: usize, from: u32, to: u32): void {
  if (from >= to) return;
  assertWords(words, to);
  const first = wordOf(words, from);
  const last = wordOf(words, to - 1);
  const head = headMask(from);
  const tail = tailMask(to);
  if (first == last) {
    store<u64>(first, load<u64>(first) | (head & tail));
    return;
  }
  store<u64>(first, load<u64>(first) | head);
  memory.fill(first + 8, 0xff, last - first - 8);
  store<u64>(last, load<u64>(last) | tail);
}

export function bitsClear(words: usize, from: u32, to: u32): void {
  if (from >= to) return;
  assertWords(words, to);
  const first = wordOf(words, from);
  const last = wordOf(words, to - 1);
  const head = headMask(from);
  const tail = tailMask(to);
  if (first == last) {
    store<u64>(first, load<u64>(first) & ~(head & tail));
    return;
  }
  store<u64>(first, load<u64>(first) & ~head);
  memory.fill(first + 8, 0, last - first - 8);
  store<u64>(last, load<u64>(last) & ~tail);
}

export function bitsCount(words: usize, from: u32, to: u32): u32 {
  if (from >= to) return 0;
  assertWords(words, to);
  let at = wordOf(words, from);
  const last = wordOf(words, to - 1);
  const tail = tailMask(to);
  if (at == last) return <u32>popcnt<u64>(load<u64>(at) & headMask(from) & tail);
  let count = <u32>popcnt<u64>(load<u64>(at) & headMask(from));
  count += <u32>popcnt<u64>(load<u64>(last) & tail);
  at += 8;
  while (at + 16 <= last) {
    const blockEnd = min(at + BLOCK_VECTORS * 16, at + ((last - at) & ~15));
    let sums = i8x16.splat(0);
    for (; at < blockEnd; at += 16) sums = i8x16.add(sums, i8x16.popcnt(v128.load(at)));
    count += sumOf(sums);
  }
  if (at < last) count += <u32>popcnt<u64>(load<u64>(at));
  return count;
}

export function bitsNextSet(words: usize, from: u32, to: u32): u32 {
  if (from >= to) return to;
  assertWords(words, to);
  let at = wordOf(words, from);
  const last = wordOf(words, to - 1);
  let bits = load<u64>(at) & headMask(from);
  if (bits == 0) {
    at += 8;
    while (at + 16 <= last && !v128.any_true(v128.load(at))) at += 16;
    while (at <= last) {
      bits = load<u64>(at);
      if (bits != 0) break;
      at += 8;
    }
  }
  return firstBit(words, at, bits, to);
}

export function bitsNextClear(words: usize, from: u32, to: u32): u32 {
  if (from >= to) return to;
  assertWords(words, to);
  let at = wordOf(words, from);
  const last = wordOf(words, to - 1);
  let bits = ~load<u64>(at) & headMask(from);
  if (bits == 0) {
    at += 8;
    while (at + 16 <= last && i64x2.all_true(i64x2.eq(v128.load(at), i64x2.splat(-1)))) at += 16;
    while (at <= last) {
      bits = ~load<u64>(at);
      if (bits != 0) break;
      at += 8;
    }
  }
  return firstBit(words, at, bits, to);
}

export function bitsNextDifference(a: usize, b: usize, from: u32, to: u32): u32 {
  if (from >= to) return to;
  assertWords(a, to);
  assertWords(b, to);
  const apart = b - a;
  let at = wordOf(a, from);
  const last = wordOf(a, to - 1);
  let bits = load<u64>(at) & ~load<u64>(at + apart) & headMask(from);
  if (bits == 0) {
    at += 8;
    while (at + 16 <= last) {
      if (v128.any_true(v128.andnot(v128.load(at), v128.load(at + apart)))) break;
      at += 16;
    }
    while (at <= last) {
      bits = load<u64>(at) & ~load<u64>(at + apart);
      if (bits != 0) break;
      at += 8;
    }
  }
  return firstBit(a, at, bits, to);
}

export function bitsNextDifference2(a: usize, b: usize, c: usize, from: u32, to: u32): u32 {
  if (from >= to) return to;
  assertWords(a, to);
  assertWords(b, to);
  assertWords(c, to);
  const apartB = b - a;
  const apartC = c - a;
  let at = wordOf(a, from);
  const last = wordOf(a, to - 1);
  let bits = load<u64>(at) & ~(load<u64>(at + apartB) | load<u64>(at + apartC)) & headMask(from);
  if (bits == 0) {
    at += 8;
    while (at + 16 <= last) {
      const known = v128.or(v128.load(at + apartB), v128.load(at + apartC));
      if (v128.any_true(v128.andnot(v128.load(at), known))) break;
      at += 16;
    }
    while (at <= last) {
      bits = load<u64>(at) & ~(load<u64>(at + apartB) | load<u64>(at + apartC));
      if (bits != 0) break;
      at += 8;
    }
  }
  return firstBit(a, at, bits, to);
}

export function bitsShiftDown(words: usize, wordCount: u32, shiftWords: u32): void {
  assert((words & 7) == 0);
  assertRange(words, <usize>wordCount << 3);
  const kept = shiftWords < wordCount ? wordCount - shiftWords : 0;
  const keptBytes = <usize>kept << 3;
  if (kept > 0) memory.copy(words, words + (<usize>shiftWords << 3), keptBytes);
  memory.fill(words + keptBytes, 0, <usize>(wordCount - kept) << 3);
}

// @ts-ignore: decorator
@inline
function wordOf(words: usize, bit: u32): usize {
  return words + <usize>((bit >> 6) << 3);
}

/** Bits from `from` on within its word. */
// @ts-ignore: decorator
@inline
export function headMask(from: u32): u64 {
  return ~(<u64>0) << (from & 63);
}

/** Bits below `to` within the word of bit `to - 1`. */
// @ts-ignore: decorator
@inline
export function tailMask(to: u32): u64 {
  return ~(<u64>0) >> (63 - ((to - 1) & 63));
}

// @ts-ignore: decorator
@inline
function firstBit(words: usize, at: usize, bits: u64, to: u32): u32 {
  if (bits == 0) return to;
  return min<u32>(<u32>((at - words) << 3) + <u32>ctz<u64>(bits), to);
}

// @ts-ignore: decorator
@inline
function sumOf(bytes: v128): u32 {
  const quarters = i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(bytes));
  return (
    i32x4.extract_lane(quarters, 0) +
    i32x4.extract_lane(quarters, 1) +
    i32x4.extract_lane(quarters, 2) +
    i32x4.extract_lane(quarters, 3)
  );
}
