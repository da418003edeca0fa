/**
 * Memory in which big data are put together, of all data sources of a session. A datum takes what
 * has come of it, not what was announced: who sends little keeps little from others.
 *
 * What all may fill leaves room for one datum of the largest size. Who finds no other room first
 * has that until its datum went on: so one is always getting whole, however many have begun.
 */

import { assert } from "../../base/assert.ts";
import { DATUM_BYTES_MAX, FEED_ASSEMBLY_BYTES_MAX } from "../../base/limits.ts";

const SHARED_BYTES = FEED_ASSEMBLY_BYTES_MAX - DATUM_BYTES_MAX;

export class AssemblyBudget {
  #usedBytes = 0;
  /** Who may go beyond what is shared; has one datum under way, as anybody. */
  #first: object | undefined;
  readonly #waiting = new Set<object>();

  /** Whether somebody waits for memory. */
  get isShort(): boolean {
    return this.#waiting.size > 0;
  }

  isWaiting(owner: object): boolean {
    return this.#waiting.has(owner);
  }

  /** False: there is none, and `owner` waits for it from here on. */
  take(owner: object, bytes: number): boolean {
    if (this.#usedBytes + bytes > SHARED_BYTES) {
      this.#first ??= owner;
      if (this.#first !== owner) {
        this.#waiting.add(owner);
        return false;
      }
    }
    this.#waiting.delete(owner);
    this.#usedBytes += bytes;
    assert(this.#usedBytes <= FEED_ASSEMBLY_BYTES_MAX, "assembly memory is bounded");
    return true;
  }

  /** All that `owner` has taken. */
  giveBack(owner: object, bytes: number): void {
    this.#usedBytes -= bytes;
    assert(this.#usedBytes >= 0, "assembly memory is given back once");
    if (this.#first === owner) this.#first = undefined;
  }

  waitNoMore(owner: object): void {
    this.#waiting.delete(owner);
  }
}
