/**
 * A receive arena for tests of transports: one segment a cursor, out of a fixed number of segments.
 * Frames can't be retained; a reserve moves the unconsumed bytes to the beginning of the segment.
 */

import type { ReceiveArena, ReceiveCursor } from "../../src/base/receive-arena.ts";

export class PlainArena implements ReceiveArena {
  readonly bytes: Uint8Array;
  readonly #segmentBytes: number;
  readonly #free: number[] = [];

  constructor(segmentBytes = 256 * 1024, segments = 16, shared = false) {
    const bytes = segmentBytes * segments;
    this.bytes = new Uint8Array(shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes));
    this.#segmentBytes = segmentBytes;
    for (let i = 0; i < segments; i++) this.#free.push(i * segmentBytes);
  }

  /** Segments that no cursor holds. */
  get freeSegments(): number {
    return this.#free.length;
  }

  /** Takes every free segment away; the returned call gives them back. */
  exhaust(): () => void {
    const taken = this.#free.splice(0);
    return () => this.#free.push(...taken);
  }

  open(): ReceiveCursor {
    return new PlainCursor(this.bytes, this.#segmentBytes, this.#free);
  }
}

class PlainCursor implements ReceiveCursor {
  readonly #bytes: Uint8Array;
  readonly #segmentBytes: number;
  readonly #free: number[];
  #segment: number | undefined;
  #read = 0;
  #written = 0;

  constructor(bytes: Uint8Array, segmentBytes: number, free: number[]) {
    this.#bytes = bytes;
    this.#segmentBytes = segmentBytes;
    this.#free = free;
  }

  get writeOffset(): number {
    return (this.#segment ?? 0) + this.#written;
  }
  get writableBytes(): number {
    return this.#segment === undefined ? 0 : this.#segmentBytes - this.#written;
  }
  get parseOffset(): number {
    return (this.#segment ?? 0) + this.#read;
  }
  get parsableBytes(): number {
    return this.#written - this.#read;
  }

  reserve(frameBytes: number): boolean {
    if (frameBytes > this.#segmentBytes) return false;
    this.#segment ??= this.#free.pop();
    const segment = this.#segment;
    if (segment === undefined) return false;
    if (this.#read + frameBytes > this.#segmentBytes) {
      this.#bytes.copyWithin(segment, segment + this.#read, segment + this.#written);
      this.#written -= this.#read;
      this.#read = 0;
    }
    return true;
  }

  commit(bytes: number): void {
    if (bytes > this.writableBytes) throw new Error("committed more than was writable");
    this.#written += bytes;
  }

  consume(bytes: number): void {
    if (bytes > this.parsableBytes) throw new Error("consumed more than was committed");
    this.#read += bytes;
    if (this.#read < this.#written) return;
    this.#read = 0;
    this.#written = 0;
    if (this.#segment !== undefined) this.#free.push(this.#segment);
    this.#segment = undefined;
  }

  close(): void {
    this.#written = 0;
    this.#read = 0;
    if (this.#segment !== undefined) this.#free.push(this.#segment);
    this.#segment = undefined;
  }
}
