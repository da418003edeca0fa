/**
 * What both kinds of session share: retries with full jitter, timers by name, signing, the proof of
 * identity that OMS asks for, and the activity reports to the PAMS (activity-reporter.ts).
 */

import { Deadlines } from "../../base/deadlines.ts";
import { ERRORS, Mp2pError } from "../../base/errors.ts";
import { hostKind } from "../../base/hosts.ts";
import { type Address, formatAddress, parseAddress } from "../../base/machine.ts";
import type { MonoMs, OverlayId } from "../../base/units.ts";
import type { Fields, InputOf, MessageOf } from "../../protocol/codec.ts";
import { REACH, type Reach, type Role } from "../../protocol/common.ts";
import type { PeerStatus } from "../../protocol/r2.ts";
import { CHALLENGE } from "../../protocol/r5.ts";
import type { Operation } from "../../protocol/signalling.ts";
import type { OpenOverlay, PeerCommand, PeerEvent } from "../commands.ts";
import type { PeerContext } from "../context.ts";
import type { Overlay } from "../overlay.ts";
import { ActivityReporter, type ReporterHost, type ReportTimer } from "./activity-reporter.ts";
import type { ServerClient, ServerFailure } from "./server-client.ts";
import type { WishHost } from "./virtual-peers.ts";

const BACKOFF_MIN_MS = 250;
const BACKOFF_MAX_MS = 30_000;

export interface SessionOutlet {
  client(address: Address): ServerClient;
  command(command: PeerCommand): void;
  overlay(overlayId: OverlayId): Overlay | undefined;
  event(event: PeerEvent): void;
  listen(): readonly Address[];
  closed(session: SessionBase): void;
  /** All of this peer, the asking one too. */
  sessions(): Iterable<SessionBase>;
}

export type TimerName = "step" | "refresh" | "members" | "end" | "wish" | ReportTimer;

export abstract class SessionBase {
  readonly sessionId: number;
  overlayId: OverlayId | undefined;
  protected readonly context: PeerContext;
  protected readonly outlet: SessionOutlet;
  protected isOver = false;
  readonly #deadlines = new Deadlines<TimerName>();
  readonly #actions = new Map<TimerName, () => void>();
  #attempts = 0;
  /** How the session's overlay was opened. */
  #opened: OpenOverlay | undefined;
  #reporter: ActivityReporter | undefined;
  #reach: Reach = REACH.unknown;
  #noted = "";
  #saidPlaintext = false;

  constructor(context: PeerContext, outlet: SessionOutlet, sessionId: number) {
    this.context = context;
    this.outlet = outlet;
    this.sessionId = sessionId;
  }

  abstract start(): void;
  abstract leave(): void;
  /** An event of this session's overlay. */
  abstract observe(event: PeerEvent): void;
  /** The overlay that is this session's, or is to be, until it ends. */
  protected abstract get claimed(): OverlayId | undefined;

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

  protected note(text: string, failure?: Pick<ServerFailure, "code" | "detail">): void {
    // What is found out once more is no news.
    if (text === this.#noted) return;
    this.#noted = text;
    const { sessionId } = this;
    const why = failure === undefined ? {} : { failure };
    this.outlet.event({ kind: "sessionNote", sessionId, text, ...why });
  }

  protected noteRetry({ code, detail }: Pick<ServerFailure, "code" | "detail">): void {
    this.note(`${code}${detail === "" ? "" : ` ${detail}`}: trying again`, { code, detail });
  }

  protected fail(failure: { readonly code: ServerFailure["code"]; readonly detail: string }): void {
    if (this.isOver) return;
    this.outlet.event({
      kind: "sessionFailed",
      sessionId: this.sessionId,
      code: failure.code,
      detail: failure.detail,
    });
    this.abandon();
    this.finish();
  }

  /** What a session that failed undoes once that is told, and before it is over. */
  protected abandon(): void {}

  /** Opens the session's overlay; false when this node can't: then the session has failed. */
  protected openOverlay(command: OpenOverlay): boolean {
    try {
      this.#opened = undefined;
      this.outlet.command(command);
      this.#opened = command;
      return true;
    } catch (error) {
      if (!(error instanceof Mp2pError)) throw error;
      this.fail({ code: error.code, detail: error.detail ?? "" });
      return false;
    }
  }

  /** Leaves the session's overlay and opens it as it was opened, in one turn. */
  protected openAnew(why: string): void {
    const command = this.#opened;
    const { overlayId } = this;
    if (command === undefined || overlayId === undefined || this.isOver) return;
    if (this.outlet.overlay(overlayId)?.hasLeft !== false) return;
    this.note(why);
    this.leaveOverlay(true);
    // A consumer that waits asked the one before.
    if (this.openOverlay(command)) this.outlet.event({ kind: "readable", overlayId });
  }

  /** Leaves the session's overlay, if it is open still: one that another session opened stays. */
  protected leaveOverlay(movesOn = false): void {
    const { overlayId } = this;
    if (this.#opened === undefined || overlayId === undefined) return;
    if (this.outlet.overlay(overlayId)?.hasLeft !== false) return;
    this.outlet.command({ kind: "leaveOverlay", overlayId, announced: true, movesOn });
  }

  /** Fails if the overlay is another session's of this peer, and says whether it did. */
  protected failedAsTaken(overlayId: OverlayId): boolean {
    if (!this.isTaken(overlayId)) return false;
    this.fail({ code: "USAGE", detail: `overlay ${overlayId} is open already in this engine` });
    return true;
  }

  protected isTaken(overlayId: OverlayId): boolean {
    if (overlayId === this.overlayId) return false;
    if (this.outlet.overlay(overlayId) !== undefined) return true;
    return [...this.outlet.sessions()].some(
      (other) => other !== this && other.claimed === overlayId,
    );
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

  /** The link to a server went down: a server that was started anew has to be told what it forgot. */
  serverLost(server: Address): void {
    if (this.isOver) return;
    if (this.#reporter !== undefined && sameAddress(this.#reporter.pams, server)) {
      this.#reporter.lost();
    }
    this.lost(server);
  }

  /** What else a session has with a server whose link went down. */
  protected lost(_server: Address): void {}

  /** For what this session would have of the OMS and can do without. */
  protected wishHost(): WishHost {
    return {
      ask: (...request) => this.ask(...request),
      again: (retryAfterMs, action) => this.after("wish", this.backoffMs(retryAfterMs), action),
      isRetryable: (failure) => SessionBase.isRetryable(failure),
      note: (text) => this.note(text),
    };
  }

  // ------------------------------------------------------------------------------ addresses

  /** What the OMS found out about dialling this node; told once each time it changes. */
  protected noteReach(reach: Reach): void {
    if (reach === this.#reach) return;
    if (reach === REACH.outboundOnly) {
      this.note("others can not dial this node: it links up with those that can be dialled");
    } else if (this.#reach === REACH.outboundOnly && reach === REACH.inbound) {
      this.note("others can dial this node now");
    }
    this.#reach = reach;
  }

  /** A member that can not be dialled for want of a word of the operator is worth one. */
  protected noteFailure(event: Extract<PeerEvent, { kind: "linkFailed" }>): void {
    if (event.code !== "PLAINTEXT_REFUSED" || this.#saidPlaintext) return;
    this.#saidPlaintext = true;
    this.note(`${event.code} ${formatAddress(event.address)}: ${ERRORS[event.code].sentence}`);
  }

  // ------------------------------------------------------------------------------ R2

  /** Registers at the PAMS (R2.a) and reports from then on (R2.c), if there is one. */
  protected startReports(pamsUrl: string, oms: Address, role: Role): void {
    const told = parseAddress(pamsUrl);
    // A server that listens on every address does not know by which one it is found.
    const isAnywhere = told !== undefined && hostKind(told.host) === "wildcard";
    const pams = isAnywhere ? { ...told, host: oms.host } : told;
    const { overlayId } = this;
    if (pams === undefined || overlayId === undefined) return;
    const host: ReporterHost = {
      context: this.context,
      overlay: () => this.outlet.overlay(overlayId),
      after: (name, delayMs, action) => this.after(name, delayMs, action),
      cancel: (name) => this.cancel(name),
      backoffMs: (retryAfterMs) => this.backoffMs(retryAfterMs),
      sign: (bytes, done) => this.sign(bytes, done),
      ask: (server, operation, request, done, failed) =>
        this.ask(server, operation, request, done, failed),
    };
    this.#reporter = new ActivityReporter(host, pams, overlayId, role);
    this.#reporter.start();
  }

  /** What the overlay tells the session is told to the PAMS as far as it matters there. */
  protected reportEvent(event: PeerEvent, sourcePeerId: string): void {
    this.#reporter?.observe(event, sourcePeerId);
  }

  /** The status of this session's overlay, when the PAMS asks for it (R2.e). */
  status(): PeerStatus | undefined {
    return this.#reporter?.asked();
  }

  /** Removes this peer at the PAMS (R2.d). */
  protected stopReports(done: () => void): void {
    if (this.#reporter === undefined) done();
    else this.#reporter.stop(done);
  }
}

export function sameAddress(a: Address, b: Address): boolean {
  return a.transport === b.transport && a.host === b.host && a.port === b.port;
}
