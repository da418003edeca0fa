/**
 * Recomputes what an overlay derives about its neighbours from what it was told and did, for tests
 * and the simulator: nothing at work calls it. Costs as much as dozens of inputs.
 */

import { assert } from "../base/assert.ts";
import { CHILDREN_MAX, DEPTH_MAX, RANGES_PER_FRAME_MAX } from "../base/limits.ts";
import type { FragmentWindow } from "../stream/window.ts";
import type { Neighbour } from "./neighbour.ts";
import { substreamOf } from "./settings.ts";

/** Throws AssertionError, naming what differs. */
export function checkNeighbour(
  window: FragmentWindow,
  substreams: number,
  neighbour: Neighbour,
): void {
  const { have, remoteStart, remoteHighest, grantedLimit, creditLimit, toServe } = neighbour;
  assert(grantedLimit <= window.limit, "credit within the window");
  const below = Math.min(remoteStart, window.mapEnd);
  assert(
    window.nextSet(have, window.origin, below) >= below,
    "a neighbour holds nothing below the start it declared",
  );
  assert(
    window.nextSet(have, Math.max(window.origin, remoteHighest), window.mapEnd) >= window.mapEnd,
    "a neighbour holds nothing above the highest that it advertised",
  );
  assert(toServe.length <= 2 * RANGES_PER_FRAME_MAX, "requests kept within the limit");
  for (let i = 0; i < toServe.length; i += 2) {
    const end = (toServe[i] as number) + (toServe[i + 1] as number);
    assert(end <= creditLimit, "what is to be served lies below the neighbour's credit");
  }
  checkPushed(window, substreams, neighbour);
}

/** The cursor only saves looking: what it passed is sent, held by the neighbour, or not its to get. */
function checkPushed(window: FragmentWindow, substreams: number, neighbour: Neighbour): void {
  const { have, sent, pushMask, wantedMask, remoteStart, creditLimit, pushCursor } = neighbour;
  assert((pushMask & ~wantedMask) === 0, "pushed is what the neighbour asked for");
  const to = Math.min(window.highest, creditLimit, pushCursor);
  let index = Math.max(window.start, remoteStart);
  while (index < to) {
    index = window.nextDifference(window.heldMap, have, sent, index, to);
    if (index >= to) return;
    assert(
      !neighbour.isPushed(substreamOf(index, substreams), index),
      `fragment ${index} lies below the push cursor and was not pushed`,
    );
    index++;
  }
}

/** What a node says of substream s, who pushes it and over how many hops, against its neighbours. */
export function checkFeed(
  feed: {
    readonly partner: Neighbour | undefined;
    readonly depth: number;
    readonly least: number;
  },
  s: number,
  all: readonly Neighbour[],
  isSource: boolean,
): void {
  const { partner, depth, least } = feed;
  const bit = 1 << s;
  const fed = all.filter(({ pushMask }) => (pushMask & bit) !== 0);
  if (isSource) {
    assert(partner === undefined, "nobody pushes to the source peer");
    assert(fed.length <= 1, "the source peer pushes a substream to one");
    return;
  }
  assert(fed.length <= CHILDREN_MAX, "no more are fed than may be");
  assert(fed.length === 0 || least <= depth, "nearest to the source since it feeds somebody");
  for (const each of all) {
    const pushes = (each.pullMask & bit) !== 0;
    assert(pushes === (each === partner), "a partner, and no other, said that it pushes");
  }
  if (partner === undefined) return;
  assert(all.includes(partner), "a partner is a neighbour");
  assert(!fed.includes(partner), "nobody is fed a substream by whom it feeds in it");
  assert(depth > 0 && depth < DEPTH_MAX, "hops to the source");
}

/** Whose ACCEPT is awaited, against what is noted at each of `all` neighbours. */
export function checkAwaited(awaited: ReadonlySet<Neighbour>, all: readonly Neighbour[]): void {
  const waits = all.filter(({ awaitingAccept }) => awaitingAccept);
  assert(waits.length === awaited.size, "as many ACCEPTs are awaited as were not answered");
  assert(
    waits.every((each) => awaited.has(each)),
    "an ACCEPT that is to come is awaited",
  );
}
