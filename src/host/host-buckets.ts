/**
 * A token bucket for each remote host, for those who come without a link of their own (HTTP).
 *
 * Holds no more hosts than it was told: a bucket that is full again is forgotten, and where all are
 * in use the one longest unused goes. An IPv6 host is its /64, which is what one subscriber has.
 * Never reads a clock.
 */

export interface HostBucketLimits {
  readonly perSecond: number;
  readonly burst: number;
  readonly hosts: number;
}

interface Bucket {
  tokens: number;
  atMs: number;
}

export class HostBuckets {
  readonly #limits: HostBucketLimits;
  /** The longest unused first. */
  readonly #buckets = new Map<string, Bucket>();

  constructor(limits: HostBucketLimits) {
    this.#limits = limits;
  }

  /** Hosts held now. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Takes one from the host's bucket: 0, or in how many milliseconds there is one again. */
  take(host: string, nowMs: number): number {
    const { perSecond, burst, hosts } = this.#limits;
    const name = subscriberOf(host);
    const bucket = this.#buckets.get(name) ?? { tokens: burst, atMs: nowMs };
    this.#buckets.delete(name);
    this.#forget(nowMs);
    const [longestUnused] = this.#buckets.keys();
    if (longestUnused !== undefined && this.#buckets.size >= hosts) {
      this.#buckets.delete(longestUnused);
    }
    this.#buckets.set(name, bucket);
    bucket.tokens = Math.min(burst, bucket.tokens + ((nowMs - bucket.atMs) / 1_000) * perSecond);
    bucket.atMs = nowMs;
    if (bucket.tokens < 1) return ((1 - bucket.tokens) / perSecond) * 1_000;
    bucket.tokens--;
    return 0;
  }

  /** Drops what is full again, from the longest unused on. */
  #forget(nowMs: number): void {
    const fullMs = (this.#limits.burst / this.#limits.perSecond) * 1_000;
    for (const [name, { atMs }] of this.#buckets) {
      if (nowMs - atMs < fullMs) return;
      this.#buckets.delete(name);
    }
  }
}

function subscriberOf(host: string): string {
  if (!host.includes(":")) return host;
  const [head = "", tail] = host.split("::");
  const groups = head === "" ? [] : head.split(":");
  if (tail !== undefined) {
    const last = tail === "" ? 0 : tail.split(":").length;
    while (groups.length + last < 8) groups.push("0");
    if (tail !== "") groups.push(...tail.split(":"));
  }
  return groups.slice(0, 4).join(":");
}
