/** Frames as the other side of a link gets them. */

import * as layout from "../../../src/base/layout.ts";
import { type MsgpackValue, readMsgpack } from "../../support/msgpack-reader.ts";

/** Frames as the other side gets them: type and bytes. */
export interface SeenFrame {
  readonly type: number;
  readonly bytes: Uint8Array;
}

export function splitFrames(bytes: Uint8Array): SeenFrame[] {
  const frames: SeenFrame[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length; ) {
    const length = view.getUint32(at, true);
    frames.push({ type: bytes[at + 6] as number, bytes: bytes.slice(at, at + length) });
    at += length;
  }
  return frames;
}

/** [code, detail] of an ERROR frame, by independent code. */
export function errorOf(frame: SeenFrame | undefined): string {
  if (frame === undefined || frame.type !== layout.FRAME_TYPES.ERROR) return "no ERROR";
  return String((readMsgpack(frame.bytes.subarray(8)) as MsgpackValue[])[0]);
}
