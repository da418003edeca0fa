/**
 * R2 PAMS-Peer.
 *
 * Participants: a peer (source peers and virtual peers too) registers with the PAMS of its overlay
 * and reports its status every report interval and on events; the PAMS may ask for it at any time.
 *
 * Identity: REGISTER proves the key with a signature over a nonce of the PAMS, used once within
 * seconds; the answer carries a token that stands for the proof in reports and at removal. So nobody
 * reports for, or removes, somebody else. What a report says is not proven: a status is advice,
 * never a ground for admission.
 *
 * All of it is soft state: a PAMS that lost its memory answers UNKNOWN_PEER to a report, and the
 * peer registers again. One report is one small message, latest wins.
 */

import { assert } from "../base/assert.ts";
import { fromHex } from "../base/units.ts";
import { bytes, integer, list, maybe, oneOf, optional, record, u32, u53 } from "./codec.ts";
import {
  durationMs,
  nonce,
  OVERLAY_ID_BYTES,
  overlayId,
  peerId,
  publicKey,
  ROLES,
  signature,
  TOKEN_BYTES,
} from "./common.ts";
import { defineOperation, type RequestOf } from "./signalling.ts";

/** Why a report is made. Values from 6 on travel as `cause`, so that an older PAMS takes them. */
export const REPORT_EVENTS = {
  interval: 0,
  started: 1,
  completed: 2,
  stopped: 3,
  lagging: 4,
  asked: 5,
} as const;

/** Events that `event` has no value for; it is 0 (interval) then. */
export const REPORT_CAUSES = {
  /** As `event` says. */
  event: 0,
  /** Fragments were lost. */
  gap: 6,
  /** The link to the source peer went down. */
  sourceLost: 7,
  /** No longer lagging. */
  recovered: 8,
} as const;

/** Neighbours in one report: those with most traffic. A report stays below 1 KiB. */
export const REPORT_NEIGHBOURS_MAX = 12;

/** The status of a peer in an overlay (P0.3: distribution of fragments, contribution). */
export const STATUS_FIELDS = {
  overlayId,
  peerId,
  event: oneOf(REPORT_EVENTS),
  /** Lowest index held or wanted, and the end (exclusive) of what is held from there without hole. */
  start: u53,
  haveEnd: u53,
  /** Fragments known to exist from `start` on and not held. */
  missing: u32,
  fragmentsHeld: u32,
  bytesFromSource: u53,
  bytesFromPeers: u53,
  bytesToPeers: u53,
  lagMs: u53,
  links: integer(0, 0xffff),
  rateBytesPerSecond: u53,
  /** One past the highest index known to exist. */
  known: optional(u53, 0),
  /** Fragments lost for good since the start. */
  lost: optional(u53, 0),
  /** To other peers, since the report before; and the limit set on it, 0 = none. */
  uploadBytesPerSecond: optional(u53, 0),
  uploadLimitBytesPerSecond: optional(u53, 0),
  /** REPORT_CAUSES; others count as interval. */
  cause: optional(integer(0, 255), 0),
  /** Who gave and took how much, DATA bytes over the present links. */
  neighbours: optional(
    list(record({ peerId, bytesFrom: u53, bytesTo: u53 }), REPORT_NEIGHBOURS_MAX),
    [],
  ),
} as const;

/** Empty: from a PAMS, or a peer, of before the proof. */
const peerToken = optional(bytes(0, TOKEN_BYTES), new Uint8Array(0));

/** A nonce to sign; good for one REGISTER. */
export const PAMS_CHALLENGE = defineOperation({
  name: "r2/challenge",
  type: 0x24,
  request: {},
  answer: { nonce },
});

/**
 * R2.a: registers a peer that proves its key; its id is the hash of the key. R2.b: the answer gives
 * the report interval. Repeating gives a new token. IDENTITY_UNPROVEN without the proof.
 */
export const REGISTER_PEER = defineOperation({
  name: "r2/register-peer",
  type: 0x20,
  request: {
    overlayId,
    peerId,
    role: oneOf(ROLES),
    nonce: maybe(nonce),
    publicKey: maybe(publicKey),
    /** Over registerProof(nonce, overlayId). */
    signature: maybe(signature),
  },
  answer: { reportIntervalMs: durationMs, peerToken },
});

/** R2.c: reports the status, every interval and on events. UNKNOWN_PEER: register again. */
export const REPORT = defineOperation({
  name: "r2/report",
  type: 0x21,
  request: { ...STATUS_FIELDS, peerToken },
  answer: {},
});

/**
 * R2.d: removes a registered peer. Removing an unknown one succeeds: it is gone. NOT_OWNER with the
 * token of somebody else.
 */
export const REMOVE_PEER = defineOperation({
  name: "r2/remove-peer",
  type: 0x22,
  request: { overlayId, peerId, peerToken },
  answer: {},
});

/** R2.e: the PAMS asks a peer; the answer is its report with event `asked`. */
export const STATUS = defineOperation({
  name: "r2/status",
  type: 0x23,
  request: { overlayId, peerId },
  answer: STATUS_FIELDS,
});

export type PeerStatus = Omit<RequestOf<typeof REPORT>, "peerToken">;

export const R2_OPERATIONS = [REGISTER_PEER, REPORT, REMOVE_PEER, STATUS, PAMS_CHALLENGE] as const;

const REGISTER_DOMAIN = "mp2p-r2-register-1";

/** The bytes signed for REGISTER: domain, nonce, overlay id. */
export function registerProof(challenge: Uint8Array, overlay: string): Uint8Array {
  const id = fromHex(overlay);
  assert(id?.length === OVERLAY_ID_BYTES, "overlay id of 16 bytes in hex");
  const head = new TextEncoder().encode(REGISTER_DOMAIN);
  const all = new Uint8Array(head.length + challenge.length + id.length);
  all.set(head);
  all.set(challenge, head.length);
  all.set(id, head.length + challenge.length);
  return all;
}
