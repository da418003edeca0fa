/**
 * Format `framed`: each datum is its length as u32, little-endian, and that many bytes (0 to
 * 16 MiB). The only format that keeps the borders of any data, both ways.
 *
 * Payloads are copied together: headers lie between them. Bytes of a datum go straight to their
 * place in the outgoing buffer, so a 16 MiB datum in small blocks is copied once.
 */

import { LocalUsageError } from "../base/errors.ts";
import { DATUM_BYTES_MAX } from "../base/limits.ts";
import { KIB } from "../base/units.ts";
import { BATCH_DATA_MAX, type DataBatch, type DataParser } from "./data-batch.ts";

export const FRAMED_HEADER_BYTES = 4;
/** Payload bytes gathered in one batch, unless one datum is larger. */
const BATCH_BYTES = 256 * KIB;

export class FramedParser implements DataParser {
  readonly contentType = "application/octet-stream";
  readonly #lengths = new Uint32Array(BATCH_DATA_MAX);
  #payloads = new Uint8Array(BATCH_BYTES);
  /** Bytes and number of the whole data gathered; the datum under way lies behind them. */
  #wholeBytes = 0;
  #wholeCount = 0;
  readonly #header = new Uint8Array(FRAMED_HEADER_BYTES);
  #headerBytes = 0;
  /** Length of the datum under way; -1 while its header is. */
  #expected = -1;
  #received = 0;
  /** Data seen to the end, for error messages. */
  #datumCount = 0;

  *push(block: Uint8Array): Generator<DataBatch> {
    let at = 0;
    while (at < block.length) {
      if (this.#expected < 0) {
        at = this.#readHeader(block, at);
        if (this.#expected > 0 && this.#wholeBytes + this.#expected > this.#payloads.length) {
          yield* this.#handOver();
          if (this.#expected > this.#payloads.length) {
            this.#payloads = new Uint8Array(this.#expected);
          }
        }
      } else {
        at = this.#readPayload(block, at);
      }
      if (this.#wholeCount === BATCH_DATA_MAX) yield* this.#handOver();
    }
    yield* this.#handOver();
  }

  /** Throws INPUT_MALFORMED when the stream ends within a datum. */
  end(): Iterable<DataBatch> {
    if (this.#expected < 0 && this.#headerBytes === 0) return [];
    const missing =
      this.#expected < 0
        ? `${this.#headerBytes} of ${FRAMED_HEADER_BYTES} bytes of its length came`
        : `${this.#received} of its ${this.#expected} bytes came`;
    throw new LocalUsageError("INPUT_MALFORMED", {
      detail: `the input ends within datum ${this.#datumCount + 1}: ${missing}`,
    });
  }

  #readHeader(block: Uint8Array, from: number): number {
    let at = from;
    while (this.#headerBytes < FRAMED_HEADER_BYTES && at < block.length) {
      this.#header[this.#headerBytes++] = block[at++] ?? 0;
    }
    if (this.#headerBytes < FRAMED_HEADER_BYTES) return at;
    const [b0 = 0, b1 = 0, b2 = 0, b3 = 0] = this.#header;
    const expected = (b0 | (b1 << 8) | (b2 << 16) | (b3 << 24)) >>> 0;
    if (expected > DATUM_BYTES_MAX) {
      throw new LocalUsageError("DATUM_TOO_LARGE", {
        detail: `datum ${this.#datumCount + 1} claims ${expected} bytes`,
      });
    }
    this.#headerBytes = 0;
    this.#expected = expected;
    this.#received = 0;
    if (expected === 0) this.#finish();
    return at;
  }

  #readPayload(block: Uint8Array, from: number): number {
    const count = Math.min(this.#expected - this.#received, block.length - from);
    this.#payloads.set(block.subarray(from, from + count), this.#wholeBytes + this.#received);
    this.#received += count;
    if (this.#received === this.#expected) this.#finish();
    return from + count;
  }

  #finish(): void {
    this.#lengths[this.#wholeCount++] = this.#expected;
    this.#wholeBytes += this.#expected;
    this.#expected = -1;
    this.#received = 0;
    this.#datumCount++;
  }

  /** Hands the whole data out; once taken, the datum under way moves to the front. */
  *#handOver(): Generator<DataBatch> {
    if (this.#wholeCount === 0) return;
    const bytes = this.#wholeBytes;
    yield {
      payloads: this.#payloads.subarray(0, bytes),
      lengths: this.#lengths,
      count: this.#wholeCount,
    };
    this.#payloads.copyWithin(0, bytes, bytes + this.#received);
    this.#wholeBytes = 0;
    this.#wholeCount = 0;
  }
}
