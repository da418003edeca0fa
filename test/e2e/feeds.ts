/** What tests of data sources on links of their own send, start, and read of what peers wrote. */

import { writeFileSync } from "node:fs";
import path from "node:path";
import { Mp2p, temporaryDirectory } from "./processes.ts";

export function lines(name: string, count: number, bytes = 0): string {
  let all = "";
  for (let i = 1; i <= count; i++) all += `${name} ${i} ${"x".repeat(bytes && i % bytes)}\n`;
  return all;
}

export function fileOf(text: string): string {
  const file = path.join(temporaryDirectory(), "input");
  writeFileSync(file, text);
  return file;
}

export function feed(to: string, sourceId: string, ...flags: readonly string[]): Mp2p {
  return new Mp2p(["feed", "--to", to, "--source-id", sourceId, ...flags]);
}

export interface Row {
  readonly sourceId: string;
  readonly sequence: number;
  readonly payload: string;
}

export function rows(...outputs: readonly Buffer[]): Row[] {
  return outputs.flatMap((output) =>
    output
      .toString()
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Row),
  );
}

/** The payloads of one source, put together by sequence number; what came twice must be the same. */
export function textOf(all: readonly Row[], sourceId: string): string {
  const bySequence = new Map<number, string>();
  for (const { sequence, payload } of all.filter((row) => row.sourceId === sourceId)) {
    const before = bySequence.get(sequence);
    if (before !== undefined && before !== payload) throw new Error(`two data ${sequence}`);
    bySequence.set(sequence, payload);
  }
  return [...bySequence]
    .sort(([a], [b]) => a - b)
    .map(([, payload]) => payload)
    .join("");
}
