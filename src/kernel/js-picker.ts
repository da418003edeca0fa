/**
 * The picker's kernels in JavaScript, on 32-bit words: the same bytes as assembly/picker.ts leaves,
 * where the structure is explained. `i` is the number of a 32-bit word of a map; its 64-bit word is
 * i >>> 1. Offsets of tables and maps are in bytes, ranges are [from, to).
 */

import {
  PICKER_ANY,
  PICKER_CANDIDATES,
  PICKER_CELL_BYTES,
  PICKER_CELL_PLANES,
  PICKER_CELLS,
  PICKER_CLASSES,
  PICKER_GROUP_BYTES,
  PICKER_GROUPS,
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
  PICKER_WORDS,
} from "../base/layout.ts";
import { PICK_CLASS_WORDS_MAX, SUBSTREAM_RUN } from "../base/limits.ts";
import { nextSet, popcount } from "./js-bits.ts";

const CELL_U32 = PICKER_CELL_BYTES / 4;
const UPPER_U32 = PICKER_UPPER_BYTES / 4;
const MANY = PICKER_MANY / 4;
const PLANES = PICKER_CELL_PLANES + PICKER_UPPER_PLANES;
const TAKEN = PICKER_TAKEN / 4;
const RESERVED = PICKER_RESERVED / 4;
const PRESENCE = PICKER_PRESENCE / 4;

/** A table in a memory, with its offsets resolved to numbers of 32-bit words. */
export class JsPicker {
  readonly #u32: Uint32Array;
  readonly #table: number;
  readonly #held: number;
  readonly #cells: number;
  readonly #any: number;
  readonly #upper: number;

  constructor(u32: Uint32Array, table: number) {
    this.#u32 = u32;
    this.#table = table >>> 2;
    this.#held = this.#header(PICKER_HELD) >>> 2;
    this.#cells = this.#header(PICKER_CELLS) >>> 2;
    this.#any = this.#header(PICKER_ANY) >>> 2;
    this.#upper = this.#header(PICKER_UPPER) >>> 2;
  }

  advertise(have: number, from: number, to: number): number {
    let count = 0;
    eachWord(from, to, (i, mask) => {
      count += this.#add(have >>> 2, i, mask);
    });
    return count;
  }

  withdraw(have: number, from: number, to: number): number {
    let count = 0;
    eachWord(from, to, (i, mask) => {
      count += this.#subtract(have >>> 2, i, mask);
    });
    return count;
  }

  replace(have: number, fresh: number): number {
    let count = 0;
    eachWord(0, 64 * this.#header(PICKER_WORDS), (i) => {
      const now = this.#at((fresh >>> 2) + i);
      this.#subtract(have >>> 2, i, this.#at((have >>> 2) + i) & ~now);
      count += this.#add(have >>> 2, i, now);
    });
    return count;
  }

  take(from: number, to: number): void {
    eachWord(from, to, (i, mask) => {
      const at = this.#cell(i) + TAKEN;
      this.#u32[at] = this.#at(at) | mask;
      if ((this.#at(this.#any + i) & mask) !== 0) this.#refresh(i >>> 1);
    });
  }

  release(from: number, to: number): void {
    eachWord(from, to, (i, mask) => {
      const at = this.#cell(i) + TAKEN;
      if ((this.#at(at) & mask) === 0) return;
      this.#u32[at] = this.#at(at) & ~mask;
      this.#refresh(i >>> 1);
    });
  }

  stored(bit: number): void {
    const i = bit >>> 5;
    const mask = 1 << (bit & 31);
    const at = this.#cell(i) + TAKEN;
    this.#u32[at] = this.#at(at) & ~mask;
    if ((this.#at(this.#any + i) & mask) !== 0) this.#refresh(i >>> 1);
  }

  reserve(run: number, stride: number, from: number, to: number, on: 0 | 1): void {
    for (let first = run; first < to; first += stride) {
      eachWord(Math.max(first, from), Math.min(first + SUBSTREAM_RUN, to), (i, mask) => {
        const at = this.#cell(i) + RESERVED;
        const before = this.#at(at);
        this.#u32[at] = on === 1 ? before | mask : before & ~mask;
        if (this.#at(at) !== before) this.#refresh(i >>> 1);
      });
    }
  }

  availability(bit: number): number {
    let count = 0;
    for (let p = 0; p < PLANES; p++) {
      count |= ((this.#at(this.#plane(bit >>> 5, p)) >>> (bit & 31)) & 1) << p;
    }
    return count;
  }

  next(from: number, to: number): number {
    if (from >= to) return to;
    const last = (to - 1) >>> 6;
    let w = from >>> 6;
    const here = nextSet(this.#u32, this.#any, from, 64 * (w + 1));
    if (here < 64 * (w + 1)) return Math.min(here, to);
    w = this.#nextWord(this.#any, w + 1, last);
    return w > last ? to : nextSet(this.#u32, this.#any, 64 * w, to);
  }

  pick(
    haveOffset: number,
    from: number,
    urgentEnd: number,
    to: number,
    most: number,
    random: number,
    out: number,
  ): number {
    if (most === 0 || from >= to) return 0;
    const have = haveOffset === 0 ? this.#any : haveOffset >>> 2;
    const end = (out >>> 2) + most;
    let at = this.#scan(have, from, Math.min(urgentEnd, to), out >>> 2, end);
    const low = Math.max(from, urgentEnd);
    const last = (to - 1) >>> 6;
    const isOver = at === end || low >= to;
    if (isOver || this.#nextWord(have, low >>> 6, last) > last) {
      return at - (out >>> 2);
    }
    const before = at;
    let state = random;
    for (let kind = 0; kind < PICKER_CLASSES && at < end; kind++) {
      const top = this.#top(kind);
      if ((this.#at(top) | this.#at(top + 1)) === 0) continue;
      state = mix(state);
      const start = this.#draw(kind, have, low, to, state);
      at = this.#scanClass(kind, have, low, start, to, at, end);
    }
    if (at === before) {
      const start = low + below(mix(state), to - low);
      at = this.#scan(have, start, to, at, end);
      if (at < end) at = this.#scan(have, low, start, at, end);
    }
    return at - (out >>> 2);
  }

  shift(shiftWords: number): void {
    const u32 = this.#u32;
    const words = this.#header(PICKER_WORDS);
    const shift = Math.min(shiftWords, words);
    for (const [base, perWord] of [
      [this.#cells, CELL_U32],
      [this.#upper, UPPER_U32],
      [this.#any, 2],
    ] as const) {
      const end = base + words * perWord;
      u32.copyWithin(base, base + shift * perWord, end);
      u32.fill(0, end - shift * perWord, end);
    }
    const groupsEnd = this.#group((words + 63) >>> 6);
    u32.fill(0, this.#table + PICKER_TOP / 4, groupsEnd);
    let candidates = 0;
    for (let w = 0; w < words; w++) {
      const presence = this.#at(this.#cell(2 * w) + PRESENCE);
      if (presence === 0) continue;
      candidates += popcount(this.#at(this.#any + 2 * w));
      candidates += popcount(this.#at(this.#any + 2 * w + 1));
      this.#summarise(w, presence, presence);
    }
    u32[this.#table + PICKER_CANDIDATES / 4] = candidates;
  }

  #add(have: number, i: number, mask: number): number {
    const before = this.#at(have + i);
    const fresh = mask & ~before;
    if (fresh === 0) return 0;
    this.#u32[have + i] = before | fresh;
    let carry = fresh;
    for (let p = 0; p < PLANES && carry !== 0; p++) {
      const plane = this.#plane(i, p);
      const bits = this.#at(plane);
      this.#u32[plane] = bits ^ carry;
      carry &= bits;
    }
    this.#countMany(i);
    if ((fresh & this.#open(i)) !== 0) this.#refresh(i >>> 1);
    return popcount(fresh);
  }

  #subtract(have: number, i: number, mask: number): number {
    const before = this.#at(have + i);
    const gone = mask & before;
    if (gone === 0) return 0;
    this.#u32[have + i] = before & ~gone;
    let borrow = gone;
    for (let p = 0; p < PLANES && borrow !== 0; p++) {
      const plane = this.#plane(i, p);
      const bits = this.#at(plane);
      this.#u32[plane] = bits ^ borrow;
      borrow &= ~bits;
    }
    this.#countMany(i);
    if ((gone & this.#open(i)) !== 0) this.#refresh(i >>> 1);
    return popcount(gone);
  }

  /** Availability 16 and more. */
  #countMany(i: number): void {
    let many = 0;
    for (let p = PICKER_CELL_PLANES; p < PLANES; p++) many |= this.#at(this.#plane(i, p));
    this.#u32[this.#cell(i) + MANY] = many;
  }

  /** Recomputes the candidates of the 64-bit word w, its presence, and the summaries above. */
  #refresh(w: number): void {
    let presence = 0;
    let change = 0;
    for (let i = 2 * w; i < 2 * w + 2; i++) {
      const before = this.#at(this.#any + i);
      const open = this.#open(i);
      let any = 0;
      for (let kind = 0; kind < PICKER_CLASSES; kind++) {
        const bits = this.#class(i, kind) & open;
        any |= bits;
        if (bits !== 0) presence |= 1 << kind;
      }
      if (any !== 0) presence |= 1 << PICKER_KIND_ANY;
      this.#u32[this.#any + i] = any;
      change += popcount(any) - popcount(before);
    }
    const candidates = this.#table + PICKER_CANDIDATES / 4;
    this.#u32[candidates] = this.#at(candidates) + change;
    const at = this.#cell(2 * w) + PRESENCE;
    const changed = presence ^ this.#at(at);
    this.#u32[at] = presence;
    this.#summarise(w, presence, changed);
  }

  #summarise(w: number, presence: number, changed: number): void {
    const u32 = this.#u32;
    const group = this.#group(w >>> 6);
    const half = (w >>> 5) & 1;
    for (let kind = 0; kind <= PICKER_KIND_ANY; kind++) {
      if (((changed >>> kind) & 1) === 0) continue;
      const pair = group + 2 * kind;
      const bit = 1 << (w & 31);
      const has = ((presence >>> kind) & 1) === 1;
      u32[pair + half] = has ? this.#at(pair + half) | bit : this.#at(pair + half) & ~bit;
      const g = w >>> 6;
      const top = this.#top(kind) + (g >>> 5);
      const groupBit = 1 << (g & 31);
      const some = (this.#at(pair) | this.#at(pair + 1)) !== 0;
      u32[top] = some ? this.#at(top) | groupBit : this.#at(top) & ~groupBit;
    }
  }

  #open(i: number): number {
    const cell = this.#cell(i);
    return ~(this.#at(cell + TAKEN) | this.#at(cell + RESERVED) | this.#at(this.#held + i));
  }

  /** Indices of 32-bit word i whose availability is that of class `kind`. */
  #class(i: number, kind: number): number {
    const cell = this.#cell(i);
    const many = this.#at(cell + MANY);
    const p3 = this.#at(cell + 6);
    const p2 = this.#at(cell + 4);
    if (kind === 5) return many;
    if (kind === 4) return p3 & ~many;
    if (kind === 3) return p2 & ~(p3 | many);
    const low = (kind + 1) & 1 ? this.#at(cell) : ~this.#at(cell);
    const high = (kind + 1) & 2 ? this.#at(cell + 2) : ~this.#at(cell + 2);
    return low & high & ~(p2 | p3 | many);
  }

  /** First word from w on of which `have` has a candidate; one past `last` when none. */
  #nextWord(have: number, w: number, last: number): number {
    for (let next = w; next <= last; next++) {
      next = this.#nextOf(PICKER_KIND_ANY, next, last);
      if (next > last || this.#meets(have, next)) return next;
    }
    return last + 1;
  }

  /** First word from w on with candidates of `kind`; one past `last` when none. */
  #nextOf(kind: number, w: number, last: number): number {
    if (w > last) return last + 1;
    const lastHalf = last >>> 5;
    for (let half = w >>> 5; half <= lastHalf; half++) {
      const g = half >>> 1;
      let words = this.#at(this.#group(g) + 2 * kind + (half & 1));
      if (half === w >>> 5) words &= -1 << (w & 31);
      if (words !== 0) return Math.min(32 * half + 31 - Math.clz32(words & -words), last + 1);
      if ((half & 1) === 1) half = 2 * nextSet(this.#u32, this.#top(kind), g + 1, 64) - 1;
    }
    return last + 1;
  }

  /** Whether `have` has a candidate of the 64-bit word w. */
  #meets(have: number, w: number): boolean {
    const i = 2 * w;
    const low = this.#at(this.#any + i) & this.#at(have + i);
    return (low | (this.#at(this.#any + i + 1) & this.#at(have + i + 1))) !== 0;
  }

  /** Writes candidates to the 32-bit words from `out` to `end`; returns where it stopped. */
  #scan(have: number, from: number, to: number, out: number, end: number): number {
    if (from >= to) return out;
    let at = out;
    const last = (to - 1) >>> 6;
    let w = this.#nextWord(have, from >>> 6, last);
    for (; w <= last && at < end; w = this.#nextWord(have, w + 1, last)) {
      at = this.#write(PICKER_KIND_ANY, have, w, from, to, at, end);
    }
    return at;
  }

  /** The same of class `kind`: in [start, to), then in [from, start), of so many words at most. */
  #scanClass(
    kind: number,
    have: number,
    from: number,
    start: number,
    to: number,
    out: number,
    end: number,
  ): number {
    let at = out;
    let left = PICK_CLASS_WORDS_MAX;
    for (const [low, high] of [
      [start, to],
      [from, start],
    ] as const) {
      if (low >= high) continue;
      const last = (high - 1) >>> 6;
      let w = this.#nextOf(kind, low >>> 6, last);
      for (; w <= last && at < end; w = this.#nextOf(kind, w + 1, last)) {
        if (left-- === 0) return at;
        at = this.#write(kind, have, w, low, high, at, end);
      }
    }
    return at;
  }

  /** Writes what `have` has of word w in [from, to), as room is. */
  #write(
    kind: number,
    have: number,
    w: number,
    from: number,
    to: number,
    out: number,
    end: number,
  ): number {
    let at = out;
    for (let i = 2 * w; i < 2 * w + 2; i++) {
      let bits = this.#kind(kind, have, i) & maskOf(i, from, to);
      for (; bits !== 0 && at < end; bits &= bits - 1) {
        this.#u32[at++] = 32 * i + 31 - Math.clz32(bits & -bits);
      }
    }
    return at;
  }

  #kind(kind: number, have: number, i: number): number {
    const bits = this.#at(this.#any + i) & this.#at(have + i);
    return bits !== 0 && kind !== PICKER_KIND_ANY ? bits & this.#class(i, kind) : bits;
  }

  #draw(kind: number, have: number, from: number, to: number, random: number): number {
    const first = from >>> 6;
    const last = (to - 1) >>> 6;
    let state = random;
    let w = first + below(state, last - first + 1);
    const drawn = this.#group(w >>> 6) + 2 * kind + ((w >>> 5) & 1);
    if (((this.#at(drawn) >>> (w & 31)) & 1) === 0) {
      const top = this.#top(kind);
      const groups = [0, 1].map(
        (i) => this.#at(top + i) & maskOf(i, first >>> 6, (last >>> 6) + 1),
      );
      if (groups.every((bits) => bits === 0)) return from;
      state = mix(state);
      const g = select(groups, state);
      const words = [0, 1].map(
        (i) => this.#at(this.#group(g) + 2 * kind + i) & maskOf(2 * g + i, first, last + 1),
      );
      if (words.every((bits) => bits === 0)) return from;
      state = mix(state);
      w = 64 * g + select(words, state);
    }
    const word = [2 * w, 2 * w + 1].map((i) => this.#kind(kind, have, i) & maskOf(i, from, to));
    if (word.every((bits) => bits === 0)) return Math.max(from, 64 * w);
    return 64 * w + select(word, mix(state));
  }

  #header(offset: number): number {
    return this.#at(this.#table + offset / 4);
  }

  #at(at: number): number {
    return this.#u32[at] as number;
  }

  /** Where the half of a cell that belongs to 32-bit word i begins. */
  #cell(i: number): number {
    return this.#cells + (i >>> 1) * CELL_U32 + (i & 1);
  }

  /** Where the half of plane p that belongs to 32-bit word i is. */
  #plane(i: number, p: number): number {
    if (p < PICKER_CELL_PLANES) return this.#cell(i) + 2 * p;
    return this.#upper + (i >>> 1) * UPPER_U32 + (i & 1) + 2 * (p - PICKER_CELL_PLANES);
  }

  #group(g: number): number {
    return this.#table + PICKER_GROUPS / 4 + (g * PICKER_GROUP_BYTES) / 4;
  }

  #top(kind: number): number {
    return this.#table + PICKER_TOP / 4 + 2 * kind;
  }
}

/** Calls `step` for each 32-bit word of [from, to), with the bits of it that lie inside. */
function eachWord(from: number, to: number, step: (i: number, mask: number) => void): void {
  if (from >= to) return;
  for (let i = from >>> 5; i <= (to - 1) >>> 5; i++) step(i, maskOf(i, from, to));
}

/** Bits of 32-bit word i that lie in [from, to). */
function maskOf(i: number, from: number, to: number): number {
  const low = from - 32 * i;
  const high = to - 32 * i;
  if (low >= 32 || high <= 0 || low >= high) return 0;
  return (low <= 0 ? -1 : -1 << low) & (high >= 32 ? -1 : (1 << high) - 1);
}

/** A set bit of the 32-bit words, drawn by `random`. */
function select(words: readonly number[], random: number): number {
  let rank = below(
    random,
    words.reduce((sum, bits) => sum + popcount(bits), 0),
  );
  for (const [i, word] of words.entries()) {
    let bits = word;
    for (; bits !== 0; bits &= bits - 1) {
      if (rank-- === 0) return 32 * i + 31 - Math.clz32(bits & -bits);
    }
  }
  return 0;
}

/** The next of a sequence of random u32 (splitmix32). */
function mix(random: number): number {
  let z = (random + 0x9e3779b9) >>> 0;
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return (z ^ (z >>> 15)) >>> 0;
}

/** `random` scaled to [0, limit). */
function below(random: number, limit: number): number {
  return Math.floor((random * limit) / 0x1_0000_0000);
}
