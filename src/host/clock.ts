/** The clocks of this machine: the only place that reads them for machines. */

import type { Now } from "../base/machine.ts";

export interface Clock {
  now(): Now;
}

/** Fixed for the life of the process; reading it costs more than the clock. */
const { timeOrigin } = performance;

export const systemClock: Clock = {
  now: () => {
    const monoMs = performance.now();
    return { monoMs, wallUs: Math.round((timeOrigin + monoMs) * 1000) };
  },
};
