/**
 * R10 Peer-Peer: control frames of a peer link.
 *
 * Participants: two peers (source peers, peers, virtual peers) that share one or more overlays over
 * one link. Either may have opened it.
 *
 * A frame is the 8-byte frame header of base/layout followed by its body. This file holds the
 * frames with a msgpack body; those of fixed layout are in r10-binary.ts; DATA and the bits of a
 * buffermap belong to kernel/.
 *
 * Handshake: the side that opened the link sends HELLO step 0 for its first overlay, the other
 * answers step 1 with its own nonce and its signature over both, the opener closes with step 2 and
 * its signature. Further overlays repeat it on the same link. BYE ends one overlay, not the link.
 *
 * Goals: identity proven before any fragment moves; N and N-1 interoperate; nothing here is sent
 * per fragment. Non-goals: confidentiality (a matter of the transport), admission (the ticket is
 * carried, not judged here).
 */

import { assert } from "../base/assert.ts";
import { RemoteProtocolError } from "../base/errors.ts";
import {
  FRAME_HEADER_BYTES,
  FRAME_TYPES,
  MESSAGE_BODY,
  OVERLAY_TAG_BYTES,
} from "../base/layout.ts";
import { CONTROL_FRAME_BYTES_MAX, INDEX_MAX, SUBSTREAMS_MAX } from "../base/limits.ts";
import { fromHex } from "../base/units.ts";
import {
  bytes,
  type Decoded,
  defineMessage,
  type Fields,
  type InputOf,
  integer,
  type Message,
  type MessageOf,
  maybe,
  oneOf,
  optional,
  text,
  u8,
  u32,
  u53,
} from "./codec.ts";
import {
  addresses,
  durationMs,
  NONCE_BYTES,
  nonce,
  OVERLAY_ID_BYTES,
  overlayId,
  PEER_ID_BYTES,
  publicKey,
  ROLES,
  SIGNATURE_BYTES,
} from "./common.ts";
import { writeFrameHeader } from "./r10-binary.ts";

export const HELLO_STEPS = { open: 0, answer: 1, confirm: 2 } as const;

const tag = bytes(OVERLAY_TAG_BYTES);
/** Of a fragment; `from` and limits are u53, as they may be one past the last. */
const index = integer(0, INDEX_MAX);

/**
 * HELLO: who speaks, for which overlay, in which versions. Once per overlay and direction, plus the
 * opener's step 2. `signature` is empty in step 0 and covers `helloProof` in steps 1 and 2.
 */
export const HELLO = defineMessage({
  name: "HELLO",
  type: FRAME_TYPES.HELLO,
  fields: {
    step: oneOf(HELLO_STEPS),
    /** Lowest and highest frame version the sender speaks. */
    versionMin: u8,
    version: u8,
    overlayId,
    sessionEpoch: u32,
    role: oneOf(ROLES),
    publicKey,
    nonce,
    /** Signed by the OMS; empty while overlays are open. */
    ticket: bytes(0, 2048),
    /** Channel binding (TLS exporter); empty = unbound. */
    binding: bytes(0, 32),
    /** Where the sender accepts links. */
    listen: addresses,
    /** Software and version, for people. */
    agent: text(64),
    signature: bytes(0, SIGNATURE_BYTES),
  },
});
export type Hello = Decoded<typeof HELLO>;

/**
 * PARTNER: asks to be pushed the substreams of `mask` from index `from` on, and those no longer in it
 * up to `until`, from where on another pushes them.
 */
export const PARTNER = defineMessage({
  name: "PARTNER",
  type: FRAME_TYPES.PARTNER,
  fields: { tag, mask: u32, from: u53, until: optional(u53, 0) },
});
export type Partner = Decoded<typeof PARTNER>;

/** Depth in ACCEPT of a substream that is neither granted nor open. */
export const DEPTH_NOT_GRANTED = 255;

/**
 * ACCEPT: the substreams granted, and per substream the granter's hops to the source. Told again
 * whenever it changes.
 */
export const ACCEPT = defineMessage({
  name: "ACCEPT",
  type: FRAME_TYPES.ACCEPT,
  fields: {
    tag,
    mask: u32,
    /** One byte a substream; 255 = neither granted nor open. */
    depths: bytes(0, SUBSTREAMS_MAX),
    /** Substreams that the sender would grant now. */
    open: maybe(u32),
    /** The mask of the PARTNER that this answers, or that came last. */
    wanted: maybe(u32),
    /** How many more copies of a substream the sender could push, about. */
    spare: maybe(u8),
  },
});
export type Accept = Decoded<typeof ACCEPT>;

/** NOTIFY: the highest index the sender knows of. */
export const NOTIFY = defineMessage({
  name: "NOTIFY",
  type: FRAME_TYPES.NOTIFY,
  fields: { tag, index },
});
export type Notify = Decoded<typeof NOTIFY>;

/** REFRESH: asks for a full buffermap. */
export const REFRESH = defineMessage({
  name: "REFRESH",
  type: FRAME_TYPES.REFRESH,
  fields: { tag },
});
export type Refresh = Decoded<typeof REFRESH>;

/** BUSY: these requested fragments will not come now; ask again after, or elsewhere. */
export const BUSY = defineMessage({
  name: "BUSY",
  type: FRAME_TYPES.BUSY,
  fields: { tag, first: index, count: u32, retryAfterMs: durationMs },
});
export type Busy = Decoded<typeof BUSY>;

/** BYE: the sender leaves this overlay; the link may go on for others. */
export const BYE = defineMessage({
  name: "BYE",
  type: FRAME_TYPES.BYE,
  fields: { tag, code: text(32), detail: text(256) },
});
export type Bye = Decoded<typeof BYE>;

/** ERROR: why the sender closes the link. Its last frame. */
export const ERROR = defineMessage({
  name: "ERROR",
  type: FRAME_TYPES.ERROR,
  fields: { code: text(32), detail: text(256) },
});
export type LinkError = Decoded<typeof ERROR>;

/** A whole frame with a msgpack body, e.g. `encodeFrame(HELLO, {...})`; the caller's for good. */
export function encodeFrame<F extends Fields>(message: Message<F>, value: InputOf<F>): Uint8Array {
  const body = message.encode(value);
  const frame = new Uint8Array(MESSAGE_BODY + body.length);
  assert(frame.length <= CONTROL_FRAME_BYTES_MAX, `${message.name} exceeds a control frame`);
  writeFrameHeader(frame, 0, frame.length, message.type);
  frame.set(body, MESSAGE_BODY);
  return frame;
}

/**
 * The message in the frame [offset, offset + bytes) of `memory`, whose header `readFrameHeader` has
 * accepted. Copies what it keeps. Throws RemoteProtocolError FRAME_TOO_LARGE or MESSAGE_MALFORMED.
 */
export function decodeFrame<F extends Fields>(
  message: Message<F>,
  memory: Uint8Array,
  offset: number,
  frameBytes: number,
): MessageOf<F> {
  if (frameBytes > CONTROL_FRAME_BYTES_MAX) {
    throw new RemoteProtocolError("FRAME_TOO_LARGE", { detail: `${message.name}, ${frameBytes}` });
  }
  return message.decodeAt(memory, offset + MESSAGE_BODY, frameBytes - FRAME_HEADER_BYTES);
}

// One reader a frame type, so that call sites read like the table of frames.
type FrameReader<F extends Fields> = (
  memory: Uint8Array,
  offset: number,
  frameBytes: number,
) => MessageOf<F>;
const reader =
  <F extends Fields>(message: Message<F>): FrameReader<F> =>
  (memory, offset, frameBytes) =>
    decodeFrame(message, memory, offset, frameBytes);

export const decodeHello = reader(HELLO);
export const decodePartner = reader(PARTNER);
export const decodeAccept = reader(ACCEPT);
export const decodeNotify = reader(NOTIFY);
export const decodeRefresh = reader(REFRESH);
export const decodeBusy = reader(BUSY);
export const decodeBye = reader(BYE);
export const decodeError = reader(ERROR);

// ----------------------------------------------------------------------------------------- proof

export const HELLO_PROOF_DOMAIN = "mp2p-r10-hello-1";

/** What of a HELLO its proof covers; `peerId` is the SHA-256 of its public key. */
export interface HelloProofSide {
  readonly overlayId: string;
  readonly sessionEpoch: number;
  readonly nonce: Uint8Array;
  readonly binding: Uint8Array;
  readonly peerId: Uint8Array;
}

/**
 * The bytes that the Ed25519 signature of HELLO step 1 (by the responder) or 2 (by the initiator)
 * covers: domain, step, overlay id, session epoch (u32 little-endian), both nonces, both peer ids,
 * length and bytes of both bindings; the initiator's before the responder's each time. Overlay id
 * and epoch are the initiator's: a responder of another epoch signs what the initiator asked for.
 */
export function helloProof(
  step: 1 | 2,
  initiator: HelloProofSide,
  responder: HelloProofSide,
): Uint8Array {
  const overlay = fromHex(initiator.overlayId);
  assert(overlay?.length === OVERLAY_ID_BYTES, "overlay id of 16 bytes in hex");
  for (const side of [initiator, responder]) {
    assert(side.nonce.length === NONCE_BYTES, "nonce of 32 bytes");
    assert(side.peerId.length === PEER_ID_BYTES, "peer id of 32 bytes");
    assert(side.binding.length <= 32, "binding of at most 32 bytes");
  }
  const head = new TextEncoder().encode(HELLO_PROOF_DOMAIN);
  const epoch = new Uint8Array(4);
  new DataView(epoch.buffer).setUint32(0, initiator.sessionEpoch, true);
  return concat([
    head,
    Uint8Array.of(step),
    overlay,
    epoch,
    initiator.nonce,
    responder.nonce,
    initiator.peerId,
    responder.peerId,
    Uint8Array.of(initiator.binding.length),
    initiator.binding,
    Uint8Array.of(responder.binding.length),
    responder.binding,
  ]);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
