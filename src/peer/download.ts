/**
 * The download of one engine, over all its overlays: how much DATA may be under way to it.
 *
 * Nothing that arrives is dropped or left in a socket: an overlay grants credit, and asks, only as
 * far as what is granted and not here yet fits the tokens there are. Tokens fill at the rate of the
 * limit and go as bytes arrive, so in the long run exactly that rate is granted. Each overlay has an
 * equal part: what was granted to one that is silent takes nothing from the others.
 */

import { DOWNLOAD_BURST_MS } from "../base/limits.ts";
import { TokenBucket } from "../base/token-bucket.ts";
import { type FragmentIndex, type MonoMs, SECOND_MS } from "../base/units.ts";
import type { FragmentWindow } from "../stream/window.ts";
import { checkRateLimit } from "./upload.ts";

/** A grant of fewer is not worth a message. */
const BURST_FRAGMENTS_MIN = 2;
/** What a new arrival weighs in the mean size of a fragment. */
const MEAN_WEIGHT = 1 / 16;

export class Download {
  readonly limitBytesPerSecond: number;
  #bucket: TokenBucket | undefined;
  /** Overlays that take DATA. */
  readonly #takers = new Set<Pace>();

  /** Undefined: no limit. Throws LocalUsageError USAGE. */
  constructor(limitBytesPerSecond?: number) {
    checkRateLimit("downloadLimitBytesPerSecond", limitBytesPerSecond);
    this.limitBytesPerSecond = limitBytesPerSecond ?? Number.POSITIVE_INFINITY;
    if (limitBytesPerSecond === undefined) return;
    const burst = (limitBytesPerSecond * DOWNLOAD_BURST_MS) / SECOND_MS;
    this.#bucket = new TokenBucket(limitBytesPerSecond, burst);
  }

  get isLimited(): boolean {
    return this.#bucket !== undefined;
  }

  join(pace: Pace, fragmentBytes: number): void {
    this.#takers.add(pace);
    const least = BURST_FRAGMENTS_MIN * fragmentBytes;
    if (this.#bucket === undefined || this.#bucket.burstBytes >= least) return;
    this.#bucket = new TokenBucket(this.limitBytesPerSecond, least);
  }

  leave(pace: Pace): void {
    this.#takers.delete(pace);
  }

  /** Bytes that one overlay may have under way; below 0 when more came than was to. */
  share(nowMs: MonoMs): number {
    if (this.#bucket === undefined) return Number.POSITIVE_INFINITY;
    return this.#bucket.tokens(nowMs) / Math.max(1, this.#takers.size);
  }

  /** Whether not even a fragment may come, or half of what one overlay can ever have under way. */
  isUsedUp(fragmentBytes: number, nowMs: MonoMs): boolean {
    if (this.#bucket === undefined) return false;
    const most = this.#bucket.burstBytes / Math.max(1, this.#takers.size);
    return this.share(nowMs) < Math.min(fragmentBytes, most / 2);
  }

  arrived(bytes: number, nowMs: MonoMs): void {
    this.#bucket?.take(bytes, nowMs);
  }
}

/** How far one overlay grants credit and asks for fragments. */
export class Pace {
  readonly #download: Download;
  readonly #window: FragmentWindow;
  #limit: FragmentIndex = 0;
  #joined = false;
  /** Mean bytes of a fragment, as they come. */
  #meanBytes: number;

  constructor(download: Download, window: FragmentWindow) {
    this.#download = download;
    this.#window = window;
    this.#meanBytes = window.fragmentBytes;
  }

  /** The first index that may not come yet; never falls, and is never above the window's limit. */
  get limit(): FragmentIndex {
    return this.#download.isLimited ? this.#limit : this.#window.limit;
  }

  arrived(bytes: number, nowMs: MonoMs): void {
    if (!this.#download.isLimited) return;
    this.#meanBytes += (bytes - this.#meanBytes) * MEAN_WEIGHT;
    this.#download.arrived(bytes, nowMs);
  }

  /** Raises the limit as far as there are tokens. Called once an input, and each tick. */
  raise(nowMs: MonoMs): void {
    if (!this.#download.isLimited) return;
    if (!this.#joined) {
      this.#joined = true;
      this.#download.join(this, this.#window.fragmentBytes);
    }
    const window = this.#window;
    const from = Math.max(this.#limit, window.start);
    const held = window.heldCount;
    const underWay = Math.max(0, from - window.start - held);
    const share = this.#download.share(nowMs);
    // One at a time may come however small the tokens are, once the last is paid for.
    const fit = Math.max(Math.floor(share / this.#meanBytes), share > 0 ? 1 : 0);
    this.#limit = Math.min(window.limit, from + Math.max(0, fit - underWay));
  }

  close(): void {
    this.#download.leave(this);
  }
}
