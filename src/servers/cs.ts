/**
 * CS, the cache server's side of R8: offers its virtual peers to an OMS and takes its orders.
 *
 * It registers over one link, again at a third of the lease, and says each time what its virtual
 * peers are in. An order is checked (term, virtual peer, room), handed to the host as `enter` or
 * `leave`, and answered at once; what becomes of it the host tells by `out`. Without a link to the OMS the virtual
 * peers stay where they are: sessions go on without their servers.
 *
 * The virtual peers themselves are peers with keys of their own; this machine never sees a fragment.
 */

import { assert } from "../base/assert.ts";
import { ERRORS, type ErrorCode } from "../base/errors.ts";
import type { Address, LinkId, Now } from "../base/machine.ts";
import type { OverlayId, PeerId } from "../base/units.ts";
import * as r8 from "../protocol/r8.ts";
import { failureError } from "../protocol/signalling.ts";
import { placeKey } from "./cache-table.ts";
import type { Outcome, Reply } from "./request-router.ts";
import { ServerMachine } from "./server-machine.ts";
import type { ServerCounters, ServerOptions } from "./server-types.ts";
import { Uplink } from "./uplink.ts";

const CS_REQUEST_ID_BASE = 0x4000_0000;
const ANSWER_TIMEOUT_MS = 5_000;
/** After a registration that failed. */
const AGAIN_MS = 2_000;
/** However short a lease it gives. */
const REGISTER_MS_MIN = 500;
/** How long the OMS is waited for when this cache server goes. */
const WITHDRAW_MS = 3_000;

export interface CsOptions extends ServerOptions {
  readonly oms: Address;
  readonly serviceKey: Uint8Array;
  readonly cacheServerId: PeerId;
  readonly label: string;
  /** With those of `overlaysPerPeer` at most ASSIGNMENTS_MAX in all. */
  readonly virtualPeers: readonly PeerId[];
  readonly overlaysPerPeer: number;
  /** How many of those that it is leaving may be open beside them. */
  readonly leavingMax: number;
}

export type CsCommand =
  /** A virtual peer is out of an overlay; `code` empty: its session ended as sessions do. */
  | {
      readonly type: "out";
      readonly overlayId: OverlayId;
      readonly peerId: PeerId;
      readonly code: ErrorCode | "";
      readonly detail: string;
    }
  /** This cache server goes; `withdrawn` says when the OMS knows. */
  | { readonly type: "withdraw" };

export type CsEvent =
  /** The OMS has the offer on its disk. */
  | { readonly type: "registered"; readonly leaseMs: number; readonly term: number }
  /** It does not take it; told once a link and code. */
  | { readonly type: "unregistered"; readonly code: ErrorCode; readonly detail: string }
  /** No link to the OMS, or no answer; told once until it is back. */
  | { readonly type: "omsAway" }
  /** An order: the virtual peer is to join the overlay ... */
  | { readonly type: "enter"; readonly order: r8.AllocateOrder }
  /** ... or to leave it; `ended`: as its session ends, else at once. */
  | { readonly type: "leave"; readonly order: r8.ReleaseOrder }
  | { readonly type: "withdrawn" };

export interface CsSnapshot {
  readonly ready: boolean;
  readonly registered: boolean;
  /** Highest term of the OMS seen. */
  readonly term: number;
  readonly places: readonly (r8.Assignment & { readonly leaving: boolean })[];
  /** Orders refused. */
  readonly refused: number;
  readonly counters: ServerCounters;
}

interface Place extends r8.Assignment {
  leaving: boolean;
}

interface GivenBack extends r8.Assignment {
  readonly code: string;
  readonly detail: string;
}

export class Cs extends ServerMachine<CsSnapshot, CsCommand, CsEvent> {
  readonly #own: CsOptions;
  readonly #uplink: Uplink;
  readonly #places = new Map<string, Place>();
  /** Not acknowledged by the OMS. */
  readonly #givenBack = new Map<string, GivenBack>();
  readonly #told = new Set<ErrorCode>();
  #nextLinkId = 1;
  readonly #instance: Uint8Array;
  #term = 0;
  #giveBackMs = 0;
  #registered = false;
  #registerMs = 0;
  #isAway = false;
  #refused = 0;
  /** Once it goes: when it is gone whatever the OMS says. */
  #withdrawByMs: number | undefined;
  #isWithdrawn = false;

  constructor(options: CsOptions) {
    super(options, "", CS_REQUEST_ID_BASE);
    const places = options.virtualPeers.length * options.overlaysPerPeer;
    assert(places >= 1 && places <= r8.ASSIGNMENTS_MAX, "places of a cache server");
    this.#own = options;
    this.#instance = options.entropy.bytes(r8.INSTANCE_BYTES);
    this.#uplink = new Uplink({
      address: options.oms,
      rng: options.rng,
      takeLinkId: () => this.#takeLinkId(),
      open: (linkId, address) => this.emit({ kind: "open", linkId, address }),
    });
    this.router.on(r8.ALLOCATE, (order, reply) => this.#allocate(order, reply));
    this.router.on(r8.RELEASE, (order, reply) => this.#release(order, reply));
  }

  #takeLinkId(): LinkId {
    const linkId = this.#nextLinkId;
    this.#nextLinkId += 2;
    return linkId;
  }

  // ------------------------------------------------------------------------------------ orders

  #allocate(order: r8.AllocateOrder, reply: Reply<Record<string, never>>): void {
    if (this.#isPast(order.term, reply)) return;
    const { overlayId, peerId } = order;
    const refuse = (code: ErrorCode, detail: string): void => {
      this.#refused++;
      reply.fail(code, detail);
    };
    const place = this.#places.get(placeKey(order));
    if (this.#withdrawByMs !== undefined) refuse("OVERLOADED", "this cache server goes");
    else if (place?.leaving === true) refuse("OVERLOADED", "it is still leaving that overlay");
    else if (place !== undefined) reply.answer({});
    else if (!this.#own.virtualPeers.includes(peerId)) {
      refuse("UNKNOWN_PEER", "no virtual peer of this cache server");
    } else if (!this.#hasRoom(peerId)) {
      refuse("OVERLOADED", `limit of ${this.#own.overlaysPerPeer} overlays`);
    } else {
      this.#places.set(placeKey(order), { overlayId, peerId, leaving: false });
      this.report({ type: "enter", order });
      reply.answer({});
    }
  }

  #hasRoom(peerId: PeerId): boolean {
    const { overlaysPerPeer, leavingMax } = this.#own;
    const open = [...this.#places.values()].filter((place) => place.peerId === peerId);
    const staying = open.filter(({ leaving }) => !leaving).length;
    return staying < overlaysPerPeer && open.length < overlaysPerPeer + leavingMax;
  }

  #release(order: r8.ReleaseOrder, reply: Reply<Record<string, never>>): void {
    if (this.#isPast(order.term, reply)) return;
    const place = this.#places.get(placeKey(order));
    const isNow = order.reason === r8.RELEASE_REASONS.withdrawn;
    if (place !== undefined && (!place.leaving || isNow)) {
      place.leaving = true;
      this.report({ type: "leave", order });
    }
    reply.answer({});
  }

  /** An OMS that was started anew since gives the orders now. */
  #isPast(term: number, reply: Reply<Record<string, never>>): boolean {
    if (term >= this.#term) {
      this.#term = term;
      return false;
    }
    this.#refused++;
    reply.fail("TERM_PASSED", `term ${term}, and ${this.#term} was seen`);
    return true;
  }

  protected override onCommand(command: CsCommand, now: Now): void {
    if (command.type === "withdraw") {
      this.#withdraw(now);
      return;
    }
    const { overlayId, peerId, code, detail } = command;
    const key = placeKey(command);
    const place = this.#places.get(key);
    this.#places.delete(key);
    // What was ordered out is no news.
    if (place?.leaving === false) {
      this.#givenBack.set(key, { overlayId, peerId, code, detail: detail.slice(0, 160) });
    }
  }

  // ------------------------------------------------------------------------------ registration

  protected override onLoaded(): void {
    this.serve();
  }

  protected override onLinkUp(linkId: LinkId, now: Now): void {
    if (!this.#uplink.linkUp(linkId)) return;
    this.#told.clear();
    // It orders as much as it has to.
    this.router.trust(linkId);
    this.#registerMs = now.monoMs;
    this.#giveBackMs = now.monoMs;
    this.#isAway = false;
  }

  protected override onLinkDown(linkId: LinkId, now: Now): void {
    if (!this.#uplink.linkDown(linkId, now)) return;
    this.#registered = false;
    if (this.#withdrawByMs !== undefined) this.#gone();
    else this.#away();
  }

  #away(): void {
    if (this.#isAway) return;
    this.#isAway = true;
    this.report({ type: "omsAway" });
  }

  protected override onTime(now: Now): void {
    if (!this.ready || this.#isWithdrawn) return;
    if (this.#withdrawByMs !== undefined) {
      if (now.monoMs >= this.#withdrawByMs) this.#gone();
      return;
    }
    this.#uplink.want(now);
    const { linkId } = this.#uplink;
    if (linkId === undefined) return;
    // First: what it registers with has to be so.
    if (now.monoMs >= this.#giveBackMs) {
      for (const [key, given] of this.#givenBack) this.#giveBack(linkId, key, given, now);
    }
    if (now.monoMs >= this.#registerMs) this.#register(linkId, now);
  }

  #giveBack(linkId: LinkId, key: string, given: GivenBack, now: Now): void {
    this.#givenBack.delete(key);
    const request = { ...this.#names(), ...given };
    this.router.ask(linkId, r8.GIVE_BACK, request, ANSWER_TIMEOUT_MS, now, (outcome, later) => {
      const isLost =
        outcome.kind === "lost" ||
        (outcome.kind === "failure" && ERRORS[failureError(outcome.failure).code].retryable);
      // Said again, unless the OMS sent it there once more.
      if (!isLost || this.#places.has(key)) return;
      this.#givenBack.set(key, given);
      this.#giveBackMs = later.monoMs + AGAIN_MS;
    });
  }

  #names(): { readonly serviceKey: Uint8Array; readonly cacheServerId: PeerId } {
    const { serviceKey, cacheServerId } = this.#own;
    return { serviceKey, cacheServerId };
  }

  #register(linkId: LinkId, now: Now): void {
    const { label, virtualPeers, overlaysPerPeer } = this.#own;
    const holds = [...this.#places.values()].filter(({ leaving }) => !leaving);
    const offer = { label, virtualPeers, overlaysPerPeer, holds, instance: this.#instance };
    const request = { ...this.#names(), ...offer };
    this.#registerMs = Number.POSITIVE_INFINITY;
    this.router.ask(linkId, r8.REGISTER_CACHE, request, ANSWER_TIMEOUT_MS, now, (...answer) =>
      this.#answered(...answer),
    );
  }

  #answered(outcome: Outcome<(typeof r8.REGISTER_CACHE)["answer"]["fields"]>, now: Now): void {
    if (outcome.kind === "lost") {
      this.#registerMs = now.monoMs + AGAIN_MS;
      // With the link the end of it tells.
      if (outcome.code === "TIMEOUT") this.#away();
      return;
    }
    if (outcome.kind === "failure") {
      this.#registerMs = now.monoMs + Math.max(AGAIN_MS, outcome.failure.retryAfterMs);
      const { code, detail } = failureError(outcome.failure);
      this.#refusedBy(code, detail ?? "");
      return;
    }
    const { leaseMs, term } = outcome.answer;
    const delayMs = Math.max(REGISTER_MS_MIN, leaseMs / 3);
    this.#registerMs = now.monoMs + delayMs * (1 - 0.1 * this.options.rng.next());
    if (term < this.#term) {
      this.#refusedBy("TERM_PASSED", `term ${term}, and ${this.#term} was seen`);
      return;
    }
    this.#term = term;
    const isNews = !this.#registered || this.#isAway;
    this.#isAway = false;
    this.#registered = true;
    // What is refused after this is news again.
    this.#told.clear();
    if (isNews) this.report({ type: "registered", leaseMs, term });
  }

  #refusedBy(code: ErrorCode, detail: string): void {
    this.#registered = false;
    // An answer: after a silence that is news, and so is the next silence.
    if (this.#isAway) this.#told.clear();
    this.#isAway = false;
    if (this.#told.has(code)) return;
    this.#told.add(code);
    this.report({ type: "unregistered", code, detail });
  }

  #withdraw(now: Now): void {
    if (this.#withdrawByMs !== undefined) return;
    this.#withdrawByMs = now.monoMs + WITHDRAW_MS;
    const { linkId } = this.#uplink;
    if (linkId === undefined) {
      this.#gone();
      return;
    }
    this.router.ask(linkId, r8.WITHDRAW_CACHE, this.#names(), WITHDRAW_MS, now, () => this.#gone());
  }

  #gone(): void {
    if (this.#isWithdrawn) return;
    this.#isWithdrawn = true;
    this.report({ type: "withdrawn" });
  }

  protected override earliestMs(): number {
    if (!this.ready || this.#isWithdrawn) return Number.POSITIVE_INFINITY;
    if (this.#withdrawByMs !== undefined) return this.#withdrawByMs;
    if (this.#uplink.linkId === undefined) return this.#uplink.earliestMs();
    const giveBackMs = this.#givenBack.size > 0 ? this.#giveBackMs : Number.POSITIVE_INFINITY;
    return Math.min(giveBackMs, this.#registerMs);
  }

  // Nothing of it is on a disk.
  protected override take(): void {}

  protected override snapshot(): CsSnapshot {
    return {
      ready: this.ready,
      registered: this.#registered,
      term: this.#term,
      places: [...this.#places.values()].map((place) => ({ ...place })),
      refused: this.#refused,
      counters: { ...this.counters },
    };
  }
}

/** A cache server's side of R8; `start` lets it register. */
export function createCs(options: CsOptions): Cs {
  return new Cs(options);
}
