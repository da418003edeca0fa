/**
 * R8 OMS-CS.
 *
 * Participants: a cache server (CS) offers the virtual peers that run on it to an OMS; the OMS
 * orders a virtual peer into an overlay and out of it, over the link on which the cache server
 * registered. The registration is repeated at a third of its lease and says each time what the
 * virtual peers are in, so that both ends agree again after whatever one of them has missed.
 *
 * Identity: what a cache server asks carries the service key, as what it lends is the provider's.
 * An order carries the OMS's `term` (one more at each of its starts): a cache server that has seen a
 * higher one refuses it (TERM_PASSED). A virtual peer joins as any peer does, by the key of its own
 * (R5 JOIN, role virtual), and only where it was ordered to.
 *
 * Orders and what is given back may be repeated without harm. What the OMS assigned is on its disk
 * before it orders it.
 *
 * Non-goals here: data sources that push to a cache server (R12), history.
 */

import {
  CACHE_LABEL_BYTES_MAX,
  OVERLAYS_PER_VIRTUAL_PEER_MAX,
  PRIORITY_MAX,
  TITLE_BYTES_MAX,
  VIRTUAL_PEERS_MAX,
} from "../base/limits.ts";
import { bytes, integer, list, oneOf, record, text, u16, u53 } from "./codec.ts";
import { durationMs, overlayId, peerId, serviceKey, url } from "./common.ts";
import { defineOperation, type RequestOf } from "./signalling.ts";

/** Assignments that one registration can name. */
export const ASSIGNMENTS_MAX = 1_024;
export const INSTANCE_BYTES = 8;

/** R8.c: what the overlay's need of a virtual peer weighs against that of other overlays. */
export const priority = integer(0, PRIORITY_MAX);

/** One virtual peer in one overlay. */
const assignment = record({ overlayId, peerId });
export type Assignment = ReturnType<(typeof assignment)["fromWire"]>;

/**
 * P1.3: a cache server offers its virtual peers, or keeps the offer alive. Acknowledged when on
 * disk. KEY_REQUIRED without the service key.
 */
export const REGISTER_CACHE = defineOperation({
  name: "r8/register",
  type: 0x60,
  request: {
    serviceKey,
    /** Names the cache server over its restarts. */
    cacheServerId: peerId,
    /** For people. */
    label: text(CACHE_LABEL_BYTES_MAX),
    virtualPeers: list(peerId, VIRTUAL_PEERS_MAX),
    overlaysPerPeer: integer(1, OVERLAYS_PER_VIRTUAL_PEER_MAX),
    /** What its virtual peers are in now. */
    holds: list(assignment, ASSIGNMENTS_MAX),
    /** Drawn at each start: of two processes with one id the second is NOT_OWNER. */
    instance: bytes(INSTANCE_BYTES),
  },
  answer: {
    /** The offer ends without a registration within this time. */
    leaseMs: durationMs,
    term: u53,
    /** Assignments of this cache server. */
    assigned: u16,
  },
});

/**
 * A virtual peer is out of its overlay: the session ended for it, or it could not join or stay. Then
 * `code` says why, and the OMS looks elsewhere.
 */
export const GIVE_BACK = defineOperation({
  name: "r8/give-back",
  type: 0x61,
  request: {
    serviceKey,
    cacheServerId: peerId,
    overlayId,
    peerId,
    /** A code of the table of failures; empty: the session ended as sessions do. */
    code: text(48),
    detail: text(512),
  },
  answer: {},
});

/** The cache server goes: all its assignments are given to others. */
export const WITHDRAW_CACHE = defineOperation({
  name: "r8/withdraw",
  type: 0x62,
  request: { serviceKey, cacheServerId: peerId },
  answer: {},
});

/**
 * P0.4, R8.a: the OMS orders a virtual peer into an overlay. Answered when the order is taken, before
 * the virtual peer has joined. Refused: TERM_PASSED, UNKNOWN_PEER (no such virtual peer here),
 * OVERLOADED (it is in as many overlays as it may).
 */
export const ALLOCATE = defineOperation({
  name: "r8/allocate",
  type: 0x68,
  request: {
    term: u53,
    overlayId,
    peerId,
    /** Of the session; the index file that names this very overlay counts. */
    title: text(TITLE_BYTES_MAX),
    /** R8.b: the PAMS that manages the overlay's activity; empty: none does. */
    pamsUrl: url,
    priority,
  },
  answer: {},
});

/** Why a virtual peer is to leave. */
export const RELEASE_REASONS = {
  /** The overlay ended: it leaves as any peer does, when its neighbours have what it holds. */
  ended: 0,
  /** It is needed elsewhere, or here no more: it leaves now. */
  withdrawn: 1,
} as const;
export type ReleaseReason = (typeof RELEASE_REASONS)[keyof typeof RELEASE_REASONS];

/** P0.4, R8.a: the OMS orders a virtual peer out of an overlay. One that is not in it: it is so. */
export const RELEASE = defineOperation({
  name: "r8/release",
  type: 0x69,
  request: { term: u53, overlayId, peerId, reason: oneOf(RELEASE_REASONS) },
  answer: {},
});

export type AllocateOrder = RequestOf<typeof ALLOCATE>;
export type ReleaseOrder = RequestOf<typeof RELEASE>;

export const R8_OPERATIONS = [
  REGISTER_CACHE,
  GIVE_BACK,
  WITHDRAW_CACHE,
  ALLOCATE,
  RELEASE,
] as const;
