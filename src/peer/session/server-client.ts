/**
 * Signalling with one server over one WebSocket link: requests with ids, answers in any order, a
 * time limit each. The link is opened when something is asked and stays while it is used. When it
 * goes down, everything open fails at once with a retryable code: whoever asked decides on retries.
 */

import {
  type ErrorCode,
  isErrorCode,
  isOfTheLink,
  RemoteProtocolError,
} from "../../base/errors.ts";
import type { Address, Frames, LinkId } from "../../base/machine.ts";
import type { MonoMs } from "../../base/units.ts";
import type { Fields, InputOf, MessageOf } from "../../protocol/codec.ts";
import {
  encodeAnswer,
  encodeFailure,
  encodeRequest,
  FAILURE,
  type Operation,
  readEnvelope,
} from "../../protocol/signalling.ts";

const REQUEST_TIMEOUT_MS = 8_000;

export interface ServerFailure {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly retryAfterMs: number;
}

/** What a wait for servers came to in the end: their last refusal, or that none ever answered. */
export class LastRefusal {
  #refusal: Pick<ServerFailure, "code" | "detail"> | undefined;

  /** `failure` is the latest: what is to be told if it was the last. */
  of<F extends Pick<ServerFailure, "code" | "detail">>(failure: F): F {
    const { code } = failure;
    if (!isOfTheLink(code)) this.#refusal = failure;
    if (this.#refusal === undefined || this.#refusal === failure) return failure;
    const { detail } = this.#refusal;
    const then = `the last answer; then ${code}`;
    return {
      ...failure,
      code: this.#refusal.code,
      detail: detail === "" ? then : `${detail}; ${then}`,
    };
  }
}

interface Pending {
  readonly type: number;
  readonly deadlineMs: MonoMs;
  readonly bytes: Uint8Array;
  answer(positions: readonly unknown[]): void;
  fail(failure: ServerFailure): void;
}

export interface ServerLinkOutlet {
  openLink(address: Address): LinkId;
  transmit(linkId: LinkId, bytes: Uint8Array): void;
  closeLink(linkId: LinkId): void;
}

/** Answers a request that a server made of this peer. Undefined: the operation is not known. */
export type ServerAsks = (type: number, positions: readonly unknown[]) => Answer | undefined;
export type Answer = (requestId: number) => Uint8Array;

export class ServerClient {
  readonly address: Address;
  readonly #outlet: ServerLinkOutlet;
  readonly #asks: ServerAsks;
  readonly #pending = new Map<number, Pending>();
  #linkId: LinkId | undefined;
  #up = false;
  #nextRequest = 1;
  #nowMs: MonoMs = 0;

  constructor(address: Address, outlet: ServerLinkOutlet, asks: ServerAsks) {
    this.address = address;
    this.#outlet = outlet;
    this.#asks = asks;
  }

  get linkId(): LinkId | undefined {
    return this.#linkId;
  }

  get deadlineMs(): MonoMs {
    let earliest = Number.POSITIVE_INFINITY;
    for (const pending of this.#pending.values()) {
      if (pending.deadlineMs < earliest) earliest = pending.deadlineMs;
    }
    return earliest;
  }

  setTime(nowMs: MonoMs): void {
    this.#nowMs = nowMs;
  }

  ask<Q extends Fields, A extends Fields>(
    operation: Operation<Q, A>,
    request: InputOf<Q>,
    done: (answer: MessageOf<A>) => void,
    failed: (failure: ServerFailure) => void,
  ): void {
    const requestId = this.#nextRequest++;
    const pending: Pending = {
      type: operation.type,
      deadlineMs: this.#nowMs + REQUEST_TIMEOUT_MS,
      bytes: encodeRequest(operation, requestId, request),
      answer: (positions) => done(operation.answer.fromPositions(positions)),
      fail: failed,
    };
    this.#pending.set(requestId, pending);
    if (this.#linkId === undefined) this.#linkId = this.#outlet.openLink(this.address);
    else if (this.#up) this.#outlet.transmit(this.#linkId, pending.bytes);
  }

  linkUp(): void {
    this.#up = true;
    for (const pending of this.#pending.values()) {
      this.#outlet.transmit(this.#linkId as LinkId, pending.bytes);
    }
  }

  linkDown(code: ErrorCode, detail: string): void {
    this.#linkId = undefined;
    this.#up = false;
    this.#failAll({ code, detail, retryAfterMs: 0 });
  }

  frames(input: Frames): void {
    for (let i = 0; i < input.count; i++) {
      try {
        this.#frame(input.memory, input.ranges[2 * i] as number, input.ranges[2 * i + 1] as number);
      } catch (error) {
        if (!(error instanceof RemoteProtocolError)) throw error;
        this.close();
        this.#failAll({ code: error.code, detail: error.detail ?? "", retryAfterMs: 0 });
        return;
      }
    }
  }

  /** Fails what was not answered in time. */
  expire(): void {
    for (const [requestId, pending] of this.#pending) {
      if (pending.deadlineMs > this.#nowMs) continue;
      this.#pending.delete(requestId);
      pending.fail({ code: "TIMEOUT", detail: "no answer from the server", retryAfterMs: 0 });
    }
  }

  close(): void {
    if (this.#linkId !== undefined) this.#outlet.closeLink(this.#linkId);
    this.#linkId = undefined;
    this.#up = false;
  }

  #frame(memory: Uint8Array, offset: number, bytes: number): void {
    const envelope = readEnvelope(memory, offset, bytes);
    const { requestId, positions } = envelope;
    if (envelope.kind === "request") {
      const answer = this.#asks(envelope.type, positions);
      const reply =
        answer?.(requestId) ?? encodeFailure(requestId, { code: "MESSAGE_UNKNOWN", detail: "" });
      if (this.#linkId !== undefined) this.#outlet.transmit(this.#linkId, reply);
      return;
    }
    const pending = this.#pending.get(requestId);
    if (pending === undefined) return;
    if (envelope.kind === "answer" && envelope.type !== pending.type) {
      throw new RemoteProtocolError("MESSAGE_MALFORMED", { detail: "answer of another type" });
    }
    this.#pending.delete(requestId);
    if (envelope.kind === "answer") {
      try {
        pending.answer(positions);
      } catch (error) {
        // An answer that can't be used is none: whoever asked hears of it, then the link is closed.
        if (!(error instanceof RemoteProtocolError)) throw error;
        pending.fail({ code: error.code, detail: error.detail ?? "", retryAfterMs: 0 });
        throw error;
      }
      return;
    }
    const failure = FAILURE.fromPositions(positions);
    const { detail, retryAfterMs } = failure;
    pending.fail({
      code: isErrorCode(failure.code) ? failure.code : "INTERNAL",
      detail,
      retryAfterMs,
    });
  }

  #failAll(failure: ServerFailure): void {
    const all = [...this.#pending.values()];
    this.#pending.clear();
    for (const pending of all) pending.fail(failure);
  }
}

/** An answer to a server's request, for ServerAsks. */
export function answerWith<Q extends Fields, A extends Fields>(
  operation: Operation<Q, A>,
  answer: InputOf<A>,
): Answer {
  return (requestId) => encodeAnswer(operation, requestId, answer);
}
