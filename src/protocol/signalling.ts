/**
 * Signalling: the envelope of messages between a peer and a server, or two servers, over a
 * WebSocket. One WebSocket message is one msgpack array:
 *
 *     request   [type, request id, ...fields]           type 0x01 to 0x7e
 *     answer    [type + 0x80, request id, ...fields]
 *     failure   [0xff, request id, code, detail, retry after ms, when us]
 *
 * Participants: either end may ask; request ids are the asker's own and only name its open
 * requests. Answers may come in any order. Over HTTP the same operations are POST /<name> with the
 * fields as JSON by name.
 *
 * Goals: one table of operations for both forms; a failure has a stable code. Non-goals: retries,
 * ordering and identity, which belong to the operations.
 */

import { assert } from "../base/assert.ts";
import {
  type ErrorCode,
  isErrorCode,
  OperationError,
  RemoteProtocolError,
} from "../base/errors.ts";
import { SIGNALLING_MESSAGE_BYTES_MAX } from "../base/limits.ts";
import {
  type Decoded,
  defineMessage,
  type Fields,
  type InputOf,
  type Message,
  optional,
  pack,
  text,
  u32,
  u53,
  unpack,
} from "./codec.ts";

const ANSWER = 0x80;
const FAILURE_TYPE = 0xff;
const TYPE_MAX = 0x7e;

/** A request and its answer. */
export interface Operation<Q extends Fields = Fields, A extends Fields = Fields> {
  /** Path form, e.g. `r5/join`: POST /r5/join. */
  readonly name: string;
  /** 0x01 to 0x7e; disjoint over all reference points. */
  readonly type: number;
  readonly request: Message<Q>;
  readonly answer: Message<A>;
}

export function defineOperation<Q extends Fields, A extends Fields>(definition: {
  readonly name: string;
  readonly type: number;
  readonly request: Q;
  readonly answer: A;
}): Operation<Q, A> {
  const { name, type, request, answer } = definition;
  assert(type >= 1 && type <= TYPE_MAX, "operation type");
  return {
    name,
    type,
    request: defineMessage({ name, type, fields: request }),
    answer: defineMessage({ name: `${name} answer`, type: type | ANSWER, fields: answer }),
  };
}

/** The request as its receiver sees it. */
export type RequestOf<O> = O extends { readonly request: infer M } ? Decoded<M> : never;
/** The answer as the asker sees it. */
export type AnswerOf<O> = O extends { readonly answer: infer M } ? Decoded<M> : never;

/** Why a request was refused. */
export const FAILURE = defineMessage({
  name: "failure",
  type: FAILURE_TYPE,
  fields: {
    /** A code of base/errors; text, because a newer server may have newer codes. */
    code: text(48, 1),
    detail: text(512),
    /** When a retry makes sense; 0 = no word on that. */
    retryAfterMs: optional(u32, 0),
    /** Wall time the thing went (OVERLAY_GONE, INDEX_GONE); 0 = does not apply. */
    whenUs: optional(u53, 0),
  },
});
export type Failure = Decoded<typeof FAILURE>;

/** One signalling message, opened but its fields not yet checked. */
export interface Envelope {
  readonly kind: "request" | "answer" | "failure";
  /** The operation's type (an answer's without its 0x80); 0 for a failure. */
  readonly type: number;
  readonly requestId: number;
  /** For Message.fromPositions; may hold views of the memory read from. */
  readonly positions: readonly unknown[];
}

/**
 * Opens one signalling message. Throws RemoteProtocolError FRAME_TOO_LARGE or MESSAGE_MALFORMED.
 */
export function readEnvelope(memory: Uint8Array, offset: number, bytes: number): Envelope {
  if (bytes > SIGNALLING_MESSAGE_BYTES_MAX) {
    throw new RemoteProtocolError("FRAME_TOO_LARGE", { detail: `message of ${bytes} bytes` });
  }
  const [type, requestId, ...positions] = unpack(memory, offset, bytes);
  if (!isUnsigned(type, 0xff) || type === 0 || type === ANSWER || type === 0x7f) {
    throw new RemoteProtocolError("MESSAGE_MALFORMED", { detail: "message type" });
  }
  if (!isUnsigned(requestId, 0xffff_ffff)) {
    throw new RemoteProtocolError("MESSAGE_MALFORMED", { detail: "request id" });
  }
  if (type === FAILURE_TYPE) return { kind: "failure", type: 0, requestId, positions };
  if (type > ANSWER) return { kind: "answer", type: type - ANSWER, requestId, positions };
  return { kind: "request", type, requestId, positions };
}

function isUnsigned(value: unknown, max: number): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max;
}

export function encodeRequest<Q extends Fields>(
  operation: { readonly type: number; readonly request: Message<Q> },
  requestId: number,
  request: InputOf<Q>,
): Uint8Array {
  return envelope(operation.type, requestId, operation.request.toPositions(request));
}

export function encodeAnswer<A extends Fields>(
  operation: { readonly type: number; readonly answer: Message<A> },
  requestId: number,
  answer: InputOf<A>,
): Uint8Array {
  return envelope(operation.type | ANSWER, requestId, operation.answer.toPositions(answer));
}

export interface FailureInput {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly retryAfterMs?: number;
  readonly whenUs?: number;
}

/** A failure; an overlong detail is cut. Request id 0 when the request could not be read. */
export function encodeFailure(requestId: number, failure: FailureInput): Uint8Array {
  const detail = failure.detail.slice(0, 160).replace(/\p{Surrogate}/gu, "");
  return envelope(FAILURE_TYPE, requestId, FAILURE.toPositions({ ...failure, detail }));
}

function envelope(type: number, requestId: number, positions: readonly unknown[]): Uint8Array {
  const message = pack([type, requestId, ...positions]);
  assert(message.length <= SIGNALLING_MESSAGE_BYTES_MAX, "signalling message within its limit");
  return message;
}

/** The error to throw or report for a failure that came back; unknown codes become INTERNAL. */
export function failureError(failure: Failure): OperationError {
  return isErrorCode(failure.code)
    ? new OperationError(failure.code, failure.detail === "" ? {} : { detail: failure.detail })
    : new OperationError("INTERNAL", { detail: `${failure.code}: ${failure.detail}` });
}
