/**
 * The service key as a file: 64 hex digits, for its owner only.
 *
 * A key that others can read is no secret, so such a file is refused and not put right in silence:
 * whoever could read it may have it already. A new file appears whole or not at all, and never in
 * the place of another: of two processes that make it at once, one makes it and both read it.
 */

import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { OperationError } from "../base/errors.ts";
import { fromHex, toHex } from "../base/units.ts";
import { systemEntropy } from "./node-identity.ts";

export const SERVICE_KEY_FILE = "service.key";
const SERVICE_KEY_BYTES = 32;
const OWNER_ONLY = 0o600;
const OTHERS = 0o077;
/** The digits and a line end; more is another file. */
const FILE_BYTES_MAX = 2 * SERVICE_KEY_BYTES + 2;

export function newServiceKey(): Uint8Array {
  return systemEntropy.bytes(SERVICE_KEY_BYTES);
}

/**
 * Reads the key in `path`: 32 bytes, the caller's. Throws OperationError FILE_NOT_FOUND, or
 * KEY_FILE_UNUSABLE when others may read it or it holds no key. `isCopy`: of whoever shows the key to a
 * server, which has it from there: a new one would be of no use.
 */
export function readServiceKey(path: string, isCopy = false): Uint8Array {
  let descriptor: number;
  try {
    // A named pipe would hold up the start until somebody writes.
    descriptor = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (cause) {
    throw new OperationError("FILE_NOT_FOUND", {
      detail: `${path}, the service key: ${codeOf(cause)}; name its file with --service-key-file`,
      cause,
    });
  }
  try {
    return keyIn(descriptor, path, isCopy);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * The key of a data directory, made when it has none. Throws as readServiceKey, and
 * OperationError DATA_DIR_UNUSABLE when it can not be written.
 */
export function serviceKeyOf(dataDir: string): Uint8Array {
  const path = join(dataDir, SERVICE_KEY_FILE);
  try {
    return readServiceKey(path);
  } catch (error) {
    const cause = error instanceof OperationError ? error.cause : error;
    if (codeOf(cause) !== "ENOENT") throw error;
  }
  try {
    createKey(path);
  } catch (cause) {
    // Another process made it meanwhile: that one is the key.
    if (codeOf(cause) !== "EEXIST") {
      throw new OperationError("DATA_DIR_UNUSABLE", { detail: `${path}: ${codeOf(cause)}`, cause });
    }
  }
  return readServiceKey(path);
}

function keyIn(descriptor: number, path: string, isCopy: boolean): Uint8Array {
  const unusable = (why: string): OperationError =>
    new OperationError("KEY_FILE_UNUSABLE", { detail: `${path}: ${why}` });
  const stat = fstatSync(descriptor);
  if (!stat.isFile()) throw unusable("it is no file; name a file with 64 hex digits");
  // Windows has no such bits; there the rights of the directory count.
  if (process.platform !== "win32" && (stat.mode & OTHERS) !== 0) {
    const mode = (stat.mode & 0o777).toString(8).padStart(3, "0");
    const cure = isCopy
      ? "chmod 600 it; if somebody read it, the server needs a new key, to be copied again"
      : "if nobody read it, chmod 600 it, else remove it and start again for a new key";
    throw unusable(`others have access (mode ${mode}); ${cure}`);
  }
  const content = Buffer.alloc(FILE_BYTES_MAX + 1);
  const text = content.toString("latin1", 0, readSync(descriptor, content, 0, content.length, 0));
  const digits = /^([0-9a-f]{64})\r?\n?$/i.exec(text)?.[1];
  const key = digits === undefined ? undefined : fromHex(digits.toLowerCase());
  if (key === undefined) {
    const cure = isCopy
      ? "copy the server's service.key again"
      : "copy the key again, or remove it and start again for a new one";
    throw unusable(`it does not hold 64 hex digits; ${cure}`);
  }
  return key;
}

/** Throws the error of the file system; EEXIST when the file is there. */
function createKey(path: string): void {
  const draft = `${path}.${toHex(systemEntropy.bytes(8))}`;
  const descriptor = openSync(draft, "wx", OWNER_ONLY);
  try {
    try {
      writeSync(descriptor, `${toHex(newServiceKey())}\n`);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    linkSync(draft, path);
  } finally {
    unlinkSync(draft);
  }
  syncDirectory(dirname(path));
}

/** A key that was copied to another machine must not be another one after a power failure. */
function syncDirectory(directory: string): void {
  // Windows flushes no directories, and keeps names in its journal.
  if (process.platform === "win32") return;
  const descriptor = openSync(directory, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}
