/**
 * The service key: the secret by which servers that belong together know each other's calls (R1).
 * Who shows it is trusted as a server; it names nobody and never leaves in an answer or a log.
 */

import { assert } from "../base/assert.ts";
import { SERVICE_KEY_BYTES_MAX } from "../protocol/common.ts";

/** Below 128 bits a key could be guessed. */
const SERVICE_KEY_BYTES_MIN = 16;

/** What is wrong with a key that was given, in words; undefined: nothing. */
export function serviceKeyFault({ length }: Uint8Array): string | undefined {
  if (length >= SERVICE_KEY_BYTES_MIN && length <= SERVICE_KEY_BYTES_MAX) return undefined;
  return `a service key has ${SERVICE_KEY_BYTES_MIN} to ${SERVICE_KEY_BYTES_MAX} bytes, not ${length}`;
}

/** For options: undefined = no key. Asserts the length. */
export function checkedServiceKey(key: Uint8Array | undefined): Uint8Array | undefined {
  const fault = key && serviceKeyFault(key);
  assert(fault === undefined, fault ?? "");
  return key;
}

/**
 * Whether both are the same key. Every position is compared whatever came before: the time taken
 * does not tell how much of a guess was right.
 */
export function isSameServiceKey(key: Uint8Array, shown: Uint8Array): boolean {
  let difference = key.length ^ shown.length;
  for (let i = 0; i < SERVICE_KEY_BYTES_MAX; i++) difference |= (key[i] ?? 0) ^ (shown[i] ?? 0);
  return difference === 0;
}
