/**
 * Trace of a run: every event folds numbers and sampled bytes into two 32-bit states. Equal hashes
 * of two runs mean, for all practical purposes, equal runs; nothing is stored.
 */

export class Trace {
  #a = 0x9e3779b9;
  #b = 0x85ebca6b;
  events = 0;
  /** Called with each event's words when set: to find where two runs part. */
  onEvent: ((kind: number, x: number, y: number) => void) | undefined;

  /** One event: what kind, and two numbers that identify it (times are passed in microseconds). */
  event(kind: number, x: number, y: number): void {
    this.events++;
    this.#fold(kind);
    this.#fold(x);
    this.#fold(y);
    if (this.onEvent !== undefined) this.onEvent(kind, x, y);
  }

  /** Folds length and up to 24 words of `bytes`, spread from its beginning to its end. */
  bytes(bytes: Uint8Array): void {
    const length = bytes.length;
    this.#fold(length);
    const step = length <= 96 ? 4 : (length / 24) & ~3;
    for (let at = 0; at + 4 <= length; at += step) {
      this.#fold(
        (bytes[at] as number) |
          ((bytes[at + 1] as number) << 8) |
          ((bytes[at + 2] as number) << 16) |
          ((bytes[at + 3] as number) << 24),
      );
    }
  }

  /** 16 hex digits over everything so far. */
  get hash(): string {
    const hex = (word: number): string => (word >>> 0).toString(16).padStart(8, "0");
    return hex(this.#a) + hex(this.#b);
  }

  #fold(value: number): void {
    let word = value | 0;
    // Beyond 32 bits: the high part counts as well.
    if (value > 0x7fffffff || value < -0x80000000) word ^= (value / 0x1_0000_0000) | 0;
    let a = this.#a ^ word;
    a = Math.imul(a ^ (a >>> 16), 0x7feb352d);
    a = Math.imul(a ^ (a >>> 15), 0x846ca68b);
    this.#a = a ^ (a >>> 16);
    this.#b = Math.imul((this.#b << 5) ^ (this.#b >>> 27) ^ this.#a, 0x01000193);
  }
}

/** What an event of the trace is. */
export const TRACE = {
  LINK_UP: 1,
  LINK_DOWN: 2,
  FRAMES: 3,
  SENT: 4,
  COMMAND: 5,
  TIMEOUT: 6,
  JOB_DONE: 7,
  STORE_DONE: 8,
  TRANSMIT: 9,
  OPEN: 10,
  CLOSE: 11,
  EVENT: 12,
  JOB: 13,
  STORE: 14,
  FAULT: 15,
  DELIVERED: 16,
} as const;
