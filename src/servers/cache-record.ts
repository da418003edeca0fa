/** The OMS's durable record of a cache server: what it offers, and what of that is assigned. */

import {
  CACHE_LABEL_BYTES_MAX,
  OVERLAYS_PER_VIRTUAL_PEER_MAX,
  VIRTUAL_PEERS_MAX,
} from "../base/limits.ts";
import { type Decoded, defineMessage, integer, list, record, text } from "../protocol/codec.ts";
import { overlayId, peerId } from "../protocol/common.ts";
import { ASSIGNMENTS_MAX } from "../protocol/r8.ts";

export const CACHE_RECORD = defineMessage({
  name: "cache server record",
  type: 0,
  fields: {
    cacheServerId: peerId,
    label: text(CACHE_LABEL_BYTES_MAX),
    virtualPeers: list(peerId, VIRTUAL_PEERS_MAX),
    overlaysPerPeer: integer(1, OVERLAYS_PER_VIRTUAL_PEER_MAX),
    assignments: list(record({ overlayId, peerId }), ASSIGNMENTS_MAX),
  },
});
export type CacheRecord = Decoded<typeof CACHE_RECORD>;

/** What a cache server offers, as it registers. */
export type CacheOffer = Omit<CacheRecord, "cacheServerId" | "assignments">;
