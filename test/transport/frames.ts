/** Frames for tests of transports: a header as the layout table says, and bytes behind it. */

export const CONTROL_TYPE = 0x11;
export const DATA_TYPE = 0x01;

/** A frame of `frameBytes` (at least 8), its body filled by `fill`. */
export function frameOf(frameBytes: number, fill: number, type = CONTROL_TYPE): Uint8Array {
  const frame = new Uint8Array(frameBytes);
  for (let i = 8; i < frameBytes; i++) frame[i] = (fill + i * 31) & 0xff;
  new DataView(frame.buffer).setUint32(0, frameBytes, true);
  frame[4] = 0xb6;
  frame[5] = 1;
  frame[6] = type;
  return frame;
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
