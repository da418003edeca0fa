/**
 * What the numbers of a file's data go by: the n-th datum has number n in every run, as long as it is
 * the same file, taken apart alike. So peers that had some of it need not take them for new ones.
 */

import { createHash } from "node:crypto";
import { type FileHandle, open, stat } from "node:fs/promises";
import { KIB } from "../base/units.ts";
import type { DataFormat } from "../intake/formats.ts";

/** A file is looked at in so many places, its beginning and its end among them. */
const PLACES = 16;
const PLACE_BYTES = 64 * KIB;

/**
 * A number of 1 to 2^32 - 1 for the file as it is now: of its size, its last change, what is in it (of
 * a large one: in places), and how it is taken apart. Undefined for what is no file, e.g. a pipe,
 * which is not opened.
 */
export async function fileNumbering(
  path: string,
  format: DataFormat,
  rawBytes: number,
): Promise<number | undefined> {
  if (!(await stat(path)).isFile()) return undefined;
  const file = await open(path, "r");
  try {
    const { size, mtimeNs } = await file.stat({ bigint: true });
    const hash = createHash("sha256");
    const pieceBytes = format === "raw" ? rawBytes : 0;
    hash.update(JSON.stringify([format, pieceBytes, `${size}`, `${mtimeNs}`]));
    for (const at of placesOf(Number(size))) hash.update(await readAt(file, at));
    return hash.digest().readUInt32BE(0) || 1;
  } finally {
    await file.close();
  }
}

function placesOf(size: number): number[] {
  const last = Math.max(0, size - PLACE_BYTES);
  if (size <= PLACES * PLACE_BYTES) {
    return Array.from({ length: Math.ceil(size / PLACE_BYTES) }, (_, i) => i * PLACE_BYTES);
  }
  return Array.from({ length: PLACES }, (_, i) => Math.floor((last * i) / (PLACES - 1)));
}

async function readAt(file: FileHandle, position: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(PLACE_BYTES);
  let filled = 0;
  while (filled < PLACE_BYTES) {
    const left = PLACE_BYTES - filled;
    const { bytesRead } = await file.read(bytes, filled, left, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return bytes.subarray(0, filled);
}
