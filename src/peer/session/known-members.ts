/**
 * The members of an overlay that a peer has heard of from the OMS: whom to dial, and when again.
 *
 * Most that are named are there; some died a moment ago, and of those that come and go with a new
 * key each there are ever more. So who fails is dialled ever more seldom, and is forgotten once the
 * OMS names it no more; there is a limit on how many are known and on how many are dialled in a
 * time, whatever the OMS names. The source peer alone is dialled steadily: without it nothing new
 * comes, and after a restart it is found where it was. Which one that is the index file says, whose
 * signature was verified: the role that the OMS names is its word alone.
 */

import type { Address } from "../../base/machine.ts";
import type { Rng } from "../../base/rng.ts";
import { TokenBucket } from "../../base/token-bucket.ts";
import type { MonoMs, PeerId } from "../../base/units.ts";
import type { Candidate } from "../../protocol/common.ts";
import type { Member } from "../../protocol/r5.ts";
import type { DistanceTo } from "../context.ts";
import { inDialOrder } from "./dial-order.ts";

/** Links a session opens or has before it stops opening more, ... */
export const LINKS_WANTED = 6;
/** ... and with neighbours that lack something, or have no upload to spare. */
const LINKS_MOST = 12;

/** A member that was dialled is not dialled again before this; after each failure twice as long ... */
const DIAL_AGAIN_MS = 4_000;
/** ... up to this, and a quarter more by lot, so that not all come at once. */
const DIAL_AGAIN_MS_MAX = 256_000;
/** Who is linked to nobody waits no longer than this for anybody. */
const ALONE_AGAIN_MS = 8_000;
/** Members known at a time: several lists full. */
export const KNOWN_MAX = 128;
/** Who failed and was not in so many lists, one after the other, is forgotten. */
const LISTS_UNNAMED = 3;
/** Members dialled at once: a whole list and the links wanted; ... */
const DIALS_BURST = 32;
/** ... and then a second. */
const DIALS_PER_SECOND = 1;

/** With fewer links it asks the OMS for members this often, else more seldom. */
const LINKS_MIN = 2;
const LIST_AGAIN_MS = 2_000;
/** Who may link up with some only has nobody else to wait with. */
const NAMED_AGAIN_MS = 1_000;
/** Without a link to any of those for so long, it says why. */
const NAMED_AWAY_MS = 2_500;

/** When to ask the OMS for members again; `dial`: only these are dialled, if given. */
export function listAgainMs(links: number, dial?: readonly PeerId[]): number {
  if (links === 0 && dial !== undefined) return NAMED_AGAIN_MS;
  return links >= LINKS_MIN ? 5 * LIST_AGAIN_MS : LIST_AGAIN_MS;
}

/** Members were asked for: one link more is wanted from now on. */
export function oneMoreLink(wanted: number): number {
  return Math.min(wanted + 1, LINKS_MOST);
}

interface KnownMember {
  readonly peerId: PeerId;
  /** In the order in which they are dialled. */
  candidates: readonly Candidate[];
  readonly isSource: boolean;
  /** The list, counted from the first, that named it last. */
  list: number;
  dialledMs: MonoMs;
  /** Not before this is it dialled again. */
  dueMs: MonoMs;
  /** How many candidates were dialled; which is next. */
  next: number;
  /** Since it was linked last: how often none of its candidates led to a link; why not, last. */
  failures: number;
  failure: string;
}

export interface DialWish {
  readonly linked: ReadonlySet<PeerId>;
  /** Links wanted in all. */
  readonly links: number;
  /** Only these, if given. */
  readonly dial: readonly PeerId[] | undefined;
  /** Was linked to the source peer, or refused because it has links enough. */
  readonly metSource: boolean;
}

export interface Dial {
  readonly peerId: PeerId;
  readonly address: Address;
}

export class KnownMembers {
  readonly #rng: Rng;
  readonly #ownId: PeerId;
  readonly #distanceTo: DistanceTo;
  readonly #members = new Map<PeerId, KnownMember>();
  /** Dialled, and nothing was heard of it yet; in the order in which they were dialled. */
  readonly #underWay = new Set<KnownMember>();
  /** Of members dialled, not of bytes. */
  #budget = new TokenBucket(DIALS_PER_SECOND, DIALS_BURST);
  #lists = 0;
  /** Since when there is no link at all; Infinity: that was said already. */
  #aloneSinceMs: MonoMs | undefined;
  #sourcePeerId: PeerId = "";

  constructor(rng: Rng, ownId: PeerId, distanceTo: DistanceTo) {
    this.#rng = rng;
    this.#ownId = ownId;
    this.#distanceTo = distanceTo;
  }

  get size(): number {
    return this.#members.size;
  }

  has(peerId: PeerId): boolean {
    return this.#members.has(peerId);
  }

  /** An overlay begins, whose source peer this is: of its members none is known. */
  begin(sourcePeerId: PeerId): void {
    this.#sourcePeerId = sourcePeerId;
    this.#members.clear();
    this.#underWay.clear();
    this.#budget = new TokenBucket(DIALS_PER_SECOND, DIALS_BURST);
    this.#lists = 0;
  }

  /**
   * The OMS named `members`; `own`: where this peer accepts links. A list of some kind of members
   * only (`isPart`) says nothing about those that are not in it.
   */
  learn(members: readonly Member[], own: readonly Address[], isPart = false): void {
    const before = this.#lists;
    if (!isPart) this.#lists++;
    for (const { peerId, candidates: given } of members) {
      if (peerId === this.#ownId) continue;
      const candidates = inDialOrder(given, own);
      const known = this.#members.get(peerId);
      if (candidates.length === 0) this.#forget(known);
      else if (known === undefined) this.#add(peerId, candidates);
      else {
        // It moved, or was away and came back.
        const moved = !sameCandidates(known.candidates, candidates);
        if (moved || before - known.list >= LISTS_UNNAMED) this.#beginAfresh(known);
        if (moved) known.next = 0;
        known.candidates = candidates;
        known.list = this.#lists;
      }
    }
    if (this.#members.size > KNOWN_MAX) this.#makeRoom();
  }

  #add(peerId: PeerId, candidates: readonly Candidate[]): void {
    const never = Number.NEGATIVE_INFINITY;
    const isSource = peerId === this.#sourcePeerId;
    const list = this.#lists;
    const times = { list, dialledMs: never, dueMs: never, next: 0, failures: 0 };
    this.#members.set(peerId, { peerId, candidates, isSource, ...times, failure: "" });
  }

  #beginAfresh(member: KnownMember): void {
    member.failures = 0;
    member.dueMs = Math.min(member.dueMs, member.dialledMs + DIAL_AGAIN_MS);
  }

  /** Those go that failed most, and of these whom the OMS named longest ago. */
  #makeRoom(): void {
    const others = [...this.#members.values()].filter(({ isSource }) => !isSource);
    others.sort((a, b) => b.failures - a.failures || a.list - b.list);
    for (const member of others.slice(0, this.#members.size - KNOWN_MAX)) this.#forget(member);
  }

  #forget(member: KnownMember | undefined): void {
    if (member === undefined) return;
    this.#underWay.delete(member);
    this.#members.delete(member.peerId);
  }

  /** There is a link to it. */
  linked(peerId: PeerId): void {
    this.#aloneSinceMs = undefined;
    const member = this.#members.get(peerId);
    if (member === undefined) return;
    this.#underWay.delete(member);
    this.#beginAfresh(member);
  }

  /**
   * A link to `address` did not come about: the member whose candidate that was is dialled at its
   * next one at once, until all were tried since it was dialled last.
   */
  failed(address: Address, code: string): void {
    for (const member of this.#underWay) {
      const { candidates, next } = member;
      const last = candidates[(next - 1) % candidates.length];
      if (last === undefined || !sameCandidate(last, address)) continue;
      this.#underWay.delete(member);
      member.failure = code;
      if (next % candidates.length !== 0) member.dueMs = Number.NEGATIVE_INFINITY;
      else this.#allFailed(member);
      return;
    }
  }

  #allFailed(member: KnownMember): void {
    if (member.isSource) return;
    if (this.#lists - member.list >= LISTS_UNNAMED) {
      this.#forget(member);
      return;
    }
    const waitMs = Math.min(DIAL_AGAIN_MS * 2 ** member.failures, DIAL_AGAIN_MS_MAX);
    member.failures++;
    member.dueMs = member.dialledMs + waitMs * (1 + 0.25 * this.#rng.next());
  }

  /** Members to dial now, with the candidate of each to be tried; they count as dialled. */
  toDial({ linked, links, dial, metSource }: DialWish, nowMs: MonoMs): Dial[] {
    let wanted = links - linked.size;
    for (const { peerId, dialledMs } of this.#underWay) {
      if (nowMs - dialledMs < DIAL_AGAIN_MS && !linked.has(peerId)) wanted--;
    }
    const dials: Dial[] = [];
    for (const member of this.#due(linked, dial, nowMs)) {
      const { peerId, candidates, isSource } = member;
      // A source that waits for members counts those it has met: each meets it once.
      if (wanted <= 0 && !(isSource && !metSource)) break;
      // Its other candidates are tried with the first.
      if (!isSource && member.next % candidates.length === 0) {
        if (this.#budget.tokens(nowMs) < 1) continue;
        this.#budget.take(1, nowMs);
      }
      wanted--;
      dials.push({ peerId, address: candidates[member.next++ % candidates.length] as Address });
      member.dialledMs = nowMs;
      member.dueMs = nowMs + DIAL_AGAIN_MS;
      // At the end of those that are under way, also when it was given up.
      this.#underWay.delete(member);
      this.#underWay.add(member);
    }
    return dials;
  }

  /** Only some may be dialled, and for some time there is no link: why not, said once. */
  whyAlone({ linked, dial }: Pick<DialWish, "linked" | "dial">, nowMs: MonoMs): string | undefined {
    if (linked.size > 0 || dial === undefined) {
      this.#aloneSinceMs = undefined;
      return undefined;
    }
    this.#aloneSinceMs ??= nowMs;
    if (nowMs - this.#aloneSinceMs < NAMED_AWAY_MS) return undefined;
    this.#aloneSinceMs = Number.POSITIVE_INFINITY;
    const known = dial.flatMap((peerId) => this.#members.get(peerId) ?? []);
    if (known.length === 0) return "dial: none of the members named is there";
    const failed = known.find(({ failure }) => failure !== "");
    return `dial: none of the members named could be reached: ${failed?.failure ?? "no answer yet"}`;
  }

  /**
   * In the order to try them: the source peer first, it always has what is newest, then in turn one by
   * lot and the nearest in the network: with near ones alone an overlay would fall apart into islands.
   * Not those linked already; only those of `dial` if it is given.
   */
  #due(
    linked: ReadonlySet<PeerId>,
    dial: readonly PeerId[] | undefined,
    nowMs: MonoMs,
  ): KnownMember[] {
    const isAlone = linked.size === 0;
    const due: { member: KnownMember; lot: number }[] = [];
    for (const member of this.#members.values()) {
      const { peerId, dialledMs, dueMs, isSource } = member;
      const atMs = isAlone ? Math.min(dueMs, dialledMs + ALONE_AGAIN_MS) : dueMs;
      if (atMs > nowMs || linked.has(peerId) || dial?.includes(peerId) === false) continue;
      due.push({ member, lot: isSource ? -1 : this.#rng.next() });
    }
    due.sort((a, b) => a.lot - b.lot);
    const byLot = due.map(({ member }) => member);
    const distance = ({ isSource, peerId }: KnownMember) =>
      isSource ? -1 : this.#distanceTo(peerId);
    const near = byLot.map((member) => ({ member, distance: distance(member) }));
    near.sort((a, b) => a.distance - b.distance);
    const inTurn = near.flatMap(({ member }, i) => [member, byLot[i] as KnownMember]);
    return [...new Set(inTurn)];
  }
}

function sameCandidate(a: Address, b: Address): boolean {
  return a.transport === b.transport && a.host === b.host && a.port === b.port;
}

function sameCandidates(a: readonly Candidate[], b: readonly Candidate[]): boolean {
  return a.length === b.length && a.every((each, i) => sameCandidate(each, b[i] as Candidate));
}
