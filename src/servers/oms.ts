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
import { RemoteProtocolError } from "../base/errors.ts";
import { OVERLAY_VIRTUAL_PEERS_DEFAULT, PRIORITY_MAX } from "../base/limits.ts";
import {
  type Address,
  type Frames,
  type LinkId,
  type Now,
  parseAddress,
  type StoreRecord,
} from "../base/machine.ts";
import { fromHex, toHex } from "../base/units.ts";
import { LIST_CACHE_SERVERS, LIST_OVERLAYS } from "../protocol/admin.ts";
import { OVERLAY_ID_BYTES, REACH } from "../protocol/common.ts";
import type { PEER_STATUS } from "../protocol/r1.ts";
import * as r5 from "../protocol/r5.ts";
import type { AnswerOf, RequestOf } from "../protocol/signalling.ts";
import { CacheLending } from "./cache-lending.ts";
import { CACHE_RECORD } from "./cache-record.ts";
import { Challenges } from "./challenges.ts";
import { DialBack } from "./dial-back.ts";
import { IxsNotifier } from "./ixs-notifier.ts";
import { type FailReply, Membership } from "./membership.ts";
import type { OmsCommand, OmsEvent, OmsOptions, OmsSnapshot } from "./oms-types.ts";
import { OVERLAY_RECORD, type OverlayRecord, TERM_RECORD } from "./overlay-record.ts";
import { type OverlayRow, OverlayTable } from "./overlay-table.ts";
import { Ownership } from "./ownership.ts";
import { PamsRegistrar } from "./pams-registrar.ts";
import { PeerRanking } from "./peer-ranking.ts";
import type { Reply } from "./request-router.ts";
import { ServerMachine } from "./server-machine.ts";
import { checkedServiceKey, isSameServiceKey } from "./service-key.ts";
import { Uplink } from "./uplink.ts";

export const OMS_STORE_PREFIX = "oms/";
const OVERLAY_PREFIX = `${OMS_STORE_PREFIX}overlay/`;
const CACHE_PREFIX = `${OMS_STORE_PREFIX}cache/`;
const TERM_KEY = `${OMS_STORE_PREFIX}term`;
export const OMS_REQUEST_ID_BASE = 0x1000_0000;
const TOMBSTONES_MAX = 10_000;
/** The PAMS may have to ask the peer first. */
const PEER_STATUS_MS = 8_000;

export class Oms extends ServerMachine<OmsSnapshot, OmsCommand, OmsEvent> {
  readonly #overlays: OverlayTable;
  readonly #membership: Membership;
  readonly #challenges: Challenges;
  readonly #registrar: PamsRegistrar | undefined;
  readonly #notifier: IxsNotifier | undefined;
  readonly #dialBack: DialBack;
  readonly #lending: CacheLending;
  readonly #refreshMs: number;
  readonly #pamsUrl: string;
  readonly #serviceKey: Uint8Array | undefined;
  #nextLinkId = 1;
  #term: { readonly value: number; readonly revision: number } = { value: 0, revision: 0 };

  constructor(options: OmsOptions) {
    super(options, OMS_STORE_PREFIX, OMS_REQUEST_ID_BASE);
    this.#refreshMs = options.refreshMs ?? 60_000;
    this.#challenges = new Challenges(options.entropy);
    this.#overlays = new OverlayTable(
      {
        commit: (writes, now, then) => this.commit(writes, now, then),
        ownerIdOf: ({ publicKey }) => toHex(this.#hash(publicKey)),
        stood: (row, now) => this.#stood(row, now),
        fell: (row, now) => this.#fell(row, now),
        ended: ({ overlayId }, why) => {
          this.#notifier?.ended(overlayId);
          this.report({ type: "overlayEnded", overlayId, why });
        },
      },
      OVERLAY_PREFIX,
      options.tombstonesMax ?? TOMBSTONES_MAX,
    );
    this.#pamsUrl = options.pamsUrl ?? "";
    if (this.#pamsUrl !== "") {
      const address = parseAddress(options.pamsAddress ?? this.#pamsUrl);
      assert(address !== undefined, "pamsUrl is an address such as ws://host:port");
      this.#registrar = new PamsRegistrar({
        uplink: this.#uplink(address),
        omsUrl: options.omsUrl ?? "",
        serviceKey: checkedServiceKey(options.serviceKey),
        rng: options.rng,
        router: this.router,
        refused: (overlayId, code, detail) =>
          this.report({ type: "pamsRefused", overlayId, code, detail }),
        reportIntervalMs: options.reportIntervalMs ?? 10_000,
      });
    }
    if ((options.ixsUrl ?? "") !== "") {
      const address = parseAddress(options.ixsUrl ?? "");
      assert(address !== undefined, "ixsUrl is an address such as ws://host:port");
      this.#notifier = new IxsNotifier({
        uplink: this.#uplink(address),
        router: this.router,
        serviceKey: checkedServiceKey(options.serviceKey),
        pendingMax: options.tombstonesMax ?? TOMBSTONES_MAX,
        refused: (code, detail) => this.report({ type: "ixsRefused", code, detail }),
      });
    }
    this.router.on(r5.CHALLENGE, (_, reply, now) =>
      reply.answer({ nonce: this.#challenges.issue(now) }),
    );
    this.#dialBack = new DialBack({
      ...options,
      open: (linkId, address) => this.emit({ kind: "open", linkId, address }),
      transmit: (linkId, bytes) => this.emit({ kind: "transmit", linkId, bytes }),
      close: (linkId) => this.emit({ kind: "close", linkId, abort: true }),
      verify: (claim, then) => this.proven(claim, { fail: () => then(false) }, () => then(true)),
    });
    this.#serviceKey = checkedServiceKey(options.serviceKey);
    this.#lending = new CacheLending({
      router: this.router,
      counters: this.counters,
      commit: (writes, now, then) => this.commit(writes, now, then),
      keyPrefix: CACHE_PREFIX,
      leaseMs: options.cacheLeaseMs ?? 30_000,
      perOverlayMax: options.virtualPeersMax ?? OVERLAY_VIRTUAL_PEERS_DEFAULT,
      serversMax: options.cacheServersMax ?? 256,
      isServiceKey: (shown) =>
        this.#serviceKey !== undefined && isSameServiceKey(this.#serviceKey, shown),
      term: () => this.#term.value,
      overlay: (overlayId) => this.#overlays.standing(overlayId),
      overlayIds: () => this.#overlays.ids(),
      pamsUrlOf: ({ record }) => this.#pamsOf(record).pamsUrl,
      priorityOf: ({ record }) => Math.min(record.priority, options.priorityMax ?? PRIORITY_MAX),
      tell: (event) => this.report(event),
    });
    this.#membership = new Membership(
      {
        options,
        dialBack: this.#dialBack,
        ranking: new PeerRanking(this.#registrar),
        counters: this.counters,
        answersChallenge: (nonce, reply, now) => this.#answersChallenge(nonce, reply, now),
        standing: (overlayId, reply, now) => this.#standing(overlayId, reply, now),
        proven: (claim, reply, then) => this.proven(claim, reply, then),
        pamsOf: (record) => this.#pamsOf(record),
        isAssigned: (overlayId, peerId) => this.#lending.isAssigned(overlayId, peerId),
        changed: (overlayId) => this.#lending.membersChanged(overlayId),
      },
      options.memberLeaseMs ?? 30_000,
      options.membersMax ?? 10_000,
    );
    const ownership = new Ownership(
      {
        options,
        counters: this.counters,
        overlays: this.#overlays,
        membership: this.#membership,
        lending: this.#lending,
        answersChallenge: (nonce, reply, now) => this.#answersChallenge(nonce, reply, now),
        standing: (overlayId, reply, now) => this.#standing(overlayId, reply, now),
        proven: (claim, reply, then) => this.proven(claim, reply, then),
        pamsOf: (record) => this.#pamsOf(record),
        created: (overlayId, title) => this.report({ type: "overlayCreated", overlayId, title }),
      },
      this.#refreshMs,
      options.overlaysMax ?? 1_000,
    );
    this.router.on(r5.CREATE, (request, reply, now) => ownership.create(request, reply, now));
    this.router.on(r5.REFRESH_OVERLAY, (request, reply, now) =>
      ownership.refresh(request, reply, now),
    );
    this.router.on(r5.REMOVE_SESSION_OVERLAY, (request, reply, now) =>
      ownership.remove(request, reply, now),
    );
    this.router.on(r5.RESTART, (request, reply, now) => ownership.restart(request, reply, now));
    this.router.on(r5.TAKE_OVER, (request, reply, now) => ownership.takeOver(request, reply, now));
    this.router.on(r5.ASK_VIRTUAL_PEERS, (request, reply, now) =>
      ownership.askVirtualPeers(request, reply, now),
    );
    this.router.on(LIST_OVERLAYS, (request, reply) => this.#listOverlays(request, reply));
    this.router.on(LIST_CACHE_SERVERS, (request, reply) => this.#listCacheServers(request, reply));
    const membership = this.#membership;
    this.router.on(r5.JOIN, (request, reply, now) => membership.join(request, reply, now));
    this.router.on(r5.MEMBER_REFRESH, (request, reply, now) =>
      membership.refresh(request, reply, now),
    );
    this.router.on(r5.LIST_PEERS, (request, reply, now) => membership.list(request, reply, now));
    this.router.on(r5.LEAVE, (request, reply, now) => membership.leave(request, reply, now));
  }

  #takeLinkId(): LinkId {
    const linkId = this.#nextLinkId;
    this.#nextLinkId += 2;
    return linkId;
  }

  #uplink(address: Address): Uplink {
    return new Uplink({
      address,
      rng: this.options.rng,
      takeLinkId: () => this.#takeLinkId(),
      open: (linkId, to) => this.emit({ kind: "open", linkId, address: to }),
    });
  }

  // ----------------------------------------------------------------------------------- identity

  /** Uses a challenge up; answers the request and gives false when it was none of ours. */
  #answersChallenge(nonce: Uint8Array, reply: FailReply, now: Now): boolean {
    if (this.#challenges.use(nonce, now)) return true;
    reply.fail("IDENTITY_UNPROVEN", "no such challenge is open; ask for a new one");
    return false;
  }

  #hash(bytes: Uint8Array): Uint8Array {
    return this.options.sha256(bytes);
  }

  // -------------------------------------------------------------------------------- overlay

  #stood(row: OverlayRow, now: Now): void {
    const { record } = row;
    this.#membership.admitOwner(row, now);
    if (record.pams) this.#registrar?.add(record.overlayId, now);
    this.#lending.stood(row);
  }

  /**
   * Members, their leases, the registration at the PAMS and the virtual peers of cache servers (P3.3)
   * go with the overlay.
   */
  #fell(row: OverlayRow, now: Now): void {
    this.#membership.forget(row);
    this.#registrar?.remove(row.record.overlayId);
    this.#lending.fell(row.record.overlayId, now);
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
    const found = this.#overlays.look(overlayId, now);
    if (found.kind === "stands") return found.row;
    if (found.kind === "unknown") reply.fail("UNKNOWN_OVERLAY", "");
    else reply.fail("OVERLAY_GONE", found.detail, { whenUs: found.whenUs });
    return undefined;
  }

  /** For operators who show the service key. */
  #listOverlays(
    { after, limit, serviceKey }: RequestOf<typeof LIST_OVERLAYS>,
    reply: Reply<(typeof LIST_OVERLAYS)["answer"]["fields"]>,
  ): void {
    if (!this.#isOperator(serviceKey, reply)) return;
    const all = [...this.#overlays.rows()]
      .filter(({ record }) => after === undefined || record.overlayId > after)
      .sort((a, b) => (a.record.overlayId < b.record.overlayId ? -1 : 1));
    reply.answer({
      rows: all.slice(0, limit).map(({ record, ownerId, members }) => ({
        overlayId: record.overlayId,
        title: record.title,
        sessionEpoch: record.sessionEpoch,
        sourcePeerId: ownerId,
        createdUs: record.createdUs,
        members: members.size,
        inbound: members.reaching(REACH.inbound),
        outboundOnly: members.reaching(REACH.outboundOnly),
        pams: record.pams,
      })),
      more: all.length > limit,
      pamsUrl: this.#pamsUrl,
    });
  }

  #listCacheServers(
    { after, limit, serviceKey }: RequestOf<typeof LIST_CACHE_SERVERS>,
    reply: Reply<(typeof LIST_CACHE_SERVERS)["answer"]["fields"]>,
  ): void {
    if (!this.#isOperator(serviceKey, reply)) return;
    const all = this.#lending
      .snapshot()
      .filter(({ cacheServerId }) => after === undefined || cacheServerId > after)
      .sort((a, b) => (a.cacheServerId < b.cacheServerId ? -1 : 1));
    reply.answer({ rows: all.slice(0, limit), more: all.length > limit });
  }

  /** False: refused for want of the service key. */
  #isOperator(shown: Uint8Array, reply: FailReply): boolean {
    if (this.#serviceKey !== undefined && isSameServiceKey(this.#serviceKey, shown)) return true;
    this.counters.keyRefused++;
    reply.fail("KEY_REQUIRED", shown.length === 0 ? "none shown" : "another one shown");
    return false;
  }

  // ---------------------------------------------------------------------------------- lifecycle

  protected override take(key: string, record: StoreRecord | undefined, now: Now): void {
    if (key.startsWith(CACHE_PREFIX)) {
      this.#takeCache(key, record);
      return;
    }
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
    if (record === undefined) {
      this.#overlays.take(overlayId, undefined, now);
      return;
    }
    this.#decoded(key, () => {
      const decoded = OVERLAY_RECORD.decode(record.value);
      this.#overlays.take(overlayId, { revision: record.revision, record: decoded }, now);
    });
  }

  #takeCache(key: string, record: StoreRecord | undefined): void {
    const cacheServerId = key.slice(CACHE_PREFIX.length);
    if (record === undefined) {
      this.#lending.take(undefined, cacheServerId, 0);
      return;
    }
    this.#decoded(key, () => {
      this.#lending.take(CACHE_RECORD.decode(record.value), cacheServerId, record.revision);
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
      this.#overlays.loaded(then);
      this.#lending.loaded(then);
      this.serve();
      const overlayIds = this.#overlays.goneIds();
      if (overlayIds.length > 0) this.report({ type: "endedBefore", overlayIds });
      for (const overlayId of overlayIds) this.#notifier?.ended(overlayId);
    });
  }

  /** R1.f. */
  protected override onCommand({ token, ...wish }: OmsCommand, now: Now): void {
    const { overlayId, peerId, ask } = wish;
    const tell = (status: AnswerOf<typeof PEER_STATUS> | undefined): void =>
      this.report({ type: "peerStatus", token, status });
    const asked = this.#registrar?.peerStatus(
      { overlayId, peerId, ask },
      PEER_STATUS_MS,
      now,
      (outcome) => tell(outcome.kind === "answer" ? outcome.answer : undefined),
    );
    if (asked !== true) tell(undefined);
  }

  protected override isPeerLink(linkId: LinkId): boolean {
    return this.#dialBack.owns(linkId);
  }

  protected override onPeerFrames(input: Frames, now: Now): void {
    this.#dialBack.frames(input, now);
  }

  protected override onLinkUp(linkId: LinkId, now: Now): void {
    this.#dialBack.linkUp(linkId);
    this.#registrar?.linkUp(linkId, now);
    this.#notifier?.linkUp(linkId);
  }

  protected override onLinkDown(linkId: LinkId, now: Now): void {
    this.#dialBack.linkDown(linkId, now);
    this.#lending.linkDown(linkId);
    this.#registrar?.linkDown(linkId, now);
    this.#notifier?.linkDown(linkId, now);
  }

  protected override onTime(now: Now): void {
    if (!this.ready) return;
    this.#challenges.onTime(now);
    this.#membership.onTime(now, (overlayId) => this.#overlays.row(overlayId));
    this.#overlays.onTime(now);
    this.#lending.onTime(now);
    this.#registrar?.onTime(now);
    this.#notifier?.onTime(now);
    this.#dialBack.onTime(now);
  }

  protected override earliestMs(): number {
    if (!this.ready) return Number.POSITIVE_INFINITY;
    return Math.min(
      this.#overlays.earliestMs(),
      this.#membership.earliestMs(),
      this.#challenges.earliestMs(),
      this.#dialBack.earliestMs(),
      this.#lending.earliestMs(),
      this.#notifier?.earliestMs() ?? Number.POSITIVE_INFINITY,
      this.#registrar?.earliestMs() ?? Number.POSITIVE_INFINITY,
    );
  }

  protected override snapshot(): OmsSnapshot {
    return {
      ready: this.ready,
      term: this.#term.value,
      overlays: [...this.#overlays.rows()].map(({ record, ownerId, members }) => ({
        overlayId: record.overlayId,
        title: record.title,
        sessionEpoch: record.sessionEpoch,
        sourcePeerId: ownerId,
        members: members.size,
      })),
      tombstones: this.#overlays.tombstones,
      cacheServers: this.#lending.snapshot(),
      pamsRegistrations: this.#registrar?.registered ?? 0,
      pamsFailures: this.#registrar?.failed ?? 0,
      ixsPending: this.#notifier?.pending ?? 0,
      dialBack: this.#dialBack.counts,
      counters: { ...this.counters },
    };
  }
}

/** An overlay management server; `start` loads it from the store. */
export function createOms(options: OmsOptions): Oms {
  return new Oms(options);
}
