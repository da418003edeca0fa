/**
 * What may be freed, and who counts for it (delivery `complete`, rules a to c; `live`).
 *
 * Complete: fragment i may go once the own consumer took it and every neighbour in good standing
 * advertised i or declared a start above i. Each node decides for itself from its own links:
 * minima are never passed on, they would lock for ever in a circle. What may be freed stays as long
 * as there is room: newcomers start at the oldest fragment held.
 *
 * A neighbour that keeps the window full for `stallMs` without advancing is lagging: it no longer
 * counts, and is told what is gone. Who says that it is held back by others is given twice the time:
 * only the neighbours of the one that stands still shall find it lagging. Who is declined what it
 * asks for, for want of upload, stands still through no fault of its own: its time begins when it is
 * first sent what it needs next, or after six times as long. It counts again once it has caught up
 * with the window.
 *
 * Live: what has been known for `windowMs` leaves the window, and what is old makes room for what is
 * new, whoever still lacks it.
 */

import { FRAME_TYPES } from "../base/layout.ts";
import { BUSY_RETRY_MS, PING_MS, RANGE_COUNT_MAX } from "../base/limits.ts";
import type { FragmentIndex, MonoMs, PeerId } from "../base/units.ts";
import { encodeRanges } from "../protocol/r10-binary.ts";
import type { FragmentWindow } from "../stream/window.ts";
import type { PeerContext } from "./context.ts";
import type { Neighbour } from "./neighbour.ts";
import type { OverlaySettings } from "./settings.ts";

/** Freed, and granted, in sixteenths of the window. */
export const STEP_SHIFT = 4;

/** Fragments held whose mean size says something of the others. */
const MEAN_OF_MIN = 8;

/** A new neighbour that stands far behind is given this long to move. */
const CAME_LATE_MS = 2_500;

/** Who filled the window within this is named as the one that sets the pace. */
const HOLDER_MS = 1_000;

/** Who lives answers a PING by then. */
const SILENT_MS = PING_MS + 2_000;

/** Who was declined within this waits for its turn ... */
const DECLINED_MS = 4 * BUSY_RETRY_MS;
/** ... and gets no turn for so many times stallMs at most. */
const DECLINED_STALLS_MAX = 6;

/** Laggards remembered after their link is gone. */
const LAGGARDS_MAX = 1_024;

export class Retention {
  readonly #context: PeerContext;
  readonly #window: FragmentWindow;
  readonly #settings: OverlaySettings;
  readonly #tag: Uint8Array;
  readonly #leaves: (to: FragmentIndex) => void;
  #fullSinceMs: MonoMs | undefined;
  #heldBack = false;
  #holder: Neighbour | undefined;
  #holderMs: MonoMs = Number.NEGATIVE_INFINITY;
  readonly #laggards = new Set<PeerId>();

  /** `leaves` is called before all below `to` leaves the window. */
  constructor(
    context: PeerContext,
    window: FragmentWindow,
    settings: OverlaySettings,
    tag: Uint8Array,
    leaves: (to: FragmentIndex) => void,
  ) {
    this.#context = context;
    this.#window = window;
    this.#settings = settings;
    this.#tag = tag;
    this.#leaves = leaves;
  }

  /** Whether this peer lagged when it was heard of last, over whatever link. */
  wasLagging(peerId: PeerId): boolean {
    return this.#laggards.has(peerId);
  }

  #remember(changed: readonly Neighbour[]): Neighbour[] {
    for (const { peerId, lagging } of changed) {
      const oldest = this.#laggards.values().next().value;
      if (!lagging) this.#laggards.delete(peerId);
      else if (this.#laggards.size >= LAGGARDS_MAX && oldest !== undefined) {
        this.#laggards.delete(oldest);
      }
      if (lagging) this.#laggards.add(peerId);
    }
    return [...changed];
  }

  /** Whether this node is full because neighbours that count have not advanced. */
  get isHeldBack(): boolean {
    return this.#heldBack;
  }

  /**
   * Complete: the neighbour that this node's full window waits for; undefined when it waits for none.
   * One that always gets on a little is within its rights (rule c) and sets everybody's pace.
   */
  heldBackBy(neighbours: readonly Neighbour[]): Neighbour | undefined {
    const recent = this.#context.now.monoMs - this.#holderMs < HOLDER_MS;
    return recent ? neighbours.find((neighbour) => neighbour === this.#holder) : undefined;
  }

  /** Whether what a neighbour said stands still, and for how long nothing was heard of it. */
  silenceOf({ link }: Neighbour): { readonly isFresh: boolean; readonly silentMs: number } {
    const silentMs = Math.max(0, this.#context.now.monoMs - link.heardMs);
    return { isFresh: silentMs < SILENT_MS, silentMs };
  }

  /** Indices between the highest known one and the limit. */
  room(known: FragmentIndex): number {
    return this.#window.limit - Math.max(known, this.#window.highest);
  }

  /**
   * Frees what may go if room is short. `consumedTo`: the own consumer took all below. In steps of
   * a sixteenth of the window, unless `all`: credit then grows in steps, too. `expiredTo`, live: all
   * below is too old to be kept, whoever lacks it; undefined: nothing may be dropped yet.
   */
  free(
    neighbours: readonly Neighbour[],
    consumedTo: FragmentIndex,
    known: FragmentIndex,
    all: boolean,
    expiredTo: FragmentIndex | undefined = undefined,
  ): void {
    const window = this.#window;
    if (expiredTo !== undefined && expiredTo > window.start) this.#advance(neighbours, expiredTo);
    const span = Math.min(
      window.windowFragments,
      Math.floor(window.windowBytes / window.fragmentBytes),
    );
    const edge = expiredTo === undefined ? 0 : this.#edge(Math.max(known, window.highest));
    if (edge <= window.start) {
      if (this.room(known) * 2 > span) return;
      if (!all && consumedTo - window.start < span >> STEP_SHIFT) return;
    }
    const freeTo = Math.max(edge, Math.min(consumedTo, this.acknowledgedTo(neighbours)));
    const step = all ? 1 : Math.max(1, span >> STEP_SHIFT);
    if (freeTo - window.start >= step) this.#advance(neighbours, freeTo);
  }

  /**
   * Live: where the window has to start so that what reaches up to `reach` fits, with a quarter to
   * spare; 0 while it fits. What is missing counts like what is held, and like nothing while hardly
   * anything is: whoever catches up with small fragments has room for more of them than credit says.
   */
  #edge(reach: FragmentIndex): FragmentIndex {
    const window = this.#window;
    const { start, heldCount } = window;
    const meanBytes = heldCount < MEAN_OF_MIN ? 1 : window.heldBytes / heldCount;
    const capacity = Math.min(window.windowFragments, Math.floor(window.windowBytes / meanBytes));
    const stuck = window.limit <= reach && heldCount === reach - start;
    if (!stuck && reach - start <= capacity) return 0;
    return reach - Math.floor((capacity * 3) / 4);
  }

  /** Everything below this was advertised or left behind by all that count. */
  acknowledgedTo(neighbours: readonly Neighbour[]): FragmentIndex {
    let to = Number.POSITIVE_INFINITY;
    for (const neighbour of neighbours) {
      const acked = neighbour.updateAcked(this.#context.now.monoMs);
      if (!neighbour.lagging && acked < to) to = acked;
    }
    return to;
  }

  /** Rule (c): finds laggards. Returns those whose standing changed. */
  watch(
    neighbours: readonly Neighbour[],
    consumedTo: FragmentIndex,
    known: FragmentIndex,
  ): Neighbour[] {
    const nowMs = this.#context.now.monoMs;
    const changed: Neighbour[] = [];
    const acked = this.acknowledgedTo(neighbours);
    for (const neighbour of neighbours) {
      if (neighbour.lagging && neighbour.ackedTo > this.#window.start) {
        neighbour.lagging = false;
        neighbour.ackedAdvancedMs = nowMs;
        changed.push(neighbour);
      }
    }
    for (const neighbour of neighbours) {
      // Who has all there is does not stand still, however long there is nothing new.
      if (neighbour.ackedTo >= consumedTo) neighbour.ackedAdvancedMs = nowMs;
      if (!this.#cameTooLate(neighbour)) continue;
      neighbour.lagging = true;
      changed.push(neighbour);
    }
    const full = this.#settings.delivery === "complete" && this.room(known) <= 0;
    this.#heldBack = full && acked < consumedTo;
    if (this.#heldBack) {
      this.#holder = neighbours.find(({ lagging, ackedTo }) => !lagging && ackedTo === acked);
      this.#holderMs = nowMs;
    }
    if (!this.#heldBack) {
      this.#fullSinceMs = undefined;
      return this.#remember(changed);
    }
    this.#fullSinceMs ??= nowMs;
    if (nowMs - this.#fullSinceMs < this.#settings.stallMs) return this.#remember(changed);
    for (const neighbour of neighbours) {
      if (neighbour.lagging || neighbour.ackedTo >= consumedTo) continue;
      if (neighbour.ackedTo > this.#window.start) continue;
      if (this.#isOurDoing(neighbour, this.#fullSinceMs)) continue;
      // Who is held back by others gets time for those to be found out.
      // It says so as long as it says anything: one that was stopped can't take it back.
      const { ackedAdvancedMs, gaveMs, heldBack, link } = neighbour;
      const isExcused = heldBack && nowMs - link.heardMs < SILENT_MS;
      const patienceMs = this.#settings.stallMs * (isExcused ? 2 : 1);
      if (nowMs - Math.max(ackedAdvancedMs, this.#fullSinceMs, gaveMs) < patienceMs) continue;
      neighbour.lagging = true;
      changed.push(neighbour);
    }
    return this.#remember(changed);
  }

  /**
   * Whether it asks, and lacks what this node has had nothing to spare to send it. That ends: who is
   * always declined may see to that itself, by not taking what it is sent.
   */
  #isOurDoing({ gaveMs, ackedAdvancedMs, declinedMs }: Neighbour, fullSinceMs: MonoMs): boolean {
    const { monoMs } = this.#context.now;
    const standsMs = monoMs - Math.max(ackedAdvancedMs, fullSinceMs);
    if (standsMs >= DECLINED_STALLS_MAX * this.#settings.stallMs) return false;
    return gaveMs <= ackedAdvancedMs && monoMs - declinedMs < DECLINED_MS;
  }

  /**
   * Whether a neighbour that came lately stands with a full window before what this node still has:
   * it can't take any of it, so it is not waited for.
   */
  #cameTooLate(neighbour: Neighbour): boolean {
    if (this.#settings.delivery === "live" || neighbour.lagging || neighbour.heldBack) return false;
    if (!neighbour.mapKnown || neighbour.creditLimit === 0) return false;
    const nowMs = this.#context.now.monoMs;
    if (nowMs - neighbour.sinceMs > this.#settings.stallMs) return false;
    const movedMs = Math.max(neighbour.ackedAdvancedMs, neighbour.creditAdvancedMs);
    if (nowMs - movedMs < CAME_LATE_MS) return false;
    // One whose window ends where ours begins is merely slow: what it needs next is here.
    return neighbour.creditLimit < this.#window.start && neighbour.ackedTo <= this.#window.start;
  }

  #advance(neighbours: readonly Neighbour[], to: FragmentIndex): void {
    const from = this.#window.start;
    this.#leaves(to);
    this.#window.advance(to);
    for (const neighbour of neighbours) {
      const missed = Math.max(from, neighbour.remoteStart);
      if (!neighbour.mapKnown || neighbour.ackedTo >= to || missed >= to) continue;
      // Our start says the rest.
      const range = [missed, Math.min(to - missed, RANGE_COUNT_MAX)];
      if (neighbour.lagging) neighbour.lostSome = true;
      neighbour.link.transmit(encodeRanges(FRAME_TYPES.GONE, this.#tag, 0, range));
    }
  }
}
