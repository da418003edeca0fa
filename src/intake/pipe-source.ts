/**
 * A named pipe as a stream. Opened and read without blocking: a thread that waits in open() or read()
 * for somebody to write can't be stopped, and keeps the process from ending.
 */

import { closeSync, constants, openSync, readSync, statSync } from "node:fs";
import { Socket } from "node:net";
import type { Readable } from "node:stream";
import { OperationError } from "../base/errors.ts";
import { fileError } from "./file-source.ts";

const FIRST_BYTES = 64 * 1024;
/** How often it is looked whether somebody writes. */
const LOOK_MS = 50;

/** Whether `path` is a pipe; false also when it can not be told. */
export function isPipe(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFIFO() === true;
}

/** Resolves when somebody writes to the pipe at `path`. Errors: FILE_NOT_FOUND, ABORTED. */
export async function openPipe(path: string, signal: AbortSignal | undefined): Promise<Readable> {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw fileError(error, path);
  }
  try {
    for (;;) {
      if (signal?.aborted === true) throw new OperationError("ABORTED", { cause: signal.reason });
      const first = firstOf(fd, path);
      if (first !== undefined) {
        const stream = new Socket({ fd, readable: true, writable: false });
        if (first.length > 0) stream.unshift(first);
        return stream;
      }
      await soon(signal);
    }
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** What was written already, perhaps nothing; undefined: nobody has opened it to write. */
function firstOf(fd: number, path: string): Uint8Array | undefined {
  const bytes = new Uint8Array(FIRST_BYTES);
  try {
    const count = readSync(fd, bytes);
    return count === 0 ? undefined : bytes.subarray(0, count);
  } catch (error) {
    const isEmpty = error instanceof Error && "code" in error && error.code === "EAGAIN";
    if (isEmpty) return new Uint8Array(0);
    throw fileError(error, path);
  }
}

function soon(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, LOOK_MS);
    signal?.addEventListener("abort", done, { once: true });
  });
}
