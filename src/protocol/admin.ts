/**
 * What an operator asks of an OMS; no reference point of the Recommendation. With R1.d and R1.f at
 * the PAMS it makes the picture that `mp2p status` draws.
 *
 * Needs the service key: titles and sources of all sessions are nobody else's business. An OMS
 * without a key tells nobody.
 */

import { CACHE_LABEL_BYTES_MAX, TITLE_BYTES_MAX } from "../base/limits.ts";
import { bool, integer, list, maybe, record, text, u16, u32, u53 } from "./codec.ts";
import { overlayId, peerId, serviceKey, url } from "./common.ts";
import { defineOperation } from "./signalling.ts";

/** Overlays in one answer: within 64 KiB whatever their titles. */
export const OVERLAY_ROWS_MAX = 64;

const overlay = record({
  overlayId,
  title: text(TITLE_BYTES_MAX),
  sessionEpoch: u32,
  sourcePeerId: peerId,
  createdUs: u53,
  /** The source peer among them; those that can be dialled, and those that can not. */
  members: u32,
  inbound: u32,
  outboundOnly: u32,
  /** Whether the PAMS looks after it. */
  pams: bool,
});

/** Overlays that stand, by id, from the one behind `after` on. */
export const LIST_OVERLAYS = defineOperation({
  name: "admin/overlays",
  type: 0x4f,
  request: { limit: integer(1, OVERLAY_ROWS_MAX), serviceKey, after: maybe(overlayId) },
  answer: { rows: list(overlay, OVERLAY_ROWS_MAX), more: bool, pamsUrl: url },
});

/** Cache servers in one answer. */
export const CACHE_SERVER_ROWS_MAX = 64;

const cacheServer = record({
  cacheServerId: peerId,
  label: text(CACHE_LABEL_BYTES_MAX),
  /** Whether it can be given orders now. */
  linked: bool,
  virtualPeers: u16,
  /** Overlays that its virtual peers can be in, and are assigned to, all together. */
  places: u16,
  assigned: u16,
});

/** Cache servers (R8) by id, from the one behind `after` on. */
export const LIST_CACHE_SERVERS = defineOperation({
  name: "admin/cache-servers",
  type: 0x4e,
  request: { limit: integer(1, CACHE_SERVER_ROWS_MAX), serviceKey, after: maybe(peerId) },
  answer: { rows: list(cacheServer, CACHE_SERVER_ROWS_MAX), more: bool },
});

export const ADMIN_OPERATIONS = [LIST_OVERLAYS, LIST_CACHE_SERVERS] as const;
