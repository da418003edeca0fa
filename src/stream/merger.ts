/**
 * Fragmentation at the source peer (R11.a, P2.1): small data are merged into one fragment, a datum
 * too big for one is sliced over consecutive fragments, one datum under way at a time.
 *
 * Smart batching: the merger never waits by itself. Its owner flushes it when the way out is idle,
 * when the oldest datum has waited `maxDelayMs`, and at the end; under load fragments fill up.
 *
 * It stops where the window is full: a write that is not accepted has not been touched. A sliced
 * datum is accepted as a whole: what the window does not take yet is kept (one datum, at most
 * 16 MiB) and goes on with pump().
 */

import { assert } from "../base/assert.ts";
import { LocalUsageError } from "../base/errors.ts";
import * as layout from "../base/layout.ts";
import { DATUM_BYTES_MAX } from "../base/limits.ts";
import type { FragmentIndex, MemoryOffset, MonoMs, TimestampUs } from "../base/units.ts";
import { KIB } from "../base/units.ts";
import type { EngineMemory } from "../kernel/engine-memory.ts";
import { FragmentWriter } from "./fragment-writer.ts";
import type { DataSourceEntry } from "./source-table.ts";

/** From this size on copying a datum straight into its fragment beats staging and merging. */
const DIRECT_BYTES_MIN = 2 * KIB;
/** Payloads staged for one kernel call. */
const STAGING_BYTES = 128 * KIB;
const STAGING_DATA_MAX = 8_192;
/** A slice is not begun in less room than this: its header would outweigh it. */
const SLICE_ROOM_MIN = 256;

export interface MergerOutlet {
  /** Whether fragment `index` may be opened now (window and credit). */
  mayOpen(index: FragmentIndex): boolean;
  /** Takes over a sealed fragment and the reference on its memory. */
  sealed(index: FragmentIndex, offset: MemoryOffset, bytes: number): void;
}

interface Slicing {
  readonly source: DataSourceEntry;
  payload: Uint8Array;
  owned: boolean;
  offset: number;
  readonly timestampUs: TimestampUs;
}

export class FragmentMerger {
  readonly #memory: EngineMemory;
  readonly #writer: FragmentWriter;
  readonly #outlet: MergerOutlet;
  readonly #staging: MemoryOffset;
  readonly #stagingLengths: MemoryOffset;
  #nextIndex: FragmentIndex = 0;
  #openedUs: TimestampUs = 0;
  #openedMs: MonoMs = 0;
  #slicing: Slicing | undefined;
  /** Sources whose SOURCE_END is still to be written before END. */
  #toEnd: DataSourceEntry[] | undefined;
  #nowUs: TimestampUs = 0;
  #nowMs: MonoMs = 0;

  constructor(memory: EngineMemory, tag: Uint8Array, fragmentBytes: number, outlet: MergerOutlet) {
    this.#memory = memory;
    this.#outlet = outlet;
    this.#writer = new FragmentWriter(memory, tag, fragmentBytes);
    this.#staging = memory.allocate(STAGING_BYTES + 8 + 4 * STAGING_DATA_MAX);
    this.#stagingLengths = this.#staging + STAGING_BYTES + 8;
  }

  /** Index that the next sealed fragment gets. */
  get nextIndex(): FragmentIndex {
    return this.#nextIndex;
  }
  /** Whether data wait in an open fragment. */
  get hasOpenData(): boolean {
    return this.#writer.isOpen && !this.#writer.isEmpty;
  }
  /** When the oldest datum of the open fragment came; only while hasOpenData. */
  get openedMs(): MonoMs {
    return this.#openedMs;
  }
  /** Whether a datum is under way: nothing else is accepted until it is through. */
  get isSlicing(): boolean {
    return this.#slicing !== undefined;
  }
  /** Payload bytes that fit a fragment of their own, for a source id and type of these sizes. */
  wholeBytesMax(source: DataSourceEntry): number {
    return (
      this.#writer.fragmentBytes -
      layout.DATA_HEADER_BYTES -
      layout.SOURCE_HEADER_BYTES -
      source.idBytes.length -
      source.contentTypeBytes.length -
      layout.DATUM_HEADER_BYTES
    );
  }

  /** The time that writes from here on are made at. */
  setTime(nowMs: MonoMs, nowUs: TimestampUs): void {
    this.#nowMs = nowMs;
    this.#nowUs = nowUs;
  }

  /**
   * Takes one datum; false when the window has no room for it now. The payload is copied before
   * this returns. Errors: DATUM_TOO_LARGE, SOURCE_ENDED.
   */
  write(source: DataSourceEntry, payload: Uint8Array, timestampUs: TimestampUs): boolean {
    if (source.ended) throw new LocalUsageError("SOURCE_ENDED", { detail: source.id });
    if (payload.length > DATUM_BYTES_MAX) {
      throw new LocalUsageError("DATUM_TOO_LARGE", { detail: `${payload.length} bytes` });
    }
    if (this.#slicing !== undefined) return false;
    const writer = this.#writer;
    const need =
      payload.length +
      layout.DATUM_HEADER_BYTES +
      (writer.isOpen ? writer.declarationBytes(source, timestampUs) : 0);
    if (writer.isOpen && need <= writer.room) {
      writer.declare(source, timestampUs);
      writer.putDatum(source, payload, timestampUs);
      return true;
    }
    if (payload.length > this.wholeBytesMax(source))
      return this.#slice(source, payload, timestampUs);
    if (writer.isOpen) this.#seal(false);
    if (!this.#open()) return false;
    writer.declare(source, timestampUs);
    writer.putDatum(source, payload, timestampUs);
    return true;
  }

  /**
   * Takes data of one source: payloads back to back in `payloads`, datum i has `lengths[i]` bytes.
   * Begins with datum `from`, whose payload lies at byte `at`. All get `timestampUs`. Returns how
   * many were taken; fewer than asked means that the window is full.
   */
  writeBatch(
    source: DataSourceEntry,
    payloads: Uint8Array,
    lengths: Uint32Array,
    timestampUs: TimestampUs,
  ): number {
    let taken = 0;
    let at = 0;
    while (taken < lengths.length) {
      const bytes = lengths[taken] as number;
      if (bytes >= DIRECT_BYTES_MIN) {
        if (!this.write(source, payloads.subarray(at, at + bytes), timestampUs)) return taken;
        taken++;
        at += bytes;
        continue;
      }
      if (source.ended) throw new LocalUsageError("SOURCE_ENDED", { detail: source.id });
      if (this.#slicing !== undefined) return taken;
      let count = 0;
      let staged = 0;
      while (count < STAGING_DATA_MAX && taken + count < lengths.length) {
        const next = lengths[taken + count] as number;
        if (next >= DIRECT_BYTES_MIN || staged + next > STAGING_BYTES) break;
        staged += next;
        count++;
      }
      const merged = this.#mergeStaged(
        source,
        payloads,
        at,
        staged,
        lengths,
        taken,
        count,
        timestampUs,
      );
      for (let i = 0; i < merged; i++) at += lengths[taken + i] as number;
      taken += merged;
      if (merged < count) return taken;
    }
    return taken;
  }

  /** Goes on with a datum under way. True when nothing is under way any more. */
  pump(): boolean {
    const slicing = this.#slicing;
    if (slicing === undefined) return true;
    const writer = this.#writer;
    while (slicing.offset < slicing.payload.length) {
      if (!writer.isOpen && !this.#open()) break;
      const declaration = writer.declarationBytes(slicing.source, slicing.timestampUs);
      const room = writer.room - declaration - layout.SLICE_HEADER_BYTES;
      const rest = slicing.payload.length - slicing.offset;
      if (room < Math.min(rest, SLICE_ROOM_MIN)) {
        this.#seal(false);
        continue;
      }
      const bytes = Math.min(room, rest);
      writer.declare(slicing.source, slicing.timestampUs);
      writer.putSlice(slicing.source, slicing.payload, slicing.offset, bytes, slicing.timestampUs);
      slicing.offset += bytes;
      if (slicing.offset < slicing.payload.length) this.#seal(false);
    }
    if (slicing.offset === slicing.payload.length) {
      this.#slicing = undefined;
      return true;
    }
    if (!slicing.owned) {
      slicing.payload = slicing.payload.slice();
      slicing.owned = true;
    }
    return false;
  }

  /** Seals what is open. */
  flush(): void {
    if (this.hasOpenData) this.#seal(false);
  }

  /**
   * Ends a data source: its SOURCE_END follows its last datum. False when the window has no room
   * now or a datum is under way: call again.
   */
  endSource(source: DataSourceEntry): boolean {
    if (source.ended) return true;
    return this.pump() && this.#putEnd(source);
  }

  /**
   * Seals the last fragment, with END and the last sequence number of each of `sources`, once more
   * for those that ended before. False when the window has no room now: call again.
   */
  finish(sources: Iterable<DataSourceEntry> = []): boolean {
    if (!this.pump()) return false;
    this.#toEnd ??= [...sources];
    for (let source = this.#toEnd[0]; source !== undefined; source = this.#toEnd[0]) {
      if (source.endedIn !== this.#nextIndex && !this.#putEnd(source)) return false;
      this.#toEnd.shift();
    }
    if (!this.#writer.isOpen && !this.#open()) return false;
    this.#seal(true);
    return true;
  }

  #putEnd(source: DataSourceEntry): boolean {
    const writer = this.#writer;
    const need = (): number =>
      writer.declarationBytes(source, this.#nowUs) + layout.SOURCE_END_BYTES;
    if (writer.isOpen && need() > writer.room) this.#seal(false);
    if (!writer.isOpen && !this.#open()) return false;
    writer.declare(source, this.#nowUs);
    writer.putSourceEnd(source);
    source.ended = true;
    source.endedIn = this.#nextIndex;
    return true;
  }

  close(): void {
    this.#writer.close();
    this.#memory.free(this.#staging);
  }

  #mergeStaged(
    source: DataSourceEntry,
    payloads: Uint8Array,
    at: number,
    bytes: number,
    lengths: Uint32Array,
    first: number,
    count: number,
    timestampUs: TimestampUs,
  ): number {
    const kernel = this.#memory.kernel;
    const writer = this.#writer;
    // Aligned like the payloads: the copy goes by words, not by bytes.
    const staging = this.#staging + ((payloads.byteOffset + at) & 7);
    kernel.bytes.set(payloads.subarray(at, at + bytes), staging);
    kernel.u32.set(lengths.subarray(first, first + count), this.#stagingLengths >>> 2);
    let merged = 0;
    let payloadAt = staging;
    while (merged < count) {
      if (!writer.isOpen && !this.#open()) break;
      const next = lengths[first + merged] as number;
      const need = writer.declarationBytes(source, timestampUs) + layout.DATUM_HEADER_BYTES + next;
      if (need > writer.room) {
        if (writer.isEmpty) {
          // Even an empty fragment can't hold it: a small fragment size and a long id.
          const payload = payloads.slice(payloadAt - staging + at, payloadAt - staging + at + next);
          if (!this.#slice(source, payload, timestampUs)) break;
          merged++;
          payloadAt += next;
          if (this.#slicing !== undefined) break;
          continue;
        }
        this.#seal(false);
        continue;
      }
      writer.declare(source, timestampUs);
      const write = writer.write;
      const took = kernel.mergeData(
        write,
        writer.end,
        payloadAt,
        this.#stagingLengths + 4 * merged,
        count - merged,
        source.number,
        writer.timestampDelta(source, timestampUs),
      );
      assert(took > 0, "what fits is merged");
      let tookBytes = 0;
      for (let i = 0; i < took; i++) tookBytes += lengths[first + merged + i] as number;
      payloadAt += tookBytes;
      merged += took;
      writer.putMerged(source, took, write + tookBytes + took * layout.DATUM_HEADER_BYTES);
    }
    return merged;
  }

  #slice(source: DataSourceEntry, payload: Uint8Array, timestampUs: TimestampUs): boolean {
    if (!this.#writer.isOpen && !this.#open()) return false;
    this.#slicing = { source, payload, owned: false, offset: 0, timestampUs };
    this.pump();
    return true;
  }

  #open(): boolean {
    if (!this.#outlet.mayOpen(this.#nextIndex)) return false;
    if (!this.#writer.open()) return false;
    this.#openedUs = this.#nowUs;
    this.#openedMs = this.#nowMs;
    return true;
  }

  #seal(end: boolean): void {
    const index = this.#nextIndex++;
    const [offset, bytes] = this.#writer.seal(index, this.#openedUs, end);
    this.#outlet.sealed(index, offset, bytes);
  }
}
