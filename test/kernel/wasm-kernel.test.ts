import { expect, test } from "vitest";
import { LocalUsageError } from "../../src/base/errors.ts";
import { MIB } from "../../src/base/units.ts";
import { createKernelMemory, wasmSupported } from "../../src/kernel/wasm-kernel.ts";
import { kernelContract } from "./contract.ts";
import { newWasmKernel, wasmModule } from "./kernels.ts";

kernelContract("wasm kernel", () => newWasmKernel());

test("SIMD and shared memory are found", () => {
  expect(wasmSupported()).toBe(true);
});

test("memories from 8 to 4095 MiB are taken, up to their last byte", () => {
  for (const memoryMiB of [8, 64, 4095]) {
    const kernel = newWasmKernel(wasmModule, createKernelMemory(memoryMiB));
    expect(kernel.memoryBytes).toBe(memoryMiB * MIB);
    const at = kernel.memoryBytes - 32;
    kernel.bytes.set(new TextEncoder().encode("123456789"), at + 23);
    expect(kernel.crc32c(at + 23, 9)).toBe(0xe3069283);
    expect(kernel.writeSlice(at, at, 0, 1, 0, 0, 0, 0)).toBe(at + 20);
  }
  for (const memoryMiB of [0, 7, 4096, Number.NaN]) {
    expect(() => createKernelMemory(memoryMiB)).toThrow(LocalUsageError);
  }
});
