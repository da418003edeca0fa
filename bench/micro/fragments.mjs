// Merging, slicing and splitting, a 16 KiB fragment at a time. Unit: data, or bytes for slices.
import { A, B, C, D, fillRandom } from "./bench-memory.mjs";

const FRAGMENT_BYTES = 16_384;
const SOURCE_BYTES = 24 + 4;

/** How many data of `bytes` fill a fragment. */
const dataOf = (bytes) => Math.floor((FRAGMENT_BYTES - 40 - SOURCE_BYTES) / (12 + bytes));

function mergeFragment(kernel, bytes) {
  const count = dataOf(bytes);
  const merged = kernel.mergeData(A + 40 + SOURCE_BYTES, A + FRAGMENT_BYTES, B, C, count, 1, 7);
  const frameBytes = 40 + SOURCE_BYTES + merged * (12 + bytes);
  kernel.writeDataHeader(A, frameBytes, 0, merged + 1, D, 42, 1_700_000_000_000_000);
  return frameBytes;
}

function prepareData(kernel, bytes) {
  const count = dataOf(bytes);
  fillRandom(kernel, A, A + FRAGMENT_BYTES);
  fillRandom(kernel, B, B + count * bytes + 8);
  for (let i = 0; i < count; i++) kernel.view.setUint32(C + 4 * i, bytes, true);
  kernel.bytes.set([1, 2, 3, 4, 5, 6, 7, 8], D);
  // SOURCE number 1, "id", "ct", base sequence 1, base timestamp 100.
  kernel.bytes.fill(0, A + 40, A + 64);
  kernel.bytes.set([1, 1, 2, 2], A + 40);
  kernel.bytes.set([1], A + 48);
  kernel.bytes.set([100], A + 56);
  kernel.bytes.set([0x69, 0x64, 0x63, 0x74], A + 64);
}

const merge = (bytes) => ({
  name: `merge ${bytes} B`,
  data: dataOf(bytes),
  calls: 1,
  prepare: (kernel) => prepareData(kernel, bytes),
  call: (kernel) => mergeFragment(kernel, bytes),
  check: (kernel) => [kernel.crc32c(A, mergeFragment(kernel, bytes))],
});

const split = (bytes) => {
  const frameBytes = 40 + SOURCE_BYTES + dataOf(bytes) * (12 + bytes);
  const ENTRIES = B;
  return {
    name: `split ${bytes} B`,
    data: dataOf(bytes),
    calls: 1,
    prepare: (kernel) => {
      prepareData(kernel, bytes);
      mergeFragment(kernel, bytes);
    },
    call: (kernel) => kernel.splitFragment(A, frameBytes, ENTRIES, 2000, C),
    check: (kernel) => {
      const answer = kernel.splitFragment(A, frameBytes, ENTRIES, 2000, C);
      if (answer !== 65_536 + dataOf(bytes)) throw new Error(`split answered ${answer}`);
      return [answer, kernel.crc32c(ENTRIES, 32 * dataOf(bytes)), kernel.crc32c(C, 32)];
    },
  };
};

const SLICE_BYTES = FRAGMENT_BYTES - 40 - SOURCE_BYTES - 20;
const slice = {
  name: "slice 16 KiB",
  bytes: SLICE_BYTES,
  calls: 1,
  prepare: (kernel) => prepareData(kernel, 1024),
  call: (kernel) => kernel.writeSlice(A + 68, B, SLICE_BYTES, 1, 0, 7, 4096, 1 << 24),
  check: (kernel) => [
    kernel.writeSlice(A + 68, B, SLICE_BYTES, 1, 0, 7, 4096, 1 << 24),
    kernel.crc32c(A, FRAGMENT_BYTES),
  ],
};

const datum = {
  name: "datum 4 KiB",
  bytes: 4096,
  calls: 4,
  prepare: (kernel) => prepareData(kernel, 1024),
  call: (kernel) => kernel.writeDatum(A + 68, A + 75, 4096, 1, 7),
  check: (kernel) => [kernel.writeDatum(A + 68, B, 4096, 1, 7), kernel.crc32c(A, FRAGMENT_BYTES)],
};

export const fragments = {
  name: "fragments",
  cases: [...[64, 200, 1024].map(merge), datum, slice, ...[64, 200, 1024].map(split)],
};
