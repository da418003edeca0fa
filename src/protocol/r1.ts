/**
 * R1 PAMS-OMS.
 *
 * Participants: an OMS asks, the PAMS answers. The OMS registers each overlay that wants its
 * activity managed and repeats the registration every report interval (R1.c); the registration is
 * soft state, gone after three silent intervals or when removed. Both requests carry the service
 * key, a secret of the two servers: a PAMS that has one refuses whoever does not show it.
 *
 * Non-goals here: peer lists (R1.d), the status of one peer (R1.f), and hiding the key from who
 * reads the link: signalling is not encrypted.
 */

import { bytes, optional } from "./codec.ts";
import { durationMs, overlayId, url } from "./common.ts";
import { defineOperation } from "./signalling.ts";

export const SERVICE_KEY_BYTES_MAX = 64;

/** Empty: the OMS has none. */
const serviceKey = optional(bytes(0, SERVICE_KEY_BYTES_MAX), new Uint8Array(0));

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

export const R1_OPERATIONS = [REGISTER_OVERLAY, REMOVE_OVERLAY] as const;
