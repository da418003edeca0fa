/**
 * Reads a DATA frame as docs/protocol.md describes it, for tests: written from the description,
 * independent of what it checks. Throws on anything that the description does not allow.
 */

export interface DecodedDatum {
  readonly sourceId: string;
  readonly contentType: string;
  readonly sequence: number;
  readonly timestampUs: number;
  readonly payload: Uint8Array;
  /** For a slice: its place in the whole datum. */
  readonly slice: { readonly offset: number; readonly total: number } | undefined;
}

export interface DecodedFragment {
  readonly index: number;
  readonly createdUs: number;
  readonly isEnd: boolean;
  readonly checksum: number;
  readonly tag: string;
  readonly data: DecodedDatum[];
  /** Last sequence number of each source that ended here. */
  readonly ended: Map<string, number>;
  readonly declarations: number;
}

interface Declared {
  readonly id: string;
  readonly type: string;
  readonly baseUs: number;
  next: number;
}

export function decodeFragment(frame: Uint8Array): DecodedFragment {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const text = new TextDecoder("utf-8", { fatal: true });
  const check = (condition: boolean, what: string): void => {
    if (!condition) throw new Error(`fragment: ${what}`);
  };
  const long = (at: number): number => Number(view.getBigUint64(at, true));
  check(frame.length >= 40, "header");
  check(view.getUint32(0, true) === frame.length, "length");
  check(frame[4] === 0xb6 && frame[5] === 1 && frame[6] === 1 && frame[7] === 0, "frame header");
  const flags = view.getUint16(12, true);
  check((flags & ~1) === 0, "flags");
  const declared = new Map<number, Declared>();
  const data: DecodedDatum[] = [];
  const ended = new Map<string, number>();
  let at = 40;
  let records = 0;
  let declarations = 0;
  let openSlice = false;
  while (at < frame.length) {
    const kind = frame[at];
    const number = frame[at + 1] as number;
    records++;
    if (kind === 1) {
      const idBytes = frame[at + 2] as number;
      const typeBytes = frame[at + 3] as number;
      check(idBytes >= 1 && idBytes <= 128 && typeBytes <= 128, "sizes of a declaration");
      check(view.getUint32(at + 4, true) === 0, "reserved");
      const idAt = at + 24;
      declared.set(number, {
        id: text.decode(frame.subarray(idAt, idAt + idBytes)),
        type: text.decode(frame.subarray(idAt + idBytes, idAt + idBytes + typeBytes)),
        next: long(at + 8),
        baseUs: long(at + 16),
      });
      declarations++;
      at = idAt + idBytes + typeBytes;
      continue;
    }
    const source = declared.get(number);
    if (source === undefined) throw new Error("fragment: source not declared");
    if (kind === 4) {
      check(view.getUint16(at + 2, true) === 0 && view.getUint32(at + 4, true) === 0, "reserved");
      ended.set(source.id, long(at + 8));
      at += 16;
      continue;
    }
    check(kind === 2 || kind === 3, `kind ${kind}`);
    const header = kind === 2 ? 12 : 20;
    const bytes = view.getUint32(at + 4, true);
    check(at + header + bytes <= frame.length, "record inside the frame");
    const sliceFlags = view.getUint16(at + 2, true);
    const datum = {
      sourceId: source.id,
      contentType: source.type,
      sequence: source.next,
      timestampUs: source.baseUs + view.getInt32(at + 8, true),
      payload: frame.slice(at + header, at + header + bytes),
    };
    if (kind === 2) {
      check(sliceFlags === 0 && !openSlice, "whole datum between slices");
      data.push({ ...datum, slice: undefined });
      source.next++;
    } else {
      const slice = { offset: view.getUint32(at + 12, true), total: view.getUint32(at + 16, true) };
      check(((sliceFlags & 1) !== 0) === (slice.offset === 0), "first slice");
      const last = slice.offset + bytes === slice.total;
      check(((sliceFlags & 2) !== 0) === last, "last slice");
      data.push({ ...datum, slice });
      openSlice = !last;
      if (last) source.next++;
    }
    at += header + bytes;
  }
  check(at === frame.length, "records end with the frame");
  check(records === view.getUint16(14, true), "record count");
  return {
    index: long(24),
    createdUs: long(32),
    isEnd: flags === 1,
    checksum: view.getUint32(8, true),
    tag: Buffer.from(frame.subarray(16, 24)).toString("hex"),
    data,
    ended,
    declarations,
  };
}
