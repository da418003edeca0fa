// Checksums of fragments. Unit: bytes.
import { A, B, C, fillRandom } from "./bench-memory.mjs";

const crc32c = (bytes) => ({
  name: `crc32c ${bytes} B`,
  bytes,
  calls: Math.max(1, Math.floor(16_384 / bytes)),
  prepare: (kernel) => fillRandom(kernel, A, A + bytes),
  call: (kernel) => kernel.crc32c(A, bytes),
  check: (kernel) => [kernel.crc32c(A, bytes)],
});

const frames = (name, operation) => ({
  name: `${name} 16 x 16 KiB`,
  bytes: 16 * 16_384,
  calls: 1,
  prepare: (kernel) => {
    fillRandom(kernel, A, A + 16 * 16_384);
    for (let i = 0; i < 16; i++) kernel.u32.set([A + i * 16_384, 16_384], B / 4 + 2 * i);
    kernel.checksumFragments(B, 16);
  },
  call: operation,
  check: (kernel) => [kernel.verifyFragments(B, 16, C), kernel.crc32c(A, 16 * 16_384)],
});

export const checksum = {
  name: "checksum",
  cases: [
    ...[200, 1024, 16_384, 65_536].map(crc32c),
    frames("checksumFragments", (kernel) => kernel.checksumFragments(B, 16)),
    frames("verifyFragments", (kernel) => kernel.verifyFragments(B, 16, C)),
  ],
};
