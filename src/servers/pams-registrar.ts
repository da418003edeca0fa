/**
 * The OMS's side of R1: keeps the overlays that want it registered at one PAMS.
 *
 * Wants its link while there is something to say, repeats each registration every report interval that the PAMS gave (R1.c; up to a tenth early, never
 * late), and removes an overlay at its end (P3.3). What a PAMS that is away does not hear, it
 * forgets by itself after three intervals.
 *
 * A PAMS that refuses (KEY_REQUIRED, OVERLOADED) is asked again at the next interval; why it refused
 * is told once a link and code. Neither stops anything else of the OMS.
 */

import { Deadlines } from "../base/deadlines.ts";
import type { ErrorCode } from "../base/errors.ts";
import type { LinkId, Now } from "../base/machine.ts";
import type { Rng } from "../base/rng.ts";
import * as r1 from "../protocol/r1.ts";
import { type Failure, failureError, type RequestOf } from "../protocol/signalling.ts";
import type { Outcome, RequestRouter } from "./request-router.ts";
import type { Uplink } from "./uplink.ts";

const ANSWER_TIMEOUT_MS = 5_000;
/** Removals kept for a PAMS that is away; older ones are left to expire there. */
const REMOVALS_MAX = 1_000;

export interface RegistrarOptions {
  readonly uplink: Uplink;
  /** Told to the PAMS: where this OMS is. */
  readonly omsUrl: string;
  /** Shown to the PAMS; undefined: none. */
  readonly serviceKey: Uint8Array | undefined;
  readonly rng: Rng;
  readonly router: RequestRouter;
  /** The PAMS answered with a failure; once a link and code. */
  readonly refused: (overlayId: string, code: ErrorCode, detail: string) => void;
  /** Until the PAMS has given one. */
  readonly reportIntervalMs: number;
}

export class PamsRegistrar {
  readonly #options: RegistrarOptions;
  /** One row an overlay: when to register it next. */
  readonly #due = new Deadlines<string>();
  readonly #overlays = new Set<string>();
  readonly #removals = new Set<string>();
  /** Failures already told of this link. */
  readonly #told = new Set<ErrorCode>();
  /** What the requests show of the service key. */
  readonly #key: { readonly serviceKey?: Uint8Array };
  #reportIntervalMs: number;
  /** Registrations that the PAMS answered, and that failed. */
  registered = 0;
  failed = 0;

  constructor(options: RegistrarOptions) {
    this.#options = options;
    this.#reportIntervalMs = options.reportIntervalMs;
    const { serviceKey } = options;
    this.#key = serviceKey === undefined ? {} : { serviceKey };
  }

  /** R1.b: what the PAMS gave last. */
  get reportIntervalMs(): number {
    return this.#reportIntervalMs;
  }

  /** R1.a: from now on this overlay is kept registered. */
  add(overlayId: string, now: Now): void {
    this.#overlays.add(overlayId);
    this.#removals.delete(overlayId);
    this.#due.set(overlayId, now.monoMs);
  }

  /** R1.e. */
  remove(overlayId: string): void {
    if (!this.#overlays.delete(overlayId)) return;
    this.#due.clear(overlayId);
    if (this.#removals.size < REMOVALS_MAX) this.#removals.add(overlayId);
  }

  linkUp(linkId: LinkId, now: Now): void {
    if (!this.#options.uplink.linkUp(linkId)) return;
    this.#told.clear();
    // A PAMS on a new link may have started over: it hears of every overlay at once.
    for (const overlayId of this.#overlays) this.#due.set(overlayId, now.monoMs);
  }

  linkDown(linkId: LinkId, now: Now): void {
    this.#options.uplink.linkDown(linkId, now);
  }

  onTime(now: Now): void {
    if (this.#overlays.size === 0 && this.#removals.size === 0) return;
    const { router, omsUrl, uplink } = this.#options;
    uplink.want(now);
    const { linkId } = uplink;
    if (linkId === undefined) return;
    for (const overlayId of this.#removals) {
      const request = { overlayId, ...this.#key };
      router.ask(linkId, r1.REMOVE_OVERLAY, request, ANSWER_TIMEOUT_MS, now, (outcome) => {
        if (outcome.kind === "failure") this.#tell(overlayId, outcome.failure);
        // Lost: said again on the next link, unless the overlay was created anew meanwhile.
        if (outcome.kind === "lost" && !this.#overlays.has(overlayId))
          this.#removals.add(overlayId);
      });
    }
    this.#removals.clear();
    if (this.#due.earliestMs() > now.monoMs) return;
    for (const overlayId of this.#overlays) {
      if (!this.#due.take(overlayId, now.monoMs)) continue;
      this.#register(linkId, overlayId, omsUrl, now);
    }
  }

  #register(linkId: LinkId, overlayId: string, omsUrl: string, now: Now): void {
    const { router, rng } = this.#options;
    // Counted from the request, so that the interval between two requests is never longer.
    this.#due.set(overlayId, now.monoMs + this.#reportIntervalMs * (1 - 0.1 * rng.next()));
    const request = { overlayId, omsUrl, ...this.#key };
    router.ask(linkId, r1.REGISTER_OVERLAY, request, ANSWER_TIMEOUT_MS, now, (outcome) => {
      if (outcome.kind !== "answer") {
        this.failed++;
        if (outcome.kind === "failure") this.#tell(overlayId, outcome.failure);
        return;
      }
      this.registered++;
      const intervalMs = Math.max(100, outcome.answer.reportIntervalMs);
      this.#reportIntervalMs = intervalMs;
      if (this.#overlays.has(overlayId)) {
        this.#due.setIfEarlier(overlayId, now.monoMs + intervalMs * (1 - 0.1 * rng.next()));
      }
    });
  }

  #tell(overlayId: string, failure: Failure): void {
    const { code, detail } = failureError(failure);
    if (this.#told.has(code)) return;
    this.#told.add(code);
    this.#options.refused(overlayId, code, detail ?? "");
  }

  earliestMs(): number {
    if (this.#overlays.size === 0 && this.#removals.size === 0) return Number.POSITIVE_INFINITY;
    const { uplink } = this.#options;
    if (uplink.linkId === undefined) return uplink.earliestMs();
    return this.#removals.size > 0 ? 0 : this.#due.earliestMs();
  }

  // ------------------------------------------------------------------------------ questions

  /**
   * R1.d. False: there is no link to the PAMS now, `then` is not called. Else it is called once;
   * undefined: no answer within `timeoutMs`.
   */
  peerList(
    wish: Omit<Parameters<typeof r1.PEER_LIST.request.encode>[0], "serviceKey">,
    timeoutMs: number,
    now: Now,
    then: (peers: readonly r1.ActivePeer[] | undefined, now: Now) => void,
  ): boolean {
    const { router, uplink } = this.#options;
    const { linkId } = uplink;
    if (linkId === undefined) return false;
    const request = { ...wish, ...this.#key };
    router.ask(linkId, r1.PEER_LIST, request, timeoutMs, now, (outcome, later) => {
      then(outcome.kind === "answer" ? outcome.answer.peers : undefined, later);
    });
    return true;
  }

  /** R1.f. As peerList. */
  peerStatus(
    wish: Omit<RequestOf<typeof r1.PEER_STATUS>, "serviceKey">,
    timeoutMs: number,
    now: Now,
    then: (outcome: Outcome<(typeof r1.PEER_STATUS)["answer"]["fields"]>, now: Now) => void,
  ): boolean {
    const { router, uplink } = this.#options;
    const { linkId } = uplink;
    if (linkId === undefined) return false;
    router.ask(linkId, r1.PEER_STATUS, { ...wish, ...this.#key }, timeoutMs, now, then);
    return true;
  }
}
