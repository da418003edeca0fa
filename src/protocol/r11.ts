/**
 * R11 Data source-Source peer: messages of the link between them. Frames as on peer links, types
 * 0x20 to 0x25 and ERROR, PING, PONG.
 *
 * Control is msgpack, DATUM of fixed layout (base/layout.ts). The reader of DATUM checks every
 * bound and reserved bit before anything is taken of it and copies only lengths and timestamps; the
 * payloads stay where they lie.
 */

import { assert } from "../base/assert.ts";
import { RemoteProtocolError } from "../base/errors.ts";
import {
  DATUM_FRAME_COUNT,
  DATUM_FRAME_ENTRY_BYTES,
  DATUM_FRAME_HEADER_BYTES,
  DATUM_FRAME_OFFSET,
  DATUM_FRAME_RESERVED,
  DATUM_FRAME_SEQUENCE,
  DATUM_FRAME_TIMESTAMP,
  DATUM_FRAME_TOTAL_BYTES,
  FRAME_TYPES,
} from "../base/layout.ts";
import {
  CONTENT_TYPE_BYTES_MAX,
  DATA_ID_BYTES_MAX,
  DATUM_BYTES_MAX,
  DESCRIPTION_BYTES_MAX,
  FEED_FRAME_DATA_MAX,
  FRAME_BYTES_MAX,
  HELD_MAX,
  SOURCE_ID_BYTES_MAX,
} from "../base/limits.ts";
import type { SequenceNumber, TimestampUs } from "../base/units.ts";
import {
  bytes,
  type Decoded,
  defineMessage,
  integer,
  oneOf,
  optional,
  text,
  u8,
  u32,
  u53,
} from "./codec.ts";
import { overlayId } from "./common.ts";
import { writeFrameHeader } from "./r10-binary.ts";

export const INSTANCE_BYTES = 16;

/** What its sequence numbers go by (u32): the first bytes of an instance. */
export function numberingOf(instance: Uint8Array): number {
  return new DataView(instance.buffer, instance.byteOffset).getUint32(0);
}

export function putNumbering(instance: Uint8Array, numbering: number): void {
  new DataView(instance.buffer, instance.byteOffset).setUint32(0, numbering);
}

/**
 * REGISTER: first frame of a data source on a link (R11.c, R11.e). `held` = all up to this sequence
 * number is known to be held by peers and will not come again; 0 = nothing is.
 */
export const REGISTER = defineMessage({
  name: "REGISTER",
  type: FRAME_TYPES.REGISTER,
  fields: {
    versionMin: u8,
    version: u8,
    sourceId: text(SOURCE_ID_BYTES_MAX, 1),
    /** Empty: the one that the source peer chose. */
    dataId: text(DATA_ID_BYTES_MAX),
    contentType: text(CONTENT_TYPE_BYTES_MAX),
    /** Random, one a run of the data source: its own second link replaces the first at once. Its
     * numbering may be that of other runs that give each datum the same number. */
    instance: bytes(INSTANCE_BYTES),
    held: integer(0, HELD_MAX),
    description: optional(text(DESCRIPTION_BYTES_MAX), ""),
    /** Software, for people. */
    agent: optional(text(64), ""),
  },
});
export type Register = Decoded<typeof REGISTER>;

/**
 * REGISTERED: the data source is known (R11.f). It goes on with sequence number `next`; `granted`
 * bytes of DATUM frames may be sent on this link, all together.
 */
export const REGISTERED = defineMessage({
  name: "REGISTERED",
  type: FRAME_TYPES.REGISTERED,
  fields: { next: u53, held: u53, granted: u53, overlayId, sessionEpoch: u32 },
});
export type Registered = Decoded<typeof REGISTERED>;

/** ACCEPTED: everything up to `sequence` is in the source peer's memory; `granted` only rises. */
export const ACCEPTED = defineMessage({
  name: "ACCEPTED",
  type: FRAME_TYPES.ACCEPTED,
  fields: { sequence: u53, granted: u53 },
});
export type Accepted = Decoded<typeof ACCEPTED>;

/** HELD: every fragment of everything up to `sequence` was advertised by enough peers. */
export const HELD = defineMessage({
  name: "HELD",
  type: FRAME_TYPES.HELD,
  fields: { sequence: u53 },
});
export type Held = Decoded<typeof HELD>;

export const TERMINATE_SCOPES = { source: 0, session: 1 } as const;
export type TerminateScope = (typeof TERMINATE_SCOPES)[keyof typeof TERMINATE_SCOPES];

/**
 * TERMINATE: from the data source, it has ended with `last`, or orders the end of the session
 * (P3.1). From the source peer, in answer or by itself: nothing after `last` is taken, and all up
 * to it is held.
 */
export const TERMINATE = defineMessage({
  name: "TERMINATE",
  type: FRAME_TYPES.TERMINATE,
  fields: { scope: oneOf(TERMINATE_SCOPES), last: u53 },
});
export type Terminate = Decoded<typeof TERMINATE>;

// ----------------------------------------------------------------------------------------- DATUM

/** What a DATUM frame holds. One object serves for all frames: what is kept is copied. */
export class DatumFrame {
  first: SequenceNumber = 0;
  /** 0: when it arrives. */
  timestampUs: TimestampUs = 0;
  count = 0;
  /** 0: whole data; else the size of the datum that this is a piece of. */
  totalBytes = 0;
  offset = 0;
  /** Of each datum. Entries from `count` on mean nothing. */
  readonly lengths = new Uint32Array(FEED_FRAME_DATA_MAX);
  readonly deltasUs = new Int32Array(FEED_FRAME_DATA_MAX);
  /** Where the payloads begin, in the memory that was read. */
  payloadOffset = 0;
  payloadBytes = 0;
  /** Whether all data have the same timestamp. */
  uniform = true;
}

function malformed(detail: string): never {
  throw new RemoteProtocolError("FRAME_MALFORMED", { detail: `DATUM: ${detail}` });
}

/**
 * Reads the DATUM frame [offset, offset + frameBytes) of `memory`, whose header was accepted, into
 * `frame`. Throws FRAME_MALFORMED.
 */
export function readDatumFrame(
  memory: Uint8Array,
  offset: number,
  frameBytes: number,
  frame: DatumFrame,
): void {
  if (frameBytes < DATUM_FRAME_HEADER_BYTES) malformed("too short");
  const view = new DataView(memory.buffer, memory.byteOffset + offset, frameBytes);
  frame.first = u53At(view, DATUM_FRAME_SEQUENCE);
  frame.timestampUs = u53At(view, DATUM_FRAME_TIMESTAMP);
  const count = view.getUint32(DATUM_FRAME_COUNT, true);
  frame.count = count;
  frame.totalBytes = view.getUint32(DATUM_FRAME_TOTAL_BYTES, true);
  frame.offset = view.getUint32(DATUM_FRAME_OFFSET, true);
  if (view.getUint32(DATUM_FRAME_RESERVED, true) !== 0) malformed("reserved bits set");
  if (count < 1 || count > FEED_FRAME_DATA_MAX) malformed("number of data");
  if (frame.first < 1 || frame.first + count - 1 > Number.MAX_SAFE_INTEGER) {
    malformed("sequence number");
  }
  const tableEnd = DATUM_FRAME_HEADER_BYTES + count * DATUM_FRAME_ENTRY_BYTES;
  if (tableEnd > frameBytes) malformed("lengths beyond the end");
  let sum = 0;
  const firstDelta = view.getInt32(DATUM_FRAME_HEADER_BYTES + 4, true);
  frame.uniform = true;
  for (let i = 0, at = DATUM_FRAME_HEADER_BYTES; i < count; i++, at += DATUM_FRAME_ENTRY_BYTES) {
    const length = view.getUint32(at, true);
    const delta = view.getInt32(at + 4, true);
    sum += length;
    frame.lengths[i] = length;
    frame.deltasUs[i] = delta;
    if (delta !== firstDelta) frame.uniform = false;
    if (delta !== 0 && frame.timestampUs === 0) malformed("a timestamp without its base");
    const stampUs = frame.timestampUs + delta;
    if (stampUs < 0 || stampUs > Number.MAX_SAFE_INTEGER) malformed("timestamp");
  }
  if (sum !== frameBytes - tableEnd) malformed("payloads do not fill the frame");
  frame.payloadOffset = offset + tableEnd;
  frame.payloadBytes = sum;
  if (frame.totalBytes === 0) {
    if (frame.offset !== 0) malformed("an offset without a total");
    return;
  }
  if (count !== 1 || sum === 0) malformed("a piece is of one datum, and not empty");
  if (frame.totalBytes > DATUM_BYTES_MAX) malformed("a datum of more than 16 MiB");
  if (frame.offset + sum > frame.totalBytes) malformed("a piece beyond the end of its datum");
}

/** What `encodeDatumFrame` is told of a frame besides its data. */
export interface DatumFrameHead {
  readonly first: SequenceNumber;
  readonly timestampUs: TimestampUs;
  /** Pieces: bytes of the whole datum, and where this piece begins; whole data: both 0. */
  readonly totalBytes: number;
  readonly offset: number;
}

/** A whole DATUM frame; datum i has lengths[i] bytes of `payloads`. The caller's for good. */
export function encodeDatumFrame(
  head: DatumFrameHead,
  payloads: Uint8Array,
  lengths: ArrayLike<number>,
  deltasUs: ArrayLike<number>,
  count: number,
): Uint8Array {
  const tableEnd = DATUM_FRAME_HEADER_BYTES + count * DATUM_FRAME_ENTRY_BYTES;
  const frame = new Uint8Array(tableEnd + payloads.length);
  assert(frame.length <= FRAME_BYTES_MAX && count >= 1 && count <= FEED_FRAME_DATA_MAX, "DATUM");
  writeFrameHeader(frame, 0, frame.length, FRAME_TYPES.DATUM);
  const view = new DataView(frame.buffer);
  putU53(view, DATUM_FRAME_SEQUENCE, head.first);
  putU53(view, DATUM_FRAME_TIMESTAMP, head.timestampUs);
  view.setUint32(DATUM_FRAME_COUNT, count, true);
  view.setUint32(DATUM_FRAME_TOTAL_BYTES, head.totalBytes, true);
  view.setUint32(DATUM_FRAME_OFFSET, head.offset, true);
  for (let i = 0, at = DATUM_FRAME_HEADER_BYTES; i < count; i++, at += DATUM_FRAME_ENTRY_BYTES) {
    view.setUint32(at, lengths[i] as number, true);
    view.setInt32(at + 4, deltasUs[i] as number, true);
  }
  frame.set(payloads, tableEnd);
  return frame;
}

function u53At(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  if (high > 0x1f_ffff) malformed("a number beyond 2^53 - 1");
  return high * 0x1_0000_0000 + view.getUint32(at, true);
}

function putU53(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}
