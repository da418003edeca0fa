/**
 * IXS, the index server (R6): index files by (data source id, data id).
 *
 * What it promises: an acknowledged registration, update or removal is on disk; the version of a
 * key strictly rises, across updates, removal, re-registration and restarts (R6.c); an answer comes
 * from what is on disk and is the newest there. A key belongs to the public key in its file while
 * the file stands; a tombstone keeps the version, not the owner.
 *
 * Way of a change: signature checked by a job, then one write at a time per key, decided on the
 * durable record, written under compare-and-set, served and acknowledged after the flush.
 *
 * It never opens links, never looks into an overlay, and never changes an index file: peers verify
 * the source's signature over the very bytes that the source sent.
 */

import { type ErrorCode, RemoteProtocolError } from "../base/errors.ts";
import { SIGNALLING_MESSAGE_BYTES_MAX } from "../base/limits.ts";
import type { Now, StoreRecord } from "../base/machine.ts";
import { bytesEqual, toHex } from "../base/units.ts";
import { decodeIndexFile, type ReceivedIndexFile } from "../protocol/index-file.ts";
import * as r6 from "../protocol/r6.ts";
import type { RequestOf } from "../protocol/signalling.ts";
import {
  INDEX_RECORD,
  INDEX_STATES,
  IndexCatalogue,
  type IndexRecord,
  type IndexRow,
} from "./index-catalogue.ts";
import { KeyQueue } from "./key-queue.ts";
import type { Reply } from "./request-router.ts";
import { ServerMachine } from "./server-machine.ts";
import type { ServerCounters, ServerOptions } from "./server-types.ts";
import { checkedServiceKey, isSameServiceKey } from "./service-key.ts";

export const IXS_STORE_PREFIX = "ixs/";
const INDEX_PREFIX = `${IXS_STORE_PREFIX}index/`;
export const IXS_REQUEST_ID_BASE = 0x2000_0000;

export interface IxsOptions extends ServerOptions {
  /** Keys ever used, tombstones included; 6 KiB each at most: 120 MiB. Default 20,000. */
  readonly indexMax?: number;
  /** What an OMS of another process must show to end sessions; undefined: none can. */
  readonly serviceKey?: Uint8Array;
}

export type IxsCommand =
  /** An OMS of this process ended an overlay: its sessions end. Harmless when repeated. */
  { readonly type: "overlayGone"; readonly overlayId: string };

export type IxsEvent =
  | { readonly type: "indexStands"; readonly title: string; readonly version: number }
  | { readonly type: "indexGone"; readonly title: string; readonly version: number };

export interface IxsSnapshot {
  readonly ready: boolean;
  readonly indexFiles: number;
  readonly tombstones: number;
  readonly counters: ServerCounters;
}

export class Ixs extends ServerMachine<IxsSnapshot, IxsCommand, IxsEvent> {
  readonly #catalogue = new IndexCatalogue();
  readonly #queue = new KeyQueue();
  readonly #indexMax: number;
  readonly #serviceKey: Uint8Array | undefined;
  /** Keys of first registrations under way: they count towards the limit. */
  #arriving = 0;
  /** Overlays said to be gone before the records were loaded. */
  readonly #goneEarly = new Set<string>();

  constructor(options: IxsOptions) {
    super(options, IXS_STORE_PREFIX, IXS_REQUEST_ID_BASE);
    this.#indexMax = options.indexMax ?? 20_000;
    this.#serviceKey = checkedServiceKey(options.serviceKey);
    this.router.on(r6.REGISTER_INDEX, (request, reply) =>
      this.#offer(request.indexFile, "register", reply),
    );
    this.router.on(r6.UPDATE_INDEX, (request, reply) =>
      this.#offer(request.indexFile, "update", reply),
    );
    this.router.on(r6.REMOVE_INDEX, (request, reply) => this.#remove(request, reply));
    this.router.on(r6.QUERY_INDEX, (request, reply) => this.#query(request, reply));
    this.router.on(r6.LIST_INDEX, (request, reply) => {
      const { rows, more } = this.#catalogue.list(request.prefix, request.limit);
      reply.answer({ rows: rows.map(({ record }) => record), more });
    });
    this.router.on(r6.OVERLAY_GONE, (request, reply, now) =>
      this.#overlaysEnded(request, reply, now),
    );
  }

  // ------------------------------------------------------------------------------------ changes

  /** R6.a, R6.b: a signed index file that shall stand. */
  #offer(
    indexFile: Uint8Array,
    how: "register" | "update",
    reply: Reply<(typeof r6.REGISTER_INDEX)["answer"]["fields"]>,
  ): void {
    let received: ReceivedIndexFile;
    try {
      received = decodeIndexFile(indexFile);
    } catch (error) {
      if (!(error instanceof RemoteProtocolError)) throw error;
      reply.fail(error.code, error.detail ?? "");
      return;
    }
    const { file, signedBytes } = received;
    const { sourcePublicKey: publicKey, signature } = file;
    this.proven({ publicKey, bytes: signedBytes, signature }, reply, (now) => {
      const key = this.#keyOf(file.dataSourceId, file.dataId);
      this.#queue.run(
        key,
        (then) => {
          const before = this.#catalogue.get(key);
          const refusal = this.#refusal(before, indexFile, received, how);
          if (refusal === undefined) {
            const record: IndexRecord = {
              state: INDEX_STATES.stands,
              version: file.version,
              title: file.title,
              dataSourceId: file.dataSourceId,
              dataId: file.dataId,
              overlayId: file.overlayId,
              publicKey: file.sourcePublicKey,
              indexFile,
              goneUs: 0,
            };
            this.#write(key, before, record, then, (failure) => {
              if (failure === undefined) reply.answer({ version: file.version });
              else reply.fail(failure.code, failure.detail);
            });
            return;
          }
          if (refusal === "stands already") reply.answer({ version: file.version });
          else reply.fail(refusal.code, refusal.detail, refusal.more);
          this.#queue.done(key, then);
        },
        now,
      );
    });
  }

  #refusal(
    before: IndexRow | undefined,
    indexFile: Uint8Array,
    { file }: ReceivedIndexFile,
    how: "register" | "update",
  ):
    | undefined
    | "stands already"
    | { code: ErrorCode; detail: string; more?: { retryAfterMs?: number; whenUs?: number } } {
    if (before === undefined) {
      if (how === "update") return { code: "UNKNOWN_INDEX", detail: "register it first" };
      if (this.#catalogue.size + this.#arriving < this.#indexMax) return undefined;
      this.counters.overloaded++;
      return {
        code: "OVERLOADED",
        detail: `limit of ${this.#indexMax} index files`,
        more: { retryAfterMs: 60_000 },
      };
    }
    const { record } = before;
    if (record.state === INDEX_STATES.stands) {
      if (!bytesEqual(record.publicKey, file.sourcePublicKey)) {
        return { code: "NOT_OWNER", detail: "another key registered this index file" };
      }
      // The answer to the first try was lost: what stands is what is asked for.
      if (bytesEqual(record.indexFile, indexFile)) return "stands already";
    } else if (how === "update") {
      return { code: "INDEX_GONE", detail: "register it again", more: { whenUs: record.goneUs } };
    }
    if (file.version > record.version) return undefined;
    return { code: "VERSION_NOT_RISING", detail: `version ${record.version} was registered` };
  }

  /** R6.d: removal, signed by the owner. */
  #remove(
    request: RequestOf<typeof r6.REMOVE_INDEX>,
    reply: Reply<(typeof r6.REMOVE_INDEX)["answer"]["fields"]>,
  ): void {
    const { publicKey, signature } = request;
    const claim = { publicKey, bytes: r6.removeProof(request), signature };
    this.proven(claim, reply, (now) => {
      const key = this.#keyOf(request.dataSourceId, request.dataId);
      this.#queue.run(
        key,
        (then) => {
          const before = this.#catalogue.get(key);
          const done = (): void => this.#queue.done(key, then);
          if (before === undefined) {
            reply.fail("UNKNOWN_INDEX", "never registered");
            done();
          } else if (!bytesEqual(before.record.publicKey, request.publicKey)) {
            reply.fail("NOT_OWNER", "another key registered this index file");
            done();
          } else if (request.version < before.record.version) {
            reply.fail("VERSION_NOT_RISING", `version ${before.record.version} is registered`);
            done();
          } else if (before.record.state === INDEX_STATES.gone) {
            // Removed already: what the owner asks for is so.
            reply.answer({});
            done();
          } else {
            this.#bury(key, before, request.version, then, (failure) => {
              if (failure === undefined) reply.answer({});
              else reply.fail(failure.code, failure.detail);
            });
          }
        },
        now,
      );
    });
  }

  /** Replaces a record by its tombstone. */
  #bury(
    key: string,
    before: IndexRow,
    version: number,
    now: Now,
    then: (failure: { code: ErrorCode; detail: string } | undefined) => void,
  ): void {
    const record: IndexRecord = {
      ...before.record,
      state: INDEX_STATES.gone,
      version,
      indexFile: new Uint8Array(0),
      goneUs: Math.floor(now.wallUs),
    };
    this.#write(key, before, record, now, then);
  }

  /** One durable write; the catalogue follows after the flush, then `then`, then the queue. */
  #write(
    key: string,
    before: IndexRow | undefined,
    record: IndexRecord,
    now: Now,
    then: (failure: { code: ErrorCode; detail: string } | undefined) => void,
  ): void {
    if (before === undefined) this.#arriving++;
    const value = INDEX_RECORD.encode(record);
    this.commit([{ key, value, revision: before?.revision ?? 0 }], now, (result, later) => {
      if (before === undefined) this.#arriving--;
      if ("revision" in result) {
        this.#catalogue.set({ key, revision: result.revision, record });
        const type = record.state === INDEX_STATES.stands ? "indexStands" : "indexGone";
        this.report({ type, title: record.title, version: record.version });
        then(undefined);
      } else {
        then(result);
      }
      this.#queue.done(key, later);
    });
  }

  // -------------------------------------------------------------------------------------- query

  /** R6.c, R6.e: the newest that is on disk, or gone. */
  #query(
    request: RequestOf<typeof r6.QUERY_INDEX>,
    reply: Reply<(typeof r6.QUERY_INDEX)["answer"]["fields"]>,
  ): void {
    const { title, dataSourceId, dataId, overlayId } = request;
    if (title === "" && dataSourceId === "" && dataId === "" && overlayId === undefined) {
      reply.fail("MESSAGE_MALFORMED", "title, data source id and data id are all empty");
      return;
    }
    const { stand, gone, tooOld } = this.#catalogue.find(request);
    const files: Uint8Array[] = [];
    let room = SIGNALLING_MESSAGE_BYTES_MAX - 1_024;
    for (const { record } of eachOverlayFirst(stand)) {
      room -= record.indexFile.length + 8;
      if (room < 0 || files.length === r6.QUERY_FILES_MAX) break;
      files.push(record.indexFile);
    }
    if (stand.length > 0) {
      reply.answer({ files, gone: [], more: files.length < stand.length });
    } else if (gone.length > 0 && tooOld === 0) {
      reply.answer({
        files: [],
        gone: gone.slice(0, r6.QUERY_FILES_MAX).map(({ record }) => ({
          dataSourceId: record.dataSourceId,
          dataId: record.dataId,
          version: record.version,
          whenUs: record.goneUs,
        })),
        more: gone.length > r6.QUERY_FILES_MAX,
      });
    } else {
      reply.fail("UNKNOWN_INDEX", tooOld === 0 ? "" : `the newest version is ${tooOld}`);
    }
  }

  // ---------------------------------------------------------------------------------- lifecycle

  protected override take(key: string, record: StoreRecord | undefined): void {
    if (record === undefined) {
      this.#catalogue.delete(key);
      return;
    }
    if (!key.startsWith(INDEX_PREFIX)) {
      this.giveUp({ code: "STORE_CORRUPT", detail: `${key} is no record of an index server` });
      return;
    }
    try {
      const decoded = INDEX_RECORD.decode(record.value);
      this.#catalogue.set({ key, revision: record.revision, record: decoded });
    } catch (error) {
      if (!(error instanceof RemoteProtocolError)) throw error;
      this.giveUp({ code: "STORE_CORRUPT", detail: `${key}: ${error.detail ?? ""}` });
    }
  }

  protected override onLoaded(now: Now): void {
    this.serve();
    for (const overlayId of this.#goneEarly) this.#overlayGone(overlayId, now);
    this.#goneEarly.clear();
  }

  protected override onCommand({ overlayId }: IxsCommand, now: Now): void {
    if (this.ready) this.#overlayGone(overlayId, now);
    else this.#goneEarly.add(overlayId);
  }

  /** An OMS of another process says which overlays ended. */
  #overlaysEnded(
    request: RequestOf<typeof r6.OVERLAY_GONE>,
    reply: Reply<(typeof r6.OVERLAY_GONE)["answer"]["fields"]>,
    now: Now,
  ): void {
    const { overlayIds, serviceKey } = request;
    if (this.#serviceKey === undefined || !isSameServiceKey(this.#serviceKey, serviceKey)) {
      this.counters.keyRefused++;
      reply.fail("KEY_REQUIRED", serviceKey.length === 0 ? "none shown" : "another one shown");
      return;
    }
    this.router.trust(reply.linkId);
    let open = 1;
    let failure: { code: ErrorCode; detail: string } | undefined;
    const settled = (failed: typeof failure): void => {
      failure ??= failed;
      open--;
      if (open > 0) return;
      if (failure === undefined) reply.answer({});
      else reply.fail(failure.code, failure.detail);
    };
    for (const overlayId of overlayIds) {
      open += this.#overlayGone(overlayId, now, settled);
    }
    settled(undefined);
  }

  /**
   * Buries the index files of an overlay that ended; gives their number, and calls `then` once for
   * each after its write. Of a write that fails the store's failure is told; the session is then
   * still found, but its overlay is gone, which is what its peers hear from the OMS.
   */
  #overlayGone(
    overlayId: string,
    now: Now,
    then: (failure: { code: ErrorCode; detail: string } | undefined) => void = () => {},
  ): number {
    const keys = [...this.#catalogue.ofOverlay(overlayId)];
    for (const key of keys) {
      this.#queue.run(
        key,
        (later) => {
          const before = this.#catalogue.get(key);
          if (
            before === undefined ||
            before.record.state === INDEX_STATES.gone ||
            before.record.overlayId !== overlayId
          ) {
            then(undefined);
            this.#queue.done(key, later);
            return;
          }
          this.#bury(key, before, before.record.version, later, then);
        },
        now,
      );
    }
    return keys.length;
  }

  protected override onTime(): void {}

  protected override earliestMs(): number {
    return Number.POSITIVE_INFINITY;
  }

  protected override snapshot(): IxsSnapshot {
    return {
      ready: this.ready,
      indexFiles: this.#catalogue.standing,
      tombstones: this.#catalogue.size - this.#catalogue.standing,
      counters: { ...this.counters },
    };
  }

  /** Fixed length whatever the ids hold: the hash of both with their lengths. */
  #keyOf(dataSourceId: string, dataId: string): string {
    const encoder = new TextEncoder();
    const source = encoder.encode(dataSourceId);
    const data = encoder.encode(dataId);
    const both = new Uint8Array(1 + source.length + data.length);
    both[0] = source.length;
    both.set(source, 1);
    both.set(data, 1 + source.length);
    return INDEX_PREFIX + toHex(this.options.sha256(both));
  }
}

/**
 * One file of each overlay before second ones of any: an overlay with many data sources does not hide
 * another one of the same title.
 */
function eachOverlayFirst(rows: readonly IndexRow[]): IndexRow[] {
  const seen = new Set<string>();
  const isFirst = ({ record }: IndexRow): boolean => {
    if (seen.has(record.overlayId)) return false;
    seen.add(record.overlayId);
    return true;
  };
  const firsts = rows.filter(isFirst);
  const chosen = new Set(firsts);
  return [...firsts, ...rows.filter((row) => !chosen.has(row))];
}

/** An index server; `start` loads it from the store. */
export function createIxs(options: IxsOptions): Ixs {
  return new Ixs(options);
}
