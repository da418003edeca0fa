/**
 * The peer's side of R2 for one session: registers at the PAMS with the proof of its key, reports
 * every report interval (up to a tenth early, never late) and on events, answers when it is asked,
 * and removes itself at the end.
 *
 * Events are told at most every EVENT_GAP_MS: what comes sooner waits, and of several the one that
 * matters most is told; a report always carries the whole status, so nothing else is lost. A PAMS
 * that was started anew is registered with again; one of before the proof is registered with as it
 * knows it. A PAMS that is away disturbs nothing else.
 */

import type { ErrorCode } from "../../base/errors.ts";
import type { Address } from "../../base/machine.ts";
import type { MonoMs } from "../../base/units.ts";
import type { Fields, InputOf, MessageOf } from "../../protocol/codec.ts";
import type { Role } from "../../protocol/common.ts";
import {
  PAMS_CHALLENGE,
  type PeerStatus,
  REGISTER_PEER,
  REMOVE_PEER,
  REPORT,
  registerProof,
} from "../../protocol/r2.ts";
import type { Operation } from "../../protocol/signalling.ts";
import type { PeerEvent } from "../commands.ts";
import type { PeerContext } from "../context.ts";
import type { Overlay } from "../overlay.ts";
import type { ServerFailure } from "./server-client.ts";
import { overlayStatus, type ReportReason, type StatusMemory } from "./status.ts";

/** Reports on events: no more often than this, whatever happens. */
const EVENT_GAP_MS = 1_000;
/** How often it is looked whether this peer lags. */
const WATCH_MS = 1_000;
/** Further behind than this it lags, or than half of what the session allows, if that is less. */
const LAGGING_MS = 5_000;
const LAGGING_MS_MIN = 1_000;
const BACKOFF_MAX_MS = 30_000;
const SOON_MS = 1_000;

/** Of several events that wait, the first of these is told. */
const BY_WEIGHT: readonly ReportReason[] = [
  "completed",
  "sourceLost",
  "lagging",
  "gap",
  "recovered",
  "started",
];

export type ReportTimer = "report" | "register" | "event" | "watch";

export interface ReporterHost {
  readonly context: PeerContext;
  /** The session's overlay while it is open. */
  overlay(): Overlay | undefined;
  after(name: ReportTimer, delayMs: number, action: () => void): void;
  cancel(name: ReportTimer): void;
  backoffMs(retryAfterMs: number): number;
  sign(bytes: Uint8Array, done: (signature: Uint8Array) => void): void;
  ask<Q extends Fields, A extends Fields>(
    server: Address,
    operation: Operation<Q, A>,
    request: InputOf<Q>,
    done: (answer: MessageOf<A>) => void,
    failed: (failure: ServerFailure) => void,
  ): void;
}

export class ActivityReporter {
  readonly #host: ReporterHost;
  readonly #pams: Address;
  readonly #overlayId: string;
  readonly #role: Role;
  readonly #waiting = new Set<ReportReason>();
  #peerToken: Uint8Array = new Uint8Array(0);
  /** 0 until the PAMS gave one. */
  #intervalMs = 0;
  #memory: StatusMemory | undefined;
  #eventMs: MonoMs = Number.NEGATIVE_INFINITY;
  #lost = 0;
  #isLagging = false;
  #hasCompleted = false;
  #isStarted = false;

  constructor(host: ReporterHost, pams: Address, overlayId: string, role: Role) {
    this.#host = host;
    this.#pams = pams;
    this.#overlayId = overlayId;
    this.#role = role;
  }

  get pams(): Address {
    return this.#pams;
  }

  start(): void {
    this.#register();
    this.#watch();
  }

  /** An event of the session's overlay. */
  observe(event: PeerEvent, sourcePeerId: string): void {
    if (event.kind === "gap" && event.gap.kind === "fragments") {
      this.#lost += event.gap.to - event.gap.from + 1;
      this.tell("gap");
    } else if (event.kind === "ended") {
      this.#hasCompleted = true;
      this.tell("completed");
    } else if (event.kind === "neighbour" && event.state === "down") {
      // A link that goes after the end is no loss.
      if (event.peerId === sourcePeerId && !this.#hasCompleted) this.tell("sourceLost");
    }
  }

  /** Reports an event now, or as soon as the gap between two is over. */
  tell(reason: ReportReason): void {
    // Before the first report there is nothing to add to: that one tells all.
    if (this.#intervalMs === 0) return;
    this.#waiting.add(reason);
    const waitMs = this.#eventMs + EVENT_GAP_MS - this.#host.context.now.monoMs;
    if (waitMs <= 0) this.#tellWaiting();
    else if (this.#waiting.size === 1) this.#host.after("event", waitMs, () => this.#tellWaiting());
  }

  /** Its status, when the PAMS asks (R2.e). */
  asked(): PeerStatus | undefined {
    return this.#status("asked")?.status;
  }

  /** The link to the PAMS was lost: it may have been started anew, and is told what it forgot. */
  lost(): void {
    if (this.#intervalMs === 0) return;
    const delayMs = 50 + this.#host.context.rng.next() * Math.min(SOON_MS, this.#intervalMs);
    this.#host.after("register", delayMs, () => this.#register());
  }

  /** Removes this peer at the PAMS (R2.d). */
  stop(done: () => void): void {
    for (const name of ["report", "register", "event", "watch"] as const) this.#host.cancel(name);
    const { peerId } = this.#host.context.identity;
    const request = { overlayId: this.#overlayId, peerId, peerToken: this.#peerToken };
    this.#host.ask(this.#pams, REMOVE_PEER, request, done, done);
  }

  // ------------------------------------------------------------------------------ registration

  #register(): void {
    const failed = (failure: ServerFailure): void => this.#registerAgain(failure);
    this.#host.ask(
      this.#pams,
      PAMS_CHALLENGE,
      {},
      ({ nonce }) => {
        this.#host.sign(registerProof(nonce, this.#overlayId), (signature) => {
          const { publicKey } = this.#host.context.identity;
          this.#registerWith({ nonce, publicKey, signature }, failed);
        });
      },
      (failure) => {
        if (failure.code === "MESSAGE_UNKNOWN") this.#registerWith({}, failed);
        else failed(failure);
      },
    );
  }

  #registerWith(
    proof: { nonce?: Uint8Array; publicKey?: Uint8Array; signature?: Uint8Array },
    failed: (failure: ServerFailure) => void,
  ): void {
    const { peerId } = this.#host.context.identity;
    const request = { overlayId: this.#overlayId, peerId, role: this.#role, ...proof };
    this.#host.ask(
      this.#pams,
      REGISTER_PEER,
      request,
      (answer) => {
        this.#intervalMs = Math.max(100, answer.reportIntervalMs);
        this.#peerToken = answer.peerToken;
        // A PAMS that forgot this peer hears how it stands, not that it begins.
        this.#report(this.#isStarted ? this.#standing() : "started");
        this.#isStarted = true;
        this.#nextReport();
      },
      failed,
    );
  }

  #standing(): ReportReason {
    if (this.#hasCompleted) return "completed";
    return this.#isLagging ? "lagging" : "interval";
  }

  #registerAgain({ retryAfterMs }: { readonly retryAfterMs: number }): void {
    const longestMs = Math.max(retryAfterMs, this.#intervalMs || BACKOFF_MAX_MS);
    const delayMs = Math.min(this.#host.backoffMs(retryAfterMs), longestMs);
    this.#host.after("register", delayMs, () => this.#register());
  }

  // ------------------------------------------------------------------------------ reports

  /** Up to 10 % early, never late. */
  #nextReport(): void {
    const delayMs = this.#intervalMs * (1 - 0.1 * this.#host.context.rng.next());
    this.#host.after("report", delayMs, () => {
      this.#report("interval");
      this.#nextReport();
    });
  }

  #tellWaiting(): void {
    const reason = BY_WEIGHT.find((each) => this.#waiting.has(each));
    this.#waiting.clear();
    this.#eventMs = this.#host.context.now.monoMs;
    if (reason !== undefined) this.#report(reason);
  }

  #report(reason: ReportReason): void {
    const made = this.#status(reason);
    if (made === undefined) return;
    this.#memory = made.memory;
    this.#host.ask(
      this.#pams,
      REPORT,
      { ...made.status, peerToken: this.#peerToken },
      () => undefined,
      (failure) => {
        // A PAMS that was started anew knows nobody: register again, at most once an interval.
        if (isOutage(failure.code)) return;
        const delayMs = this.#host.backoffMs(failure.retryAfterMs);
        this.#host.after("register", delayMs, () => this.#register());
      },
    );
  }

  #status(reason: ReportReason): { status: PeerStatus; memory: StatusMemory } | undefined {
    const overlay = this.#host.overlay();
    if (overlay === undefined || overlay.hasLeft) return undefined;
    const { identity, now, upload } = this.#host.context;
    const limit = upload.limitBytesPerSecond;
    return overlayStatus({
      overlay,
      peerId: identity.peerId,
      reason,
      before: this.#memory,
      nowMs: now.monoMs,
      lost: this.#lost,
      uploadLimitBytesPerSecond: Number.isFinite(limit) ? Math.round(limit) : 0,
    });
  }

  /** Tells when this peer begins to lag, and when it has caught up to half of that. */
  #watch(): void {
    this.#host.after("watch", WATCH_MS, () => this.#watch());
    const overlay = this.#host.overlay();
    if (overlay === undefined || overlay.hasLeft || this.#intervalMs === 0) return;
    const { maxLagMs } = overlay.settings;
    const laggingMs = Math.max(LAGGING_MS_MIN, Math.min(LAGGING_MS, maxLagMs / 2));
    // What a full window keeps out for another's sake is that one's lag.
    const lagMs = overlay.heldBackBy === undefined ? overlay.lagMs() : 0;
    if (this.#isLagging ? lagMs >= laggingMs / 2 : lagMs <= laggingMs) return;
    this.#isLagging = !this.#isLagging;
    this.tell(this.#isLagging ? "lagging" : "recovered");
  }
}

/** No word of the PAMS itself: the link comes back, or a later report finds out. */
function isOutage(code: ErrorCode): boolean {
  return code === "TIMEOUT" || code.startsWith("LINK");
}
