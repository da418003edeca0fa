/** Reads a page of docs/: its sections, and the tables and code blocks in them. */

import { readFileSync } from "node:fs";

export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export interface CodeBlock {
  /** What stands behind the opening fence: `hex DATA`. */
  readonly info: string;
  readonly text: string;
}

export interface Section {
  readonly heading: string;
  readonly level: number;
  readonly tables: Table[];
  readonly blocks: CodeBlock[];
}

export interface Page {
  /** All white space is one space: sentences are found wherever they wrap. */
  readonly text: string;
  readonly sections: readonly Section[];
  section(heading: string): Section;
  readonly blocks: readonly CodeBlock[];
}

export function readPage(name: string): Page {
  const source = readFileSync(new URL(`../../docs/${name}`, import.meta.url), "utf8");
  const sections: Section[] = [{ heading: "", level: 0, tables: [], blocks: [] }];
  let code: { info: string; lines: string[] } | undefined;
  let table: string[][] = [];
  const last = (): Section => sections.at(-1) as Section;
  for (const line of source.split("\n")) {
    if (line.startsWith("```")) {
      if (code === undefined) code = { info: line.slice(3).trim(), lines: [] };
      else {
        last().blocks.push({ info: code.info, text: code.lines.join("\n") });
        code = undefined;
      }
      continue;
    }
    if (code !== undefined) {
      code.lines.push(line);
      continue;
    }
    if (line.startsWith("|")) {
      table.push(cellsOf(line));
      continue;
    }
    if (table.length > 0) {
      const [head = [], , ...rows] = table;
      last().tables.push({ head, rows });
      table = [];
    }
    const heading = /^(#+) (.+)$/.exec(line);
    if (heading !== null) {
      const level = (heading[1] as string).length;
      sections.push({ heading: heading[2] as string, level, tables: [], blocks: [] });
    }
  }
  return {
    text: source.replace(/\s+/g, " "),
    sections,
    section(heading) {
      const found = sections.find((section) => section.heading === heading);
      if (found === undefined) throw new Error(`no section ${heading}`);
      return found;
    },
    blocks: sections.flatMap((section) => section.blocks),
  };
}

function cellsOf(line: string): string[] {
  return line
    .slice(1, line.lastIndexOf("|"))
    .split("|")
    .map((cell) => cell.trim());
}
