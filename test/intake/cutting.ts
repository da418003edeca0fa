/** What the intake tests share: a stream of bytes cut anywhere, and its data in plain form. */

import fc from "fast-check";
import { batchPayloads } from "../../src/intake/data-batch.ts";
import { type DataFormat, type ParseOptions, parseData } from "../../src/intake/formats.ts";

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Cuts `bytes` into blocks of the given sizes, taken in turn; empty blocks included. */
export function cut(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const blocks: Uint8Array[] = [];
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const size = sizes.length === 0 ? bytes.length : (sizes[i % sizes.length] ?? 1);
    blocks.push(bytes.slice(at, at + size));
    at += size;
  }
  return blocks;
}

/** Sizes of blocks that get on: at least one is above zero. */
export const cuttings = fc
  .array(fc.integer({ min: 0, max: 40 }), { maxLength: 8 })
  .filter((sizes) => sizes.length === 0 || sizes.some((size) => size > 0));

/**
 * Data of `blocks`. Each block is overwritten once the parser asked for the next: a parser that kept
 * a view of it instead of a copy shows.
 */
export async function parseAll(
  format: DataFormat,
  blocks: readonly Uint8Array[],
  options?: ParseOptions,
): Promise<Uint8Array[]> {
  async function* feed() {
    for (const block of blocks) {
      const lent = block.slice();
      yield lent;
      lent.fill(0xee);
    }
  }
  const data: Uint8Array[] = [];
  for await (const batch of parseData(format, feed(), options)) data.push(...batchPayloads(batch));
  return data;
}

export function join(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
