/**
 * How an overlay ends for this node: END and lingering, a source that nobody listens to (rule e), a
 * session that is lost. Looked after now and then; says what follows and does nothing itself.
 */

import type { FragmentIndex, MonoMs, PeerId } from "../base/units.ts";
import { ROLES, type Role } from "../protocol/common.ts";
import type { ConsumerRole } from "./consumer-role.ts";
import type { PeerContext } from "./context.ts";
import type { FinaleStep, FinaleView, MembersReport } from "./finale-types.ts";
import { GATHERINGS_MAX, LINGERS_MOST } from "./finale-types.ts";
import { IndexRanges } from "./index-ranges.ts";
import type { Neighbour } from "./neighbour.ts";
import type { SourceRole } from "./source-role.ts";

/** Members told apart; more than any source waits for. */
const MEMBERS_COUNTED = 4_096;

/** The source started over: for the members that still may have more to say so. */
const STARTED_OVER_MS = 500;
/** Live: those whom the source waited for get this long to begin before old makes room for new. */
const AUDIENCE_MS = 500;
/** A source peer that was killed is waited for so long, and one that lives is heard of within this. */
const SOURCE_AWAY_MS = 120_000;
const NEWS_MS = 1_000;
/** Virtual peers notice within this that their last reader went, and say so. */
const READERS_MS = 1_000;
/** Whoever hung on a member that left comes here within this. */
const COME_OVER_MS = 2_000;

/** A finished peer stays so many times lingerMs at most for whoever came since. */
const LINGERS_MAX = 6;

export class Finale {
  readonly #context: PeerContext;
  readonly #view: FinaleView;
  readonly #waitPeers: number;
  readonly #gatherMs: number;
  readonly #role: Role;
  /** When members went, of late. */
  readonly #memberWentMs: MonoMs[] = [];
  /** Most readers that one virtual peer spoke of. */
  #readersMost = 0;
  #firstMemberMs: MonoMs | undefined;
  #newMemberMs: MonoMs = 0;
  #endIndex: FragmentIndex | undefined;
  /** When this node came, or when its link to the source peer went. */
  #aloneSinceMs: MonoMs;
  /** The latter. */
  #sourceWent = false;
  /** Members by peer id: one that comes again over a new link is no other. */
  readonly #membersSeen = new Set<PeerId>();
  readonly #membersCompleted = new Set<PeerId>();
  /** Virtual peer: members that had all here and went. */
  readonly #readersServed = new Set<PeerId>();
  /** Lost some when they went, or lacked some when this node left. */
  readonly #membersBehind = new Set<PeerId>();
  /** Live: since when as many members as it was told to wait for were there; it had its audience. */
  #audienceSinceMs: MonoMs | undefined;
  #audience = false;
  #sessionOver = false;
  #startedOver = false;
  #movesOn = false;
  /** Without data nobody is waited for but who is linked. */
  #hurries = false;
  #hasEnded = false;
  #hasFailed = false;
  #holdSinceMs: MonoMs | undefined;
  /** Source: what members that went held; since when nobody is there who lacks any. */
  readonly #held = new IndexRanges();
  #heldSinceMs: MonoMs | undefined;
  /** It said that it leaves; and when a link broke without that: such a member may come back. */
  #leaver: Neighbour | undefined;
  #brokeMs: MonoMs = Number.NEGATIVE_INFINITY;
  #lostSinceMs: MonoMs | undefined;
  #lingerBeganMs: MonoMs | undefined;
  /** Since when it would go on elsewhere, but for who reads here. */
  #readSinceMs: MonoMs | undefined;
  /** When one of those that a node waits for while it lingers came, or went on. */
  #lingerSinceMs: MonoMs = 0;
  /** Neighbours when this node had all; when one of these went on. */
  readonly #lingerFirst = new Set<PeerId>();
  #lingerFirstMs: MonoMs = 0;
  /** How far each of those came. */
  readonly #lingerTo = new Map<PeerId, FragmentIndex>();

  constructor(
    context: PeerContext,
    view: FinaleView,
    options: {
      readonly role: keyof typeof ROLES;
      readonly waitPeers: number;
      readonly gatherMs: number;
    },
  ) {
    this.#context = context;
    this.#view = view;
    this.#role = ROLES[options.role];
    this.#waitPeers = options.waitPeers;
    this.#gatherMs = options.gatherMs;
    this.#aloneSinceMs = context.now.monoMs;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }
  get endIndex(): FragmentIndex | undefined {
    return this.#endIndex;
  }

  /** Whether a source may free: as many members were there as it was told to wait for. */
  get isAttended(): boolean {
    if (!this.#isMet()) return false;
    if (this.#view.settings.delivery === "live") return this.#hasAudience();
    if (this.#isGathering()) return false;
    return this.#view.neighbours.some((neighbour) => this.#listens(neighbour));
  }

  /** Whether what a neighbour in good standing has is had by somebody who reads it. */
  #listens(neighbour: Neighbour): boolean {
    return !neighbour.lagging && this.#counts(neighbour);
  }

  /**
   * Virtual peers only lend their upload: one counts as long as it says that somebody reads what it
   * passes on. What it says soon after members went may be of those very members.
   */
  #counts({ role, readers }: Neighbour): boolean {
    if (role !== ROLES.virtual) return true;
    return readers > this.#wentOfLate();
  }

  #wentOfLate(): number {
    const since = this.#context.now.monoMs - READERS_MS;
    const wentMs = this.#memberWentMs;
    while (wentMs.length > 0 && (wentMs[0] as MonoMs) <= since) wentMs.shift();
    return wentMs.length;
  }

  /**
   * Whether as many members were there as are waited for: those met here, or as many as one virtual
   * peer has met. The same ones may be among both.
   */
  #isMet(): boolean {
    for (const { role, readers } of this.#view.neighbours) {
      if (role === ROLES.virtual) this.#readersMost = Math.max(this.#readersMost, readers);
    }
    return Math.max(this.#membersSeen.size, this.#readersMost) >= this.#waitPeers;
  }

  /** Virtual peer: members that take what is passed on here, or went with all of it. */
  get readers(): number {
    if (this.#role !== ROLES.virtual) return 0;
    let readers = this.#readersServed.size;
    for (const { role, lagging, peerId } of this.#view.neighbours) {
      if (role === ROLES.peer && !lagging && !this.#readersServed.has(peerId)) readers++;
    }
    return readers;
  }

  #hasAudience(): boolean {
    const nowMs = this.#context.now.monoMs;
    this.#audienceSinceMs ??= nowMs;
    const waited = nowMs - this.#audienceSinceMs >= GATHERINGS_MAX * AUDIENCE_MS;
    const settled = nowMs - this.#newMemberMs >= AUDIENCE_MS;
    this.#audience ||= this.#waitPeers === 0 || settled || waited;
    return this.#audience;
  }

  /** Whether members still come in one after the other. */
  #isGathering(): boolean {
    const nowMs = this.#context.now.monoMs;
    if (this.#firstMemberMs === undefined) return false;
    if (nowMs - this.#firstMemberMs >= GATHERINGS_MAX * this.#gatherMs) return false;
    return nowMs - this.#newMemberMs < this.#gatherMs;
  }

  endKnown(index: FragmentIndex): void {
    this.#endIndex = index;
  }

  hurry(): void {
    this.#hurries = true;
  }

  memberCame(neighbour: Neighbour): void {
    if (neighbour.role !== ROLES.peer || this.#membersSeen.size >= MEMBERS_COUNTED) return;
    if (this.#membersSeen.has(neighbour.peerId)) return;
    this.#membersSeen.add(neighbour.peerId);
    this.#newMemberMs = this.#context.now.monoMs;
    this.#firstMemberMs ??= this.#newMemberMs;
  }

  /** Called before it goes. */
  saidBye(neighbour: Neighbour): void {
    this.#leaver = neighbour;
  }

  /** Called before the neighbour is closed; `leaving`: because this node goes. */
  memberWent(neighbour: Neighbour, leaving: boolean): void {
    const saidBye = neighbour === this.#leaver;
    this.#leaver = undefined;
    if (neighbour.role === ROLES.virtual) {
      // It stayed until whoever read there had all, and says who is left before it goes.
      if (neighbour.readers > 0 && this.#hasAll(neighbour)) {
        addSome(this.#membersCompleted, neighbour.peerId);
      } else if (neighbour.readers > 0) this.#brokeMs = this.#context.now.monoMs;
      return;
    }
    if (neighbour.role === ROLES.peer) {
      this.#keepHeld(neighbour);
      if (!saidBye) this.#brokeMs = this.#context.now.monoMs;
      if (this.#wentOfLate() < MEMBERS_COUNTED) this.#memberWentMs.push(this.#context.now.monoMs);
      // Nobody else reads: not the source peer, and not another virtual peer.
      if (this.#hasAll(neighbour)) addSome(this.#readersServed, neighbour.peerId);
    }
    // Who lost some lacks it over a new link, too.
    const wasShort = this.#membersBehind.has(neighbour.peerId);
    if (neighbour.lostSome || wasShort) addSome(this.#membersBehind, neighbour.peerId);
    else if (this.#hasAll(neighbour)) addSome(this.#membersCompleted, neighbour.peerId);
    else if (leaving) addSome(this.#membersBehind, neighbour.peerId);
    if (neighbour.isSource && neighbour.mapKnown) {
      this.#aloneSinceMs = this.#context.now.monoMs;
      this.#sourceWent = true;
    }
  }

  /**
   * Complete: nothing new was heard of late, and either the link to the source peer went or what comes
   * next here all neighbours lack, too: if it was killed it comes again with what nobody got, in
   * order. What lies behind that must not be taken before. Once END is known nobody goes on to where it
   * starts over: then only its link may come again.
   */
  get sourceMayReturn(): boolean {
    const { settings, neighbours, times } = this.#view;
    if (settings.delivery !== "complete") return false;
    // What it holds may be on its way.
    if (neighbours.some((neighbour) => neighbour.isSource && neighbour.mapKnown)) return false;
    if (this.#sessionOver) return this.#movesOn;
    const nowMs = this.#context.now.monoMs;
    const wentOfLate = this.#sourceWent && nowMs - this.#aloneSinceMs < SOURCE_AWAY_MS;
    if (!wentOfLate && (this.#endIndex !== undefined || !this.#isLackedByAll())) return false;
    const noNewsMs = nowMs - Math.max(this.#aloneSinceMs, times.latestMs);
    return noNewsMs >= NEWS_MS && noNewsMs < SOURCE_AWAY_MS;
  }

  /** Whether no neighbour let go of what comes next here: who did had it, or gave it up. */
  #isLackedByAll(): boolean {
    const next = this.#view.consumer?.consumedTo ?? 0;
    return this.#view.neighbours.every((one) => !one.mapKnown || one.remoteStart <= next);
  }

  /**
   * A peer without a link to the source peer: how long it has learned of no further fragment; 0 while
   * there is such a link, and once END is known.
   */
  get noNewsMs(): number {
    const { source, neighbours, times } = this.#view;
    const knows = source !== undefined || this.#endIndex !== undefined;
    if (knows || neighbours.some((neighbour) => neighbour.isSource)) return 0;
    const sinceMs = Math.max(this.#aloneSinceMs, times.latestMs);
    return Math.max(0, this.#context.now.monoMs - sinceMs);
  }

  members(): MembersReport {
    const linked = new Map(this.#view.neighbours.map((one) => [one.peerId, one]));
    let complete = 0;
    let behind = 0;
    for (const peerId of this.#membersSeen) {
      const neighbour = linked.get(peerId);
      const acked = neighbour?.ackedTo ?? 0;
      const hasAll = this.#endIndex !== undefined && acked > this.#endIndex;
      const isShort = this.#membersBehind.has(peerId) || neighbour?.lostSome === true;
      if (!isShort && (hasAll || this.#membersCompleted.has(peerId))) complete++;
      else if (neighbour !== undefined || this.#membersBehind.has(peerId)) behind++;
    }
    return { complete, left: this.#membersSeen.size - complete - behind, behind };
  }

  #hasAll(neighbour: Neighbour): boolean {
    const end = this.#endIndex;
    return end !== undefined && neighbour.updateAcked(this.#context.now.monoMs) > end;
  }

  /**
   * The servers say that the session is over. `startedOver`: the source goes on elsewhere, so there
   * is no use in waiting for it; `movesOn`: and this node will go on there.
   */
  sessionOver(startedOver: boolean, movesOn: boolean): void {
    this.#sessionOver = true;
    this.#startedOver ||= startedOver;
    this.#movesOn ||= movesOn;
  }

  /** What follows now; undefined: nothing. */
  watch(): FinaleStep | undefined {
    const { source, consumer } = this.#view;
    if (source !== undefined) {
      const held = this.#hold(source);
      if (held !== undefined) return held;
    }
    if (consumer !== undefined && !consumer.ended) return this.#lost(consumer);
    return this.#linger();
  }

  /**
   * What a member held stays held when it goes, unless it was left behind. It held nothing of what
   * lies below where it began, which may be the live edge: others did, or nobody.
   */
  #keepHeld(neighbour: Neighbour): void {
    const { source, window } = this.#view;
    if (source === undefined || neighbour.lostSome || !neighbour.mapKnown) return;
    // Nobody holds what is not made yet.
    const to = Math.min(neighbour.updateAcked(this.#context.now.monoMs), window.highest);
    this.#held.add(neighbour.beganAt, to);
  }

  /** How long a source that nobody takes its data of holds them still; undefined: it need not. */
  get holdLeftMs(): number | undefined {
    if (this.#holdSinceMs === undefined || this.#hasFailed) return undefined;
    const heldMs = this.#context.now.monoMs - this.#holdSinceMs;
    return Math.max(0, this.#view.settings.holdMs - heldMs);
  }

  /**
   * Rule (e): a source with nobody in good standing holds for holdMs what no member held. Where they
   * held every datum before they went, only END is left: that waits for those who may come back.
   */
  #hold(source: SourceRole): FinaleStep | undefined {
    const { settings, window, neighbours } = this.#view;
    const nowMs = this.#context.now.monoMs;
    const waiting = window.highest > window.start || source.isStarved;
    const alone =
      settings.delivery === "complete" &&
      !neighbours.some((neighbour) => this.#listens(neighbour)) &&
      (this.#membersCompleted.size === 0 || !this.#isMet());
    const isHolding = alone && waiting && !this.#hasEnded && !this.#isVoid(source);
    // What was freed members had, though none that is remembered may have had all of it.
    this.#held.add(0, window.start);
    const isHeld = source.hasData && source.dataTo <= this.#held.to && this.#isMet();
    this.#holdSinceMs = isHolding && !isHeld ? (this.#holdSinceMs ?? nowMs) : undefined;
    this.#heldSinceMs = isHolding && isHeld ? (this.#heldSinceMs ?? nowMs) : undefined;
    if (this.#heldSinceMs !== undefined) {
      const untilMs = Math.max(this.#heldSinceMs + COME_OVER_MS, this.#brokeMs + settings.lingerMs);
      if (!source.isEnding || nowMs < untilMs) return undefined;
      this.#hasEnded = true;
      return { kind: "ended" };
    }
    if (this.#holdSinceMs === undefined) return undefined;
    if (nowMs - this.#holdSinceMs < settings.holdMs) return undefined;
    return this.#failed("NO_PEERS", `held for ${settings.holdMs} ms`);
  }

  /**
   * No END, no session and nobody who has more: what is held was all. Where the source goes on
   * elsewhere, what lies behind something that nobody holds comes again from there.
   */
  #lost(consumer: ConsumerRole): FinaleStep | undefined {
    const { settings, window, heard } = this.#view;
    const nowMs = this.#context.now.monoMs;
    const isTaken = consumer.consumedTo >= window.highest;
    const waitsAgain = this.sourceMayReturn && consumer.lacksNext;
    const stuck =
      this.#sessionOver &&
      !heard.some((neighbour) => this.#mayHaveMore(neighbour)) &&
      (isTaken || waitsAgain);
    if (!stuck) {
      this.#lostSinceMs = undefined;
      return undefined;
    }
    this.#lostSinceMs ??= nowMs;
    const { repairMs } = settings;
    const waitMs = this.#startedOver ? Math.min(repairMs, STARTED_OVER_MS) : repairMs;
    if (nowMs - this.#lostSinceMs < waitMs) return undefined;
    if (this.#movesOn) return this.#hasFailed || this.#isReadStill() ? undefined : this.#drained();
    const why = this.#startedOver ? "the source started over: " : "";
    return this.#failed("SESSION_LOST", `${why}no END up to fragment ${window.highest}`);
  }

  /**
   * Who has all waits until its neighbours have, or make no progress for lingerMs. A peer does so for
   * a while and no longer: it is not the last that has all as long as the source peer is there. For
   * those that it had already it does so longer: when the source peer went, it is the last for them.
   */
  #linger(): FinaleStep | undefined {
    const { settings, neighbours, source } = this.#view;
    const end = this.#endIndex;
    if (end === undefined) return undefined;
    const nowMs = this.#context.now.monoMs;
    if (this.#lingerBeganMs === undefined) {
      this.#lingerBeganMs = nowMs;
      for (const { peerId } of neighbours) addSome(this.#lingerFirst, peerId);
    }
    const lack = neighbours.filter((n) => !n.lagging && n.updateAcked(nowMs) <= end);
    for (const neighbour of lack) this.#lingerFor(neighbour);
    const { lingerMs } = settings;
    const lingers = source === undefined ? (nowMs - this.#lingerBeganMs) / lingerMs : 0;
    const isLong = lingers >= LINGERS_MAX;
    const waitingFor = isLong ? lack.filter((n) => this.#lingerFirst.has(n.peerId)) : lack;
    const wentOnMs = isLong ? this.#lingerFirstMs : this.#lingerSinceMs;
    const sinceMs = Math.max(this.#lingerBeganMs, wentOnMs);
    const isOverdue = nowMs - sinceMs >= lingerMs || lingers >= LINGERS_MOST;
    const over = waitingFor.length === 0 || isOverdue;
    if (!over) return undefined;
    if (source === undefined) {
      this.#hasEnded = true;
      return { kind: "leave" };
    }
    const hasAll = (n: Neighbour) => n.ackedTo > end && this.#counts(n);
    const someone = this.#membersCompleted.size > 0 || neighbours.some(hasAll);
    const served =
      settings.delivery === "live" || this.#isVoid(source) || (this.#isMet() && someone);
    if (this.#hasEnded || !served) return undefined;
    this.#hasEnded = true;
    return { kind: "ended" };
  }

  /** Whether a neighbour still lacks what is held here, and goes on: it may have nobody else. */
  #isReadStill(): boolean {
    const { settings, window, neighbours } = this.#view;
    if (settings.delivery === "live") return false;
    const nowMs = this.#context.now.monoMs;
    if (this.#readSinceMs === undefined) {
      this.#readSinceMs = nowMs;
      this.#lingerFirst.clear();
      for (const { peerId } of neighbours) addSome(this.#lingerFirst, peerId);
    }
    let lacks = false;
    for (const neighbour of neighbours) {
      if (neighbour.lagging || !this.#lingerFirst.has(neighbour.peerId)) continue;
      const { have } = neighbour;
      const from = Math.max(window.start, neighbour.updateAcked(nowMs));
      const first = window.nextDifference(window.heldMap, have, have, from, window.highest);
      if (first >= window.highest) continue;
      lacks = true;
      this.#lingerFor(neighbour);
    }
    const { lingerMs } = settings;
    const goesOn = nowMs - Math.max(this.#readSinceMs, this.#lingerSinceMs) < lingerMs;
    return lacks && goesOn && nowMs - this.#readSinceMs < LINGERS_MOST * lingerMs;
  }

  /** Begins to wait anew when this one is new, or further than it was. */
  #lingerFor({ peerId, ackedTo }: Neighbour): void {
    const before = this.#lingerTo.get(peerId);
    if (before === undefined && this.#lingerTo.size >= MEMBERS_COUNTED) return;
    if (before !== undefined && ackedTo <= before) return;
    this.#lingerTo.set(peerId, ackedTo);
    this.#lingerSinceMs = this.#context.now.monoMs;
    if (this.#lingerFirst.has(peerId)) this.#lingerFirstMs = this.#lingerSinceMs;
  }

  /** Whether there is nothing to hold for anybody who may still come. */
  #isVoid(source: SourceRole): boolean {
    return this.#hurries && !source.hasData;
  }

  #mayHaveMore(neighbour: Neighbour): boolean {
    if (neighbour.isSource && !this.#startedOver) return true;
    const { window } = this.#view;
    // A full window moves on once whoever is slower has come on, or is found lagging.
    if (window.limit <= window.highest) return neighbour.remoteHighest > window.highest;
    // What lies beyond this node's window it can't be asked for; who answers nothing is not heard.
    return window.nextSet(neighbour.have, window.highest, window.limit) < window.limit;
  }

  #drained(): FinaleStep {
    this.#hasFailed = true;
    return { kind: "drained" };
  }

  #failed(code: "NO_PEERS" | "SESSION_LOST", detail: string): FinaleStep | undefined {
    if (this.#hasFailed) return undefined;
    this.#hasFailed = true;
    return { kind: "failed", code, detail };
  }
}

/** Ids are for whoever has a key: no more are kept than members are counted. */
function addSome(peerIds: Set<PeerId>, peerId: PeerId): void {
  if (peerIds.size < MEMBERS_COUNTED) peerIds.add(peerId);
}
