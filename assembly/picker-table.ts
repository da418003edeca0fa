/**
 * The picker's table, a word of 64 indices at a time: counters in bit planes, what of them is a
 * candidate, which classes of rarity a word has, and the two levels of summaries over that.
 *
 * Everything derived is recomputed from planes, taken, reserved and held (`refresh`): there is no
 * other way for it to change. What to pick is no matter of this file.
 */

import {
  PICKER_ANY,
  PICKER_CANDIDATES,
  PICKER_CELLS,
  PICKER_CELL_BYTES,
  PICKER_CELL_PLANES,
  PICKER_GROUPS,
  PICKER_GROUP_BYTES,
  PICKER_HELD,
  PICKER_KIND_ANY,
  PICKER_MANY,
  PICKER_PRESENCE,
  PICKER_RESERVED,
  PICKER_TAKEN,
  PICKER_TOP,
  PICKER_UPPER,
  PICKER_UPPER_BYTES,
  PICKER_UPPER_PLANES,
} from "./layout";

// @ts-ignore: decorator
@inline
export function cellOf(table: usize, w: u32): usize {
  return <usize>load<u32>(table, PICKER_CELLS) + <usize>w * PICKER_CELL_BYTES;
}

// @ts-ignore: decorator
@inline
export function upperOf(table: usize, w: u32): usize {
  return <usize>load<u32>(table, PICKER_UPPER) + <usize>w * PICKER_UPPER_BYTES;
}

// @ts-ignore: decorator
@inline
export function anyOf(table: usize, w: u32): usize {
  return <usize>load<u32>(table, PICKER_ANY) + (<usize>w << 3);
}

// @ts-ignore: decorator
@inline
export function groupOf(table: usize, g: u32): usize {
  return table + PICKER_GROUPS + <usize>g * PICKER_GROUP_BYTES;
}

/** Sets the bits of `mask` in word w of `have` and counts the new ones. */
export function add(table: usize, have: usize, w: u32, mask: u64): u32 {
  const at = have + (<usize>w << 3);
  const before = load<u64>(at);
  const fresh = mask & ~before;
  if (fresh == 0) return 0;
  store<u64>(at, before | fresh);
  let carry = fresh;
  let plane = cellOf(table, w);
  const end = plane + (PICKER_CELL_PLANES << 3);
  for (; carry != 0 && plane < end; plane += 8) {
    const bits = load<u64>(plane);
    store<u64>(plane, bits ^ carry);
    carry &= bits;
  }
  if (carry != 0) addUpper(table, w, carry);
  if ((fresh & openOf(table, w)) != 0) refresh(table, w);
  return <u32>popcnt<u64>(fresh);
}

/** Clears the bits of `mask` in word w of `have` and discounts those that were set. */
export function subtract(table: usize, have: usize, w: u32, mask: u64): u32 {
  const at = have + (<usize>w << 3);
  const before = load<u64>(at);
  const gone = mask & before;
  if (gone == 0) return 0;
  store<u64>(at, before & ~gone);
  let borrow = gone;
  let plane = cellOf(table, w);
  const end = plane + (PICKER_CELL_PLANES << 3);
  for (; borrow != 0 && plane < end; plane += 8) {
    const bits = load<u64>(plane);
    store<u64>(plane, bits ^ borrow);
    borrow &= ~bits;
  }
  if (borrow != 0) subtractUpper(table, w, borrow);
  if ((gone & openOf(table, w)) != 0) refresh(table, w);
  return <u32>popcnt<u64>(gone);
}

/** 16 more of each index of `carry`. */
function addUpper(table: usize, w: u32, carry: u64): void {
  const cell = cellOf(table, w);
  store<u64>(cell, load<u64>(cell, PICKER_MANY) | carry, PICKER_MANY);
  let plane = upperOf(table, w);
  const end = plane + (PICKER_UPPER_PLANES << 3);
  for (; carry != 0 && plane < end; plane += 8) {
    const bits = load<u64>(plane);
    store<u64>(plane, bits ^ carry);
    carry &= bits;
  }
}

/** 16 less of each index of `borrow`. */
function subtractUpper(table: usize, w: u32, borrow: u64): void {
  let plane = upperOf(table, w);
  const end = plane + (PICKER_UPPER_PLANES << 3);
  let many: u64 = 0;
  for (; plane < end; plane += 8) {
    const bits = load<u64>(plane);
    store<u64>(plane, bits ^ borrow);
    many |= bits ^ borrow;
    borrow &= ~bits;
  }
  store<u64>(cellOf(table, w), many, PICKER_MANY);
}

/** Bits of word w that are candidates as soon as somebody holds them. */
// @ts-ignore: decorator
@inline
function openOf(table: usize, w: u32): u64 {
  const cell = cellOf(table, w);
  const held = load<u64>(<usize>load<u32>(table, PICKER_HELD) + (<usize>w << 3));
  return ~(load<u64>(cell, PICKER_TAKEN) | load<u64>(cell, PICKER_RESERVED) | held);
}

/** Recomputes the candidates of word w, its presence, and the summaries above. */
export function refresh(table: usize, w: u32): void {
  const cell = cellOf(table, w);
  const p0 = load<u64>(cell);
  const p1 = load<u64>(cell, 8);
  const p2 = load<u64>(cell, 16);
  const p3 = load<u64>(cell, 24);
  const many = load<u64>(cell, PICKER_MANY);
  const any = (p0 | p1 | p2 | p3 | many) & openOf(table, w);
  const at = anyOf(table, w);
  const before = load<u64>(at);
  if (any != before) {
    store<u64>(at, any);
    const change = <u32>popcnt<u64>(any) - <u32>popcnt<u64>(before);
    store<u32>(table, load<u32>(table, PICKER_CANDIDATES) + change, PICKER_CANDIDATES);
  }
  const under16 = any & ~many;
  const under8 = under16 & ~p3;
  const under4 = under8 & ~p2;
  const presence =
    u32((under4 & ~p1) != 0) |
    (u32((under4 & p1 & ~p0) != 0) << 1) |
    (u32((under4 & p1 & p0) != 0) << 2) |
    (u32((under8 & p2) != 0) << 3) |
    (u32((under16 & p3) != 0) << 4) |
    (u32((any & many) != 0) << 5) |
    (u32(any != 0) << PICKER_KIND_ANY);
  const changed = presence ^ load<u32>(cell, PICKER_PRESENCE);
  if (changed == 0) return;
  store<u32>(cell, presence, PICKER_PRESENCE);
  summarise(table, w, presence, changed);
}

/** Brings the summaries of the `changed` kinds of word w up to date. */
export function summarise(table: usize, w: u32, presence: u32, changed: u32): void {
  const group = groupOf(table, w >> 6);
  const bit = <u64>1 << (w & 63);
  const groupBit = <u64>1 << (w >> 6);
  for (; changed != 0; changed &= changed - 1) {
    const kind = ctz<u32>(changed);
    const at = group + (<usize>kind << 3);
    const top = table + (<usize>kind << 3);
    const before = load<u64>(at);
    if (((presence >> kind) & 1) != 0) {
      store<u64>(at, before | bit);
      if (before == 0) store<u64>(top, load<u64>(top, PICKER_TOP) | groupBit, PICKER_TOP);
    } else {
      store<u64>(at, before & ~bit);
      if (before == bit) store<u64>(top, load<u64>(top, PICKER_TOP) & ~groupBit, PICKER_TOP);
    }
  }
}

/** Indices whose availability is that of class `kind`, candidates or not. */
export function classOf(cell: usize, kind: u32): u64 {
  const many = load<u64>(cell, PICKER_MANY);
  if (kind == 5) return many;
  const p3 = load<u64>(cell, 24);
  if (kind == 4) return p3 & ~many;
  const p2 = load<u64>(cell, 16);
  const over7 = p3 | many;
  if (kind == 3) return p2 & ~over7;
  const p0 = load<u64>(cell);
  const p1 = load<u64>(cell, 8);
  const under4 = ~(p2 | over7);
  if (kind == 2) return p1 & p0 & under4;
  return kind == 1 ? p1 & ~p0 & under4 : p0 & ~p1 & under4;
}
