/** Places in free memory, apart from each other by more than any test of the contract needs. */

import { HEAP } from "./kernels.ts";

export const A = HEAP;
export const B = HEAP + 0x40000;
export const C = HEAP + 0x80000;
export const D = HEAP + 0xc0000;
