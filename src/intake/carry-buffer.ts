/**
 * Bytes of a datum whose end has not come yet. Grows by doubling, keeps what it grew to, and never
 * holds more than one datum may.
 */

import { LocalUsageError } from "../base/errors.ts";
import { DATUM_BYTES_MAX } from "../base/limits.ts";
import { KIB } from "../base/units.ts";

const FIRST_BYTES = 4 * KIB;

export class CarryBuffer {
  #bytes = new Uint8Array(FIRST_BYTES);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /**
   * Appends a copy of `bytes`.
   * Throws DATUM_TOO_LARGE when the datum passes 16 MiB; `where` names it.
   */
  append(bytes: Uint8Array, where: () => string): void {
    const length = this.#length + bytes.length;
    if (length > DATUM_BYTES_MAX) throw new LocalUsageError("DATUM_TOO_LARGE", { detail: where() });
    if (length > this.#bytes.length) {
      const grown = new Uint8Array(
        Math.min(DATUM_BYTES_MAX, Math.max(length, 2 * this.#bytes.length)),
      );
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length = length;
  }

  /** What was appended since the last take. The view holds until the next append. */
  take(): Uint8Array {
    const taken = this.#bytes.subarray(0, this.#length);
    this.#length = 0;
    return taken;
  }
}
