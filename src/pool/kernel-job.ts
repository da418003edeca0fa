/**
 * What a worker may be asked to do: one kernel call, given as a few integers. The caller and the
 * worker both read this table.
 */

import { unreachable } from "../base/assert.ts";
import type { Kernel } from "../kernel/kernel.ts";

/** Kernel calls that work on batches or large ranges; the others are over before a message is. */
export const KERNEL_OPERATIONS = [
  "checksumFragments",
  "verifyFragments",
  "mergeData",
  "writeSlice",
  "splitFragment",
  "bitsCount",
] as const satisfies readonly (keyof Kernel)[];

export type KernelOperation = (typeof KERNEL_OPERATIONS)[number];

/** Index into KERNEL_OPERATIONS, then the call's arguments. */
export type KernelJob = readonly number[];

/** Carries out `job`. Returns what the kernel returned; 0 where it returns nothing. */
export function runKernelJob(kernel: Kernel, job: KernelJob): number {
  const [code = -1, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = job;
  const operation = KERNEL_OPERATIONS[code];
  switch (operation) {
    case "checksumFragments":
      kernel.checksumFragments(a, b);
      return 0;
    case "verifyFragments":
      return kernel.verifyFragments(a, b, c);
    case "mergeData":
      return kernel.mergeData(a, b, c, d, e, f, g);
    case "writeSlice":
      return kernel.writeSlice(a, b, c, d, e, f, g, h);
    case "splitFragment":
      return kernel.splitFragment(a, b, c, d, e);
    case "bitsCount":
      return kernel.bitsCount(a, b, c);
    case undefined:
      throw new RangeError(`no kernel operation has the code ${code}`);
    default:
      return unreachable(operation);
  }
}
