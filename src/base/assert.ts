/**
 * Assertions about our own code. A failed assertion is a bug of this project, never a fault of
 * remote input: what a remote sends is answered with an error or a closed link (see errors.ts).
 */

export class AssertionError extends Error {
  override readonly name = "AssertionError";
  readonly code = "ASSERTION";
}

/** Throws AssertionError with `message` unless `condition` holds. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Ends an exhaustive switch: the compiler proves that `value` can not exist. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${JSON.stringify(value)}`);
}
