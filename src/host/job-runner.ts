/**
 * Runs the jobs of machines: signatures with this node's key, fragment checksums through the
 * kernel. What is small runs inline; what pays for the round trip goes to a worker of the pool.
 *
 * A pool that fails a job (a worker died, a time limit) costs time, not data: it runs inline then.
 */

import { unreachable } from "../base/assert.ts";
import { POOL_JOB_BYTES_MIN } from "../base/limits.ts";
import type { Job, JobResult } from "../base/machine.ts";
import type { MemoryOffset } from "../base/units.ts";
import type { EngineMemory } from "../kernel/engine-memory.ts";
import type { KernelPool } from "../pool/kernel-pool.ts";

type FragmentsJob = Extract<Job, { readonly ranges: Uint32Array }>;

/** Pairs that fit the table kept for inline jobs; longer jobs run in parts. */
const INLINE_PAIRS = 512;

export interface JobCounters {
  inline: number;
  pooled: number;
  poolFailures: number;
}

/** Signs with this node's key and checks others' signatures (Ed25519). */
export interface Signatures {
  /** Undefined: this process has no key. */
  readonly sign: ((bytes: Uint8Array) => Uint8Array) | undefined;
  verify(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean;
}

export class JobRunner {
  readonly counters: JobCounters = { inline: 0, pooled: 0, poolFailures: 0 };
  readonly #signatures: Signatures;
  readonly #memory: EngineMemory | undefined;
  readonly #pool: KernelPool | undefined;
  readonly #table: MemoryOffset;

  constructor(options: {
    readonly signatures: Signatures;
    readonly memory?: EngineMemory | undefined;
    readonly pool?: KernelPool | undefined;
  }) {
    this.#signatures = options.signatures;
    this.#memory = options.memory;
    this.#pool = options.pool;
    this.#table = options.memory?.allocate(INLINE_PAIRS * 9) ?? 0;
  }

  /** The result, or a promise of it; never rejects. */
  run(job: Job): JobResult | Promise<JobResult> {
    switch (job.kind) {
      case "sign":
        this.counters.inline++;
        return this.#signatures.sign === undefined
          ? { kind: "error", code: "INTERNAL", detail: "this process has no key" }
          : { kind: "sign", signature: this.#signatures.sign(job.bytes) };
      case "verifySignature":
        this.counters.inline++;
        return {
          kind: "verifySignature",
          valid: this.#signatures.verify(job.publicKey, job.bytes, job.signature),
        };
      case "checksumFragments":
      case "verifyFragments":
        return this.#fragments(job);
      default:
        return unreachable(job);
    }
  }

  #fragments(job: FragmentsJob): JobResult | Promise<JobResult> {
    const memory = this.#memory;
    if (memory === undefined) {
      return { kind: "error", code: "INTERNAL", detail: "this process has no engine memory" };
    }
    if (this.#pool !== undefined) {
      let bytes = 0;
      for (let i = 1; i < job.ranges.length; i += 2) bytes += job.ranges[i] as number;
      if (bytes >= POOL_JOB_BYTES_MIN) return this.#pooled(memory, this.#pool, job);
    }
    this.counters.inline++;
    return this.#inline(memory, job);
  }

  #inline(memory: EngineMemory, job: FragmentsJob): JobResult {
    const { kernel } = memory;
    const total = job.ranges.length / 2;
    const verify = job.kind === "verifyFragments";
    const good = new Uint8Array(verify ? total : 0);
    const goodAt = this.#table + 8 * INLINE_PAIRS;
    for (let from = 0; from < total; from += INLINE_PAIRS) {
      const count = Math.min(INLINE_PAIRS, total - from);
      kernel.u32.set(job.ranges.subarray(2 * from, 2 * (from + count)), this.#table >>> 2);
      if (verify) {
        kernel.verifyFragments(this.#table, count, goodAt);
        good.set(kernel.bytes.subarray(goodAt, goodAt + count), from);
      } else {
        kernel.checksumFragments(this.#table, count);
      }
    }
    return verify ? { kind: "verifyFragments", good } : { kind: "checksumFragments" };
  }

  async #pooled(memory: EngineMemory, pool: KernelPool, job: FragmentsJob): Promise<JobResult> {
    const { kernel } = memory;
    const count = job.ranges.length / 2;
    let table: MemoryOffset | undefined;
    try {
      table = memory.allocate(9 * count);
      const goodAt = table + 8 * count;
      kernel.u32.set(job.ranges, table >>> 2);
      if (job.kind === "checksumFragments") {
        await pool.run("checksumFragments", table, count);
        this.counters.pooled++;
        return { kind: "checksumFragments" };
      }
      await pool.run("verifyFragments", table, count, goodAt);
      this.counters.pooled++;
      return { kind: "verifyFragments", good: kernel.bytes.slice(goodAt, goodAt + count) };
    } catch {
      // The pool counts why; the fragments are still pinned and can be done here.
      this.counters.poolFailures++;
      return this.#inline(memory, job);
    } finally {
      if (table !== undefined) memory.free(table);
    }
  }
}
