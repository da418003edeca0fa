/**
 * R2 PAMS-Peer.
 *
 * Participants: a peer (source peers and virtual peers too) registers with the PAMS of its overlay
 * and reports its status every report interval and on events; the PAMS may ask for it at any time.
 *
 * All of it is soft state: a PAMS that lost its memory answers UNKNOWN_PEER to a report, and the
 * peer registers again. Goals: one report is one small message, latest wins. Non-goals: proof of
 * what a report says; a status is advice, never a ground for admission.
 */

import { integer, oneOf, u32, u53 } from "./codec.ts";
import { durationMs, overlayId, peerId, ROLES } from "./common.ts";
import { defineOperation, type RequestOf } from "./signalling.ts";

/** Why a report is made. */
export const REPORT_EVENTS = {
  interval: 0,
  started: 1,
  completed: 2,
  stopped: 3,
  lagging: 4,
  asked: 5,
} as const;

/** The status of a peer in an overlay (P0.3: distribution of fragments, contribution). */
const status = {
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
};

/** R2.a: registers a peer. R2.b: the answer gives the report interval. Repeating is harmless. */
export const REGISTER_PEER = defineOperation({
  name: "r2/register-peer",
  type: 0x20,
  request: { overlayId, peerId, role: oneOf(ROLES) },
  answer: { reportIntervalMs: durationMs },
});

/** R2.c: reports the status, every interval and on events. UNKNOWN_PEER: register again. */
export const REPORT = defineOperation({
  name: "r2/report",
  type: 0x21,
  request: status,
  answer: {},
});

/** R2.d: removes a registered peer. Removing an unknown one succeeds: it is gone. */
export const REMOVE_PEER = defineOperation({
  name: "r2/remove-peer",
  type: 0x22,
  request: { overlayId, peerId },
  answer: {},
});

/** R2.e: the PAMS asks a peer; the answer is its report with event `asked`. */
export const STATUS = defineOperation({
  name: "r2/status",
  type: 0x23,
  request: { overlayId, peerId },
  answer: status,
});

export type PeerStatus = RequestOf<typeof REPORT>;

export const R2_OPERATIONS = [REGISTER_PEER, REPORT, REMOVE_PEER, STATUS] as const;
