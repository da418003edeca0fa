/**
 * Writes one fragment after another in wire format, straight into the engine's memory: the open
 * fragment lies at `frame`, records are appended at `write`, sealing puts the header in place.
 * Every fragment decodes alone: a source number is declared in each fragment that uses it.
 *
 * It knows bytes only: whether there is room in the window, when to seal and what to slice is the
 * merger's business.
 */

import { assert } from "../base/assert.ts";
import * as layout from "../base/layout.ts";
import { SOURCES_MAX } from "../base/limits.ts";
import type { ReceiveCursor } from "../base/receive-arena.ts";
import type { FragmentIndex, MemoryOffset, TimestampUs } from "../base/units.ts";
import type { EngineMemory } from "../kernel/engine-memory.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { DataSourceEntry } from "./source-table.ts";

const I32_MAX = 0x7fff_ffff;
/** Below this a datum is in place before the kernel is called. */
const STAGED_BYTES_MIN = 512;

export class FragmentWriter {
  readonly memory: EngineMemory;
  readonly fragmentBytes: number;
  readonly #kernel: Kernel;
  readonly #tag: MemoryOffset;
  readonly #cursor: ReceiveCursor;
  /** Serial of the fragment in which a number was declared last, and with what. */
  readonly #declaredIn = new Float64Array(SOURCES_MAX).fill(-1);
  readonly #declaredNext = new Float64Array(SOURCES_MAX);
  readonly #declaredTimestamp = new Float64Array(SOURCES_MAX);
  readonly #declaredType: Uint8Array[] = new Array(SOURCES_MAX);
  #serial = 0;
  #frame: MemoryOffset = -1;
  #write: MemoryOffset = 0;
  #records = 0;
  #declarations = 0;

  /** `tag`: the overlay tag, 8 bytes, copied. */
  constructor(memory: EngineMemory, tag: Uint8Array, fragmentBytes: number) {
    this.memory = memory;
    this.fragmentBytes = fragmentBytes;
    this.#kernel = memory.kernel;
    this.#tag = memory.allocate(layout.OVERLAY_TAG_BYTES);
    memory.bytes.set(tag, this.#tag);
    this.#cursor = memory.open();
  }

  get isOpen(): boolean {
    return this.#frame >= 0;
  }
  get isEmpty(): boolean {
    return this.#records === 0;
  }
  /** Where the next record goes. */
  get write(): MemoryOffset {
    return this.#write;
  }
  /** Bytes left in the open fragment. */
  get room(): number {
    return this.#frame + this.fragmentBytes - this.#write;
  }
  /** End of the open fragment's room. */
  get end(): MemoryOffset {
    return this.#frame + this.fragmentBytes;
  }

  /** Opens a fragment; false when the engine's memory has no room now. */
  open(): boolean {
    assert(this.#frame < 0, "one fragment is open at a time");
    if (!this.#cursor.reserve(this.fragmentBytes)) return false;
    this.#frame = this.#cursor.writeOffset;
    this.#write = this.#frame + layout.DATA_HEADER_BYTES;
    this.#records = 0;
    this.#declarations = 0;
    this.#serial++;
    return true;
  }

  /**
   * Bytes that a declaration of `source` would need before its next record; 0 when declared,
   * Infinity when the open fragment has as many declarations as a receiver takes apart.
   */
  declarationBytes(source: DataSourceEntry, timestampUs: TimestampUs): number {
    const n = source.number;
    if (
      this.#declaredIn[n] === this.#serial &&
      this.#declaredNext[n] === source.nextSequence &&
      this.#declaredType[n] === source.contentTypeBytes &&
      Math.abs(timestampUs - (this.#declaredTimestamp[n] as number)) <= I32_MAX
    ) {
      return 0;
    }
    if (this.#declarations === SOURCES_MAX) return Number.POSITIVE_INFINITY;
    return layout.SOURCE_HEADER_BYTES + source.idBytes.length + source.contentTypeBytes.length;
  }

  /** Declares `source` unless it is declared. The caller made sure of declarationBytes. */
  declare(source: DataSourceEntry, timestampUs: TimestampUs): void {
    const bytes = this.declarationBytes(source, timestampUs);
    if (bytes === 0) return;
    const { view, bytes: memory } = this.#kernel;
    const at = this.#write;
    memory[at] = layout.RECORD_KIND_SOURCE;
    memory[at + layout.RECORD_SOURCE_NUMBER] = source.number;
    memory[at + layout.SOURCE_ID_BYTES_AT] = source.idBytes.length;
    memory[at + layout.SOURCE_CONTENT_TYPE_BYTES_AT] = source.contentTypeBytes.length;
    view.setUint32(at + layout.SOURCE_NUMBERING, source.numbering, true);
    setU53(view, at + layout.SOURCE_BASE_SEQUENCE, source.nextSequence);
    setU53(view, at + layout.SOURCE_BASE_TIMESTAMP, timestampUs);
    memory.set(source.idBytes, at + layout.SOURCE_HEADER_BYTES);
    memory.set(source.contentTypeBytes, at + layout.SOURCE_HEADER_BYTES + source.idBytes.length);
    this.#write += bytes;
    this.#records++;
    this.#declarations++;
    const n = source.number;
    this.#declaredIn[n] = this.#serial;
    this.#declaredNext[n] = source.nextSequence;
    this.#declaredTimestamp[n] = timestampUs;
    this.#declaredType[n] = source.contentTypeBytes;
  }

  /** Appends a whole datum of a declared source; takes its sequence number. */
  putDatum(source: DataSourceEntry, payload: Uint8Array, timestampUs: TimestampUs): void {
    const at = this.#write;
    const delta = this.timestampDelta(source, timestampUs);
    if (payload.length >= STAGED_BYTES_MIN) {
      const staged = this.#stage(payload, 0, payload.length, at + layout.DATUM_HEADER_BYTES);
      this.#kernel.writeDatum(at, staged, payload.length, source.number, delta);
    } else {
      const { view, bytes } = this.#kernel;
      view.setUint32(at, layout.RECORD_KIND_DATUM | (source.number << 8), true);
      view.setUint32(at + layout.DATUM_PAYLOAD_BYTES, payload.length, true);
      view.setInt32(at + layout.DATUM_TIMESTAMP, delta, true);
      bytes.set(payload, at + layout.DATUM_HEADER_BYTES);
    }
    this.#write = at + layout.DATUM_HEADER_BYTES + payload.length;
    this.#records++;
    this.#took(source, 1);
  }

  /** Says that a kernel appended `count` data of `source` up to `write`. */
  putMerged(source: DataSourceEntry, count: number, write: MemoryOffset): void {
    assert(write <= this.end, "merged data stay inside the fragment");
    this.#write = write;
    this.#records += count;
    this.#took(source, count);
  }

  /** Appends a slice of `payload` from `offset` on, `bytes` long; the last takes the sequence. */
  putSlice(
    source: DataSourceEntry,
    payload: Uint8Array,
    offset: number,
    bytes: number,
    timestampUs: TimestampUs,
  ): void {
    const at = this.#write;
    const last = offset + bytes === payload.length;
    const flags =
      (offset === 0 ? layout.SLICE_FLAG_FIRST : 0) | (last ? layout.SLICE_FLAG_LAST : 0);
    this.#write = this.#kernel.writeSlice(
      at,
      this.#stage(payload, offset, bytes, at + layout.SLICE_HEADER_BYTES),
      bytes,
      source.number,
      flags,
      this.timestampDelta(source, timestampUs),
      offset,
      payload.length,
    );
    this.#records++;
    if (last) this.#took(source, 1);
  }

  /** Appends the SOURCE_END of a declared source. */
  putSourceEnd(source: DataSourceEntry): void {
    const { view } = this.#kernel;
    const at = this.#write;
    view.setUint32(at, layout.RECORD_KIND_SOURCE_END | (source.number << 8), true);
    view.setUint32(at + 4, 0, true);
    setU53(view, at + layout.SOURCE_END_LAST_SEQUENCE, source.nextSequence - 1);
    this.#write = at + layout.SOURCE_END_BYTES;
    this.#records++;
  }

  timestampDelta(source: DataSourceEntry, timestampUs: TimestampUs): number {
    return timestampUs - (this.#declaredTimestamp[source.number] as number);
  }

  /**
   * Closes the open fragment as fragment `index` and returns its bytes; it lies at the returned
   * offset with one reference, the caller's. The checksum is still zero.
   */
  seal(index: FragmentIndex, createdUs: TimestampUs, end: boolean): [MemoryOffset, number] {
    assert(this.#frame >= 0, "a fragment is open");
    const frame = this.#frame;
    const bytes = this.#write - frame;
    this.#kernel.writeDataHeader(
      frame,
      bytes,
      end ? layout.DATA_FLAG_END : 0,
      this.#records,
      this.#tag,
      index,
      createdUs,
    );
    this.memory.retain(frame, bytes);
    this.#cursor.commit(bytes);
    this.#cursor.consume(bytes);
    this.#frame = -1;
    this.#records = 0;
    return [frame, bytes];
  }

  close(): void {
    this.#cursor.close();
    this.memory.free(this.#tag);
  }

  /**
   * Brings payload bytes next to `at`, where a kernel moves them in place, and returns where they
   * lie. The engine copies into shared memory by words only when source and target are aligned alike,
   * else byte by byte, at a sixth of the speed; so they go up to seven bytes below `at`, where the
   * record's header comes later. What lies in the engine's memory already stays where it is.
   */
  #stage(payload: Uint8Array, offset: number, bytes: number, at: MemoryOffset): MemoryOffset {
    const memory = this.#kernel.bytes;
    const from = payload.byteOffset + offset;
    if (payload.buffer === memory.buffer) return from;
    const staged = at - ((at - from) & 7);
    const whole = offset === 0 && bytes === payload.length;
    memory.set(whole ? payload : payload.subarray(offset, offset + bytes), staged);
    return staged;
  }

  #took(source: DataSourceEntry, count: number): void {
    source.nextSequence += count;
    this.#declaredNext[source.number] = source.nextSequence;
  }
}

/** Writes an integer up to 2^53 - 1 as u64, without a BigInt. */
export function setU53(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** Reads a u64; NaN when it is above 2^53 - 1. */
export function u53(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  if (high > 0x1f_ffff) return Number.NaN;
  return high * 0x1_0000_0000 + view.getUint32(at, true);
}
