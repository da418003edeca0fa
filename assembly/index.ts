/**
 * The kernel: integers and pointers over one imported, shared memory. `src/kernel/kernel.ts` says
 * what each function does; `src/kernel/js-*.ts` is the same in JavaScript.
 *
 * Never: allocates, keeps state between calls, or has mutable static data: a second instance on the
 * same memory writes the module's static data anew. The look-up tables of the checksum lie below
 * HEAP_BASE; `init` writes the same bytes each time, which disturbs nobody.
 */

export { HEAP_BASE, checksumFragments, crc32c, init, verifyFragments } from "./crc32c";
export { copyBytes, mergeData, writeDataHeader, writeDatum, writeSlice } from "./fragments";
export {
  pickerAdvertise,
  pickerAvailability,
  pickerNext,
  pickerPick,
  pickerRelease,
  pickerReplace,
  pickerReserve,
  pickerShift,
  pickerStored,
  pickerTake,
  pickerWithdraw,
} from "./picker";
export { splitFragment } from "./split";
export {
  bitTest,
  bitsClear,
  bitsCount,
  bitsNextClear,
  bitsNextDifference,
  bitsNextDifference2,
  bitsNextSet,
  bitsSet,
  bitsShiftDown,
} from "./bits";
export { bitsFromWire, bitsToWire } from "./wire-bits";
