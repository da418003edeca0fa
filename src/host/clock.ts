/** The clocks of this machine: the only place that reads them for machines. */

import type { Now } from "../base/machine.ts";

export interface Clock {
  now(): Now;
}

export const systemClock: Clock = {
  now: () => ({
    monoMs: performance.now(),
    wallUs: Math.round((performance.timeOrigin + performance.now()) * 1000),
  }),
};
