/**
 * Format `lines`: a datum is a line with its terminator, "\n". "\r" belongs to the line, an empty
 * line is the datum "\n", a last line without terminator is a datum, any bytes may stand in a line.
 * So the payloads put back to back are the input, byte for byte.
 *
 * Lines inside one block are handed out where they lie; only a line that spans blocks is copied.
 */

import { LocalUsageError } from "../base/errors.ts";
import { DATUM_BYTES_MAX } from "../base/limits.ts";
import { CarryBuffer } from "./carry-buffer.ts";
import { BATCH_DATA_MAX, type DataBatch, type DataParser } from "./data-batch.ts";

const NEWLINE = 0x0a;
/** Below this, a loop finds the end of a line faster than the call of a native search. */
const SHORT_LINE_BYTES = 48;

/** Of the lines of a batch: how many come before the first that is not good, and what is wrong with it. */
export interface LineFault {
  readonly good: number;
  readonly fault: LocalUsageError;
}

export class LinesParser implements DataParser {
  readonly contentType: string = "text/plain";
  readonly #carry = new CarryBuffer();
  readonly #lengths = new Uint32Array(BATCH_DATA_MAX);
  /** How many lines the last scan found. */
  #found = 0;
  /** Lines handed out so far. */
  #lineCount = 0;

  *push(block: Uint8Array): Generator<DataBatch> {
    let start = 0;
    if (this.#carry.length > 0) {
      const newline = block.indexOf(NEWLINE);
      start = newline < 0 ? block.length : newline + 1;
      this.#carry.append(block.subarray(0, start), () => this.#nextLine());
      if (newline < 0) return;
      yield* this.#batch(this.#carry.take(), 1);
    }
    while (start < block.length) {
      const end = this.#scan(block, start);
      const count = this.#found;
      if (count > 0) yield* this.#batch(block.subarray(start, end), count);
      start = end;
      if (count < BATCH_DATA_MAX) break;
    }
    if (start < block.length) this.#carry.append(block.subarray(start), () => this.#nextLine());
  }

  *end(): Generator<DataBatch> {
    if (this.#carry.length > 0) yield* this.#batch(this.#carry.take(), 1);
  }

  /**
   * Checks lines before they leave; `firstLine` counts from 1. Undefined: all are good. Formats made of
   * lines override it.
   */
  protected check(_batch: DataBatch, _firstLine: number): LineFault | undefined {
    return undefined;
  }

  /** Notes lengths of up to BATCH_DATA_MAX whole lines from `start` on; returns where they end. */
  #scan(block: Uint8Array, start: number): number {
    const lengths = this.#lengths;
    const size = block.length;
    let count = 0;
    let at = start;
    while (count < BATCH_DATA_MAX) {
      const near = Math.min(at + SHORT_LINE_BYTES, size);
      let newline = at;
      while (newline < near && block[newline] !== NEWLINE) newline++;
      if (newline === near) {
        newline = near < size ? block.indexOf(NEWLINE, near) : -1;
        if (newline < 0) break;
      }
      if (newline + 1 - at > DATUM_BYTES_MAX) {
        if (count > 0) break;
        throw new LocalUsageError("DATUM_TOO_LARGE", { detail: this.#nextLine() });
      }
      lengths[count++] = newline + 1 - at;
      at = newline + 1;
    }
    this.#found = count;
    return at;
  }

  /** Throws for a line that is not good, once those before it were taken. */
  *#batch(payloads: Uint8Array, count: number): Generator<DataBatch> {
    const lengths = this.#lengths;
    if (count === 1) lengths[0] = payloads.length;
    const batch = { payloads, lengths, count };
    const bad = this.check(batch, this.#lineCount + 1);
    if (bad === undefined) {
      this.#lineCount += count;
      yield batch;
      return;
    }
    let bytes = 0;
    for (let i = 0; i < bad.good; i++) bytes += lengths[i] as number;
    if (bytes > 0) yield { payloads: payloads.subarray(0, bytes), lengths, count: bad.good };
    throw bad.fault;
  }

  #nextLine(): string {
    return `line ${this.#lineCount + 1}`;
  }
}
