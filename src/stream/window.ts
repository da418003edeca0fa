/**
 * The window: which fragments of one overlay a node holds, and where they lie.
 *
 *     start                 highest
 *       |  held, missing ...   |                      limit
 *       [######.####..#########)......................)
 *       |<------------- at most `fragments` --------->|
 *
 * `start` is the lowest index still held or wanted, `limit` the first index there is no room for:
 * what is missing below it is counted at the full fragment size, so a fragment below the limit
 * always fits. The limit never falls: freeing and storing only raise it.
 *
 * Index i lives at bit i - origin of every map of the overlay: the window's own and those kept of
 * its neighbours (`maps`), so that kernels can compare them. The origin is a multiple of 64 and
 * moves, with all maps, once the slack below `start` is used up.
 *
 * The window keeps references on the memory of what it holds. It never copies a fragment but to
 * clear a straggler out of a segment, never verifies one, and knows nothing of links.
 */

import { assert } from "../base/assert.ts";
import { DATA_HEADER_BYTES, DATA_TAG } from "../base/layout.ts";
import { INDEX_MAX } from "../base/limits.ts";
import type { FragmentIndex, MemoryOffset } from "../base/units.ts";
import type { EngineMemory, SegmentOwner } from "../kernel/engine-memory.ts";
import type { Kernel } from "../kernel/kernel.ts";

export interface WindowOptions {
  /** First index wanted. */
  readonly start: FragmentIndex;
  /** At most this many indices between start and limit; 64 to WINDOW_FRAGMENTS_MAX. */
  readonly fragments: number;
  /** At most this many bytes held; at least four fragments. */
  readonly bytes: number;
  /** Largest frame of a fragment in this overlay. */
  readonly fragmentBytes: number;
}

/** A bit map whose bit i - origin says something of fragment i. */
export class WindowMap {
  /** Below 0: given back; others may have the memory by now. */
  words: MemoryOffset;
  constructor(words: MemoryOffset) {
    this.words = words;
  }
}

/** A BUFFERMAP: `bitsBytes` bytes at `bitsOffset` of some memory, bits from start + run + 1 on. */
export interface WireBuffermap {
  readonly start: FragmentIndex;
  /** [start, start + run) is held. */
  readonly run: number;
  readonly bitsOffset: number;
  readonly bitsBytes: number;
}

/** Who keeps something of its own on the window's indices, and is told when they move. */
export interface WindowFollower {
  /** Fragment `index` is held now. */
  stored(index: FragmentIndex): void;
  /** [from, to) lies below the window's start now. */
  advanced(from: FragmentIndex, to: FragmentIndex): void;
  /** The origin moved up by 64 x `words`, and all maps with it. */
  shifted(words: number): void;
  /** Start and origin are elsewhere, and all maps are clear. */
  rebased(): void;
}

export class FragmentWindow implements SegmentOwner {
  readonly memory: EngineMemory;
  readonly kernel: Kernel;
  readonly fragmentBytes: number;
  readonly windowFragments: number;
  readonly windowBytes: number;
  /** Bits of every map: windowFragments and the slack. */
  readonly mapBits: number;
  readonly #slackBits: number;
  readonly #maps = new Set<WindowMap>();
  readonly #held: WindowMap;
  readonly #slotMask: number;
  readonly #offsets: Uint32Array;
  readonly #lengths: Uint32Array;
  #origin: FragmentIndex;
  #originSlot = 0;
  #start: FragmentIndex;
  #highest: FragmentIndex;
  #heldCount = 0;
  #heldBytes = 0;
  #closed = false;
  #follower: WindowFollower | undefined;
  /** What readWire reads into: a word before it, the map, room for the bytes of its bits. */
  #wire: WindowMap | undefined;

  constructor(memory: EngineMemory, options: WindowOptions) {
    this.memory = memory;
    this.kernel = memory.kernel;
    this.fragmentBytes = options.fragmentBytes;
    this.windowFragments = options.fragments;
    this.windowBytes = Math.max(options.bytes, 4 * options.fragmentBytes);
    this.#slackBits = Math.max(64, roundUp64(options.fragments >> 2));
    this.mapBits = roundUp64(options.fragments) + this.#slackBits + 64;
    const slots = powerOfTwoAtLeast(this.mapBits);
    this.#slotMask = slots - 1;
    this.#offsets = new Uint32Array(slots);
    this.#lengths = new Uint32Array(slots);
    this.#start = options.start;
    this.#highest = options.start;
    this.#origin = options.start - (options.start % 64);
    this.#held = this.createMap();
    memory.addOwner(this);
  }

  /** Lowest index still held or wanted. */
  get start(): FragmentIndex {
    return this.#start;
  }
  /** One past the highest index held; start when nothing is. */
  get highest(): FragmentIndex {
    return this.#highest;
  }
  get origin(): FragmentIndex {
    return this.#origin;
  }
  /** One past the highest index that has a bit in the maps. */
  get mapEnd(): FragmentIndex {
    return this.#origin + this.mapBits;
  }
  get heldCount(): number {
    return this.#heldCount;
  }
  get heldBytes(): number {
    return this.#heldBytes;
  }
  /** First index there is no room for; never falls. */
  get limit(): FragmentIndex {
    const room = Math.floor((this.windowBytes - this.#heldBytes) / this.fragmentBytes);
    return Math.min(
      this.#start + this.windowFragments,
      this.#start + this.#heldCount + Math.max(0, room),
      INDEX_MAX + 1,
    );
  }
  /** The map of held fragments; kernels compare it with neighbours' maps. */
  get heldMap(): WindowMap {
    return this.#held;
  }

  /** A zeroed map that moves along with the window. Give it back with releaseMap. */
  createMap(): WindowMap {
    const map = new WindowMap(this.memory.allocate(this.mapBits >>> 3));
    this.#maps.add(map);
    return map;
  }

  releaseMap(map: WindowMap): void {
    if (!this.#maps.delete(map)) return;
    this.memory.free(map.words);
    map.words = -1;
  }

  /** Has `follower` told from here on; undefined = nobody. There is one at a time. */
  follow(follower: WindowFollower | undefined): void {
    assert(follower === undefined || this.#follower === undefined, "one follower at a time");
    this.#follower = follower;
  }

  holds(index: FragmentIndex): boolean {
    if (index < this.#start || index >= this.#highest) return false;
    return this.kernel.bitTest(this.#held.words, index - this.#origin);
  }

  /** Whether bit `index` of `map` is set; false outside the map. */
  test(map: WindowMap, index: FragmentIndex): boolean {
    if (index < this.#origin || index >= this.mapEnd) return false;
    return this.kernel.bitTest(map.words, index - this.#origin);
  }

  /** Sets [from, to) of `map`, as far as it lies inside the map. */
  mark(map: WindowMap, from: FragmentIndex, to: FragmentIndex): void {
    const low = Math.max(from, this.#origin);
    const high = Math.min(to, this.mapEnd);
    assert(map.words >= 0, "a map that was given back is not written");
    if (low < high) this.kernel.bitsSet(map.words, low - this.#origin, high - this.#origin);
  }

  unmark(map: WindowMap, from: FragmentIndex, to: FragmentIndex): void {
    const low = Math.max(from, this.#origin);
    const high = Math.min(to, this.mapEnd);
    assert(map.words >= 0, "a map that was given back is not written");
    if (low < high) this.kernel.bitsClear(map.words, low - this.#origin, high - this.#origin);
  }

  /** First index in [from, to) not set in `map`; `to` when all are. Both inside the map. */
  nextClear(map: WindowMap, from: FragmentIndex, to: FragmentIndex): FragmentIndex {
    if (from >= to) return to;
    const low = Math.max(from, this.#origin);
    const high = Math.min(to, this.mapEnd);
    if (low >= high) return low;
    const bit = this.kernel.bitsNextClear(map.words, low - this.#origin, high - this.#origin);
    return this.#origin + bit;
  }

  nextSet(map: WindowMap, from: FragmentIndex, to: FragmentIndex): FragmentIndex {
    const low = Math.max(from, this.#origin);
    const high = Math.min(to, this.mapEnd);
    if (low >= high) return to;
    const bit = this.kernel.bitsNextSet(map.words, low - this.#origin, high - this.#origin);
    return bit + this.#origin >= high ? to : this.#origin + bit;
  }

  /** First index in [from, to) set in `a` and clear in `b` and `c`; `to` when there is none. */
  nextDifference(
    a: WindowMap,
    b: WindowMap,
    c: WindowMap,
    from: FragmentIndex,
    to: FragmentIndex,
  ): FragmentIndex {
    const low = Math.max(from, this.#origin);
    const high = Math.min(to, this.mapEnd);
    if (low >= high) return to;
    const bit = this.kernel.bitsNextDifference2(
      a.words,
      b.words,
      c.words,
      low - this.#origin,
      high - this.#origin,
    );
    return bit + this.#origin >= high ? to : this.#origin + bit;
  }

  /** Memory offset of fragment `index`, which must be held. Valid until the next compaction. */
  offsetOf(index: FragmentIndex): MemoryOffset {
    return this.#offsets[this.#slot(index)] as number;
  }

  /** Frame bytes of fragment `index`, which must be held. */
  lengthOf(index: FragmentIndex): number {
    return this.#lengths[this.#slot(index)] as number;
  }

  /**
   * Takes over fragment `index`: the caller's reference on [offset, offset + bytes) becomes the
   * window's. The index lies in [start, limit) and is not held.
   */
  store(index: FragmentIndex, offset: MemoryOffset, bytes: number): void {
    assert(index >= this.#start && index < this.mapEnd, "store inside the window");
    assert(!this.holds(index), "store of a fragment that is held");
    const slot = this.#slot(index);
    this.#offsets[slot] = offset;
    this.#lengths[slot] = bytes;
    const bit = index - this.#origin;
    this.kernel.bitsSet(this.#held.words, bit, bit + 1);
    this.#heldCount++;
    this.#heldBytes += bytes;
    if (index >= this.#highest) this.#highest = index + 1;
    this.#follower?.stored(index);
  }

  /** How many fragments at and above `from` are held. */
  countHeld(from: FragmentIndex): number {
    const low = Math.max(from, this.#start);
    if (low >= this.#highest) return 0;
    if (low === this.#start) return this.#heldCount;
    const { words } = this.#held;
    return this.kernel.bitsCount(words, low - this.#origin, this.#highest - this.#origin);
  }

  /** First index in [start, to) that is missing; `to` when there is none. */
  firstMissing(from: FragmentIndex, to: FragmentIndex): FragmentIndex {
    const low = Math.max(from, this.#start);
    if (low >= to) return to;
    if (low >= this.#highest) return low;
    return this.nextClear(this.#held, low, Math.min(to, this.#highest));
  }

  /** Frees all below `start` and moves the window there. */
  advance(start: FragmentIndex): void {
    if (start <= this.#start) return;
    const to = Math.min(start, this.#highest);
    let index = this.nextSet(this.#held, this.#start, to);
    while (index < to) {
      const slot = this.#slot(index);
      const bytes = this.#lengths[slot] as number;
      this.memory.release(this.#offsets[slot] as number, bytes);
      this.#heldCount--;
      this.#heldBytes -= bytes;
      index = this.nextSet(this.#held, index + 1, to);
    }
    this.unmark(this.#held, this.#start, to);
    const before = this.#start;
    this.#start = start;
    if (this.#highest < start) this.#highest = start;
    this.#follower?.advanced(before, start);
    if (start - this.#origin >= this.#slackBits) this.#shift();
  }

  /** Moves an empty window anywhere; all maps are cleared. */
  rebase(start: FragmentIndex): void {
    assert(this.#heldCount === 0, "only an empty window is rebased");
    this.#start = start;
    this.#highest = start;
    this.#origin = start - (start % 64);
    for (const map of this.#maps) this.kernel.bitsClear(map.words, 0, this.mapBits);
    this.#follower?.rebased();
  }

  /** Gives everything back. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.advance(Math.max(this.#highest, this.#start));
    this.memory.removeOwner(this);
    for (const map of this.#maps) this.memory.free(map.words);
    this.#maps.clear();
    if (this.#wire !== undefined) this.memory.free(this.#wire.words - 8);
  }

  /**
   * A map of what a buffermap says, as far as it lies inside the maps; lent until the next call.
   * `memory`, which has the bits, is the engine's or any other.
   */
  readWire(buffermap: WireBuffermap, memory: Uint8Array): WindowMap {
    const { kernel, mapBits } = this;
    const { start, run, bitsOffset, bitsBytes } = buffermap;
    if (this.#wire === undefined) {
      // Bits come in whole bytes: up to seven of those below the origin land in the word before.
      this.#wire = new WindowMap(this.memory.allocate(2 * (mapBits >>> 3) + 16) + 8);
    }
    const map = this.#wire;
    const before = map.words - 8;
    kernel.bitsClear(before, 0, 64 + mapBits);
    this.mark(map, start, start + run);
    const first = start + run + 1;
    const skipped = Math.min(bitsBytes, Math.max(0, Math.floor((this.#origin - first) / 8)));
    const from = first + 8 * skipped;
    const count = Math.min(8 * (bitsBytes - skipped), this.mapEnd - from);
    if (count > 0) {
      const at = bitsOffset + skipped;
      let source = memory.byteOffset + at;
      if (memory.buffer !== kernel.bytes.buffer) {
        source = map.words + (mapBits >>> 3);
        kernel.bytes.set(memory.subarray(at, at + ((count + 7) >>> 3)), source);
      }
      kernel.bitsFromWire(source, count, before, 64 + from - this.#origin);
    }
    return map;
  }

  /** Makes `map` what a buffermap says, in place of what it was. */
  replaceFromWire(map: WindowMap, buffermap: WireBuffermap, memory: Uint8Array): void {
    const { words } = this.readWire(buffermap, memory);
    this.kernel.bytes.copyWithin(map.words, words, words + (this.mapBits >>> 3));
  }

  /** Moves fragments out of a segment that is to be recycled. */
  relocate(
    segmentStart: MemoryOffset,
    segmentEnd: MemoryOffset,
    move: (offset: MemoryOffset, bytes: number) => MemoryOffset | undefined,
  ): void {
    let index = this.nextSet(this.#held, this.#start, this.#highest);
    while (index < this.#highest) {
      const slot = this.#slot(index);
      const offset = this.#offsets[slot] as number;
      if (offset >= segmentStart && offset < segmentEnd) {
        const bytes = this.#lengths[slot] as number;
        const moved = move(offset, bytes);
        if (moved === undefined) return;
        this.#offsets[slot] = moved;
        this.memory.release(offset, bytes);
      }
      index = this.nextSet(this.#held, index + 1, this.#highest);
    }
  }

  /** Recomputes what is derived and checks each held frame's index and length. */
  checkInvariants(): void {
    let count = 0;
    let bytes = 0;
    for (let index = this.#start; index < this.#highest; index++) {
      if (!this.holds(index)) continue;
      count++;
      bytes += this.lengthOf(index);
      const offset = this.offsetOf(index);
      assert(this.kernel.view.getUint32(offset, true) === this.lengthOf(index), "frame length");
      assert(
        Number(this.kernel.view.getBigUint64(offset + DATA_TAG + 8, true)) === index,
        `frame at the slot of ${index} carries another index`,
      );
      assert(this.lengthOf(index) >= DATA_HEADER_BYTES, "frame holds a header");
    }
    assert(count === this.#heldCount, "held count");
    assert(bytes === this.#heldBytes, "held bytes");
    assert(this.#heldBytes <= this.windowBytes, "window bytes within the limit");
    assert(this.#start - this.#origin < this.mapBits, "start inside the maps");
    assert(this.limit <= this.mapEnd, "limit inside the maps");
    const below = this.kernel.bitsCount(this.#held.words, 0, this.#start - this.#origin);
    assert(below === 0, "nothing held below start");
  }

  #slot(index: FragmentIndex): number {
    return (this.#originSlot + (index - this.#origin)) & this.#slotMask;
  }

  #shift(): void {
    const origin = this.#start - (this.#start % 64);
    const moved = origin - this.#origin;
    const words = Math.min(moved / 64, this.mapBits / 64);
    for (const map of this.#maps) this.kernel.bitsShiftDown(map.words, this.mapBits / 64, words);
    this.#originSlot = (this.#originSlot + (moved % (this.#slotMask + 1))) & this.#slotMask;
    this.#origin = origin;
    this.#follower?.shifted(words);
  }
}

function roundUp64(value: number): number {
  return Math.ceil(value / 64) * 64;
}

function powerOfTwoAtLeast(value: number): number {
  let power = 64;
  while (power < value) power *= 2;
  return power;
}
