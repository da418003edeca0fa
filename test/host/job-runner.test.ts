import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { DATA_CHECKSUM, DATA_HEADER_BYTES } from "../../src/base/layout.ts";
import { POOL_JOB_BYTES_MIN } from "../../src/base/limits.ts";
import { JobRunner } from "../../src/host/job-runner.ts";
import { NodeIdentity, verifySignature } from "../../src/host/node-identity.ts";
import { EngineMemory } from "../../src/kernel/engine-memory.ts";
import { createKernelMemory, createWasmKernel } from "../../src/kernel/wasm-kernel.ts";
import type { KernelPool } from "../../src/pool/kernel-pool.ts";
import { DATA_TYPE, frameOf } from "../transport/frames.ts";

const identity = new NodeIdentity();
const signatures = {
  sign: (bytes: Uint8Array) => identity.sign(bytes),
  verify: verifySignature,
};

function newMemory(): EngineMemory {
  const wasm = readFileSync(new URL("../../build/kernel.wasm", import.meta.url));
  const memory = createKernelMemory(8);
  return new EngineMemory(createWasmKernel({ wasm: new Uint8Array(wasm), memory }));
}

/** `count` DATA frames of `bytes` in received segments; returns pairs (offset, bytes). */
function frames(memory: EngineMemory, count: number, bytes: number): Uint32Array {
  const ranges = new Uint32Array(2 * count);
  const cursor = memory.open();
  for (let i = 0; i < count; i++) {
    expect(cursor.reserve(bytes)).toBe(true);
    ranges[2 * i] = cursor.writeOffset;
    ranges[2 * i + 1] = bytes;
    memory.bytes.set(frameOf(bytes, i, DATA_TYPE), cursor.writeOffset);
    cursor.commit(bytes);
    memory.retain(ranges[2 * i] as number, bytes);
    cursor.consume(bytes);
  }
  return ranges;
}

describe("JobRunner", () => {
  test("signs with the node's key; the signature verifies, a changed one does not", () => {
    const jobs = new JobRunner({ signatures });
    const bytes = new Uint8Array(100).fill(3);
    const signed = jobs.run({ kind: "sign", bytes });
    if (signed instanceof Promise || signed.kind !== "sign") throw new Error("not signed");
    const check = { kind: "verifySignature", publicKey: identity.publicKey, bytes } as const;
    expect(jobs.run({ ...check, signature: signed.signature })).toMatchObject({ valid: true });
    for (let i = 0; i < 64; i += 7) {
      const signature = signed.signature.slice();
      signature[i] = (signature[i] ?? 0) ^ 1;
      expect(jobs.run({ ...check, signature })).toMatchObject({ valid: false });
    }
    for (const publicKey of [new Uint8Array(0), new Uint8Array(31), new Uint8Array(32).fill(255)]) {
      const { signature } = signed;
      expect(jobs.run({ ...check, publicKey, signature })).toMatchObject({ valid: false });
    }
  });

  test("without key or memory a job is answered with an error", () => {
    const jobs = new JobRunner({ signatures: { ...signatures, sign: undefined } });
    expect(jobs.run({ kind: "sign", bytes: new Uint8Array(1) })).toMatchObject({ kind: "error" });
    const ranges = new Uint32Array(2);
    expect(jobs.run({ kind: "verifyFragments", ranges })).toMatchObject({ kind: "error" });
  });

  test("checksums that were filled in verify; a changed byte is found, in long jobs too", () => {
    const memory = newMemory();
    const jobs = new JobRunner({ signatures, memory });
    const count = 1200;
    const ranges = frames(memory, count, DATA_HEADER_BYTES + 60);
    const before = jobs.run({ kind: "verifyFragments", ranges });
    if (before instanceof Promise || before.kind !== "verifyFragments") throw new Error("late");
    expect(before.good.includes(1)).toBe(false);
    expect(jobs.run({ kind: "checksumFragments", ranges })).toEqual({ kind: "checksumFragments" });
    const bad = [0, 511, 512, 1199];
    for (const i of bad) {
      const at = (ranges[2 * i] as number) + DATA_CHECKSUM + 40;
      memory.bytes[at] = (memory.bytes[at] ?? 0) ^ 4;
    }
    const after = jobs.run({ kind: "verifyFragments", ranges });
    if (after instanceof Promise || after.kind !== "verifyFragments") throw new Error("late");
    const found = [...after.good.keys()].filter((i) => after.good[i] === 0);
    expect(found).toEqual(bad);
  });

  test("large jobs go to the pool; one that fails there is done here", async () => {
    const memory = newMemory();
    const calls: string[] = [];
    let broken = false;
    const pool = {
      run: async (operation: string, pairs: number, count: number, good: number) => {
        calls.push(operation);
        if (broken) throw new Error("a worker died");
        if (operation === "checksumFragments") memory.kernel.checksumFragments(pairs, count);
        else memory.kernel.verifyFragments(pairs, count, good);
        return 0;
      },
    } as unknown as KernelPool;
    const jobs = new JobRunner({ signatures, memory, pool });
    const bytes = 16_384;
    const large = frames(memory, Math.ceil(POOL_JOB_BYTES_MIN / bytes), bytes);
    expect(await jobs.run({ kind: "checksumFragments", ranges: large })).toMatchObject({
      kind: "checksumFragments",
    });
    const good = new Uint8Array(large.length / 2).fill(1);
    expect(await jobs.run({ kind: "verifyFragments", ranges: large })).toMatchObject({ good });
    broken = true;
    expect(await jobs.run({ kind: "verifyFragments", ranges: large })).toMatchObject({ good });
    const small = jobs.run({ kind: "verifyFragments", ranges: large.slice(0, 2) });
    expect(small).not.toBeInstanceOf(Promise);
    expect(calls).toHaveLength(3);
    expect(jobs.counters).toEqual({ inline: 1, pooled: 2, poolFailures: 1 });
  });
});
