/**
 * What to ask for next: candidates by rarity, over one window and all its neighbours.
 *
 * Availability is kept in bit planes, so that one pass of carries counts a neighbour's whole word of
 * 64 indices, whichever of them are new: plane p holds bit p of 64 counters. The classes of rarity
 * are plain logic on the planes and are not stored; of each word only its presence is, which kinds
 * of candidates it has. Two levels of summaries over that (64 words, 64 groups) lead each search from
 * one word with candidates to the next, however large and empty the window is; what of them a
 * neighbour has is seen word by word.
 * The table itself is kept in picker-table.ts.
 */

import { bitsShiftDown, headMask, tailMask } from "./bits";
import { assertRange, assertWords } from "./bounds";
import {
  PICKER_ANY,
  PICKER_CANDIDATES,
  PICKER_CELLS,
  PICKER_CELL_BYTES,
  PICKER_CELL_PLANES,
  PICKER_CLASSES,
  PICKER_GROUPS,
  PICKER_KIND_ANY,
  PICKER_MANY,
  PICKER_PRESENCE,
  PICKER_RESERVED,
  PICKER_TAKEN,
  PICKER_TOP,
  PICKER_UPPER,
  PICKER_UPPER_BYTES,
  PICKER_UPPER_PLANES,
  PICKER_WORDS,
  PICK_CLASS_WORDS_MAX,
  SUBSTREAM_RUN,
} from "./layout";
import { add, anyOf, cellOf, classOf, groupOf, refresh, subtract, summarise, upperOf } from "./picker-table";

/** After so many words of a group in vain the rest of it is searched by vectors, */
const MISSES_MAX: u32 = 2;
/** if more than so many are left there. */
const DENSE_WORDS: u32 = 8;

export function pickerAdvertise(table: usize, have: usize, from: u32, to: u32): u32 {
  if (from >= to) return 0;
  assertTable(table, to);
  assertWords(have, to);
  const last = (to - 1) >> 6;
  let mask = headMask(from);
  let count: u32 = 0;
  for (let w = from >> 6; w <= last; w++) {
    if (w == last) mask &= tailMask(to);
    count += add(table, have, w, mask);
    mask = ~(<u64>0);
  }
  return count;
}

export function pickerWithdraw(table: usize, have: usize, from: u32, to: u32): u32 {
  if (from >= to) return 0;
  assertTable(table, to);
  assertWords(have, to);
  const last = (to - 1) >> 6;
  let mask = headMask(from);
  let count: u32 = 0;
  for (let w = from >> 6; w <= last; w++) {
    if (w == last) mask &= tailMask(to);
    count += subtract(table, have, w, mask);
    mask = ~(<u64>0);
  }
  return count;
}

export function pickerReplace(table: usize, have: usize, fresh: usize): u32 {
  const words = load<u32>(table, PICKER_WORDS);
  assertTable(table, words << 6);
  assertWords(have, words << 6);
  assertWords(fresh, words << 6);
  let count: u32 = 0;
  for (let w: u32 = 0; w < words; w++) {
    const now = load<u64>(fresh + (<usize>w << 3));
    const before = load<u64>(have + (<usize>w << 3));
    if (now == before) continue;
    subtract(table, have, w, before & ~now);
    count += add(table, have, w, now);
  }
  return count;
}

export function pickerTake(table: usize, from: u32, to: u32): void {
  if (from >= to) return;
  assertTable(table, to);
  const last = (to - 1) >> 6;
  let mask = headMask(from);
  for (let w = from >> 6; w <= last; w++) {
    if (w == last) mask &= tailMask(to);
    const cell = cellOf(table, w);
    store<u64>(cell, load<u64>(cell, PICKER_TAKEN) | mask, PICKER_TAKEN);
    if ((load<u64>(anyOf(table, w)) & mask) != 0) refresh(table, w);
    mask = ~(<u64>0);
  }
}

export function pickerRelease(table: usize, from: u32, to: u32): void {
  if (from >= to) return;
  assertTable(table, to);
  const last = (to - 1) >> 6;
  let mask = headMask(from);
  for (let w = from >> 6; w <= last; w++) {
    if (w == last) mask &= tailMask(to);
    const cell = cellOf(table, w);
    const taken = load<u64>(cell, PICKER_TAKEN);
    if ((taken & mask) != 0) {
      store<u64>(cell, taken & ~mask, PICKER_TAKEN);
      refresh(table, w);
    }
    mask = ~(<u64>0);
  }
}

export function pickerStored(table: usize, bit: u32): void {
  assertTable(table, bit + 1);
  const w = bit >> 6;
  const mask = <u64>1 << (bit & 63);
  const cell = cellOf(table, w);
  store<u64>(cell, load<u64>(cell, PICKER_TAKEN) & ~mask, PICKER_TAKEN);
  if ((load<u64>(anyOf(table, w)) & mask) != 0) refresh(table, w);
}

export function pickerReserve(
  table: usize,
  run: u32,
  stride: u32,
  from: u32,
  to: u32,
  on: u32,
): void {
  assertTable(table, to);
  assert(run % SUBSTREAM_RUN == 0 && stride % SUBSTREAM_RUN == 0 && stride > 0);
  for (; run < to; run += stride) {
    const low = max(run, from);
    const high = min(run + SUBSTREAM_RUN, to);
    if (low >= high) continue;
    const w = low >> 6;
    const mask = headMask(low) & tailMask(high);
    const cell = cellOf(table, w);
    const before = load<u64>(cell, PICKER_RESERVED);
    const now = on != 0 ? before | mask : before & ~mask;
    if (now == before) continue;
    store<u64>(cell, now, PICKER_RESERVED);
    refresh(table, w);
  }
}

export function pickerAvailability(table: usize, bit: u32): u32 {
  assertTable(table, bit + 1);
  const cell = cellOf(table, bit >> 6);
  let count: u32 = 0;
  for (let p: u32 = 0; p < PICKER_CELL_PLANES; p++) {
    count |= <u32>((load<u64>(cell + (p << 3)) >> (bit & 63)) & 1) << p;
  }
  if (((load<u64>(cell, PICKER_MANY) >> (bit & 63)) & 1) == 0) return count;
  const upper = upperOf(table, bit >> 6);
  for (let p: u32 = 0; p < PICKER_UPPER_PLANES; p++) {
    count |= <u32>((load<u64>(upper + (p << 3)) >> (bit & 63)) & 1) << (p + PICKER_CELL_PLANES);
  }
  return count;
}

export function pickerNext(table: usize, from: u32, to: u32): u32 {
  if (from >= to) return to;
  assertTable(table, to);
  const last = (to - 1) >> 6;
  let w = from >> 6;
  const bits = load<u64>(anyOf(table, w)) & headMask(from);
  if (bits != 0) return min<u32>((w << 6) + <u32>ctz<u64>(bits), to);
  w = nextWord(table, anyOf(table, 0), w + 1, last);
  if (w > last) return to;
  return min<u32>((w << 6) + <u32>ctz<u64>(load<u64>(anyOf(table, w))), to);
}

export function pickerPick(
  table: usize,
  have: usize,
  from: u32,
  urgentEnd: u32,
  to: u32,
  most: u32,
  random: u32,
  out: usize,
): u32 {
  if (most == 0 || from >= to) return 0;
  assertTable(table, to);
  assertRange(out, <usize>most << 2);
  if (have == 0) have = anyOf(table, 0);
  assertWords(have, to);
  const end = out + (<usize>most << 2);
  let at = scan(table, have, from, min(urgentEnd, to), out, end);
  const low = max(from, urgentEnd);
  if (at == end || low >= to) return <u32>((at - out) >> 2);
  // Most picks are in vain: one search tells, and not one for each class.
  const last = (to - 1) >> 6;
  if (nextWord(table, have, low >> 6, last) > last) {
    return <u32>((at - out) >> 2);
  }
  const before = at;
  for (let kind: u32 = 0; kind < PICKER_CLASSES && at < end; kind++) {
    if (load<u64>(table + (kind << 3), PICKER_TOP) == 0) continue;
    random = mix(random);
    const start = draw(table, kind, have, low, to, random);
    at = scanClass(table, kind, have, low, start, to, at, end);
  }
  if (at == before) {
    // There is one, but none where its class was looked for.
    const start = low + below(mix(random), to - low);
    at = scan(table, have, start, to, at, end);
    if (at < end) at = scan(table, have, low, start, at, end);
  }
  return <u32>((at - out) >> 2);
}

export function pickerShift(table: usize, shiftWords: u32): void {
  const words = load<u32>(table, PICKER_WORDS);
  assertTable(table, words << 6);
  const cells = <usize>load<u32>(table, PICKER_CELLS);
  const shift = min(shiftWords, words);
  const perCell = PICKER_CELL_BYTES >> 3;
  bitsShiftDown(cells, words * perCell, shift * perCell);
  const perUpper = PICKER_UPPER_BYTES >> 3;
  bitsShiftDown(load<u32>(table, PICKER_UPPER), words * perUpper, shift * perUpper);
  bitsShiftDown(load<u32>(table, PICKER_ANY), words, shiftWords);
  const summaryEnd = groupOf(table, (words + 63) >> 6);
  memory.fill(table + PICKER_TOP, 0, summaryEnd - table - PICKER_TOP);
  let candidates: u32 = 0;
  for (let w: u32 = 0; w < words; w++) {
    const presence = load<u32>(cells + <usize>w * PICKER_CELL_BYTES, PICKER_PRESENCE);
    if (presence == 0) continue;
    candidates += <u32>popcnt<u64>(load<u64>(anyOf(table, w)));
    summarise(table, w, presence, presence);
  }
  store<u32>(table, candidates, PICKER_CANDIDATES);
}

/**
 * First word from w on of which `have` has a candidate; one past `last` when none up to there is. It
 * goes by the summaries from word to word, and by vectors where a group has many and `have` nothing of
 * them.
 */
function nextWord(table: usize, have: usize, w: u32, last: u32): u32 {
  if (w > last) return last + 1;
  const any = anyOf(table, 0);
  let g = w >> 6;
  let groups = load<u64>(table + (PICKER_KIND_ANY << 3), PICKER_TOP) & (~(<u64>1) << g);
  let words = load<u64>(groupOf(table, g) + (PICKER_KIND_ANY << 3)) & (~(<u64>0) << (w & 63));
  while (true) {
    let misses: u32 = 0;
    while (words != 0) {
      w = (g << 6) + <u32>ctz<u64>(words);
      if (w > last) return last + 1;
      if ((load<u64>(any + (<usize>w << 3)) & load<u64>(have + (<usize>w << 3))) != 0) return w;
      words &= words - 1;
      if (++misses < MISSES_MAX || <u32>popcnt<u64>(words) <= DENSE_WORDS) continue;
      const groupLast = min((g << 6) + 63, last);
      w = nextMeeting(any, have, w + 1, groupLast);
      if (w > groupLast) break;
      words &= ~(<u64>0) << (w & 63);
      misses = 0;
    }
    if (groups == 0) break;
    g = <u32>ctz<u64>(groups);
    groups &= groups - 1;
    words = load<u64>(groupOf(table, g) + (PICKER_KIND_ANY << 3));
  }
  return last + 1;
}

/** Writes what `have` has of the candidates in [from, to) to [out, end), as room is. */
function scan(
  table: usize,
  have: usize,
  from: u32,
  to: u32,
  out: usize,
  end: usize,
): usize {
  if (from >= to) return out;
  const first = from >> 6;
  const last = (to - 1) >> 6;
  let w = nextWord(table, have, first, last);
  for (; w <= last; w = nextWord(table, have, w + 1, last)) {
    let bits = load<u64>(anyOf(table, w)) & load<u64>(have + (<usize>w << 3));
    if (w == first) bits &= headMask(from);
    if (w == last) bits &= tailMask(to);
    out = write(out, end, w, bits);
    if (out == end) break;
  }
  return out;
}

/**
 * Writes what `have` has of the candidates of class `kind` in [start, to) and then in [from, start),
 * as room is, or until enough words that have some of the class were looked at.
 */
function scanClass(
  table: usize,
  kind: u32,
  have: usize,
  from: u32,
  start: u32,
  to: u32,
  out: usize,
  end: usize,
): usize {
  let left = PICK_CLASS_WORDS_MAX;
  for (let turn = 0; turn < 2; turn++) {
    if (start < to) {
      const first = start >> 6;
      const last = (to - 1) >> 6;
      let g = first >> 6;
      let groups = load<u64>(table + (kind << 3), PICKER_TOP) & (~(<u64>1) << g);
      let words = load<u64>(groupOf(table, g) + (kind << 3)) & (~(<u64>0) << (first & 63));
      while (true) {
        for (; words != 0; words &= words - 1) {
          const w = (g << 6) + <u32>ctz<u64>(words);
          if (w > last) break;
          if (left-- == 0) return out;
          let bits = kindOf(table, kind, have, w);
          if (w == first) bits &= headMask(start);
          if (w == last) bits &= tailMask(to);
          out = write(out, end, w, bits);
          if (out == end) return out;
        }
        if (words != 0 || groups == 0) break;
        g = <u32>ctz<u64>(groups);
        groups &= groups - 1;
        words = load<u64>(groupOf(table, g) + (kind << 3));
      }
    }
    to = start;
    start = from;
  }
  return out;
}

/** Writes the indices of `bits` of word w, as room is. */
// @ts-ignore: decorator
@inline
function write(out: usize, end: usize, w: u32, bits: u64): usize {
  for (; bits != 0 && out != end; bits &= bits - 1, out += 4) {
    store<u32>(out, (w << 6) + <u32>ctz<u64>(bits));
  }
  return out;
}

/** What `have` has of the candidates of `kind` in word w. */
// @ts-ignore: decorator
@inline
function kindOf(table: usize, kind: u32, have: usize, w: u32): u64 {
  const bits = load<u64>(anyOf(table, w)) & load<u64>(have + (<usize>w << 3));
  return bits != 0 ? bits & classOf(cellOf(table, w), kind) : 0;
}

/** First word from w on that the maps `any` and `have` share a bit of; one past `last` when none. */
function nextMeeting(any: usize, have: usize, w: u32, last: u32): u32 {
  let at = <usize>w << 3;
  const end = (<usize>last + 1) << 3;
  for (; at + 32 <= end; at += 32) {
    const low = v128.and(v128.load(any + at), v128.load(have + at));
    const high = v128.and(v128.load(any + at, 16), v128.load(have + at, 16));
    if (v128.any_true(v128.or(low, high))) break;
  }
  for (; at < end; at += 8) {
    if ((load<u64>(any + at) & load<u64>(have + at)) != 0) break;
  }
  return <u32>(at >> 3);
}

/**
 * A place in [from, to) to begin with class `kind`: a candidate of it, were it not for `have` and
 * the words at both ends. Words that have one are drawn alike, then their bits.
 */
function draw(table: usize, kind: u32, have: usize, from: u32, to: u32, random: u32): u32 {
  const first = from >> 6;
  const last = (to - 1) >> 6;
  let w = first + below(random, last - first + 1);
  if (((load<u64>(groupOf(table, w >> 6) + (kind << 3)) >> (w & 63)) & 1) == 0) {
    // Not every word has one: a group that has, then a word of it.
    let groups = load<u64>(table + (kind << 3), PICKER_TOP);
    groups &= (~(<u64>0) << (first >> 6)) & (~(<u64>0) >> (63 - (last >> 6)));
    if (groups == 0) return from;
    random = mix(random);
    const g = select(groups, below(random, <u32>popcnt<u64>(groups)));
    let words = load<u64>(groupOf(table, g) + (kind << 3));
    if (g == first >> 6) words &= ~(<u64>0) << (first & 63);
    if (g == last >> 6) words &= ~(<u64>0) >> (63 - (last & 63));
    if (words == 0) return from;
    random = mix(random);
    w = (g << 6) + select(words, below(random, <u32>popcnt<u64>(words)));
  }
  let bits = kindOf(table, kind, have, w);
  if (w == first) bits &= headMask(from);
  if (w == last) bits &= tailMask(to);
  if (bits == 0) return max(from, w << 6);
  random = mix(random);
  return (w << 6) + select(bits, below(random, <u32>popcnt<u64>(bits)));
}

/** Position of the set bit that has `rank` set bits below it. */
function select(bits: u64, rank: u32): u32 {
  for (; rank > 0; rank--) bits &= bits - 1;
  return <u32>ctz<u64>(bits);
}

/** The next of a sequence of random u32 (splitmix32). */
// @ts-ignore: decorator
@inline
function mix(random: u32): u32 {
  let z = random + 0x9e3779b9;
  z = (z ^ (z >> 16)) * 0x21f0aaad;
  z = (z ^ (z >> 15)) * 0x735a2d97;
  return z ^ (z >> 15);
}

/** `random` scaled to [0, limit). */
// @ts-ignore: decorator
@inline
function below(random: u32, limit: u32): u32 {
  return <u32>((<u64>random * <u64>limit) >> 32);
}

// @ts-ignore: decorator
@inline
function assertTable(table: usize, to: u32): void {
  assert((table & 7) == 0);
  assertRange(table, PICKER_GROUPS);
  assert(<u64>to <= <u64>load<u32>(table, PICKER_WORDS) << 6);
  assert(load<u32>(table, PICKER_WORDS) <= 63 * 64);
}
