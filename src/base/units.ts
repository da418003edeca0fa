/**
 * Units. Names of numbers end in their unit (`reportIntervalMs`, `windowBytes`); these aliases say
 * which number space a value lives in.
 */

/** Position of a fragment in its overlay's stream: 0 to 2^53 - 2. */
export type FragmentIndex = number;
/** Sequence number of a datum within its data source: 1 to 2^53 - 1; 0 = none yet. */
export type SequenceNumber = number;
/** Microseconds since 1970, wall clock. Stamps data; never compared with a deadline. */
export type TimestampUs = number;
/** Milliseconds of a monotonic clock with an arbitrary origin. The only clock of deadlines. */
export type MonoMs = number;
/** Byte offset into the engine's memory. */
export type MemoryOffset = number;
/** Lower-case hex of the 32-byte SHA-256 of a peer's Ed25519 public key. */
export type PeerId = string;
/** Lower-case hex of the 16 random bytes that name an overlay. */
export type OverlayId = string;

export const KIB = 1024;
export const MIB = 1024 * 1024;
export const US_PER_MS = 1000;
export const SECOND_MS = 1000;

export function toHex(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i++) text += (bytes[i] as number).toString(16).padStart(2, "0");
  return text;
}

/** Undefined when `text` is not an even number of hex digits. */
export function fromHex(text: string): Uint8Array | undefined {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) return undefined;
  const bytes = new Uint8Array(text.length / 2);
  for (let i = 0; i < bytes.length; i++)
    bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

export function bytesEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
