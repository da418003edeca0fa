/**
 * The granting side of a peer: to whom it pushes which substream.
 *
 * It grants substreams that it is itself fed, up to as many pushed copies as its upload bears. That
 * figure is found out: it grows while all that is asked for leaves in time, and shrinks when the way
 * out is clogged; then the copy that matters least is withdrawn. A node prefers to serve the
 * substreams in which it is nearest to the source (its primary ones) and gives up others for them:
 * so each node hands on few substreams to many, which makes the trees wide and not deep, and nodes
 * with upload to spare come to stand near the source.
 *
 * What it would grant (`open`) and its depths stand in ACCEPT, which is told again when they change.
 */

import { CHILDREN_MAX, DEPTH_MAX } from "../../base/limits.ts";
import { type MonoMs, SECOND_MS } from "../../base/units.ts";
import { ACCEPT, DEPTH_NOT_GRANTED, encodeFrame } from "../../protocol/r10.ts";
import type { PeerContext } from "../context.ts";
import type { Neighbour } from "../neighbour.ts";

/** Pushed copies of a substream that a node begins with, in multiples of the whole stream. */
const COPIES_FIRST = 1.5;
/**
 * The way out is clogged when a link it pushes on had no room for so long, or for as long as it takes
 * until each substream had its turn: a substream comes all at once, and has until the next time.
 */
const CLOGGED_MS = 500;
const CLOGGED_MS_MAX = 5_000;
/** One copy is withdrawn, then it is seen what that brought. */
const SHED_AGAIN_MS = 1_000;
/** Without clogging for so long, by this part more are tried. */
const CALM_MS = 3_000;
const COPIES_GROWTH = 1 / 8;
/** Changes are told at most so often to those who are pushed something, and to the others. */
const TELL_CHILD_MS = 100;
const TELL_MS = 500;
const SPARE_STEP = 4;
/** A copy is given up for one of a primary substream at most so often ... */
const EXCHANGE_AGAIN_MS = 500;
/** ... if it is so much further from the source. */
const EXCHANGE_HOPS = 2;

export interface GrantView {
  /** Own hops to the source in substream s; DEPTH_NOT_GRANTED when nobody feeds it. */
  depth(s: number): number;
  /** Who pushes substream s to this node. */
  partner(s: number): Neighbour | undefined;
  /** In how long each substream has its turn; 0 when nothing is under way. */
  turnMs(): number;
  /** The pace of the stream in bytes; 0 when it is not known. */
  bytesPerMs(): number;
}

export class Grants {
  readonly #context: PeerContext;
  readonly #tag: Uint8Array;
  readonly #substreams: number;
  readonly #view: GrantView;
  /** Breaks ties among substreams of equal depth, differently on each node. */
  readonly salt: number;
  #copiesMax: number;
  #shedMs: MonoMs = 0;
  #exchangedMs: MonoMs = Number.NEGATIVE_INFINITY;
  #calmSinceMs: MonoMs;
  #bears = Number.POSITIVE_INFINITY;

  constructor(context: PeerContext, tag: Uint8Array, substreams: number, view: GrantView) {
    this.#context = context;
    this.#tag = tag;
    this.#substreams = substreams;
    this.#view = view;
    this.salt = context.rng.below(substreams);
    this.#copiesMax = Math.ceil(COPIES_FIRST * substreams);
    this.#calmSinceMs = context.now.monoMs;
  }

  /** Pushed copies of a substream that this node bears, as far as it knows. */
  get copiesMax(): number {
    return this.#copiesMax;
  }

  /**
   * Copies that the way out was found to bear since this was asked last, where links took what they
   * could and pushes waited all the same; Infinity when that was not so.
   */
  takeBears(): number {
    const bears = this.#bears;
    this.#bears = Number.POSITIVE_INFINITY;
    return bears;
  }

  /** PARTNER arrived: grants of it what can be. */
  wanted(neighbour: Neighbour, all: readonly Neighbour[]): void {
    let mask = (neighbour.pushMask & neighbour.wantedMask) >>> 0;
    neighbour.setPush(mask);
    for (const s of this.#byDepth()) {
      const bit = 1 << s;
      if ((neighbour.wantedMask & bit) === 0 || (mask & bit) !== 0) continue;
      // It feeds this node, or is being asked to.
      const asked = neighbour.awaitingAccept ? neighbour.askedMask : neighbour.pullMask;
      if ((asked & bit) !== 0) continue;
      if (this.#view.partner(s) === undefined || childrenOf(all, s) >= CHILDREN_MAX) continue;
      if (copies(all) >= this.#copiesMax && !this.#makeRoom(s, neighbour, all)) continue;
      mask = (mask | bit) >>> 0;
      neighbour.setPush(mask);
    }
    this.#tell(neighbour, all, this.#open(all));
  }

  /** Nobody feeds substream s any more: whom it was handed on to is told. */
  withdraw(s: number, all: readonly Neighbour[]): void {
    for (const neighbour of all) {
      if ((neighbour.pushMask & (1 << s)) === 0) continue;
      neighbour.setPush((neighbour.pushMask & ~(1 << s)) >>> 0);
      this.#tell(neighbour, all, this.#open(all));
    }
  }

  /** Called now and then: what the way out bears, and who is to be told what changed. */
  watch(all: readonly Neighbour[]): void {
    this.#watchUpload(all);
    const nowMs = this.#context.now.monoMs;
    const open = this.#open(all);
    const state = this.#state(open, this.#spare(all));
    for (const neighbour of all) {
      if (neighbour.isSource || !neighbour.mapKnown || neighbour.toldAccept === state) continue;
      const everyMs = neighbour.pushMask === 0 ? TELL_MS : TELL_CHILD_MS;
      if (nowMs - neighbour.toldAcceptMs >= everyMs) this.#tell(neighbour, all, open);
    }
  }

  // ------------------------------------------------------------------------------ upload

  #watchUpload(all: readonly Neighbour[]): void {
    const nowMs = this.#context.now.monoMs;
    let clogged = false;
    const cloggedMs = Math.max(CLOGGED_MS, Math.min(CLOGGED_MS_MAX, this.#view.turnMs()));
    let isFull = false;
    for (const { roomMs, link } of all) {
      if (nowMs - roomMs < cloggedMs) continue;
      clogged = true;
      isFull ||= link.drains(nowMs);
    }
    if (!clogged) {
      if (nowMs - this.#calmSinceMs < Math.max(CALM_MS, cloggedMs) || copies(all) < this.#copiesMax)
        return;
      this.#calmSinceMs = nowMs;
      const more = this.#copiesMax + Math.ceil(this.#copiesMax * COPIES_GROWTH);
      this.#copiesMax = Math.min(more, CHILDREN_MAX * this.#substreams);
      return;
    }
    this.#calmSinceMs = nowMs;
    if (nowMs - this.#shedMs < Math.max(SHED_AGAIN_MS, cloggedMs)) return;
    this.#shedMs = nowMs;
    const capacity = this.#capacity(nowMs);
    if (isFull) this.#bears = capacity;
    this.#copiesMax = Math.max(1, Math.min(copies(all) - 1, Math.floor(capacity)));
    const primary = this.#primary();
    const slowestFirst = all.filter((n) => n.pushMask !== 0).sort((a, b) => a.roomMs - b.roomMs);
    while (copies(all) > this.#copiesMax) {
      for (const neighbour of slowestFirst) {
        if (neighbour.pushMask !== 0) this.#shed(neighbour, primary, all);
        if (copies(all) <= this.#copiesMax) return;
      }
    }
  }

  /** Copies that the way out bears by what has left of late: it was full. */
  #capacity(nowMs: MonoMs): number {
    const bytesPerMs = this.#view.bytesPerMs();
    if (bytesPerMs === 0) return Number.POSITIVE_INFINITY;
    const leftPerMs = this.#context.upload.rateBytesPerSecond(nowMs) / SECOND_MS;
    return (this.#substreams * leftPerMs) / bytesPerMs;
  }

  /** Withdraws one substream from `neighbour`: one that is not primary, else the deepest. */
  #shed(neighbour: Neighbour, primary: number, all: readonly Neighbour[]): void {
    const { pushMask } = neighbour;
    const deepestFirst = this.#byDepth().reverse();
    const held = deepestFirst.filter((s) => (pushMask & (1 << s)) !== 0);
    // What nobody feeds at present is not among them.
    const s = held.find((each) => (primary & (1 << each)) === 0) ?? held[0] ?? highestBit(pushMask);
    neighbour.setPush((neighbour.pushMask & ~(1 << s)) >>> 0);
    this.#tell(neighbour, all, this.#open(all));
  }

  // ------------------------------------------------------------------------------ what is open

  /** Substreams that this node is fed and may hand on, those nearest to the source first. */
  #byDepth(): number[] {
    const fed: number[] = [];
    for (let s = 0; s < this.#substreams; s++) {
      if (this.#view.partner(s) !== undefined && this.#view.depth(s) + 1 < DEPTH_MAX) fed.push(s);
    }
    const tie = (s: number): number => (s + this.salt) % this.#substreams;
    return fed.sort((a, b) => this.#view.depth(a) - this.#view.depth(b) || tie(a) - tie(b));
  }

  #primary(): number {
    const count = Math.max(1, Math.floor(this.#copiesMax / CHILDREN_MAX));
    let mask = 0;
    for (const s of this.#byDepth().slice(0, count)) mask |= 1 << s;
    return mask >>> 0;
  }

  #open(all: readonly Neighbour[]): number {
    const isFull = copies(all) >= this.#copiesMax;
    let mask = 0;
    for (const s of this.#byDepth()) {
      if (childrenOf(all, s) >= CHILDREN_MAX) continue;
      if (!isFull || this.#lesser(s, undefined, all) !== undefined) mask |= 1 << s;
    }
    return mask >>> 0;
  }

  /** A full node gives up a lesser copy for one of primary substream s. Returns whether it did. */
  #makeRoom(s: number, asker: Neighbour, all: readonly Neighbour[]): boolean {
    const lesser = this.#lesser(s, asker, all);
    if (lesser === undefined) return false;
    this.#exchangedMs = this.#context.now.monoMs;
    const { neighbour, substream } = lesser;
    neighbour.setPush((neighbour.pushMask & ~(1 << substream)) >>> 0);
    this.#tell(neighbour, all, this.#open(all));
    return true;
  }

  /** What would be given up for one more copy of s: of what is much further from the source. */
  #lesser(
    s: number,
    asker: Neighbour | undefined,
    all: readonly Neighbour[],
  ): { readonly neighbour: Neighbour; readonly substream: number } | undefined {
    if (this.#context.now.monoMs - this.#exchangedMs < EXCHANGE_AGAIN_MS) return undefined;
    if ((this.#primary() & (1 << s)) === 0) return undefined;
    for (const substream of this.#byDepth().reverse()) {
      if (this.#view.depth(substream) < this.#view.depth(s) + EXCHANGE_HOPS) return undefined;
      const bit = 1 << substream;
      const neighbour = all.find((each) => each !== asker && (each.pushMask & bit) !== 0);
      if (neighbour !== undefined) return { neighbour, substream };
    }
    return undefined;
  }

  /** Copies that this node could push on top, in steps: it is not told of each. */
  #spare(all: readonly Neighbour[]): number {
    const spare = Math.max(0, Math.min(255, this.#copiesMax - copies(all)));
    return spare - (spare % SPARE_STEP);
  }

  /** All that ACCEPT tells but the mask, which is told whenever it changes. */
  #state(open: number, spare: number): string {
    let state = `${open} ${spare}`;
    for (let s = 0; s < this.#substreams; s++) state += ` ${this.#view.depth(s)}`;
    return state;
  }

  #tell(neighbour: Neighbour, all: readonly Neighbour[], open: number): void {
    const { pushMask: mask, wantedMask: wanted } = neighbour;
    const depths = new Uint8Array(this.#substreams).fill(DEPTH_NOT_GRANTED);
    for (let s = 0; s < this.#substreams; s++) {
      if (((mask | open) & (1 << s)) !== 0) depths[s] = this.#view.depth(s);
    }
    const spare = this.#spare(all);
    neighbour.toldAccept = this.#state(open, spare);
    neighbour.toldAcceptMs = this.#context.now.monoMs;
    neighbour.link.transmit(
      encodeFrame(ACCEPT, { tag: this.#tag, mask, depths, open, wanted, spare }),
    );
  }
}

/** Substreams pushed, each counted once a neighbour. */
export function copies(all: readonly Neighbour[]): number {
  let count = 0;
  for (const neighbour of all) count += bitCount(neighbour.pushMask);
  return count;
}

function childrenOf(all: readonly Neighbour[], s: number): number {
  let children = 0;
  for (const neighbour of all) if ((neighbour.pushMask & (1 << s)) !== 0) children++;
  return children;
}

function highestBit(mask: number): number {
  return 31 - Math.clz32(mask);
}

export function bitCount(mask: number): number {
  let count = 0;
  for (let rest = mask >>> 0; rest !== 0; rest = (rest & (rest - 1)) >>> 0) count++;
  return count;
}
