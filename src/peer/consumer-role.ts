/**
 * The consuming side of an overlay: where to start, handing data to the consumer at its own pace,
 * and what to do about fragments that nobody holds any more (rule d).
 *
 * A consumer that does not take holds its window and so (complete) the session back; in live what
 * leaves the window meanwhile is dropped. A hole that no neighbour can fill for `repairMs`, after
 * asking for other holders, is given up and reported; in live so is each that is late.
 */

import { LocalUsageError } from "../base/errors.ts";
import { HANDSHAKE_TIMEOUT_MS } from "../base/limits.ts";
import type { FragmentIndex, MonoMs } from "../base/units.ts";
import { Assembler } from "../stream/assembler.ts";
import { FragmentCursor } from "../stream/fragment-cursor.ts";
import { standingOf } from "../stream/source-book.ts";
import type { FragmentWindow } from "../stream/window.ts";
import type { PeerEvent, Take, TakeFragment } from "./commands.ts";
import type { PeerContext } from "./context.ts";
import type { KnownTimes } from "./known-times.ts";
import type { Neighbour } from "./neighbour.ts";
import type { OverlayOptions } from "./overlay-options.ts";
import type { OverlaySettings, StartFrom } from "./settings.ts";

/** After the first buffermap others get this long to tell theirs before the start is chosen. */
const START_DELAY_MS = 100;
/** Complete: so long at most for links that are being opened and maps that are under way. */
const START_PATIENCE_MS = 2_000;
const NEED_AGAIN_MS = 2_000;
/** The newest index, which nothing waits behind, is looked for less often when that took long. */
const NEED_NEWEST_AGAIN_MS = 30_000;
/** Complete: a hole that all neighbours wait for is given up after so many times repairMs. */
const SHARED_REPAIRS = 3;
/** Live, with a download limit: what is left out reaches to what was known for this part of the time. */
const LEFT_OUT_PART = 0.5;
/** A hole is passed so long before it leaves the window: what lies behind it is taken meanwhile. */
const PASS_AHEAD_MS = 250;

export class ConsumerRole {
  readonly #context: PeerContext;
  readonly #window: FragmentWindow;
  readonly #settings: OverlaySettings;
  readonly #from: StartFrom | undefined;
  readonly #times: KnownTimes;
  /** Live: what is missing so long after it was known is late. */
  readonly #lateMs: number;
  /** Takes data out of fragments, or whole fragments. */
  #assembler: Assembler | FragmentCursor;
  readonly #forwards: boolean;
  #hasTaken = false;
  #startAtMs: MonoMs | undefined;
  #started = false;
  #startIndex: FragmentIndex = 0;
  #hungry = false;
  #endTaken = false;
  #orphan: FragmentIndex = -1;
  #orphanSinceMs: MonoMs = 0;
  /** The first missing index that no reliable neighbour holds; -1 when there is none. */
  #unserved: FragmentIndex = -1;
  #unservedSinceMs: MonoMs = 0;
  /** Its first neighbours held nothing. */
  #sawNothing = false;
  /** How far the stream reached when the start was chosen: what came after that is owed. */
  #edgeIndex: FragmentIndex = 0;
  /** Something was there for the consumer, whether it took it or not. */
  #couldTake = false;
  #hadFrom: FragmentIndex = 0;
  /** END came when what lies behind it had been given up. */
  #endPassed = false;
  /** The start has moved, and that is to be told. */
  #startsLater = false;
  #neededMs: MonoMs = Number.NEGATIVE_INFINITY;

  /** `from` undefined: as the delivery has it, the oldest (complete) or the live edge. */
  constructor(
    context: PeerContext,
    window: FragmentWindow,
    settings: OverlaySettings,
    { from, consume, before }: Pick<OverlayOptions, "from" | "consume" | "before">,
    times: KnownTimes,
  ) {
    this.#context = context;
    this.#window = window;
    this.#settings = settings;
    this.#from = from;
    this.#times = times;
    const { maxLagMs, windowMs } = settings;
    this.#lateMs = Math.min(maxLagMs, Math.max(windowMs / 2, windowMs - PASS_AHEAD_MS));
    this.#forwards = !consume;
    this.#assembler = consume
      ? new Assembler(window, window.start, before)
      : new FragmentCursor(window, window.start);
  }

  get started(): boolean {
    return this.#started;
  }
  /** It chose where to start, and there was nothing for the consumer yet. */
  get gotNothing(): boolean {
    return this.#started && !this.#couldTake && this.#assembler.head === this.#startIndex;
  }
  /** Everything below was taken by the consumer. */
  get consumedTo(): FragmentIndex {
    return this.#assembler.head;
  }
  /**
   * From there on it had all without a gap: where it began, or one past the last gap. Live: a gap that
   * its window has not passed yet is no other than those that it will have over any link.
   */
  get hadFrom(): FragmentIndex {
    const live = this.#settings.delivery === "live";
    return live ? Math.min(this.#hadFrom, this.#window.start) : this.#hadFrom;
  }
  /** Whether END was taken. */
  get ended(): boolean {
    return this.#endTaken;
  }

  /** Whether nobody holds what is to be taken next. */
  get lacksNext(): boolean {
    return this.#orphan >= 0 && this.#orphan === this.#assembler.head;
  }

  get assembler(): Assembler | FragmentCursor {
    return this.#assembler;
  }

  /** A first buffermap came. */
  mapArrived(): void {
    if (!this.#started) this.#startAtMs ??= this.#context.now.monoMs + START_DELAY_MS;
  }

  /** When the start is to be chosen; Infinity when it is, or nothing is known yet. */
  get startMs(): MonoMs {
    return this.#started ? Number.POSITIVE_INFINITY : (this.#startAtMs ?? Number.POSITIVE_INFINITY);
  }

  /**
   * Chooses where to start: the oldest fragment held by any neighbour, or the live `edge`. Undefined
   * while no neighbour told a map that says something; "gone" when the start of the stream was asked
   * for and is gone.
   *
   * Complete: whoever is still to tell its map (`opening`: links to others come up) may be the only
   * one that keeps the oldest, and keeps it for this node: the source peer that waited for it.
   */
  chooseStart(
    neighbours: readonly Neighbour[],
    opening: boolean,
    edge: FragmentIndex,
  ): FragmentIndex | "gone" | undefined {
    const known = neighbours.filter((neighbour) => neighbour.mapKnown);
    if (known.length === 0) return undefined;
    const live = this.#settings.delivery === "live";
    const from = this.#from ?? (live ? "live" : "oldest");
    const more = opening || known.length < neighbours.length;
    if (more && !live && from !== "live" && !this.#waitedLong) return undefined;
    // Who would push has chosen its own start: if it has nothing, there is nothing yet.
    const informed = known.some((n) => n.isSource || n.remoteHighest > 0 || n.openMask !== 0);
    if (from === "live" && !informed) {
      // Maps of newcomers like this one say nothing of the edge.
      this.#sawNothing = true;
      return undefined;
    }
    let start = edge;
    this.#edgeIndex = edge;
    // What those have who had nothing came after this node did; the source peer knows the edge.
    const waited = this.#sawNothing && !known.some((neighbour) => neighbour.isSource);
    if (from !== "live" || waited) {
      const oldest = oldestCovered(known, start);
      // Live: the very oldest would be gone before they came.
      const soonGone = from === "oldest" && live;
      start = soonGone && oldest > 0 ? oldest + Math.ceil((start - oldest) / 4) : oldest;
      // Where those begin who came as late lies the newest of what was there before: it is not owed.
      if (waited && start === this.#edgeIndex && start > 0) this.#edgeIndex++;
    }
    if (this.#from === "start" && start > 0) return "gone";
    return start;
  }

  get #waitedLong(): boolean {
    const sinceMs = (this.#startAtMs as MonoMs) - START_DELAY_MS;
    return this.#context.now.monoMs - sinceMs >= START_PATIENCE_MS;
  }

  /**
   * From where on fragments are wanted by a consumer that starts at `start`: at the edge the newest of
   * what was there before is wanted, too. It may be END, after which nothing comes.
   */
  wantedFrom(start: FragmentIndex, neighbours: readonly Neighbour[]): FragmentIndex {
    const held = ({ mapKnown, remoteStart, remoteHighest }: Neighbour) =>
      mapKnown && remoteStart < start && remoteHighest >= start;
    return start === this.#edgeIndex && neighbours.some(held) ? start - 1 : start;
  }

  start(index: FragmentIndex): void {
    this.#started = true;
    this.#hadFrom = this.#window.start;
    this.#startIndex = index;
    this.#assembler.startAt(index);
  }

  /** END is here: who began past it came when all was over, and begins with it. */
  endStored(index: FragmentIndex): void {
    if (!this.#started || this.#endTaken || index >= this.#assembler.head) return;
    if (!this.gotNothing) {
      // It was told of more than there is, and gave up END with that.
      this.#endPassed = true;
      return;
    }
    this.#startIndex = index;
    this.#assembler.startAt(index);
  }

  take(command: Take | TakeFragment): PeerEvent[] {
    if (this.#forwards) throw new LocalUsageError("USAGE", { detail: "this peer only forwards" });
    if (command.kind === "takeFragment") return this.#takeFragment(command);
    this.#hasTaken = true;
    if (!this.#started || this.#endTaken) {
      this.#hungry = !this.#endTaken;
      return [];
    }
    const { monoMs } = this.#context.now;
    const live = this.#settings.delivery === "live";
    if (live) this.#passLate();
    let batch = this.#assembler.next(monoMs);
    while (batch === undefined && live && this.#passLate()) batch = this.#assembler.next(monoMs);
    if (batch !== undefined) {
      command.batch = batch;
      command.sourceOf = this.#sourceOf;
    } else {
      this.#hungry = true;
    }
    return this.#report();
  }

  #takeFragment(command: TakeFragment): PeerEvent[] {
    if (this.#assembler instanceof Assembler) {
      if (this.#hasTaken) throw new LocalUsageError("USAGE", { detail: "data were taken before" });
      this.#assembler.close();
      this.#assembler = new FragmentCursor(this.#window, this.#assembler.head);
    }
    command.fragment = undefined;
    if (command.release) this.#assembler.release();
    else if (this.#started && !this.#endTaken) command.fragment = this.#assembler.nextFragment();
    this.#hungry = command.fragment === undefined && !command.release && !this.#endTaken;
    return this.#report();
  }

  /** A peer that only forwards is done with a fragment as soon as it is there. */
  forward(): PeerEvent[] {
    if (!this.#forwards || !this.#started || this.#endTaken) return [];
    if (this.#assembler instanceof FragmentCursor) this.#assembler.forward();
    return this.#report();
  }

  /**
   * The window is about to start at `to`. A peer that only forwards loses what never came of what
   * leaves; the rest it passed on.
   */
  leaves(to: FragmentIndex): void {
    const cursor = this.#assembler;
    if (!this.#forwards || !this.#started || !(cursor instanceof FragmentCursor)) return;
    for (cursor.forward(); cursor.head < to && !cursor.ended; cursor.forward()) {
      this.#giveUp(cursor.head, this.#window.nextSet(this.#window.heldMap, cursor.head, to));
    }
  }

  /** Whether the consumer waits and something is there for it now; it is told once. */
  wakes(): boolean {
    if (!this.#started || (this.#couldTake && !this.#hungry)) return false;
    if (!this.#assembler.readable) return false;
    this.#couldTake = true;
    const waits = this.#hungry;
    this.#hungry = false;
    return waits;
  }

  /** Like wakes(), for data past a hole: only a try shows. Called now and then. */
  wakesForScan(): boolean {
    if (!this.#hungry || !this.#started || this.#assembler.sources.size < 2) return false;
    if (this.#window.highest <= this.#assembler.head) return false;
    this.#hungry = false;
    return true;
  }

  /**
   * Rules (d) and, live, lateness: gives up what can't come. `neighbours`: those whose word on what
   * they hold counts. `reliable`: of them, those that answer: what nobody else holds is looked for
   * at other holders already, but not given up. `mayCome`: links to other holders are `opening`, or
   * the source peer may start `again` with what was lost with it, and nothing is given up.
   */
  repair(
    neighbours: readonly Neighbour[],
    reliable: readonly Neighbour[],
    known: FragmentIndex,
    mayCome: { readonly opening: boolean; readonly again: boolean },
  ): PeerEvent[] {
    if (!this.#started || this.#endTaken) return [];
    const head = this.#assembler.head;
    const missing = this.#window.firstMissing(head, Math.max(known, head));
    const events: PeerEvent[] = [];
    if (missing >= known) {
      this.#orphan = -1;
      this.#unserved = -1;
    } else {
      const isNewest = missing === known - 1;
      this.#watchOrphan(missing, neighbours, isNewest);
      this.#seekHolders(missing, reliable, isNewest, events);
    }
    const live = this.#settings.delivery === "live";
    if (!live && this.#window.start > head) this.#skipTo(this.#window.start);
    // Who does not take hears of what it lost when it takes again: of all of it at once.
    if (live && this.#hungry) while (this.#passLate());
    if (this.lacksNext && !mayCome.again) {
      const nowMs = this.#context.now.monoMs;
      const from = this.#assembler.head;
      const repairs = this.#isWaitedFor(from, neighbours) ? SHARED_REPAIRS : 1;
      // Who was named as another holder gets the time that a handshake may take to show it.
      const openingMs = mayCome.opening ? HANDSHAKE_TIMEOUT_MS : 0;
      if (nowMs - this.#orphanSinceMs >= repairs * this.#settings.repairMs + openingMs) {
        const next = this.#nextAvailable(from, neighbours, known);
        this.#giveUp(from, Math.min(next, known - 1));
        this.#orphan = -1;
      }
    }
    events.push(...this.#report());
    return events;
  }

  close(): void {
    this.#assembler.close();
  }

  /** [head, next) will not come: a gap, or for a newcomer that took nothing yet, a later start. */
  #giveUp(head: FragmentIndex, next: FragmentIndex): void {
    const owedFrom = this.#settings.delivery === "live" ? this.#edgeIndex : next;
    const later = Math.min(next, owedFrom);
    const newcomer = head === this.#startIndex && this.#from !== "start" && !this.#couldTake;
    if (newcomer && later > head) {
      this.#startIndex = later;
      this.#assembler.startAt(later);
      this.#startsLater = true;
    }
    this.#skipTo(next);
  }

  #skipTo(index: FragmentIndex): void {
    this.#assembler.skipTo(index);
    this.#hadFrom = index;
  }

  /**
   * Complete: whether all `neighbours` wait for fragment `index`, too. It may be slow on its way to
   * one of them; the first that gives it up gives all of them leave to. What the source peer holds
   * that just came may be about to be told.
   */
  #isWaitedFor(index: FragmentIndex, neighbours: readonly Neighbour[]): boolean {
    if (this.#settings.delivery === "live" || neighbours.length === 0) return false;
    return neighbours.every(({ isSource, mapKnown, remoteStart }) =>
      mapKnown ? remoteStart <= index : isSource,
    );
  }

  readonly #sourceOf = (row: number) => this.#assembler.sourceOf(row);

  /** The newest index stays wanted, at least until another comes: it may be END. */
  #watchOrphan(missing: FragmentIndex, neighbours: readonly Neighbour[], isNewest: boolean): void {
    if (neighbours.some((neighbour) => neighbour.holds(missing))) {
      this.#orphan = -1;
    } else if (this.#orphan !== missing || isNewest) {
      this.#orphan = missing;
      this.#orphanSinceMs = this.#context.now.monoMs;
    }
  }

  /** Asks the OMS for other holders of what no neighbour would send. */
  #seekHolders(
    missing: FragmentIndex,
    reliable: readonly Neighbour[],
    isNewest: boolean,
    events: PeerEvent[],
  ): void {
    const nowMs = this.#context.now.monoMs;
    if (reliable.some((neighbour) => neighbour.holds(missing))) {
      this.#unserved = -1;
      return;
    }
    if (this.#unserved !== missing) {
      this.#unserved = missing;
      this.#unservedSinceMs = nowMs;
    }
    const waitedMs = nowMs - this.#unservedSinceMs;
    const isLong = isNewest && waitedMs > SHARED_REPAIRS * this.#settings.repairMs;
    const againMs = isLong ? NEED_NEWEST_AGAIN_MS : NEED_AGAIN_MS;
    if (waitedMs * 3 < this.#settings.repairMs || nowMs - this.#neededMs < againMs) return;
    this.#neededMs = nowMs;
    const { overlayId } = this.#settings;
    events.push({ kind: "needMembers", overlayId, holding: missing });
  }

  /**
   * Live: passes a hole that is late, and what has left the window. Each index has its own time, so
   * a hole behind another does not wait for it. The newest index stays wanted: nothing waits behind
   * it, and it may be END. Returns whether the head moved.
   */
  #passLate(): boolean {
    const { head } = this.#assembler;
    const window = this.#window;
    let to = window.start;
    if (to <= head && !this.#assembler.isTaking && !window.holds(head)) {
      const late = this.#lateTo(head);
      const bound = Math.min(late, this.#times.highest - 1);
      const next = window.nextSet(window.heldMap, head + 1, window.highest);
      to = Math.min(bound, window.holds(next) ? next : bound);
    }
    if (to <= head) return false;
    this.#giveUp(head, to);
    return this.#assembler.head > head;
  }

  /**
   * All below is late. Who has used up what it may download would take all that comes at the last
   * moment, and most of it after that: it leaves out some, and is in time again.
   */
  #lateTo(head: FragmentIndex): FragmentIndex {
    const { now, download } = this.#context;
    const late = this.#times.knownBefore(this.#lateMs, now.monoMs);
    if (late <= head || !download.isUsedUp(this.#settings.fragmentBytes, now.monoMs)) return late;
    return this.#times.knownBefore(this.#lateMs * LEFT_OUT_PART, now.monoMs);
  }

  /** First index above `from` that is held here or advertised; `known` when there is none. */
  #nextAvailable(
    from: FragmentIndex,
    neighbours: readonly Neighbour[],
    known: FragmentIndex,
  ): FragmentIndex {
    let best = known;
    const own = this.#window.nextSet(this.#window.heldMap, from + 1, this.#window.highest);
    if (own < this.#window.highest) best = Math.min(best, own);
    for (const neighbour of neighbours) {
      const low = Math.max(from + 1, neighbour.remoteStart);
      const high = Math.min(neighbour.remoteHighest, best);
      if (low >= high) continue;
      // Past the end of our maps it is not known what they hold: they are asked again from there.
      const end = Math.min(high, this.#window.mapEnd);
      const theirs = low < end ? this.#window.nextSet(neighbour.have, low, end) : low;
      if (theirs < high) best = theirs;
    }
    return best;
  }

  #report(): PeerEvent[] {
    const events: PeerEvent[] = [];
    const { overlayId } = this.#settings;
    if (this.#startsLater) {
      this.#startsLater = false;
      events.push({ kind: "started", overlayId, index: this.#startIndex });
    }
    for (const gap of this.#assembler.takeGaps()) {
      this.#context.counters.gaps++;
      events.push({ kind: "gap", overlayId, gap });
    }
    if ((this.#assembler.ended || this.#endPassed) && !this.#endTaken) {
      this.#endTaken = true;
      const sources = [...this.#assembler.sources.values()].map(standingOf);
      events.push({ kind: "ended", overlayId, sources });
    }
    return events;
  }
}

/**
 * The lowest index from which on neighbours' windows follow each other up to `edge` without a hole:
 * what one that stands still far behind holds is of no use, what follows it is gone.
 */
function oldestCovered(neighbours: readonly Neighbour[], edge: FragmentIndex): FragmentIndex {
  let start = edge;
  for (let moved = true; moved; ) {
    moved = false;
    for (const neighbour of neighbours) {
      if (neighbour.remoteHighest < start || neighbour.remoteStart >= start) continue;
      start = neighbour.remoteStart;
      moved = true;
    }
  }
  return start;
}
