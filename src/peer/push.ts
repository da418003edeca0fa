/**
 * The way out to one neighbour: answers its GETs, then pushes the substreams it subscribed to, in
 * runs that leave as they lie in memory. A fragment is pushed once a link; a GET overrides that.
 *
 * Stops at the neighbour's credit, at its part of the link's queue (`sent` input goes on with it) and
 * at the engine's upload limit, which then gives turns.
 */

import { FRAME_TYPES } from "../base/layout.ts";
import { SUBSTREAM_RUN } from "../base/limits.ts";
import type { FragmentIndex } from "../base/units.ts";
import { KIB } from "../base/units.ts";
import { encodeRanges } from "../protocol/r10-binary.ts";
import type { FragmentWindow } from "../stream/window.ts";
import type { PeerContext } from "./context.ts";
import type { Neighbour } from "./neighbour.ts";
import { substreamOf } from "./settings.ts";
import { nextRun } from "./substreams.ts";

/** One write takes at most so much: two runs of default fragments. */
const RUN_BYTES_MAX = 512 * KIB;
const RUN_FRAGMENTS_MAX = 32;

/** What is pushed from: an overlay is one. */
export interface Pushing {
  readonly tag: Uint8Array;
  readonly window: FragmentWindow;
  readonly settings: { readonly substreams: number };
  readonly serving: {
    pushed(count: number): void;
    gave(first: FragmentIndex, end: FragmentIndex): void;
  };
}

/** Serves and pushes what it can. */
export function pump(context: PeerContext, pushing: Pushing, neighbour: Neighbour): void {
  const {
    window,
    settings: { substreams },
    serving,
  } = pushing;
  const { link, lane } = neighbour;
  const { monoMs } = context.now;
  while (neighbour.toServe.length > 0) {
    const room = link.room(lane);
    if (room === 0 || !serveNext(context, pushing, neighbour, room)) return;
  }
  neighbour.trimTails(window.start);
  while ((neighbour.pushMask | neighbour.tailMask) !== 0) {
    const first = nextToPush(window, substreams, neighbour);
    if (first < 0) break;
    const room = link.room(lane);
    if (room === 0 || !context.upload.admits(neighbour, monoMs)) return;
    const end = runEnd(window, substreams, neighbour, first, runBytesMax(context, room));
    sendRun(context, window, neighbour, first, end);
    serving.pushed(end - first);
    neighbour.pushCursor = end;
  }
  // Nothing is left to send: others on the link need not wait for it.
  lane.waits = false;
}

/** A fragment became available: the cursor may have passed it. */
export function reconsider(neighbour: Neighbour, index: FragmentIndex): void {
  if (index < neighbour.pushCursor) neighbour.pushCursor = index;
}

/** False when it is not this neighbour's turn to be sent something. */
function serveNext(
  context: PeerContext,
  { window, tag, serving }: Pushing,
  neighbour: Neighbour,
  room: number,
): boolean {
  const first = neighbour.toServe[0] as number;
  const count = neighbour.toServe[1] as number;
  const end = first + count;
  let from = first;
  if (!window.holds(first)) {
    // Not held (any more): say so, so that the neighbour asks elsewhere.
    const to = window.nextSet(window.heldMap, first + 1, end);
    neighbour.link.transmit(encodeRanges(FRAME_TYPES.GONE, tag, 0, [first, to - first]));
    from = to;
  } else {
    if (!context.upload.admits(neighbour, context.now.monoMs)) return false;
    const limit = Math.min(end, first + RUN_FRAGMENTS_MAX);
    const most = runBytesMax(context, room);
    let bytes = window.lengthOf(first);
    let to = first + 1;
    while (to < limit && window.holds(to) && adjacent(window, to)) {
      bytes += window.lengthOf(to);
      if (bytes > most) break;
      to++;
    }
    sendRun(context, window, neighbour, first, to);
    serving.gave(first, to);
    context.counters.requestsServed += to - first;
    neighbour.servedMs = context.now.monoMs;
    from = to;
  }
  if (from >= end) neighbour.toServe.splice(0, 2);
  else {
    neighbour.toServe[0] = from;
    neighbour.toServe[1] = end - from;
  }
  return true;
}

function runBytesMax(context: PeerContext, room: number): number {
  return Math.min(RUN_BYTES_MAX, room, context.upload.runBytes(context.now.monoMs));
}

/** Whether fragment `index` lies right behind its predecessor, in the same segment. */
function adjacent(window: FragmentWindow, index: FragmentIndex): boolean {
  const before = window.offsetOf(index - 1);
  const offset = window.offsetOf(index);
  return (
    before + window.lengthOf(index - 1) === offset && window.memory.sameSegment(before, offset)
  );
}

/** First index to push, -1 when there is none. */
function nextToPush(
  window: FragmentWindow,
  substreams: number,
  neighbour: Neighbour,
): FragmentIndex {
  let from = Math.max(neighbour.pushCursor, neighbour.remoteStart, window.start);
  const to = Math.min(window.highest, neighbour.creditLimit);
  while (from < to) {
    const index = window.nextDifference(window.heldMap, neighbour.have, neighbour.sent, from, to);
    if (index >= to) break;
    const s = substreamOf(index, substreams);
    if (neighbour.isPushed(s, index)) return index;
    const end = nextRun(index);
    const first = neighbour.pushFrom[s] as FragmentIndex;
    from = index < first ? Math.min(first, end) : end;
  }
  neighbour.pushCursor = Math.max(neighbour.pushCursor, Math.min(to, window.highest));
  return -1;
}

/** End of the run that starts with `first`: pushable, adjacent, of substreams subscribed to. */
function runEnd(
  window: FragmentWindow,
  substreams: number,
  neighbour: Neighbour,
  first: FragmentIndex,
  most: number,
): FragmentIndex {
  const to = Math.min(window.highest, neighbour.creditLimit, first + RUN_FRAGMENTS_MAX);
  let bytes = window.lengthOf(first);
  let index = first + 1;
  while (index < to) {
    if (index % SUBSTREAM_RUN === 0 || neighbour.tailMask !== 0) {
      if (!neighbour.isPushed(substreamOf(index, substreams), index)) break;
    }
    if (!window.holds(index) || window.test(neighbour.have, index)) break;
    if (window.test(neighbour.sent, index) || !adjacent(window, index)) break;
    bytes += window.lengthOf(index);
    if (bytes > most) break;
    index++;
  }
  return index;
}

function sendRun(
  context: PeerContext,
  window: FragmentWindow,
  neighbour: Neighbour,
  first: FragmentIndex,
  end: FragmentIndex,
): void {
  const offset = window.offsetOf(first);
  const last = end - 1;
  const bytes = window.offsetOf(last) + window.lengthOf(last) - offset;
  window.mark(neighbour.sent, first, end);
  neighbour.link.transmitPinned(neighbour.lane, offset, bytes);
  context.upload.sent(bytes, context.now.monoMs);
  if (first <= neighbour.ackedTo && neighbour.ackedTo < end) neighbour.gaveNext(context.now.monoMs);
  neighbour.bytesTo += bytes;
  neighbour.fragmentsTo += end - first;
  context.counters.fragmentsSent += end - first;
  context.counters.bytesSent += bytes;
}
