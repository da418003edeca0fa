/**
 * What every datum must contain: a function of seed, data source and sequence number, so that the
 * bytes a consumer gets are judged without anything being stored. A payload is a stretch of one
 * random block that starts where the datum's own hash says, its first bytes name the datum.
 */

import { seededRng } from "../../src/base/rng.ts";

const BLOCK_BYTES = 64 * 1024;
const NAME_BYTES = 8;

export interface PayloadSizes {
  /** Sizes are log-uniform between these. */
  readonly bytesMin: number;
  readonly bytesMax: number;
  /** Share of data of 0 bytes. */
  readonly emptyRate: number;
  /** Share of data of bigBytes: they are sliced. */
  readonly bigRate: number;
  readonly bigBytes: number;
}

export class Payloads {
  readonly #seed: number;
  readonly #sizes: PayloadSizes;
  /** Twice the block, so that a stretch of one block never wraps. */
  readonly #block = Buffer.alloc(2 * BLOCK_BYTES);

  constructor(seed: number, sizes: PayloadSizes) {
    this.#seed = seed;
    this.#sizes = sizes;
    const rng = seededRng(seed ^ 0x70617931);
    for (let at = 0; at < BLOCK_BYTES; at += 4) {
      this.#block.writeUInt32LE(Math.floor(rng.next() * 0x1_0000_0000), at);
    }
    this.#block.copyWithin(BLOCK_BYTES, 0, BLOCK_BYTES);
  }

  bytesOf(sourceId: string, sequence: number): number {
    const { bytesMin, bytesMax, emptyRate, bigRate, bigBytes } = this.#sizes;
    const kind = this.#hash(sourceId, sequence, 1) / 0x1_0000_0000;
    if (kind < emptyRate) return 0;
    if (kind < emptyRate + bigRate) return bigBytes;
    const where = this.#hash(sourceId, sequence, 2) / 0x1_0000_0000;
    return Math.floor(bytesMin * ((bytesMax + 1) / bytesMin) ** where);
  }

  payload(sourceId: string, sequence: number): Uint8Array {
    const payload = Buffer.alloc(this.bytesOf(sourceId, sequence));
    let at = 0;
    while (at < payload.length) {
      const bytes = Math.min(BLOCK_BYTES, payload.length - at);
      this.#stretch(sourceId, sequence, at, bytes).copy(payload, at);
      at += bytes;
    }
    this.#name(sourceId, sequence).copy(payload, 0);
    return new Uint8Array(payload.buffer, payload.byteOffset, payload.length);
  }

  /** What is wrong with `bytes` as the payload of that datum; undefined when nothing is. */
  fault(sourceId: string, sequence: number, bytes: Uint8Array): string | undefined {
    const expected = this.bytesOf(sourceId, sequence);
    if (bytes.length !== expected) return `${bytes.length} bytes instead of ${expected}`;
    const name = this.#name(sourceId, sequence).subarray(0, expected);
    if (Buffer.compare(bytes.subarray(0, name.length), name) !== 0) return "names another datum";
    let at = 0;
    while (at < bytes.length) {
      const end = Math.min(bytes.length, at + BLOCK_BYTES);
      const from = Math.max(at, name.length);
      const part = this.#stretch(sourceId, sequence, at, end - at);
      if (from < end && Buffer.compare(bytes.subarray(from, end), part.subarray(from - at)) !== 0) {
        return `differs between bytes ${from} and ${end}`;
      }
      at = end;
    }
    return undefined;
  }

  #name(sourceId: string, sequence: number): Buffer {
    const name = Buffer.alloc(NAME_BYTES);
    name.writeUInt32LE(this.#hash(sourceId, 0, 3), 0);
    name.writeUInt32LE(sequence % 0x1_0000_0000, 4);
    return name;
  }

  /** `bytes` (at most a block) that belong at `at`, a multiple of the block's size. */
  #stretch(sourceId: string, sequence: number, at: number, bytes: number): Buffer {
    const start = this.#hash(sourceId, sequence, 4 + at / BLOCK_BYTES) % BLOCK_BYTES;
    return this.#block.subarray(start, start + bytes);
  }

  #hash(sourceId: string, sequence: number, salt: number): number {
    let hash = (this.#seed ^ Math.imul(salt, 0x9e3779b9)) >>> 0;
    for (let i = 0; i < sourceId.length; i++) {
      hash = Math.imul(hash ^ sourceId.charCodeAt(i), 0x01000193);
    }
    hash = Math.imul(hash ^ sequence, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15) ^ Math.floor(sequence / 0x1_0000_0000), 0x2c1b3c6d);
    return (hash ^ (hash >>> 16)) >>> 0;
  }
}
