import { describe, expect, it } from "vitest";
import { compare, evidenceOf, type TestResult } from "./compare.ts";
import type { Row } from "./rows.ts";

const file = "test/servers/pams.test.ts";
const row = (id: string, status: Row["status"]): Row => ({
  id,
  level: "M",
  text: id,
  status,
  file: status === "proven" ? file : "",
});
const result = (title: string, passed = true, at = file): TestResult => ({
  title,
  passed,
  file: at,
});
const proof = [result("R5.c: x"), result("R5.c (negative): x")];

describe("evidenceOf", () => {
  it.each([
    ["R5.c: x", ["R5.c"], false],
    ["P0.1 (negative): x", ["P0.1"], true],
    ["R5.c (twin): x", ["R5.c"], true],
    ["R5.a, R5.b, R10.c: x", ["R5.a", "R5.b", "R10.c"], false],
    ["R5.0: x", ["R5.0"], false],
  ])("reads %s", (title, ids, negative) => {
    expect(evidenceOf(title)).toEqual({ ids, negative });
  });

  it.each(["x R5.c: y", "R5.c x", "R5.c:x", "R5: x", "r5.c: x", "R5.c(negative): x", ""])(
    "takes %j for an ordinary title",
    (title) => {
      expect(evidenceOf(title)).toBeUndefined();
    },
  );
});

describe("compare", () => {
  it("agrees with a proven row that has both, an open row that has nothing, ordinary titles", () => {
    const rows = [row("R5.c", "proven"), row("R5.d", "open")];
    expect(compare(rows, 1, [...proof, result("ordinary")])).toEqual([]);
  });

  it("counts a title for each row it names", () => {
    const rows = [row("R5.a", "proven"), row("R5.b", "proven")];
    const results = [result("R5.a, R5.b: x"), result("R5.a, R5.b (negative): x")];
    expect(compare(rows, 0, results)).toEqual([]);
  });

  it.each([
    ["no test", [], /no test of it passed .* no negative twin/],
    ["a test that failed", [result("R5.c: x", false), proof[1]], /no test of it passed/],
    ["a test in another file", [result("R5.c: x", true, "y"), proof[1]], /no test of it passed in/],
    ["no negative twin", [proof[0]], /no negative twin passed/],
    ["a twin that failed", [proof[0], result("R5.c (negative): x", false)], /no negative twin/],
    ["the test of another row", [result("R5.d: x"), proof[1]], /no test of it passed/],
  ] as [string, TestResult[], RegExp][])(
    "refuses a proven row with %s",
    (_name, results, words) => {
      const faults = compare([row("R5.c", "proven"), row("R5.d", "proven")], 0, results);
      expect(faults.filter((fault) => fault.startsWith("R5.c")).join(" ")).toMatch(words);
    },
  );

  it.each([
    ["positive", proof.slice(0, 1)],
    ["negative", proof.slice(1)],
  ])("refuses an open row with a passing %s test", (_name, results) => {
    expect(compare([row("R5.c", "open")], 1, results)).toEqual([
      `R5.c is open, but a test of it passed in ${file}`,
    ]);
  });

  it("lets an open row have a test that fails: the run fails by itself", () => {
    expect(compare([row("R5.c", "open")], 1, [result("R5.c: x", false)])).toEqual([]);
  });

  it("refuses more open rows than committed, and a number left behind", () => {
    expect(compare([row("R5.c", "open")], 0, [])).toEqual(["1 rows are open, 0 were: it grew"]);
    expect(compare([row("R5.c", "proven")], 1, proof)).toEqual([
      "0 rows are open: set OPEN_ROWS to it",
    ]);
  });

  it("refuses a title that names no row", () => {
    expect(compare([], 0, [result("R9.a: x")])).toEqual([`R9.a: no such row, in ${file}: R9.a: x`]);
  });
});
