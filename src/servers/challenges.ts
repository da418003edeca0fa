/**
 * Nonces that prove an identity: each good for one use within seconds. When too many are open the
 * oldest goes first, so that who answers at once is safe from a flood of askers.
 */

import type { Now } from "../base/machine.ts";
import type { Entropy } from "../base/rng.ts";
import { toHex } from "../base/units.ts";
import { NONCE_BYTES } from "../protocol/common.ts";
import { LeaseTable } from "./lease-table.ts";

/** How long a challenge may be answered. */
const CHALLENGE_MS = 30_000;
/** 100 bytes each: 1 MiB. */
const CHALLENGES_MAX = 10_000;

export class Challenges {
  /** Keys are nonces in hex. */
  readonly #open = new LeaseTable();
  readonly #entropy: Entropy;

  constructor(entropy: Entropy) {
    this.#entropy = entropy;
  }

  issue(now: Now): Uint8Array {
    if (this.#open.size >= CHALLENGES_MAX) this.#open.takeEnded(Number.POSITIVE_INFINITY);
    const nonce = this.#entropy.bytes(NONCE_BYTES);
    this.#open.grant(toHex(nonce), CHALLENGE_MS, now.monoMs);
    return nonce;
  }

  /** Uses a challenge up; false when it was not open. */
  use(nonce: Uint8Array, now: Now): boolean {
    const key = toHex(nonce);
    const open = this.#open.holds(key, now.monoMs);
    this.#open.drop(key);
    return open;
  }

  onTime(now: Now): void {
    while (this.#open.takeEnded(now.monoMs) !== undefined);
  }

  earliestMs(): number {
    return this.#open.earliestMs();
  }
}
