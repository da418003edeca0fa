/** How far the stream reaches, by what neighbours advertise. */

import type { FragmentIndex, MonoMs } from "../base/units.ts";
import type { FragmentWindow } from "../stream/window.ts";
import type { Neighbour } from "./neighbour.ts";

/** Who stands for so long beyond all that there is was told a wrong place to start. */
const MISLED_MS = 5_000;

/** One past the highest index that anybody speaks of: what is worth asking for. */
export function knownTo(window: FragmentWindow, neighbours: readonly Neighbour[]): FragmentIndex {
  let known = window.highest;
  for (const neighbour of neighbours) {
    if (neighbour.mapKnown && neighbour.remoteHighest > known) known = neighbour.remoteHighest;
  }
  return known;
}

/**
 * How far the stream is as far as neighbours are to be believed. It moves the window and makes this
 * node give up what it can't have, so a few that lie must not decide it: keys cost nothing. The source
 * peer's word counts alone; without a link to it, what more than half of those say that hold something.
 * Who holds nothing repeats what others told it, which counts where nobody has more to say; who stands
 * nowhere either says nothing: many that come at once must not tell each other that there is nothing.
 */
export class Reach {
  #said: FragmentIndex = 0;
  #all = new Float64Array(64);
  #misledSinceMs: MonoMs | undefined;

  /**
   * One past the highest index. `heldTo`: one past the highest that this node held itself; 0 before
   * it has a start: its window then stands where the first neighbour said.
   */
  confirmedTo(neighbours: readonly Neighbour[], heldTo: FragmentIndex): FragmentIndex {
    const said = this.#said;
    if (neighbours.length > this.#all.length) this.#all = new Float64Array(2 * neighbours.length);
    let told = 0;
    let beyond = 0;
    let below = 0;
    for (const neighbour of neighbours) {
      const { mapKnown, isSource, remoteHighest } = neighbour;
      if (!mapKnown) continue;
      if (isSource) return Math.max(heldTo, remoteHighest);
      if (!holdsSome(neighbour)) continue;
      this.#all[told++] = remoteHighest;
      if (remoteHighest > said) beyond++;
      else if (remoteHighest < said) below++;
    }
    // Seldom does another fragment become known to half of them.
    const isSame = 2 * beyond <= told && 2 * below < told;
    if (!isSame) {
      this.#said = told === 0 ? hearsay(neighbours) : middleOf(this.#all.subarray(0, told));
    }
    return Math.max(heldTo, this.#said);
  }

  /**
   * Whether this node, which was given nothing yet and stands at `start`, has done so for MISLED_MS
   * beyond all that those have who know; once, and again as long after. Called now and then.
   */
  isMisled(neighbours: readonly Neighbour[], start: FragmentIndex, nowMs: MonoMs): boolean {
    const isKnown = neighbours.some((n) => n.mapKnown && (n.isSource || holdsSome(n)));
    if (!isKnown || this.confirmedTo(neighbours, 0) >= start) this.#misledSinceMs = undefined;
    else this.#misledSinceMs ??= nowMs;
    if (this.#misledSinceMs === undefined || nowMs - this.#misledSinceMs < MISLED_MS) return false;
    this.#misledSinceMs = undefined;
    return true;
  }
}

function holdsSome({ remoteStart, remoteHighest }: Neighbour): boolean {
  return remoteHighest > remoteStart;
}

/** By those that hold nothing, and stand where they were told to start. */
function hearsay(neighbours: readonly Neighbour[]): FragmentIndex {
  const stand = neighbours.filter((n) => n.mapKnown && n.remoteHighest > 0);
  if (stand.length === 0) return 0;
  return middleOf(Float64Array.from(stand, ({ remoteHighest }) => remoteHighest));
}

/** More than half of `numbers` are at or above it; sorts them. */
function middleOf(numbers: Float64Array): number {
  return numbers.sort()[(numbers.length - 1) >>> 1] as number;
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

/** Below it no member among `neighbours` has anything any more. */
export function droppedTo(neighbours: readonly Neighbour[]): FragmentIndex {
  let to = Number.POSITIVE_INFINITY;
  for (const { isSource, remoteStart } of neighbours) if (!isSource) to = Math.min(to, remoteStart);
  return to;
}
