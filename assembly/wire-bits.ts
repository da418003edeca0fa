/**
 * The wire form of a buffermap's bits, both ways. The wire is byte-aligned, the map is not: each
 * word is put together of two, or falls apart into two.
 */

import { assertRange, assertWords } from "./bounds";

export function bitsToWire(words: usize, from: u32, to: u32, target: usize): u32 {
  if (from >= to) return 0;
  assertWords(words, to);
  assertRange(target, (to - from + 7) >> 3);
  const shift = <u64>(from & 63);
  const lastWord = words + <usize>(((to - 1) >> 6) << 3);
  let word = words + <usize>((from >> 6) << 3);
  let at = target;
  let trimmedEnd = target;
  let left = to - from;
  while (left > 0) {
    let bits = load<u64>(word) >> shift;
    if (shift != 0 && word < lastWord) bits |= load<u64>(word, 8) << (64 - shift);
    word += 8;
    if (left >= 64) {
      store<u64>(at, bits);
      left -= 64;
    } else {
      bits &= ~(<u64>0) >> (64 - left);
      storeBytes(at, bits, (left + 7) >> 3);
      left = 0;
    }
    if (bits != 0) trimmedEnd = at + 8 - <usize>(clz<u64>(bits) >> 3);
    at += 8;
  }
  return <u32>(trimmedEnd - target);
}

export function bitsFromWire(source: usize, count: u32, words: usize, to: u32): void {
  if (count == 0) return;
  assertWords(words, to + count);
  assertRange(source, (count + 7) >> 3);
  const shift = <u64>(to & 63);
  let word = words + <usize>((to >> 6) << 3);
  let left = count;
  while (left > 0) {
    let bits: u64;
    if (left >= 64) {
      bits = load<u64>(source);
      left -= 64;
    } else {
      bits = loadBytes(source, (left + 7) >> 3) & (~(<u64>0) >> (64 - left));
      left = 0;
    }
    source += 8;
    store<u64>(word, load<u64>(word) | (bits << shift));
    word += 8;
    if (shift == 0) continue;
    // Without a bit to add, the next word may lie beyond the map.
    const carried = bits >> (64 - shift);
    if (carried != 0) store<u64>(word, load<u64>(word) | carried);
  }
}

/** Stores the lowest `count` bytes, 1 to 8. */
function storeBytes(at: usize, bits: u64, count: u32): void {
  for (let i: u32 = 0; i < count; i++) store<u8>(at + i, <u8>(bits >> (i << 3)));
}

/** Reads `count` bytes, 1 to 8; the others are zero. */
function loadBytes(at: usize, count: u32): u64 {
  let bits: u64 = 0;
  for (let i: u32 = 0; i < count; i++) bits |= <u64>load<u8>(at + i) << (i << 3);
  return bits;
}
