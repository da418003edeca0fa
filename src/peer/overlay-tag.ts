/** The eight bytes by which frames name their overlay. */

import { LocalUsageError } from "../base/errors.ts";
import { OVERLAY_TAG_BYTES } from "../base/layout.ts";
import { fromHex, type OverlayId } from "../base/units.ts";

/** 8 bytes of SHA-256(overlay id, session epoch as u32 little-endian). */
export function overlayTag(
  sha256: (bytes: Uint8Array) => Uint8Array,
  overlayId: OverlayId,
  sessionEpoch: number,
): Uint8Array {
  const id = fromHex(overlayId);
  if (id === undefined || id.length !== 16) {
    throw new LocalUsageError("USAGE", { detail: "an overlay id has 32 hex digits" });
  }
  const bytes = new Uint8Array(20);
  bytes.set(id);
  new DataView(bytes.buffer).setUint32(16, sessionEpoch, true);
  return sha256(bytes).slice(0, OVERLAY_TAG_BYTES);
}
