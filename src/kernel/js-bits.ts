/**
 * Bit maps in JavaScript, on 32-bit words: a map of 64-bit little-endian words is the same bytes.
 * `base` is the index of the map's first 32-bit word; ranges are [from, to); an empty range counts
 * nothing, changes nothing and finds nothing.
 */

export function setRange(u32: Uint32Array, base: number, from: number, to: number): void {
  if (from >= to) return;
  const first = from >>> 5;
  const last = (to - 1) >>> 5;
  const head = -1 << (from & 31);
  const tail = -1 >>> (31 - ((to - 1) & 31));
  if (first === last) {
    u32[base + first] = (u32[base + first] as number) | (head & tail);
    return;
  }
  u32[base + first] = (u32[base + first] as number) | head;
  u32.fill(0xffffffff, base + first + 1, base + last);
  u32[base + last] = (u32[base + last] as number) | tail;
}

export function clearRange(u32: Uint32Array, base: number, from: number, to: number): void {
  if (from >= to) return;
  const first = from >>> 5;
  const last = (to - 1) >>> 5;
  const head = -1 << (from & 31);
  const tail = -1 >>> (31 - ((to - 1) & 31));
  if (first === last) {
    u32[base + first] = (u32[base + first] as number) & ~(head & tail);
    return;
  }
  u32[base + first] = (u32[base + first] as number) & ~head;
  u32.fill(0, base + first + 1, base + last);
  u32[base + last] = (u32[base + last] as number) & ~tail;
}

export function countRange(u32: Uint32Array, base: number, from: number, to: number): number {
  if (from >= to) return 0;
  const last = (to - 1) >>> 5;
  const tail = -1 >>> (31 - ((to - 1) & 31));
  let mask = -1 << (from & 31);
  let count = 0;
  for (let word = from >>> 5; word < last; word++) {
    count += popcount((u32[base + word] as number) & mask);
    mask = -1;
  }
  return count + popcount((u32[base + last] as number) & mask & tail);
}

export function nextSet(u32: Uint32Array, base: number, from: number, to: number): number {
  if (from >= to) return to;
  const last = (to - 1) >>> 5;
  let mask = -1 << (from & 31);
  for (let word = from >>> 5; word <= last; word++) {
    const bits = (u32[base + word] as number) & mask;
    if (bits !== 0) return firstBit(word, bits, to);
    mask = -1;
  }
  return to;
}

export function nextClear(u32: Uint32Array, base: number, from: number, to: number): number {
  if (from >= to) return to;
  const last = (to - 1) >>> 5;
  let mask = -1 << (from & 31);
  for (let word = from >>> 5; word <= last; word++) {
    const bits = ~(u32[base + word] as number) & mask;
    if (bits !== 0) return firstBit(word, bits, to);
    mask = -1;
  }
  return to;
}

export function nextDifference(
  u32: Uint32Array,
  a: number,
  b: number,
  from: number,
  to: number,
): number {
  if (from >= to) return to;
  const last = (to - 1) >>> 5;
  let mask = -1 << (from & 31);
  for (let word = from >>> 5; word <= last; word++) {
    const bits = (u32[a + word] as number) & ~(u32[b + word] as number) & mask;
    if (bits !== 0) return firstBit(word, bits, to);
    mask = -1;
  }
  return to;
}

export function nextDifference2(
  u32: Uint32Array,
  a: number,
  b: number,
  c: number,
  from: number,
  to: number,
): number {
  if (from >= to) return to;
  const last = (to - 1) >>> 5;
  let mask = -1 << (from & 31);
  for (let word = from >>> 5; word <= last; word++) {
    const known = (u32[b + word] as number) | (u32[c + word] as number);
    const bits = (u32[a + word] as number) & ~known & mask;
    if (bits !== 0) return firstBit(word, bits, to);
    mask = -1;
  }
  return to;
}

/**
 * Copies bits [from, to) to the bytes at `target`, from bit 0 of the first byte on. Writes every
 * byte of the range; returns their number less the zero bytes at the end.
 */
export function toWire(
  u32: Uint32Array,
  view: DataView,
  base: number,
  from: number,
  to: number,
  target: number,
): number {
  if (from >= to) return 0;
  const shift = from & 31;
  const last = base + ((to - 1) >>> 5);
  let word = base + (from >>> 5);
  let at = target;
  let trimmedEnd = target;
  for (let left = to - from; left > 0; left -= 32) {
    let bits = (u32[word++] as number) >>> shift;
    if (shift !== 0 && word <= last) bits |= (u32[word] as number) << (32 - shift);
    if (left < 32) bits &= -1 >>> (32 - left);
    const bytes = left >= 32 ? 4 : (left + 7) >>> 3;
    if (bits !== 0) trimmedEnd = at + 4 - (Math.clz32(bits) >>> 3);
    if (bytes === 4) {
      view.setUint32(at, bits, true);
      at += 4;
    } else {
      for (let i = 0; i < bytes; i++) view.setUint8(at++, (bits >>> (8 * i)) & 255);
    }
  }
  return trimmedEnd - target;
}

/** ORs `count` bits, from bit 0 of the byte at `source` on, into the map from bit `to` on. */
export function fromWire(
  u32: Uint32Array,
  view: DataView,
  source: number,
  count: number,
  base: number,
  to: number,
): void {
  const shift = to & 31;
  let word = base + (to >>> 5);
  let at = source;
  for (let left = count; left > 0; left -= 32) {
    let bits = 0;
    if (left >= 32) {
      bits = view.getUint32(at, true);
      at += 4;
    } else {
      const bytes = (left + 7) >>> 3;
      for (let i = 0; i < bytes; i++) bits |= view.getUint8(at++) << (8 * i);
      bits &= -1 >>> (32 - left);
    }
    u32[word] = (u32[word] as number) | (bits << shift);
    word++;
    if (shift === 0) continue;
    // Without a bit to add, the next word may lie beyond the map.
    const carried = bits >>> (32 - shift);
    if (carried !== 0) u32[word] = (u32[word] as number) | carried;
  }
}

function firstBit(word: number, bits: number, to: number): number {
  return Math.min(word * 32 + 31 - Math.clz32(bits & -bits), to);
}

export function popcount(bits: number): number {
  let x = bits - ((bits >>> 1) & 0x55555555);
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
