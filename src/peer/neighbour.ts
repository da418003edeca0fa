/**
 * One neighbour in one overlay: another member this node has a proven link to.
 *
 * Two maps move along with the window: `have`, what the neighbour advertised, and `sent`, what was
 * sent to it or is not to be pushed. Below its `remoteStart` it wants nothing any more. Credit runs
 * both ways and only rises: `creditLimit` is the neighbour's word, `grantedLimit` ours.
 */

import { RANGES_PER_FRAME_MAX, SUBSTREAMS_MAX } from "../base/limits.ts";
import type { FragmentIndex, MonoMs, PeerId } from "../base/units.ts";
import { ROLES, type Role } from "../protocol/common.ts";
import { DEPTH_NOT_GRANTED } from "../protocol/r10.ts";
import type { BuffermapHeader } from "../protocol/r10-binary.ts";
import type { Picker } from "../stream/picker.ts";
import type { FragmentWindow, WindowMap } from "../stream/window.ts";
import type { Lane, PeerLink } from "./link.ts";

/** So many ranges that it asked for are kept, two numbers each. */
const SERVE_NUMBERS_MAX = 2 * RANGES_PER_FRAME_MAX;

export class Neighbour {
  /** The overlay it is a neighbour in. */
  readonly overlay: object;
  readonly link: PeerLink;
  readonly lane: Lane;
  readonly peerId: PeerId;
  readonly role: Role;
  readonly isSource: boolean;
  readonly sinceMs: MonoMs;
  readonly have: WindowMap;
  readonly sent: WindowMap;
  readonly #window: FragmentWindow;
  readonly #picker: Picker | undefined;

  /** Whether its first BUFFERMAP came. */
  mapKnown = false;
  /** Whether it advertised something that the maps had no room for: to be asked again. */
  clipped = false;
  remoteStart: FragmentIndex = 0;
  /** This node is the source peer: nothing exists that it does not have. */
  isAtSource = false;
  /** What lies below it never had, as it says, or it was freed here before it came. */
  beganAt: FragmentIndex = 0;
  /** One past the highest index it advertised. */
  remoteHighest: FragmentIndex = 0;
  /** When it advertised something last. */
  advancedMs: MonoMs;

  /** It takes DATA below this. */
  creditLimit: FragmentIndex = 0;
  creditAdvancedMs: MonoMs;
  /** We told it that we take DATA below this. */
  grantedLimit: FragmentIndex = 0;

  /** Substreams we push to it, each from which index on; nothing below the cursor is left to push. */
  pushMask = 0;
  readonly pushFrom = new Float64Array(SUBSTREAMS_MAX);
  /** Substreams that another pushes to it now: we go on with what lies below these indices. */
  tailMask = 0;
  readonly tailTo = new Float64Array(SUBSTREAMS_MAX);
  pushCursor: FragmentIndex = 0;
  /** Substreams it asked us for. */
  wantedMask = 0;
  /** The ACCEPT it was told last. */
  toldAccept = "";
  toldAcceptMs: MonoMs = Number.NEGATIVE_INFINITY;
  /** When its link had room last, while something is pushed to it. */
  roomMs: MonoMs;

  /** Substreams it pushes to us, each from which index on. */
  pullMask = 0;
  readonly pullFrom = new Float64Array(SUBSTREAMS_MAX);
  pullSinceMs: MonoMs = 0;
  /** In whose place it came in each substream: below pullFrom that one goes on. */
  readonly tookOver: (Neighbour | undefined)[] = [];
  /** How many hops it is from the source in each substream, and which it would hand on. */
  readonly depths = new Uint8Array(SUBSTREAMS_MAX).fill(DEPTH_NOT_GRANTED);
  openMask = 0;
  /** How many copies of a substream it could push on top of what it does. */
  spareCopies = 0;
  /** Substreams our last PARTNER asked it for, when, and whether its ACCEPT is still to come. */
  askedMask = 0;
  askedMs: MonoMs = 0;
  awaitingAccept = false;
  /** When it may be asked again for a substream it did not grant or did not serve well. */
  readonly refusedUntilMs = new Float64Array(SUBSTREAMS_MAX);

  /** Requests of ours under way. */
  requestsInFlight = 0;
  /** Requests of its own to be served: pairs (first, count); since when none was served. */
  readonly toServe: number[] = [];
  servedMs: MonoMs = 0;
  /** When it was declined last what it needed next, because others were to be sent something first. */
  declinedMs: MonoMs = Number.NEGATIVE_INFINITY;
  /** When it was sent what it needed next, for the first time since it needs that. */
  gaveMs: MonoMs = Number.NEGATIVE_INFINITY;

  /** What it was told of our window: all up to this place of the log, and this start. */
  haveTold = 0;
  haveToldStart: FragmentIndex = 0;
  /** When it is to be told the rest. */
  haveDueMs: MonoMs = Number.POSITIVE_INFINITY;

  lastDataMs: MonoMs = 0;
  /** Complete: out of good standing; it counts no more for what may be freed. */
  lagging = false;
  /** Lagging, it was left behind: some of what it lacked was freed. */
  lostSome = false;
  /** It says that it is full because of others, not of itself. */
  heldBack = false;
  /** Of a virtual peer: how many members, as it says, read what it passes on. */
  readers = 0;
  ackedTo: FragmentIndex = 0;
  ackedAdvancedMs: MonoMs;

  /** Maps it was told at REFRESH since then (the first, unasked, does not count), and one is due. */
  mapsTold = -1;
  mapsSinceMs: MonoMs;
  mapDue = false;

  bytesFrom = 0;
  bytesTo = 0;
  fragmentsFrom = 0;
  fragmentsTo = 0;

  constructor(
    overlay: object,
    window: FragmentWindow,
    picker: Picker | undefined,
    link: PeerLink,
    peerId: PeerId,
    role: Role,
    nowMs: MonoMs,
  ) {
    this.overlay = overlay;
    this.#window = window;
    this.#picker = picker;
    this.link = link;
    this.lane = link.openLane();
    this.peerId = peerId;
    this.role = role;
    this.isSource = role === ROLES.source;
    this.sinceMs = nowMs;
    this.mapsSinceMs = nowMs;
    this.advancedMs = nowMs;
    this.roomMs = nowMs;
    this.ackedAdvancedMs = nowMs;
    this.creditAdvancedMs = nowMs;
    this.have = window.createMap();
    this.sent = window.createMap();
  }

  /** PARTNER: what it is not pushed yet it wants from `from` on, what it drops until `until`. */
  wantsPushed(mask: number, from: FragmentIndex, until: FragmentIndex): void {
    this.wantedMask = mask;
    for (let s = 0; s < SUBSTREAMS_MAX; s++) {
      const bit = 1 << s;
      if ((mask & bit) !== 0) {
        this.tailMask &= ~bit;
        if ((this.pushMask & bit) === 0) this.pushFrom[s] = from;
      } else if (until > 0 && (this.pushMask & bit) !== 0) {
        this.tailMask |= bit;
        this.tailTo[s] = until;
      }
    }
  }

  /** What it needs next leaves. Who asks for that again and again stands still all the same. */
  gaveNext(nowMs: MonoMs): void {
    if (this.gaveMs <= this.ackedAdvancedMs) this.gaveMs = nowMs;
  }

  /** Whether fragment `index` of substream s is to be pushed to it. */
  isPushed(s: number, index: FragmentIndex): boolean {
    const bit = 1 << s;
    if (index < (this.pushFrom[s] as FragmentIndex)) return false;
    if ((this.pushMask & bit) !== 0) return true;
    return (this.tailMask & bit) !== 0 && index < (this.tailTo[s] as FragmentIndex);
  }

  /** Forgets of tails what lies below `start`. */
  trimTails(start: FragmentIndex): void {
    for (let s = 0; this.tailMask !== 0 && s < SUBSTREAMS_MAX; s++) {
      if ((this.tailTo[s] as FragmentIndex) <= start) this.tailMask &= ~(1 << s);
    }
  }

  /** We push the substreams of `mask` from now on; what is new to it begins at its pushFrom. */
  setPush(mask: number): void {
    for (let s = 0; s < SUBSTREAMS_MAX; s++) {
      if ((mask & ~this.pushMask & (1 << s)) === 0) continue;
      this.pushCursor = Math.min(this.pushCursor, this.pushFrom[s] as FragmentIndex);
    }
    this.pushMask = mask;
  }

  /** Its whole buffermap, in place of what was known; the bits lie in `memory`. */
  buffermap(memory: Uint8Array, header: BuffermapHeader): void {
    this.startMoved(header.start);
    if (this.#picker === undefined) this.#window.replaceFromWire(this.have, header, memory);
    else this.#picker.replaceFromWire(this.have, header, memory);
    // A start never falls: what lies below the one it declared before, it can't send.
    if (header.start < this.remoteStart) this.#unmark(this.#window.origin, this.remoteStart);
    const end = endOfBuffermap(memory, header);
    if (end > this.remoteHighest) this.remoteHighest = end;
    this.clipped = end > this.#window.mapEnd;
    if (!this.mapKnown) this.beganAt = Math.max(this.beganAt, this.#window.start);
    this.mapKnown = true;
  }

  /** Advertises [first, first + count); what of it lies below its own start counts for nothing. */
  advertised(first: FragmentIndex, count: number): void {
    const end = first + count;
    const from = Math.max(first, this.remoteStart);
    if (from >= end) return;
    if (end > this.remoteHighest) this.remoteHighest = end;
    if (end > this.#window.mapEnd) this.clipped = true;
    if (this.#picker === undefined) this.#window.mark(this.have, from, end);
    else this.#picker.advertised(this.have, from, end);
  }

  /**
   * Fragment `index` came from it: it has it, though it may not have said so yet. Where the cursor has
   * passed it is not pushed.
   */
  sentUs(index: FragmentIndex): void {
    if (index < this.pushCursor) this.#window.mark(this.sent, index, index + 1);
  }

  /** Withdraws [first, first + count): what of it was passed over for being held is pushed again. */
  withdrew(first: FragmentIndex, count: number): void {
    this.#unmark(first, first + count);
    this.pushCursor = Math.min(this.pushCursor, first);
  }

  /**
   * It asks for `pairs` ranges; who asks for more than the limit has lost count. At or above its own
   * credit it has no room: that is let go. Returns how many fragments were.
   */
  wants(ranges: Float64Array, pairs: number, nowMs: MonoMs): number {
    if (this.toServe.length === 0) this.servedMs = nowMs;
    let beyond = 0;
    for (let i = 0; i < pairs; i++) {
      const first = ranges[2 * i] as number;
      const count = ranges[2 * i + 1] as number;
      const granted = Math.min(count, Math.max(0, this.creditLimit - first));
      beyond += count - granted;
      if (granted > 0) this.toServe.push(first, granted);
    }
    if (this.toServe.length > SERVE_NUMBERS_MAX) {
      this.toServe.splice(0, this.toServe.length - SERVE_NUMBERS_MAX);
    }
    return beyond;
  }

  /** Whether fragment `index` may be asked of it: it holds it, and was told that there is room. */
  mayBeAskedFor(index: FragmentIndex): boolean {
    return index < this.grantedLimit && this.holds(index);
  }

  /**
   * It takes back what it asked for in `pairs` ascending ranges, and needs none of it pushed. What is
   * left of its requests may be more pieces than are kept: the oldest are dropped.
   */
  cancelled(ranges: Float64Array, pairs: number): void {
    for (let i = 0; i < pairs; i++) {
      const first = ranges[2 * i] as number;
      this.#window.mark(this.sent, first, first + (ranges[2 * i + 1] as number));
    }
    // From the newest on, and no further than is kept: what others send must not cost its square.
    const kept: number[] = [];
    for (let j = this.toServe.length - 2; j >= 0 && kept.length < SERVE_NUMBERS_MAX; j -= 2) {
      const low = this.toServe[j] as number;
      let high = low + (this.toServe[j + 1] as number);
      let i = rangesBefore(ranges, pairs, high) - 1;
      for (; i >= 0 && kept.length < SERVE_NUMBERS_MAX; i--) {
        const first = ranges[2 * i] as number;
        const end = first + (ranges[2 * i + 1] as number);
        if (end <= low) break;
        if (end < high) kept.push(high - end, end);
        high = Math.min(high, first);
        if (high <= low) break;
      }
      if (high > low) kept.push(high - low, low);
    }
    this.toServe.splice(0, this.toServe.length, ...kept.slice(0, SERVE_NUMBERS_MAX).reverse());
  }

  startMoved(start: FragmentIndex): void {
    if (start <= this.remoteStart) return;
    // Who takes DATA gives credit: until then a start says where it begins, not what it is done with.
    if (this.creditLimit === 0) this.beganAt = start;
    // There is no such place: it was told a wrong one, and is done with nothing below it.
    if (this.isAtSource && start > this.#window.highest) return;
    this.remoteStart = start;
    if (start > this.remoteHighest) this.remoteHighest = start;
    // What it dropped it can't send any more.
    this.#unmark(this.#window.origin, start);
  }

  holds(index: FragmentIndex): boolean {
    return index >= this.remoteStart && this.#window.test(this.have, index);
  }

  /**
   * First index at or above the window's start that this neighbour may still need: everything below
   * it advertised or left behind. Recomputed; remembers when it moved.
   */
  updateAcked(nowMs: MonoMs): FragmentIndex {
    const window = this.#window;
    const from = Math.max(window.start, this.remoteStart, this.ackedTo);
    const to = Math.max(from, Math.min(window.mapEnd, this.remoteHighest));
    const acked = window.nextClear(this.have, from, to);
    if (acked > this.ackedTo) {
      this.ackedTo = acked;
      this.ackedAdvancedMs = nowMs;
      this.creditAdvancedMs = nowMs;
    }
    return this.ackedTo;
  }

  close(): void {
    // Who came in its place keeps it, and must not keep all those before.
    this.tookOver.length = 0;
    this.#unmark(this.#window.origin, this.#window.mapEnd);
    this.link.closeLane(this.lane);
    this.#window.releaseMap(this.have);
    this.#window.releaseMap(this.sent);
  }

  #unmark(first: FragmentIndex, end: FragmentIndex): void {
    if (this.#picker === undefined) this.#window.unmark(this.have, first, end);
    else this.#picker.withdrew(this.have, first, end);
  }
}

/** One past the highest index that a buffermap says is held; its last byte of bits is not zero. */
function endOfBuffermap(memory: Uint8Array, header: BuffermapHeader): FragmentIndex {
  const { start, run, bitsOffset, bitsBytes } = header;
  if (bitsBytes === 0) return start + run;
  const last = memory[bitsOffset + bitsBytes - 1] as number;
  return start + run + 1 + 8 * bitsBytes - (Math.clz32(last) - 24);
}

/** How many of `pairs` ascending ranges begin below `index`. */
function rangesBefore(ranges: Float64Array, pairs: number, index: FragmentIndex): number {
  let low = 0;
  let high = pairs;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ranges[2 * middle] as number) < index) low = middle + 1;
    else high = middle;
  }
  return low;
}
