/**
 * R1 PAMS-OMS.
 *
 * Participants: an OMS asks, the PAMS answers. The OMS registers each overlay that wants its
 * activity managed and repeats the registration every report interval (R1.c); the registration is
 * soft state, gone after three silent intervals or when removed.
 *
 * Non-goals here: peer lists (R1.d) and the status of one peer (R1.f).
 */

import { durationMs, overlayId, url } from "./common.ts";
import { defineOperation } from "./signalling.ts";

/** R1.a: registers or keeps alive an overlay. R1.b: the answer gives the report interval. */
export const REGISTER_OVERLAY = defineOperation({
  name: "r1/register-overlay",
  type: 0x10,
  request: { overlayId, omsUrl: url },
  answer: { reportIntervalMs: durationMs },
});

/** R1.e: removes an overlay. Removing an unknown one succeeds: it is gone. */
export const REMOVE_OVERLAY = defineOperation({
  name: "r1/remove-overlay",
  type: 0x11,
  request: { overlayId },
  answer: {},
});

export const R1_OPERATIONS = [REGISTER_OVERLAY, REMOVE_OVERLAY] as const;
