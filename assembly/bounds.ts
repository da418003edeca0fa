/** Bounds that callers keep; the debug build asserts them, the release build leaves them out. */

// @ts-ignore: decorator
@inline
export function assertRange(offset: usize, bytes: usize): void {
  assert(<u64>offset + <u64>bytes <= <u64>memory.size() << 16);
}

// @ts-ignore: decorator
@inline
export function assertWords(words: usize, to: u32): void {
  assert((words & 7) == 0);
  assertRange(words, <usize>((<u64>to + 63) >> 6 << 3));
}
