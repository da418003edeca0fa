/**
 * A tiny msgpack reader for tests, written from the msgpack specification and independent of what
 * it checks. Reads every type of the format but extensions; integers of 64 bits come as bigint when
 * they do not fit a number.
 */

export type MsgpackValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | MsgpackValue[]
  | Map<MsgpackValue, MsgpackValue>;

export function readMsgpack(bytes: Uint8Array): MsgpackValue {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const utf8 = new TextDecoder("utf-8", { fatal: true });
  let at = 0;
  const take = (count: number): Uint8Array => {
    if (at + count > bytes.length) throw new Error("msgpack: truncated");
    at += count;
    return bytes.slice(at - count, at);
  };
  const number = (size: 1 | 2 | 4): number => {
    const from = at;
    take(size);
    return size === 1
      ? view.getUint8(from)
      : size === 2
        ? view.getUint16(from)
        : view.getUint32(from);
  };
  const signed = (size: 1 | 2 | 4): number => {
    const from = at;
    take(size);
    return size === 1 ? view.getInt8(from) : size === 2 ? view.getInt16(from) : view.getInt32(from);
  };
  const long = (value: bigint): number | bigint =>
    value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER)
      ? Number(value)
      : value;
  const array = (count: number): MsgpackValue[] => {
    const items: MsgpackValue[] = [];
    for (let i = 0; i < count; i++) items.push(value());
    return items;
  };
  const map = (count: number): Map<MsgpackValue, MsgpackValue> => {
    const entries = new Map<MsgpackValue, MsgpackValue>();
    for (let i = 0; i < count; i++) entries.set(value(), value());
    return entries;
  };
  const value = (): MsgpackValue => {
    const lead = number(1);
    if (lead <= 0x7f) return lead;
    if (lead >= 0xe0) return lead - 0x100;
    if (lead <= 0x8f) return map(lead & 0x0f);
    if (lead <= 0x9f) return array(lead & 0x0f);
    if (lead <= 0xbf) return utf8.decode(take(lead & 0x1f));
    switch (lead) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return take(number(1));
      case 0xc5:
        return take(number(2));
      case 0xc6:
        return take(number(4));
      case 0xca:
        at += 4;
        return view.getFloat32(at - 4);
      case 0xcb:
        at += 8;
        return view.getFloat64(at - 8);
      case 0xcc:
        return number(1);
      case 0xcd:
        return number(2);
      case 0xce:
        return number(4);
      case 0xcf:
        at += 8;
        return long(view.getBigUint64(at - 8));
      case 0xd0:
        return signed(1);
      case 0xd1:
        return signed(2);
      case 0xd2:
        return signed(4);
      case 0xd3:
        at += 8;
        return long(view.getBigInt64(at - 8));
      case 0xd9:
        return utf8.decode(take(number(1)));
      case 0xda:
        return utf8.decode(take(number(2)));
      case 0xdb:
        return utf8.decode(take(number(4)));
      case 0xdc:
        return array(number(2));
      case 0xdd:
        return array(number(4));
      case 0xde:
        return map(number(2));
      case 0xdf:
        return map(number(4));
      default:
        throw new Error(`msgpack: type 0x${lead.toString(16)}`);
    }
  };
  const result = value();
  if (at !== bytes.length) throw new Error("msgpack: bytes after the end");
  return result;
}
