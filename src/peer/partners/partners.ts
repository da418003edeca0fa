/**
 * Partners: who pushes which substream to this node.
 *
 * A peer that lacks a partner for some substreams asks neighbours that say they would grant them
 * (PARTNER; a further PARTNER replaces what was asked of that neighbour before), those nearest to
 * the source first, and of these the nearest in the network. The answer (ACCEPT, sent again whenever
 * it changes) says what is pushed and over how many hops. Now and then a partner is exchanged for one
 * that is nearer to the source by two hops or more; one that pushes nothing, or too late, is given up.
 *
 * No loops: only a node that is itself fed in a substream grants it, and whoever feeds others takes a
 * partner only where that is nearer to the source than itself ever was since it feeds them (the
 * feasibility condition of distance-vector routing): so it is none of those that hang on it, however
 * old the depths are that it knows. Who loses its partner keeps those it feeds for a moment; if it
 * finds no such partner it withdraws the substream from them and is free to take any. What a race
 * closes into a circle all the same grows in depth until DEPTH_MAX ends it.
 */

import { assert } from "../../base/assert.ts";
import { DEPTH_MAX } from "../../base/limits.ts";
import type { FragmentIndex, MonoMs } from "../../base/units.ts";
import type { Accept, Partner } from "../../protocol/r10.ts";
import { ACCEPT, DEPTH_NOT_GRANTED, encodeFrame, PARTNER } from "../../protocol/r10.ts";
import type { FragmentWindow } from "../../stream/window.ts";
import type { PeerContext } from "../context.ts";
import { checkAwaited, checkFeed } from "../invariants.ts";
import type { KnownTimes } from "../known-times.ts";
import type { Neighbour } from "../neighbour.ts";
import { allSubstreams } from "../settings.ts";
import { firstMissingOf, paceMs, turnMs } from "../substreams.ts";
import { bitCount, Grants } from "./grants.ts";
import { cost, isBetter } from "./preference.ts";
import { Shares } from "./shares.ts";
import { SourceShare } from "./source-share.ts";

/** Pushes that wait for so long are a backlog: nothing is left for requests. */
const STRAINED_MS = 300;
/** A neighbour that refused a substream is asked again after this, jittered. */
const ASK_AGAIN_MS = 500;
/** One that served it badly, after this. */
const BAD_AGAIN_MS = 4_000;
/** An ACCEPT is waited for so long. */
const ANSWER_MS = 3_000;
/** A partner that pushed nothing for this while it had something new is given up. */
const SILENT_MS = 2_500;
/** One that gets what is new, but not of this substream, after this. */
const UNFED_MS = 6_000;
/** A partner of which so many fragments had to be pulled elsewhere lately is given up. */
const OVERDUE_MAX = 24;
const OVERDUE_DECAY = 0.9;
/** Without a partner those who are fed are kept for this long. */
const ORPHAN_MS = 1_000;
/** Without a partner for so long, neighbours are asked that said they grant nothing. */
const DESPERATE_MS = 2_000;
/** Without a partner for so long, other members may be better. */
const LACKS_MS = 3_000;
/** A better partner is looked for this often, jittered. */
const IMPROVE_MS = 1_000;

interface Feed {
  partner: Neighbour | undefined;
  /** Hops to the source, by the last partner. */
  depth: number;
  /** The least that `depth` was since this node feeds somebody; DEPTH_NOT_GRANTED when it does not. */
  least: number;
  /** Since when there is no partner. */
  orphanMs: MonoMs;
  /** Fragments that were pulled elsewhere because the partner was late, lately. */
  overdue: number;
}

export class Partners {
  readonly #context: PeerContext;
  readonly #window: FragmentWindow;
  readonly #tag: Uint8Array;
  readonly #substreams: number;
  readonly #times: KnownTimes;
  readonly #shares: Shares | undefined;
  readonly #grants: Grants | undefined;
  readonly #feeds: Feed[];
  /** Who pushes each substream to us. */
  readonly #partners: (Neighbour | undefined)[];
  /** Whose ACCEPT is still to come. */
  readonly #awaited = new Set<Neighbour>();
  #improveMs: MonoMs = 0;
  readonly #ofSource: SourceShare;

  constructor(
    context: PeerContext,
    window: FragmentWindow,
    tag: Uint8Array,
    substreams: number,
    isSource: boolean,
    times: KnownTimes,
  ) {
    this.#context = context;
    this.#window = window;
    this.#tag = tag;
    this.#substreams = substreams;
    this.#times = times;
    this.#partners = new Array(substreams).fill(undefined);
    this.#feeds = Array.from({ length: substreams }, () => ({
      partner: undefined,
      depth: DEPTH_NOT_GRANTED,
      least: DEPTH_NOT_GRANTED,
      orphanMs: context.now.monoMs,
      overdue: 0,
    }));
    const view = {
      depth: (s: number) => (this.#feeds[s] as Feed).depth,
      partner: (s: number) => this.#partners[s],
      turnMs: () => turnMs(times, substreams, context.now.monoMs),
      bytesPerMs: () => {
        const intervalMs = paceMs(times, context.now.monoMs);
        return intervalMs > 0 ? window.heldBytes / Math.max(1, window.heldCount) / intervalMs : 0;
      },
    };
    this.#shares = isSource ? new Shares(context, window, substreams) : undefined;
    this.#grants = isSource ? undefined : new Grants(context, tag, substreams, view);
    this.#ofSource = new SourceShare(substreams, this.#grants?.salt ?? 0);
  }

  get partners(): readonly (Neighbour | undefined)[] {
    return this.#partners;
  }

  get awaited(): ReadonlySet<Neighbour> {
    return this.#awaited;
  }

  /** Copies of a substream that this node bears; 0 at the source peer. */
  get copiesMax(): number {
    return this.#grants?.copiesMax ?? 0;
  }

  /** Hops to the source in substream s; 0 at the source peer, DEPTH_NOT_GRANTED when not fed. */
  depth(s: number): number {
    return this.#shares === undefined ? (this.#feeds[s] as Feed).depth : 0;
  }

  /** Throws AssertionError when what is derived differs from what `all` neighbours say. */
  checkInvariants(all: readonly Neighbour[]): void {
    for (const [s, feed] of this.#feeds.entries()) {
      assert(feed.partner === this.#partners[s], "one partner for a substream");
      checkFeed(feed, s, all, this.#shares !== undefined);
    }
    checkAwaited(this.#awaited, all);
  }

  // ------------------------------------------------------------------------------ granting

  /** PARTNER arrived: its mask is all that the neighbour wants of us from now on. */
  wanted(
    neighbour: Neighbour,
    { mask, from, until }: Pick<Partner, "mask" | "from" | "until">,
    all: readonly Neighbour[],
  ): void {
    // A tail counts as no copy: it ends where this node's window does, whatever was asked for.
    const end = Math.min(until, this.#window.limit);
    neighbour.wantsPushed((mask & allSubstreams(this.#substreams)) >>> 0, from, end);
    if (this.#grants === undefined) this.#share(all, neighbour);
    else this.#grants.wanted(neighbour, all);
    this.#keepFeasible(all);
  }

  /** Notes how near to the source this node was since it feeds somebody. */
  #keepFeasible(all: readonly Neighbour[]): void {
    let pushed = 0;
    for (const neighbour of all) pushed |= neighbour.pushMask;
    for (const [s, feed] of this.#feeds.entries()) {
      const feeds = (pushed & (1 << s)) !== 0;
      feed.least = feeds ? Math.min(feed.least, feed.depth) : DEPTH_NOT_GRANTED;
    }
  }

  /** A neighbour left: its share goes to others. */
  gone(neighbour: Neighbour, all: readonly Neighbour[]): void {
    for (let s = 0; s < this.#substreams; s++) {
      if (this.#partners[s] === neighbour) this.#lose(s);
    }
    this.#awaited.delete(neighbour);
    if (this.#shares !== undefined) this.#share(all, undefined);
  }

  /** Whether pushes wait, though their links take what they can: the way out has nothing to spare. */
  isStrained(all: readonly Neighbour[]): boolean {
    const nowMs = this.#context.now.monoMs;
    return all.some(
      (neighbour) =>
        nowMs - neighbour.roomMs >= STRAINED_MS &&
        this.#waits(neighbour) &&
        neighbour.link.drains(nowMs),
    );
  }

  /** Whether something is to be pushed to `neighbour` and may not leave yet. */
  #waits({ pushMask, lane }: Neighbour): boolean {
    return pushMask !== 0 && (lane.waits || this.#context.upload.isSaturated);
  }

  /** Called now and then. */
  watch(all: readonly Neighbour[]): void {
    for (const neighbour of all) {
      if (!this.#waits(neighbour)) neighbour.roomMs = this.#context.now.monoMs;
    }
    if (this.#shares?.isStale(all) === true) this.#share(all, undefined);
    this.#grants?.watch(all);
  }

  #share(all: readonly Neighbour[], asker: Neighbour | undefined): void {
    const masks = (this.#shares as Shares).share(all);
    for (const neighbour of all) {
      const mask = masks.get(neighbour) ?? 0;
      if (neighbour.pushMask === mask && neighbour !== asker) continue;
      neighbour.setPush(mask);
      const depths = new Uint8Array(this.#substreams).fill(DEPTH_NOT_GRANTED);
      for (let s = 0; s < this.#substreams; s++) if ((mask & (1 << s)) !== 0) depths[s] = 0;
      const accept = {
        tag: this.#tag,
        mask,
        depths,
        open: 0,
        wanted: neighbour.wantedMask,
        spare: 0,
      };
      neighbour.link.transmit(encodeFrame(ACCEPT, accept));
    }
  }

  // ------------------------------------------------------------------------------ asking

  /** ACCEPT arrived: what the neighbour pushes to us from now on, and what it would. */
  accepted(neighbour: Neighbour, accept: Accept, all: readonly Neighbour[]): void {
    const nowMs = this.#context.now.monoMs;
    const granted = (accept.mask & neighbour.askedMask) >>> 0;
    // One that crossed our PARTNER says nothing of what that asked for.
    const answers = accept.wanted === undefined || accept.wanted === neighbour.askedMask;
    // Whom to take back what was asked for, and from which index on another pushes it.
    const superseded = new Map<Neighbour, FragmentIndex>();
    const before = neighbour.pullMask;
    neighbour.pullMask = granted;
    neighbour.openMask = accept.open ?? 0xffff_ffff;
    neighbour.spareCopies = accept.spare ?? 0;
    if (answers) this.#awaits(neighbour, false);
    for (let s = 0; s < this.#substreams; s++) {
      const bit = 1 << s;
      const depth = accept.depths[s] ?? DEPTH_NOT_GRANTED;
      neighbour.depths[s] = depth;
      if ((granted & bit) !== 0) {
        this.#offered(s, neighbour, depth, superseded);
      } else {
        if (answers && (neighbour.askedMask & bit) !== 0) {
          const jitter = 1 + this.#context.rng.next();
          neighbour.refusedUntilMs[s] = nowMs + ASK_AGAIN_MS * jitter;
        }
        if ((before & bit) !== 0 && this.#partners[s] === neighbour) this.#lose(s);
      }
    }
    for (const [other, until] of superseded) {
      this.#askFor(other, this.#servedBy(other), until);
    }
    this.watch(all);
  }

  /** `neighbour` pushes substream s over `depth` hops: it is the partner, or its depth changed. */
  #offered(
    s: number,
    neighbour: Neighbour,
    depth: number,
    superseded: Map<Neighbour, FragmentIndex>,
  ): void {
    const feed = this.#feeds[s] as Feed;
    const other = this.#partners[s];
    if (other === neighbour) {
      feed.depth = depth + 1;
      feed.least = Math.min(feed.least, feed.depth);
      if (feed.depth < DEPTH_MAX) return;
      // It runs in a circle.
      superseded.set(neighbour, 0);
      this.#lose(s);
      return;
    }
    const feasible = depth < feed.least && (neighbour.pushMask & (1 << s)) === 0;
    if (!feasible || depth + 1 >= DEPTH_MAX) {
      superseded.set(neighbour, 0);
      return;
    }
    const nowMs = this.#context.now.monoMs;
    neighbour.tookOver[s] = undefined;
    if (other !== undefined) {
      const from = neighbour.pullFrom[s] as FragmentIndex;
      superseded.set(other, Math.max(superseded.get(other) ?? 0, from));
      neighbour.tookOver[s] = other;
    }
    this.#partners[s] = neighbour;
    feed.partner = neighbour;
    feed.depth = depth + 1;
    feed.least = Math.min(feed.least, feed.depth);
    feed.overdue = 0;
    neighbour.pullSinceMs = nowMs;
  }

  /** Whether neighbours do not have partners for all substreams: more of them are welcome. */
  get lacks(): boolean {
    const nowMs = this.#context.now.monoMs;
    return this.#feeds.some(
      ({ partner, orphanMs }) => partner === undefined && nowMs - orphanMs >= LACKS_MS,
    );
  }

  /** Asks for the substreams that nobody pushes. Called now and then, and when something changed. */
  seek(all: readonly Neighbour[], known: FragmentIndex): void {
    if (this.#grants === undefined) return;
    const nowMs = this.#context.now.monoMs;
    this.#keepFeasible(all);
    this.#dropBad(all, known);
    const source = all.find((neighbour) => neighbour.isSource && neighbour.mapKnown);
    const ofSource = this.#ofSource.mask(source?.pullMask ?? 0, this.#grants.takeBears(), nowMs);
    if (source !== undefined && source.askedMask !== ofSource) {
      this.#askOfSource(source, ofSource);
      return;
    }
    const improves = nowMs >= this.#improveMs;
    if (improves) this.#improveMs = nowMs + IMPROVE_MS * (1 + this.#context.rng.next());
    const plans = new Map<Neighbour, number>();
    for (let s = 0; s < this.#substreams; s++) {
      const bit = 1 << s;
      const feed = this.#feeds[s] as Feed;
      if (feed.partner !== undefined && (!improves || feed.partner.isSource)) continue;
      if (feed.partner === undefined && nowMs - feed.orphanMs >= ORPHAN_MS) this.#abandon(s, all);
      const asked = (n: Neighbour) => !n.isSource && n.awaitingAccept && (n.askedMask & bit) !== 0;
      if (all.some(asked)) continue;
      const candidate = this.#candidate(all, plans, s, known);
      if (candidate === undefined) continue;
      plans.set(candidate, ((plans.get(candidate) ?? 0) | bit) >>> 0);
    }
    for (const [neighbour, mask] of plans) {
      this.#askFor(neighbour, (this.#servedBy(neighbour) | mask) >>> 0);
    }
  }

  /** Fragments of substream s were asked for elsewhere since its partner let them lie. */
  overdue(s: number): void {
    (this.#feeds[s] as Feed).overdue++;
  }

  #candidate(
    all: readonly Neighbour[],
    plans: ReadonlyMap<Neighbour, number>,
    s: number,
    known: FragmentIndex,
  ): Neighbour | undefined {
    const nowMs = this.#context.now.monoMs;
    const feed = this.#feeds[s] as Feed;
    const bit = 1 << s;
    const desperate = feed.partner === undefined && nowMs - feed.orphanMs >= DESPERATE_MS;
    let best: Neighbour | undefined;
    let bestScore = Number.POSITIVE_INFINITY;
    let nearest = Number.POSITIVE_INFINITY;
    let ties = 1;
    for (const neighbour of all) {
      if (neighbour.isSource || !neighbour.mapKnown || neighbour.lagging) continue;
      // One that gets nothing new has nothing to hand on, whatever it says.
      if (neighbour.remoteHighest < known && nowMs - neighbour.advancedMs >= SILENT_MS) continue;
      if (neighbour.awaitingAccept || (neighbour.pushMask & bit) !== 0) continue;
      if ((neighbour.refusedUntilMs[s] as number) > nowMs) continue;
      const isOpen = (neighbour.openMask & bit) !== 0;
      if (!isOpen && !desperate) continue;
      const depth = neighbour.depths[s] as number;
      if (depth >= feed.least && depth < DEPTH_NOT_GRANTED) continue;
      // A partner is exchanged for one that is better by more than what wavers.
      if (feed.partner !== undefined && !isBetter(neighbour, feed.partner, s)) continue;
      const load = bitCount(neighbour.pullMask) + bitCount(plans.get(neighbour) ?? 0);
      const score = (isOpen ? cost(neighbour, s) : DEPTH_NOT_GRANTED) * 64 + load;
      if (score > bestScore) continue;
      const distance = this.#context.distanceTo(neighbour.peerId);
      if (score === bestScore && distance > nearest) continue;
      ties = score < bestScore || distance < nearest ? 1 : ties + 1;
      if (ties > 1 && this.#context.rng.below(ties) !== 0) continue;
      best = neighbour;
      bestScore = score;
      nearest = distance;
    }
    return best;
  }

  /** Gives up partners that push nothing although there is something new, or too late. */
  #dropBad(all: readonly Neighbour[], known: FragmentIndex): void {
    const nowMs = this.#context.now.monoMs;
    for (const feed of this.#feeds) feed.overdue *= OVERDUE_DECAY;
    for (const neighbour of all) {
      const lateAnswer = neighbour.awaitingAccept && nowMs - neighbour.askedMs >= ANSWER_MS;
      if (lateAnswer && !neighbour.isSource) this.#giveUp(neighbour, neighbour.askedMask);
      if (neighbour.pullMask === 0 || neighbour.isSource) continue;
      const activeMs = Math.max(neighbour.lastDataMs, neighbour.pullSinceMs);
      const silent = nowMs - activeMs >= SILENT_MS;
      let bad = 0;
      for (let s = 0; s < this.#substreams; s++) {
        const feed = this.#feeds[s] as Feed;
        if (feed.partner !== neighbour) continue;
        if (feed.overdue >= OVERDUE_MAX || (silent && this.#owes(neighbour, s, known, nowMs))) {
          bad |= 1 << s;
        }
      }
      if (bad !== 0) this.#giveUp(neighbour, bad >>> 0);
    }
  }

  /** Whether `neighbour` could have pushed something of substream s for long. */
  #owes(neighbour: Neighbour, s: number, known: FragmentIndex, nowMs: MonoMs): boolean {
    const from = Math.max(this.#window.start, neighbour.pullFrom[s] as FragmentIndex);
    if (from >= known) return false;
    const index = firstMissingOf(this.#window, this.#substreams, s, from, known);
    if (index >= known) return false;
    // What it lacks itself its own partner owes it: that is for it to see to, first.
    const isFed = nowMs - neighbour.advancedMs < SILENT_MS;
    const patienceMs = isFed && !neighbour.holds(index) ? UNFED_MS : SILENT_MS;
    return index < this.#times.knownBefore(patienceMs, nowMs);
  }

  #giveUp(neighbour: Neighbour, mask: number): void {
    const nowMs = this.#context.now.monoMs;
    for (let s = 0; s < this.#substreams; s++) {
      if ((mask & (1 << s)) === 0) continue;
      neighbour.refusedUntilMs[s] = nowMs + BAD_AGAIN_MS * (1 + this.#context.rng.next());
      if (this.#partners[s] === neighbour) this.#lose(s);
    }
    neighbour.pullMask = (neighbour.pullMask & ~mask) >>> 0;
    this.#awaits(neighbour, false);
    this.#askFor(neighbour, this.#servedBy(neighbour));
  }

  /** The rest others are to have of it: who hands them on brings them here, too. */
  #askOfSource(source: Neighbour, mask: number): void {
    for (let s = 0; s < this.#substreams; s++) {
      if (this.#partners[s] === source && (mask & (1 << s)) === 0) this.#lose(s);
    }
    this.#askFor(source, mask);
  }

  #askFor(neighbour: Neighbour, mask: number, until: FragmentIndex = 0): void {
    if (neighbour.askedMask === mask && (neighbour.awaitingAccept || mask === 0)) return;
    const adds = (mask & ~neighbour.pullMask) !== 0;
    neighbour.askedMask = mask;
    neighbour.askedMs = this.#context.now.monoMs;
    this.#awaits(neighbour, adds);
    neighbour.pullMask = (neighbour.pullMask & mask) >>> 0;
    const window = this.#window;
    // A member pushes what is new, what lies behind is pulled from many; the source peer may be the
    // only one that has it.
    const missing = window.firstMissing(window.start, window.limit);
    const from = neighbour.isSource ? missing : Math.max(missing, window.highest);
    for (let s = 0; s < this.#substreams; s++) {
      if ((mask & ~neighbour.pullMask & (1 << s)) !== 0) neighbour.pullFrom[s] = from;
    }
    neighbour.link.transmit(encodeFrame(PARTNER, { tag: this.#tag, mask, from, until }));
  }

  #awaits(neighbour: Neighbour, isAwaited: boolean): void {
    neighbour.awaitingAccept = isAwaited;
    if (isAwaited) this.#awaited.add(neighbour);
    else this.#awaited.delete(neighbour);
  }

  #servedBy(neighbour: Neighbour): number {
    let mask = 0;
    for (let s = 0; s < this.#substreams; s++) {
      if (this.#partners[s] === neighbour) mask |= 1 << s;
    }
    return mask >>> 0;
  }

  /** Substream s has no partner any more; those who are fed are kept while another is sought. */
  #lose(s: number): void {
    const feed = this.#feeds[s] as Feed;
    this.#partners[s] = undefined;
    feed.partner = undefined;
    feed.orphanMs = this.#context.now.monoMs;
    feed.overdue = 0;
  }

  /** No partner was found for substream s: whom we fed it is told so. */
  #abandon(s: number, all: readonly Neighbour[]): void {
    const feed = this.#feeds[s] as Feed;
    if (feed.depth === DEPTH_NOT_GRANTED) return;
    feed.depth = DEPTH_NOT_GRANTED;
    feed.least = DEPTH_NOT_GRANTED;
    this.#grants?.withdraw(s, all);
  }
}
