/**
 * Requests and answers of one server over its links: opens envelopes, limits each link, hands a
 * request to its handler with a `Reply` that settles exactly once, and matches answers to the
 * requests this server made itself.
 *
 * Every message that comes is paid for from its link's bucket before it is looked at. A request that
 * is not served is answered: malformed, unknown, overloaded, not ready. Who goes on all the same has
 * a second bucket of refusals; when that is empty too the link is closed, so that a flood ends. A
 * reply to a link that has gone is dropped. Never keeps a view of the host's memory: handlers get
 * decoded copies.
 */

import { assert } from "../base/assert.ts";
import { type ErrorCode, RemoteProtocolError } from "../base/errors.ts";
import type { Address, Frames, LinkId, LinkUp, Now } from "../base/machine.ts";
import type { Rng } from "../base/rng.ts";
import type { Fields, InputOf, Message, MessageOf } from "../protocol/codec.ts";
import {
  type Envelope,
  encodeAnswer,
  encodeFailure,
  encodeRequest,
  FAILURE,
  type Failure,
  type FailureInput,
  type Operation,
  readEnvelope,
} from "../protocol/signalling.ts";
import type { ServerCounters, ServerLimits } from "./server-types.ts";

/** The way back to whoever asked. Exactly one of its methods is called, once. */
export interface Reply<A extends Fields> {
  readonly linkId: LinkId;
  /** The other end as the socket sees it. */
  readonly remote: Address;
  answer(answer: InputOf<A>): void;
  fail(code: ErrorCode, detail: string, more?: { retryAfterMs?: number; whenUs?: number }): void;
}

type Handler<Q extends Fields, A extends Fields> = (
  request: MessageOf<Q>,
  reply: Reply<A>,
  now: Now,
) => void;

/** What became of a request that this server made. */
export type Outcome<A extends Fields> =
  | { readonly kind: "answer"; readonly answer: MessageOf<A> }
  | { readonly kind: "failure"; readonly failure: Failure }
  /** The link went, the time passed or the answer was malformed. */
  | { readonly kind: "lost"; readonly code: ErrorCode };

interface Link {
  readonly id: LinkId;
  readonly remote: Address;
  inFlight: number;
  malformed: number;
  /** Messages that may come now; refilled by time. */
  tokens: number;
  /** Messages beyond those that are still answered; refilled alike. */
  refusals: number;
  /** The other end is a server that belongs to this one. */
  trusted: boolean;
  refilledMs: number;
  closing: boolean;
}

interface Asked {
  readonly linkId: LinkId;
  readonly endMs: number;
  readonly settle: (envelope: Envelope | undefined, code: ErrorCode, now: Now) => void;
}

export interface RouterOutput {
  transmit(linkId: LinkId, bytes: Uint8Array): void;
  /** `abort`: without sending what is queued. */
  close(linkId: LinkId, abort: boolean): void;
  refused(linkId: LinkId, code: ErrorCode, detail: string): void;
}

export class RequestRouter {
  readonly #handlers = new Map<
    number,
    { readonly operation: Operation; readonly handle: Handler<Fields, Fields> }
  >();
  readonly #links = new Map<LinkId, Link>();
  readonly #asked = new Map<number, Asked>();
  readonly #output: RouterOutput;
  readonly #limits: ServerLimits;
  readonly #counters: ServerCounters;
  readonly #rng: Rng;
  #nextRequestId: number;
  /** Why requests are not served now; undefined = they are. */
  #shut: string | undefined = "starting";

  /** `requestIdBase` keeps the request ids of servers that share a link apart. */
  constructor(
    output: RouterOutput,
    limits: ServerLimits,
    counters: ServerCounters,
    rng: Rng,
    requestIdBase: number,
  ) {
    this.#output = output;
    this.#limits = limits;
    this.#counters = counters;
    this.#rng = rng;
    this.#nextRequestId = requestIdBase;
  }

  on<Q extends Fields, A extends Fields>(operation: Operation<Q, A>, handle: Handler<Q, A>): void {
    assert(!this.#handlers.has(operation.type), `one handler for ${operation.name}`);
    this.#handlers.set(operation.type, {
      operation: operation as unknown as Operation,
      handle: handle as unknown as Handler<Fields, Fields>,
    });
  }

  /** From now on requests are served (undefined) or refused as OVERLOADED with this reason. */
  shut(reason: string | undefined): void {
    this.#shut = reason;
  }

  /** The other end has shown that it is a server of ours: its messages are not limited any more. */
  trust(linkId: LinkId): void {
    const link = this.#links.get(linkId);
    if (link !== undefined) link.trusted = true;
  }

  isUp(linkId: LinkId): boolean {
    return this.#links.has(linkId);
  }

  linkUp(input: LinkUp, now: Now): void {
    // The limit is on those who come; a link this server opened itself is wanted.
    if (input.direction === "inbound" && this.#links.size >= this.#limits.links) {
      this.#counters.linksRefused++;
      this.#output.transmit(
        input.linkId,
        encodeFailure(0, {
          code: "TOO_MANY_LINKS",
          detail: `limit of ${this.#limits.links}`,
          retryAfterMs: this.#retryAfterMs(5_000),
        }),
      );
      this.#output.close(input.linkId, false);
      return;
    }
    this.#links.set(input.linkId, {
      id: input.linkId,
      remote: input.remote,
      inFlight: 0,
      malformed: 0,
      tokens: this.#limits.requestBurst,
      refusals: this.#limits.refusalBurst,
      trusted: false,
      refilledMs: now.monoMs,
      closing: false,
    });
    this.#counters.links = this.#links.size;
  }

  linkDown(linkId: LinkId, code: ErrorCode, now: Now): void {
    if (!this.#links.delete(linkId)) return;
    this.#counters.links = this.#links.size;
    for (const [requestId, asked] of this.#asked) {
      if (asked.linkId !== linkId) continue;
      this.#asked.delete(requestId);
      asked.settle(undefined, code, now);
    }
  }

  frames(input: Frames, now: Now): void {
    const link = this.#links.get(input.linkId);
    // Frames may still come from a link that was refused or is being closed.
    if (link === undefined) return;
    for (let i = 0; i < input.count && !link.closing; i++) {
      const offset = input.ranges[2 * i] ?? 0;
      this.#frame(link, input.memory, offset, input.ranges[2 * i + 1] ?? 0, now);
    }
  }

  /** Asks the other end of a link that is up. `settle` is called exactly once. */
  ask<Q extends Fields, A extends Fields>(
    linkId: LinkId,
    operation: Operation<Q, A>,
    request: InputOf<Q>,
    timeoutMs: number,
    now: Now,
    settle: (outcome: Outcome<A>, now: Now) => void,
  ): void {
    assert(this.#links.has(linkId), "a request over a link that is up");
    const requestId = this.#nextRequestId++;
    this.#asked.set(requestId, {
      linkId,
      endMs: now.monoMs + timeoutMs,
      settle: (envelope, code, then) => settle(outcomeOf(operation.answer, envelope, code), then),
    });
    this.#output.transmit(linkId, encodeRequest(operation, requestId, request));
  }

  /** Gives up on own requests whose time has passed. */
  expire(now: Now): void {
    for (const [requestId, asked] of this.#asked) {
      if (asked.endMs > now.monoMs) continue;
      this.#asked.delete(requestId);
      asked.settle(undefined, "TIMEOUT", now);
    }
  }

  earliestMs(): number {
    let earliest = Number.POSITIVE_INFINITY;
    for (const asked of this.#asked.values()) if (asked.endMs < earliest) earliest = asked.endMs;
    return earliest;
  }

  #frame(link: Link, memory: Uint8Array, offset: number, bytes: number, now: Now): void {
    const waitMs = link.trusted ? 0 : this.#pay(link, now);
    if (link.closing) return;
    let envelope: Envelope;
    try {
      envelope = readEnvelope(memory, offset, bytes);
    } catch (error) {
      this.#malformed(link, 0, error);
      return;
    }
    if (envelope.kind === "request") {
      this.#request(link, envelope, waitMs, now);
      return;
    }
    // Ids of others are those of another server on this link, or of a request given up: no harm.
    const asked = this.#asked.get(envelope.requestId);
    if (asked === undefined || asked.linkId !== link.id) return;
    this.#asked.delete(envelope.requestId);
    // This server asked for it: its asking is the limit.
    if (waitMs === 0) link.tokens++;
    else link.refusals++;
    asked.settle(envelope, "MESSAGE_MALFORMED", now);
  }

  #request(link: Link, envelope: Envelope, waitMs: number, now: Now): void {
    const { requestId } = envelope;
    this.#counters.requests++;
    const row = this.#handlers.get(envelope.type);
    if (row === undefined) {
      this.#counters.unknown++;
      const detail = `message type ${envelope.type}`;
      this.#fail(link.id, requestId, { code: "MESSAGE_UNKNOWN", detail });
      return;
    }
    const wait = this.#refusal(link, waitMs);
    if (wait !== undefined) {
      this.#counters.overloaded++;
      this.#fail(link.id, requestId, { code: "OVERLOADED", ...wait });
      return;
    }
    let request: MessageOf<Fields>;
    try {
      request = row.operation.request.fromPositions(envelope.positions);
    } catch (error) {
      this.#malformed(link, requestId, error);
      return;
    }
    link.inFlight++;
    this.#counters.inFlight++;
    row.handle(request, this.#reply(link, requestId, row.operation), now);
  }

  /**
   * Takes a message out of the link's buckets: 0, or in how many ms one more may come. Closes the
   * link when nothing is left to refuse it with.
   */
  #pay(link: Link, now: Now): number {
    const { requestsPerSecond, requestBurst, refusalBurst } = this.#limits;
    const refill = ((now.monoMs - link.refilledMs) / 1_000) * requestsPerSecond;
    link.tokens = Math.min(requestBurst, link.tokens + refill);
    link.refusals = Math.min(refusalBurst, link.refusals + refill);
    link.refilledMs = now.monoMs;
    if (link.tokens >= 1) {
      link.tokens--;
      return 0;
    }
    if (link.refusals >= 1) link.refusals--;
    else {
      link.closing = true;
      this.#counters.floodsClosed++;
      this.#output.refused(link.id, "OVERLOADED", "went on after its refusals");
      this.#output.close(link.id, true);
    }
    return ((1 - link.tokens) / requestsPerSecond) * 1_000;
  }

  /** Why this link may not ask now, and when it may; undefined = it may. */
  #refusal(link: Link, waitMs: number): { detail: string; retryAfterMs: number } | undefined {
    if (this.#shut !== undefined) {
      return { detail: this.#shut, retryAfterMs: this.#retryAfterMs(1_000) };
    }
    if (waitMs > 0) {
      return { detail: "requests a second", retryAfterMs: this.#retryAfterMs(waitMs) };
    }
    if (link.inFlight >= this.#limits.inFlightPerLink) {
      return { detail: "requests in flight", retryAfterMs: this.#retryAfterMs(200) };
    }
    return undefined;
  }

  /** At least `ms`, spread so that those refused together do not return together. */
  #retryAfterMs(ms: number): number {
    return Math.ceil(ms * (1 + this.#rng.next()));
  }

  #reply(link: Link, requestId: number, operation: Operation): Reply<Fields> {
    let settled = false;
    const settle = (): boolean => {
      assert(!settled, `one reply to a request of ${operation.name}`);
      settled = true;
      link.inFlight--;
      this.#counters.inFlight--;
      return this.#links.get(link.id) === link && !link.closing;
    };
    return {
      linkId: link.id,
      remote: link.remote,
      answer: (answer) => {
        if (!settle()) return;
        this.#counters.answers++;
        this.#output.transmit(link.id, encodeAnswer(operation, requestId, answer));
      },
      fail: (code, detail, more = {}) => {
        if (settle()) this.#fail(link.id, requestId, { code, detail, ...more });
      },
    };
  }

  #fail(linkId: LinkId, requestId: number, failure: FailureInput): void {
    this.#counters.failures++;
    this.#output.transmit(linkId, encodeFailure(requestId, failure));
  }

  #malformed(link: Link, requestId: number, error: unknown): void {
    if (!(error instanceof RemoteProtocolError)) throw error;
    const detail = error.detail ?? "";
    this.#counters.malformed++;
    this.#output.refused(link.id, error.code, detail);
    this.#fail(link.id, requestId, { code: error.code, detail });
    link.malformed++;
    if (link.malformed < this.#limits.malformedPerLink && error.code !== "FRAME_TOO_LARGE") return;
    link.closing = true;
    this.#output.close(link.id, false);
  }
}

function outcomeOf<A extends Fields>(
  message: Message<A>,
  envelope: Envelope | undefined,
  code: ErrorCode,
): Outcome<A> {
  if (envelope === undefined) return { kind: "lost", code };
  try {
    if (envelope.kind === "failure") {
      return { kind: "failure", failure: FAILURE.fromPositions(envelope.positions) };
    }
    if ((envelope.type | 0x80) !== message.type) return { kind: "lost", code };
    return { kind: "answer", answer: message.fromPositions(envelope.positions) };
  } catch (error) {
    if (error instanceof RemoteProtocolError) return { kind: "lost", code: error.code };
    throw error;
  }
}
