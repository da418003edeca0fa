/**
 * A worker of the kernel pool: the same module on the same memory. Loaded by piscina, which hands
 * each job to runJob. Never: allocates, waits, or touches a range that its job does not name.
 */

import { workerData } from "node:worker_threads";
import { createWasmKernel } from "../kernel/wasm-kernel.ts";
import { type KernelJob, runKernelJob } from "./kernel-job.ts";

const { module, memory } = workerData as {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
};
const kernel = createWasmKernel({ wasm: module, memory });

export function runJob(job: KernelJob): number {
  return runKernelJob(kernel, job);
}
