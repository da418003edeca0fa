/**
 * The durable store: one LMDB environment in a directory of its own.
 *
 * Transactions of one turn of the event loop share one commit, made on this thread: it takes as
 * long as the disk takes to flush. (The background commits of `lmdb` report a failed one by an
 * unhandled rejection, which would end the process.)
 *
 * A transaction is answered after its commit was flushed; what was not answered may or may not be
 * there after a crash, whole or not at all. Every record carries a format version and a checksum,
 * all are checked at the start, and each again when it is read. A disk that is full refuses writes
 * until there is space; after an I/O error, when nobody knows what reached the disk, writes are
 * refused until the process starts anew. Reads go on in both cases.
 */

import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, statfsSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join, resolve } from "node:path";
import type { Database, RootDatabase } from "lmdb";
import { type ErrorCode, OperationError } from "../base/errors.ts";
import type { StoreOperation, StoreRecord, StoreResult } from "../base/machine.ts";
import { lmdbFileFault } from "./lmdb-check.ts";
import { type DirectoryLock, lockDirectory } from "./lmdb-lock.ts";
import { decodeKey, decodeRecord, encodeKey, encodeRecord } from "./lmdb-record.ts";
import { operationFault, type Store } from "./store.ts";

const FILE_NAME = "store.mdb";
/** Address space, not disk: the file grows as it is used. What does not fit is refused as full. */
const MAP_BYTES = 4 * 1024 * 1024 * 1024;
const MDB_MAP_FULL = -30792;
/** Below this a failed write is taken for a full disk: a commit writes dozens of pages. */
const LOW_SPACE_BYTES = 1024 * 1024;
const REVISION_KEY = encodeKey("revision");
const NO_VALUE = new Uint8Array(0);
/** How long a full disk is left alone between two write tests. */
const PROBE_INTERVAL_MS = 1_000;

type Records = Database<Buffer, Buffer>;
type Transaction = Extract<StoreOperation, { kind: "transaction" }>;

/**
 * Opens or creates the store in `directory`. Rejects with OperationError MODULE_MISSING,
 * DATA_DIR_IN_USE, DATA_DIR_UNUSABLE, STORE_FULL or STORE_CORRUPT (which names the key).
 */
export async function openLmdbStore(directory: string): Promise<LmdbStore> {
  let lmdb: typeof import("lmdb");
  try {
    lmdb = await import("lmdb");
  } catch (cause) {
    throw new OperationError("MODULE_MISSING", { detail: "lmdb", cause });
  }
  let created: string | undefined;
  try {
    created = makeDirectories(resolve(directory));
  } catch (cause) {
    throw new OperationError("DATA_DIR_UNUSABLE", {
      detail: `${directory}: ${textOf(cause)}`,
      cause,
    });
  }
  const lock = await lockDirectory(directory);
  let root: RootDatabase<Buffer, Buffer> | undefined;
  try {
    checkFile(join(directory, FILE_NAME));
    root = lmdb.open<Buffer, Buffer>({
      path: join(directory, FILE_NAME),
      encoding: "binary",
      keyEncoding: "binary",
      mapSize: MAP_BYTES,
      maxDbs: 4,
      // A commit that is done is on the disk: not some time later.
      overlappingSync: false,
      // One process holds the directory; readers of crashed ones leave no trace.
      maxReaders: 16,
    });
    const records: Records = root.openDB("records", { encoding: "binary", keyEncoding: "binary" });
    const meta: Records = root.openDB("meta", { encoding: "binary", keyEncoding: "binary" });
    verify(records, meta);
    syncNames(directory, created);
    return new LmdbStore(root, records, meta, lock, directory);
  } catch (error) {
    await root?.close().catch(() => undefined);
    await lock.release();
    if (error instanceof OperationError) throw error;
    const code = startFailure(error);
    throw new OperationError(code, { detail: `${directory}: ${textOf(error)}`, cause: error });
  }
}

/** LMDB crashes on a damaged file, or finds less in it: it is checked before LMDB maps it. */
function checkFile(path: string): void {
  const fault = lmdbFileFault(path);
  if (fault !== undefined) {
    throw new OperationError("STORE_CORRUPT", { detail: `${path} is damaged: ${fault}` });
  }
}

/**
 * Flushes the names of a new file and of new directories above it, `created` the topmost: without
 * that a power failure may lose the file with all that was flushed to it.
 */
function syncNames(directory: string, created: string | undefined): void {
  // Windows flushes no directories, and keeps names in its journal.
  if (process.platform === "win32") return;
  const last = created === undefined ? resolve(directory) : dirname(resolve(created));
  for (let path = resolve(directory); ; path = dirname(path)) {
    const descriptor = openSync(path, "r");
    try {
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    if (path === last || path === dirname(path)) return;
  }
}

/** Reads every record. */
function verify(records: Records, meta: Records): void {
  let highest = 0;
  for (const { key, value } of records.getRange()) {
    const record = decodeRecord(key, value);
    if (typeof record === "string") throw corrupt(key, record);
    highest = Math.max(highest, record.revision);
  }
  if (revisionOf(meta) < highest) throw corrupt(REVISION_KEY, "below that of a record");
}

/** Of the last committed transaction. */
function revisionOf(meta: Records): number {
  const stored = meta.get(REVISION_KEY);
  if (stored === undefined) return 0;
  const record = decodeRecord(REVISION_KEY, stored);
  if (typeof record === "string") throw corrupt(REVISION_KEY, record);
  return record.revision;
}

export class LmdbStore implements Store {
  readonly #root: RootDatabase<Buffer, Buffer>;
  readonly #records: Records;
  readonly #meta: Records;
  readonly #lock: DirectoryLock;
  readonly #directory: string;
  #waiting: { operation: Transaction; resolve: (result: StoreResult) => void }[] = [];
  #writeFailure: string | undefined;
  /** What reached the disk is unknown: no more writes by this process. */
  #poisoned = false;
  #closing: Promise<void> | undefined;
  #probe: NodeJS.Timeout | undefined;

  constructor(
    root: RootDatabase<Buffer, Buffer>,
    records: Records,
    meta: Records,
    lock: DirectoryLock,
    directory: string,
  ) {
    this.#root = root;
    this.#records = records;
    this.#meta = meta;
    this.#lock = lock;
    this.#directory = directory;
  }

  get writeFailure(): string | undefined {
    return this.#writeFailure;
  }

  async execute(operation: StoreOperation): Promise<StoreResult> {
    if (this.#closing !== undefined) return failed("CLOSED", "the store is closed");
    const fault = operationFault(operation);
    if (fault !== undefined) return failed("USAGE", fault);
    try {
      switch (operation.kind) {
        case "read":
          return { kind: "read", record: this.#read(encodeKey(operation.key)) };
        case "range":
          return { kind: "range", records: this.#range(operation) };
        case "transaction":
          return await new Promise((settle) => {
            if (this.#waiting.length === 0) setImmediate(this.#commit);
            this.#waiting.push({ operation, resolve: settle });
          });
      }
    } catch (error) {
      if (error instanceof OperationError) return failed(error.code, error.detail ?? "");
      return failed("INTERNAL", textOf(error));
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    clearTimeout(this.#probe);
    if (this.#waiting.length > 0) this.#commit();
    try {
      await this.#root.close();
    } finally {
      await this.#lock.release();
    }
  }

  #read(key: Buffer): StoreRecord | undefined {
    const bytes = this.#records.get(key);
    if (bytes === undefined) return undefined;
    const record = decodeRecord(key, bytes);
    if (typeof record === "string") throw corrupt(key, record);
    return record;
  }

  #range(operation: Extract<StoreOperation, { kind: "range" }>): StoreRecord[] {
    const { from, to, limit } = operation;
    const found: StoreRecord[] = [];
    if (from >= to) return found;
    const bounds = { start: encodeKey(from), end: encodeKey(to), limit };
    for (const { key, value } of this.#records.getRange(bounds)) {
      const record = decodeRecord(key, value);
      if (typeof record === "string") throw corrupt(key, record);
      found.push(record);
    }
    return found;
  }

  /** One commit for all that waits. */
  readonly #commit = (): void => {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    let results: StoreResult[];
    try {
      results = this.#poisoned
        ? waiting.map(() => failed("STORE_FULL", this.#writeFailure ?? ""))
        : this.#root.transactionSync(() => waiting.map(({ operation }) => this.#apply(operation)));
      if (results.some((each) => each.kind === "transaction" && each.committed)) {
        this.#writeFailure = undefined;
      }
    } catch (error) {
      this.#writeFailure = textOf(error);
      // Out of space: nothing was committed and the next try may succeed. Anything else: who knows.
      this.#poisoned = !this.#isFull(error);
      if (!this.#poisoned) this.#probeLater();
      results = waiting.map(() => failed("STORE_FULL", textOf(error)));
    }
    for (const [i, { resolve }] of waiting.entries()) {
      resolve(results[i] ?? failed("INTERNAL", "no result"));
    }
  };

  /**
   * While writes are refused nobody may ask for one any more (a server that is not ready gets no
   * traffic), so a write test of our own finds out when there is space again.
   */
  #probeLater(): void {
    this.#probe ??= setTimeout(() => {
      this.#probe = undefined;
      if (this.#writeFailure === undefined || this.#poisoned || this.#closing !== undefined) return;
      try {
        this.#root.transactionSync(() => {
          const revision = revisionOf(this.#meta);
          this.#meta.putSync(REVISION_KEY, encodeRecord(REVISION_KEY, NO_VALUE, revision));
        });
        this.#writeFailure = undefined;
      } catch (error) {
        this.#writeFailure = textOf(error);
        this.#poisoned = !this.#isFull(error);
        if (!this.#poisoned) this.#probeLater();
      }
    }, PROBE_INTERVAL_MS).unref();
  }

  /** Within the write transaction: what it reads includes what it wrote before. */
  #apply(operation: Transaction): StoreResult {
    try {
      const before = revisionOf(this.#meta);
      for (const { key, revision } of operation.conditions) {
        if ((this.#read(encodeKey(key))?.revision ?? 0) !== revision) {
          return { kind: "transaction", committed: false, revision: before };
        }
      }
      const revision = before + 1;
      for (const { key, value } of operation.writes) {
        const keyBytes = encodeKey(key);
        if (value === undefined) this.#records.removeSync(keyBytes);
        else this.#records.putSync(keyBytes, encodeRecord(keyBytes, value, revision));
      }
      this.#meta.putSync(REVISION_KEY, encodeRecord(REVISION_KEY, NO_VALUE, revision));
      return { kind: "transaction", committed: true, revision };
    } catch (error) {
      // A damaged record is met before anything is written; other failures end the whole commit.
      if (error instanceof OperationError) return failed(error.code, error.detail ?? "");
      throw error;
    }
  }

  /** LMDB reports the short write of a disk that runs full as an I/O error. */
  #isFull(error: unknown): boolean {
    if (isFull(error)) return true;
    const { bavail, bsize } = statfsSync(this.#directory);
    return bavail * bsize < LOW_SPACE_BYTES;
  }
}

function corrupt(keyBytes: Uint8Array, what: string): OperationError {
  const detail = `record ${JSON.stringify(decodeKey(keyBytes))}: ${what}`;
  return new OperationError("STORE_CORRUPT", { detail });
}

function failed(code: ErrorCode, detail: string): StoreResult {
  return { kind: "error", code, detail };
}

function startFailure(error: unknown): ErrorCode {
  if (isFull(error)) return "STORE_FULL";
  return /MDB_(CORRUPTED|INVALID|PAGE_NOTFOUND|VERSION_MISMATCH|PANIC)/.test(textOf(error))
    ? "STORE_CORRUPT"
    : "DATA_DIR_UNUSABLE";
}

function isFull(error: unknown): boolean {
  const code = (error as { readonly code?: unknown }).code;
  if (code === constants.errno.ENOSPC || code === constants.errno.EDQUOT) return true;
  if (code === MDB_MAP_FULL) return true;
  return /ENOSPC|EDQUOT|no space left|quota exceeded/i.test(textOf(error));
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Makes `directory` and what leads to it; returns the uppermost one that was made. Step by step:
 * mkdir's own recursion never ends where a file system refuses with ENOENT, as /proc does.
 */
function makeDirectories(directory: string): string | undefined {
  const missing: string[] = [];
  for (let each = directory; !existsSync(each); each = dirname(each)) missing.unshift(each);
  for (const each of missing) mkdirSync(each, { mode: 0o700 });
  return missing[0];
}
