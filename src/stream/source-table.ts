/**
 * The data sources of one overlay as its source peer knows them (R11.c, R11.d): id, local number,
 * where its sequence stands. A local number that a fragment may name is never reused, so that
 * receivers may cache what it means.
 */

import { LocalUsageError } from "../base/errors.ts";
import { CONTENT_TYPE_BYTES_MAX, SOURCE_ID_BYTES_MAX, SOURCES_MAX } from "../base/limits.ts";
import type { FragmentIndex, SequenceNumber } from "../base/units.ts";

const encoder = new TextEncoder();

export interface DataSourceEntry {
  readonly id: string;
  readonly idBytes: Uint8Array;
  /** Local number in record headers, 0 to 255. */
  readonly number: number;
  contentType: string;
  contentTypeBytes: Uint8Array;
  /** Sequence number of the next datum; the first is 1. */
  nextSequence: SequenceNumber;
  /** What its sequence numbers go by in later epochs, u32; 0: they begin anew. */
  numbering: number;
  ended: boolean;
  /** Fragment that carries its SOURCE_END; -1 until then. */
  endedIn: FragmentIndex;
}

export class SourceTable {
  readonly #byId = new Map<string, DataSourceEntry>();
  /** Numbers that were given back; all others below #nextNumber are taken. */
  readonly #freeNumbers: number[] = [];
  #nextNumber = 0;

  get size(): number {
    return this.#byId.size;
  }

  entries(): IterableIterator<DataSourceEntry> {
    return this.#byId.values();
  }

  find(id: string): DataSourceEntry | undefined {
    return this.#byId.get(id);
  }

  /**
   * Registers a data source (R11.e, R11.f). Errors: SOURCE_REGISTERED, USAGE for an empty or long
   * id, or when SOURCES_MAX are registered.
   */
  register(id: string, contentType: string): DataSourceEntry {
    if (this.#byId.has(id)) throw new LocalUsageError("SOURCE_REGISTERED", { detail: id });
    const idBytes = encoder.encode(id);
    if (idBytes.length < 1 || idBytes.length > SOURCE_ID_BYTES_MAX) {
      throw new LocalUsageError("USAGE", {
        detail: `a data source id has 1 to ${SOURCE_ID_BYTES_MAX} bytes of UTF-8`,
      });
    }
    if (this.#byId.size >= SOURCES_MAX) {
      throw new LocalUsageError("USAGE", { detail: `at most ${SOURCES_MAX} data sources` });
    }
    const contentTypeBytes = contentTypeOf(contentType);
    const entry: DataSourceEntry = {
      id,
      idBytes,
      number: this.#freeNumbers.pop() ?? this.#nextNumber++,
      contentType,
      contentTypeBytes,
      nextSequence: 1,
      numbering: 0,
      ended: false,
      endedIn: -1,
    };
    this.#byId.set(id, entry);
    return entry;
  }

  /** Takes back the registration of a source that no fragment names. */
  remove(entry: DataSourceEntry): void {
    if (this.#byId.delete(entry.id)) this.#freeNumbers.push(entry.number);
  }

  setContentType(entry: DataSourceEntry, contentType: string): void {
    if (entry.contentType === contentType) return;
    entry.contentTypeBytes = contentTypeOf(contentType);
    entry.contentType = contentType;
  }
}

function contentTypeOf(contentType: string): Uint8Array {
  const bytes = encoder.encode(contentType);
  if (bytes.length > CONTENT_TYPE_BYTES_MAX) {
    throw new LocalUsageError("USAGE", {
      detail: `a content type has at most ${CONTENT_TYPE_BYTES_MAX} bytes of UTF-8`,
    });
  }
  return bytes;
}
