/**
 * Durable state of servers behind one small interface: read, ordered range, compare-and-set
 * transaction. Nothing in it assumes one process, one disk or a lease; a distributed engine offers
 * the same.
 */

import type { StoreOperation, StoreResult } from "../base/machine.ts";

/** UTF-16 units of a key. Two ids of 128 bytes and a prefix fit; a B-tree page holds several. */
export const KEY_LENGTH_MAX = 900;
/** Bytes of a value: a signalling message at most makes one record. */
export const VALUE_BYTES_MAX = 1024 * 1024;

export interface Store {
  /**
   * Carries out one operation; never rejects. Failures are results of kind error: STORE_FULL (the
   * disk refuses writes; reads go on), STORE_CORRUPT (a record is damaged), CLOSED, USAGE. Values in
   * results are the caller's. A transaction's result comes after it is flushed.
   */
  execute(operation: StoreOperation): Promise<StoreResult>;
  /** Why writes are refused now; undefined when they are not. */
  readonly writeFailure: string | undefined;
  /** What was asked for before is carried out; later operations fail with CLOSED. */
  close(): Promise<void>;
}

/** What is wrong with an operation itself; undefined when nothing is. */
export function operationFault(operation: StoreOperation): string | undefined {
  switch (operation.kind) {
    case "read":
      return keyFault(operation.key);
    case "range":
      // Bounds are no keys: an empty `from` means the first one.
      return operation.limit >= 1 ? undefined : `limit ${operation.limit} is below 1`;
    case "transaction": {
      for (const { key } of operation.conditions) {
        const fault = keyFault(key);
        if (fault !== undefined) return fault;
      }
      const written = new Set<string>();
      for (const { key, value } of operation.writes) {
        const fault = keyFault(key);
        if (fault !== undefined) return fault;
        if (written.has(key)) return `key ${JSON.stringify(key)} is written twice`;
        written.add(key);
        if (value !== undefined && value.length > VALUE_BYTES_MAX) {
          return `the value of ${JSON.stringify(key)} has ${value.length} bytes`;
        }
      }
      return undefined;
    }
  }
}

function keyFault(key: string): string | undefined {
  if (key.length >= 1 && key.length <= KEY_LENGTH_MAX) return undefined;
  return `a key has 1 to ${KEY_LENGTH_MAX} characters, this one ${key.length}`;
}
