/** docs/protocol.md, and its examples in hex. */

import { type CodeBlock, readPage } from "./page.ts";

export const page = readPage("protocol.md");

export function block(label: string): CodeBlock {
  const found = page.blocks.find(({ info }) => info === `hex ${label}`);
  if (found === undefined) throw new Error(`no example ${label}`);
  return found;
}

export const bytesOf = ({ text }: CodeBlock): Buffer => Buffer.from(text.replace(/\s/g, ""), "hex");
