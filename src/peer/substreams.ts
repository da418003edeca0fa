/** Substreams as they lie in the window and in time: runs of SUBSTREAM_RUN fragments, in turn. */

import { SUBSTREAM_RUN } from "../base/limits.ts";
import type { FragmentIndex, MonoMs } from "../base/units.ts";
import type { FragmentWindow } from "../stream/window.ts";
import type { KnownTimes } from "./known-times.ts";
import { substreamOf } from "./settings.ts";

/** The pace of the stream is taken over this. */
const PACE_SPAN_MS = 5_000;

/** First index of the run after the one that `index` lies in. */
export function nextRun(index: FragmentIndex): FragmentIndex {
  return (Math.floor(index / SUBSTREAM_RUN) + 1) * SUBSTREAM_RUN;
}

/** First fragment of substream s in [from, to) that is missing; `to` when none is. */
export function firstMissingOf(
  window: FragmentWindow,
  substreams: number,
  s: number,
  from: FragmentIndex,
  to: FragmentIndex,
): FragmentIndex {
  let index = window.firstMissing(from, to);
  while (index < to && substreamOf(index, substreams) !== s) {
    index = window.firstMissing(nextRun(index), to);
  }
  return Math.min(index, to);
}

/** Time between two fragments at the pace of late; Infinity when none came to be known. */
export function paceMs(times: KnownTimes, nowMs: MonoMs): number {
  return times.intervalMs(PACE_SPAN_MS, nowMs);
}

/** In how long each substream has its turn, at the pace of late; 0 when nothing is under way. */
export function turnMs(times: KnownTimes, substreams: number, nowMs: MonoMs): number {
  const intervalMs = paceMs(times, nowMs);
  return intervalMs < PACE_SPAN_MS ? intervalMs * SUBSTREAM_RUN * substreams : 0;
}
