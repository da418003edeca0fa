/** Fields of control frames, read as docs/protocol.md describes them and not by code of src. */

/** Pairs [first index, count] of a HAVE, GET, GONE or CANCEL frame. */
export function readRangesOf(frame: Uint8Array | undefined): [number, number][] {
  if (frame === undefined) return [];
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const pairs: [number, number][] = [];
  for (let i = 0; i < view.getUint32(24, true); i++) {
    const at = 32 + 12 * i;
    pairs.push([Number(view.getBigUint64(at, true)), view.getUint32(at + 8, true)]);
  }
  return pairs;
}
