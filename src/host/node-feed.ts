/**
 * From a file or standard input to a data source, at the pace that the session takes: nothing is
 * read that can not be sent.
 */

import { accessSync, constants, statSync } from "node:fs";
import type { Readable } from "node:stream";
import { LocalUsageError, OperationError } from "../base/errors.ts";
import * as layout from "../base/layout.ts";
import {
  CONTENT_TYPE_BYTES_MAX,
  DATUM_BYTES_MAX,
  FRAGMENT_BYTES_DEFAULT,
  SOURCE_ID_BYTES_MAX,
} from "../base/limits.ts";
import { SECOND_MS } from "../base/units.ts";
import type { DataBatch } from "../intake/data-batch.ts";
import { readFileBlocks, readStreamBlocks } from "../intake/file-source.ts";
import { contentTypeOf, type DataFormat, parseData } from "../intake/formats.ts";
import { isPipe, openPipe } from "../intake/pipe-source.ts";
import type { BatchWrite, DataSource } from "./engine-types.ts";

export { contentTypeOf, type DataBatch, isPipe };

export interface InputOptions {
  /** A path, or an open stream. */
  readonly input: string | Readable;
  readonly format: DataFormat;
  /** Format raw: bytes of a piece; see rawPieceBytes. */
  readonly rawBytes: number;
  /** Ends the reading with ABORTED. */
  readonly signal?: AbortSignal;
}

/**
 * Says at once what reading would say later: FILE_NOT_FOUND for what is missing, a directory or not
 * ours to read. Opens nothing: a pipe would give its bytes only once.
 */
export function assertReadable(path: string): void {
  let reason = "is a directory";
  try {
    accessSync(path, constants.R_OK);
    if (!statSync(path).isDirectory()) return;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    reason = code === "ENOENT" ? "does not exist" : "can not be read";
  }
  throw new LocalUsageError("FILE_NOT_FOUND", { detail: `${path}: ${reason}` });
}

/**
 * The data of an input, in order. Errors: those of readFileBlocks and parseData. A stream that is ended
 * by the signal gives what it had read: of raw bytes all, else whole data.
 */
export function openInput(options: InputOptions): AsyncGenerator<DataBatch> {
  const { input, format, rawBytes } = options;
  const reading = options.signal === undefined ? {} : { signal: options.signal };
  const ending = { ...reading, endsAborted: format === "raw" };
  const blocks = (): AsyncGenerator<Uint8Array> => {
    if (typeof input !== "string") return readStreamBlocks(input, "standard input", ending);
    return isPipe(input) ? readPipeBlocks(input, ending) : readFileBlocks(input, reading);
  };
  return parseData(format, blocks(), { rawBytes });
}

async function* readPipeBlocks(
  path: string,
  ending: NonNullable<Parameters<typeof readStreamBlocks>[2]>,
): AsyncGenerator<Uint8Array> {
  yield* readStreamBlocks(await openPipe(path, ending.signal), path, ending);
}

/** Bytes of a piece that fills a fragment to the last byte, for data of this source and format. */
export function rawPieceBytes(
  sourceId: string,
  format: DataFormat,
  fragmentBytes: number = FRAGMENT_BYTES_DEFAULT,
): number {
  const encoder = new TextEncoder();
  const idBytes = encoder.encode(sourceId).length;
  const typeBytes = encoder.encode(contentTypeOf(format)).length;
  if (idBytes > SOURCE_ID_BYTES_MAX || typeBytes > CONTENT_TYPE_BYTES_MAX) {
    throw new LocalUsageError("USAGE", {
      detail: `a data source id has at most ${SOURCE_ID_BYTES_MAX} bytes`,
    });
  }
  const overhead =
    layout.DATA_HEADER_BYTES +
    layout.SOURCE_HEADER_BYTES +
    idBytes +
    typeBytes +
    layout.DATUM_HEADER_BYTES;
  return Math.min(DATUM_BYTES_MAX, fragmentBytes - overhead);
}

/** The batches without their first `count` data. Fewer than that are not what was sent: INPUT_MALFORMED. */
export async function* skipData(
  batches: AsyncIterable<DataBatch>,
  count: number,
): AsyncGenerator<DataBatch> {
  let left = count;
  for await (const batch of batches) {
    if (left >= batch.count) {
      left -= batch.count;
      continue;
    }
    let at = 0;
    for (let i = 0; i < left; i++) at += batch.lengths[i] as number;
    yield {
      payloads: batch.payloads.subarray(at),
      lengths: batch.lengths.subarray(left),
      count: batch.count - left,
    };
    left = 0;
  }
  if (left === 0) return;
  throw new LocalUsageError("INPUT_MALFORMED", {
    detail: `the source peer has ${count} data, the input only ${count - left}: it is not what was sent before (--append numbers it on)`,
  });
}

export interface FeedOptions {
  /** Data per second at most, until `hurries` is aborted. */
  readonly ratePerSecond?: number;
  readonly hurries?: AbortSignal;
  /** Called after each write with what was taken. */
  readonly onTaken?: (dataCount: number, bytes: number) => void;
  /** Ends the writing with ABORTED at once: what was read and not written yet is dropped. */
  readonly signal?: AbortSignal;
}

/**
 * Writes every datum of `batches`, waiting for room. Rejects when the session fails, or with what
 * `batches` throws; data before that were written.
 */
export async function feed(
  source: Pick<DataSource, "writable"> & {
    writeBatch(batch: BatchWrite): { readonly accepted: number };
  },
  batches: AsyncIterable<DataBatch>,
  { ratePerSecond, hurries, onTaken, signal }: FeedOptions = {},
): Promise<void> {
  const pace = ratePerSecond === undefined ? undefined : new Pace(ratePerSecond, signal, hurries);
  for await (const { payloads, lengths, count } of batches) {
    let from = 0;
    let at = 0;
    while (from < count) {
      const some = pace === undefined ? count - from : await pace.allow(count - from);
      if (signal?.aborted === true) throw aborted(signal);
      const wanted = lengths.subarray(from, from + some);
      const { accepted } = source.writeBatch({ payloads: payloads.subarray(at), lengths: wanted });
      let bytes = 0;
      for (let i = 0; i < accepted; i++) bytes += wanted[i] as number;
      at += bytes;
      from += accepted;
      pace?.took(accepted);
      if (accepted > 0) onTaken?.(accepted, bytes);
      if (accepted < some) await unlessAborted(source.writable(), signal);
    }
  }
}

function aborted(signal: AbortSignal): OperationError {
  return new OperationError("ABORTED", { cause: signal.reason });
}

/** `work`, or ABORTED when that comes first. */
async function unlessAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return work;
  let onAbort = (): void => undefined;
  const abort = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(aborted(signal));
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    await Promise.race([work, abort]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Counts out data at a rate; what was not used is not saved up beyond a tenth of a second. */
class Pace {
  readonly #ratePerMs: number;
  readonly #burst: number;
  readonly #signal: AbortSignal | undefined;
  readonly #hurries: AbortSignal | undefined;
  /** Either of them. */
  readonly #ending: AbortSignal;
  #tokens = 1;
  #filledMs = performance.now();

  constructor(
    ratePerSecond: number,
    signal: AbortSignal | undefined,
    hurries: AbortSignal | undefined,
  ) {
    this.#signal = signal;
    this.#hurries = hurries;
    this.#ending = AbortSignal.any([signal, hurries].filter((one) => one !== undefined));
    this.#ratePerMs = ratePerSecond / SECOND_MS;
    this.#burst = Math.max(1, ratePerSecond / 10);
  }

  /** Resolves with how many of `wanted` may be written now, at least one. */
  async allow(wanted: number): Promise<number> {
    for (;;) {
      if (this.#isHurried) return wanted;
      const nowMs = performance.now();
      this.#tokens = Math.min(
        this.#burst,
        this.#tokens + (nowMs - this.#filledMs) * this.#ratePerMs,
      );
      this.#filledMs = nowMs;
      if (this.#tokens >= 1) return Math.min(wanted, Math.floor(this.#tokens));
      const waitMs = Math.ceil((1 - this.#tokens) / this.#ratePerMs);
      let timer: NodeJS.Timeout | undefined;
      const waited = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, waitMs);
      });
      try {
        await unlessAborted(waited, this.#ending);
      } catch (error) {
        if (!this.#isHurried) throw error;
      } finally {
        clearTimeout(timer);
      }
    }
  }

  get #isHurried(): boolean {
    return this.#signal?.aborted !== true && this.#hurries?.aborted === true;
  }

  took(count: number): void {
    this.#tokens -= count;
  }
}
