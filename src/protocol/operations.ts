/**
 * The table of all signalling operations: which type number and which path mean which operation,
 * and the JSON form of each (HTTP POST /<name>).
 */

import { assert } from "../base/assert.ts";
import { RemoteProtocolError } from "../base/errors.ts";
import { ADMIN_OPERATIONS } from "./admin.ts";
import { R1_OPERATIONS } from "./r1.ts";
import { R2_OPERATIONS } from "./r2.ts";
import { R5_OPERATIONS } from "./r5.ts";
import { R6_OPERATIONS } from "./r6.ts";
import { R8_OPERATIONS } from "./r8.ts";
import { encodeRequest, FAILURE, type Operation, readEnvelope } from "./signalling.ts";

/** All operations, by reference point. */
export const OPERATIONS: readonly Operation[] = [
  ...R1_OPERATIONS,
  ...R2_OPERATIONS,
  ...R5_OPERATIONS,
  ...R6_OPERATIONS,
  ...R8_OPERATIONS,
  ...ADMIN_OPERATIONS,
] as readonly Operation[];

const byName = new Map<string, Operation>();
const byType = new Map<number, Operation>();
for (const operation of OPERATIONS) {
  assert(!byName.has(operation.name), `operation name ${operation.name} is unique`);
  assert(!byType.has(operation.type), `operation type ${operation.type} is unique`);
  byName.set(operation.name, operation);
  byType.set(operation.type, operation);
}

/** The operation of a path such as `r5/join`. */
export function operationNamed(name: string): Operation | undefined {
  return byName.get(name);
}

/** The operation of a type number. */
export function operationOfType(type: number): Operation | undefined {
  return byType.get(type);
}

/**
 * The envelope for a request that came as JSON. Throws RemoteProtocolError MESSAGE_UNKNOWN or
 * MESSAGE_MALFORMED.
 */
export function requestFromJson(name: string, requestId: number, json: unknown): Uint8Array {
  const operation = byName.get(name);
  if (operation === undefined) throw new RemoteProtocolError("MESSAGE_UNKNOWN", { detail: name });
  return encodeRequest(operation, requestId, operation.request.fromJson(json));
}

export interface JsonReply {
  readonly ok: boolean;
  /** The answer's fields, or {code, detail, retryAfterMs, whenUs}. */
  readonly body: Record<string, unknown>;
}

/** The JSON form of an answer or failure envelope. Throws RemoteProtocolError MESSAGE_MALFORMED. */
export function replyToJson(message: Uint8Array): JsonReply {
  const envelope = readEnvelope(message, 0, message.length);
  if (envelope.kind === "failure") {
    return { ok: false, body: FAILURE.toJson(FAILURE.fromPositions(envelope.positions)) };
  }
  const operation = byType.get(envelope.type);
  if (operation === undefined || envelope.kind !== "answer") {
    throw new RemoteProtocolError("MESSAGE_UNKNOWN", { detail: `type ${envelope.type}` });
  }
  const answer = operation.answer;
  return { ok: true, body: answer.toJson(answer.fromPositions(envelope.positions)) };
}
