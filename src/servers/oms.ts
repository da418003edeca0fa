/**
 * OMS, the overlay management server (R5; R1 towards the PAMS).
 *
 * Durable: overlays and their tombstones, and `term`, one more at each start, stored before
 * anything is served. An operation on an overlay is acknowledged after its write is flushed; one
 * write at a time per overlay. Soft: memberships, challenges and leases. After a restart every
 * overlay's lease runs at full length again, its source peer is listed from the record, and members
 * hear UNKNOWN_PEER at their next refresh and join again.
 *
 * `gone` and `unknown` differ: a tombstone answers OVERLAY_GONE with when it ended.
 *
 * It never sees data, and a member is what it proved to be: its id is the hash of the key that
 * signed the challenge.
 */

import { assert } from "../base/assert.ts";
import { type ErrorCode, RemoteProtocolError } from "../base/errors.ts";
import { PEER_LIST_MAX, SIGNALLING_MESSAGE_BYTES_MAX } from "../base/limits.ts";
import {
  type Address,
  type LinkId,
  type Now,
  parseAddress,
  type StoreRecord,
} from "../base/machine.ts";
import { bytesEqual, fromHex, toHex } from "../base/units.ts";
import { NONCE_BYTES, OVERLAY_ID_BYTES, ROLES, TOKEN_BYTES } from "../protocol/common.ts";
import * as r5 from "../protocol/r5.ts";
import type { RequestOf } from "../protocol/signalling.ts";
import { KeyQueue } from "./key-queue.ts";
import { LeaseTable } from "./lease-table.ts";
import { MemberTable } from "./member-table.ts";
import {
  OVERLAY_RECORD,
  OVERLAY_STATES,
  type OverlayRecord,
  TERM_RECORD,
} from "./overlay-record.ts";
import { PamsRegistrar } from "./pams-registrar.ts";
import type { Reply } from "./request-router.ts";
import { ServerMachine } from "./server-machine.ts";
import type { ServerCounters, ServerOptions } from "./server-types.ts";

export const OMS_STORE_PREFIX = "oms/";
const OVERLAY_PREFIX = `${OMS_STORE_PREFIX}overlay/`;
const TERM_KEY = `${OMS_STORE_PREFIX}term`;
export const OMS_REQUEST_ID_BASE = 0x1000_0000;

/** How long a challenge may be answered; and how many may be open. */
const CHALLENGE_MS = 30_000;
const CHALLENGES_MAX = 10_000;
/** After a failed write of an overlay's end: when to try again. */
const RETRY_MS = 1_000;
/** Encoded bytes that the members of one answer may take. */
const LIST_BYTES = SIGNALLING_MESSAGE_BYTES_MAX - 4_096;

export interface OmsOptions extends ServerOptions {
  /** `ws://host:port` of the PAMS; empty = none. */
  readonly pamsUrl?: string;
  /** Where this OMS is, told to the PAMS. */
  readonly omsUrl?: string;
  /** R5.c: the refresh expiration time, unless a source asks for less. Default 60 s. */
  readonly refreshMs?: number;
  /** Lease of a membership. Default 30 s. */
  readonly memberLeaseMs?: number;
  /** Given with a PAMS until that has said its own. Default 10 s. */
  readonly reportIntervalMs?: number;
  /** Overlays that stand. Default 1,000. */
  readonly overlaysMax?: number;
  /** Members an overlay; 1 KiB each. Default 10,000. */
  readonly membersMax?: number;
  /** Tombstones kept; the oldest go first and are then unknown. Default 10,000. */
  readonly tombstonesMax?: number;
}

export type OmsEvent =
  | { readonly type: "overlayCreated"; readonly overlayId: string; readonly title: string }
  | {
      readonly type: "overlayEnded";
      readonly overlayId: string;
      readonly why: "removed" | "expired";
    };

export interface OmsOverlaySnapshot {
  readonly overlayId: string;
  readonly title: string;
  readonly sessionEpoch: number;
  readonly sourcePeerId: string;
  readonly members: number;
}

export interface OmsSnapshot {
  readonly ready: boolean;
  readonly term: number;
  readonly overlays: readonly OmsOverlaySnapshot[];
  readonly tombstones: number;
  readonly pamsRegistrations: number;
  readonly counters: ServerCounters;
}

interface OverlayRow {
  readonly key: string;
  revision: number;
  record: OverlayRecord;
  readonly ownerId: string;
  readonly members: MemberTable;
  /** Its end is being written: to everybody it is gone. */
  ending: boolean;
}

type FailReply = Pick<Reply<Record<string, never>>, "fail">;

export class Oms extends ServerMachine<OmsSnapshot, never, OmsEvent> {
  /** Overlays that stand, by id; while loading also those of other states. */
  readonly #overlays = new Map<string, OverlayRow>();
  /** Tombstones by id, oldest first. */
  readonly #gone = new Map<string, { readonly revision: number; readonly record: OverlayRecord }>();
  readonly #overlayLeases = new LeaseTable();
  /** Keys are overlay id and peer id, joined by a slash. */
  readonly #memberLeases = new LeaseTable();
  /** Keys are nonces in hex. */
  readonly #challenges = new LeaseTable();
  readonly #queue = new KeyQueue();
  readonly #registrar: PamsRegistrar | undefined;
  readonly #refreshMs: number;
  readonly #memberLeaseMs: number;
  readonly #overlaysMax: number;
  readonly #membersMax: number;
  readonly #tombstonesMax: number;
  readonly #pamsUrl: string;
  #term: { readonly value: number; readonly revision: number } = { value: 0, revision: 0 };
  #creating = 0;

  constructor(options: OmsOptions) {
    super(options, OMS_STORE_PREFIX, OMS_REQUEST_ID_BASE);
    this.#refreshMs = options.refreshMs ?? 60_000;
    this.#memberLeaseMs = options.memberLeaseMs ?? 30_000;
    this.#overlaysMax = options.overlaysMax ?? 1_000;
    this.#membersMax = options.membersMax ?? 10_000;
    this.#tombstonesMax = options.tombstonesMax ?? 10_000;
    this.#pamsUrl = options.pamsUrl ?? "";
    if (this.#pamsUrl !== "") {
      const address = parseAddress(this.#pamsUrl);
      assert(address !== undefined, "pamsUrl is an address such as ws://host:port");
      this.#registrar = new PamsRegistrar({
        address,
        omsUrl: options.omsUrl ?? "",
        rng: options.rng,
        router: this.router,
        open: (linkId, to) => this.emit({ kind: "open", linkId, address: to }),
        reportIntervalMs: options.reportIntervalMs ?? 10_000,
      });
    }
    this.router.on(r5.CHALLENGE, (_, reply, now) => this.#challenge(reply, now));
    this.router.on(r5.CREATE, (request, reply, now) => this.#create(request, reply, now));
    this.router.on(r5.REFRESH_OVERLAY, (request, reply, now) => this.#refresh(request, reply, now));
    this.router.on(r5.REMOVE_SESSION_OVERLAY, (request, reply, now) =>
      this.#remove(request, reply, now),
    );
    this.router.on(r5.RESTART, (request, reply, now) => this.#restart(request, reply, now));
    this.router.on(r5.JOIN, (request, reply, now) => this.#join(request, reply, now));
    this.router.on(r5.MEMBER_REFRESH, (request, reply, now) =>
      this.#memberRefresh(request, reply, now),
    );
    this.router.on(r5.LIST_PEERS, (request, reply, now) => {
      const member = this.#member(request, reply, now);
      if (member === undefined) return;
      const { maxPeers, holding } = request;
      const without = new Set([...request.exclude, request.peerId]);
      reply.answer({ members: this.#list(member.overlay, maxPeers, without, holding) });
    });
    this.router.on(r5.LEAVE, (request, reply, now) => {
      const member = this.#member(request, reply, now);
      if (member === undefined) return;
      // The source peer leaves by removing its overlay (P3.5); until then it stays listed.
      if (member.overlay.ownerId !== request.peerId) {
        this.#dropMember(member.overlay, request.peerId);
      }
      reply.answer({});
    });
  }

  // ----------------------------------------------------------------------------------- identity

  #challenge(reply: Reply<(typeof r5.CHALLENGE)["answer"]["fields"]>, now: Now): void {
    // The oldest goes first: who answers at once is safe from a flood of askers.
    if (this.#challenges.size >= CHALLENGES_MAX) {
      this.#challenges.takeEnded(Number.POSITIVE_INFINITY);
    }
    const nonce = this.options.entropy.bytes(NONCE_BYTES);
    this.#challenges.grant(toHex(nonce), CHALLENGE_MS, now.monoMs);
    reply.answer({ nonce });
  }

  /** Uses a challenge up; answers the request and gives false when it was none of ours. */
  #answersChallenge(nonce: Uint8Array, reply: FailReply, now: Now): boolean {
    const key = toHex(nonce);
    const open = this.#challenges.holds(key, now.monoMs);
    this.#challenges.drop(key);
    if (!open) reply.fail("IDENTITY_UNPROVEN", "no such challenge is open; ask for a new one");
    return open;
  }

  #hash(bytes: Uint8Array): Uint8Array {
    return this.options.sha256(bytes);
  }

  // -------------------------------------------------------------------------------- overlay

  /** R5.a, R5.b, R5.c. */
  #create(
    request: RequestOf<typeof r5.CREATE>,
    reply: Reply<(typeof r5.CREATE)["answer"]["fields"]>,
    now: Now,
  ): void {
    if (!this.#answersChallenge(request.nonce, reply, now)) return;
    if (request.peerList.length > 0) {
      reply.fail("CLOSED_UNSUPPORTED", "a list of eligible peers was given");
      return;
    }
    const { publicKey, signature, nonce } = request;
    this.proven({ publicKey, bytes: r5.createProof(nonce), signature }, reply, (then) => {
      if (this.#overlays.size + this.#creating >= this.#overlaysMax) {
        this.counters.overloaded++;
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
    const overlayId = toHex(this.options.entropy.bytes(OVERLAY_ID_BYTES));
    const ownerToken = this.options.entropy.bytes(TOKEN_BYTES);
    const memberToken = this.options.entropy.bytes(TOKEN_BYTES);
    const key = OVERLAY_PREFIX + overlayId;
    const wished = request.leaseMs === 0 ? this.#refreshMs : request.leaseMs;
    const record: OverlayRecord = {
      state: OVERLAY_STATES.stands,
      overlayId,
      sessionEpoch: 1,
      title: request.title,
      publicKey: request.publicKey,
      ownerTokenHash: this.#hash(ownerToken),
      memberTokenHash: this.#hash(memberToken),
      candidates: observed(request.candidates, reply.remote),
      pams: request.pams,
      leaseMs: Math.min(this.#refreshMs, Math.max(1_000, wished)),
      createdUs: Math.floor(now.wallUs),
      goneUs: 0,
    };
    this.#creating++;
    const value = OVERLAY_RECORD.encode(record);
    this.commit([{ key, value, revision: 0 }], now, (result, then) => {
      this.#creating--;
      if (!("revision" in result)) {
        reply.fail(result.code, result.detail);
        return;
      }
      this.#stand(key, result.revision, record, then);
      this.report({ type: "overlayCreated", overlayId, title: record.title });
      reply.answer({
        overlayId,
        sessionEpoch: record.sessionEpoch,
        refreshMs: record.leaseMs,
        ownerToken,
        memberToken,
        ...this.#pamsOf(record),
      });
    });
  }

  /** Takes an overlay that stands into memory, its lease at full length. */
  #stand(key: string, revision: number, record: OverlayRecord, now: Now): void {
    const row: OverlayRow = {
      key,
      revision,
      record,
      ownerId: toHex(this.#hash(record.publicKey)),
      members: new MemberTable(),
      ending: false,
    };
    this.#overlays.set(record.overlayId, row);
    this.#putOwner(row, record.memberTokenHash);
    this.#overlayLeases.grant(record.overlayId, record.leaseMs, now.monoMs);
    if (record.pams) this.#registrar?.add(record.overlayId, now);
  }

  /** The source peer is a member of its overlay for as long as it stands. */
  #putOwner(row: OverlayRow, tokenHash: Uint8Array): void {
    row.members.put({
      peerId: row.ownerId,
      role: ROLES.source,
      candidates: row.record.candidates,
      tokenHash,
      heldStart: 0,
      heldEnd: 0,
    });
  }

  /** What a CREATE or JOIN answer says of the PAMS. */
  #pamsOf(record: OverlayRecord): { pamsUrl: string; reportIntervalMs: number } {
    const registrar = record.pams ? this.#registrar : undefined;
    return {
      pamsUrl: registrar === undefined ? "" : this.#pamsUrl,
      reportIntervalMs: registrar?.reportIntervalMs ?? 0,
    };
  }

  /** The overlay if it stands; else the request is answered: gone (with when) or unknown. */
  #standing(overlayId: string, reply: FailReply, now: Now): OverlayRow | undefined {
    const row = this.#overlays.get(overlayId);
    if (row !== undefined && !row.ending && this.#overlayLeases.holds(overlayId, now.monoMs)) {
      return row;
    }
    const gone = this.#gone.get(overlayId);
    if (gone !== undefined) {
      const how = gone.record.state === OVERLAY_STATES.removed ? "removed" : "expired";
      reply.fail("OVERLAY_GONE", how, { whenUs: gone.record.goneUs });
    } else if (row !== undefined) {
      reply.fail("OVERLAY_GONE", "ending", { whenUs: Math.floor(now.wallUs) });
    } else {
      reply.fail("UNKNOWN_OVERLAY", "");
    }
    return undefined;
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
    const key = OVERLAY_PREFIX + request.overlayId;
    const done = (then: Now): void => this.#queue.done(key, then);
    this.#queue.run(
      key,
      (then) => {
        const row = this.#standing(request.overlayId, reply, then);
        if (row === undefined) {
          done(then);
        } else if (!bytesEqual(this.#hash(request.ownerToken), row.record.ownerTokenHash)) {
          reply.fail("NOT_OWNER", "wrong owner token");
          done(then);
        } else {
          work(row, then, done);
        }
      },
      now,
    );
  }

  /** R5.d. */
  #refresh(
    request: RequestOf<typeof r5.REFRESH_OVERLAY>,
    reply: Reply<(typeof r5.REFRESH_OVERLAY)["answer"]["fields"]>,
    now: Now,
  ): void {
    this.#asOwner(request, reply, now, (row, then, done) => {
      const { leaseMs } = row.record;
      const candidates =
        request.candidates === undefined ? undefined : observed(request.candidates, reply.remote);
      this.#overlayLeases.grant(request.overlayId, leaseMs, then.monoMs);
      if (candidates === undefined || sameAddresses(candidates, row.record.candidates)) {
        reply.answer({ refreshMs: leaseMs });
        done(then);
        return;
      }
      this.#change(row, { ...row.record, candidates }, reply, then, done, () => {
        const owner = row.members.get(row.ownerId);
        if (owner !== undefined) owner.candidates = candidates;
        reply.answer({ refreshMs: leaseMs });
      });
    });
  }

  /** The source peer starts over. */
  #restart(
    request: RequestOf<typeof r5.RESTART>,
    reply: Reply<(typeof r5.RESTART)["answer"]["fields"]>,
    now: Now,
  ): void {
    this.#asOwner(request, reply, now, (row, then, done) => {
      const sessionEpoch = row.record.sessionEpoch + 1;
      this.#change(row, { ...row.record, sessionEpoch }, reply, then, done, (later) => {
        this.#overlayLeases.grant(request.overlayId, row.record.leaseMs, later.monoMs);
        reply.answer({ sessionEpoch, refreshMs: row.record.leaseMs });
      });
    });
  }

  /** Writes a changed record of an overlay that stands. */
  #change(
    row: OverlayRow,
    record: OverlayRecord,
    reply: FailReply,
    now: Now,
    done: (now: Now) => void,
    then: (now: Now) => void,
  ): void {
    const value = OVERLAY_RECORD.encode(record);
    this.commit([{ key: row.key, value, revision: row.revision }], now, (result, later) => {
      if ("revision" in result) {
        row.record = record;
        row.revision = result.revision;
        then(later);
      } else {
        reply.fail(result.code, result.detail);
      }
      done(later);
    });
  }

  /** P3.2. */
  #remove(
    request: RequestOf<typeof r5.REMOVE_SESSION_OVERLAY>,
    reply: Reply<(typeof r5.REMOVE_SESSION_OVERLAY)["answer"]["fields"]>,
    now: Now,
  ): void {
    this.#asOwner(request, reply, now, (row, then, done) => {
      this.#end(row, "removed", then, (failure, later) => {
        if (failure === undefined) reply.answer({});
        else reply.fail(failure.code, failure.detail);
        done(later);
      });
    });
  }

  /** Writes the tombstone; the overlay is gone from memory after the flush. */
  #end(
    row: OverlayRow,
    why: "removed" | "expired",
    now: Now,
    then: (failure: { code: ErrorCode; detail: string } | undefined, now: Now) => void,
  ): void {
    const { overlayId } = row.record;
    const record = {
      ...row.record,
      state: OVERLAY_STATES[why],
      goneUs: Math.floor(now.wallUs),
    };
    row.ending = true;
    const writes = [
      { key: row.key, value: OVERLAY_RECORD.encode(record), revision: row.revision },
    ] as { key: string; value: Uint8Array | undefined; revision: number }[];
    const oldest = this.#gone.size >= this.#tombstonesMax ? first(this.#gone) : undefined;
    if (oldest !== undefined) {
      const [id, tombstone] = oldest;
      writes.push({ key: OVERLAY_PREFIX + id, value: undefined, revision: tombstone.revision });
      // Out of memory first, so that an end under way beside this one takes the next.
      this.#gone.delete(id);
    }
    this.commit(writes, now, (result, later) => {
      if (!("revision" in result)) {
        row.ending = false;
        then(result, later);
        return;
      }
      this.#fall(row);
      this.#gone.set(overlayId, { revision: result.revision, record });
      this.report({ type: "overlayEnded", overlayId, why });
      then(undefined, later);
    });
  }

  /** Forgets an overlay that stood: members, leases, registration at the PAMS (P3.3). */
  #fall(row: OverlayRow): void {
    const { overlayId } = row.record;
    for (const peerId of row.members.keys()) this.#memberLeases.drop(`${overlayId}/${peerId}`);
    this.#overlays.delete(overlayId);
    this.#overlayLeases.drop(overlayId);
    this.#registrar?.remove(overlayId);
  }

  // -------------------------------------------------------------------------------- members

  /** R5.0. */
  #join(
    request: RequestOf<typeof r5.JOIN>,
    reply: Reply<(typeof r5.JOIN)["answer"]["fields"]>,
    now: Now,
  ): void {
    if (!this.#answersChallenge(request.nonce, reply, now)) return;
    const { overlayId, publicKey, nonce } = request;
    if (this.#standing(overlayId, reply, now) === undefined) return;
    const claim = {
      publicKey,
      bytes: r5.joinProof(nonce, overlayId),
      signature: request.signature,
    };
    this.proven(claim, reply, (then) => {
      // It may have ended while the signature was checked.
      const overlay = this.#standing(overlayId, reply, then);
      if (overlay === undefined) return;
      const peerId = toHex(this.#hash(publicKey));
      const owner = peerId === overlay.ownerId;
      if (owner !== (request.role === ROLES.source)) {
        reply.fail("NOT_OWNER", "the source peer of an overlay is the one that created it");
        return;
      }
      if (!overlay.members.get(peerId) && overlay.members.size >= this.#membersMax) {
        this.counters.overloaded++;
        reply.fail("OVERLOADED", `limit of ${this.#membersMax} members`, {
          retryAfterMs: this.#memberLeaseMs,
        });
        return;
      }
      const memberToken = this.options.entropy.bytes(TOKEN_BYTES);
      overlay.members.put({
        peerId,
        role: request.role,
        candidates: observed(request.candidates, reply.remote),
        tokenHash: this.#hash(memberToken),
        heldStart: 0,
        heldEnd: 0,
      });
      if (!owner) {
        this.#memberLeases.grant(`${overlayId}/${peerId}`, this.#memberLeaseMs, then.monoMs);
      }
      const without = new Set([...request.exclude, peerId]);
      reply.answer({
        leaseMs: this.#memberLeaseMs,
        memberToken,
        sessionEpoch: overlay.record.sessionEpoch,
        ...this.#pamsOf(overlay.record),
        members: this.#list(overlay, PEER_LIST_MAX, without, undefined),
      });
    });
  }

  #memberRefresh(
    request: RequestOf<typeof r5.MEMBER_REFRESH>,
    reply: Reply<(typeof r5.MEMBER_REFRESH)["answer"]["fields"]>,
    now: Now,
  ): void {
    const member = this.#member(request, reply, now);
    if (member === undefined) return;
    const { row, overlay } = member;
    if (request.candidates !== undefined) {
      row.candidates = observed(request.candidates, reply.remote);
    }
    row.heldStart = request.heldStart;
    row.heldEnd = request.heldEnd;
    if (overlay.ownerId !== request.peerId) {
      const lease = `${request.overlayId}/${request.peerId}`;
      this.#memberLeases.grant(lease, this.#memberLeaseMs, now.monoMs);
    }
    reply.answer({
      leaseMs: this.#memberLeaseMs,
      sessionEpoch: overlay.record.sessionEpoch,
    });
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
  ): { overlay: OverlayRow; row: NonNullable<ReturnType<MemberTable["get"]>> } | undefined {
    const overlay = this.#standing(request.overlayId, reply, now);
    if (overlay === undefined) return undefined;
    const row = overlay.members.get(request.peerId);
    // A wrong token is answered as no membership at all: joining again cures both.
    if (row === undefined || !bytesEqual(this.#hash(request.memberToken), row.tokenHash)) {
      reply.fail("UNKNOWN_PEER", "join again");
      return undefined;
    }
    return { overlay, row };
  }

  #list(
    overlay: OverlayRow,
    maxPeers: number,
    without: ReadonlySet<string>,
    holding: number | undefined,
  ): r5.Member[] {
    const { ownerId: sourceId } = overlay;
    const wish = { sourceId, maxPeers, without, holding, roomBytes: LIST_BYTES };
    return overlay.members.list(wish, this.options.rng);
  }

  #dropMember(overlay: OverlayRow, peerId: string): void {
    overlay.members.delete(peerId);
    this.#memberLeases.drop(`${overlay.record.overlayId}/${peerId}`);
  }

  // ---------------------------------------------------------------------------------- lifecycle

  protected override take(key: string, record: StoreRecord | undefined, now: Now): void {
    if (key === TERM_KEY) {
      if (record === undefined) return;
      this.#decoded(key, () => {
        const { term } = TERM_RECORD.decode(record.value);
        this.#term = { value: term, revision: record.revision };
      });
      return;
    }
    const overlayId = key.slice(OVERLAY_PREFIX.length);
    if (!key.startsWith(OVERLAY_PREFIX) || fromHex(overlayId)?.length !== OVERLAY_ID_BYTES) {
      this.giveUp({ code: "STORE_CORRUPT", detail: `${key} is no record of an overlay server` });
      return;
    }
    const row = this.#overlays.get(overlayId);
    if (record === undefined) {
      if (row !== undefined) this.#fall(row);
      this.#gone.delete(overlayId);
      return;
    }
    this.#decoded(key, () => {
      const decoded = OVERLAY_RECORD.decode(record.value);
      if (decoded.state !== OVERLAY_STATES.stands) {
        if (row !== undefined) this.#fall(row);
        this.#gone.set(overlayId, { revision: record.revision, record: decoded });
      } else if (row === undefined) {
        this.#stand(key, record.revision, decoded, now);
      } else {
        row.record = decoded;
        row.revision = record.revision;
      }
    });
  }

  #decoded(key: string, decode: () => void): void {
    try {
      decode();
    } catch (error) {
      if (!(error instanceof RemoteProtocolError)) throw error;
      this.giveUp({ code: "STORE_CORRUPT", detail: `${key}: ${error.detail ?? ""}` });
    }
  }

  protected override onLoaded(now: Now): void {
    const oldestFirst = [...this.#gone].sort(([, a], [, b]) => a.record.goneUs - b.record.goneUs);
    this.#gone.clear();
    for (const [id, tombstone] of oldestFirst) this.#gone.set(id, tombstone);
    // No lease may start to run before requests are served: all start now.
    const term = this.#term.value + 1;
    const write = {
      key: TERM_KEY,
      value: TERM_RECORD.encode({ term }),
      revision: this.#term.revision,
    };
    this.commit([write], now, (result, then) => {
      if (!("revision" in result)) {
        this.giveUp(result);
        return;
      }
      this.#term = { value: term, revision: result.revision };
      for (const { record } of this.#overlays.values()) {
        this.#overlayLeases.grant(record.overlayId, record.leaseMs, then.monoMs);
      }
      this.serve();
    });
  }

  protected override onCommand(): void {}

  protected override onLinkUp(linkId: LinkId, now: Now): void {
    this.#registrar?.linkUp(linkId, now);
  }

  protected override onLinkDown(linkId: LinkId, now: Now): void {
    this.#registrar?.linkDown(linkId, now);
  }

  protected override onTime(now: Now): void {
    if (!this.ready) return;
    while (this.#challenges.takeEnded(now.monoMs) !== undefined);
    for (;;) {
      const key = this.#memberLeases.takeEnded(now.monoMs);
      if (key === undefined) break;
      const slash = key.indexOf("/");
      this.#overlays.get(key.slice(0, slash))?.members.delete(key.slice(slash + 1));
    }
    for (;;) {
      const overlayId = this.#overlayLeases.takeEnded(now.monoMs);
      if (overlayId === undefined) break;
      this.#expire(overlayId, now);
    }
    this.#registrar?.onTime(now);
  }

  /** R5.c: no refresh came in time. */
  #expire(overlayId: string, now: Now): void {
    const key = OVERLAY_PREFIX + overlayId;
    this.#queue.run(
      key,
      (then) => {
        const row = this.#overlays.get(overlayId);
        // Ended meanwhile, or a refresh that came in time waited before this in the queue.
        if (row === undefined || this.#overlayLeases.holds(overlayId, then.monoMs)) {
          this.#queue.done(key, then);
          return;
        }
        this.#end(row, "expired", then, (failure, later) => {
          if (failure !== undefined && this.#overlays.has(overlayId)) {
            // Not on disk: it stays gone to everybody, and its end is tried again.
            row.ending = true;
            this.#overlayLeases.grant(overlayId, RETRY_MS, later.monoMs);
          }
          this.#queue.done(key, later);
        });
      },
      now,
    );
  }

  protected override earliestMs(): number {
    if (!this.ready) return Number.POSITIVE_INFINITY;
    return Math.min(
      this.#overlayLeases.earliestMs(),
      this.#memberLeases.earliestMs(),
      this.#challenges.earliestMs(),
      this.#registrar?.earliestMs() ?? Number.POSITIVE_INFINITY,
    );
  }

  protected override snapshot(): OmsSnapshot {
    return {
      ready: this.ready,
      term: this.#term.value,
      overlays: [...this.#overlays.values()].map(({ record, ownerId, members }) => ({
        overlayId: record.overlayId,
        title: record.title,
        sessionEpoch: record.sessionEpoch,
        sourcePeerId: ownerId,
        members: members.size,
      })),
      tombstones: this.#gone.size,
      pamsRegistrations: this.#registrar?.registered ?? 0,
      counters: { ...this.counters },
    };
  }
}

/** An overlay management server; `start` loads it from the store. */
export function createOms(options: OmsOptions): Oms {
  return new Oms(options);
}

function first<K, V>(map: ReadonlyMap<K, V>): [K, V] | undefined {
  for (const entry of map) return entry;
  return undefined;
}

/** A candidate that names no host of its own gets the one that the socket shows. */
function observed(candidates: readonly Address[], remote: Address): readonly Address[] {
  return candidates.map((candidate) =>
    candidate.host === "0.0.0.0" || candidate.host === "::"
      ? { ...candidate, host: remote.host }
      : candidate,
  );
}

function sameAddresses(a: readonly Address[], b: readonly Address[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ transport, host, port }, i) => {
      const other = b[i];
      return other?.transport === transport && other.host === host && other.port === port;
    })
  );
}
