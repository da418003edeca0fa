import { readFileSync } from "node:fs";
import { MIB } from "../../src/base/units.ts";
import { createJsKernel } from "../../src/kernel/js-kernel.ts";
import type { Kernel } from "../../src/kernel/kernel.ts";
import {
  compileKernel,
  createKernelMemory,
  createWasmKernel,
} from "../../src/kernel/wasm-kernel.ts";

const MEMORY_MIB = 8;

/** The release build; `npm run build` writes it. */
export const wasmModule = compileKernel(
  new Uint8Array(readFileSync(new URL("../../build/kernel.wasm", import.meta.url))),
);

export function newWasmKernel(
  module = wasmModule,
  memory = createKernelMemory(MEMORY_MIB),
): Kernel {
  return createWasmKernel({ wasm: module, memory });
}

export function newJsKernel(): Kernel {
  return createJsKernel({ memoryBytes: MEMORY_MIB * MIB });
}

/** Free memory in both kernels, at the same offset. */
export const HEAP = 1 * MIB;
