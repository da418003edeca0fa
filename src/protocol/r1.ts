/**
 * R1 PAMS-OMS.
 *
 * Participants: an OMS asks, the PAMS answers. The OMS registers each overlay that wants its
 * activity managed and repeats the registration every report interval (R1.c); the registration is
 * soft state, gone after three silent intervals or when removed. It asks for lists of peers by what
 * they report (R1.d) and for the status of one (R1.f). All requests carry the service key, a secret
 * of the two servers: a PAMS that has one refuses whoever does not show it.
 *
 * Non-goals here: hiding the key from who reads the link: signalling is not encrypted.
 */

import { bool, integer, list, maybe, oneOf, optional, record, u32, u53 } from "./codec.ts";
import { durationMs, overlayId, peerId, ROLES, serviceKey, url } from "./common.ts";
import { STATUS_FIELDS } from "./r2.ts";
import { defineOperation, type RequestOf } from "./signalling.ts";

/** Peers in one answer of PEER_LIST: within the elements and bytes that a message may have. */
export const ACTIVE_PEERS_MAX = 128;
const EXCLUDE_MAX = 64;

/** R1.a: registers or keeps alive an overlay. R1.b: the answer gives the report interval. */
export const REGISTER_OVERLAY = defineOperation({
  name: "r1/register-overlay",
  type: 0x10,
  request: { overlayId, omsUrl: url, serviceKey },
  answer: { reportIntervalMs: durationMs },
});

/** R1.e: removes an overlay. Removing an unknown one succeeds: it is gone. */
export const REMOVE_OVERLAY = defineOperation({
  name: "r1/remove-overlay",
  type: 0x11,
  request: { overlayId, serviceKey },
  answer: {},
});

/** R1.d i): which standing in the overlay's activity is asked for. */
export const ACTIVITIES = {
  /** Whoever is registered. */
  any: 0,
  /** Reported in time, is not lagging and has not completed. */
  active: 1,
  /** Said that it lags, or that it lost its way. */
  lagging: 2,
  /** Has all up to END. */
  completed: 3,
} as const;
export type Activity = (typeof ACTIVITIES)[keyof typeof ACTIVITIES];

/** R1.d iii): who comes first. Equals are drawn by lot. */
export const PEER_ORDERS = {
  random: 0,
  /** Least behind. */
  lag: 1,
  /** Most upload to spare; among those without a limit who gives least now. */
  spare: 2,
  /** Gave most for what it took. */
  contribution: 3,
  /** Holds most fragments. */
  held: 4,
} as const;
export type PeerOrder = (typeof PEER_ORDERS)[keyof typeof PEER_ORDERS];

/** `spareBytesPerSecond` of a peer that has no limit on its upload. */
export const SPARE_UNLIMITED = Number.MAX_SAFE_INTEGER;

const activePeer = record({
  peerId,
  role: oneOf(ROLES),
  activity: integer(0, 3),
  /** Since it was heard last. */
  silentMs: durationMs,
  /** Fragments held without hole: [heldStart, heldEnd); missing from there on. */
  heldStart: u53,
  heldEnd: u53,
  missing: u32,
  lagMs: u53,
  /** Bytes given for 1,000 taken. */
  contributionPermille: u32,
  rateBytesPerSecond: u53,
  uploadBytesPerSecond: u53,
  spareBytesPerSecond: u53,
  links: integer(0, 0xffff),
});

/**
 * R1.d: peers of an overlay by the activity, the maximum, the order and the conditions named. A peer
 * that has not reported yet matches no condition, and only activity `any`.
 */
export const PEER_LIST = defineOperation({
  name: "r1/peer-list",
  type: 0x12,
  request: {
    overlayId,
    activity: oneOf(ACTIVITIES),
    maxPeers: integer(1, ACTIVE_PEERS_MAX),
    order: oneOf(PEER_ORDERS),
    serviceKey,
    /** Conditions: holds this index ... */
    holding: maybe(u53),
    /** ... is at most so far behind ... */
    maxLagMs: maybe(u53),
    /** ... has so much upload to spare ... */
    minSpareBytesPerSecond: maybe(u53),
    /** ... and is none of these. */
    exclude: optional(list(peerId, EXCLUDE_MAX), []),
  },
  answer: {
    peers: list(activePeer, ACTIVE_PEERS_MAX),
    /** How many match, and how many are registered at all. */
    matching: u32,
    registered: u32,
  },
});
export type ActivePeer = ReturnType<(typeof activePeer)["fromWire"]>;
export type PeerListRequest = RequestOf<typeof PEER_LIST>;

/**
 * R1.f: the status of one peer. UNKNOWN_OVERLAY or UNKNOWN_PEER when it is not registered. With
 * `ask` the PAMS asks the peer itself first (R2.e); one that does not answer in time is told with
 * its latest report.
 */
export const PEER_STATUS = defineOperation({
  name: "r1/peer-status",
  type: 0x13,
  request: { overlayId, peerId, serviceKey, ask: optional(bool, false) },
  answer: {
    role: oneOf(ROLES),
    activity: integer(0, 3),
    silentMs: durationMs,
    contributionPermille: u32,
    /** The latest report; empty: none came yet. */
    reports: list(record(STATUS_FIELDS), 1),
  },
});

export const R1_OPERATIONS = [REGISTER_OVERLAY, REMOVE_OVERLAY, PEER_LIST, PEER_STATUS] as const;
