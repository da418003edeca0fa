/** The members of an overlay that a peer has heard of from the OMS, and when it dialled each last. */

import type { Address } from "../../base/machine.ts";
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
