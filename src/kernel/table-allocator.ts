/**
 * Tables (bitmaps, index tables, staging areas) in the engine's memory: a buddy allocator over whole
 * segments. A block is a power of two of bytes, aligned to its size within its segment; what is
 * larger than a segment takes contiguous segments. Not for the hot path: tables live long.
 *
 * Never: touches the bytes it hands out.
 */

import { assert } from "../base/assert.ts";
import type { MemoryOffset } from "../base/units.ts";

/** The smallest block: a cache line, so that no two tables share one. */
const BLOCK_BYTES_MIN = 64;

/** Where whole segments come from and go to. */
export interface SegmentRuns {
  /** Start of `count` contiguous segments, now the caller's; undefined when there are none. */
  takeRun(count: number): MemoryOffset | undefined;
  giveRun(start: MemoryOffset, count: number): void;
}

export class TableAllocator {
  readonly #runs: SegmentRuns;
  readonly #heapStart: MemoryOffset;
  readonly #segmentBytes: number;
  /** Free blocks below segment size, by log2 of their size. */
  readonly #free: Set<MemoryOffset>[] = [];
  /** Size of each block handed out. */
  readonly #blockBytes = new Map<MemoryOffset, number>();

  /** `segmentBytes`: a power of two; segments start at multiples of it from `heapStart` on. */
  constructor(runs: SegmentRuns, heapStart: MemoryOffset, segmentBytes: number) {
    this.#runs = runs;
    this.#heapStart = heapStart;
    this.#segmentBytes = segmentBytes;
    for (let bytes = 1; bytes < segmentBytes; bytes *= 2) this.#free.push(new Set());
  }

  /** Undefined when memory is exhausted. Contents are whatever lay there before. */
  allocate(bytes: number): MemoryOffset | undefined {
    assert(Number.isSafeInteger(bytes) && bytes > 0, "a table has at least one byte");
    const blockBytes = this.#roundUp(bytes);
    const offset =
      blockBytes >= this.#segmentBytes
        ? this.#runs.takeRun(blockBytes / this.#segmentBytes)
        : this.#takeBlock(blockBytes);
    if (offset !== undefined) this.#blockBytes.set(offset, blockBytes);
    return offset;
  }

  free(offset: MemoryOffset): void {
    let blockBytes = this.#blockBytes.get(offset);
    assert(blockBytes !== undefined, "a table is freed once, by the offset it was given");
    this.#blockBytes.delete(offset);
    let start = offset;
    while (blockBytes < this.#segmentBytes) {
      const buddy = this.#heapStart + ((start - this.#heapStart) ^ blockBytes);
      if (!this.#freeOf(blockBytes).delete(buddy)) {
        this.#freeOf(blockBytes).add(start);
        return;
      }
      start = Math.min(start, buddy);
      blockBytes *= 2;
    }
    this.#runs.giveRun(start, blockBytes / this.#segmentBytes);
  }

  /** Every byte of every table segment is in exactly one block. Returns the segments in use. */
  checkInvariants(): number {
    const blocks: [start: number, bytes: number][] = [...this.#blockBytes];
    this.#free.forEach((starts, log) => {
      for (const start of starts) blocks.push([start, 2 ** log]);
    });
    blocks.sort((a, b) => a[0] - b[0]);
    let total = 0;
    let end = 0;
    for (const [start, bytes] of blocks) {
      assert(start >= end, "blocks do not overlap");
      assert((start - this.#heapStart) % Math.min(bytes, this.#segmentBytes) === 0, "aligned");
      end = start + bytes;
      total += bytes;
    }
    assert(total % this.#segmentBytes === 0, "blocks cover whole segments");
    return total / this.#segmentBytes;
  }

  #takeBlock(blockBytes: number): MemoryOffset | undefined {
    let size = blockBytes;
    while (size < this.#segmentBytes && this.#freeOf(size).size === 0) size *= 2;
    let offset: MemoryOffset | undefined;
    if (size === this.#segmentBytes) {
      offset = this.#runs.takeRun(1);
      if (offset === undefined) return undefined;
    } else {
      const starts = this.#freeOf(size);
      offset = starts.values().next().value;
      assert(offset !== undefined, "the list is not empty");
      starts.delete(offset);
    }
    // The lower half is split on, upper halves become free.
    while (size > blockBytes) {
      size /= 2;
      this.#freeOf(size).add(offset + size);
    }
    return offset;
  }

  #freeOf(blockBytes: number): Set<MemoryOffset> {
    const starts = this.#free[31 - Math.clz32(blockBytes)];
    assert(starts !== undefined, "a block is smaller than a segment");
    return starts;
  }

  #roundUp(bytes: number): number {
    if (bytes > this.#segmentBytes / 2) {
      return Math.ceil(bytes / this.#segmentBytes) * this.#segmentBytes;
    }
    let blockBytes = BLOCK_BYTES_MIN;
    while (blockBytes < bytes) blockBytes *= 2;
    return blockBytes;
  }
}
