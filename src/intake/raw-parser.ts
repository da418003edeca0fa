/**
 * Format `raw`: data of a given size; the last one may be shorter. The payloads put back to back
 * are the input.
 */

import { LocalUsageError } from "../base/errors.ts";
import { DATUM_BYTES_MAX } from "../base/limits.ts";
import { CarryBuffer } from "./carry-buffer.ts";
import { BATCH_DATA_MAX, type DataBatch, type DataParser } from "./data-batch.ts";

export class RawParser implements DataParser {
  readonly contentType = "application/octet-stream";
  readonly #datumBytes: number;
  readonly #carry = new CarryBuffer();
  readonly #lengths: Uint32Array;
  readonly #lastLength = new Uint32Array(1);

  /** `datumBytes` from 1 to 16 MiB; else USAGE or DATUM_TOO_LARGE. */
  constructor(datumBytes: number) {
    if (!Number.isInteger(datumBytes) || datumBytes < 1) {
      throw new LocalUsageError("USAGE", { detail: `raw data of ${datumBytes} bytes` });
    }
    if (datumBytes > DATUM_BYTES_MAX) {
      throw new LocalUsageError("DATUM_TOO_LARGE", { detail: `raw data of ${datumBytes} bytes` });
    }
    this.#datumBytes = datumBytes;
    this.#lengths = new Uint32Array(BATCH_DATA_MAX).fill(datumBytes);
  }

  *push(block: Uint8Array): Generator<DataBatch> {
    let start = 0;
    if (this.#carry.length > 0) {
      start = Math.min(block.length, this.#datumBytes - this.#carry.length);
      this.#carry.append(block.subarray(0, start), () => "raw");
      if (this.#carry.length < this.#datumBytes) return;
      yield { payloads: this.#carry.take(), lengths: this.#lengths, count: 1 };
    }
    let count = Math.floor((block.length - start) / this.#datumBytes);
    while (count > 0) {
      const some = Math.min(count, BATCH_DATA_MAX);
      const end = start + some * this.#datumBytes;
      yield { payloads: block.subarray(start, end), lengths: this.#lengths, count: some };
      start = end;
      count -= some;
    }
    if (start < block.length) this.#carry.append(block.subarray(start), () => "raw");
  }

  *end(): Generator<DataBatch> {
    if (this.#carry.length === 0) return;
    const payloads = this.#carry.take();
    this.#lastLength[0] = payloads.length;
    yield { payloads, lengths: this.#lastLength, count: 1 };
  }
}
