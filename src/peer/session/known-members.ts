/** The members of an overlay that a peer has heard of from the OMS, and when it dialled each last. */

import type { Address } from "../../base/machine.ts";
import type { Rng } from "../../base/rng.ts";
import type { MonoMs, PeerId } from "../../base/units.ts";
import { type Candidate, ROLES } from "../../protocol/common.ts";
import type { Member } from "../../protocol/r5.ts";
import { inDialOrder } from "./dial-order.ts";

/** Links a session opens or has before it stops opening more, ... */
export const LINKS_WANTED = 6;
/** ... and with neighbours that lack something, or have no upload to spare. */
const LINKS_MOST = 12;

/** Members were asked for: one link more is wanted from now on. */
export function oneMoreLink(wanted: number): number {
  return Math.min(wanted + 1, LINKS_MOST);
}

export interface KnownMember {
  readonly peerId: PeerId;
  /** In the order in which they are dialled. */
  candidates: readonly Candidate[];
  readonly isSource: boolean;
  dialledMs: MonoMs;
  /** How many candidates were dialled; which is next. */
  next: number;
}

/** Takes note of `members`, but not of this peer itself; `own`: where this peer accepts links. */
export function learn(
  known: Map<PeerId, KnownMember>,
  members: readonly Member[],
  ownId: PeerId,
  own: readonly Address[],
): void {
  for (const member of members) {
    if (member.peerId === ownId) continue;
    const before = known.get(member.peerId);
    const candidates = inDialOrder(member.candidates, own);
    if (before !== undefined) {
      before.candidates = candidates;
      continue;
    }
    known.set(member.peerId, {
      peerId: member.peerId,
      candidates,
      isSource: member.role === ROLES.source,
      dialledMs: Number.NEGATIVE_INFINITY,
      next: 0,
    });
  }
}

/**
 * A link to `address` did not come about: the member whose candidate that was is dialled at its next
 * one at once, until all were tried since it was dialled last.
 */
export function failedAt(known: Map<PeerId, KnownMember>, address: Address): void {
  for (const member of known.values()) {
    const { candidates, next } = member;
    const last = candidates[(next - 1) % Math.max(1, candidates.length)];
    const isIt =
      last?.transport === address.transport &&
      last.host === address.host &&
      last.port === address.port;
    if (isIt && next % candidates.length !== 0) member.dialledMs = Number.NEGATIVE_INFINITY;
  }
}

/** A member that could not be reached is tried again after this. */
const DIAL_AGAIN_MS = 4_000;

export interface DialWish {
  readonly linked: ReadonlySet<PeerId>;
  /** Links wanted in all. */
  readonly links: number;
  /** Only these, if given. */
  readonly dial: readonly PeerId[] | undefined;
  /** Was linked to the source peer, or refused because it has links enough. */
  readonly metSource: boolean;
}

/** Members to dial now, with the candidate of each to be tried; they count as dialled. */
export function toDial(
  known: ReadonlyMap<PeerId, KnownMember>,
  { linked, links, dial, metSource }: DialWish,
  rng: Rng,
  nowMs: MonoMs,
): { peerId: PeerId; address: Address }[] {
  const dials: { peerId: PeerId; address: Address }[] = [];
  let wanted = links - linked.size;
  for (const member of membersInDialOrder(known, linked, dial, rng)) {
    if (nowMs - member.dialledMs < DIAL_AGAIN_MS) {
      wanted--;
      continue;
    }
    // A source that waits for members counts those it has met: each meets it once.
    if (wanted <= 0 && !(member.isSource && !metSource)) break;
    wanted--;
    member.dialledMs = nowMs;
    const address = member.candidates[member.next % member.candidates.length] as Address;
    member.next++;
    dials.push({ peerId: member.peerId, address });
  }
  return dials;
}

/**
 * Members to open links to, in the order to try them: the source peer first, it always has what is
 * newest, then whoever, by lot. Not those linked already; only those of `dial` if it is given.
 */
export function membersInDialOrder(
  known: ReadonlyMap<PeerId, KnownMember>,
  linked: ReadonlySet<PeerId>,
  dial: readonly PeerId[] | undefined,
  rng: Rng,
): KnownMember[] {
  return [...known.values()]
    .filter(({ peerId, candidates }) => !linked.has(peerId) && candidates.length > 0)
    .filter(({ peerId }) => dial?.includes(peerId) ?? true)
    .map((member) => ({ member, lot: member.isSource ? -1 : rng.next() }))
    .sort((a, b) => a.lot - b.lot)
    .map(({ member }) => member);
}
