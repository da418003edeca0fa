/** DATA of a member that is played by hand. */

import { buildFragment, type RecordPlan } from "../kernel/fragment-builder.ts";
import { crc32c } from "../support/crc32c.ts";
import type { Stranger } from "./harness.ts";

/** A DATA frame of the overlay with a right checksum. */
export function dataFrame(
  stranger: Stranger,
  index: number,
  plans: readonly RecordPlan[],
): Uint8Array {
  const frame = buildFragment(plans, index, 1);
  frame.set(stranger.tag, 16);
  return sealed(frame);
}

export function sealed(frame: Uint8Array): Uint8Array {
  new DataView(frame.buffer).setUint32(8, crc32c(frame.subarray(12)), true);
  return frame;
}
