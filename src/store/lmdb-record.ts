/**
 * A record as it lies on disk. The checksum covers the key too: a value under the wrong key is as
 * bad as a wrong value.
 *
 *     0   u8   format version
 *     1   3    reserved: zero
 *     4   u32  CRC-32 of the key (UTF-16, big-endian), then of bytes 8 to the end
 *     8   u64  revision
 *     16       value
 */

import { crc32 } from "node:zlib";
import type { StoreRecord } from "../base/machine.ts";

export const RECORD_FORMAT = 1;
const HEADER_BYTES = 16;

/** Bytes that order as the text does by code unit. */
export function encodeKey(key: string): Buffer {
  return Buffer.from(key, "utf16le").swap16();
}

export function decodeKey(bytes: Uint8Array): string {
  return Buffer.from(bytes.subarray(0, bytes.length & ~1))
    .swap16()
    .toString("utf16le");
}

export function encodeRecord(keyBytes: Buffer, value: Uint8Array, revision: number): Buffer {
  const record = Buffer.alloc(HEADER_BYTES + value.length);
  record[0] = RECORD_FORMAT;
  record.writeBigUInt64LE(BigInt(revision), 8);
  record.set(value, HEADER_BYTES);
  record.writeUInt32LE(checksum(keyBytes, record), 4);
  return record;
}

/** What is wrong with the record, as text, or the record. `value` is a copy. */
export function decodeRecord(keyBytes: Buffer, record: Buffer): StoreRecord | string {
  if (record.length < HEADER_BYTES) return `only ${record.length} bytes`;
  if (record[0] !== RECORD_FORMAT) return `format ${record[0]}, this build reads ${RECORD_FORMAT}`;
  if (record.readUInt32LE(4) !== checksum(keyBytes, record)) return "wrong checksum";
  const revision = Number(record.readBigUInt64LE(8));
  return {
    key: decodeKey(keyBytes),
    value: new Uint8Array(record.subarray(HEADER_BYTES)),
    revision,
  };
}

function checksum(keyBytes: Buffer, record: Buffer): number {
  return crc32(record.subarray(8), crc32(keyBytes));
}
