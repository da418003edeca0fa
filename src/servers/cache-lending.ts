/**
 * R8 at the OMS: cache servers offer virtual peers, and the OMS lends them to overlays.
 *
 * From need to order: what an overlay needs and who gives it is decided in memory (cache-needs.ts),
 * written (cache-table.ts), then ordered over the link on which the cache server registered
 * (cache-orders.ts). A cache server that stays away for its lease loses all that it had.
 *
 * It never sees data, and never decides who may join but for virtual peers: those it assigned.
 */

import type { ErrorCode } from "../base/errors.ts";
import type { LinkId, Now } from "../base/machine.ts";
import { type OverlayId, type PeerId, toHex } from "../base/units.ts";
import type { Fields } from "../protocol/codec.ts";
import * as r8 from "../protocol/r8.ts";
import type { RequestOf } from "../protocol/signalling.ts";
import { CacheNeeds } from "./cache-needs.ts";
import { CacheOrders, type OrderFailure, type OrdersHost } from "./cache-orders.ts";
import type { CacheOffer } from "./cache-record.ts";
import { type CacheRow, CacheTable, type Commit, placeKey, type Settled } from "./cache-table.ts";
import { LeaseTable } from "./lease-table.ts";
import type { OverlayRow } from "./overlay-table.ts";
import type { Reply } from "./request-router.ts";
import type { ServerCounters } from "./server-types.ts";

/** After a failed removal of a cache server whose lease ended. */
const RETRY_MS = 1_000;

export interface LendingHost extends OrdersHost {
  readonly counters: ServerCounters;
  readonly commit: Commit;
  /** Of its keys in the store. */
  readonly keyPrefix: string;
  readonly leaseMs: number;
  readonly perOverlayMax: number;
  readonly serversMax: number;
  isServiceKey(shown: Uint8Array): boolean;
  /** Of those that stand. */
  overlayIds(): Iterable<OverlayId>;
  tell(event: LendingEvent): void;
}

export type LendingEvent =
  | {
      readonly type: "cacheServer";
      readonly cacheServerId: PeerId;
      readonly label: string;
      readonly state: "registered" | "withdrawn" | "silent";
    }
  | {
      readonly type: "virtualPeer";
      readonly cacheServerId: PeerId;
      readonly overlayId: OverlayId;
      readonly peerId: PeerId;
      readonly state: "assigned" | "released";
    }
  /** A cache server could not serve an overlay; it is not asked to again at once. */
  | {
      readonly type: "cacheFailed";
      readonly cacheServerId: PeerId;
      readonly overlayId: OverlayId;
      readonly code: string;
      readonly detail: string;
    };

export interface CacheServerSnapshot {
  readonly cacheServerId: PeerId;
  readonly label: string;
  /** Whether it can be given orders now. */
  readonly linked: boolean;
  readonly virtualPeers: number;
  /** Overlays that they can be in, all together, and are assigned to. */
  readonly places: number;
  readonly assigned: number;
}

type ReplyOf<O> = O extends { readonly answer: { readonly fields: infer A extends Fields } }
  ? Reply<A>
  : never;

export class CacheLending {
  readonly #host: LendingHost;
  readonly #table: CacheTable;
  readonly #needs: CacheNeeds;
  readonly #orders: CacheOrders;
  readonly #leases = new LeaseTable();
  /** Rows with decisions that are not being written yet. */
  readonly #changed = new Set<CacheRow>();

  constructor(host: LendingHost) {
    this.#host = host;
    this.#table = new CacheTable(host.keyPrefix, host.commit, (row, isSaved, now) => {
      if (isSaved) this.#orders.give(row, now);
      // What memory lost with the write is decided anew.
      else this.#needs.noteAll(host.overlayIds());
    });
    this.#needs = new CacheNeeds({
      table: this.#table,
      perOverlayMax: host.perOverlayMax,
      overlay: (overlayId) => host.overlay(overlayId),
      priorityOf: (row) => host.priorityOf(row),
      changed: (row, assignment, state) => this.#note(row, assignment, state),
    });
    this.#orders = new CacheOrders(host, (...refusal) => this.#couldNot(...refusal));
    const { router } = host;
    router.on(r8.REGISTER_CACHE, (request, reply, now) => {
      if (this.#isProvider(request, reply)) this.#register(request, reply, now);
    });
    router.on(r8.GIVE_BACK, (request, reply, now) => {
      if (this.#isProvider(request, reply)) this.#givenBack(request, reply, now);
    });
    router.on(r8.WITHDRAW_CACHE, (request, reply, now) => {
      if (this.#isProvider(request, reply)) this.#withdraw(request, reply, now);
    });
  }

  // ---------------------------------------------------------------------------- for the OMS

  /** Whether this virtual peer was ordered into this overlay: nobody else joins as one. */
  isAssigned(overlayId: OverlayId, peerId: PeerId): boolean {
    return this.#table.assignedTo(overlayId).has(peerId);
  }

  /** What a source peer gets of what it asked for, and has so far. */
  standingOf({ record }: OverlayRow): { virtualPeers: number; assigned: number } {
    const virtualPeers = Math.min(record.virtualPeers, this.#host.perOverlayMax);
    return { virtualPeers, assigned: this.#table.assignedTo(record.overlayId).size };
  }

  /** The source peer's wish is on disk: it is met now, as far as there is room (P1.3). */
  wished(overlayId: OverlayId, now: Now): void {
    this.#needs.wished(overlayId, now);
    this.#saveChanged(now);
  }

  /** Members came, went, or it was found out whether they can be dialled. */
  membersChanged(overlayId: OverlayId): void {
    if (this.#table.size > 0) this.#needs.note(overlayId);
  }

  /** The source peer starts over in the next epoch. */
  startedOver(overlayId: OverlayId): void {
    this.#needs.startedOver(overlayId);
  }

  stood({ record }: OverlayRow): void {
    if (record.virtualPeers > 0) this.#needs.note(record.overlayId);
  }

  /** P3.3: what an overlay that ended had of cache servers is released. */
  fell(overlayId: OverlayId, now: Now): void {
    this.#needs.forget(overlayId);
    this.#releaseAll(overlayId);
    this.#saveChanged(now);
  }

  snapshot(): CacheServerSnapshot[] {
    return [...this.#table.rows()].map((row) => ({
      cacheServerId: row.cacheServerId,
      label: row.offer.label,
      linked: row.linkId !== undefined,
      virtualPeers: row.offer.virtualPeers.length,
      places: row.places,
      assigned: row.assigned.size,
    }));
  }

  // ------------------------------------------------------------------------------- lifecycle

  /** A record of the disk: while loading, or after a refused write. */
  take(...record: Parameters<CacheTable["take"]>): void {
    this.#table.take(...record);
  }

  /** All was loaded: every lease at full length from now on. */
  loaded(now: Now): void {
    for (const { cacheServerId } of this.#table.rows()) {
      this.#leases.grant(cacheServerId, this.#host.leaseMs, now.monoMs);
    }
    // Overlays whose end was the last thing that was written before a stop.
    for (const overlayId of this.#table.overlayIds()) {
      if (this.#host.overlay(overlayId) === undefined) this.#releaseAll(overlayId);
    }
    this.#saveChanged(now);
  }

  linkDown(linkId: LinkId): void {
    for (const row of this.#table.rows()) if (row.linkId === linkId) row.linkId = undefined;
  }

  onTime(now: Now): void {
    for (;;) {
      const cacheServerId = this.#leases.takeEnded(now.monoMs);
      if (cacheServerId === undefined) break;
      const row = this.#table.get(cacheServerId);
      if (row !== undefined) this.#drop(row, "silent", now);
    }
    this.#needs.onTime(now);
    this.#saveChanged(now);
  }

  earliestMs(): number {
    return Math.min(this.#leases.earliestMs(), this.#needs.earliestMs());
  }

  // --------------------------------------------------------------------------------- changes

  #note(row: CacheRow, assignment: r8.Assignment, state: "assigned" | "released"): void {
    this.#changed.add(row);
    const { cacheServerId } = row;
    this.#host.tell({ type: "virtualPeer", cacheServerId, ...assignment, state });
  }

  #saveChanged(now: Now): void {
    for (const row of this.#changed) this.#save(row, now);
  }

  #save(row: CacheRow, now: Now, then?: Settled): void {
    this.#changed.delete(row);
    this.#table.save(row, now, then);
  }

  #unassign(row: CacheRow, assignment: r8.Assignment): void {
    this.#table.unassign(row, assignment);
    this.#needs.roomCame();
    this.#note(row, assignment, "released");
  }

  #releaseAll(overlayId: OverlayId): void {
    for (const [peerId, row] of [...this.#table.assignedTo(overlayId)]) {
      this.#unassign(row, { overlayId, peerId });
    }
  }

  /** The overlay is looked after elsewhere, and here again only after a while. */
  #couldNot(row: CacheRow, assignment: r8.Assignment, failure: OrderFailure, now: Now): void {
    const { cacheServerId } = row;
    // It withdrew meanwhile.
    if (this.#table.get(cacheServerId) !== row) return;
    const { overlayId } = assignment;
    const { code, detail } = failure;
    this.#host.tell({ type: "cacheFailed", cacheServerId, overlayId, code, detail });
    this.#unassign(row, assignment);
    this.#needs.refused(row, overlayId, now);
    this.#save(row, now);
  }

  // -------------------------------------------------------------------------------- requests

  /** False: refused for want of the service key. */
  #isProvider(
    { serviceKey }: { readonly serviceKey: Uint8Array },
    reply: Pick<Reply<Fields>, "fail" | "linkId">,
  ): boolean {
    if (this.#host.isServiceKey(serviceKey)) {
      this.#host.router.trust(reply.linkId);
      return true;
    }
    this.#host.counters.keyRefused++;
    reply.fail("KEY_REQUIRED", serviceKey.length === 0 ? "none shown" : "another one shown");
    return false;
  }

  /** P1.3. */
  #register(
    request: RequestOf<typeof r8.REGISTER_CACHE>,
    reply: ReplyOf<typeof r8.REGISTER_CACHE>,
    now: Now,
  ): void {
    const { cacheServerId, label, virtualPeers, overlaysPerPeer, holds } = request;
    const known = this.#table.get(cacheServerId);
    const refusal = this.#refusal(request, reply.linkId, now);
    if (refusal !== undefined) {
      reply.fail(refusal.code, refusal.detail);
      return;
    }
    const offer = { label, virtualPeers, overlaysPerPeer };
    // What could not be written at first is not on the disk either.
    const isNews = known === undefined || known.revision === 0 || !isSameOffer(known.offer, offer);
    const row = this.#table.offer(cacheServerId, offer);
    row.instance = toHex(request.instance);
    row.heardMs = now.monoMs;
    if (isNews) {
      this.#changed.add(row);
      this.#needs.noteAll(this.#host.overlayIds());
      this.#host.tell({ type: "cacheServer", cacheServerId, label, state: "registered" });
    }
    row.linkId = reply.linkId;
    row.holds.clear();
    for (const each of holds) {
      if (virtualPeers.includes(each.peerId)) row.holds.set(placeKey(each), each);
    }
    this.#leases.grant(cacheServerId, this.#host.leaseMs, now.monoMs);
    this.#adopt(row);
    for (const overlayId of this.#table.overlayIds()) this.#needs.note(overlayId);
    this.#needs.roomCame();
    const settled: Settled = (failure) => {
      const { leaseMs } = this.#host;
      if (failure !== undefined) reply.fail(failure.code, failure.detail);
      else reply.answer({ leaseMs, term: this.#host.term(), assigned: row.assigned.size });
    };
    if (this.#changed.has(row) || row.isSaving) {
      this.#save(row, now, settled);
      return;
    }
    settled(undefined, now);
    this.#orders.give(row, now);
  }

  #refusal(
    request: RequestOf<typeof r8.REGISTER_CACHE>,
    linkId: LinkId,
    now: Now,
  ): { readonly code: ErrorCode; readonly detail: string } | undefined {
    const { cacheServerId, virtualPeers, overlaysPerPeer, instance } = request;
    const known = this.#table.get(cacheServerId);
    const isElsewhere = known?.linkId !== undefined && known.linkId !== linkId;
    const isFresh = known !== undefined && now.monoMs - known.heardMs < this.#host.leaseMs / 2;
    if (isElsewhere && isFresh && known.instance !== toHex(instance)) {
      const detail = "another process runs with the key of this cache server: stop one of them";
      return { code: "NOT_OWNER", detail };
    }
    if (known === undefined && this.#table.size >= this.#host.serversMax) {
      this.#host.counters.overloaded++;
      return { code: "OVERLOADED", detail: `limit of ${this.#host.serversMax} cache servers` };
    }
    if (virtualPeers.length * overlaysPerPeer > r8.ASSIGNMENTS_MAX) {
      return { code: "OVERLOADED", detail: `limit of ${r8.ASSIGNMENTS_MAX} places` };
    }
    if (new Set(virtualPeers).size < virtualPeers.length) {
      return { code: "MESSAGE_MALFORMED", detail: "a virtual peer is named twice" };
    }
    const taken = virtualPeers.find((peerId) => {
      const owner = this.#table.ownerOf(peerId);
      return owner !== undefined && owner.cacheServerId !== cacheServerId;
    });
    if (taken === undefined) return undefined;
    return { code: "NOT_OWNER", detail: `virtual peer ${taken} is another cache server's` };
  }

  /** What it is in already stays where it is of use: an OMS may have forgotten that it was assigned. */
  #adopt(row: CacheRow): void {
    for (const [place, assignment] of row.holds) {
      const { overlayId, peerId } = assignment;
      const has = this.#table.assignedTo(overlayId);
      if (row.assigned.has(place) || has.has(peerId)) continue;
      const isNeeded = has.size < this.#needs.of(overlayId) || this.#needs.isEnding(overlayId);
      if (!isNeeded || !this.#table.fits(row, peerId)) continue;
      this.#table.assign(row, assignment);
      this.#note(row, assignment, "assigned");
    }
  }

  #givenBack(
    request: RequestOf<typeof r8.GIVE_BACK>,
    reply: ReplyOf<typeof r8.GIVE_BACK>,
    now: Now,
  ): void {
    const { cacheServerId, overlayId, peerId, code, detail } = request;
    const row = this.#table.get(cacheServerId);
    const assignment = { overlayId, peerId };
    const place = placeKey(assignment);
    row?.holds.delete(place);
    if (row === undefined || !row.assigned.has(place)) {
      reply.answer({});
      return;
    }
    if (code === "") {
      this.#needs.isOver(overlayId);
      this.#unassign(row, assignment);
    } else this.#couldNot(row, assignment, { code, detail }, now);
    this.#save(row, now, (failure) => settle(reply, failure));
  }

  #withdraw(
    { cacheServerId }: RequestOf<typeof r8.WITHDRAW_CACHE>,
    reply: ReplyOf<typeof r8.WITHDRAW_CACHE>,
    now: Now,
  ): void {
    const row = this.#table.get(cacheServerId);
    if (row === undefined) reply.answer({});
    else this.#drop(row, "withdrawn", now, (failure) => settle(reply, failure));
  }

  /** A cache server goes: what it had is assigned elsewhere. */
  #drop(row: CacheRow, state: "withdrawn" | "silent", now: Now, then?: Settled): void {
    const { cacheServerId } = row;
    row.linkId = undefined;
    this.#changed.delete(row);
    this.#table.remove(row, now, (failure, later) => {
      then?.(failure, later);
      if (failure !== undefined) {
        this.#leases.grant(cacheServerId, RETRY_MS, later.monoMs);
        return;
      }
      this.#leases.drop(cacheServerId);
      this.#host.tell({ type: "cacheServer", cacheServerId, label: row.offer.label, state });
      // Also those that it got while the write was under way.
      this.#needs.noteAll(this.#host.overlayIds());
    });
  }
}

function settle(
  reply: Reply<Record<string, never>>,
  failure: { readonly code: ErrorCode; readonly detail: string } | undefined,
): void {
  if (failure === undefined) reply.answer({});
  else reply.fail(failure.code, failure.detail);
}

function isSameOffer(a: CacheOffer, b: CacheOffer): boolean {
  return (
    a.label === b.label &&
    a.overlaysPerPeer === b.overlaysPerPeer &&
    a.virtualPeers.length === b.virtualPeers.length &&
    a.virtualPeers.every((peerId, i) => peerId === b.virtualPeers[i])
  );
}
