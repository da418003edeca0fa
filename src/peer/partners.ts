/**
 * Partners: who pushes which substream to whom.
 *
 * A peer that lacks a partner for some substreams asks one neighbour at a time (PARTNER replaces
 * what it asked that neighbour for before), the source peer first, then those nearest to it. The
 * answer (ACCEPT, sent again whenever it changes) says what is pushed and over how many hops.
 *
 * No loops: only a node that is itself fed in a substream grants it, never to its own partner in
 * it; a node that loses its partner withdraws the substream from all it granted it to. So every
 * grant hangs on a chain that ends at the source peer; what a race closes into a circle grows in
 * depth until DEPTH_MAX refuses it.
 *
 * The source peer gives each substream to one neighbour (each fragment leaves it once before any
 * second copy) and shares them out evenly among those who ask.
 */

import { SUBSTREAM_RUN, SUBSTREAMS_MAX } from "../base/limits.ts";
import type { FragmentIndex } from "../base/units.ts";
import { ACCEPT, type Accept, DEPTH_NOT_GRANTED, encodeFrame, PARTNER } from "../protocol/r10.ts";
import type { FragmentWindow } from "../stream/window.ts";
import type { PeerContext } from "./context.ts";
import type { Neighbour } from "./neighbour.ts";
import { allSubstreams } from "./settings.ts";

const DEPTH_MAX = 32;
/** Who lacks no more than this is near enough to the newest fragment to hand it on. */
const CAUGHT_UP_FRAGMENTS = 8 * SUBSTREAM_RUN;
/** Pushed copies of one substream per non-source node. */
const CHILDREN_MAX = 8;
/** A neighbour that refused a substream is asked again after this, jittered. */
const ASK_AGAIN_MS = 500;
/** A partner that pushed nothing for this while it had something new is given up. */
const PARTNER_SILENT_MS = 2_500;

export class Partners {
  readonly #context: PeerContext;
  readonly #window: FragmentWindow;
  readonly #tag: Uint8Array;
  readonly #substreams: number;
  readonly #isSource: boolean;
  /** Whom the source peer shared its substreams out among last. */
  #sharedAmong: readonly Neighbour[] = [];
  /** Who pushes each substream to us. */
  readonly #partners: (Neighbour | undefined)[];

  constructor(
    context: PeerContext,
    window: FragmentWindow,
    tag: Uint8Array,
    substreams: number,
    isSource: boolean,
  ) {
    this.#context = context;
    this.#window = window;
    this.#tag = tag;
    this.#substreams = substreams;
    this.#isSource = isSource;
    this.#partners = new Array(substreams).fill(undefined);
  }

  get partners(): readonly (Neighbour | undefined)[] {
    return this.#partners;
  }

  // ------------------------------------------------------------------------------ granting

  /** PARTNER arrived: `mask` is all that the neighbour wants of us from now on. */
  wanted(neighbour: Neighbour, mask: number, from: FragmentIndex, all: readonly Neighbour[]): void {
    neighbour.wantedMask = (mask & allSubstreams(this.#substreams)) >>> 0;
    neighbour.pushFrom = from;
    neighbour.pushCursor = from;
    if (this.#isSource) this.#share(all, neighbour);
    else this.#grant(neighbour, all);
  }

  /** A neighbour left: its share goes to others. */
  gone(neighbour: Neighbour, all: readonly Neighbour[]): void {
    for (let s = 0; s < this.#substreams; s++) {
      if (this.#partners[s] === neighbour) this.#lose(s, all);
    }
    if (this.#isSource) this.#share(all, undefined);
  }

  #grant(neighbour: Neighbour, all: readonly Neighbour[]): void {
    let mask = 0;
    for (let s = 0; s < this.#substreams; s++) {
      if ((neighbour.wantedMask & (1 << s)) === 0) continue;
      const partner = this.#partners[s];
      if (partner === undefined || partner === neighbour) continue;
      if ((partner.depths[s] as number) + 1 >= DEPTH_MAX) continue;
      let children = 0;
      for (const other of all) {
        if (other !== neighbour && (other.pushMask & (1 << s)) !== 0) children++;
      }
      if (children < CHILDREN_MAX) mask |= 1 << s;
    }
    this.#setPush(neighbour, mask >>> 0, true);
  }

  /** The source peer's shares: one neighbour a substream, evenly. */
  #share(all: readonly Neighbour[], asker: Neighbour | undefined): void {
    const asking = all.filter((neighbour) => neighbour.wantedMask !== 0);
    // A newcomer that still catches up would hand on late what others wait for.
    const caughtUp = asking.filter((neighbour) => this.#hasCaughtUp(neighbour));
    const wanting = caughtUp.length > 0 ? caughtUp : asking;
    this.#sharedAmong = wanting;
    const masks = new Map<Neighbour, number>();
    const counts = new Map<Neighbour, number>();
    for (const neighbour of wanting) {
      masks.set(neighbour, 0);
      counts.set(neighbour, 0);
    }
    const quota = Math.ceil(this.#substreams / Math.max(1, wanting.length));
    const give = (neighbour: Neighbour, s: number): void => {
      masks.set(neighbour, (masks.get(neighbour) as number) | (1 << s));
      counts.set(neighbour, (counts.get(neighbour) as number) + 1);
    };
    // Who has a substream keeps it up to its quota; the rest goes to who has the fewest.
    const open: number[] = [];
    for (let s = 0; s < this.#substreams; s++) {
      const holder = wanting.find(
        (n) => (n.pushMask & (1 << s)) !== 0 && (n.wantedMask & (1 << s)) !== 0,
      );
      if (holder !== undefined && (counts.get(holder) as number) < quota) give(holder, s);
      else open.push(s);
    }
    for (const s of open) {
      let best: Neighbour | undefined;
      for (const neighbour of wanting) {
        if ((neighbour.wantedMask & (1 << s)) === 0) continue;
        if (
          best === undefined ||
          (counts.get(neighbour) as number) < (counts.get(best) as number)
        ) {
          best = neighbour;
        }
      }
      if (best !== undefined) give(best, s);
    }
    for (const neighbour of all) {
      this.#setPush(neighbour, (masks.get(neighbour) ?? 0) >>> 0, neighbour === asker);
    }
  }

  /** The source peer: shares anew when somebody has caught up since. Called now and then. */
  reshare(all: readonly Neighbour[]): void {
    if (!this.#isSource) return;
    const waits = all.some(
      (neighbour) =>
        neighbour.wantedMask !== 0 &&
        !this.#sharedAmong.includes(neighbour) &&
        this.#hasCaughtUp(neighbour),
    );
    if (waits) this.#share(all, undefined);
  }

  #hasCaughtUp(neighbour: Neighbour): boolean {
    if (neighbour.pushMask !== 0) return true;
    const acked = neighbour.updateAcked(this.#context.now.monoMs);
    return this.#window.highest - acked <= CAUGHT_UP_FRAGMENTS;
  }

  #setPush(neighbour: Neighbour, mask: number, answer: boolean): void {
    if (neighbour.pushMask === mask && !answer) return;
    const added = mask & ~neighbour.pushMask;
    neighbour.pushMask = mask;
    if (added !== 0) neighbour.pushCursor = neighbour.pushFrom;
    const depths = new Uint8Array(this.#substreams).fill(DEPTH_NOT_GRANTED);
    for (let s = 0; s < this.#substreams; s++) {
      if ((mask & (1 << s)) !== 0) depths[s] = this.#depth(s);
    }
    neighbour.link.transmit(encodeFrame(ACCEPT, { tag: this.#tag, mask, depths }));
  }

  /** Hops from this node to the source in substream s. */
  #depth(s: number): number {
    if (this.#isSource) return 0;
    const partner = this.#partners[s];
    return partner === undefined ? DEPTH_NOT_GRANTED : (partner.depths[s] as number) + 1;
  }

  // ------------------------------------------------------------------------------ asking

  /** ACCEPT arrived: what the neighbour pushes to us from now on. */
  accepted(neighbour: Neighbour, accept: Accept, all: readonly Neighbour[]): void {
    const nowMs = this.#context.now.monoMs;
    const granted = (accept.mask & neighbour.askedMask) >>> 0;
    const superseded = new Set<Neighbour>();
    const before = neighbour.pullMask;
    neighbour.pullMask = granted;
    neighbour.awaitingAccept = false;
    for (let s = 0; s < this.#substreams; s++) {
      const bit = 1 << s;
      const depth = accept.depths[s] ?? DEPTH_NOT_GRANTED;
      neighbour.depths[s] = depth;
      if ((granted & bit) !== 0) {
        const other = this.#partners[s];
        if (other === neighbour) continue;
        if (other === undefined || neighbour.isSource || depth + 1 < (other.depths[s] as number)) {
          if (other !== undefined) superseded.add(other);
          this.#partners[s] = neighbour;
          neighbour.pullSinceMs = nowMs;
        } else {
          superseded.add(neighbour);
        }
      } else {
        if ((neighbour.askedMask & bit) !== 0) {
          const jitter = 1 + this.#context.rng.next();
          neighbour.refusedUntilMs[s] = nowMs + ASK_AGAIN_MS * jitter;
        }
        if ((before & bit) !== 0 && this.#partners[s] === neighbour) this.#lose(s, all);
      }
    }
    // The source peer knows for good what we would take; others are asked for what we lack.
    if (!neighbour.isSource) neighbour.askedMask = granted;
    for (const other of superseded) this.#askFor(other, this.#servedBy(other));
  }

  /** Asks for the substreams that nobody pushes. Called now and then, and when something changed. */
  seek(all: readonly Neighbour[], known: FragmentIndex): void {
    if (this.#isSource) return;
    const nowMs = this.#context.now.monoMs;
    this.#dropSilent(all, known);
    const source = all.find((neighbour) => neighbour.isSource && neighbour.mapKnown);
    if (source !== undefined && source.askedMask === 0) {
      this.#askFor(source, allSubstreams(this.#substreams));
      return;
    }
    const plans = new Map<Neighbour, number>();
    for (let s = 0; s < this.#substreams; s++) {
      if (this.#partners[s] !== undefined) continue;
      if (all.some((n) => !n.isSource && n.awaitingAccept && (n.askedMask & (1 << s)) !== 0))
        continue;
      const candidate = this.#candidate(all, plans, s, nowMs);
      if (candidate !== undefined) {
        plans.set(candidate, ((plans.get(candidate) ?? 0) | (1 << s)) >>> 0);
      }
    }
    for (const [neighbour, mask] of plans) {
      this.#askFor(neighbour, (this.#servedBy(neighbour) | mask) >>> 0);
    }
  }

  #candidate(
    all: readonly Neighbour[],
    plans: ReadonlyMap<Neighbour, number>,
    s: number,
    nowMs: number,
  ): Neighbour | undefined {
    let best: Neighbour | undefined;
    let bestLoad = 0;
    let ties = 0;
    for (const neighbour of all) {
      if (neighbour.isSource || !neighbour.mapKnown || neighbour.awaitingAccept) continue;
      if ((neighbour.refusedUntilMs[s] as number) > nowMs) continue;
      if ((neighbour.pushMask & (1 << s)) !== 0) continue;
      const load = bitCount(neighbour.pullMask) + bitCount(plans.get(neighbour) ?? 0);
      if (best === undefined || load < bestLoad) {
        best = neighbour;
        bestLoad = load;
        ties = 1;
      } else if (load === bestLoad) {
        ties++;
        if (this.#context.rng.below(ties) === 0) best = neighbour;
      }
    }
    return best;
  }

  /** Gives up partners that push nothing although there is something new. */
  #dropSilent(all: readonly Neighbour[], known: FragmentIndex): void {
    const nowMs = this.#context.now.monoMs;
    const missing = this.#window.firstMissing(this.#window.start, known) < known;
    if (!missing) {
      for (const neighbour of all) neighbour.pullSinceMs = Math.max(neighbour.pullSinceMs, nowMs);
      return;
    }
    for (const neighbour of all) {
      if (neighbour.pullMask === 0 || neighbour.isSource) continue;
      const activeMs = Math.max(neighbour.lastDataMs, neighbour.pullSinceMs);
      if (nowMs - activeMs < PARTNER_SILENT_MS) continue;
      for (let s = 0; s < this.#substreams; s++) {
        neighbour.refusedUntilMs[s] = nowMs + 4 * ASK_AGAIN_MS * (1 + this.#context.rng.next());
        if (this.#partners[s] === neighbour) this.#lose(s, all);
      }
      neighbour.pullMask = 0;
      this.#askFor(neighbour, 0);
    }
  }

  #askFor(neighbour: Neighbour, mask: number): void {
    if (neighbour.askedMask === mask && neighbour.awaitingAccept) return;
    neighbour.askedMask = mask;
    neighbour.awaitingAccept = mask !== 0;
    if (mask === 0) neighbour.pullMask = 0;
    const from = this.#window.firstMissing(this.#window.start, this.#window.limit);
    neighbour.link.transmit(encodeFrame(PARTNER, { tag: this.#tag, mask, from }));
  }

  #servedBy(neighbour: Neighbour): number {
    let mask = 0;
    for (let s = 0; s < this.#substreams; s++) {
      if (this.#partners[s] === neighbour) mask |= 1 << s;
    }
    return mask >>> 0;
  }

  /** Substream s has no partner any more: whom we fed it is told so. */
  #lose(s: number, all: readonly Neighbour[]): void {
    this.#partners[s] = undefined;
    for (const neighbour of all) {
      if ((neighbour.pushMask & (1 << s)) === 0) continue;
      this.#setPush(neighbour, (neighbour.pushMask & ~(1 << s)) >>> 0, false);
    }
  }
}

function bitCount(mask: number): number {
  let count = 0;
  for (let s = 0; s < SUBSTREAMS_MAX; s++) if ((mask & (1 << s)) !== 0) count++;
  return count;
}
