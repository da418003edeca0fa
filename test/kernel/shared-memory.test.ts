/** Several instances on one memory: what instantiation writes disturbs nobody. */

import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { seededRng } from "../../src/base/rng.ts";
import { createKernelMemory } from "../../src/kernel/wasm-kernel.ts";
import { buildFragment, soundPlan } from "./fragment-builder.ts";
import { HEAP, newWasmKernel, wasmModule } from "./kernels.ts";

const ENTRIES = HEAP + 0x100000;
const DECLARATIONS = HEAP + 0x200000;

/** A memory in use: random contents above the tables, fragments written and split. */
function memoryAtWork() {
  const memory = createKernelMemory(8);
  const kernel = newWasmKernel(wasmModule, memory);
  const rng = seededRng(21);
  for (let at = kernel.heapBase; at < kernel.memoryBytes; at += 4) {
    kernel.view.setUint32(at, rng.below(2 ** 32), true);
  }
  const work = (): number[] => {
    const rng = seededRng(22);
    const frame = buildFragment(soundPlan(rng.below));
    kernel.bytes.set(frame, HEAP);
    kernel.u32.set([HEAP, frame.length], ENTRIES / 4 - 2);
    kernel.checksumFragments(ENTRIES - 8, 1);
    return [
      kernel.splitFragment(HEAP, frame.length, ENTRIES, 1000, DECLARATIONS),
      kernel.verifyFragments(ENTRIES - 8, 1, ENTRIES - 9),
      kernel.crc32c(HEAP, 0x80000),
      kernel.bitsCount(HEAP, 0, 65_536),
    ];
  };
  return { memory, kernel, work };
}

test("a second instance amid work changes not one byte of the memory", () => {
  const { memory, kernel, work } = memoryAtWork();
  const before = work();
  const snapshot = Buffer.from(kernel.bytes);
  const second = newWasmKernel(wasmModule, memory);
  expect(snapshot.equals(kernel.bytes)).toBe(true);
  expect(second.crc32c(HEAP, 0x80000)).toBe(before[2]);
  expect(snapshot.equals(kernel.bytes)).toBe(true);
  expect(work()).toEqual(before);
});

test("instances made on another thread at the same time disturb no call", async () => {
  const { memory, kernel, work } = memoryAtWork();
  const expected = work();
  const snapshot = Buffer.from(kernel.bytes);
  const worker = new Worker(
    `const { parentPort, workerData } = require("node:worker_threads");
     const { module, memory, offset, bytes } = workerData;
     parentPort.postMessage("up");
     let crc;
     for (let i = 0; i < 300; i++) {
       const instance = new WebAssembly.Instance(module, { env: { memory } });
       instance.exports.init();
       crc = instance.exports.crc32c(offset, bytes) >>> 0;
     }
     parentPort.postMessage(crc);`,
    { eval: true, workerData: { module: wasmModule, memory, offset: HEAP, bytes: 0x80000 } },
  );
  const messages: unknown[] = [];
  worker.on("message", (message) => messages.push(message));
  const ended = new Promise<number>((resolve, reject) => {
    worker.once("exit", resolve);
    worker.once("error", reject);
  });
  let rounds = 0;
  while (messages.length < 2) {
    // Work on while the other thread instantiates; its messages come in between.
    for (let i = 0; i < 20; i++) expect(kernel.crc32c(HEAP, 0x80000)).toBe(expected[2]);
    rounds++;
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(await ended).toBe(0);
  expect(messages).toEqual(["up", expected[2]]);
  expect(rounds).toBeGreaterThan(1);
  expect(snapshot.equals(kernel.bytes)).toBe(true);
  expect(work()).toEqual(expected);
});

test("the module brings no data of its own", () => {
  const exported = WebAssembly.Module.exports(wasmModule);
  expect(exported.some(({ name }) => name.startsWith("__"))).toBe(false);
  expect(WebAssembly.Module.imports(wasmModule)).toEqual([
    { module: "env", name: "memory", kind: "memory" },
  ]);
  const memory = createKernelMemory(8);
  const instance = new WebAssembly.Instance(wasmModule, { env: { memory } });
  expect(instance).toBeDefined();
  expect(new Uint8Array(memory.buffer).every((byte) => byte === 0)).toBe(true);
});
