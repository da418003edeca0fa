/**
 * In which order a member's candidates are dialled: where a link is shortest and likeliest first.
 * On this very machine, in a network that this node is in, then as the OMS sees the member, then as
 * its operator says, and other local addresses last: they lie in somebody else's network.
 */

import { hostKind, isSameNet, plainHost } from "../../base/hosts.ts";
import type { Address } from "../../base/machine.ts";
import { CANDIDATE_KINDS, type Candidate } from "../../protocol/common.ts";

/** `own`: where this node accepts links. Of equals the order stays. */
export function inDialOrder(
  candidates: readonly Candidate[],
  own: readonly Address[],
): readonly Candidate[] {
  const hosts = own.map(({ host }) => plainHost(host));
  const rank = ({ host, kind = CANDIDATE_KINDS.local }: Candidate): number => {
    const plain = plainHost(host);
    if (hostKind(plain) === "loopback" || hosts.includes(plain)) return 0;
    if (hosts.some((each) => isSameNet(each, plain))) return 1;
    if (kind === CANDIDATE_KINDS.observed) return 2;
    return kind === CANDIDATE_KINDS.advertised ? 3 : 4;
  };
  return [...candidates].sort((a, b) => rank(a) - rank(b));
}
