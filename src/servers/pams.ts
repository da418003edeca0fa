/**
 * PAMS, the peer activity management server (R1, R2): the live status of overlays and their peers.
 *
 * All soft: an OMS repeats its registration and a peer its report every interval, so a PAMS that
 * starts empty is complete again after one interval. What stays silent for three intervals is
 * dropped. Of each peer only the latest report is kept: a report costs two map look-ups, a hash and
 * a lease renewal, whatever the size of the overlay.
 *
 * A peer is what it proved to be: its id is the hash of the key that signed the challenge, and its
 * token stands for that afterwards. With a service key, overlays are registered, removed and asked
 * about only by who shows it (KEY_REQUIRED).
 *
 * Never uses what a peer reports as a ground to admit or refuse anybody.
 */

import type { LinkId, Now } from "../base/machine.ts";
import { bytesEqual, toHex } from "../base/units.ts";
import type { Fields } from "../protocol/codec.ts";
import { type Role, TOKEN_BYTES } from "../protocol/common.ts";
import * as r1 from "../protocol/r1.ts";
import * as r2 from "../protocol/r2.ts";
import type { RequestOf } from "../protocol/signalling.ts";
import {
  type ActivePeerRow,
  ActivityTable,
  contributionPermille,
  silentMs,
} from "./activity-table.ts";
import { Challenges } from "./challenges.ts";
import { LeaseTable } from "./lease-table.ts";
import type { Reply } from "./request-router.ts";
import { ServerMachine } from "./server-machine.ts";
import type { ServerCounters, ServerOptions } from "./server-types.ts";
import { checkedServiceKey, isSameServiceKey } from "./service-key.ts";

export const PAMS_REQUEST_ID_BASE = 0x3000_0000;
/** Silent intervals after which a registration is dropped. */
const INTERVALS_TO_EXPIRY = 3;
const ASK_TIMEOUT_MS = 5_000;

export interface PamsOptions extends ServerOptions {
  /** R1.b, R2.b: given to every OMS and peer. Default 10 s. */
  readonly reportIntervalMs?: number;
  /** What an OMS must show, 16 to 64 bytes; undefined: any OMS may register and remove. */
  readonly serviceKey?: Uint8Array;
  /** Default 1,000 overlays ... */
  readonly overlaysMax?: number;
  /** ... of 10,000 peers each. */
  readonly peersMax?: number;
}

export type PamsCommand =
  /** R2.e: asks a peer for its status; answered by the event `status`. */
  {
    readonly type: "ask";
    readonly token: number;
    readonly overlayId: string;
    readonly peerId: string;
  };

export type PamsEvent =
  | { readonly type: "overlayRegistered"; readonly overlayId: string }
  | {
      readonly type: "overlayDropped";
      readonly overlayId: string;
      readonly why: "removed" | "silent";
    }
  /** `status` undefined: the peer is not registered or did not answer. */
  | { readonly type: "status"; readonly token: number; readonly status: r2.PeerStatus | undefined };

export interface PamsPeerSnapshot {
  readonly peerId: string;
  readonly role: Role;
  readonly activity: r1.Activity;
  /** Bytes given for 1,000 taken. */
  readonly contributionPermille: number;
  /** Undefined until the first report. */
  readonly status: r2.PeerStatus | undefined;
  /** Since the last report or registration. */
  readonly silentMs: number;
}

export interface PamsOverlaySnapshot {
  readonly overlayId: string;
  readonly omsUrl: string;
  readonly peers: readonly PamsPeerSnapshot[];
}

export interface PamsSnapshot {
  readonly ready: boolean;
  readonly reportIntervalMs: number;
  readonly overlays: readonly PamsOverlaySnapshot[];
  readonly reports: number;
  readonly counters: ServerCounters;
}

const UNKNOWN_OVERLAY_DETAIL = "not registered by its OMS (yet)";

export class Pams extends ServerMachine<PamsSnapshot, PamsCommand, PamsEvent> {
  readonly #overlays = new Map<string, ActivityTable>();
  readonly #overlayLeases = new LeaseTable();
  /** Keys are overlay id and peer id, joined by a slash. */
  readonly #peerLeases = new LeaseTable();
  readonly #reportIntervalMs: number;
  readonly #overlaysMax: number;
  readonly #peersMax: number;
  readonly #serviceKey: Uint8Array | undefined;
  readonly #challenges: Challenges;
  #reports = 0;

  constructor(options: PamsOptions) {
    super(options, "", PAMS_REQUEST_ID_BASE);
    this.#reportIntervalMs = options.reportIntervalMs ?? 10_000;
    this.#overlaysMax = options.overlaysMax ?? 1_000;
    this.#peersMax = options.peersMax ?? 10_000;
    this.#serviceKey = checkedServiceKey(options.serviceKey);
    this.#challenges = new Challenges(options.entropy);
    this.router.on(r1.REGISTER_OVERLAY, (request, reply, now) => {
      if (this.#isServer(request.serviceKey, reply)) this.#registerOverlay(request, reply, now);
    });
    this.router.on(r1.REMOVE_OVERLAY, (request, reply) => {
      if (!this.#isServer(request.serviceKey, reply)) return;
      this.#dropOverlay(request.overlayId, "removed");
      reply.answer({});
    });
    this.router.on(r1.PEER_LIST, (request, reply, now) => {
      if (this.#isServer(request.serviceKey, reply)) this.#peerList(request, reply, now);
    });
    this.router.on(r1.PEER_STATUS, (request, reply, now) => {
      if (this.#isServer(request.serviceKey, reply)) this.#peerStatus(request, reply, now);
    });
    this.router.on(r2.PAMS_CHALLENGE, (_, reply, now) =>
      reply.answer({ nonce: this.#challenges.issue(now) }),
    );
    this.router.on(r2.REGISTER_PEER, (request, reply, now) =>
      this.#registerPeer(request, reply, now),
    );
    this.router.on(r2.REPORT, (request, reply, now) => this.#report(request, reply, now));
    this.router.on(r2.REMOVE_PEER, (request, reply) => this.#removePeer(request, reply));
  }

  /** Status of one overlay; undefined when it is not registered. */
  statusOf(overlayId: string, now: Now): PamsOverlaySnapshot | undefined {
    const overlay = this.#overlays.get(overlayId);
    if (overlay === undefined) return undefined;
    return {
      overlayId,
      omsUrl: overlay.omsUrl,
      peers: [...overlay.peers.values()].map((row) => ({
        peerId: row.peerId,
        role: row.role,
        activity: overlay.activityOf(row, now.monoMs),
        contributionPermille: row.status === undefined ? 0 : contributionPermille(row.status),
        status: row.status,
        silentMs: silentMs(row, now.monoMs),
      })),
    };
  }

  // ----------------------------------------------------------------------------------------- R1

  /** False: refused for want of the service key. */
  #isServer(shown: Uint8Array, reply: Pick<Reply<Fields>, "fail" | "linkId">): boolean {
    if (this.#serviceKey === undefined) return true;
    if (isSameServiceKey(this.#serviceKey, shown)) {
      // An OMS registers up to a thousand overlays at once on a new link.
      this.router.trust(reply.linkId);
      return true;
    }
    this.counters.keyRefused++;
    reply.fail("KEY_REQUIRED", shown.length === 0 ? "none shown" : "another one shown");
    return false;
  }

  /** R1.a to R1.c. */
  #registerOverlay(
    request: RequestOf<typeof r1.REGISTER_OVERLAY>,
    reply: Reply<(typeof r1.REGISTER_OVERLAY)["answer"]["fields"]>,
    now: Now,
  ): void {
    const { overlayId, omsUrl } = request;
    const known = this.#overlays.get(overlayId);
    if (known !== undefined) known.omsUrl = omsUrl;
    else if (this.#overlays.size >= this.#overlaysMax) {
      this.counters.overloaded++;
      reply.fail("OVERLOADED", `limit of ${this.#overlaysMax} overlays`, {
        retryAfterMs: this.#reportIntervalMs,
      });
      return;
    } else {
      this.#overlays.set(overlayId, new ActivityTable(overlayId, omsUrl, this.#reportIntervalMs));
      this.report({ type: "overlayRegistered", overlayId });
    }
    this.#overlayLeases.grant(overlayId, this.#leaseMs, now.monoMs);
    reply.answer({ reportIntervalMs: this.#reportIntervalMs });
  }

  #dropOverlay(overlayId: string, why: "removed" | "silent"): void {
    const overlay = this.#overlays.get(overlayId);
    if (overlay === undefined) return;
    for (const peerId of overlay.peers.keys()) this.#peerLeases.drop(`${overlayId}/${peerId}`);
    this.#overlays.delete(overlayId);
    this.#overlayLeases.drop(overlayId);
    this.report({ type: "overlayDropped", overlayId, why });
  }

  /** The overlay if it is registered; else the request is answered. */
  #registered(overlayId: string, reply: Pick<Reply<Fields>, "fail">): ActivityTable | undefined {
    const overlay = this.#overlays.get(overlayId);
    if (overlay === undefined) {
      reply.fail("UNKNOWN_OVERLAY", UNKNOWN_OVERLAY_DETAIL, { retryAfterMs: 1_000 });
    }
    return overlay;
  }

  /** R1.d. */
  #peerList(
    request: r1.PeerListRequest,
    reply: Reply<(typeof r1.PEER_LIST)["answer"]["fields"]>,
    now: Now,
  ): void {
    const overlay = this.#registered(request.overlayId, reply);
    if (overlay !== undefined) reply.answer(overlay.list(request, this.options.rng, now.monoMs));
  }

  /** R1.f; with `ask` the peer itself is asked first (R2.e). */
  #peerStatus(
    request: RequestOf<typeof r1.PEER_STATUS>,
    reply: Reply<(typeof r1.PEER_STATUS)["answer"]["fields"]>,
    now: Now,
  ): void {
    const { overlayId, peerId } = request;
    const tell = (later: Now): void => {
      const overlay = this.#registered(overlayId, reply);
      if (overlay === undefined) return;
      const row = overlay.peers.get(peerId);
      if (row === undefined) {
        reply.fail("UNKNOWN_PEER", "not registered by itself (any more)");
        return;
      }
      const { status } = row;
      reply.answer({
        role: row.role,
        activity: overlay.activityOf(row, later.monoMs),
        silentMs: silentMs(row, later.monoMs),
        contributionPermille: status === undefined ? 0 : contributionPermille(status),
        reports: status === undefined ? [] : [status],
      });
    };
    if (request.ask) this.#ask(overlayId, peerId, now, (_, later) => tell(later));
    else tell(now);
  }

  // ----------------------------------------------------------------------------------------- R2

  /** R2.a, R2.b. */
  #registerPeer(
    request: RequestOf<typeof r2.REGISTER_PEER>,
    reply: Reply<(typeof r2.REGISTER_PEER)["answer"]["fields"]>,
    now: Now,
  ): void {
    const { overlayId, peerId, nonce, publicKey, signature } = request;
    if (this.#registered(overlayId, reply) === undefined) return;
    if (nonce === undefined || publicKey === undefined || signature === undefined) {
      reply.fail("IDENTITY_UNPROVEN", "ask for a challenge, sign it and register with that");
      return;
    }
    if (!this.#challenges.use(nonce, now)) {
      reply.fail("IDENTITY_UNPROVEN", "no such challenge is open; ask for a new one");
      return;
    }
    if (toHex(this.options.sha256(publicKey)) !== peerId) {
      reply.fail("IDENTITY_UNPROVEN", "the peer id is not the hash of the public key");
      return;
    }
    const claim = { publicKey, bytes: r2.registerProof(nonce, overlayId), signature };
    this.proven(claim, reply, (then) => this.#registerProven(request, reply, then));
  }

  #registerProven(
    request: RequestOf<typeof r2.REGISTER_PEER>,
    reply: Reply<(typeof r2.REGISTER_PEER)["answer"]["fields"]>,
    now: Now,
  ): void {
    const { overlayId, peerId, role } = request;
    // It may have gone while the signature was checked.
    const overlay = this.#registered(overlayId, reply);
    if (overlay === undefined) return;
    const known = overlay.peers.get(peerId);
    if (known === undefined && overlay.peers.size >= this.#peersMax) {
      this.counters.overloaded++;
      reply.fail("OVERLOADED", `limit of ${this.#peersMax} peers`, {
        retryAfterMs: this.#reportIntervalMs,
      });
      return;
    }
    const peerToken = this.options.entropy.bytes(TOKEN_BYTES);
    const tokenHash = this.options.sha256(peerToken);
    const fresh = { status: undefined, completed: false, lagging: false, heardMs: 0, linkId: 0 };
    const row = known ?? { peerId, role, tokenHash, ...fresh };
    row.role = role;
    row.tokenHash = tokenHash;
    overlay.peers.set(peerId, row);
    this.#heard(overlayId, row, reply.linkId, now);
    reply.answer({ reportIntervalMs: this.#reportIntervalMs, peerToken });
  }

  /** R2.c: the latest report wins. */
  #report(
    request: RequestOf<typeof r2.REPORT>,
    reply: Reply<(typeof r2.REPORT)["answer"]["fields"]>,
    now: Now,
  ): void {
    const { peerToken, ...status } = request;
    const overlay = this.#registered(status.overlayId, reply);
    if (overlay === undefined) return;
    const row = overlay.peers.get(status.peerId);
    // A wrong token is answered as no registration at all: registering again cures both.
    if (row === undefined || !this.#isOwn(row, peerToken)) {
      reply.fail("UNKNOWN_PEER", "register first");
      return;
    }
    overlay.report(row, status);
    this.#reports++;
    this.#heard(status.overlayId, row, reply.linkId, now);
    reply.answer({});
  }

  #isOwn(row: ActivePeerRow, peerToken: Uint8Array): boolean {
    return bytesEqual(this.options.sha256(peerToken), row.tokenHash);
  }

  #heard(overlayId: string, row: ActivePeerRow, linkId: LinkId, now: Now): void {
    row.heardMs = now.monoMs;
    row.linkId = linkId;
    this.#peerLeases.grant(`${overlayId}/${row.peerId}`, this.#leaseMs, now.monoMs);
  }

  /** R2.d. */
  #removePeer(
    request: RequestOf<typeof r2.REMOVE_PEER>,
    reply: Reply<(typeof r2.REMOVE_PEER)["answer"]["fields"]>,
  ): void {
    const row = this.#overlays.get(request.overlayId)?.peers.get(request.peerId);
    if (row !== undefined && !this.#isOwn(row, request.peerToken)) {
      reply.fail("NOT_OWNER", "the token of another registration");
      return;
    }
    this.#dropPeer(request.overlayId, request.peerId);
    reply.answer({});
  }

  #dropPeer(overlayId: string, peerId: string): void {
    this.#overlays.get(overlayId)?.peers.delete(peerId);
    this.#peerLeases.drop(`${overlayId}/${peerId}`);
  }

  protected override onCommand({ token, overlayId, peerId }: PamsCommand, now: Now): void {
    this.#ask(overlayId, peerId, now, (status) => this.report({ type: "status", token, status }));
  }

  /**
   * R2.e: asks a peer where it spoke last. `then` is called once, with nothing when it is not
   * registered, has no link or did not answer with a status of its own.
   */
  #ask(
    overlayId: string,
    peerId: string,
    now: Now,
    then: (status: r2.PeerStatus | undefined, now: Now) => void,
  ): void {
    const row = this.#overlays.get(overlayId)?.peers.get(peerId);
    if (row === undefined || !this.router.isUp(row.linkId)) {
      then(undefined, now);
      return;
    }
    const request = { overlayId, peerId };
    this.router.ask(row.linkId, r2.STATUS, request, ASK_TIMEOUT_MS, now, (outcome, later) => {
      const status = outcome.kind === "answer" ? outcome.answer : undefined;
      const mine = status?.overlayId === overlayId && status.peerId === peerId;
      // The peer may have been removed while it was asked.
      const overlay = this.#overlays.get(overlayId);
      if (status !== undefined && mine && overlay?.peers.get(peerId) === row) {
        overlay.report(row, status);
        this.#heard(overlayId, row, row.linkId, later);
      }
      then(mine ? status : undefined, later);
    });
  }

  // ---------------------------------------------------------------------------------- lifecycle

  get #leaseMs(): number {
    return INTERVALS_TO_EXPIRY * this.#reportIntervalMs;
  }

  protected override take(): void {}

  protected override onLoaded(): void {
    this.serve();
  }

  protected override onTime(now: Now): void {
    this.#challenges.onTime(now);
    for (;;) {
      const key = this.#peerLeases.takeEnded(now.monoMs);
      if (key === undefined) break;
      const slash = key.indexOf("/");
      this.#dropPeer(key.slice(0, slash), key.slice(slash + 1));
    }
    for (;;) {
      const overlayId = this.#overlayLeases.takeEnded(now.monoMs);
      if (overlayId === undefined) break;
      this.#dropOverlay(overlayId, "silent");
    }
  }

  protected override earliestMs(): number {
    return Math.min(
      this.#peerLeases.earliestMs(),
      this.#overlayLeases.earliestMs(),
      this.#challenges.earliestMs(),
    );
  }

  protected override snapshot(now: Now): PamsSnapshot {
    const overlays: PamsOverlaySnapshot[] = [];
    for (const overlayId of this.#overlays.keys()) {
      const status = this.statusOf(overlayId, now);
      if (status !== undefined) overlays.push(status);
    }
    return {
      ready: this.ready,
      reportIntervalMs: this.#reportIntervalMs,
      overlays,
      reports: this.#reports,
      counters: { ...this.counters },
    };
  }
}

/** An activity server; it has no durable state, `start` makes it ready at once. */
export function createPams(options: PamsOptions): Pams {
  return new Pams(options);
}
