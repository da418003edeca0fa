/**
 * Digests of a data source's data: SHA-256 over length and payload of each datum, in order. The
 * lengths are in it because borders of data are part of what must agree.
 */

import { createHash, type Hash } from "node:crypto";

const LENGTH_BYTES = 4;

export class DataDigest {
  readonly #hash: Hash = createHash("sha256");
  readonly #length = new Uint8Array(LENGTH_BYTES);

  add(payload: Uint8Array): void {
    new DataView(this.#length.buffer).setUint32(0, payload.length, true);
    this.#hash.update(this.#length).update(payload);
  }

  /** Lower-case hex of what was added so far. */
  get hex(): string {
    return this.#hash.copy().digest("hex");
  }
}

/** What a consumer says of one data source: data `first` to `last` and their digest. */
export interface SourceDigest {
  readonly sourceId: string;
  readonly first: number;
  readonly last: number;
  readonly digest: string;
}

/** What a data source wrote, kept to answer for any suffix. */
export class WrittenData {
  readonly #payloads: Uint8Array[] = [];

  get count(): number {
    return this.#payloads.length;
  }

  /** The next datum, with sequence number count + 1. Kept, not copied. */
  add(payload: Uint8Array): void {
    this.#payloads.push(payload);
  }

  /** Digest of data `first` (from 1) to the last. */
  suffixDigest(first: number): string {
    const digest = new DataDigest();
    for (let i = first - 1; i < this.#payloads.length; i++) {
      digest.add(this.#payloads[i] as Uint8Array);
    }
    return digest.hex;
  }
}
