/**
 * Fields that several reference points share: ids, keys, addresses, candidates, roles.
 */

import { CANDIDATES_MAX } from "../base/limits.ts";
import type { Address, Transport } from "../base/machine.ts";
import { bytes, type Field, id, integer, list, oneOf, optional, record, text } from "./codec.ts";

export const OVERLAY_ID_BYTES = 16;
export const PEER_ID_BYTES = 32;
export const PUBLIC_KEY_BYTES = 32;
export const SIGNATURE_BYTES = 64;
export const NONCE_BYTES = 32;
export const TOKEN_BYTES = 16;
export const SERVICE_KEY_BYTES_MAX = 64;

/** What a member is to its overlay. */
export const ROLES = { source: 0, peer: 1, virtual: 2 } as const;
export type Role = (typeof ROLES)[keyof typeof ROLES];

export const overlayId = id(OVERLAY_ID_BYTES);
export const peerId = id(PEER_ID_BYTES);
export const publicKey = bytes(PUBLIC_KEY_BYTES);
export const signature = bytes(SIGNATURE_BYTES);
export const nonce = bytes(NONCE_BYTES);
export const token = bytes(TOKEN_BYTES);
/** What servers that belong together show each other; empty: none. */
export const serviceKey = optional(bytes(0, SERVICE_KEY_BYTES_MAX), new Uint8Array(0));
/** Milliseconds of an interval or lease: up to 49 days. */
export const durationMs = integer(0, 0xffff_ffff);
/** An address of a server, e.g. `ws://127.0.0.1:7900`. */
export const url = text(512);

const TRANSPORTS: ReadonlySet<string> = new Set<Transport>(["tcp", "ws", "memory"]);

const address = record({
  transport: text(16, 1),
  host: text(255, 1),
  port: integer(0, 65_535),
}) as Field<Address, false>;

/**
 * Where a peer can be reached: up to 8 positional arrays [transport, host, port]. Transports that
 * this version does not know are dropped.
 */
export const addresses = list(address, CANDIDATES_MAX, (entry) => TRANSPORTS.has(entry.transport));

/** Where a candidate comes from; it says who can probably dial it, and how early to try it. */
export const CANDIDATE_KINDS = {
  /** An address of the member's own machine. */
  local: 0,
  /** As the OMS sees the member. */
  observed: 1,
  /** Named by who runs the member. */
  advertised: 2,
} as const;
export type CandidateKind = (typeof CANDIDATE_KINDS)[keyof typeof CANDIDATE_KINDS];

/** An address of a member; without a kind it is local. */
export interface Candidate extends Address {
  readonly kind?: CandidateKind;
}

const candidate = record({
  transport: text(16, 1),
  host: text(255, 1),
  port: integer(0, 65_535),
  kind: optional(oneOf(CANDIDATE_KINDS), CANDIDATE_KINDS.local),
}) as unknown as Field<Candidate, false>;

/** Up to 8 positional arrays [transport, host, port, kind]; read as `addresses` are. */
export const candidates = list(candidate, CANDIDATES_MAX, (entry) =>
  TRANSPORTS.has(entry.transport),
);

/** Whether others can open links to a member, as far as the OMS knows. */
export const REACH = { unknown: 0, inbound: 1, outboundOnly: 2 } as const;
export type Reach = (typeof REACH)[keyof typeof REACH];
