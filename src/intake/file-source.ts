/**
 * A file or a stream (standard input) as blocks of bytes. Reads one block ahead and no further:
 * while the consumer works on one block the next is read into a second buffer, and nothing is read
 * beyond until it comes back. A block is lent until the next step.
 */

import { type FileHandle, open } from "node:fs/promises";
import type { Readable } from "node:stream";
import { LocalUsageError, OperationError } from "../base/errors.ts";
import { KIB } from "../base/units.ts";

const BLOCK_BYTES = 256 * KIB;

export interface FileSourceOptions {
  /** Bytes of a block, at least 1. */
  readonly blockBytes?: number;
  /** Ends the iteration with ABORTED. */
  readonly signal?: AbortSignal;
}

/** Blocks of the file at `path`. Errors: FILE_NOT_FOUND (missing, directory, no right), ABORTED. */
export async function* readFileBlocks(
  path: string,
  { blockBytes = BLOCK_BYTES, signal }: FileSourceOptions = {},
): AsyncGenerator<Uint8Array> {
  throwIfAborted(signal);
  const file = await openFile(path);
  let [current, spare] = [new Uint8Array(blockBytes), new Uint8Array(blockBytes)];
  let reading = read(file, current, path);
  try {
    for (;;) {
      const bytesRead = await abortable(reading, signal);
      if (bytesRead === 0) return;
      reading = read(file, spare, path);
      // A failure of the read ahead is reported when its turn comes, not as an unhandled rejection.
      reading.catch(() => undefined);
      yield current.subarray(0, bytesRead);
      throwIfAborted(signal);
      [current, spare] = [spare, current];
    }
  } finally {
    // The read under way still writes into our buffer; closing waits for it. An abort does not: a
    // silent pipe may hold its read for ever, and nothing is left to lose by closing late.
    const closed = Promise.allSettled([reading]).then(() => file.close());
    if (signal?.aborted === true) closed.catch(() => undefined);
    else await closed;
  }
}

/**
 * Blocks of a readable stream, e.g. standard input, in order; `name` stands in error messages. The
 * stream is destroyed at the end. Errors: FILE_NOT_FOUND (the stream failed), ABORTED, after what it had
 * read already: nobody else could read that. With `endsAborted`, and when the stream had ended by then,
 * an abort is its end and no error.
 */
export async function* readStreamBlocks(
  stream: Readable,
  name: string,
  {
    signal,
    endsAborted = false,
  }: Pick<FileSourceOptions, "signal"> & { readonly endsAborted?: boolean } = {},
): AsyncGenerator<Uint8Array> {
  const blocks: AsyncIterator<unknown> = stream[Symbol.asyncIterator]();
  try {
    for (;;) {
      if (signal?.aborted === true) {
        // All that it has, once: it may read on meanwhile.
        const rest: unknown = stream.readableLength > 0 ? stream.read() : null;
        if (rest !== null) yield bytesOf(rest);
        if (endsAborted || (await hasEnded(stream))) return;
        throw aborted(signal);
      }
      const step = await abortable(nextBlock(blocks, name), signal).catch((error: unknown) => {
        if (signal?.aborted === true && endsAborted) return undefined;
        throw error;
      });
      if (step === undefined) return;
      yield step;
    }
  } finally {
    stream.destroy();
  }
}

/** Whether nothing more comes of it. It says so a little after the last was read. */
async function hasEnded(stream: Readable): Promise<boolean> {
  if (stream.readableLength > 0) return false;
  stream.read(0);
  await new Promise((resolve) => setImmediate(resolve));
  return stream.readableEnded;
}

async function nextBlock(
  blocks: AsyncIterator<unknown>,
  name: string,
): Promise<Uint8Array | undefined> {
  try {
    const step = await blocks.next();
    if (step.done === true) return undefined;
    return bytesOf(step.value);
  } catch (error) {
    throw fileError(error, name);
  }
}

function bytesOf(chunk: unknown): Uint8Array {
  return chunk instanceof Uint8Array ? chunk : new TextEncoder().encode(`${chunk}`);
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, "r");
  } catch (error) {
    throw fileError(error, path);
  }
}

async function read(file: FileHandle, target: Uint8Array, path: string): Promise<number> {
  try {
    return (await file.read(target, 0, target.length, null)).bytesRead;
  } catch (error) {
    throw fileError(error, path);
  }
}

/** What stands in the way, in words; the code of the system stays for the rest. */
export function fileError(error: unknown, path: string): LocalUsageError {
  const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
  const words: Record<string, string> = {
    ENOENT: "does not exist",
    ENOTDIR: "does not exist: a part of its path is a file",
    EISDIR: "is a directory",
    EACCES: "permission denied",
    EPERM: "permission denied",
  };
  const reason = Object.hasOwn(words, code) ? words[code] : code;
  return new LocalUsageError("FILE_NOT_FOUND", { detail: `${path}: ${reason}`, cause: error });
}

function aborted(signal: AbortSignal): OperationError {
  return new OperationError("ABORTED", { cause: signal.reason });
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw aborted(signal);
}

/** `work`, unless the signal comes first: a pipe that says nothing must not hold an abort up. */
async function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  throwIfAborted(signal);
  let onAbort: (() => void) | undefined;
  const abort = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(aborted(signal));
    signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([work, abort]);
  } finally {
    if (onAbort !== undefined) signal.removeEventListener("abort", onAbort);
  }
}
