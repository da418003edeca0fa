/**
 * The receiving side of fragmentation: takes fragments out of the window in order, splits them into
 * data and puts sliced data together again.
 *
 *  - Each source's data come out in the order of their sequence numbers, each exactly once.
 *  - Data of a source whose sequence number continues are let past a hole that other sources' data
 *    fell into (looked for at most every SCAN_INTERVAL_MS while a hole stands).
 *  - What is lost is said: once as a range of fragments (skipTo), then per source when its next
 *    sequence number or its SOURCE_END shows what is missing. Nothing is skipped in silence.
 *  - A source that goes on after its source peer started over may bring again what was taken in the
 *    epoch before (`before`): that is dropped, and what is missing between is said.
 *
 * `head` is the next fragment to be taken in order; all below it was consumed and may be freed. A
 * batch lends memory until the next call: the fragment it lies in keeps a reference meanwhile.
 * The assembler never asks for fragments and knows no time but the one handed in.
 */

import { assert } from "../base/assert.ts";
import * as layout from "../base/layout.ts";
import { DATUM_BYTES_MAX } from "../base/limits.ts";
import type { FragmentIndex, MemoryOffset, MonoMs, SequenceNumber } from "../base/units.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { type AssembledSource, SourceBook, type TakenBefore } from "./source-book.ts";
import type { FragmentWindow } from "./window.ts";

/** While a hole stands, how often later fragments are searched for sources that continue. */
const SCAN_INTERVAL_MS = 50;
/** Fragments looked at in one search. */
const SCAN_FRAGMENTS_MAX = 256;
const DECLARATIONS_MAX = 256;

/**
 * Data lent until the next call of next(): ENTRY rows (base/layout) of `count` data at `entries` in
 * the kernel's memory; their payload offsets index `memory`. One object, used again.
 */
export interface AssembledBatch {
  index: FragmentIndex;
  memory: Uint8Array;
  entries: MemoryOffset;
  count: number;
}

/** What is lost: from the first one missing to the last one missing, both of them included. */
export type Gap =
  | { readonly kind: "fragments"; readonly from: FragmentIndex; readonly to: FragmentIndex }
  | {
      readonly kind: "data";
      readonly sourceId: string;
      readonly from: SequenceNumber;
      readonly to: SequenceNumber;
    };

interface SliceUnderWay {
  readonly source: AssembledSource;
  readonly sequence: SequenceNumber;
  readonly buffer: Uint8Array;
  filled: number;
}

export class Assembler {
  readonly #window: FragmentWindow;
  readonly #kernel: Kernel;
  readonly #entryCapacity: number;
  readonly #entries: MemoryOffset;
  readonly #declarations: MemoryOffset;
  /** Room for one slice, made when the first comes that lies askew. */
  #scratch: MemoryOffset = -1;
  readonly #book: SourceBook;
  readonly #rowSources: AssembledSource[] = [];
  readonly #rowSkipped: boolean[] = [];
  readonly #rowTypes: string[] = [];
  readonly #batch: AssembledBatch;
  readonly #gaps: Gap[] = [];
  #head: FragmentIndex;
  /** The fragment that is being taken apart, and how far. */
  #loaded = -1;
  #loadedOffset: MemoryOffset = 0;
  #loadedBytes = 0;
  #outOfOrder = false;
  #loads = 0;
  /** Whether some of the loaded fragment was taken before: in another epoch. */
  #repeats = false;
  /** Whether a source of the loaded fragment changes its content type within it. */
  #typesMixed = false;
  #entryCount = 0;
  #entryAt = 0;
  #rows = 0;
  #slice: SliceUnderWay | undefined;
  #scannedMs = Number.NEGATIVE_INFINITY;
  /** Whether this node is due all that ever was: it starts at fragment 0. */
  #fromStart: boolean;
  #lostSome = false;
  #ended = false;

  /** `before`: what was taken in an epoch before, by source id. */
  constructor(
    window: FragmentWindow,
    head: FragmentIndex,
    before: ReadonlyMap<string, TakenBefore> = new Map(),
  ) {
    this.#window = window;
    this.#kernel = window.kernel;
    this.#book = new SourceBook(window.kernel, (row) => this.#beginsWhole(row), before);
    this.#head = head;
    this.#fromStart = head === 0;
    this.#entryCapacity = Math.ceil(window.fragmentBytes / layout.DATUM_HEADER_BYTES) + 1;
    this.#entries = window.memory.allocate(this.#entryCapacity * layout.ENTRY_BYTES);
    this.#declarations = window.memory.allocate(DECLARATIONS_MAX * layout.DECLARATION_BYTES);
    this.#batch = { index: 0, memory: window.memory.bytes, entries: 0, count: 0 };
  }

  /** Next fragment to be taken in order: everything below was consumed. */
  get head(): FragmentIndex {
    return this.#head;
  }
  /** Whether END was taken: nothing comes any more. */
  get ended(): boolean {
    return this.#ended;
  }
  get sources(): ReadonlyMap<string, AssembledSource> {
    return this.#book.all;
  }

  /** The source of an entry of the batch lent now: `row` is its ENTRY_DECLARATION. */
  sourceOf(row: number): AssembledSource {
    const source = this.#rowSources[row];
    assert(source !== undefined, "row of a declaration in the lent batch");
    return source;
  }

  /** Whether a fragment is being taken apart now. */
  get isTaking(): boolean {
    return this.#loaded >= 0;
  }

  /** Whether next() has something now. Cheap, and may be wrong only about data past a hole. */
  get readable(): boolean {
    return !this.#ended && (this.#loaded >= 0 || this.#window.holds(this.#head));
  }

  /** The next data, or undefined when there are none now. Takes back what was lent before. */
  next(nowMs: MonoMs): AssembledBatch | undefined {
    while (!this.#ended) {
      if (this.#loaded < 0) {
        if (this.#window.holds(this.#head)) this.#load(this.#head);
        else if (!this.#scan(nowMs)) return undefined;
      }
      const batch = this.#take();
      if (batch !== undefined) return batch;
      this.#unload();
    }
    return undefined;
  }

  /**
   * Gives up [head, index): reported as a gap of fragments. The fragment that is being taken apart
   * is not lost: the rest of it still comes.
   */
  skipTo(index: FragmentIndex): void {
    const from = this.#loaded === this.#head ? this.#head + 1 : this.#head;
    if (index <= from) return;
    this.#gaps.push({ kind: "fragments", from, to: index - 1 });
    this.#lostSome = true;
    this.#slice = undefined;
    this.#head = index;
  }

  /** Moves the start of a newcomer that has taken nothing yet: not a loss. */
  startAt(index: FragmentIndex): void {
    assert(this.#book.all.size === 0 && this.#loaded < 0, "start moves before anything was taken");
    this.#head = index;
    this.#fromStart = index === 0;
  }

  /** Gaps found since the last call. */
  takeGaps(): Gap[] {
    return this.#gaps.splice(0);
  }

  close(): void {
    if (this.#loaded >= 0) {
      this.#window.memory.release(this.#loadedOffset, this.#loadedBytes);
      this.#loaded = -1;
    }
    this.#window.memory.free(this.#entries);
    this.#window.memory.free(this.#declarations);
    if (this.#scratch >= 0) this.#window.memory.free(this.#scratch);
  }

  #split(offset: MemoryOffset, bytes: number): number {
    return this.#kernel.splitFragment(
      offset,
      bytes,
      this.#entries,
      this.#entryCapacity,
      this.#declarations,
    );
  }

  #load(index: FragmentIndex): void {
    this.#loadedOffset = this.#window.offsetOf(index);
    this.#loadedBytes = this.#window.lengthOf(index);
    const result = this.#split(this.#loadedOffset, this.#loadedBytes);
    assert(result >= 0, "a stored fragment was checked before");
    this.#window.memory.retain(this.#loadedOffset, this.#loadedBytes);
    this.#loaded = index;
    this.#outOfOrder = index !== this.#head;
    this.#entryCount = result & 0xffff;
    this.#entryAt = 0;
    this.#rows = result >>> 16;
    this.#loads++;
    this.#typesMixed = false;
    this.#repeats = false;
    for (let row = 0; row < this.#rows; row++) this.#loadRow(row);
  }

  /** Resolves a declaration and, in order, notices what its source lost before it. */
  #loadRow(row: number): void {
    const at = this.#declarations + row * layout.DECLARATION_BYTES;
    const base = this.#kernel.f64[(at + layout.DECLARATION_BASE_SEQUENCE) >>> 3] as number;
    const last = this.#kernel.f64[(at + layout.DECLARATION_LAST_SEQUENCE) >>> 3] as number;
    // Who started at fragment 0 and lost some since is due all of a source it hears of late.
    const due = this.#fromStart && this.#lostSome;
    const whole = this.#fromStart && !this.#lostSome;
    const source = this.#book.resolve(at, base, row, this.#outOfOrder, due, whole);
    this.#rowSources[row] = source;
    this.#rowTypes[row] = source.typeText;
    if (source.load !== this.#loads) {
      source.load = this.#loads;
      source.contentType = source.typeText;
    } else if (source.contentType !== source.typeText) this.#typesMixed = true;
    this.#rowSkipped[row] = last >= base && last < source.next;
    if (base < source.next) this.#repeats = true;
    if (this.#outOfOrder || this.#rowSkipped[row] === true) return;
    // One fragment may declare a source again: what the rows before bring counts as expected.
    const again = source.loadedIn === this.#loaded;
    const expected = again ? source.loadedNext : source.next;
    if (base > expected) {
      this.#lose(source, expected, base - 1);
      if (this.#slice?.source === source) this.#slice = undefined;
      if (!again) source.next = base;
    }
    source.loadedIn = this.#loaded;
    source.loadedNext = Math.max(base, last + 1);
  }

  /** Reports data of a source, [from, to], as missing. */
  #lose(source: AssembledSource, from: SequenceNumber, to: SequenceNumber): void {
    const first = !source.begun && from === source.first ? from + 1 : from;
    source.begun = true;
    if (first <= to) this.#gaps.push({ kind: "data", sourceId: source.id, from: first, to });
  }

  /** Whether what declaration `row` declares begins here, not amid a datum. */
  #beginsWhole(row: number): boolean {
    const { view, bytes } = this.#kernel;
    for (let i = 0; i < this.#entryCount; i++) {
      const entry = this.#entries + i * layout.ENTRY_BYTES;
      if (view.getUint32(entry + layout.ENTRY_DECLARATION, true) !== row) continue;
      if (bytes[entry + layout.ENTRY_KIND] !== layout.RECORD_KIND_SLICE) return true;
      return (view.getUint16(entry + layout.ENTRY_FLAGS, true) & layout.SLICE_FLAG_FIRST) !== 0;
    }
    return true;
  }

  /** The next run of data in the loaded fragment; undefined when it is exhausted. */
  #take(): AssembledBatch | undefined {
    const { bytes } = this.#kernel;
    while (this.#entryAt < this.#entryCount) {
      const at = this.#entries + this.#entryAt * layout.ENTRY_BYTES;
      if (this.#skips(at)) {
        this.#entryAt++;
        continue;
      }
      const kind = bytes[at + layout.ENTRY_KIND] as number;
      if (kind === layout.RECORD_KIND_DATUM) return this.#takeRun(at);
      this.#entryAt++;
      if (kind === layout.RECORD_KIND_SLICE) {
        const batch = this.#takeSlice(at);
        if (batch !== undefined) return batch;
      } else {
        this.#takeSourceEnd(at);
      }
    }
    return undefined;
  }

  #skips(entry: MemoryOffset): boolean {
    const row = this.#rowOf(entry);
    const skipped = this.#rowSkipped[row] === true;
    if (!this.#repeats) return skipped;
    const { bytes, f64 } = this.#kernel;
    // That a source ended was not said before.
    const isEnd = bytes[entry + layout.ENTRY_KIND] === layout.RECORD_KIND_SOURCE_END;
    if (isEnd && !this.#outOfOrder) return false;
    const sequence = f64[(entry + layout.ENTRY_SEQUENCE) >>> 3] as number;
    return skipped || sequence < this.sourceOf(row).next;
  }

  #rowOf(entry: MemoryOffset): number {
    return this.#kernel.u32[(entry + layout.ENTRY_DECLARATION) >>> 2] as number;
  }

  #setType(row: number): void {
    this.sourceOf(row).contentType = this.#rowTypes[row] as string;
  }

  #takeRun(first: MemoryOffset): AssembledBatch {
    const { bytes } = this.#kernel;
    const row = this.#rowOf(first);
    if (this.#typesMixed) this.#setType(row);
    let count = 0;
    let at = first;
    while (this.#entryAt < this.#entryCount) {
      if (bytes[at + layout.ENTRY_KIND] !== layout.RECORD_KIND_DATUM || this.#skips(at)) break;
      if (this.#typesMixed && this.#rowOf(at) !== row) break;
      count++;
      this.#entryAt++;
      at += layout.ENTRY_BYTES;
    }
    return this.#lend(this.#kernel.bytes, first, count);
  }

  #lend(memory: Uint8Array, entries: MemoryOffset, count: number): AssembledBatch {
    const batch = this.#batch;
    batch.index = this.#loaded;
    batch.memory = memory;
    batch.entries = entries;
    batch.count = count;
    return batch;
  }

  #takeSlice(entry: MemoryOffset): AssembledBatch | undefined {
    const { view, f64, bytes } = this.#kernel;
    const offset = view.getUint32(entry + layout.ENTRY_OFFSET, true);
    const length = view.getUint32(entry + layout.ENTRY_LENGTH, true);
    const flags = view.getUint16(entry + layout.ENTRY_FLAGS, true);
    const row = this.#rowOf(entry);
    const source = this.sourceOf(row);
    const sequence = f64[(entry + layout.ENTRY_SEQUENCE) >>> 3] as number;
    const header = offset - layout.SLICE_HEADER_BYTES;
    const sliceOffset = view.getUint32(header + layout.SLICE_OFFSET, true);
    const totalBytes = view.getUint32(header + layout.SLICE_TOTAL_BYTES, true);
    if ((flags & layout.SLICE_FLAG_FIRST) !== 0 && totalBytes <= DATUM_BYTES_MAX) {
      this.#slice = { source, sequence, buffer: new Uint8Array(totalBytes), filled: 0 };
    }
    const slice = this.#slice;
    const fits =
      slice !== undefined &&
      slice.source === source &&
      slice.sequence === sequence &&
      slice.filled === sliceOffset &&
      slice.buffer.length === totalBytes &&
      sliceOffset + length <= totalBytes;
    if (!fits) {
      this.#slice = undefined;
      // A datum whose first slices were lost. It is a newcomer's start, or a loss to be said.
      if ((flags & layout.SLICE_FLAG_LAST) !== 0) {
        this.#lose(source, sequence, sequence);
        source.next = sequence + 1;
      }
      return undefined;
    }
    const from = this.#alignLike(sliceOffset, offset, length);
    slice.buffer.set(bytes.subarray(from, from + length), sliceOffset);
    slice.filled += length;
    if (slice.filled < totalBytes) return undefined;
    this.#slice = undefined;
    this.#setType(row);
    // The datum lies in ordinary memory: its entry says so by an offset into that.
    view.setUint32(entry + layout.ENTRY_OFFSET, 0, true);
    view.setUint32(entry + layout.ENTRY_LENGTH, totalBytes, true);
    return this.#lend(slice.buffer, entry, 1);
  }

  /**
   * Where `length` bytes at `offset` can be read from a place that is aligned like `target`: out of
   * shared memory JavaScript copies by words only then, and at a sixth of the speed otherwise. The
   * fragment itself stays as it is, for others.
   */
  #alignLike(target: number, offset: MemoryOffset, length: number): MemoryOffset {
    const askew = (target - offset) & 7;
    if (askew === 0) return offset;
    if (this.#scratch < 0) {
      this.#scratch = this.#window.memory.allocate(this.#window.fragmentBytes + 8);
    }
    const from = this.#scratch + (target & 7);
    this.#kernel.copyBytes(from, offset, length);
    return from;
  }

  #takeSourceEnd(entry: MemoryOffset): void {
    const { view, f64 } = this.#kernel;
    const source = this.sourceOf(view.getUint32(entry + layout.ENTRY_DECLARATION, true));
    const last = f64[(entry + layout.ENTRY_SEQUENCE) >>> 3] as number;
    // Data of this source earlier in this very fragment are counted when it is unloaded.
    this.#settleRows();
    if (last >= source.next) {
      this.#lose(source, source.next, last);
      source.next = last + 1;
    }
    source.ended = true;
  }

  /** Counts what the entries taken so far of the loaded fragment have delivered. */
  #settleRows(): void {
    const { view, f64, bytes } = this.#kernel;
    for (let i = this.#entryAt - 1; i >= 0; i--) {
      const entry = this.#entries + i * layout.ENTRY_BYTES;
      const kind = bytes[entry + layout.ENTRY_KIND];
      if (kind === layout.RECORD_KIND_SOURCE_END || this.#skips(entry)) continue;
      const source = this.sourceOf(view.getUint32(entry + layout.ENTRY_DECLARATION, true));
      const sequence = f64[(entry + layout.ENTRY_SEQUENCE) >>> 3] as number;
      const unfinished =
        kind === layout.RECORD_KIND_SLICE &&
        (view.getUint16(entry + layout.ENTRY_FLAGS, true) & layout.SLICE_FLAG_LAST) === 0;
      const next = unfinished ? sequence : sequence + 1;
      if (next > source.next) source.next = next;
      // Entries of one source rise: a fragment of one source is settled by its last entry.
      if (this.#rows === 1) return;
    }
  }

  #unload(): void {
    if (this.#loaded < 0) return;
    this.#settleRows();
    const { view } = this.#kernel;
    const flags = view.getUint16(this.#loadedOffset + layout.DATA_FLAGS, true);
    const isHead = this.#loaded === this.#head;
    this.#window.memory.release(this.#loadedOffset, this.#loadedBytes);
    this.#loaded = -1;
    if (this.#outOfOrder) return;
    if (isHead) this.#head++;
    if ((flags & layout.DATA_FLAG_END) !== 0) this.#ended = true;
  }

  /**
   * Looks behind a hole for a source that continues and loads its fragment, with all other rows
   * skipped. True when one is loaded.
   */
  #scan(nowMs: MonoMs): boolean {
    const window = this.#window;
    if (this.#book.all.size < 2 || window.highest <= this.#head) return false;
    if (nowMs - this.#scannedMs < SCAN_INTERVAL_MS) return false;
    const blocked = new Set<AssembledSource>();
    let index = window.nextSet(window.heldMap, this.#head + 1, window.highest);
    for (let n = 0; n < SCAN_FRAGMENTS_MAX && index < window.highest; n++) {
      if (this.#loadContinuing(index, blocked)) return true;
      if (blocked.size === this.#book.all.size) break;
      index = window.nextSet(window.heldMap, index + 1, window.highest);
    }
    this.#scannedMs = nowMs;
    return false;
  }

  #loadContinuing(index: FragmentIndex, blocked: Set<AssembledSource>): boolean {
    const { f64, bytes, view } = this.#kernel;
    this.#load(index);
    this.#outOfOrder = true;
    const sliced = new Set<number>();
    for (let i = 0; i < this.#entryCount; i++) {
      const entry = this.#entries + i * layout.ENTRY_BYTES;
      if (bytes[entry + layout.ENTRY_KIND] !== layout.RECORD_KIND_DATUM) {
        sliced.add(view.getUint32(entry + layout.ENTRY_DECLARATION, true));
      }
    }
    let continues = false;
    for (let row = 0; row < this.#rows; row++) {
      if (this.#rowSkipped[row] === true) continue;
      const source = this.sourceOf(row);
      const at = this.#declarations + row * layout.DECLARATION_BYTES;
      const base = f64[(at + layout.DECLARATION_BASE_SEQUENCE) >>> 3] as number;
      const last = f64[(at + layout.DECLARATION_LAST_SEQUENCE) >>> 3] as number;
      const fits = base === source.next && last >= base && !sliced.has(row);
      if (fits && !blocked.has(source) && this.#slice?.source !== source) {
        continues = true;
      } else {
        // A source that was never heard of (NaN) is no reason to stop searching.
        if (source.next > 0) blocked.add(source);
        this.#rowSkipped[row] = true;
      }
    }
    if (continues) return true;
    this.#window.memory.release(this.#loadedOffset, this.#loadedBytes);
    this.#loaded = -1;
    return false;
  }
}
