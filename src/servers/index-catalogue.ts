/**
 * The IXS's memory of its durable records: index files that stand and tombstones of removed ones,
 * found by key, title, data source id or data id. Holds only what is on disk.
 */

import { assert } from "../base/assert.ts";
import { bytes, type Decoded, defineMessage, oneOf, text, u53 } from "../protocol/codec.ts";
import { overlayId, publicKey } from "../protocol/common.ts";
import { INDEX_FILE_BYTES_MAX } from "../protocol/index-file.ts";

export const INDEX_STATES = { stands: 0, gone: 1 } as const;

/** A durable record: one a (data source id, data id), for ever. */
export const INDEX_RECORD = defineMessage({
  name: "index record",
  type: 0,
  fields: {
    state: oneOf(INDEX_STATES),
    /** Of the file that stands, or the highest ever used when gone. */
    version: u53,
    title: text(256),
    dataSourceId: text(128, 1),
    dataId: text(128, 1),
    overlayId,
    publicKey,
    /** As registered; empty when gone. */
    indexFile: bytes(0, INDEX_FILE_BYTES_MAX),
    /** Wall time of removal; 0 = stands. */
    goneUs: u53,
  },
});
export type IndexRecord = Decoded<typeof INDEX_RECORD>;

export interface IndexRow {
  readonly key: string;
  readonly revision: number;
  readonly record: IndexRecord;
}

export interface IndexQuery {
  readonly version: number;
  readonly title: string;
  readonly dataSourceId: string;
  readonly dataId: string;
  readonly overlayId: string | undefined;
}

/** Rows by one of their texts. */
class TextIndex {
  readonly #rows = new Map<string, Set<string>>();

  add(value: string, key: string): void {
    const keys = this.#rows.get(value);
    if (keys === undefined) this.#rows.set(value, new Set([key]));
    else keys.add(key);
  }

  delete(value: string, key: string): void {
    const keys = this.#rows.get(value);
    if (keys?.delete(key) && keys.size === 0) this.#rows.delete(value);
  }

  get(value: string): ReadonlySet<string> {
    return this.#rows.get(value) ?? new Set();
  }
}

export class IndexCatalogue {
  readonly #rows = new Map<string, IndexRow>();
  readonly #byTitle = new TextIndex();
  readonly #bySource = new TextIndex();
  readonly #byData = new TextIndex();
  readonly #byOverlay = new TextIndex();
  #standing = 0;

  get size(): number {
    return this.#rows.size;
  }

  /** Rows that are no tombstones. */
  get standing(): number {
    return this.#standing;
  }

  get(key: string): IndexRow | undefined {
    return this.#rows.get(key);
  }

  /** Sets what is on disk under `key`. The version never falls. */
  set(row: IndexRow): void {
    const before = this.#rows.get(row.key);
    assert(
      before === undefined || row.record.version >= before.record.version,
      "the version of an index file never falls",
    );
    this.delete(row.key);
    const { record, key } = row;
    this.#rows.set(key, row);
    this.#byTitle.add(record.title, key);
    this.#bySource.add(record.dataSourceId, key);
    this.#byData.add(record.dataId, key);
    this.#byOverlay.add(record.overlayId, key);
    if (record.state === INDEX_STATES.stands) this.#standing++;
  }

  delete(key: string): void {
    const row = this.#rows.get(key);
    if (row === undefined) return;
    const { record } = row;
    this.#rows.delete(key);
    this.#byTitle.delete(record.title, key);
    this.#bySource.delete(record.dataSourceId, key);
    this.#byData.delete(record.dataId, key);
    this.#byOverlay.delete(record.overlayId, key);
    if (record.state === INDEX_STATES.stands) this.#standing--;
  }

  /** Keys of files that stand and name this overlay. */
  ofOverlay(id: string): string[] {
    return [...this.#byOverlay.get(id)].filter(
      (key) => this.#rows.get(key)?.record.state === INDEX_STATES.stands,
    );
  }

  /**
   * Rows that match every field of the query that is not empty; files that stand count from the
   * lowest acceptable version on.
   */
  find(query: IndexQuery): { stand: IndexRow[]; gone: IndexRow[]; tooOld: number } {
    const candidates = [
      query.title === "" ? undefined : this.#byTitle.get(query.title),
      query.dataSourceId === "" ? undefined : this.#bySource.get(query.dataSourceId),
      query.dataId === "" ? undefined : this.#byData.get(query.dataId),
      query.overlayId === undefined ? undefined : this.#byOverlay.get(query.overlayId),
    ].filter((keys) => keys !== undefined);
    let smallest: ReadonlySet<string> = candidates[0] ?? new Set();
    for (const keys of candidates) if (keys.size < smallest.size) smallest = keys;
    const stand: IndexRow[] = [];
    const gone: IndexRow[] = [];
    let tooOld = 0;
    for (const key of smallest) {
      const row = this.#rows.get(key);
      if (row === undefined || !candidates.every((keys) => keys.has(key))) continue;
      if (row.record.state === INDEX_STATES.gone) gone.push(row);
      else if (row.record.version >= query.version) stand.push(row);
      else tooOld = Math.max(tooOld, row.record.version);
    }
    return { stand, gone, tooOld };
  }

  /** Files that stand whose title starts with `prefix`, by title, data source id and data id. */
  list(prefix: string, limit: number): { rows: IndexRow[]; more: boolean } {
    const found: IndexRow[] = [];
    for (const row of this.#rows.values()) {
      if (row.record.state === INDEX_STATES.stands && row.record.title.startsWith(prefix)) {
        found.push(row);
      }
    }
    const name = ({ record }: IndexRow): string =>
      JSON.stringify([record.title, record.dataSourceId, record.dataId]);
    found.sort((a, b) => (name(a) < name(b) ? -1 : 1));
    return { rows: found.slice(0, limit), more: found.length > limit };
  }
}
