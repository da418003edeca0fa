/**
 * Frames, proofs and checksums as docs/protocol.md describes them, and nothing else: no line of
 * src/ is used here, so that what works with this works with the page alone.
 */

import { createHash, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import { readMsgpack } from "../support/msgpack-reader.ts";
import { type MsgpackInput, writeMsgpack } from "../support/msgpack-writer.ts";

export const TYPES = {
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
export type TypeName = keyof typeof TYPES;

export interface RawFrame {
  readonly type: number;
  /** With the frame header. */
  readonly bytes: Buffer;
}

export function frame(type: TypeName, body: Uint8Array): Buffer {
  const header = Buffer.of(0, 0, 0, 0, 0xb6, 1, TYPES[type], 0);
  header.writeUInt32LE(8 + body.length, 0);
  return Buffer.concat([header, body]);
}

export const message = (type: TypeName, fields: readonly MsgpackInput[]): Buffer =>
  frame(type, writeMsgpack(fields));

export function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

export type Range = readonly [first: number, count: number];

export function rangesFrame(
  type: "HAVE" | "GET" | "GONE" | "CANCEL",
  tag: Uint8Array,
  start: number,
  ranges: readonly Range[],
): Buffer {
  const list = ranges.flatMap(([first, count]) => [u64(first), u32(count)]);
  return frame(type, Buffer.concat([tag, u64(start), u32(ranges.length), u32(0), ...list]));
}

export function buffermapFrame(
  tag: Uint8Array,
  start: number,
  run: number,
  bits: Uint8Array,
): Buffer {
  return frame("BUFFERMAP", Buffer.concat([tag, u64(start), u32(run), u32(bits.length), bits]));
}

export const creditFrame = (tag: Uint8Array, limit: number): Buffer =>
  frame("CREDIT", Buffer.concat([tag, u64(limit)]));

/** The ranges of a HAVE, GET, GONE or CANCEL frame. */
export function readRanges({ bytes }: RawFrame): { start: number; ranges: Range[] } {
  const ranges: Range[] = [];
  for (let at = 32; at < bytes.length; at += 12) {
    ranges.push([Number(bytes.readBigUInt64LE(at)), bytes.readUInt32LE(at + 8)]);
  }
  if (ranges.length !== bytes.readUInt32LE(24)) throw new Error("number of ranges");
  return { start: Number(bytes.readBigUInt64LE(16)), ranges };
}

/** Every index that a BUFFERMAP advertises. */
export function readBuffermap({ bytes }: RawFrame): { start: number; held: number[] } {
  const start = Number(bytes.readBigUInt64LE(16));
  const run = bytes.readUInt32LE(24);
  const held = Array.from({ length: run }, (_, i) => start + i);
  for (let bit = 0; bit < 8 * bytes.readUInt32LE(28); bit++) {
    if (((bytes[32 + (bit >> 3)] as number) >> (bit & 7)) & 1) held.push(start + run + 1 + bit);
  }
  return { start, held };
}

export const readFields = ({ bytes }: RawFrame): unknown[] =>
  readMsgpack(bytes.subarray(8)) as unknown[];

/** Takes whole frames off the front of `bytes`; gives back the rest. */
export function splitFrames(bytes: Buffer, take: (frame: RawFrame) => void): Buffer {
  let rest = bytes;
  while (rest.length >= 8 && rest.length >= rest.readUInt32LE(0)) {
    const length = rest.readUInt32LE(0);
    if (length < 8 || rest[4] !== 0xb6 || rest[5] !== 1 || rest[7] !== 0) {
      throw new Error("frame header");
    }
    take({ type: rest[6] as number, bytes: Buffer.from(rest.subarray(0, length)) });
    rest = rest.subarray(length);
  }
  return rest;
}

// --------------------------------------------------------------------------- hashes and checksums

export const sha256 = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();

/** CRC32C, bit by bit: polynomial 0x82f63b78 reflected, first and last inverted. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0);
  }
  return ~crc >>> 0;
}

export const overlayTag = (overlayId: Uint8Array, epoch: number): Buffer =>
  sha256(Buffer.concat([overlayId, u32(epoch)])).subarray(0, 8);

// ------------------------------------------------------------------------------------------- keys

export interface Key {
  readonly publicKey: Buffer;
  readonly peerId: Buffer;
  sign(bytes: Uint8Array): Buffer;
}

const PKCS8_HEAD = Buffer.from("302e020100300506032b657004220420", "hex");
const SPKI_HEAD = Buffer.from("302a300506032b6570032100", "hex");

export function keyOf(seed: Uint8Array): Key {
  const der = Buffer.concat([PKCS8_HEAD, seed]);
  const secret = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const publicKey = createPublicKey(secret).export({ format: "der", type: "spki" }).subarray(12);
  return {
    publicKey,
    peerId: sha256(publicKey),
    sign: (bytes) => sign(null, bytes, secret),
  };
}

export function isSigned(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  const der = Buffer.concat([SPKI_HEAD, publicKey]);
  const key = createPublicKey({ key: der, format: "der", type: "spki" });
  return verify(null, bytes, key, signature);
}

// ------------------------------------------------------------------------------------------ HELLO

export interface HelloSide {
  readonly nonce: Uint8Array;
  readonly peerId: Uint8Array;
}

/** What the signature of HELLO step 1 or 2 covers; both links are unbound here. */
export function helloProof(
  step: 1 | 2,
  overlayId: Uint8Array,
  epoch: number,
  opener: HelloSide,
  answerer: HelloSide,
): Buffer {
  return Buffer.concat([
    Buffer.from("mp2p-r10-hello-1"),
    Buffer.of(step),
    overlayId,
    u32(epoch),
    opener.nonce,
    answerer.nonce,
    opener.peerId,
    answerer.peerId,
    Buffer.of(0),
    Buffer.of(0),
  ]);
}

export interface HelloFields {
  readonly step: 0 | 1 | 2;
  readonly overlayId: Uint8Array;
  readonly epoch: number;
  readonly role: number;
  readonly publicKey: Uint8Array;
  readonly nonce: Uint8Array;
  readonly signature: Uint8Array;
}

export function helloFrame(hello: HelloFields, agent = "protocol-page/1"): Buffer {
  const none = Buffer.alloc(0);
  return message("HELLO", [
    hello.step,
    1,
    1,
    hello.overlayId,
    hello.epoch,
    hello.role,
    hello.publicKey,
    hello.nonce,
    none,
    none,
    [],
    agent,
    hello.signature,
  ]);
}

export function readHello(raw: RawFrame): HelloFields {
  const fields = readFields(raw);
  return {
    step: fields[0] as 0 | 1 | 2,
    overlayId: fields[3] as Uint8Array,
    epoch: fields[4] as number,
    role: fields[5] as number,
    publicKey: fields[6] as Uint8Array,
    nonce: fields[7] as Uint8Array,
    signature: fields[12] as Uint8Array,
  };
}

// ------------------------------------------------------------------------------------- index file

const INDEX_FIELDS = [
  "formatVersion",
  "version",
  "title",
  "omsAddress",
  "overlayId",
  "sessionEpoch",
  "dataSourceId",
  "dataId",
  "fragmentBytes",
  "description",
  "integrity",
  "delivery",
  "maxLagMs",
  "substreams",
  "sourcePublicKey",
  "createdUs",
] as const;
export type IndexFile = Readonly<Record<(typeof INDEX_FIELDS)[number], unknown>> & {
  readonly overlayId: Uint8Array;
  readonly sourcePublicKey: Uint8Array;
};

/** Reads an index file; throws unless its source peer signed it. */
export function readIndexFile(encoded: Uint8Array): IndexFile {
  const [body, signature] = readMsgpack(encoded) as [Uint8Array, Uint8Array];
  const values = readMsgpack(body) as unknown[];
  const file = Object.fromEntries(INDEX_FIELDS.map((name, i) => [name, values[i]])) as IndexFile;
  const signed = Buffer.concat([Buffer.from("mp2p-index-file-1"), body]);
  if (!isSigned(file.sourcePublicKey, signed, signature)) throw new Error("index file unsigned");
  return file;
}
