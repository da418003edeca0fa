// Bit maps of the sizes that windows have. Unit: calls.
import { A, B, C, fillRandom } from "./bench-memory.mjs";

const SIZES = [1024, 8192, 65_536];

/** Random maps at A and B; C is all clear. */
const random = (bits) => (kernel) => {
  fillRandom(kernel, A, A + bits / 8 + 64);
  fillRandom(kernel, B, B + bits / 8 + 64);
  kernel.bitsClear(C, 0, bits + 512);
};

/** Nothing to find before the last bit: A has only that, B lacks only that. */
const sparse = (bits) => (kernel) => {
  kernel.bitsClear(A, 0, bits);
  kernel.bitsSet(A, bits - 1, bits);
  kernel.bitsSet(B, 0, bits - 1);
  kernel.bitsClear(B, bits - 1, bits);
  kernel.bitsClear(C, 0, bits);
};

const pure = (name, prepare, operation) =>
  SIZES.map((bits) => ({
    name: `${name} ${bits / 1024} Ki`,
    calls: 8192 / Math.min(bits, 8192),
    prepare: prepare(bits),
    call: (kernel) => operation(kernel, bits),
    check: (kernel) => [operation(kernel, bits)],
  }));

const writing = (name, operation, written) =>
  SIZES.map((bits) => ({
    name: `${name} ${bits / 1024} Ki`,
    calls: 8192 / Math.min(bits, 8192),
    prepare: random(bits),
    call: (kernel) => operation(kernel, bits),
    check: (kernel) => [operation(kernel, bits), kernel.crc32c(written, bits / 8)],
  }));

/** Each call goes on where the one before found something. */
const walk = (bits) => ({
  name: `next difference, dense ${bits / 1024} Ki`,
  calls: 1,
  steps: 1000,
  prepare: random(bits),
  call: (kernel) => walkDifferences(kernel, bits, 1000),
  check: (kernel) => [walkDifferences(kernel, bits, 1000)],
});

function walkDifferences(kernel, bits, steps) {
  let at = 0;
  for (let i = 0; i < steps; i++) {
    at = kernel.bitsNextDifference(A, B, at, bits) + 1;
    if (at > bits) at = 0;
  }
  return at;
}

export const bits = {
  name: "bits",
  cases: [
    ...pure("count", random, (kernel, to) => kernel.bitsCount(A, 0, to)),
    ...pure("next set, sparse", sparse, (kernel, to) => kernel.bitsNextSet(A, 0, to)),
    ...pure("next clear, sparse", sparse, (kernel, to) => kernel.bitsNextClear(B, 0, to)),
    ...pure("next difference, sparse", sparse, (k, to) => k.bitsNextDifference(A, B, 0, to)),
    ...pure("next difference of two, sparse", sparse, (kernel, to) =>
      kernel.bitsNextDifference2(A, B, C, 0, to),
    ),
    walk(8192),
    ...writing("set", (kernel, to) => kernel.bitsSet(C, 3, to - 3), C),
    ...writing("clear", (kernel, to) => kernel.bitsClear(C, 3, to - 3), C),
    ...writing("shift down", (kernel, to) => kernel.bitsShiftDown(C, to / 64, 1), C),
    ...writing("to wire", (kernel, to) => kernel.bitsToWire(A, 5, to, C), C),
    ...writing("from wire", (kernel, to) => kernel.bitsFromWire(A, to - 5, C, 5), C),
  ],
};
