/** docs/architecture.md and its code map name what exists, and rooms as the build enforces them. */

import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ROOMS } from "../architecture/rooms.ts";
import { readPage } from "./page.ts";

const root = new URL("../../", import.meta.url);
const source = readFileSync(new URL("docs/architecture.md", root), "utf8");
const map = readFileSync(new URL("docs/code-map.md", root), "utf8");
const page = readPage("architecture.md");

test("every path it and the code map name exists", () => {
  const paths = [
    ...`${source}\n${map}`.matchAll(/\b(?:src|test|assembly|bench|docs)\/[\w./-]*/g),
  ].map(([path]) => path.replace(/[.]$/, ""));
  expect(new Set(paths).size).toBeGreaterThan(60);
  expect(paths.filter((path) => !existsSync(new URL(path, root)))).toEqual([]);
});

test("its rooms and their imports are those of the build", () => {
  const rows = page.section("Rooms").tables[0]?.rows ?? [];
  const described = rows.map(([room, , imports]) => [
    room?.replaceAll("`", ""),
    imports === "nothing" ? [] : imports?.split(", "),
  ]);
  expect(described).toEqual(Object.entries(ROOMS).map(([room, { rooms }]) => [room, rooms]));
  const held = page.section("What holds in each room").tables[0]?.rows.map(([room]) => room);
  expect(held).toEqual(Object.keys(ROOMS));
});

test("it stays short enough to be read", () => {
  expect(source.split("\n").length).toBeLessThanOrEqual(220);
  for (const line of source.split("\n")) {
    if (!line.startsWith("|")) expect(line.length, line).toBeLessThanOrEqual(110);
  }
});
