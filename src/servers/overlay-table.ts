/**
 * The OMS's overlays: those that stand, with their leases, and the tombstones of those that ended.
 *
 * Every change of a record is one durable write, one at a time per overlay, and shows here only
 * after its flush. An overlay whose lease ended is gone to everybody from that moment on, even
 * while its tombstone can not be written; the write is then tried again.
 *
 * Knows nothing of requests, members' rights or the PAMS.
 */

import type { ErrorCode } from "../base/errors.ts";
import type { Now } from "../base/machine.ts";
import { KeyQueue } from "./key-queue.ts";
import { LeaseTable } from "./lease-table.ts";
import { MemberTable } from "./member-table.ts";
import { OVERLAY_RECORD, OVERLAY_STATES, type OverlayRecord } from "./overlay-record.ts";
import type { StoreFailure, Write } from "./server-machine.ts";

/** After a failed write of an overlay's end: when to try again. */
const RETRY_MS = 1_000;

export interface OverlayRow {
  readonly key: string;
  revision: number;
  record: OverlayRecord;
  /** Peer id of the source peer that created it. */
  readonly ownerId: string;
  readonly members: MemberTable;
  /** Its end is being written: to everybody it is gone. */
  ending: boolean;
}

export interface Tombstone {
  readonly revision: number;
  readonly record: OverlayRecord;
}

export type EndReason = "removed" | "expired";

/** What an overlay id means at this moment. */
export type Standing =
  | { readonly kind: "stands"; readonly row: OverlayRow }
  | { readonly kind: "gone"; readonly detail: string; readonly whenUs: number }
  | { readonly kind: "unknown" };

export interface OverlayTableHost {
  commit(
    writes: readonly Write[],
    now: Now,
    then: (result: { readonly revision: number } | StoreFailure, now: Now) => void,
  ): void;
  ownerIdOf(record: OverlayRecord): string;
  /** A row came to stand: created, or loaded. */
  stood(row: OverlayRow, now: Now): void;
  /** A row that stood is forgotten. */
  fell(row: OverlayRow, now: Now): void;
  ended(record: OverlayRecord, why: EndReason): void;
}

type Failure = { readonly code: ErrorCode; readonly detail: string } | undefined;

export class OverlayTable {
  readonly #rows = new Map<string, OverlayRow>();
  /** Oldest first. */
  readonly #gone = new Map<string, Tombstone>();
  readonly #leases = new LeaseTable();
  readonly #queue = new KeyQueue();
  readonly #host: OverlayTableHost;
  readonly #keyPrefix: string;
  readonly #tombstonesMax: number;
  #creating = 0;

  constructor(host: OverlayTableHost, keyPrefix: string, tombstonesMax: number) {
    this.#host = host;
    this.#keyPrefix = keyPrefix;
    this.#tombstonesMax = tombstonesMax;
  }

  /** Overlays that stand or are being created. */
  get size(): number {
    return this.#rows.size + this.#creating;
  }

  get tombstones(): number {
    return this.#gone.size;
  }

  /** Ids of the overlays that ended, oldest first. */
  goneIds(): string[] {
    return [...this.#gone.keys()];
  }

  ids(): IterableIterator<string> {
    return this.#rows.keys();
  }

  rows(): IterableIterator<OverlayRow> {
    return this.#rows.values();
  }

  /** The row of an overlay that has not ended, whatever its lease says. */
  row(overlayId: string): OverlayRow | undefined {
    return this.#rows.get(overlayId);
  }

  /** The row of an overlay that is not about to end. */
  standing(overlayId: string): OverlayRow | undefined {
    const row = this.#rows.get(overlayId);
    return row?.ending === true ? undefined : row;
  }

  look(overlayId: string, now: Now): Standing {
    const row = this.#rows.get(overlayId);
    if (row !== undefined && !row.ending && this.#leases.holds(overlayId, now.monoMs)) {
      return { kind: "stands", row };
    }
    const gone = this.#gone.get(overlayId);
    if (gone !== undefined) {
      const { state, goneUs } = gone.record;
      const detail = state === OVERLAY_STATES.removed ? "removed" : "expired";
      return { kind: "gone", detail, whenUs: goneUs };
    }
    if (row === undefined) return { kind: "unknown" };
    return { kind: "gone", detail: "ending", whenUs: Math.floor(now.wallUs) };
  }

  /** Runs `work` after the writes under way on this overlay; it calls `done` exactly once. */
  inTurn(overlayId: string, now: Now, work: (now: Now, done: (now: Now) => void) => void): void {
    const key = this.#keyPrefix + overlayId;
    this.#queue.run(key, (then) => work(then, (later) => this.#queue.done(key, later)), now);
  }

  create(
    record: OverlayRecord,
    now: Now,
    then: (result: OverlayRow | StoreFailure, now: Now) => void,
  ): void {
    const key = this.#keyPrefix + record.overlayId;
    const value = OVERLAY_RECORD.encode(record);
    this.#creating++;
    this.#host.commit([{ key, value, revision: 0 }], now, (result, later) => {
      this.#creating--;
      if ("revision" in result) then(this.#stand(key, result.revision, record, later), later);
      else then(result, later);
    });
  }

  /** Takes an overlay into memory, its lease at full length. */
  #stand(key: string, revision: number, record: OverlayRecord, now: Now): OverlayRow {
    const ownerId = this.#host.ownerIdOf(record);
    const row = { key, revision, record, ownerId, members: new MemberTable(), ending: false };
    this.#rows.set(record.overlayId, row);
    this.renew(row, now);
    this.#host.stood(row, now);
    return row;
  }

  /** R5.d: the lease runs at full length again. */
  renew(row: OverlayRow, now: Now): void {
    this.#leases.grant(row.record.overlayId, row.record.leaseMs, now.monoMs);
  }

  /** Writes a changed record of a row that stands. In turn only. */
  change(
    row: OverlayRow,
    record: OverlayRecord,
    now: Now,
    then: (failure: Failure, now: Now) => void,
  ): void {
    const value = OVERLAY_RECORD.encode(record);
    this.#host.commit([{ key: row.key, value, revision: row.revision }], now, (result, later) => {
      if ("revision" in result) {
        row.record = record;
        row.revision = result.revision;
        then(undefined, later);
      } else {
        then(result, later);
      }
    });
  }

  /** Writes the tombstone; the overlay leaves memory after the flush. In turn only. */
  end(row: OverlayRow, why: EndReason, now: Now, then: (failure: Failure, now: Now) => void): void {
    const { overlayId } = row.record;
    const goneUs = Math.floor(now.wallUs);
    const record = { ...row.record, state: OVERLAY_STATES[why], goneUs };
    const writes: Write[] = [
      { key: row.key, value: OVERLAY_RECORD.encode(record), revision: row.revision },
    ];
    row.ending = true;
    const [oldest] = this.#gone.size >= this.#tombstonesMax ? this.#gone : [];
    if (oldest !== undefined) {
      const [id, tombstone] = oldest;
      writes.push({ key: this.#keyPrefix + id, value: undefined, revision: tombstone.revision });
      // Out of memory first, so that an end under way beside this one takes the next.
      this.#gone.delete(id);
    }
    this.#host.commit(writes, now, (result, later) => {
      if (!("revision" in result)) {
        row.ending = false;
        then(result, later);
        return;
      }
      this.#fall(row, later);
      this.#gone.set(overlayId, { revision: result.revision, record });
      this.#host.ended(record, why);
      then(undefined, later);
    });
  }

  #fall(row: OverlayRow, now: Now): void {
    this.#rows.delete(row.record.overlayId);
    this.#leases.drop(row.record.overlayId);
    this.#host.fell(row, now);
  }

  /** Takes what the store holds: while loading, or after a refused write. */
  take(overlayId: string, found: Tombstone | undefined, now: Now): void {
    const row = this.#rows.get(overlayId);
    if (found?.record.state === OVERLAY_STATES.stands) {
      if (row === undefined) {
        this.#stand(this.#keyPrefix + overlayId, found.revision, found.record, now);
      } else {
        row.record = found.record;
        row.revision = found.revision;
      }
      return;
    }
    if (row !== undefined) this.#fall(row, now);
    this.#gone.delete(overlayId);
    if (found !== undefined) this.#gone.set(overlayId, found);
  }

  /** All was loaded: tombstones in order of age, every lease at full length from now on. */
  loaded(now: Now): void {
    const oldestFirst = [...this.#gone].sort(([, a], [, b]) => a.record.goneUs - b.record.goneUs);
    this.#gone.clear();
    for (const [id, tombstone] of oldestFirst) this.#gone.set(id, tombstone);
    for (const row of this.#rows.values()) this.renew(row, now);
  }

  /** R5.c: what was not refreshed in time ends. */
  onTime(now: Now): void {
    for (;;) {
      const overlayId = this.#leases.takeEnded(now.monoMs);
      if (overlayId === undefined) return;
      this.#expire(overlayId, now);
    }
  }

  #expire(overlayId: string, now: Now): void {
    this.inTurn(overlayId, now, (then, done) => {
      const row = this.#rows.get(overlayId);
      // Ended meanwhile, by the write this one waited for.
      if (row === undefined || this.#leases.holds(overlayId, then.monoMs)) {
        done(then);
        return;
      }
      this.end(row, "expired", then, (failure, later) => {
        if (failure !== undefined && this.#rows.has(overlayId)) {
          row.ending = true;
          this.#leases.grant(overlayId, RETRY_MS, later.monoMs);
        }
        done(later);
      });
    });
  }

  earliestMs(): number {
    return this.#leases.earliestMs();
  }
}
