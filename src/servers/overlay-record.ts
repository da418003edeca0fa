/** The OMS's durable records. */

import { TITLE_BYTES_MAX } from "../base/limits.ts";
import {
  bool,
  bytes,
  type Decoded,
  defineMessage,
  oneOf,
  optional,
  text,
  u8,
  u32,
  u53,
} from "../protocol/codec.ts";
import { candidates, durationMs, overlayId, publicKey } from "../protocol/common.ts";

export const OVERLAY_STATES = { stands: 0, removed: 1, expired: 2 } as const;

export const OVERLAY_RECORD = defineMessage({
  name: "overlay record",
  type: 0,
  fields: {
    state: oneOf(OVERLAY_STATES),
    overlayId,
    sessionEpoch: u32,
    title: text(TITLE_BYTES_MAX),
    publicKey,
    /** SHA-256 of the tokens; the tokens themselves are never stored. */
    ownerTokenHash: bytes(32),
    memberTokenHash: bytes(32),
    /** As the source peer gave them. */
    candidates,
    pams: bool,
    leaseMs: durationMs,
    createdUs: u53,
    /** Wall time of its end; 0 = stands. */
    goneUs: u53,
    /** Where the OMS saw the source peer; empty in records of before. */
    observedHost: optional(text(255), ""),
    /** P1.3: virtual peers that the source peer asked for, and with which priority. */
    virtualPeers: optional(u8, 0),
    priority: optional(u8, 0),
  },
});
export type OverlayRecord = Decoded<typeof OVERLAY_RECORD>;

/** Counts the starts of this OMS. */
export const TERM_RECORD = defineMessage({
  name: "term record",
  type: 0,
  fields: { term: u53 },
});
