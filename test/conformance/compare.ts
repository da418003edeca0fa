/**
 * Holds the rows to what the tests showed. Pure: rows and results in, faults out.
 *
 * A proven row must have a passing test of its own in the file it names, and a passing negative
 * twin; an open row must have no passing test (then it is not open, or the title is wrong); the
 * number of open rows must be the committed one, so that it can not grow unseen.
 */

import type { Row } from "./rows.ts";

export interface TestResult {
  /** The test's own title, without those around it. */
  readonly title: string;
  /** As `test/servers/pams.test.ts`. */
  readonly file: string;
  readonly passed: boolean;
}

export interface Evidence {
  readonly ids: readonly string[];
  readonly negative: boolean;
}

const EVIDENCE_TITLE = /^([PR]\d+\.\w+(?:, [PR]\d+\.\w+)*)( \((?:negative|twin)\))?: /;

/** Which rows a title speaks for: `R5.c: ...`, `R5.a, R5.b (negative): ...`, or `(twin)`. */
export function evidenceOf(title: string): Evidence | undefined {
  const match = EVIDENCE_TITLE.exec(title);
  if (match === null) return undefined;
  return { ids: (match[1] ?? "").split(", "), negative: match[2] !== undefined };
}

/** What is wrong, a sentence each; empty when rows and results agree. */
export function compare(
  rows: readonly Row[],
  openRows: number,
  results: readonly TestResult[],
): string[] {
  const faults: string[] = [];
  const known = new Set(rows.map(({ id }) => id));
  const passing = new Map<string, { positive: string[]; negative: string[] }>();
  for (const { title, file, passed } of results) {
    const evidence = evidenceOf(title);
    if (evidence === undefined) continue;
    for (const id of evidence.ids) {
      if (!known.has(id)) faults.push(`${id}: no such row, in ${file}: ${title}`);
      if (!passed) continue;
      const files = passing.get(id) ?? { positive: [], negative: [] };
      passing.set(id, files);
      files[evidence.negative ? "negative" : "positive"].push(file);
    }
  }
  for (const { id, status, file } of rows) {
    const { positive, negative } = passing.get(id) ?? { positive: [], negative: [] };
    if (status === "proven") {
      if (!positive.includes(file))
        faults.push(`${id} is proven, but no test of it passed in ${file}`);
      if (negative.length === 0) faults.push(`${id} is proven, but no negative twin passed`);
    } else if (positive.length > 0 || negative.length > 0) {
      const files = [...new Set([...positive, ...negative])].join(", ");
      faults.push(`${id} is open, but a test of it passed in ${files}`);
    }
  }
  const openCount = rows.filter(({ status }) => status === "open").length;
  if (openCount > openRows) faults.push(`${openCount} rows are open, ${openRows} were: it grew`);
  if (openCount < openRows) faults.push(`${openCount} rows are open: set OPEN_ROWS to it`);
  return faults;
}
