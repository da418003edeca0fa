/**
 * The link of one server to another: opened when there is something to say, opened again with
 * back-off when it goes. Says nothing itself.
 */

import type { Address, LinkId, Now } from "../base/machine.ts";
import type { Rng } from "../base/rng.ts";

const BACKOFF_MIN_MS = 250;
const BACKOFF_MAX_MS = 30_000;

export interface UplinkOptions {
  readonly address: Address;
  readonly rng: Rng;
  /** An id for a link that this machine opens. */
  readonly takeLinkId: () => LinkId;
  readonly open: (linkId: LinkId, address: Address) => void;
}

export class Uplink {
  readonly #options: UplinkOptions;
  #link: { readonly id: LinkId; up: boolean } | undefined;
  #reopenMs = 0;
  #backoffMs = BACKOFF_MIN_MS;

  constructor(options: UplinkOptions) {
    this.#options = options;
  }

  /** The link while it is up. */
  get linkId(): LinkId | undefined {
    return this.#link?.up === true ? this.#link.id : undefined;
  }

  /** There is something to say: opens the link when it is time to. */
  want(now: Now): void {
    if (this.#link !== undefined || now.monoMs < this.#reopenMs) return;
    this.#link = { id: this.#options.takeLinkId(), up: false };
    this.#options.open(this.#link.id, this.#options.address);
  }

  /** False: another's link. */
  linkUp(linkId: LinkId): boolean {
    if (this.#link?.id !== linkId) return false;
    this.#link.up = true;
    this.#backoffMs = BACKOFF_MIN_MS;
    return true;
  }

  linkDown(linkId: LinkId, now: Now): boolean {
    if (this.#link?.id !== linkId) return false;
    this.#link = undefined;
    // Full jitter, so that many servers do not return together.
    this.#reopenMs = now.monoMs + this.#options.rng.next() * this.#backoffMs;
    this.#backoffMs = Math.min(BACKOFF_MAX_MS, 2 * this.#backoffMs);
    return true;
  }

  /** While something is to be said: when want() has to be called, as long as no link is up. */
  earliestMs(): number {
    return this.#link === undefined ? this.#reopenMs : Number.POSITIVE_INFINITY;
  }
}
