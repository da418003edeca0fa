/**
 * Data of one remote source between its link and the overlay. As long as the overlay takes them
 * they pass through without a copy; what finds no room is copied and waits, bounded by the credit
 * of its link. Pieces of a big datum are put together here, so that a data source that stops amid
 * one blocks nobody else.
 */

import { assert } from "../../base/assert.ts";
import type { SequenceNumber, TimestampUs } from "../../base/units.ts";
import type { DatumFrame } from "../../protocol/r11.ts";
import type { DataSink } from "./accept-types.ts";
import type { AssemblyBudget } from "./assembly-budget.ts";

interface Entry {
  readonly first: SequenceNumber;
  readonly timestampUs: TimestampUs;
  readonly totalBytes: number;
  readonly offset: number;
  lengths: Uint32Array;
  deltasUs: Int32Array;
  payloads: Uint8Array;
  readonly costBytes: number;
}

interface Assembly {
  readonly first: SequenceNumber;
  readonly timestampUs: TimestampUs;
  readonly totalBytes: number;
  /** Grows with what comes, by doubling, to totalBytes. */
  bytes: Uint8Array;
  filledBytes: number;
}

export class IntakeQueue {
  readonly #sourceId: string;
  readonly #sink: DataSink;
  readonly #budget: AssemblyBudget;
  /** Those below #head have gone on; their place is cleared, for a busy queue is never empty. */
  #entries: (Entry | undefined)[] = [];
  #head = 0;
  #bytes = 0;
  #assembly: Assembly | undefined;

  constructor(sourceId: string, sink: DataSink, budget: AssemblyBudget) {
    this.#sourceId = sourceId;
    this.#sink = sink;
    this.#budget = budget;
  }

  /** Bytes of frames that wait. */
  get bytes(): number {
    return this.#bytes;
  }
  /** Whether everything whole was taken by the overlay. */
  get isEmpty(): boolean {
    return this.#head === this.#entries.length && !this.#isWhole;
  }
  /** Whether pieces wait for memory that others have. */
  get waitsForMemory(): boolean {
    return this.#budget.isWaiting(this);
  }

  /**
   * Takes a frame whose payloads lie in `memory`, without its first `skip` data. What the overlay
   * does not take now is copied. `costBytes`: of the whole frame.
   */
  offer(memory: Uint8Array, frame: DatumFrame, skip: number, costBytes: number): void {
    let at = frame.payloadOffset;
    for (let i = 0; i < skip; i++) at += frame.lengths[i] as number;
    const end = frame.payloadOffset + frame.payloadBytes;
    const direct: Entry = {
      first: frame.first + skip,
      timestampUs: frame.timestampUs,
      totalBytes: frame.totalBytes,
      offset: frame.offset,
      lengths: frame.lengths.subarray(skip, frame.count),
      deltasUs: frame.deltasUs.subarray(skip, frame.count),
      payloads: memory.subarray(at, end),
      costBytes,
    };
    if (this.#head === this.#entries.length && this.#pass(direct)) return;
    this.#entries.push({
      ...direct,
      lengths: direct.lengths.slice(),
      deltasUs: direct.deltasUs.slice(),
      payloads: direct.payloads.slice(),
    });
    this.#bytes += costBytes;
  }

  /** Goes on with what waits, about `maxBytes` of it. Whether more could go on at once. */
  drain(maxBytes: number): boolean {
    let passedBytes = 0;
    if (this.#isWhole && !this.#handWhole()) return false;
    while (this.#head < this.#entries.length) {
      if (passedBytes >= maxBytes) return true;
      const entry = this.#entries[this.#head] as Entry;
      if (!this.#pass(entry)) return false;
      passedBytes += entry.costBytes;
      this.#bytes -= entry.costBytes;
      this.#entries[this.#head++] = undefined;
      if (this.#head > 256 && this.#head * 2 > this.#entries.length) this.#compact();
    }
    this.#compact();
    return false;
  }

  /** The link is gone: pieces of a datum that did not come whole are of no use. */
  dropPartial(next: SequenceNumber): void {
    this.#compact();
    this.#entries = this.#entries.filter((entry) => {
      const partial = entry !== undefined && entry.totalBytes > 0 && entry.first === next;
      if (partial) this.#bytes -= entry.costBytes;
      return !partial;
    });
    if (this.#assembly?.first === next) this.#dropAssembly();
    this.#budget.waitNoMore(this);
  }

  #compact(): void {
    this.#entries = this.#entries.slice(this.#head);
    this.#head = 0;
  }

  get #isWhole(): boolean {
    const assembly = this.#assembly;
    return assembly !== undefined && assembly.filledBytes === assembly.totalBytes;
  }

  /** Whether all of the entry went on; what went is cut off it. */
  #pass(entry: Entry): boolean {
    if (entry.totalBytes > 0) return this.#piece(entry);
    if (this.#isWhole && !this.#handWhole()) return false;
    while (entry.lengths.length > 0) {
      const { lengths, deltasUs, timestampUs } = entry;
      let run = 1;
      while (run < lengths.length && deltasUs[run] === deltasUs[0]) run++;
      const stampUs = timestampUs + (deltasUs[0] as number);
      const some = run === lengths.length ? lengths : lengths.subarray(0, run);
      const taken = this.#sink.write(this.#sourceId, entry.payloads, some, stampUs);
      let bytes = 0;
      for (let i = 0; i < taken; i++) bytes += lengths[i] as number;
      entry.lengths = lengths.subarray(taken);
      entry.deltasUs = deltasUs.subarray(taken);
      entry.payloads = entry.payloads.subarray(bytes);
      if (taken < run) return false;
    }
    return true;
  }

  #piece(entry: Entry): boolean {
    if (this.#isWhole && !this.#handWhole()) return false;
    const { payloads, offset, totalBytes, first } = entry;
    const assembly: Assembly =
      offset > 0 && this.#assembly !== undefined
        ? this.#assembly
        : {
            first,
            timestampUs: entry.timestampUs + (entry.deltasUs[0] as number),
            totalBytes,
            bytes: new Uint8Array(0),
            filledBytes: 0,
          };
    assert(assembly.first === first && assembly.filledBytes === offset, "pieces in order");
    if (!this.#grow(assembly, offset + payloads.length)) return false;
    this.#assembly = assembly;
    assembly.bytes.set(payloads, offset);
    assembly.filledBytes += payloads.length;
    // Whether the overlay takes the datum now or later: its pieces are done with.
    if (this.#isWhole) this.#handWhole();
    return true;
  }

  /** Whether there is memory for so much of the datum. */
  #grow(assembly: Assembly, bytes: number): boolean {
    const { length } = assembly.bytes;
    if (bytes <= length) return true;
    const wantedBytes = Math.min(assembly.totalBytes, Math.max(bytes, 2 * length));
    if (!this.#budget.take(this, wantedBytes - length)) return false;
    const grown = new Uint8Array(wantedBytes);
    grown.set(assembly.bytes);
    assembly.bytes = grown;
    return true;
  }

  #handWhole(): boolean {
    const assembly = this.#assembly as Assembly;
    const lengths = Uint32Array.of(assembly.bytes.length);
    const { bytes, timestampUs } = assembly;
    if (this.#sink.write(this.#sourceId, bytes, lengths, timestampUs) === 0) return false;
    this.#dropAssembly();
    return true;
  }

  #dropAssembly(): void {
    this.#budget.giveBack(this, (this.#assembly as Assembly).bytes.length);
    this.#assembly = undefined;
  }
}
