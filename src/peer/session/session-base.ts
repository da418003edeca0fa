/**
 * What both kinds of session share: retries with full jitter, timers by name, signing, the proof of
 * identity that OMS asks for, and the activity reports to the PAMS (R2).
 */

import { Deadlines } from "../../base/deadlines.ts";
import { ERRORS, Mp2pError } from "../../base/errors.ts";
import { type Address, parseAddress } from "../../base/machine.ts";
import type { MonoMs, OverlayId } from "../../base/units.ts";
import type { Fields, InputOf, MessageOf } from "../../protocol/codec.ts";
import type { Role } from "../../protocol/common.ts";
import { REGISTER_PEER, REMOVE_PEER, REPORT, type REPORT_EVENTS } from "../../protocol/r2.ts";
import { CHALLENGE } from "../../protocol/r5.ts";
import type { Operation } from "../../protocol/signalling.ts";
import type { OpenOverlay, PeerCommand, PeerEvent } from "../commands.ts";
import type { PeerContext } from "../context.ts";
import type { Overlay } from "../overlay.ts";
import type { ServerClient, ServerFailure } from "./server-client.ts";
import { overlayStatus, type StatusMemory, zeroStatusMemory } from "./status.ts";

const BACKOFF_MIN_MS = 250;
const BACKOFF_MAX_MS = 30_000;
const SOON_MS = 1_000;

export interface SessionOutlet {
  client(address: Address): ServerClient;
  command(command: PeerCommand): void;
  overlay(overlayId: OverlayId): Overlay | undefined;
  event(event: PeerEvent): void;
  listen(): readonly Address[];
  closed(session: SessionBase): void;
}

export type TimerName = "step" | "refresh" | "report" | "register" | "members" | "end";

export abstract class SessionBase {
  readonly sessionId: number;
  overlayId: OverlayId | undefined;
  protected readonly context: PeerContext;
  protected readonly outlet: SessionOutlet;
  protected isOver = false;
  readonly #deadlines = new Deadlines<TimerName>();
  readonly #actions = new Map<TimerName, () => void>();
  #attempts = 0;
  #pams: Address | undefined;
  #role: Role = 1;
  #reportIntervalMs = 0;
  readonly #status: StatusMemory = zeroStatusMemory();

  constructor(context: PeerContext, outlet: SessionOutlet, sessionId: number) {
    this.context = context;
    this.outlet = outlet;
    this.sessionId = sessionId;
  }

  abstract start(): void;
  abstract leave(): void;
  /** An event of this session's overlay. */
  abstract observe(event: PeerEvent): void;

  get deadlineMs(): MonoMs {
    return this.#deadlines.earliestMs();
  }

  runTimers(): void {
    for (const name of [...this.#actions.keys()]) {
      if (!this.#deadlines.take(name, this.context.now.monoMs)) continue;
      const action = this.#actions.get(name);
      this.#actions.delete(name);
      action?.();
    }
  }

  protected after(name: TimerName, delayMs: number, action: () => void): void {
    this.#deadlines.set(name, this.context.now.monoMs + delayMs);
    this.#actions.set(name, action);
  }

  protected cancel(name: TimerName): void {
    this.#deadlines.clear(name);
    this.#actions.delete(name);
  }

  protected note(text: string): void {
    this.outlet.event({ kind: "sessionNote", sessionId: this.sessionId, text });
  }

  protected fail(failure: { readonly code: ServerFailure["code"]; readonly detail: string }): void {
    if (this.isOver) return;
    this.outlet.event({
      kind: "sessionFailed",
      sessionId: this.sessionId,
      code: failure.code,
      detail: failure.detail,
    });
    this.finish();
  }

  /** Opens the session's overlay; false when this node can't: then the session has failed. */
  protected openOverlay(command: OpenOverlay): boolean {
    try {
      this.outlet.command(command);
      return true;
    } catch (error) {
      if (!(error instanceof Mp2pError)) throw error;
      this.fail({ code: error.code, detail: error.detail ?? "" });
      return false;
    }
  }

  /** Nothing more comes of this session. */
  protected finish(): void {
    if (this.isOver) return;
    this.isOver = true;
    for (const name of [...this.#actions.keys()]) this.cancel(name);
    this.outlet.event({ kind: "sessionClosed", sessionId: this.sessionId });
    this.outlet.closed(this);
  }

  protected ask<Q extends Fields, A extends Fields>(
    server: Address,
    operation: Operation<Q, A>,
    request: InputOf<Q>,
    done: (answer: MessageOf<A>) => void,
    failed: (failure: ServerFailure) => void,
  ): void {
    this.outlet.client(server).ask(
      operation,
      request,
      (answer) => {
        if (this.isOver) return;
        this.#attempts = 0;
        done(answer);
      },
      (failure) => {
        if (!this.isOver) failed(failure);
      },
    );
  }

  /** Full jitter: somewhere in [0, min(30 s, 0.25 s * 2^n)], never before what the server asked. */
  protected backoffMs(retryAfterMs: number): number {
    const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** this.#attempts);
    this.#attempts = Math.min(this.#attempts + 1, 16);
    return Math.max(retryAfterMs, 20 + this.context.rng.next() * ceiling);
  }

  protected static isRetryable(failure: ServerFailure): boolean {
    return ERRORS[failure.code].retryable;
  }

  protected sign(bytes: Uint8Array, done: (signature: Uint8Array) => void): void {
    this.context.job({ kind: "sign", bytes }, (result) => {
      if (this.isOver) return;
      if (result.kind === "sign") done(result.signature);
      else this.fail({ code: "INTERNAL", detail: "this node's key can not sign" });
    });
  }

  /** Gets a nonce of the OMS and signs what `proof` makes of it. */
  protected prove(
    oms: Address,
    proof: (nonce: Uint8Array) => Uint8Array,
    done: (nonce: Uint8Array, signature: Uint8Array) => void,
    failed: (failure: ServerFailure) => void,
  ): void {
    this.ask(
      oms,
      CHALLENGE,
      {},
      (answer) => this.sign(proof(answer.nonce), (signature) => done(answer.nonce, signature)),
      failed,
    );
  }

  /**
   * The link to a server went down: a server that was started anew has to be told what it forgot,
   * within an interval and not by all at once.
   */
  serverLost(server: Address): void {
    if (this.isOver) return;
    const pams = this.#pams;
    if (pams !== undefined && this.#reportIntervalMs > 0 && sameAddress(pams, server)) {
      this.after("register", this.#soonMs(), () => this.#registerAtPams());
    }
    this.lost(server);
  }

  /** What else a session has with a server whose link went down. */
  protected lost(_server: Address): void {}

  /** Somewhere within the next second, or interval if that is shorter. */
  #soonMs(): number {
    return 50 + this.context.rng.next() * Math.min(SOON_MS, this.#reportIntervalMs);
  }

  // ------------------------------------------------------------------------------ R2

  /** Registers at the PAMS (R2.a) and reports from then on (R2.c), if there is one. */
  protected startReports(pamsUrl: string, role: Role): void {
    const pams = parseAddress(pamsUrl);
    if (pams === undefined) return;
    this.#pams = pams;
    this.#role = role;
    this.#registerAtPams();
  }

  /** Reports an event now (R2.c, on a specific event). */
  protected reportEvent(event: keyof typeof REPORT_EVENTS): void {
    if (this.#reportIntervalMs > 0) this.#report(event);
  }

  /** Removes this peer at the PAMS (R2.d). */
  protected stopReports(done: () => void): void {
    this.cancel("report");
    this.cancel("register");
    const { overlayId } = this;
    if (this.#pams === undefined || overlayId === undefined) {
      done();
      return;
    }
    const { peerId } = this.context.identity;
    this.ask(this.#pams, REMOVE_PEER, { overlayId, peerId }, done, done);
  }

  #registerAtPams(): void {
    const { overlayId } = this;
    if (this.#pams === undefined || overlayId === undefined) return;
    this.ask(
      this.#pams,
      REGISTER_PEER,
      { overlayId, peerId: this.context.identity.peerId, role: this.#role },
      (answer) => {
        this.#reportIntervalMs = Math.max(100, answer.reportIntervalMs);
        this.#report("started");
        this.#nextReport();
      },
      (failure) => {
        const longestMs = Math.max(failure.retryAfterMs, this.#reportIntervalMs || BACKOFF_MAX_MS);
        const delayMs = Math.min(this.backoffMs(failure.retryAfterMs), longestMs);
        this.after("register", delayMs, () => this.#registerAtPams());
      },
    );
  }

  /** Up to 10 % early, never late. */
  #nextReport(): void {
    const delayMs = this.#reportIntervalMs * (1 - 0.1 * this.context.rng.next());
    this.after("report", delayMs, () => {
      this.#report("interval");
      this.#nextReport();
    });
  }

  #report(event: keyof typeof REPORT_EVENTS): void {
    const overlay = this.overlayId === undefined ? undefined : this.outlet.overlay(this.overlayId);
    if (this.#pams === undefined || overlay === undefined || overlay.hasLeft) return;
    const nowMs = this.context.now.monoMs;
    const report = overlayStatus(overlay, this.context.identity.peerId, event, this.#status, nowMs);
    this.ask(
      this.#pams,
      REPORT,
      report,
      () => undefined,
      (failure) => {
        // A PAMS that was started anew knows nobody: register again, at most once an interval.
        if (failure.code === "TIMEOUT" || failure.code.startsWith("LINK")) return;
        this.after("register", this.backoffMs(failure.retryAfterMs), () => this.#registerAtPams());
      },
    );
  }
}

export function sameAddress(a: Address, b: Address): boolean {
  return a.transport === b.transport && a.host === b.host && a.port === b.port;
}
