/** Ids and local numbers of data sources. */

import { expect, it } from "vitest";
import { SourceTable } from "../../src/stream/source-table.ts";

it("a number that was given back is given again, and no other", () => {
  const table = new SourceTable();
  const [, b] = ["a", "b", "c"].map((id) => table.register(id, ""));
  expect(() => table.register("d", "x".repeat(200))).toThrow("content type");
  if (b === undefined) throw new Error("no b");
  table.remove(b);
  table.remove(b);
  expect(table.find("b")).toBeUndefined();
  const numbers = ["d", "e", "b"].map((id) => table.register(id, "").number);
  expect(numbers).toEqual([1, 3, 4]);
  for (let i = table.size; i < 256; i++) table.register(`s${i}`, "");
  expect([...table.entries()].map(({ number }) => number).sort((x, y) => x - y)).toEqual(
    Array.from({ length: 256 }, (_, i) => i),
  );
  expect(() => table.register("one more", "")).toThrow("at most 256");
});
