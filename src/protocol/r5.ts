/**
 * R5 Peer-OMS.
 *
 * Participants: a source peer creates an overlay, refreshes and removes it; peers join it, get
 * lists of its members, refresh their membership and leave.
 *
 * Identity: CREATE and JOIN prove the key with a signature over a nonce of the OMS, used once
 * within seconds; the answer carries a token that stands for the proof afterwards. An overlay is
 * hard state of the OMS, a membership is soft: after a restart the OMS answers UNKNOWN_PEER and the
 * peer joins again.
 *
 * OVERLAY_GONE (removed or expired, with when) and UNKNOWN_OVERLAY differ: on the first nobody asks
 * again, on the second a source may create anew.
 *
 * Addresses: a member names candidates; the OMS adds the address it sees and lists no other public
 * one before it has dialled it itself and met the member's key there (HELLO of R10).
 *
 * Non-goals here: closed sessions (R5.e, R5.f), lists by user class (R5.g).
 */

import { assert } from "../base/assert.ts";
import { OVERLAY_VIRTUAL_PEERS_MAX, PEER_LIST_MAX, TITLE_BYTES_MAX } from "../base/limits.ts";
import { fromHex } from "../base/units.ts";
import {
  bool,
  integer,
  list,
  maybe,
  oneOf,
  optional,
  record,
  text,
  u16,
  u32,
  u53,
} from "./codec.ts";
import {
  candidates,
  durationMs,
  nonce,
  OVERLAY_ID_BYTES,
  overlayId,
  peerId,
  publicKey,
  REACH,
  ROLES,
  signature,
  token,
  url,
} from "./common.ts";
import { priority } from "./r8.ts";
import { defineOperation } from "./signalling.ts";

/** Peer ids that a request may exclude from the list it asks for. */
export const EXCLUDE_MAX = 64;

const reach = optional(oneOf(REACH), REACH.unknown);
const member = record({ peerId, role: oneOf(ROLES), candidates, reach });
const members = list(member, PEER_LIST_MAX);
export type Member = ReturnType<(typeof member)["fromWire"]>;

/** A nonce to sign; good for one CREATE or JOIN. */
export const CHALLENGE = defineOperation({
  name: "r5/challenge",
  type: 0x40,
  request: {},
  answer: { nonce },
});

/** R5.a: creates an overlay. R5.b: the answer names it. R5.c: and gives the expiration time. */
export const CREATE = defineOperation({
  name: "r5/create",
  type: 0x41,
  request: {
    nonce,
    publicKey,
    /** Over createProof(nonce). */
    signature,
    candidates,
    title: text(TITLE_BYTES_MAX),
    /** P1.4: whether the overlay's activity shall be managed by a PAMS. */
    pams: bool,
    /** The lease wished for; 0 = as the OMS likes. */
    leaseMs: optional(durationMs, 0),
    /** R5.e: eligible peers. Refused in this version when not empty. */
    peerList: optional(list(peerId, 1024), []),
  },
  answer: {
    overlayId,
    sessionEpoch: u32,
    /** R5.c: without a REFRESH within this time the overlay is removed. */
    refreshMs: durationMs,
    ownerToken: token,
    /** For LIST: the owner is a member. */
    memberToken: token,
    /** Empty when there is no PAMS. */
    pamsUrl: url,
    reportIntervalMs: durationMs,
  },
});

/** R5.d: keeps the overlay alive; may bring new candidates of the source peer. */
export const REFRESH_OVERLAY = defineOperation({
  name: "r5/refresh",
  type: 0x42,
  request: { overlayId, ownerToken: token, candidates: maybe(candidates) },
  answer: { refreshMs: durationMs, reach },
});

/** P3.2: removes the overlay. Repeating it is answered OVERLAY_GONE. */
export const REMOVE_SESSION_OVERLAY = defineOperation({
  name: "r5/remove",
  type: 0x43,
  request: { overlayId, ownerToken: token },
  answer: {},
});

/** The source peer starts over: indices restart at 0 in the next session epoch, members join anew. */
export const RESTART = defineOperation({
  name: "r5/restart",
  type: 0x44,
  request: { overlayId, ownerToken: token },
  answer: { sessionEpoch: u32, refreshMs: durationMs },
});

/**
 * As RESTART, by a source peer that was killed and has lost its token: it proves its key instead.
 * The tokens of the answer replace those of before, so whoever still holds them owns nothing.
 */
export const TAKE_OVER = defineOperation({
  name: "r5/take-over",
  type: 0x4d,
  request: {
    overlayId,
    nonce,
    /** By the key that created the overlay, over takeOverProof(nonce, overlayId). */
    signature,
    candidates,
  },
  answer: {
    sessionEpoch: u32,
    refreshMs: durationMs,
    ownerToken: token,
    memberToken: token,
    pamsUrl: url,
    reportIntervalMs: durationMs,
  },
});

/** R5.0: joins an overlay; the answer has a first list of members. Joining again is harmless. */
export const JOIN = defineOperation({
  name: "r5/join",
  type: 0x45,
  request: {
    overlayId,
    nonce,
    publicKey,
    /** Over joinProof(nonce, overlayId). */
    signature,
    /** A host of 0.0.0.0 or :: stands for the address that the OMS sees. */
    candidates,
    role: oneOf(ROLES),
    exclude: optional(list(peerId, EXCLUDE_MAX), []),
  },
  answer: {
    /** The membership ends without a MEMBER_REFRESH within this time. */
    leaseMs: durationMs,
    memberToken: token,
    sessionEpoch: u32,
    pamsUrl: url,
    reportIntervalMs: durationMs,
    members,
  },
});

/** Keeps a membership alive; may bring new candidates and what the peer holds. */
export const MEMBER_REFRESH = defineOperation({
  name: "r5/member-refresh",
  type: 0x46,
  request: {
    overlayId,
    peerId,
    memberToken: token,
    candidates: maybe(candidates),
    /** Fragments held without hole: [start, end). */
    heldStart: optional(u53, 0),
    heldEnd: optional(u53, 0),
  },
  answer: { leaseMs: durationMs, sessionEpoch: u32, reach },
});

/**
 * R5.0: a list of members, in random order, the source peer among them while the list has room. At
 * least half of a list for a member that can not be dialled itself can be.
 */
export const LIST_PEERS = defineOperation({
  name: "r5/list",
  type: 0x47,
  request: {
    overlayId,
    peerId,
    memberToken: token,
    maxPeers: integer(1, PEER_LIST_MAX),
    exclude: optional(list(peerId, EXCLUDE_MAX), []),
    /** Prefer members that said they hold this index. */
    holding: maybe(u53),
  },
  answer: { members },
});

/**
 * P1.3: the source peer asks for virtual peers of cache servers (R8); the number replaces the one
 * asked for before, 0 gives them back. What there is no room for is assigned when there is.
 */
export const ASK_VIRTUAL_PEERS = defineOperation({
  name: "r5/virtual-peers",
  type: 0x49,
  request: {
    overlayId,
    ownerToken: token,
    virtualPeers: integer(0, OVERLAY_VIRTUAL_PEERS_MAX),
    /** R8.c: 0 gives way to all others; optional, 0. */
    priority: optional(priority, 0),
  },
  answer: {
    /** As asked for, at most what the OMS gives one overlay. */
    virtualPeers: u16,
    /** Assigned so far. */
    assigned: u16,
  },
});

/** R5.0: leaves. */
export const LEAVE = defineOperation({
  name: "r5/leave",
  type: 0x48,
  request: { overlayId, peerId, memberToken: token },
  answer: {},
});

export const R5_OPERATIONS = [
  CHALLENGE,
  CREATE,
  REFRESH_OVERLAY,
  REMOVE_SESSION_OVERLAY,
  RESTART,
  TAKE_OVER,
  JOIN,
  MEMBER_REFRESH,
  LIST_PEERS,
  ASK_VIRTUAL_PEERS,
  LEAVE,
] as const;

const CREATE_DOMAIN = "mp2p-r5-create-1";
const JOIN_DOMAIN = "mp2p-r5-join-1";
const TAKE_OVER_DOMAIN = "mp2p-r5-take-over-1";

/** The bytes signed for CREATE. */
export function createProof(challenge: Uint8Array): Uint8Array {
  return proof(CREATE_DOMAIN, challenge, new Uint8Array(0));
}

/** The bytes signed for JOIN. */
export function joinProof(challenge: Uint8Array, overlay: string): Uint8Array {
  return proof(JOIN_DOMAIN, challenge, overlayBytes(overlay));
}

/** The bytes signed for TAKE_OVER. */
export function takeOverProof(challenge: Uint8Array, overlay: string): Uint8Array {
  return proof(TAKE_OVER_DOMAIN, challenge, overlayBytes(overlay));
}

function overlayBytes(overlay: string): Uint8Array {
  const bytes = fromHex(overlay);
  assert(bytes?.length === OVERLAY_ID_BYTES, "overlay id of 16 bytes in hex");
  return bytes;
}

function proof(domain: string, challenge: Uint8Array, rest: Uint8Array): Uint8Array {
  const head = new TextEncoder().encode(domain);
  const all = new Uint8Array(head.length + challenge.length + rest.length);
  all.set(head);
  all.set(challenge, head.length);
  all.set(rest, head.length + challenge.length);
  return all;
}
