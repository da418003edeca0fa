/**
 * A disk behind the store contract. Operations take a drawn time. A transaction is decided and
 * written in the order of asking, flushed later, and answered only then. A crash keeps what was
 * answered and a random prefix of what was not yet flushed: so an unanswered write may have
 * happened, and a later one never without an earlier one.
 */

import type { StoreOperation, StoreRecord, StoreResult } from "../../src/base/machine.ts";
import type { Rng } from "../../src/base/rng.ts";
import { between, chance, type World } from "../../src/sim/world.ts";

export interface DiskOptions {
  readonly delayMsMax: number;
  /** Share of transactions that the disk refuses (STORE_FULL): nothing of them is written. */
  readonly fullRate: number;
}

type Transaction = Extract<StoreOperation, { kind: "transaction" }>;

interface Written {
  readonly transaction: Transaction;
  readonly revision: number;
}

export class SimDisk {
  readonly #world: World;
  readonly #rng: Rng;
  #options: DiskOptions;
  /** What a process sees: everything written, flushed or not. */
  #records = new Map<string, StoreRecord>();
  /** What a power failure leaves for certain. */
  #flushed = new Map<string, StoreRecord>();
  #unflushed: Written[] = [];
  #revision = 0;
  #generation = 0;
  #flushFreeMs = 0;

  constructor(world: World, label: string, options: DiskOptions) {
    this.#world = world;
    this.#rng = world.rng(`disk ${label}`);
    this.#options = options;
  }

  set options(options: DiskOptions) {
    this.#options = options;
  }

  run(operation: StoreOperation, done: (result: StoreResult) => void): void {
    const delayMs = between(this.#rng, 0, this.#options.delayMsMax);
    const generation = this.#generation;
    if (operation.kind === "transaction") {
      this.#transact(operation, delayMs, (result) => {
        if (generation === this.#generation) done(result);
      });
      return;
    }
    this.#world.after(delayMs, () => {
      if (generation !== this.#generation) return;
      done(operation.kind === "read" ? this.#read(operation.key) : this.#range(operation));
    });
  }

  /** The process or its host died: unflushed transactions survive up to a drawn point. */
  crash(): void {
    this.#generation++;
    const survivors = this.#rng.below(this.#unflushed.length + 1);
    for (const written of this.#unflushed.slice(0, survivors)) apply(this.#flushed, written);
    this.#unflushed = [];
    this.#records = new Map(this.#flushed);
    this.#flushFreeMs = 0;
  }

  /** What is there for certain, for checkers. */
  flushedRecord(key: string): StoreRecord | undefined {
    return this.#flushed.get(key);
  }

  #transact(transaction: Transaction, delayMs: number, done: (result: StoreResult) => void): void {
    const refused = this.#options.fullRate > 0 && chance(this.#rng, this.#options.fullRate);
    const holds = transaction.conditions.every(
      ({ key, revision }) => (this.#records.get(key)?.revision ?? 0) === revision,
    );
    if (refused || !holds) {
      this.#world.after(delayMs, () =>
        done(
          refused
            ? { kind: "error", code: "STORE_FULL", detail: "no space left" }
            : { kind: "transaction", committed: false, revision: this.#revision },
        ),
      );
      return;
    }
    const written = { transaction, revision: ++this.#revision };
    apply(this.#records, written);
    this.#unflushed.push(written);
    // One flush after the other; answers come in the order of the flushes.
    this.#flushFreeMs = Math.max(this.#flushFreeMs, this.#world.nowMs) + delayMs;
    this.#world.at(this.#flushFreeMs, () => {
      if (this.#unflushed[0] !== written) return;
      this.#unflushed.shift();
      apply(this.#flushed, written);
      done({ kind: "transaction", committed: true, revision: written.revision });
    });
  }

  #read(key: string): StoreResult {
    return { kind: "read", record: this.#records.get(key) };
  }

  #range(operation: Extract<StoreOperation, { kind: "range" }>): StoreResult {
    const records = [...this.#records.values()]
      .filter(({ key }) => key >= operation.from && key < operation.to)
      .sort((a, b) => (a.key < b.key ? -1 : 1))
      .slice(0, operation.limit);
    return { kind: "range", records };
  }
}

function apply(records: Map<string, StoreRecord>, { transaction, revision }: Written): void {
  for (const { key, value } of transaction.writes) {
    if (value === undefined) records.delete(key);
    else records.set(key, { key, value: value.slice(), revision });
  }
}
