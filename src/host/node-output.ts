/**
 * Where received data go: a file or standard output. A write resolves when the bytes were handed to
 * the operating system, and a slow reader never stops the process: files and terminals are written
 * by threads, pipes and sockets by the event loop.
 */

import { close, constants, fstatSync, fsync, ftruncate, openSync, write } from "node:fs";
import type { Writable } from "node:stream";
import { promisify } from "node:util";
import { OperationError } from "../base/errors.ts";

const AGAIN_MS = 5;

export interface OutputSink {
  /** Errors: OUTPUT_FAILED; ABORTED when the reader closed its end (not a failure of ours). */
  write(block: Uint8Array): Promise<void>;
  /** Resolves when all of it is on disk, where it goes to one. Errors: OUTPUT_FAILED. */
  close(): Promise<void>;
}

/**
 * A file: made if there is none; what it holds already is kept until the first write, or close.
 * Errors: OUTPUT_FAILED.
 */
export function fileSink(path: string): OutputSink {
  try {
    const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT);
    return new DescriptorSink(fd, path, true);
  } catch (error) {
    throw outputError(error, path);
  }
}

/** Standard output, whatever it is. */
export function standardOutput(stream: Writable & { readonly fd?: number }): OutputSink {
  const name = "standard output";
  const { fd } = stream;
  if (fd === undefined) return new StreamSink(stream, name);
  const stat = fstatSync(fd);
  const flowing = stat.isFIFO() || stat.isSocket();
  return flowing ? new StreamSink(stream, name) : new DescriptorSink(fd, name, false);
}

class DescriptorSink implements OutputSink {
  readonly #fd: number;
  readonly #name: string;
  readonly #own: boolean;
  #closed = false;
  #emptied: boolean;

  constructor(fd: number, name: string, own: boolean) {
    this.#emptied = !own;
    this.#fd = fd;
    this.#name = name;
    this.#own = own;
  }

  async write(block: Uint8Array): Promise<void> {
    let at = 0;
    while (at < block.length) {
      try {
        await this.#empty();
        at += await writeSome(this.#fd, block, at);
      } catch (error) {
        if (codeOf(error) !== "EAGAIN") throw outputError(error, this.#name);
        // A descriptor that somebody set non-blocking, e.g. a terminal shared with another program.
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    }
  }

  async close(): Promise<void> {
    if (!this.#own || this.#closed) return;
    this.#closed = true;
    try {
      await this.#empty();
      // Some file systems tell only now that the disk is full.
      if (fstatSync(this.#fd).isFile()) await promisify(fsync)(this.#fd);
      await promisify(close)(this.#fd);
    } catch (error) {
      throw outputError(error, this.#name);
    }
  }

  /** What was there before goes when there is something new, or nothing will be. */
  async #empty(): Promise<void> {
    if (this.#emptied) return;
    this.#emptied = true;
    if (fstatSync(this.#fd).isFile()) await promisify(ftruncate)(this.#fd, 0);
  }
}

class StreamSink implements OutputSink {
  readonly #stream: Writable;
  readonly #name: string;
  #failure: Error | undefined;

  constructor(stream: Writable, name: string) {
    this.#stream = stream;
    this.#name = name;
    stream.on("error", (error) => {
      this.#failure ??= error;
    });
  }

  write(block: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(outputError(this.#failure, this.#name));
    return new Promise((resolve, reject) => {
      this.#stream.write(block, (error) => {
        if (error === null || error === undefined) resolve();
        else reject(outputError(error, this.#name));
      });
    });
  }

  async close(): Promise<void> {}
}

function writeSome(fd: number, block: Uint8Array, at: number): Promise<number> {
  return new Promise((resolve, reject) => {
    write(fd, block, at, block.length - at, null, (error, written) => {
      if (error === null) resolve(written);
      else reject(error);
    });
  });
}

function outputError(error: unknown, name: string): OperationError {
  const code = codeOf(error);
  if (code === "EPIPE") return new OperationError("ABORTED", { detail: "the reader is gone" });
  const words: Record<string, string> = {
    ENOSPC: "no space is left",
    EDQUOT: "the quota is used up",
    EIO: "the disk failed",
    EACCES: "permission denied",
    EPERM: "permission denied",
    EISDIR: "it is a directory",
    ENOENT: "its directory does not exist",
    EROFS: "the file system is read-only",
    EFBIG: "the file is too large",
  };
  const reason = words[code] ?? code;
  return new OperationError("OUTPUT_FAILED", { detail: `${name}: ${reason}`, cause: error });
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}
