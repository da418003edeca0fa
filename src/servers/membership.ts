/**
 * R5.0: who is in an overlay. Joining with a proven key, refreshing, lists of members, leaving.
 *
 * All soft: after a restart of the OMS a member hears UNKNOWN_PEER at its next refresh and joins
 * again. The source peer is a member for as long as its overlay stands, without a lease.
 */

import { PEER_LIST_MAX, SIGNALLING_MESSAGE_BYTES_MAX } from "../base/limits.ts";
import type { Now } from "../base/machine.ts";
import { bytesEqual, toHex } from "../base/units.ts";
import { type Candidate, ROLES, TOKEN_BYTES } from "../protocol/common.ts";
import * as r5 from "../protocol/r5.ts";
import type { RequestOf } from "../protocol/signalling.ts";
import type { DialBack } from "./dial-back.ts";
import { LeaseTable } from "./lease-table.ts";
import type { MemberRow } from "./member-table.ts";
import type { OverlayRecord } from "./overlay-record.ts";
import type { OverlayRow } from "./overlay-table.ts";
import type { PeerRanking } from "./peer-ranking.ts";
import { Reachability } from "./reachability.ts";
import type { Reply } from "./request-router.ts";
import type { ServerCounters, ServerOptions } from "./server-types.ts";

/** Encoded bytes that the members of one answer may take. */
const LIST_BYTES = SIGNALLING_MESSAGE_BYTES_MAX - 4_096;

export type FailReply = Pick<Reply<Record<string, never>>, "fail">;

/** What a membership needs of the server around it; each answers the request itself on a no. */
export interface MembershipHost {
  readonly options: ServerOptions;
  readonly counters: ServerCounters;
  answersChallenge(nonce: Uint8Array, reply: FailReply, now: Now): boolean;
  standing(overlayId: string, reply: FailReply, now: Now): OverlayRow | undefined;
  proven(
    claim: {
      readonly publicKey: Uint8Array;
      readonly bytes: Uint8Array;
      readonly signature: Uint8Array;
    },
    reply: FailReply,
    then: (now: Now) => void,
  ): void;
  pamsOf(record: OverlayRecord): { pamsUrl: string; reportIntervalMs: number };
  readonly ranking: PeerRanking;
  readonly dialBack: DialBack;
  /** Whether a virtual peer was ordered into this overlay (R8). */
  isAssigned(overlayId: string, peerId: string): boolean;
  /** Members came or went, or it was found out whether one can be dialled. */
  changed(overlayId: string): void;
}

export class Membership {
  readonly #host: MembershipHost;
  readonly #leaseMs: number;
  readonly #membersMax: number;
  /** Keys are overlay id and peer id, joined by a slash. */
  readonly #leases = new LeaseTable();

  constructor(host: MembershipHost, leaseMs: number, membersMax: number) {
    this.#host = host;
    this.#leaseMs = leaseMs;
    this.#membersMax = membersMax;
  }

  admitOwner(overlay: OverlayRow, now: Now): void {
    const { ownerId, record, members } = overlay;
    // Records of before do not say where the source peer was seen: at its first address then.
    const host = record.observedHost || (record.candidates[0]?.host ?? "");
    members.put({
      peerId: ownerId,
      role: ROLES.source,
      reachability: new Reachability(record.candidates, host),
      tokenHash: record.memberTokenHash,
      heldStart: 0,
      heldEnd: 0,
    });
    this.#tryOut(overlay, ownerId, now);
  }

  /** A member named its candidates anew; what was proven of them stays so. */
  moved(
    overlay: OverlayRow,
    peerId: string,
    given: readonly Candidate[],
    host: string,
    now: Now,
  ): void {
    const row = overlay.members.get(peerId);
    if (row === undefined) return;
    row.reachability = row.reachability.renew(given, host);
    this.#tryOut(overlay, peerId, now);
  }

  /** Has the candidates dialled that nobody is told of before. */
  #tryOut(overlay: OverlayRow, peerId: string, now: Now): void {
    const reachability = overlay.members.get(peerId)?.reachability;
    for (const row of reachability?.untried ?? []) {
      this.#host.dialBack.want(
        {
          overlayId: overlay.record.overlayId,
          sessionEpoch: overlay.record.sessionEpoch,
          peerId,
          address: row.candidate,
          observedHost: reachability?.observedHost ?? "",
          done: (proven) => {
            row.proven = proven;
            this.#host.changed(overlay.record.overlayId);
          },
        },
        now,
      );
    }
  }

  /** Forgets the members of an overlay that ended. */
  forget({ record, members }: OverlayRow): void {
    this.#host.dialBack.forget(record.overlayId);
    this.#host.ranking.forget(record.overlayId);
    for (const peerId of members.keys()) this.#leases.drop(`${record.overlayId}/${peerId}`);
  }

  /** The source peer starts over: who was a member joins again, and learns the new epoch by it. */
  startOver(row: OverlayRow, now: Now): void {
    this.forget(row);
    for (const peerId of [...row.members.keys()]) row.members.delete(peerId);
    this.admitOwner(row, now);
  }

  /** Members whose lease ended go. */
  onTime(now: Now, rowOf: (overlayId: string) => OverlayRow | undefined): void {
    for (;;) {
      const key = this.#leases.takeEnded(now.monoMs);
      if (key === undefined) return;
      const slash = key.indexOf("/");
      const overlayId = key.slice(0, slash);
      rowOf(overlayId)?.members.delete(key.slice(slash + 1));
      this.#host.changed(overlayId);
    }
  }

  earliestMs(): number {
    return this.#leases.earliestMs();
  }

  /** R5.0. */
  join(
    request: RequestOf<typeof r5.JOIN>,
    reply: Reply<(typeof r5.JOIN)["answer"]["fields"]>,
    now: Now,
  ): void {
    if (!this.#host.answersChallenge(request.nonce, reply, now)) return;
    const { overlayId, publicKey, nonce } = request;
    if (this.#host.standing(overlayId, reply, now) === undefined) return;
    const claim = {
      publicKey,
      bytes: r5.joinProof(nonce, overlayId),
      signature: request.signature,
    };
    this.#host.proven(claim, reply, (then) => {
      // It may have ended while the signature was checked.
      const overlay = this.#host.standing(overlayId, reply, then);
      if (overlay === undefined) return;
      const peerId = toHex(this.#host.options.sha256(publicKey));
      const owner = peerId === overlay.ownerId;
      if (owner !== (request.role === ROLES.source)) {
        reply.fail("NOT_OWNER", "the source peer of an overlay is the one that created it");
        return;
      }
      if (request.role === ROLES.virtual && !this.#host.isAssigned(overlayId, peerId)) {
        reply.fail("NOT_ADMITTED", "this virtual peer was not ordered here");
        return;
      }
      if (!overlay.members.get(peerId) && overlay.members.size >= this.#membersMax) {
        this.#host.counters.overloaded++;
        reply.fail("OVERLOADED", `limit of ${this.#membersMax} members`, {
          retryAfterMs: this.#leaseMs,
        });
        return;
      }
      const memberToken = this.#host.options.entropy.bytes(TOKEN_BYTES);
      const before = overlay.members.get(peerId)?.reachability;
      const { host } = reply.remote;
      overlay.members.put({
        peerId,
        role: request.role,
        reachability:
          before?.renew(request.candidates, host) ?? new Reachability(request.candidates, host),
        tokenHash: this.#host.options.sha256(memberToken),
        heldStart: 0,
        heldEnd: 0,
      });
      if (!owner) {
        this.#leases.grant(`${overlayId}/${peerId}`, this.#leaseMs, then.monoMs);
      }
      this.#tryOut(overlay, peerId, then);
      this.#host.changed(overlayId);
      const row = overlay.members.get(peerId) as MemberRow;
      const without = new Set([...request.exclude, peerId]);
      reply.answer({
        leaseMs: this.#leaseMs,
        memberToken,
        sessionEpoch: overlay.record.sessionEpoch,
        ...this.#host.pamsOf(overlay.record),
        members: this.#pick(overlay, row, host, PEER_LIST_MAX, without, {
          holding: undefined,
          preferred: this.#host.ranking.best(overlayId, overlay.ownerId, then),
        }),
      });
    });
  }

  refresh(
    request: RequestOf<typeof r5.MEMBER_REFRESH>,
    reply: Reply<(typeof r5.MEMBER_REFRESH)["answer"]["fields"]>,
    now: Now,
  ): void {
    const member = this.#member(request, reply, now);
    if (member === undefined) return;
    const { row, overlay } = member;
    const { host } = reply.remote;
    if (request.candidates !== undefined) {
      this.moved(overlay, request.peerId, request.candidates, host, now);
    } else this.#tryOut(overlay, request.peerId, now);
    row.heldStart = request.heldStart;
    row.heldEnd = request.heldEnd;
    if (overlay.ownerId !== request.peerId) {
      const lease = `${request.overlayId}/${request.peerId}`;
      this.#leases.grant(lease, this.#leaseMs, now.monoMs);
    }
    reply.answer({
      leaseMs: this.#leaseMs,
      sessionEpoch: overlay.record.sessionEpoch,
      reach: row.reachability.reach,
    });
  }

  /** R5.0: a list of members. */
  list(
    request: RequestOf<typeof r5.LIST_PEERS>,
    reply: Reply<(typeof r5.LIST_PEERS)["answer"]["fields"]>,
    now: Now,
  ): void {
    const member = this.#member(request, reply, now);
    if (member === undefined) return;
    const { maxPeers, holding, overlayId } = request;
    const { ranking } = this.#host;
    const without = new Set([...request.exclude, request.peerId]);
    const answer = (asking: typeof member, preferred: readonly string[]): void => {
      const { overlay, row } = asking;
      const { host } = reply.remote;
      reply.answer({
        members: this.#pick(overlay, row, host, maxPeers, without, { holding, preferred }),
      });
    };
    const sourceId = member.overlay.ownerId;
    if (holding === undefined) {
      answer(member, ranking.best(overlayId, sourceId, now));
      return;
    }
    ranking.holders({ overlayId, holding, sourceId }, now, (preferred, later) => {
      // It may have left, or the overlay may have ended, while the PAMS was asked.
      const still = this.#member(request, reply, later);
      if (still !== undefined) answer(still, preferred);
    });
  }

  /** R5.0. The source peer leaves by removing its overlay (P3.5); until then it stays listed. */
  leave(
    request: RequestOf<typeof r5.LEAVE>,
    reply: Reply<(typeof r5.LEAVE)["answer"]["fields"]>,
    now: Now,
  ): void {
    const member = this.#member(request, reply, now);
    if (member === undefined) return;
    if (member.overlay.ownerId !== request.peerId) {
      member.overlay.members.delete(request.peerId);
      this.#leases.drop(`${request.overlayId}/${request.peerId}`);
      this.#host.changed(request.overlayId);
    }
    reply.answer({});
  }

  /** The member that asks; else the request is answered. */
  #member(
    request: {
      readonly overlayId: string;
      readonly peerId: string;
      readonly memberToken: Uint8Array;
    },
    reply: FailReply,
    now: Now,
  ): { overlay: OverlayRow; row: MemberRow } | undefined {
    const overlay = this.#host.standing(request.overlayId, reply, now);
    if (overlay === undefined) return undefined;
    const row = overlay.members.get(request.peerId);
    // A wrong token is answered as no membership at all: joining again cures both.
    if (
      row === undefined ||
      !bytesEqual(this.#host.options.sha256(request.memberToken), row.tokenHash)
    ) {
      reply.fail("UNKNOWN_PEER", "join again");
      return undefined;
    }
    return { overlay, row };
  }

  #pick(
    overlay: OverlayRow,
    asker: MemberRow,
    askerHost: string,
    maxPeers: number,
    without: ReadonlySet<string>,
    preference: {
      readonly holding: number | undefined;
      readonly preferred: readonly string[];
    },
  ): r5.Member[] {
    const wish = {
      sourceId: overlay.ownerId,
      maxPeers,
      without,
      ...preference,
      askerHost,
      askerReach: asker.reachability.reach,
      roomBytes: LIST_BYTES,
    };
    return overlay.members.list(wish, this.#host.options.rng);
  }
}
