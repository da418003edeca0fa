/**
 * Requests that can't be served soon: who asked is told BUSY and asks elsewhere, instead of finding
 * out by a timeout. That is so when the way out to a neighbour took nothing for a while.
 */

import { BUSY_RETRY_MS, SERVE_WAIT_MS } from "../base/limits.ts";
import { BUSY, encodeFrame } from "../protocol/r10.ts";
import type { PeerContext } from "./context.ts";
import type { Neighbour } from "./neighbour.ts";

/** Declines all that `neighbour` asked for when nothing of it was served for SERVE_WAIT_MS. */
export function declineStale(context: PeerContext, tag: Uint8Array, neighbour: Neighbour): void {
  const { toServe } = neighbour;
  if (toServe.length === 0 || context.now.monoMs - neighbour.servedMs < SERVE_WAIT_MS) return;
  for (let i = 0; i < toServe.length; i += 2) {
    const first = toServe[i] as number;
    const count = Math.min(toServe[i + 1] as number, 0xffff_ffff);
    const retryAfterMs = BUSY_RETRY_MS;
    neighbour.link.transmit(encodeFrame(BUSY, { tag, first, count, retryAfterMs }));
    context.counters.busySent++;
  }
  toServe.length = 0;
}
