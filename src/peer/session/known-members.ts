/** The members of an overlay that a peer has heard of from the OMS, and when it dialled each last. */

import type { Address } from "../../base/machine.ts";
import type { Rng } from "../../base/rng.ts";
import type { MonoMs, PeerId } from "../../base/units.ts";
import { ROLES } from "../../protocol/common.ts";
import type { Member } from "../../protocol/r5.ts";

export interface KnownMember {
  readonly peerId: PeerId;
  candidates: readonly Address[];
  readonly isSource: boolean;
  dialledMs: MonoMs;
  /** Which candidate is next. */
  next: number;
}

/** Takes note of `members`, but not of this peer itself. */
export function learn(
  known: Map<PeerId, KnownMember>,
  members: readonly Member[],
  ownId: PeerId,
): void {
  for (const member of members) {
    if (member.peerId === ownId) continue;
    const before = known.get(member.peerId);
    if (before !== undefined) {
      before.candidates = member.candidates;
      continue;
    }
    known.set(member.peerId, {
      peerId: member.peerId,
      candidates: member.candidates,
      isSource: member.role === ROLES.source,
      dialledMs: Number.NEGATIVE_INFINITY,
      next: 0,
    });
  }
}

/**
 * Members to open links to, in the order to try them: the source peer first, it always has what is
 * newest, then whoever, by lot. Not those linked already; only those of `dial` if it is given.
 */
export function inDialOrder(
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
