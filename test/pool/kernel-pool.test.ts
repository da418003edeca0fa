import { once } from "node:events";
import type { Worker } from "node:worker_threads";
import { afterAll, describe, expect, test } from "vitest";
import { LocalUsageError, OperationError } from "../../src/base/errors.ts";
import { createKernelMemory } from "../../src/kernel/wasm-kernel.ts";
import { KERNEL_OPERATIONS, runKernelJob } from "../../src/pool/kernel-job.ts";
import { createKernelPool, type KernelPool } from "../../src/pool/kernel-pool.ts";
import { buildFragment } from "../kernel/fragment-builder.ts";
import { HEAP, newJsKernel, newWasmKernel, wasmModule } from "../kernel/kernels.ts";

const FRAME_BYTES = 16_384;
const PAIRS = HEAP - 0x80000;
const GOOD = HEAP - 0x40000;

const memory = createKernelMemory(8);
const kernel = newWasmKernel(wasmModule, memory);
const pools: KernelPool[] = [];

function newPool(options: { workers?: number; jobTimeoutMs?: number } = {}): KernelPool {
  const pool = createKernelPool({ module: wasmModule, memory, workers: 1, ...options });
  pools.push(pool);
  return pool;
}

afterAll(async () => {
  await Promise.all(pools.map((pool) => pool.close()));
});

/** Lays `count` random DATA frames at HEAP, checksums not filled in. */
function layFrames(count: number): void {
  for (let i = 0; i < count; i++) {
    const at = HEAP + i * FRAME_BYTES;
    for (let word = 0; word < FRAME_BYTES; word += 4) {
      kernel.view.setUint32(at + word, Math.imul(word + 1, 0x9e3779b9 + i) >>> 0, true);
    }
    kernel.u32.set([at, FRAME_BYTES], PAIRS / 4 + 2 * i);
  }
}

/** One frame named so often that verifying takes many seconds. */
function layEndlessJob(): [number, number, number] {
  const frameBytes = 4 * 1024 * 1024;
  const count = 50_000;
  for (let i = 0; i < count; i++) kernel.u32.set([HEAP, frameBytes], PAIRS / 4 + 2 * (i % 1000));
  const pairs = HEAP + frameBytes;
  for (let i = 0; i < count; i++) kernel.u32.set([HEAP, frameBytes], pairs / 4 + 2 * i);
  return [pairs, count, pairs + 8 * count];
}

async function failureOf(promise: Promise<unknown>): Promise<OperationError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(OperationError);
  return error as OperationError;
}

describe("jobs on workers", () => {
  test("give what the same calls give inline, in the same memory", async () => {
    const pool = newPool({ workers: 2 });
    layFrames(8);
    expect(await pool.run("checksumFragments", PAIRS, 8)).toBe(0);
    expect(kernel.verifyFragments(PAIRS, 8, GOOD)).toBe(8);
    const spoilt = HEAP + 3 * FRAME_BYTES + 500;
    kernel.bytes[spoilt] = (kernel.bytes[spoilt] as number) ^ 4;
    expect(await pool.run("verifyFragments", PAIRS, 8, GOOD)).toBe(7);
    expect([...kernel.bytes.subarray(GOOD, GOOD + 8)]).toEqual([1, 1, 1, 0, 1, 1, 1, 1]);

    const frame = buildFragment([
      { kind: "source", number: 1, id: "a", contentType: "", base: 1, timestamp: 5 },
      { kind: "datum", number: 1, bytes: 10, delta: 0 },
    ]);
    kernel.bytes.set(frame, HEAP);
    const split = [HEAP, frame.length, HEAP + 0x100000, 10, HEAP + 0x200000] as const;
    expect(await pool.run("splitFragment", ...split)).toBe(65_537);
    const payloads = HEAP + 0x300000;
    kernel.u32.set([3, 4], payloads / 4 + 16);
    const merge = [HEAP + 7, HEAP + 100, payloads, payloads + 64, 2, 9, -1] as const;
    expect(await pool.run("mergeData", ...merge)).toBe(2);
    expect(await pool.run("writeSlice", HEAP, payloads, 10, 1, 3, 0, 0, 10)).toBe(HEAP + 30);
    kernel.bitsClear(HEAP, 0, 4096);
    kernel.bitsSet(HEAP, 10, 30);
    expect(await pool.run("bitsCount", HEAP, 0, 4096)).toBe(20);
    expect(pool.counters).toEqual({
      calls: 6,
      pooledJobs: 6,
      timedOut: 0,
      failed: 0,
      workersLost: 0,
    });
  });

  test("many at a time all come back, each with its own result", async () => {
    const pool = newPool({ workers: 2 });
    kernel.bitsClear(HEAP, 0, 65_536);
    kernel.bitsSet(HEAP, 0, 65_536);
    const counts = await Promise.all(
      Array.from({ length: 500 }, (_, i) => pool.run("bitsCount", HEAP, i, 65_536)),
    );
    expect(counts).toEqual(Array.from({ length: 500 }, (_, i) => 65_536 - i));
  });

  test("beyond the queue's limit are refused, and counted", async () => {
    const pool = newPool();
    const jobs = Array.from({ length: 1_100 }, () => pool.run("bitsCount", HEAP, 0, 64));
    const settled = await Promise.allSettled(jobs);
    const refused = settled.filter((job) => job.status === "rejected");
    expect(refused.length).toBeGreaterThan(0);
    for (const { reason } of refused) expect(reason.code).toBe("OVERLOADED");
    expect(pool.counters.failed).toBe(refused.length);
    expect(pool.counters.pooledJobs).toBe(1_100 - refused.length);
  });
});

describe("jobs that fail", () => {
  test("a job that takes too long ends its worker before it rejects", async () => {
    const pool = newPool({ jobTimeoutMs: 500 });
    const thread = pool.threads[0] as Worker;
    let exited = false;
    thread.once("exit", () => {
      exited = true;
    });
    const [pairs, count, good] = layEndlessJob();
    kernel.bytes.fill(7, good, good + count);
    const error = await failureOf(pool.run("verifyFragments", pairs, count, good));
    expect(error.code).toBe("TIMEOUT");
    expect(exited).toBe(true);
    expect(pool.threads).not.toContain(thread);
    // It was at work, not done, and writes no more.
    const written = kernel.bytes.subarray(good, good + count).indexOf(7);
    expect(written).toBeGreaterThan(0);
    kernel.bytes.fill(7, good, good + count);
    expect(await pool.run("bitsCount", HEAP, 0, 0)).toBe(0);
    expect(kernel.bytes.subarray(good, good + count).every((byte) => byte === 7)).toBe(true);
    expect(pool.counters).toMatchObject({ timedOut: 1, failed: 0, pooledJobs: 1 });
  });

  test("a job that waited too long takes no worker along", async () => {
    const pool = newPool({ jobTimeoutMs: 500 });
    await pool.run("bitsCount", HEAP, 0, 0);
    const running = failureOf(pool.run("verifyFragments", ...layEndlessJob()));
    const waiting = failureOf(pool.run("bitsCount", HEAP, 0, 64));
    expect((await running).code).toBe("TIMEOUT");
    expect((await waiting).code).toBe("TIMEOUT");
    expect(pool.counters.timedOut).toBe(2);
    expect(await pool.run("bitsCount", HEAP, 0, 0)).toBe(0);
  });

  test("a worker that dies fails its job and is replaced", async () => {
    const pool = newPool();
    await pool.run("bitsCount", HEAP, 0, 0);
    const thread = pool.threads[0] as Worker;
    const failing = failureOf(pool.run("verifyFragments", ...layEndlessJob()));
    await thread.terminate();
    expect((await failing).code).toBe("JOB_FAILED");
    expect(await pool.run("bitsCount", HEAP, 0, 0)).toBe(0);
    expect(pool.threads).toHaveLength(1);
    expect(pool.threads).not.toContain(thread);
    expect(pool.counters).toMatchObject({ calls: 3, pooledJobs: 2, failed: 1, timedOut: 0 });
  });

  test("a worker that dies without a job is replaced", async () => {
    const pool = newPool();
    await pool.run("bitsCount", HEAP, 0, 0);
    await (pool.threads[0] as Worker).terminate();
    expect(await pool.run("bitsCount", HEAP, 0, 0)).toBe(0);
  });

  test("a trap fails its job only", async () => {
    const pool = newPool();
    const error = await failureOf(pool.run("bitsCount", kernel.memoryBytes - 8, 0, 65_536));
    expect(error.code).toBe("JOB_FAILED");
    expect(String(error.cause)).toMatch(/memory access out of bounds/);
    expect(await pool.run("bitsCount", HEAP, 0, 0)).toBe(0);
  });
});

describe("closing", () => {
  test("gives up jobs, ends every thread, and refuses new jobs", async () => {
    const pool = newPool({ workers: 2 });
    await pool.run("bitsCount", HEAP, 0, 0);
    const ends = pool.threads.map((thread) => once(thread, "exit"));
    const running = failureOf(pool.run("verifyFragments", ...layEndlessJob()));
    const closed = pool.close();
    expect((await running).code).toBe("CLOSED");
    await closed;
    await Promise.all(ends);
    expect(pool.threads).toHaveLength(0);
    expect((await failureOf(pool.run("bitsCount", HEAP, 0, 0))).code).toBe("CLOSED");
    await pool.close();
  });

  test("a pool needs a worker", () => {
    for (const workers of [0, -1, 1.5, Number.NaN]) {
      expect(() => createKernelPool({ module: wasmModule, memory, workers })).toThrow(
        LocalUsageError,
      );
    }
  });
});

test("the job table names kernel calls and refuses what it does not name", () => {
  const js = newJsKernel();
  for (const operation of KERNEL_OPERATIONS) expect(js[operation]).toBeTypeOf("function");
  expect(runKernelJob(js, [KERNEL_OPERATIONS.indexOf("bitsCount"), HEAP, 0, 64])).toBe(0);
  expect(() => runKernelJob(js, [99])).toThrow(RangeError);
  expect(() => runKernelJob(js, [])).toThrow(RangeError);
});
