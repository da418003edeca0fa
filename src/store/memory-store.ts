/** A store that forgets: for tests and for servers without a data directory. */

import type { StoreOperation, StoreRecord, StoreResult } from "../base/machine.ts";
import { operationFault, type Store } from "./store.ts";

export class MemoryStore implements Store {
  readonly writeFailure = undefined;
  readonly #records = new Map<string, StoreRecord>();
  /** Keys in order; undefined after a key came or went. */
  #order: readonly string[] | undefined;
  #revision = 0;
  #closed = false;

  async execute(operation: StoreOperation): Promise<StoreResult> {
    if (this.#closed) return { kind: "error", code: "CLOSED", detail: "the store is closed" };
    const fault = operationFault(operation);
    if (fault !== undefined) return { kind: "error", code: "USAGE", detail: fault };
    switch (operation.kind) {
      case "read":
        return { kind: "read", record: copyOf(this.#records.get(operation.key)) };
      case "range":
        return { kind: "range", records: this.#range(operation) };
      case "transaction":
        return this.#transact(operation);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #range({ from, to, limit }: Extract<StoreOperation, { kind: "range" }>): StoreRecord[] {
    // Text compares by code unit.
    this.#order ??= [...this.#records.keys()].sort((a, b) => (a < b ? -1 : 1));
    let low = 0;
    let high = this.#order.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#order[middle] ?? "") < from) low = middle + 1;
      else high = middle;
    }
    const records: StoreRecord[] = [];
    for (let i = low; i < this.#order.length && records.length < limit; i++) {
      const key = this.#order[i] ?? "";
      if (key >= to) break;
      const record = copyOf(this.#records.get(key));
      if (record !== undefined) records.push(record);
    }
    return records;
  }

  #transact(operation: Extract<StoreOperation, { kind: "transaction" }>): StoreResult {
    for (const { key, revision } of operation.conditions) {
      if ((this.#records.get(key)?.revision ?? 0) !== revision) {
        return { kind: "transaction", committed: false, revision: this.#revision };
      }
    }
    const revision = ++this.#revision;
    for (const { key, value } of operation.writes) {
      if (this.#records.has(key) !== (value !== undefined)) this.#order = undefined;
      if (value === undefined) this.#records.delete(key);
      else this.#records.set(key, { key, value: value.slice(), revision });
    }
    return { kind: "transaction", committed: true, revision };
  }
}

function copyOf(record: StoreRecord | undefined): StoreRecord | undefined {
  return record === undefined ? undefined : { ...record, value: record.value.slice() };
}
