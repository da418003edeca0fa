/**
 * Pre-scan of untrusted msgpack. One linear pass over the bytes, no allocation, before any decoder
 * sees them: what passes can neither nest deeply, nor ask for more elements than it has bytes, nor
 * carry an extension type (records, pointers and class instances of the decoder in use), nor a map
 * (so no key ever comes from the wire), a float, a number beyond 2^53 - 1, text that is not UTF-8,
 * or bytes after its end.
 *
 * Never decodes, never throws for what the bytes hold: the answer is a reason or nothing.
 */

import { MSGPACK_DEPTH_MAX, MSGPACK_ELEMENTS_MAX } from "../base/limits.ts";

/** Elements still expected in each open array; scratch of the one scan that runs at a time. */
const pending = new Uint32Array(MSGPACK_DEPTH_MAX + 1);

/** Highest upper half of a 64-bit number that is at most 2^53 - 1. */
const HIGH_MAX = 0x1f_ffff;

/**
 * Looks at the msgpack value in [from, to) of `memory`. Undefined when it is one well-formed array
 * within the limits; otherwise why not (a constant sentence).
 */
export function prescan(memory: Uint8Array, from: number, to: number): string | undefined {
  if (from >= to || to > memory.length) return "no bytes";
  let at = from;
  let depth = 0;
  let elements = 0;
  pending[0] = 1;
  for (;;) {
    while (pending[depth] === 0) {
      if (depth === 0) return at === to ? undefined : "bytes after the end";
      depth--;
    }
    pending[depth] = (pending[depth] as number) - 1;
    if (at >= to) return "truncated";
    const lead = memory[at++] as number;
    let length = -1;
    let text = false;
    let items = -1;
    if (lead <= 0x7f || lead >= 0xe0) length = 0;
    else if (lead <= 0x8f) return "a map";
    else if (lead <= 0x9f) items = lead & 0x0f;
    else if (lead <= 0xbf) {
      length = lead & 0x1f;
      text = true;
    } else {
      switch (lead) {
        case 0xc0:
        case 0xc2:
        case 0xc3:
          length = 0;
          break;
        case 0xc4:
        case 0xd9:
          if (to - at < 1) return "truncated";
          length = memory[at] as number;
          text = lead === 0xd9;
          at += 1;
          break;
        case 0xc5:
        case 0xda:
          if (to - at < 2) return "truncated";
          length = u16(memory, at);
          text = lead === 0xda;
          at += 2;
          break;
        case 0xc6:
        case 0xdb:
          if (to - at < 4) return "truncated";
          length = u32(memory, at);
          text = lead === 0xdb;
          at += 4;
          break;
        case 0xcc:
        case 0xd0:
          length = 1;
          break;
        case 0xcd:
        case 0xd1:
          length = 2;
          break;
        case 0xce:
        case 0xd2:
          length = 4;
          break;
        case 0xcf:
          if (to - at < 8) return "truncated";
          if (u32(memory, at) > HIGH_MAX) return "a number beyond 2^53 - 1";
          length = 8;
          break;
        case 0xd3:
          if (to - at < 8) return "truncated";
          if (u32(memory, at) > HIGH_MAX) return "a number beyond 2^53 - 1 or below zero";
          length = 8;
          break;
        case 0xdc:
          if (to - at < 2) return "truncated";
          items = u16(memory, at);
          at += 2;
          break;
        case 0xdd:
          if (to - at < 4) return "truncated";
          items = u32(memory, at);
          at += 4;
          break;
        case 0xca:
        case 0xcb:
          return "a float";
        case 0xde:
        case 0xdf:
          return "a map";
        default:
          return "an extension or reserved type";
      }
    }
    if (items >= 0) {
      if (items > to - at) return "more elements than bytes";
      elements += items;
      if (elements > MSGPACK_ELEMENTS_MAX) return "too many elements";
      if (depth === MSGPACK_DEPTH_MAX) return "nested too deep";
      depth++;
      pending[depth] = items;
      continue;
    }
    if (depth === 0) return "not an array";
    if (length > to - at) return "a length beyond the end";
    if (text && !isUtf8(memory, at, at + length)) return "text that is not UTF-8";
    at += length;
  }
}

function u16(memory: Uint8Array, at: number): number {
  return ((memory[at] as number) << 8) | (memory[at + 1] as number);
}

function u32(memory: Uint8Array, at: number): number {
  return ((u16(memory, at) << 16) | u16(memory, at + 2)) >>> 0;
}

/** Whether [at, to) is well-formed UTF-8 (no overlong form, no surrogate, at most U+10FFFF). */
function isUtf8(memory: Uint8Array, from: number, to: number): boolean {
  let at = from;
  while (at < to) {
    const lead = memory[at++] as number;
    if (lead < 0x80) continue;
    let more: number;
    let low = 0x80;
    let high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) more = 1;
    else if (lead >= 0xe0 && lead <= 0xef) {
      more = 2;
      if (lead === 0xe0) low = 0xa0;
      else if (lead === 0xed) high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      more = 3;
      if (lead === 0xf0) low = 0x90;
      else if (lead === 0xf4) high = 0x8f;
    } else return false;
    if (to - at < more) return false;
    for (; more > 0; more--) {
      const next = memory[at++] as number;
      if (next < low || next > high) return false;
      low = 0x80;
      high = 0xbf;
    }
  }
  return true;
}
