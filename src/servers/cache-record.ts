/** The OMS's durable record of a cache server: what it offers, and what of that is assigned. */

import { type Decoded, defineMessage, integer, list, record, text } from "../protocol/codec.ts";
import { overlayId, peerId } from "../protocol/common.ts";
import * as r8 from "../protocol/r8.ts";

export const CACHE_RECORD = defineMessage({
  name: "cache server record",
  type: 0,
  fields: {
    cacheServerId: peerId,
    label: text(r8.CACHE_LABEL_BYTES_MAX),
    virtualPeers: list(peerId, r8.VIRTUAL_PEERS_MAX),
    overlaysPerPeer: integer(1, r8.OVERLAYS_PER_VIRTUAL_PEER_MAX),
    assignments: list(record({ overlayId, peerId }), r8.ASSIGNMENTS_MAX),
  },
});
export type CacheRecord = Decoded<typeof CACHE_RECORD>;

/** What a cache server offers, as it registers. */
export type CacheOffer = Omit<CacheRecord, "cacheServerId" | "assignments">;
