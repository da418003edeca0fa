/**
 * A producing and a receiving window in one engine memory: what the merger seals goes to the
 * receiver when the test says so, or never.
 */

import type { ReceiveCursor } from "../../src/base/receive-arena.ts";
import { EngineMemory } from "../../src/kernel/engine-memory.ts";
import { createJsKernel } from "../../src/kernel/js-kernel.ts";
import { Assembler, type Gap } from "../../src/stream/assembler.ts";
import { FragmentChecker } from "../../src/stream/fragment-checker.ts";
import { FragmentMerger } from "../../src/stream/merger.ts";
import type { TakenBefore } from "../../src/stream/source-book.ts";
import { type DataSourceEntry, SourceTable } from "../../src/stream/source-table.ts";
import { FragmentWindow } from "../../src/stream/window.ts";

export const TAG = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
export const EPOCH_US = 1_600_000_000_000_000;

export function createMemory(memoryMiB = 8, segmentBytes = 65_536): EngineMemory {
  return new EngineMemory(createJsKernel({ memoryBytes: memoryMiB << 20 }), { segmentBytes });
}

/** Sealed fragments, each a copy with a reference of its own on it gone. */
export class Producer {
  readonly sources = new SourceTable();
  readonly merger: FragmentMerger;
  /** Fragments sealed so far, by index: copies of their bytes. */
  readonly fragments: Uint8Array[] = [];
  /** May be lowered to stop the merger. */
  limit = Number.POSITIVE_INFINITY;

  constructor(memory: EngineMemory, fragmentBytes: number) {
    this.merger = new FragmentMerger(memory, TAG, fragmentBytes, {
      mayOpen: (index) => index < this.limit,
      sealed: (index, offset, bytes) => {
        if (index !== this.fragments.length) throw new Error("indices follow each other");
        this.fragments.push(memory.bytes.slice(offset, offset + bytes));
        memory.release(offset, bytes);
      },
    });
    this.merger.setTime(1, EPOCH_US);
  }

  source(id: string, contentType = ""): DataSourceEntry {
    return this.sources.find(id) ?? this.sources.register(id, contentType);
  }
}

export interface Taken {
  readonly sourceId: string;
  readonly sequence: number;
  readonly timestampUs: number;
  readonly contentType: string;
  readonly payload: Uint8Array;
}

export class Receiver {
  readonly memory: EngineMemory;
  readonly window: FragmentWindow;
  readonly assembler: Assembler;
  readonly taken: Taken[] = [];
  readonly gaps: Gap[] = [];
  nowMs = 0;
  readonly #checker: FragmentChecker;
  /** One for all: each cursor has a segment of its own. */
  readonly #cursor: ReceiveCursor;

  constructor(
    memory: EngineMemory,
    fragmentBytes: number,
    options: {
      readonly start?: number;
      readonly windowBytes?: number;
      readonly before?: ReadonlyMap<string, TakenBefore> | undefined;
    } = {},
  ) {
    this.memory = memory;
    const start = options.start ?? 0;
    this.window = new FragmentWindow(memory, {
      start,
      fragments: 1024,
      bytes: options.windowBytes ?? 4 << 20,
      fragmentBytes,
    });
    this.assembler = new Assembler(this.window, start, options.before);
    this.#checker = new FragmentChecker(memory, fragmentBytes);
    this.#cursor = memory.open();
  }

  /** The fragment arrives. Throws when it can't be taken apart. */
  store(index: number, frame: Uint8Array): void {
    const cursor = this.#cursor;
    if (!cursor.reserve(frame.length)) throw new Error("memory exhausted");
    const offset = cursor.writeOffset;
    this.memory.bytes.set(frame, offset);
    cursor.commit(frame.length);
    this.memory.retain(offset, frame.length);
    cursor.consume(frame.length);
    if (!this.#checker.wellFormed(offset, frame.length)) throw new Error(`fragment ${index}`);
    this.window.store(index, offset, frame.length);
  }

  /** Takes at most `batches` batches; frees what was consumed. */
  take(batches = Number.POSITIVE_INFINITY): void {
    const { view, f64 } = this.memory.kernel;
    for (let n = 0; n < batches; n++) {
      const batch = this.assembler.next(this.nowMs);
      if (batch === undefined) break;
      for (let i = 0; i < batch.count; i++) {
        const entry = batch.entries + 32 * i;
        const source = this.assembler.sourceOf(view.getUint32(entry + 12, true));
        const offset = view.getUint32(entry, true);
        this.taken.push({
          sourceId: source.id,
          contentType: source.contentType,
          sequence: f64[(entry + 16) >>> 3] as number,
          timestampUs: f64[(entry + 24) >>> 3] as number,
          payload: batch.memory.slice(offset, offset + view.getUint32(entry + 4, true)),
        });
      }
    }
    this.window.advance(this.assembler.head);
    this.gaps.push(...this.assembler.takeGaps());
  }

  close(): void {
    this.#cursor.close();
    this.assembler.close();
    this.#checker.close();
    this.window.close();
  }
}

/** `bytes` bytes that tell data apart. */
export function payloadOf(seed: number, bytes: number): Uint8Array {
  const payload = new Uint8Array(bytes);
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  for (let i = 0; i < bytes; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    payload[i] = state & 255;
  }
  return payload;
}
