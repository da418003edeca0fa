/**
 * A run of data on its way in: what parsers hand out and what `writeBatch` takes. Payloads lie back
 * to back, so a batch costs two views however many data it holds.
 */

export interface DataBatch {
  /** The payloads back to back: exactly the sum of the lengths. Lent until the next step. */
  readonly payloads: Uint8Array;
  /** Bytes of each payload; entries from `count` on mean nothing. Lent until the next step. */
  readonly lengths: Uint32Array;
  readonly count: number;
}

/**
 * Cuts a stream of bytes into data. However the stream is cut into blocks, the data are the same.
 * A parser that threw is of no further use. Blocks are read, never kept or changed: what a batch
 * does not cover by the end of `push` was copied.
 */
export interface DataParser {
  readonly contentType: string;
  /** Data that `block` completes. Drain it before the next push. */
  push(block: Uint8Array): Iterable<DataBatch>;
  /** Data that the end of the stream completes. */
  end(): Iterable<DataBatch>;
}

/** Data of one batch at most; bounds what a parser allocates for lengths. */
export const BATCH_DATA_MAX = 8_192;

/** Copies of the payloads of a batch, one by one; for tests and small uses. */
export function batchPayloads(batch: DataBatch): Uint8Array[] {
  const payloads: Uint8Array[] = [];
  let at = 0;
  for (let i = 0; i < batch.count; i++) {
    const end = at + (batch.lengths[i] ?? 0);
    payloads.push(batch.payloads.slice(at, end));
    at = end;
  }
  return payloads;
}
