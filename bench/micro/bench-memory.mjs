// Where the cases put things, in both kernels alike, and what they put there.
import { seededRng } from "../../dist/base/rng.js";

const MIB = 1024 * 1024;

export const MEMORY_MIB = 8;
export const A = 1 * MIB;
export const B = 2 * MIB;
export const C = 3 * MIB;
export const D = 4 * MIB;

/** The same incompressible bytes for the same range, whatever the kernel. */
export function fillRandom(kernel, from, to) {
  const rng = seededRng(from);
  for (let at = from; at < to; at += 4) kernel.view.setUint32(at, rng.below(2 ** 32), true);
}
