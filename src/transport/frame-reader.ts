/**
 * Finds whole frames in the bytes of one stream link. Reads land where the link's cursor says, in
 * the engine's memory; the reader looks at frame headers only and hands over, in one call, all
 * frames that one read completed. A frame is never copied here, except when the arena moves the
 * beginning of one to a place where all of it fits.
 *
 *     space()               where the next read may write; undefined: pause until memory is free
 *     received(n, onFrames) n bytes were written there
 *
 * A frame that announces too much is refused at its header: nothing is reserved for it. The reader
 * never looks into bodies, never waits, and knows nothing of sockets; after an error it stays
 * failed, because the start of the next frame is unknown.
 */

import type { ErrorCode } from "../base/errors.ts";
import {
  FRAME_HEADER_BYTES,
  FRAME_MAGIC,
  FRAME_MAGIC_AT,
  FRAME_TYPE,
  FRAME_TYPES,
  FRAME_VERSION,
  FRAME_VERSION_AT,
  FRAME_VERSION_MIN,
} from "../base/layout.ts";
import { CONTROL_FRAME_BYTES_MAX, FRAME_BYTES_MAX } from "../base/limits.ts";
import type { ReceiveCursor } from "../base/receive-arena.ts";

export interface FrameReaderOptions {
  /** Any frame, header included. Default and at most FRAME_BYTES_MAX. */
  readonly maxFrameBytes?: number;
  /** Frames other than DATA, BUFFERMAP and DATUM, header included. */
  readonly maxControlFrameBytes?: number;
}

/** Where a read may write: `length` bytes (at least 1) from `offset` into the arena's memory. */
export interface Space {
  readonly offset: number;
  readonly length: number;
}

/**
 * Takes all whole frames of one read: `count` pairs (offset into memory, bytes). `memory` and
 * `ranges` are the reader's; what is to be kept is copied or retained before the call returns.
 */
export type OnFrames = (memory: Uint8Array, ranges: Uint32Array, count: number) => void;

export class FrameReader {
  readonly #memory: Uint8Array;
  readonly #cursor: ReceiveCursor;
  readonly #maxFrameBytes: number;
  readonly #maxControlFrameBytes: number;
  #ranges = new Uint32Array(64);
  #failure: ErrorCode | undefined;
  #closed = false;

  /** `memory` is the arena's `bytes`. The reader owns `cursor` and closes it. */
  constructor(memory: Uint8Array, cursor: ReceiveCursor, options: FrameReaderOptions = {}) {
    this.#memory = memory;
    this.#cursor = cursor;
    this.#maxFrameBytes = Math.min(options.maxFrameBytes ?? FRAME_BYTES_MAX, FRAME_BYTES_MAX);
    this.#maxControlFrameBytes = options.maxControlFrameBytes ?? CONTROL_FRAME_BYTES_MAX;
  }

  /**
   * Room for the next read: at least what the frame under way still lacks, or what is left behind
   * whole frames. Undefined when the memory is exhausted (try again later), or after an error or
   * close.
   */
  space(): Space | undefined {
    if (this.#closed || this.#failure !== undefined) return undefined;
    const cursor = this.#cursor;
    const needBytes = this.#announcedBytes();
    if (cursor.parsableBytes + cursor.writableBytes < needBytes && !cursor.reserve(needBytes)) {
      return undefined;
    }
    return { offset: cursor.writeOffset, length: cursor.writableBytes };
  }

  /**
   * Commits `bytes` read into the last space() and hands over the frames they completed. Returns
   * FRAME_TOO_LARGE, FRAME_MALFORMED or VERSION_UNSUPPORTED for what follows the last good frame.
   */
  received(bytes: number, onFrames: OnFrames): ErrorCode | undefined {
    if (this.#closed) return undefined;
    if (this.#failure !== undefined) return this.#failure;
    const cursor = this.#cursor;
    cursor.commit(bytes);
    const start = cursor.parseOffset;
    const end = start + cursor.parsableBytes;
    let at = start;
    let count = 0;
    while (end - at >= 4) {
      const frameBytes = lengthAt(this.#memory, at);
      this.#failure = this.#check(this.#memory, at, end - at, frameBytes);
      if (this.#failure !== undefined || end - at < frameBytes) break;
      if (2 * count === this.#ranges.length) this.#growRanges();
      this.#ranges[2 * count] = at;
      this.#ranges[2 * count + 1] = frameBytes;
      count++;
      at += frameBytes;
    }
    if (count > 0) {
      onFrames(this.#memory, this.#ranges, count);
      // The receiver may have closed the link, and with it this reader.
      if (!this.#closed) cursor.consume(at - start);
    }
    return this.#failure;
  }

  /**
   * Looks at the first bytes of a link before they are given room in the arena. "wait": they are no
   * whole frame, and the frame fits in `capacity`; an error: they are refused as received() would.
   */
  first(bytes: Uint8Array, capacity: number): "wait" | "ready" | ErrorCode {
    if (bytes.length < 4) return "wait";
    const frameBytes = lengthAt(bytes, 0);
    const failure = this.#check(bytes, 0, bytes.length, frameBytes);
    if (failure !== undefined) return failure;
    const whole = bytes.length >= frameBytes;
    return whole || (frameBytes > capacity && bytes.length >= FRAME_HEADER_BYTES)
      ? "ready"
      : "wait";
  }

  /** Bytes of a frame that has begun and is not whole. */
  get pendingBytes(): number {
    return this.#closed ? 0 : this.#cursor.parsableBytes;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cursor.close();
  }

  /** Bytes that the frame at the parse position needs, as far as known. */
  #announcedBytes(): number {
    const cursor = this.#cursor;
    if (cursor.parsableBytes < 4) return FRAME_HEADER_BYTES;
    return lengthAt(this.#memory, cursor.parseOffset);
  }

  /** Judges the header at `at`, of which `presentBytes` (at least 4) are there. */
  #check(
    memory: Uint8Array,
    at: number,
    presentBytes: number,
    frameBytes: number,
  ): ErrorCode | undefined {
    if (frameBytes < FRAME_HEADER_BYTES) return "FRAME_MALFORMED";
    if (presentBytes > FRAME_MAGIC_AT && memory[at + FRAME_MAGIC_AT] !== FRAME_MAGIC) {
      return "FRAME_MALFORMED";
    }
    if (presentBytes > FRAME_VERSION_AT) {
      const version = memory[at + FRAME_VERSION_AT] as number;
      if (version < FRAME_VERSION_MIN || version > FRAME_VERSION) return "VERSION_UNSUPPORTED";
    }
    if (frameBytes > this.#maxFrameBytes) return "FRAME_TOO_LARGE";
    if (presentBytes > FRAME_TYPE && frameBytes > this.#maxControlFrameBytes) {
      const type = memory[at + FRAME_TYPE];
      if (
        type !== FRAME_TYPES.DATA &&
        type !== FRAME_TYPES.BUFFERMAP &&
        type !== FRAME_TYPES.DATUM
      ) {
        return "FRAME_TOO_LARGE";
      }
    }
    return undefined;
  }

  #growRanges(): void {
    const wider = new Uint32Array(2 * this.#ranges.length);
    wider.set(this.#ranges);
    this.#ranges = wider;
  }
}

function lengthAt(memory: Uint8Array, at: number): number {
  return (
    ((memory[at] as number) |
      ((memory[at + 1] as number) << 8) |
      ((memory[at + 2] as number) << 16) |
      ((memory[at + 3] as number) << 24)) >>>
    0
  );
}
