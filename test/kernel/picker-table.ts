/** A picker's table set up by hand, the same in any kernel. */

import {
  PICKER_ANY,
  PICKER_CELL_BYTES,
  PICKER_CELLS,
  PICKER_GROUP_BYTES,
  PICKER_GROUPS,
  PICKER_HELD,
  PICKER_UPPER,
  PICKER_WORDS,
} from "../../src/base/layout.ts";
import type { Kernel } from "../../src/kernel/kernel.ts";
import { HEAP } from "./kernels.ts";

export const TABLE = HEAP;
export const HELD = HEAP + 0x8_0000;
export const OUT = HEAP + 0x9_0000;
const HAVES = HEAP + 0xa_0000;
export const HAVES_END = HEAP + 0x20_0000;

/** Map number `n` of what a neighbour holds; 0 to 80. */
export function haveAt(n: number): number {
  return HAVES + 0x4000 * n;
}

export function setUpTable(kernel: Kernel, words: number): void {
  kernel.bytes.fill(0, HEAP, HAVES_END);
  const cells = TABLE + PICKER_GROUPS + PICKER_GROUP_BYTES * Math.ceil(words / 64);
  const header = (offset: number, value: number): void =>
    kernel.view.setUint32(TABLE + offset, value, true);
  header(PICKER_HELD, HELD);
  header(PICKER_WORDS, words);
  header(PICKER_CELLS, cells);
  header(PICKER_ANY, cells + PICKER_CELL_BYTES * words);
  header(PICKER_UPPER, cells + (PICKER_CELL_BYTES + 8) * words);
}
