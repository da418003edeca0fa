/**
 * A tiny msgpack writer for tests, written from the msgpack specification: nil, booleans, integers
 * from 0 to 2^53 - 1, text, byte strings and arrays. Always the shortest form.
 */

export type MsgpackInput = null | boolean | number | string | Uint8Array | readonly MsgpackInput[];

export function writeMsgpack(value: MsgpackInput): Buffer {
  if (value === null) return Buffer.of(0xc0);
  if (typeof value === "boolean") return Buffer.of(value ? 0xc3 : 0xc2);
  if (typeof value === "number") return integer(value);
  if (typeof value === "string") {
    const text = Buffer.from(value, "utf8");
    if (text.length < 32) return Buffer.concat([Buffer.of(0xa0 | text.length), text]);
    return Buffer.concat([sized(text.length, 0xd9, 0xda, 0xdb), text]);
  }
  if (value instanceof Uint8Array) {
    return Buffer.concat([sized(value.length, 0xc4, 0xc5, 0xc6), value]);
  }
  const head =
    value.length < 16 ? Buffer.of(0x90 | value.length) : sized(value.length, 0, 0xdc, 0xdd);
  return Buffer.concat([head, ...value.map(writeMsgpack)]);
}

function integer(value: number): Buffer {
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`msgpack: ${value}`);
  if (value < 0x80) return Buffer.of(value);
  if (value <= 0xffff_ffff) return sized(value, 0xcc, 0xcd, 0xce);
  const bytes = Buffer.alloc(9, 0xcf);
  bytes.writeBigUInt64BE(BigInt(value), 1);
  return bytes;
}

/** A lead byte for 8, 16 or 32 bits, and the number behind it. A lead of 0: no such form. */
function sized(value: number, lead8: number, lead16: number, lead32: number): Buffer {
  if (value <= 0xff && lead8 !== 0) return Buffer.of(lead8, value);
  const bytes = value <= 0xffff ? Buffer.alloc(3, lead16) : Buffer.alloc(5, lead32);
  if (value <= 0xffff) bytes.writeUInt16BE(value, 1);
  else bytes.writeUInt32BE(value, 1);
  return bytes;
}
