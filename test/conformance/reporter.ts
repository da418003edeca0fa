/**
 * Compares the conformance rows with the results at the end of a whole run, and fails the run when
 * they disagree. A run of some files or some titles says nothing about the other rows, so it is not
 * compared, and the line printed says so.
 */

import { relative } from "node:path";
import type { Reporter, TestModule, Vitest } from "vitest/node";
import { compare, type TestResult } from "./compare.ts";
import { OPEN_ROWS, ROWS, type Row } from "./rows.ts";

export class ConformanceReporter implements Reporter {
  readonly #rows: readonly Row[];
  readonly #openRows: number;
  #vitest: Vitest | undefined;

  constructor(rows: readonly Row[] = ROWS, openRows: number = OPEN_ROWS) {
    this.#rows = rows;
    this.#openRows = openRows;
  }

  onInit(vitest: Vitest): void {
    this.#vitest = vitest;
  }

  async onTestRunEnd(modules: readonly TestModule[]): Promise<void> {
    const vitest = this.#vitest;
    if (vitest === undefined) return;
    const root = vitest.config.root;
    const missing = await this.#notRun(vitest, modules);
    if (missing !== undefined) {
      vitest.logger.log(`conformance: not compared, ${missing}`);
      return;
    }
    const faults = compare(this.#rows, this.#openRows, resultsOf(modules, root));
    const proven = this.#rows.filter(({ status }) => status === "proven").length;
    vitest.logger.log(`conformance: ${proven} of ${this.#rows.length} rows proven`);
    for (const fault of faults) vitest.logger.error(`conformance: ${fault}`);
    if (faults.length > 0) process.exitCode = 1;
  }

  /** Why this run is not a whole one; undefined when it is. */
  async #notRun(vitest: Vitest, modules: readonly TestModule[]): Promise<string | undefined> {
    if (vitest.config.testNamePattern !== undefined) return "titles were picked";
    const run = new Set(modules.map(({ moduleId }) => moduleId));
    const all = await vitest.globTestSpecifications();
    const missing = all.filter(({ moduleId }) => !run.has(moduleId)).length;
    return missing === 0 ? undefined : `${missing} of ${all.length} files were not run`;
  }
}

function resultsOf(modules: readonly TestModule[], root: string): TestResult[] {
  const results: TestResult[] = [];
  for (const module of modules) {
    const file = relative(root, module.moduleId).replaceAll("\\", "/");
    for (const test of module.children.allTests()) {
      // A test that is expected to fail shows the opposite of its title.
      const passed = test.result().state === "passed" && test.options.fails !== true;
      results.push({ title: test.name, file, passed });
    }
  }
  return results;
}
