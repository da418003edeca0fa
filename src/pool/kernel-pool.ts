/**
 * Kernel calls on other cores: piscina workers that instantiate the same module on the same memory.
 * A job is a few integers; what they point at lies in the memory already, so nothing is copied.
 *
 * The caller keeps the ranges of a job pinned and unchanged until its promise settles, in any order
 * with other jobs. Once it has settled, no worker touches them any more: a job that ran too long
 * has its worker terminated, and the promise rejects only after that thread has ended.
 *
 * A job pays from POOL_JOB_BYTES_MIN on; what is smaller belongs inline.
 *
 * Never: decides what is worth pooling, retries a job.
 */

import { once } from "node:events";
import type { Worker } from "node:worker_threads";
import { Piscina } from "piscina";
import { LocalUsageError, type Mp2pError, OperationError } from "../base/errors.ts";
import { POOL_JOB_TIMEOUT_MS, POOL_QUEUE_MAX } from "../base/limits.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { KERNEL_OPERATIONS, type KernelJob, type KernelOperation } from "./kernel-job.ts";

export interface KernelPoolOptions {
  /** From compileKernel, as the kernel of this thread. */
  readonly module: WebAssembly.Module;
  /** The memory of the kernel of this thread. */
  readonly memory: WebAssembly.Memory;
  /** Threads, 1 or more; all of them are started at once and stay. */
  readonly workers: number;
  /** A job that takes longer, its wait included, is given up. Default POOL_JOB_TIMEOUT_MS. */
  readonly jobTimeoutMs?: number;
}

export interface KernelPoolCounters {
  /** Jobs asked for. */
  readonly calls: number;
  /** Jobs that a worker carried out. */
  readonly pooledJobs: number;
  readonly timedOut: number;
  /** Jobs that failed otherwise: a trap, a worker that died, a full queue, a closed pool. */
  readonly failed: number;
  /** Workers that died without a job; each was replaced. */
  readonly workersLost: number;
}

export function createKernelPool(options: KernelPoolOptions): KernelPool {
  return new KernelPool(options);
}

export class KernelPool {
  readonly #piscina: Piscina<KernelJob, number>;
  readonly #jobTimeoutMs: number;
  #calls = 0;
  #pooledJobs = 0;
  #timedOut = 0;
  #failed = 0;
  #workersLost = 0;
  #closing: Promise<void> | undefined;

  constructor(options: KernelPoolOptions) {
    if (!Number.isInteger(options.workers) || options.workers < 1) {
      throw new LocalUsageError("USAGE", { detail: `workers is ${options.workers}; 1 or more` });
    }
    this.#jobTimeoutMs = options.jobTimeoutMs ?? POOL_JOB_TIMEOUT_MS;
    this.#piscina = new Piscina({
      // Workers load compiled code: this path holds from src/ and from dist/ alike.
      filename: new URL("../../dist/pool/kernel-worker.js", import.meta.url).href,
      name: "runJob",
      minThreads: options.workers,
      maxThreads: options.workers,
      idleTimeout: Number.POSITIVE_INFINITY,
      // One job to a worker, so that giving one up takes no other along.
      concurrentTasksPerWorker: 1,
      // Workers wait in their event loop: waking one that blocks in Atomics.wait takes longer.
      atomics: "disabled",
      recordTiming: false,
      // Nothing of this process's flags and variables is the worker's business.
      argv: [],
      execArgv: [],
      workerData: { module: options.module, memory: options.memory },
    });
    // Jobs of a worker that died reject by themselves; this is one that had none.
    this.#piscina.on("error", () => {
      this.#workersLost++;
    });
  }

  get counters(): KernelPoolCounters {
    return {
      calls: this.#calls,
      pooledJobs: this.#pooledJobs,
      timedOut: this.#timedOut,
      failed: this.#failed,
      workersLost: this.#workersLost,
    };
  }

  /** The threads at work now. */
  get threads(): readonly Worker[] {
    return this.#piscina.threads;
  }

  /**
   * Carries out kernel[operation](...args) on a worker; resolves to its result, 0 where there is
   * none. Rejects with OperationError: TIMEOUT, JOB_FAILED (the call trapped or the worker died),
   * OVERLOADED (POOL_QUEUE_MAX jobs wait), or CLOSED.
   */
  async run<Op extends KernelOperation>(
    operation: Op,
    ...args: Parameters<Kernel[Op]>
  ): Promise<number> {
    this.#calls++;
    if (this.#closing !== undefined) throw this.#failure("CLOSED", "the kernel pool was closed");
    if (this.#piscina.queueSize >= POOL_QUEUE_MAX) {
      throw this.#failure("OVERLOADED", `${POOL_QUEUE_MAX} jobs wait for a worker`);
    }
    const giveUp = new AbortController();
    let ended: Promise<unknown> | undefined;
    const timer = setTimeout(() => {
      const before = this.#piscina.threads;
      giveUp.abort();
      // The thread that is gone from the list is the one terminated; none when the job waited.
      const after = new Set(this.#piscina.threads);
      ended = Promise.all(before.filter((one) => !after.has(one)).map((one) => once(one, "exit")));
    }, this.#jobTimeoutMs);
    try {
      const job = [KERNEL_OPERATIONS.indexOf(operation), ...args];
      const result = await this.#piscina.run(job, { signal: giveUp.signal });
      this.#pooledJobs++;
      return result;
    } catch (cause) {
      if (ended !== undefined) {
        await ended;
        this.#timedOut++;
        const detail = `kernel job ${operation}, ${this.#jobTimeoutMs} ms`;
        throw new OperationError("TIMEOUT", { detail, cause });
      }
      if (this.#closing !== undefined) {
        await this.#closing;
        throw this.#failure("CLOSED", "the kernel pool was closed", cause);
      }
      throw this.#failure("JOB_FAILED", `kernel job ${operation}`, cause);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Gives up all jobs; resolves when every thread has ended. May be called again. */
  close(): Promise<void> {
    this.#closing ??= this.#piscina.destroy();
    return this.#closing;
  }

  #failure(
    code: "CLOSED" | "JOB_FAILED" | "OVERLOADED",
    detail: string,
    cause?: unknown,
  ): Mp2pError {
    this.#failed++;
    return new OperationError(code, cause === undefined ? { detail } : { detail, cause });
  }
}
