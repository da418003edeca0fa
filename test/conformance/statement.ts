/**
 * Writes the conformance statement, docs/conformance.md: requirement, tests, status. Titles are read
 * from the text of the tests; that they pass is what the reporter checks in every whole run.
 */

import { readdirSync, readFileSync } from "node:fs";
import ts from "typescript";
import { evidenceOf } from "./compare.ts";
import type { Row } from "./rows.ts";

export interface TitledTest {
  readonly title: string;
  readonly file: string;
}

const testFolder = new URL("../", import.meta.url);

/** Every test of test/ whose title speaks for a row, in order of files. */
export function titledTests(): TitledTest[] {
  return readdirSync(testFolder, { recursive: true, encoding: "utf8" })
    .map((name) => name.replaceAll("\\", "/"))
    .filter((name) => name.endsWith(".test.ts"))
    .sort()
    .flatMap((name) => titlesIn(`test/${name}`, readFileSync(new URL(name, testFolder), "utf8")));
}

/** Titles of `it(...)`, `test(...)` and their each-forms that speak for a row. */
export function titlesIn(file: string, text: string): TitledTest[] {
  const found: TitledTest[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && /^(it|test)\b/.test(node.expression.getText(source))) {
      const title = node.arguments[0];
      if (title !== undefined && ts.isStringLiteralLike(title) && evidenceOf(title.text)) {
        found.push({ title: title.text, file });
      }
    }
    ts.forEachChild(node, visit);
  };
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true);
  visit(source);
  return found;
}

const LEVELS = {
  M: "is required to",
  R: "is recommended",
  O: "can optionally, may",
  T: "said without such a keyword",
} as const satisfies Record<Row["level"], string>;

export function statement(rows: readonly Row[], tests: readonly TitledTest[]): string {
  const proven = rows.filter(({ status }) => status === "proven").length;
  const lines = [
    "# Conformance to ITU-T X.609.10",
    "",
    "Generated from test/conformance/rows.ts and the titles of the tests; do not edit. A row is",
    "proven when the tests named here pass, one of them a negative twin, which shows that the check",
    "finds a violation. Every whole test run fails when this is not so.",
    "",
    `${proven} of ${rows.length} rows are proven.`,
    "",
    `Levels: ${Object.entries(LEVELS)
      .map(([level, words]) => `**${level}** ${words}`)
      .join("; ")}.`,
    "",
    "| id | level | requirement | status | tests |",
    "|---|---|---|---|---|",
  ];
  for (const { id, level, text, status } of rows) {
    const own = tests.filter(({ title }) => evidenceOf(title)?.ids.includes(id));
    lines.push(`| ${id} | ${level} | ${text} | ${status} | ${testCell(own)} |`);
  }
  return `${lines.join("\n")}\n`;
}

/** The tests of one row, grouped by file. */
function testCell(tests: readonly TitledTest[]): string {
  const files = [...new Set(tests.map(({ file }) => file))];
  return files
    .map((file) => {
      const titles = tests
        .filter((test) => test.file === file)
        .map(({ title }) => escapeCell(title));
      return [`\`${file}\``, ...titles].join("<br>");
    })
    .join("<br>");
}

function escapeCell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("<", "&lt;");
}
