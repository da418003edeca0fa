/**
 * The candidates of one member: which of them others are told, and whether the member can be
 * dialled at all.
 *
 * Nobody shall be sent to a host by the word of somebody else: a rogue member would have thousands
 * of peers knock at a stranger's door. So a candidate is told when it is where the OMS sees the
 * member, or when the OMS dialled it and met the member's key there. What only makes sense within a
 * network is told only there.
 *
 *     host of the candidate         told to                             dialled back
 *     loopback, seen there too      who is seen at loopback             no
 *     private, seen there           who is seen in a private network    no
 *     private, seen elsewhere       as above once proven;               if the member is seen in a
 *       in public                   who is seen at the same host        private network
 *     public, seen there            everybody, until it fails           yes
 *     public, not seen there        everybody once proven               yes
 *     a name                        everybody once proven               as private
 *
 * Loopback of a member that is seen elsewhere, multicast and reserved addresses are dropped.
 */

import { type HostKind, hostKind, plainHost } from "../base/hosts.ts";
import { CANDIDATES_MAX } from "../base/limits.ts";
import type { Address } from "../base/machine.ts";
import { CANDIDATE_KINDS, type Candidate, REACH, type Reach } from "../protocol/common.ts";

export interface CandidateRow {
  readonly candidate: Candidate;
  /** `near`: who is seen in a private network or on this machine. */
  readonly scope: "everybody" | "near" | "thisMachine" | "sameHost";
  /** Whether it is told before it is proven. */
  readonly isTold: boolean;
  /** Whether the OMS may dial it. */
  readonly canProve: boolean;
  /** Undefined: not tried to the end yet. */
  proven: boolean | undefined;
}

const NEAR: ReadonlySet<HostKind> = new Set<HostKind>(["loopback", "private"]);

export class Reachability {
  readonly observedHost: string;
  #rows: CandidateRow[];

  /** `given`: as the member said; `observedHost`: where the OMS sees it. */
  constructor(given: readonly Candidate[], observedHost: string) {
    this.observedHost = plainHost(observedHost);
    this.#rows = rowsOf(given, this.observedHost);
  }

  /** New words of the member; what was proven of a candidate stays so. */
  renew(given: readonly Candidate[], observedHost: string): Reachability {
    const renewed = new Reachability(given, observedHost);
    for (const row of renewed.#rows) {
      const before = this.#rows.find((old) => isSame(old.candidate, row.candidate));
      if (before?.proven === true) row.proven = true;
    }
    return renewed;
  }

  /** Candidates that the OMS has to dial to know. */
  get untried(): readonly CandidateRow[] {
    return this.#rows.filter((row) => row.canProve && row.proven === undefined);
  }

  get reach(): Reach {
    const rows = this.#rows;
    const isOpen = (row: CandidateRow): boolean =>
      row.proven === true || (row.isTold && !row.canProve && row.scope !== "sameHost");
    if (rows.some(isOpen)) return REACH.inbound;
    return this.untried.length > 0 ? REACH.unknown : REACH.outboundOnly;
  }

  /** What a member that the OMS sees at `askerHost` is told. */
  toldTo(askerHost: string): Candidate[] {
    const asker = plainHost(askerHost);
    const kind = hostKind(asker);
    return this.#rows
      .filter((row) => {
        if (!(row.proven ?? row.isTold)) return false;
        if (row.scope === "everybody" || asker === this.observedHost) return true;
        if (row.scope === "near") return NEAR.has(kind);
        return row.scope === "thisMachine" && kind === "loopback";
      })
      .map(({ candidate }) => candidate);
  }
}

function rowsOf(given: readonly Candidate[], observedHost: string): CandidateRow[] {
  const rows: CandidateRow[] = [];
  const seen = hostKind(observedHost);
  const add = (candidate: Candidate): void => {
    const isPlace = candidate.port > 0 || candidate.transport === "memory";
    if (rows.length >= CANDIDATES_MAX || !isPlace) return;
    if (rows.some((row) => isSame(row.candidate, candidate))) return;
    const row = judge(candidate, observedHost, seen);
    if (row !== undefined) rows.push(row);
  };
  const observed = (address: Address): Candidate => ({
    ...address,
    host: observedHost,
    kind: CANDIDATE_KINDS.observed,
  });
  for (const candidate of given) {
    const kind = hostKind(candidate.host);
    const isLocal = (candidate.kind ?? CANDIDATE_KINDS.local) === CANDIDATE_KINDS.local;
    if (kind === "wildcard") add(observed(candidate));
    else add({ ...candidate, host: plainHost(candidate.host) });
    // It may be seen through a NAT that keeps ports; on loopback nobody else gets to it anyway.
    if (isLocal && (kind === "private" || kind === "public") && seen !== "loopback") {
      add(observed(candidate));
    }
  }
  return rows;
}

function judge(
  candidate: Candidate,
  observedHost: string,
  seen: HostKind,
): CandidateRow | undefined {
  const row = (
    scope: CandidateRow["scope"],
    isTold: boolean,
    canProve: boolean,
  ): CandidateRow | undefined => {
    // This version dials peers over TCP only: another candidate is told by what is seen, or not.
    const proves = canProve && candidate.transport === "tcp";
    if (!isTold && !proves) return undefined;
    return { candidate, scope, isTold, canProve: proves, proven: undefined };
  };
  if (candidate.transport === "memory") return row("everybody", true, false);
  const isObserved = candidate.host === observedHost;
  switch (hostKind(candidate.host)) {
    case "loopback":
      return seen === "loopback" ? row("thisMachine", true, false) : undefined;
    case "private":
      if (isObserved) return row("near", true, false);
      return NEAR.has(seen) ? row("near", false, true) : row("sameHost", true, false);
    case "public":
      return row("everybody", isObserved, true);
    case "name":
      if (isObserved) return row("everybody", true, false);
      return NEAR.has(seen) ? row("everybody", false, true) : undefined;
    default:
      return undefined;
  }
}

function isSame(a: Address, b: Address): boolean {
  return a.transport === b.transport && a.host === b.host && a.port === b.port;
}
