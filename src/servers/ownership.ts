/**
 * R5.a to R5.d: what the source peer may do with its overlay: create it with a proven key, and with
 * the owner token of that refresh it, start it over and remove it.
 *
 * An operation is acknowledged after its write is flushed, one write at a time per overlay.
 */

import type { Now } from "../base/machine.ts";
import { bytesEqual, toHex } from "../base/units.ts";
import type { Fields, InputOf } from "../protocol/codec.ts";
import { type Candidate, OVERLAY_ID_BYTES, REACH, TOKEN_BYTES } from "../protocol/common.ts";
import * as r5 from "../protocol/r5.ts";
import type { RequestOf } from "../protocol/signalling.ts";
import type { CacheLending } from "./cache-lending.ts";
import type { FailReply, Membership, MembershipHost } from "./membership.ts";
import { OVERLAY_STATES, type OverlayRecord } from "./overlay-record.ts";
import type { OverlayRow, OverlayTable } from "./overlay-table.ts";
import type { Reply } from "./request-router.ts";
import type { StoreFailure } from "./server-machine.ts";

/** What it needs of the server around it; each answers the request itself on a no. */
export interface OwnershipHost
  extends Pick<
    MembershipHost,
    "options" | "counters" | "answersChallenge" | "standing" | "proven" | "pamsOf"
  > {
  readonly overlays: OverlayTable;
  readonly membership: Membership;
  readonly lending: CacheLending;
  created(overlayId: string, title: string): void;
}

export class Ownership {
  readonly #host: OwnershipHost;
  readonly #refreshMs: number;
  readonly #overlaysMax: number;

  constructor(host: OwnershipHost, refreshMs: number, overlaysMax: number) {
    this.#host = host;
    this.#refreshMs = refreshMs;
    this.#overlaysMax = overlaysMax;
  }

  /** R5.a, R5.b, R5.c. */
  create(
    request: RequestOf<typeof r5.CREATE>,
    reply: Reply<(typeof r5.CREATE)["answer"]["fields"]>,
    now: Now,
  ): void {
    if (!this.#host.answersChallenge(request.nonce, reply, now)) return;
    if (request.peerList.length > 0) {
      reply.fail("CLOSED_UNSUPPORTED", "a list of eligible peers was given");
      return;
    }
    const { publicKey, signature, nonce } = request;
    this.#host.proven({ publicKey, bytes: r5.createProof(nonce), signature }, reply, (then) => {
      if (this.#host.overlays.size >= this.#overlaysMax) {
        this.#host.counters.overloaded++;
        reply.fail("OVERLOADED", `limit of ${this.#overlaysMax} overlays`, {
          retryAfterMs: this.#refreshMs,
        });
        return;
      }
      this.#createProven(request, reply, then);
    });
  }

  #createProven(
    request: RequestOf<typeof r5.CREATE>,
    reply: Reply<(typeof r5.CREATE)["answer"]["fields"]>,
    now: Now,
  ): void {
    const overlayId = toHex(this.#host.options.entropy.bytes(OVERLAY_ID_BYTES));
    const ownerToken = this.#host.options.entropy.bytes(TOKEN_BYTES);
    const memberToken = this.#host.options.entropy.bytes(TOKEN_BYTES);
    const wished = request.leaseMs === 0 ? this.#refreshMs : request.leaseMs;
    const record: OverlayRecord = {
      state: OVERLAY_STATES.stands,
      overlayId,
      sessionEpoch: 1,
      title: request.title,
      publicKey: request.publicKey,
      ownerTokenHash: this.#host.options.sha256(ownerToken),
      memberTokenHash: this.#host.options.sha256(memberToken),
      candidates: request.candidates,
      observedHost: reply.remote.host,
      pams: request.pams,
      leaseMs: Math.min(this.#refreshMs, Math.max(1_000, wished)),
      createdUs: Math.floor(now.wallUs),
      goneUs: 0,
      virtualPeers: 0,
      priority: 0,
    };
    this.#host.overlays.create(record, now, (result) => {
      if ("code" in result) {
        reply.fail(result.code, result.detail);
        return;
      }
      this.#host.created(overlayId, record.title);
      reply.answer({
        overlayId,
        sessionEpoch: record.sessionEpoch,
        refreshMs: record.leaseMs,
        ownerToken,
        memberToken,
        ...this.#host.pamsOf(record),
      });
    });
  }

  /**
   * Runs `work` for the owner of an overlay that stands, after the writes under way; `work` calls
   * done. Anybody else is answered.
   */
  #asOwner(
    request: { readonly overlayId: string; readonly ownerToken: Uint8Array },
    reply: FailReply,
    now: Now,
    work: (row: OverlayRow, now: Now, done: (now: Now) => void) => void,
  ): void {
    this.#host.overlays.inTurn(request.overlayId, now, (then, done) => {
      const row = this.#host.standing(request.overlayId, reply, then);
      if (
        row !== undefined &&
        bytesEqual(this.#host.options.sha256(request.ownerToken), row.record.ownerTokenHash)
      ) {
        work(row, then, done);
        return;
      }
      if (row !== undefined) reply.fail("NOT_OWNER", "wrong owner token");
      done(then);
    });
  }

  /** R5.d. */
  refresh(
    request: RequestOf<typeof r5.REFRESH_OVERLAY>,
    reply: Reply<(typeof r5.REFRESH_OVERLAY)["answer"]["fields"]>,
    now: Now,
  ): void {
    this.#asOwner(request, reply, now, (row, then, done) => {
      const { leaseMs } = row.record;
      const { host } = reply.remote;
      const candidates = request.candidates ?? row.record.candidates;
      const reachOf = () => row.members.get(row.ownerId)?.reachability.reach ?? REACH.unknown;
      this.#host.overlays.renew(row, then);
      const isKnown = sameCandidates(candidates, row.record.candidates);
      if (isKnown && (host === row.record.observedHost || request.candidates === undefined)) {
        reply.answer({ refreshMs: leaseMs, reach: reachOf() });
        done(then);
        return;
      }
      const record = { ...row.record, candidates, observedHost: host };
      this.#host.overlays.change(row, record, then, (failure, later) => {
        if (failure === undefined) {
          this.#host.membership.moved(row, row.ownerId, candidates, host, later);
        }
        settle(reply, failure, { refreshMs: leaseMs, reach: reachOf() });
        done(later);
      });
    });
  }

  /** The source peer starts over. */
  restart(
    request: RequestOf<typeof r5.RESTART>,
    reply: Reply<(typeof r5.RESTART)["answer"]["fields"]>,
    now: Now,
  ): void {
    this.#asOwner(request, reply, now, (row, then, done) => {
      const sessionEpoch = row.record.sessionEpoch + 1;
      this.#host.overlays.change(row, { ...row.record, sessionEpoch }, then, (failure, later) => {
        if (failure === undefined) this.#startedOver(row, later);
        settle(reply, failure, { sessionEpoch, refreshMs: row.record.leaseMs });
        done(later);
      });
    });
  }

  /** The same by the key that created the overlay, when its process lost the token. */
  takeOver(
    request: RequestOf<typeof r5.TAKE_OVER>,
    reply: Reply<(typeof r5.TAKE_OVER)["answer"]["fields"]>,
    now: Now,
  ): void {
    const { overlayId, nonce, signature } = request;
    if (!this.#host.answersChallenge(nonce, reply, now)) return;
    const claimed = this.#host.standing(overlayId, reply, now);
    if (claimed === undefined) return;
    const { publicKey } = claimed.record;
    const claim = { publicKey, bytes: r5.takeOverProof(nonce, overlayId), signature };
    this.#host.proven(claim, reply, (proven) => {
      this.#host.overlays.inTurn(overlayId, proven, (then, done) => {
        // It may have ended while the signature was checked, or a write was under way.
        const row = this.#host.standing(overlayId, reply, then);
        if (row === undefined) done(then);
        else this.#takeOverProven(row, request.candidates, reply, then, done);
      });
    });
  }

  #takeOverProven(
    row: OverlayRow,
    candidates: readonly Candidate[],
    reply: Reply<(typeof r5.TAKE_OVER)["answer"]["fields"]>,
    now: Now,
    done: (now: Now) => void,
  ): void {
    const { entropy, sha256 } = this.#host.options;
    const ownerToken = entropy.bytes(TOKEN_BYTES);
    const memberToken = entropy.bytes(TOKEN_BYTES);
    const record: OverlayRecord = {
      ...row.record,
      sessionEpoch: row.record.sessionEpoch + 1,
      ownerTokenHash: sha256(ownerToken),
      memberTokenHash: sha256(memberToken),
      candidates,
      observedHost: reply.remote.host,
    };
    this.#host.overlays.change(row, record, now, (failure, later) => {
      if (failure === undefined) this.#startedOver(row, later);
      settle(reply, failure, {
        sessionEpoch: record.sessionEpoch,
        refreshMs: record.leaseMs,
        ownerToken,
        memberToken,
        ...this.#host.pamsOf(record),
      });
      done(later);
    });
  }

  /** P1.3: the wish is on disk before it is met. */
  askVirtualPeers(
    request: RequestOf<typeof r5.ASK_VIRTUAL_PEERS>,
    reply: Reply<(typeof r5.ASK_VIRTUAL_PEERS)["answer"]["fields"]>,
    now: Now,
  ): void {
    this.#asOwner(request, reply, now, (row, then, done) => {
      const { virtualPeers, priority } = request;
      const answer = (failure: StoreFailure | undefined, later: Now): void => {
        if (failure === undefined) this.#host.lending.wished(request.overlayId, later);
        settle(reply, failure, this.#host.lending.standingOf(row));
        done(later);
      };
      const { record } = row;
      if (record.virtualPeers === virtualPeers && record.priority === priority) {
        answer(undefined, then);
      } else this.#host.overlays.change(row, { ...record, virtualPeers, priority }, then, answer);
    });
  }

  #startedOver(row: OverlayRow, now: Now): void {
    this.#host.overlays.renew(row, now);
    this.#host.membership.startOver(row, now);
    this.#host.lending.startedOver(row.record.overlayId);
  }

  /** P3.2. */
  remove(
    request: RequestOf<typeof r5.REMOVE_SESSION_OVERLAY>,
    reply: Reply<(typeof r5.REMOVE_SESSION_OVERLAY)["answer"]["fields"]>,
    now: Now,
  ): void {
    this.#asOwner(request, reply, now, (row, then, done) => {
      this.#host.overlays.end(row, "removed", then, (failure, later) => {
        settle(reply, failure, {});
        done(later);
      });
    });
  }
}

/** The answer, or the failure of the write behind it. */
function settle<A extends Fields>(
  reply: Reply<A>,
  failure: StoreFailure | undefined,
  answer: InputOf<A>,
): void {
  if (failure === undefined) reply.answer(answer);
  else reply.fail(failure.code, failure.detail);
}

function sameCandidates(a: readonly Candidate[], b: readonly Candidate[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ transport, host, port, kind }, i) => {
      const other = b[i];
      const isSame = other?.transport === transport && other.host === host && other.port === port;
      return isSame && other.kind === kind;
    })
  );
}
