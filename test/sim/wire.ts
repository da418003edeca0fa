/**
 * Reads and rewrites frames of a peer link by the layout page alone: shares no code with src/, so
 * that a mistake there is not repeated here. Trusts the lengths it is given no further than it has
 * checked them.
 */

export const TYPE = {
  DATA: 0x01,
  SEAL: 0x02,
  HELLO: 0x03,
  BUFFERMAP: 0x04,
  HAVE: 0x05,
  GET: 0x06,
  CREDIT: 0x07,
  GONE: 0x08,
  CANCEL: 0x09,
  PARTNER: 0x0a,
  ACCEPT: 0x0b,
  NOTIFY: 0x0c,
  REFRESH: 0x0d,
  BUSY: 0x0e,
  BYE: 0x0f,
  ERROR: 0x10,
  PING: 0x11,
  PONG: 0x12,
} as const;

export const TYPE_NAMES = new Map<number, string>(
  Object.entries(TYPE).map(([name, type]) => [type, name]),
);

export const DATA_HEADER = 40;
const RANGES_HEADER = 32;
const RANGE = 12;

export function u16(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) + (bytes[at + 1] as number) * 0x100;
}

export function u32(bytes: Uint8Array, at: number): number {
  return u16(bytes, at) + u16(bytes, at + 2) * 0x1_0000;
}

export function u64(bytes: Uint8Array, at: number): number {
  return u32(bytes, at) + u32(bytes, at + 4) * 0x1_0000_0000;
}

export function putU32(bytes: Uint8Array, at: number, value: number): void {
  for (let i = 0; i < 4; i++) bytes[at + i] = Math.floor(value / 256 ** i) % 256;
}

export function putU64(bytes: Uint8Array, at: number, value: number): void {
  putU32(bytes, at, value % 0x1_0000_0000);
  putU32(bytes, at + 4, Math.floor(value / 0x1_0000_0000));
}

/** Calls `visit(type, offset, bytes)` for each frame of `bytes`. False: they are not whole frames. */
export function eachFrame(
  bytes: Uint8Array,
  visit: (type: number, offset: number, frameBytes: number) => void,
): boolean {
  let at = 0;
  while (at + 8 <= bytes.length) {
    const frameBytes = u32(bytes, at);
    if (frameBytes < 8 || at + frameBytes > bytes.length) return false;
    if (bytes[at + 4] !== 0xb6) return false;
    visit(bytes[at + 6] as number, at, frameBytes);
    at += frameBytes;
  }
  return at === bytes.length;
}

export function dataIndex(bytes: Uint8Array, frame: number): number {
  return u64(bytes, frame + 24);
}

export function isEnd(bytes: Uint8Array, frame: number): boolean {
  return (u16(bytes, frame + 12) & 1) === 1;
}

export interface Range {
  readonly first: number;
  readonly count: number;
}

/** HAVE, GET, GONE, CANCEL. Undefined: malformed. */
export function ranges(bytes: Uint8Array, frame: number, frameBytes: number): Range[] | undefined {
  if (frameBytes < RANGES_HEADER) return undefined;
  const count = u32(bytes, frame + 24);
  if (frameBytes !== RANGES_HEADER + RANGE * count) return undefined;
  const found: Range[] = [];
  for (let i = 0; i < count; i++) {
    const at = frame + RANGES_HEADER + RANGE * i;
    found.push({ first: u64(bytes, at), count: u32(bytes, at + 8) });
  }
  return found;
}

/** HAVE: the sender's lowest index still held or wanted. */
export function haveStart(bytes: Uint8Array, frame: number): number {
  return u64(bytes, frame + 16);
}

/** HAVE: bit 0 held back by others. */
export function haveFlags(bytes: Uint8Array, frame: number): number {
  return u32(bytes, frame + 28);
}

export function creditLimit(bytes: Uint8Array, frame: number): number {
  return u64(bytes, frame + 16);
}

export interface Buffermap {
  readonly start: number;
  /** Every index that the map says is held, as ranges. */
  readonly held: readonly Range[];
}

/** Undefined: malformed. */
export function buffermap(
  bytes: Uint8Array,
  frame: number,
  frameBytes: number,
): Buffermap | undefined {
  if (frameBytes < 32) return undefined;
  const start = u64(bytes, frame + 16);
  const run = u32(bytes, frame + 24);
  const bitBytes = u32(bytes, frame + 28);
  if (frameBytes !== 32 + bitBytes) return undefined;
  if (bitBytes > 0 && bytes[frame + 31 + bitBytes] === 0) return undefined;
  const held: Range[] = [];
  if (run > 0) held.push({ first: start, count: run });
  for (let bit = 0; bit < 8 * bitBytes; bit++) {
    if ((((bytes[frame + 32 + (bit >> 3)] as number) >> (bit & 7)) & 1) === 0) continue;
    held.push({ first: start + run + 1 + bit, count: 1 });
  }
  return { start, held };
}

/** A HAVE, GET, GONE or CANCEL frame like `frame`, with other ranges. */
export function withRanges(frame: Uint8Array, list: readonly Range[]): Uint8Array {
  const changed = new Uint8Array(RANGES_HEADER + RANGE * list.length);
  changed.set(frame.subarray(0, RANGES_HEADER));
  putU32(changed, 0, changed.length);
  putU32(changed, 24, list.length);
  list.forEach(({ first, count }, i) => {
    putU64(changed, RANGES_HEADER + RANGE * i, first);
    putU32(changed, RANGES_HEADER + RANGE * i + 8, count);
  });
  return changed;
}

export interface WireRecord {
  readonly kind: number;
  readonly offset: number;
  readonly bytes: number;
  readonly payload: number;
  readonly payloadBytes: number;
}

/** The records of a DATA frame. Undefined: malformed. */
export function records(
  bytes: Uint8Array,
  frame: number,
  frameBytes: number,
): WireRecord[] | undefined {
  const found: WireRecord[] = [];
  const end = frame + frameBytes;
  let at = frame + DATA_HEADER;
  while (at < end) {
    const kind = bytes[at] as number;
    let header: number;
    let payloadBytes: number;
    if (kind === 1) {
      header = 24;
      payloadBytes = (bytes[at + 2] as number) + (bytes[at + 3] as number);
    } else if (kind === 2 || kind === 3) {
      header = kind === 2 ? 12 : 20;
      payloadBytes = at + 8 <= end ? u32(bytes, at + 4) : 0;
    } else if (kind === 4) {
      header = 16;
      payloadBytes = 0;
    } else return undefined;
    const recordBytes = header + payloadBytes;
    if (at + recordBytes > end) return undefined;
    found.push({ kind, offset: at, bytes: recordBytes, payload: at + header, payloadBytes });
    at += recordBytes;
  }
  return found.length === u16(bytes, frame + 14) ? found : undefined;
}

/** Does the checksum of a DATA frame again, after it was changed. Zero (none) stays zero. */
export function sealAgain(frame: Uint8Array): void {
  if (u32(frame, 8) === 0) return;
  putU32(frame, 8, crc32c(frame, 12, frame.length));
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) * 0x82f63b78);
  return crc >>> 0;
});

/** CRC32C (Castagnoli) of bytes [from, to). */
export function crc32c(bytes: Uint8Array, from: number, to: number): number {
  let crc = 0xffffffff;
  for (let i = from; i < to; i++) {
    crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ (bytes[i] as number)) & 0xff] as number);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
