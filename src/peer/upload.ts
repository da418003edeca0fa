/**
 * The upload of one engine, over all its overlays and links: how fast DATA may leave, whose turn it
 * is when there is less than is wanted, and what is to spare.
 *
 * Only DATA counts; control frames are never held back. Who has something to send and may not waits
 * in a queue and gets one run at a time, in turn, whatever overlay or link it belongs to.
 */

import { LocalUsageError } from "../base/errors.ts";
import {
  RATE_LIMIT_MAX,
  RATE_LIMIT_MIN,
  UPLOAD_BURST_BYTES_MIN,
  UPLOAD_BURST_MS,
} from "../base/limits.ts";
import { TokenBucket } from "../base/token-bucket.ts";
import { type MonoMs, SECOND_MS } from "../base/units.ts";

/** The rate told to others is an average that forgets over this. */
const RATE_MEMORY_MS = 1_000;
/** Who waits gets a turn when this part of a burst may be sent: not a wake-up for each fragment. */
const TURN_PART = 1 / 8;

/** Throws LocalUsageError USAGE, naming the option. */
export function checkRateLimit(name: string, bytesPerSecond: number | undefined): void {
  if (bytesPerSecond === undefined) return;
  if (bytesPerSecond >= RATE_LIMIT_MIN && bytesPerSecond <= RATE_LIMIT_MAX) return;
  throw new LocalUsageError("USAGE", {
    detail: `${name} is a number from ${RATE_LIMIT_MIN} to ${RATE_LIMIT_MAX}, not ${String(bytesPerSecond)}`,
  });
}

export class Upload<Sender extends object = object> {
  readonly limitBytesPerSecond: number;
  readonly #bucket: TokenBucket | undefined;
  readonly #leastBytes: number;
  readonly #waiting = new Set<Sender>();
  #turn: Sender | undefined;
  #rate = 0;
  #rateMs: MonoMs = 0;

  /** Undefined: no limit. Throws LocalUsageError USAGE. */
  constructor(limitBytesPerSecond?: number) {
    checkRateLimit("uploadLimitBytesPerSecond", limitBytesPerSecond);
    this.limitBytesPerSecond = limitBytesPerSecond ?? Number.POSITIVE_INFINITY;
    this.#leastBytes = 0;
    if (limitBytesPerSecond === undefined) return;
    const burst = (limitBytesPerSecond * UPLOAD_BURST_MS) / SECOND_MS;
    this.#bucket = new TokenBucket(limitBytesPerSecond, Math.max(burst, UPLOAD_BURST_BYTES_MIN));
    this.#leastBytes = this.#bucket.burstBytes * TURN_PART;
  }

  /** Whether something waits for the limit: the way out is not idle, however idle links are. */
  get isSaturated(): boolean {
    return this.#waiting.size > 0;
  }

  /** A run carries at most so much now, or one fragment that is larger. */
  runBytes(nowMs: MonoMs): number {
    return this.#bucket?.tokens(nowMs) ?? Number.POSITIVE_INFINITY;
  }

  /** When next() is to be asked; Infinity when nobody waits. Asked right after an input. */
  deadlineMs(nowMs: MonoMs): MonoMs {
    if (this.#waiting.size === 0 || this.#bucket === undefined) return Number.POSITIVE_INFINITY;
    // A thought later than exact: rounding must not leave a deadline that finds too little.
    return this.#bucket.whenMs(this.#leastBytes + 1, nowMs);
  }

  /** Whether `sender` may send one run now; else it waits for its turn. Call only to send one. */
  admits(sender: Sender, nowMs: MonoMs): boolean {
    if (this.#bucket === undefined) return true;
    const isNext = this.#waiting.size === 0 || this.#turn === sender;
    if (isNext && this.#bucket.tokens(nowMs) > 0) {
      this.#turn = undefined;
      return true;
    }
    this.#turn = undefined;
    this.#waiting.add(sender);
    return false;
  }

  /** Takes who has waited longest out of the queue, when something may be sent: it is its turn. */
  next(nowMs: MonoMs): Sender | undefined {
    if (this.#bucket === undefined || this.#bucket.tokens(nowMs) < this.#leastBytes)
      return undefined;
    for (const sender of this.#waiting) {
      this.#waiting.delete(sender);
      this.#turn = sender;
      return sender;
    }
    this.#turn = undefined;
    return undefined;
  }

  /** It sends no more. */
  forget(sender: Sender): void {
    this.#waiting.delete(sender);
    if (this.#turn === sender) this.#turn = undefined;
  }

  sent(bytes: number, nowMs: MonoMs): void {
    this.#bucket?.take(bytes, nowMs);
    this.#rate = this.rateBytesPerSecond(nowMs) + (bytes * SECOND_MS) / RATE_MEMORY_MS;
    this.#rateMs = nowMs;
  }

  /** What was sent of late, a second. */
  rateBytesPerSecond(nowMs: MonoMs): number {
    return this.#rate * Math.exp((this.#rateMs - nowMs) / RATE_MEMORY_MS);
  }

  /** What could be sent on top of that: 0 while something waits, Infinity without a limit. */
  spareBytesPerSecond(nowMs: MonoMs): number {
    if (this.#bucket === undefined) return Number.POSITIVE_INFINITY;
    if (this.#waiting.size > 0) return 0;
    return Math.max(0, this.limitBytesPerSecond - this.rateBytesPerSecond(nowMs));
  }
}
