/**
 * Two kinds of chance, both handed in. `Rng` is seeded and replayable: tie-breaks, jitter, sampling.
 * `Entropy` comes from the operating system (in the simulator: from the seed): ids, nonces, keys.
 */

export interface Rng {
  /** Uniform in [0, 1). */
  next(): number;
  /** Uniform integer in [0, limit). `limit` from 1 to 2^32. */
  below(limit: number): number;
}

export interface Entropy {
  /** `count` fresh unpredictable bytes; the caller owns them. */
  bytes(count: number): Uint8Array;
}

/** xoshiro128** (Blackman and Vigna), seeded by splitmix32. Same seed, same sequence, everywhere. */
export function seededRng(seed: number): Rng {
  let mix = seed >>> 0;
  const splitmix = (): number => {
    mix = (mix + 0x9e3779b9) >>> 0;
    let z = mix;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  let a = splitmix();
  let b = splitmix();
  let c = splitmix();
  let d = splitmix();
  const rotl = (x: number, k: number): number => ((x << k) | (x >>> (32 - k))) >>> 0;
  const u32 = (): number => {
    const result = Math.imul(rotl(Math.imul(b, 5) >>> 0, 7), 9) >>> 0;
    const t = (b << 9) >>> 0;
    c = (c ^ a) >>> 0;
    d = (d ^ b) >>> 0;
    b = (b ^ c) >>> 0;
    a = (a ^ d) >>> 0;
    c = (c ^ t) >>> 0;
    d = rotl(d, 11);
    return result;
  };
  const next = (): number => u32() / 0x1_0000_0000;
  return { next, below: (limit) => Math.floor(next() * limit) };
}

/** Entropy drawn from a seeded generator: for simulation only. */
export function seededEntropy(rng: Rng): Entropy {
  return {
    bytes(count) {
      const bytes = new Uint8Array(count);
      for (let i = 0; i < count; i++) bytes[i] = rng.below(256);
      return bytes;
    },
  };
}
