/** How far the stream reaches, by what neighbours advertise. */

import type { FragmentIndex } from "../base/units.ts";
import type { FragmentWindow } from "../stream/window.ts";
import type { Neighbour } from "./neighbour.ts";

/** One past the highest index that anybody speaks of: what is worth asking for. */
export function knownTo(window: FragmentWindow, neighbours: readonly Neighbour[]): FragmentIndex {
  let known = window.highest;
  for (const neighbour of neighbours) {
    if (neighbour.mapKnown && neighbour.remoteHighest > known) known = neighbour.remoteHighest;
  }
  return known;
}

/**
 * One past the highest index that more than one member speaks of, or the source peer, or the only
 * neighbour there is. One member alone makes nobody give up what it can't have.
 */
export function confirmedTo(
  window: FragmentWindow,
  neighbours: readonly Neighbour[],
): FragmentIndex {
  let first = 0;
  let second = 0;
  let told = 0;
  for (const neighbour of neighbours) {
    if (!neighbour.mapKnown) continue;
    told++;
    const highest = neighbour.remoteHighest;
    if (neighbour.isSource) second = Math.max(second, highest);
    if (highest > first) {
      second = Math.max(second, first);
      first = highest;
    } else {
      second = Math.max(second, highest);
    }
  }
  return Math.max(window.highest, told === 1 ? first : second);
}

/** Fragments that are known and not held, from `from` on: what was given up below is none of them. */
export function missingFrom(
  window: FragmentWindow,
  from: FragmentIndex,
  known: FragmentIndex,
): number {
  const first = Math.max(window.start, from);
  return Math.max(0, known - first - window.countHeld(first));
}
