/**
 * A token bucket over bytes: fills at a rate up to a burst, and may be overdrawn by the last taking,
 * so that what is larger than the burst passes and is paid for afterwards. Reads no clock.
 */

import { type MonoMs, SECOND_MS } from "./units.ts";

export class TokenBucket {
  readonly bytesPerSecond: number;
  readonly burstBytes: number;
  #tokens: number;
  #atMs: MonoMs = Number.NEGATIVE_INFINITY;

  /** Full at first. */
  constructor(bytesPerSecond: number, burstBytes: number) {
    this.bytesPerSecond = bytesPerSecond;
    this.burstBytes = burstBytes;
    this.#tokens = burstBytes;
  }

  /** Bytes that may be taken now; below 0 when overdrawn. */
  tokens(nowMs: MonoMs): number {
    if (nowMs > this.#atMs) {
      const gained = ((nowMs - this.#atMs) * this.bytesPerSecond) / SECOND_MS;
      this.#tokens = Math.min(this.burstBytes, this.#tokens + gained);
      this.#atMs = nowMs;
    }
    return this.#tokens;
  }

  take(bytes: number, nowMs: MonoMs): void {
    this.tokens(nowMs);
    this.#tokens -= bytes;
  }

  /** When there will be `bytes` of them; `nowMs` when there are. */
  whenMs(bytes: number, nowMs: MonoMs): MonoMs {
    const lacking = bytes - this.tokens(nowMs);
    return lacking <= 0 ? nowMs : nowMs + (lacking * SECOND_MS) / this.bytesPerSecond;
  }
}
