/** The table of what seeds must reach leaves no error code of a peer out. */

import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { ERRORS, isErrorCode } from "../../src/base/errors.ts";
import { EXPECTED } from "./expected.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const read = (...parts: string[]): string => readFileSync(path.join(ROOT, ...parts), "utf8");

/** Thrown at whoever calls a peer in its own process: none of these is sent, or told as an event. */
const OF_ITS_CALLER = [
  "DATUM_TOO_LARGE",
  "ENGINE_MEMORY",
  "INTEGRITY_UNSUPPORTED",
  "SOURCE_ENDED",
  "SOURCE_UNREGISTERED",
  "UNKNOWN_OVERLAY",
  "USAGE",
];
const rows = new Set(EXPECTED.map(({ name }) => name));
const without = (codes: readonly string[]): string[] =>
  codes.filter((code) => !rows.has(`error:${code}`));

test("each fault on a peer link, as the protocol lists them, has a row", () => {
  const page = read("docs", "protocol.md");
  const table = page.split("## Faults on a peer link")[1]?.split("\n# ")[0] ?? "";
  const codes = [...table.matchAll(/^\| ([A-Z_]+) \|/gm)].map(([, code]) => code as string);
  expect(codes.length).toBeGreaterThan(10);
  expect(codes.filter((code) => !isErrorCode(code))).toEqual([]);
  expect(without(codes)).toEqual([]);
});

test("each error code that the peer machine names has a row, or is of its caller", () => {
  const named = new Set<string>();
  for (const directory of ["peer", "peer/partners"]) {
    for (const file of readdirSync(path.join(ROOT, "src", directory))) {
      if (!file.endsWith(".ts")) continue;
      for (const [, word] of read("src", directory, file).matchAll(/"([A-Z][A-Z_]+)"/g)) {
        if (isErrorCode(word)) named.add(word);
      }
    }
  }
  expect(named.size).toBeGreaterThan(20);
  const codes = [...named].filter((code) => !OF_ITS_CALLER.includes(code));
  expect(without(codes)).toEqual([]);
  // What is left out above is named, and has no row.
  expect(OF_ITS_CALLER.filter((code) => !named.has(code) || !without([code]).length)).toEqual([]);
});

test("no row names an error code that does not exist, or one twice", () => {
  const codes = EXPECTED.map(({ name }) => name).filter((name) => name.startsWith("error:"));
  expect(codes.filter((name) => !Object.hasOwn(ERRORS, name.slice(6)))).toEqual([]);
  expect(rows.size).toBe(EXPECTED.length);
});
