/**
 * The engine's memory: equal segments above the kernel's tables. A segment is free, holds tables,
 * or holds fragments.
 *
 *     0        heapBase                                              memoryBytes
 *     | kernel | segment 0 | segment 1 | ...            | segment n-1 | rest |
 *                ^ cursors take the lowest free one       ^ tables the highest
 *
 * A cursor writes frames back to back into a segment of its own. Who keeps a frame retains its
 * range; the segment counts. It is recycled when no cursor writes to it and its count is zero; then
 * its generation rises. While a cursor stays, ranges that nobody retained are overwritten as soon
 * as all that was read is consumed: control frames cost no memory.
 *
 *     segment   | retained | free again | retained | not retained | not consumed |        |
 *                                                  ^ retainedEnd    ^ parseOffset  ^ writeOffset
 *
 * Fragments that stay behind in nearly empty segments are copied out by compact(): owners of
 * fragments are asked to move theirs. One segment is kept back for that.
 *
 * Never: looks into a frame, knows overlays or windows, grows.
 */

import { assert } from "../base/assert.ts";
import { OperationError } from "../base/errors.ts";
import { SEGMENT_BYTES } from "../base/limits.ts";
import type { ReceiveArena, ReceiveCursor } from "../base/receive-arena.ts";
import { type MemoryOffset, MIB } from "../base/units.ts";
import type { Kernel } from "./kernel.ts";
import { TableAllocator } from "./table-allocator.ts";

/** Who keeps fragments for long and can have them moved. */
export interface SegmentOwner {
  /**
   * Calls `move` for each fragment of its own in [segmentStart, segmentEnd) that is not pinned by a
   * transmit or job. `move` copies the range and retains the copy; the owner takes the new offset
   * and releases the old range. Undefined: no room, stop.
   */
  relocate(
    segmentStart: MemoryOffset,
    segmentEnd: MemoryOffset,
    move: (offset: MemoryOffset, bytes: number) => MemoryOffset | undefined,
  ): void;
}

const FREE = 0;
const TABLES = 1;
const FRAGMENTS = 2;

/** Segments that cursors and tables leave for compact(). */
const SEGMENTS_KEPT_BACK = 1;
/** Segments that one compact() call tries to empty: bounds the time it takes. */
const COMPACT_SEGMENTS_MAX = 8;

export class EngineMemory implements ReceiveArena {
  readonly kernel: Kernel;
  readonly bytes: Uint8Array;
  readonly segmentBytes: number;
  readonly segmentCount: number;
  readonly #start: MemoryOffset;
  readonly #shift: number;
  readonly #tables: TableAllocator;
  readonly #owners = new Set<SegmentOwner>();
  #freeSegments: number;
  #compactor: Cursor | undefined;

  // One element per segment.
  readonly #state: Uint8Array;
  readonly #generation: Uint32Array;
  readonly #retains: Uint32Array;
  readonly #retainedBytes: Float64Array;
  /** End of the highest range retained since the count was last zero, from the segment's start. */
  readonly #retainedEnd: Uint32Array;
  readonly #written: Uint8Array;
  /** Retained bytes when compact() last failed to empty it: not tried again until they change. */
  readonly #stuckBytes: Float64Array;

  /** `segmentBytes`: a power of two of at least 1 KiB; no frame may be larger. */
  constructor(kernel: Kernel, options: { readonly segmentBytes?: number } = {}) {
    const segmentBytes = options.segmentBytes ?? SEGMENT_BYTES;
    assert(segmentBytes >= 1024 && segmentBytes <= 2 ** 30, "segments hold 1 KiB to 1 GiB");
    assert((segmentBytes & (segmentBytes - 1)) === 0, "segmentBytes is a power of two");
    this.kernel = kernel;
    this.bytes = kernel.bytes;
    this.segmentBytes = segmentBytes;
    this.#shift = 31 - Math.clz32(segmentBytes);
    // Tables want cache lines of their own.
    this.#start = Math.ceil(kernel.heapBase / 64) * 64;
    const count = Math.floor((kernel.memoryBytes - this.#start) / segmentBytes);
    if (count <= SEGMENTS_KEPT_BACK) throw this.#exhausted(2 * segmentBytes);
    this.segmentCount = count;
    this.#freeSegments = count;
    this.#state = new Uint8Array(count);
    this.#generation = new Uint32Array(count);
    this.#retains = new Uint32Array(count);
    this.#retainedBytes = new Float64Array(count);
    this.#retainedEnd = new Uint32Array(count);
    this.#written = new Uint8Array(count);
    this.#stuckBytes = new Float64Array(count);
    const runs = {
      takeRun: (segments: number) => this.#takeTableRun(segments),
      giveRun: (start: MemoryOffset, segments: number) => this.#giveTableRun(start, segments),
    };
    this.#tables = new TableAllocator(runs, this.#start, segmentBytes);
  }

  /** Free segments, the one kept back included. */
  get freeSegments(): number {
    return this.#freeSegments;
  }

  /** `bytes` zeroed bytes, 8-aligned, until free(). Throws OperationError ENGINE_MEMORY. */
  allocate(bytes: number): MemoryOffset {
    const offset = this.#tables.allocate(bytes);
    if (offset === undefined) throw this.#exhausted(bytes);
    this.bytes.fill(0, offset, offset + bytes);
    return offset;
  }

  free(offset: MemoryOffset): void {
    this.#tables.free(offset);
  }

  open(): ReceiveCursor {
    return new Cursor(this.#ground(SEGMENTS_KEPT_BACK));
  }

  /**
   * Keeps [offset, offset + bytes), written by a cursor and lying in one segment, until a release
   * with the same arguments. Counts: each retain needs its own release.
   */
  retain(offset: MemoryOffset, bytes: number): void {
    const segment = this.#segmentOf(offset);
    const end = offset - this.#segmentStart(segment) + bytes;
    assert(bytes > 0 && end <= this.segmentBytes, "a retained range lies in one segment");
    assert(this.#state[segment] === FRAGMENTS, "only what a cursor wrote is retained");
    this.#retains[segment] = (this.#retains[segment] as number) + 1;
    this.#retainedBytes[segment] = (this.#retainedBytes[segment] as number) + bytes;
    if (end > (this.#retainedEnd[segment] as number)) this.#retainedEnd[segment] = end;
  }

  release(offset: MemoryOffset, bytes: number): void {
    const segment = this.#segmentOf(offset);
    const left = (this.#retains[segment] as number) - 1;
    const leftBytes = (this.#retainedBytes[segment] as number) - bytes;
    assert(this.#state[segment] === FRAGMENTS, "a release follows its retain: segment not in use");
    assert(left >= 0, "a release follows its retain: nothing retained here");
    assert(leftBytes >= 0, "a release names the bytes of its retain: fewer are retained");
    assert((left === 0) === (leftBytes === 0), "a release names the bytes of its retain");
    this.#retains[segment] = left;
    this.#retainedBytes[segment] = leftBytes;
    if (left > 0) return;
    this.#retainedEnd[segment] = 0;
    if (this.#written[segment] === 0) this.#recycle(segment);
  }

  /** Rises each time the segment that holds `offset` is recycled. */
  generationOf(offset: MemoryOffset): number {
    return this.#generation[this.#segmentOf(offset)] as number;
  }

  /** Whether two offsets lie in one segment, so that a range over both may be retained as one. */
  sameSegment(a: MemoryOffset, b: MemoryOffset): boolean {
    return this.#segmentOf(a) === this.#segmentOf(b);
  }

  addOwner(owner: SegmentOwner): void {
    assert(!this.#owners.has(owner), "an owner is added once");
    this.#owners.add(owner);
  }

  removeOwner(owner: SegmentOwner): void {
    assert(this.#owners.delete(owner), "only an added owner is removed");
  }

  /**
   * Copies stragglers out of the emptiest segments. True when free segments were gained. To be
   * called when reserve() failed or freeSegments is low; costs up to the copying of a few segments.
   */
  compact(): boolean {
    const before = this.#freeSegments;
    this.#compactor ??= new Cursor(this.#ground(0));
    const compactor = this.#compactor;
    const move = (offset: MemoryOffset, bytes: number): MemoryOffset | undefined => {
      if (!compactor.reserve(bytes)) return undefined;
      const target = compactor.writeOffset;
      this.bytes.copyWithin(target, offset, offset + bytes);
      compactor.commit(bytes);
      this.retain(target, bytes);
      compactor.consume(bytes);
      return target;
    };
    for (const segment of this.#stragglers()) {
      // Emptied meanwhile, and perhaps in use again.
      if (this.#state[segment] !== FRAGMENTS || this.#written[segment] === 1) continue;
      const start = this.#segmentStart(segment);
      for (const owner of this.#owners) owner.relocate(start, start + this.segmentBytes, move);
      const left = this.#retainedBytes[segment] as number;
      this.#stuckBytes[segment] = this.#state[segment] === FRAGMENTS ? left : 0;
    }
    if (compactor.isIdle) {
      compactor.close();
      this.#compactor = undefined;
    }
    return this.#freeSegments > before;
  }

  /** Recomputes what is derived and asserts it. For tests and the simulator. */
  checkInvariants(): void {
    let free = 0;
    let tables = 0;
    for (let segment = 0; segment < this.segmentCount; segment++) {
      const state = this.#state[segment];
      const retains = this.#retains[segment] as number;
      const retainedBytes = this.#retainedBytes[segment] as number;
      if (state === FREE) free++;
      if (state === TABLES) tables++;
      if (state !== FRAGMENTS) {
        assert(retains === 0 && this.#written[segment] === 0, "only fragments are retained");
      } else {
        assert(retains > 0 || this.#written[segment] === 1, "a segment without use is free");
      }
      assert((retains === 0) === (retainedBytes === 0), "retained bytes follow the count");
      const end = this.#retainedEnd[segment] as number;
      assert((retains === 0) === (end === 0), "nothing retained ends nowhere");
      assert(end <= this.segmentBytes, "a retained range lies in one segment");
    }
    assert(free === this.#freeSegments, "free segments are counted right");
    assert(tables === this.#tables.checkInvariants(), "table segments are the allocator's");
  }

  /** What a cursor may do to this memory. `keepBack`: free segments that it leaves. */
  #ground(keepBack: number): CursorGround {
    return {
      bytes: this.bytes,
      segmentBytes: this.segmentBytes,
      take: () => this.#takeSegment(keepBack),
      leave: (start) => this.#leaveSegment(start),
      retainedEnd: (start) => start + (this.#retainedEnd[this.#segmentOf(start)] as number),
    };
  }

  #takeSegment(keepBack: number): MemoryOffset | undefined {
    if (this.#freeSegments <= keepBack) return undefined;
    const segment = this.#state.indexOf(FREE);
    assert(segment >= 0, "free segments are counted right");
    this.#state[segment] = FRAGMENTS;
    this.#written[segment] = 1;
    this.#freeSegments--;
    return this.#segmentStart(segment);
  }

  #leaveSegment(start: MemoryOffset): void {
    const segment = this.#segmentOf(start);
    assert(this.#written[segment] === 1, "a cursor leaves the segment it writes to");
    this.#written[segment] = 0;
    if (this.#retains[segment] === 0) this.#recycle(segment);
  }

  #recycle(segment: number): void {
    this.#state[segment] = FREE;
    this.#generation[segment] = (this.#generation[segment] as number) + 1;
    this.#stuckBytes[segment] = 0;
    this.#freeSegments++;
  }

  #takeTableRun(count: number): MemoryOffset | undefined {
    if (this.#freeSegments < count + SEGMENTS_KEPT_BACK) return undefined;
    let run = 0;
    for (let segment = this.segmentCount - 1; segment >= 0; segment--) {
      run = this.#state[segment] === FREE ? run + 1 : 0;
      if (run < count) continue;
      this.#state.fill(TABLES, segment, segment + count);
      this.#freeSegments -= count;
      return this.#segmentStart(segment);
    }
    return undefined;
  }

  #giveTableRun(start: MemoryOffset, count: number): void {
    const first = this.#segmentOf(start);
    for (let segment = first; segment < first + count; segment++) {
      assert(this.#state[segment] === TABLES, "tables give back their own segments");
      this.#recycle(segment);
    }
  }

  /** Segments worth emptying, emptiest first. */
  #stragglers(): number[] {
    const found: number[] = [];
    for (let segment = 0; segment < this.segmentCount; segment++) {
      if (this.#state[segment] !== FRAGMENTS || this.#written[segment] === 1) continue;
      const bytes = this.#retainedBytes[segment] as number;
      if (bytes > this.segmentBytes / 2 || bytes === this.#stuckBytes[segment]) continue;
      found.push(segment);
    }
    const bytesOf = this.#retainedBytes;
    found.sort((a, b) => (bytesOf[a] as number) - (bytesOf[b] as number));
    return found.slice(0, COMPACT_SEGMENTS_MAX);
  }

  #segmentOf(offset: MemoryOffset): number {
    const segment = (offset - this.#start) >>> this.#shift;
    assert(offset >= this.#start && segment < this.segmentCount, "an offset lies in a segment");
    return segment;
  }

  #segmentStart(segment: number): MemoryOffset {
    return this.#start + segment * this.segmentBytes;
  }

  #exhausted(bytes: number): OperationError {
    const needed = Math.ceil((this.kernel.memoryBytes + bytes + this.segmentBytes) / MIB);
    return new OperationError("ENGINE_MEMORY", {
      detail: `${bytes} bytes do not fit; set memoryMiB to ${needed} or more`,
    });
  }
}

interface CursorGround {
  readonly bytes: Uint8Array;
  readonly segmentBytes: number;
  /** Start of a fresh segment, undefined when memory is exhausted. */
  take(): MemoryOffset | undefined;
  leave(start: MemoryOffset): void;
  /** Just past the last retained range of the segment at `start`; `start` when there is none. */
  retainedEnd(start: MemoryOffset): MemoryOffset;
}

/** No segment yet, or closed. */
const NOWHERE = 0;

class Cursor implements ReceiveCursor {
  readonly #ground: CursorGround;
  /** The segment, NOWHERE before the first reserve and after close. */
  #start: MemoryOffset = NOWHERE;
  #end: MemoryOffset = NOWHERE;
  #parse: MemoryOffset = NOWHERE;
  #write: MemoryOffset = NOWHERE;
  #closed = false;

  constructor(ground: CursorGround) {
    this.#ground = ground;
  }

  get writeOffset(): MemoryOffset {
    return this.#write;
  }

  get writableBytes(): number {
    return this.#end - this.#write;
  }

  get parseOffset(): MemoryOffset {
    return this.#parse;
  }

  get parsableBytes(): number {
    return this.#write - this.#parse;
  }

  /** Nothing of its segment is in use. */
  get isIdle(): boolean {
    if (this.#start === NOWHERE) return true;
    return this.#parse === this.#write && this.#ground.retainedEnd(this.#start) === this.#start;
  }

  reserve(frameBytes: number): boolean {
    const ground = this.#ground;
    assert(!this.#closed, "a closed cursor reads nothing");
    assert(frameBytes <= ground.segmentBytes, "a frame fits a segment");
    if (this.#start !== NOWHERE) {
      this.#fallBack();
      if (this.#parse + frameBytes <= this.#end) return true;
      // Nobody else has anything in this segment: the tail moves to its start.
      const tailMayMove = ground.retainedEnd(this.#start) === this.#start;
      if (tailMayMove) {
        this.#moveTail(this.#start);
        return true;
      }
    }
    const fresh = ground.take();
    if (fresh === undefined) return false;
    const before = this.#start;
    this.#moveTail(fresh);
    if (before !== NOWHERE) ground.leave(before);
    return true;
  }

  commit(bytes: number): void {
    assert(bytes >= 0 && bytes <= this.writableBytes, "no more is committed than was writable");
    this.#write += bytes;
  }

  consume(bytes: number): void {
    assert(bytes >= 0 && bytes <= this.parsableBytes, "no more is consumed than was committed");
    this.#parse += bytes;
    this.#fallBack();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#start === NOWHERE) return;
    const start = this.#start;
    this.#start = NOWHERE;
    this.#end = NOWHERE;
    this.#parse = NOWHERE;
    this.#write = NOWHERE;
    this.#ground.leave(start);
  }

  /** All consumed: what lies past the last retained range is written over. */
  #fallBack(): void {
    if (this.#start === NOWHERE || this.#parse !== this.#write) return;
    const free = this.#ground.retainedEnd(this.#start);
    assert(free <= this.#write, "nothing is retained that was not written");
    this.#parse = free;
    this.#write = free;
  }

  #moveTail(target: MemoryOffset): void {
    const tailBytes = this.#write - this.#parse;
    this.#ground.bytes.copyWithin(target, this.#parse, this.#write);
    this.#start = target;
    this.#end = target + this.#ground.segmentBytes;
    this.#parse = target;
    this.#write = target + tailBytes;
  }
}
