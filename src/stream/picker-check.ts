/**
 * The truth about a picker's table, recomputed from the window and the neighbours' maps, index by
 * index and without the kernel's operations, so that it shares none of their mistakes. For tests and
 * the simulator: it looks at each bit of each map.
 */

import { assert } from "../base/assert.ts";
import {
  PICKER_ANY,
  PICKER_CANDIDATES,
  PICKER_CELL_BYTES,
  PICKER_CELL_PLANES,
  PICKER_CELLS,
  PICKER_CLASSES,
  PICKER_GROUP_BYTES,
  PICKER_GROUPS,
  PICKER_KIND_ANY,
  PICKER_MANY,
  PICKER_PRESENCE,
  PICKER_RESERVED,
  PICKER_TAKEN,
  PICKER_TOP,
  PICKER_UPPER,
  PICKER_UPPER_BYTES,
  PICKER_UPPER_PLANES,
} from "../base/layout.ts";
import type { FragmentIndex, MemoryOffset } from "../base/units.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { FragmentWindow, WindowMap } from "./window.ts";

/** Lowest availability of each class of rarity. */
const CLASS_FROM = [1, 2, 3, 4, 8, 16] as const;

/** Throws AssertionError where the table at `table` is not what it must be. */
export function checkPickerTable(
  kernel: Kernel,
  table: MemoryOffset,
  window: FragmentWindow,
  haves: readonly WindowMap[],
  reserved: (index: FragmentIndex) => boolean,
): void {
  const { u32 } = kernel;
  const word = (at: MemoryOffset): number => u32[at >>> 2] as number;
  const bit = (map: MemoryOffset, i: number): number =>
    (word(map + 4 * (i >>> 5)) >>> (i & 31)) & 1;
  const cells = word(table + PICKER_CELLS);
  const any = word(table + PICKER_ANY);
  const groups = Math.ceil(window.mapBits / 4096);
  const summary = new Uint32Array(2 * 8 * groups);
  const top = new Uint32Array(2 * 8);
  let candidates = 0;
  let presence = 0;
  for (let i = 0; i < window.mapBits; i++) {
    const index = window.origin + i;
    const cell = cells + (i >>> 6) * PICKER_CELL_BYTES;
    const of = (offset: number): number => bit(cell + offset, i & 63);
    let availability = 0;
    for (const have of haves) availability += bit(have.words, i);
    for (let p = 0; p < PICKER_CELL_PLANES; p++) {
      assert(of(8 * p) === ((availability >>> p) & 1), `availability of ${index}`);
    }
    const upper = word(table + PICKER_UPPER) + (i >>> 6) * PICKER_UPPER_BYTES;
    for (let p = 0; p < PICKER_UPPER_PLANES; p++) {
      const isSet = (availability >>> (p + PICKER_CELL_PLANES)) & 1;
      assert(bit(upper + 8 * p, i & 63) === isSet, `availability of ${index}`);
    }
    assert(of(PICKER_MANY) === Number(availability >= 16), `whether many hold ${index}`);
    assert(of(PICKER_RESERVED) === Number(reserved(index)), `reservation of ${index}`);
    const taken = of(PICKER_TAKEN) === 1;
    assert(taken || index >= window.start, `${index} is below the start`);
    const held = bit(window.heldMap.words, i) === 1;
    const candidate = availability > 0 && !taken && !held && !reserved(index);
    assert(bit(any, i) === Number(candidate), `${index} as a candidate`);
    if (candidate) {
      candidates++;
      const kind = CLASS_FROM.findLastIndex((from) => from <= availability);
      presence |= (1 << kind) | (1 << PICKER_KIND_ANY);
    }
    if ((i & 63) !== 63) continue;
    assert(word(cell + PICKER_PRESENCE) === presence, `presence in the word of ${index}`);
    for (let kind = 0; kind <= PICKER_CLASSES; kind++) {
      if (((presence >>> kind) & 1) === 0) continue;
      const w = i >>> 6;
      const g = w >>> 6;
      const at = 16 * g + 2 * kind + ((w >>> 5) & 1);
      summary[at] = (summary[at] as number) | (1 << (w & 31));
      const topAt = 2 * kind + (g >>> 5);
      top[topAt] = (top[topAt] as number) | (1 << (g & 31));
    }
    presence = 0;
  }
  assert(word(table + PICKER_CANDIDATES) === candidates, "number of candidates");
  const summaryAt = table + PICKER_GROUPS;
  assert(16 * 4 === PICKER_GROUP_BYTES, "a group is eight words");
  for (const [i, bits] of summary.entries()) {
    assert(word(summaryAt + 4 * i) === bits, `summary at ${i}`);
  }
  for (const [i, bits] of top.entries()) {
    assert(word(table + PICKER_TOP + 4 * i) === bits, `top of the summary at ${i}`);
  }
}
