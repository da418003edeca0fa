import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { OPEN_ROWS, ROWS } from "./rows.ts";
import { statement, titledTests, titlesIn } from "./statement.ts";

const page = new URL("../../docs/conformance.md", import.meta.url);

describe("docs/conformance.md", () => {
  it("is what the rows and titles say; MP2P_WRITE_CONFORMANCE=1 writes it anew", () => {
    const expected = statement(ROWS, titledTests());
    if (process.env.MP2P_WRITE_CONFORMANCE === "1") writeFileSync(page, expected);
    expect(readFileSync(page, "utf8")).toBe(expected);
  });
});

describe("rows", () => {
  it("have distinct ids, a file exactly when proven, and the committed number open", () => {
    expect(new Set(ROWS.map(({ id }) => id)).size).toBe(ROWS.length);
    for (const { id, status, file } of ROWS) expect(file !== "", id).toBe(status === "proven");
    expect(ROWS.filter(({ status }) => status === "open").length).toBe(OPEN_ROWS);
  });

  it("cover clauses 6 to 8: 20 procedures and 50 requirements of 12 reference points", () => {
    const points = ROWS.filter(({ id }) => id.startsWith("R")).map(({ id }) => id.split(".")[0]);
    expect(ROWS.length - points.length).toBe(20);
    expect(points.length).toBe(50);
    expect(new Set(points).size).toBe(12);
  });
});

describe("statement", () => {
  it("finds titles in every form of test, and nothing else", () => {
    const text = `
      describe("R1.a: not a test", () => {
        it("R1.b: plain", () => {});
        it.each([1])("R1.c (negative): each %s", () => {});
        test("ordinary", () => {});
        // it("R1.d: comment", () => {});
      });`;
    expect(titlesIn("a.test.ts", text)).toEqual([
      { file: "a.test.ts", title: "R1.b: plain" },
      { file: "a.test.ts", title: "R1.c (negative): each %s" },
    ]);
  });

  it("lists each row with its tests, and changes when a row, a title or a file does", () => {
    const rows = ROWS.filter(({ id }) => id === "R1.a");
    const tests = [
      { file: "a.test.ts", title: "R1.a: x | y" },
      { file: "a.test.ts", title: "R1.a (negative): z" },
      { file: "b.test.ts", title: "R1.b: other row" },
    ];
    const text = statement(rows, tests);
    expect(text).toContain("| `a.test.ts`<br>R1.a: x \\| y<br>R1.a (negative): z |");
    expect(text).not.toContain("other row");
    expect(statement(rows, tests.slice(1))).not.toBe(text);
    expect(statement(ROWS, tests)).not.toBe(text);
  });
});
