/** Runs a range of seeds, holds what occurred against the table, and makes the first failure small. */

import { expect } from "vitest";
import { judgeCoverage } from "./expected.ts";
import type { SwarmOptions } from "./options.ts";
import { peerDriver } from "./peer-driver.ts";
import { explain, type Report, simulate } from "./run.ts";
import { keep, shrink } from "./shrink.ts";

/** Half of the seeds on one of two cores: all of them within two minutes. */
export const CPU_MS_MAX = 120_000;
/** In one of so many seeds invariants are recomputed after each step. */
const CLOSELY_EVERY = 50;

export interface SeedsSummary {
  readonly reports: readonly Report[];
  /** Share of peers owed everything, over all seeds. */
  readonly goodShare: number;
  /** Time of a core that the runs took. */
  readonly cpuMs: number;
}

/**
 * Every seed of [from, to] must hold; the first that does not is explained and kept, made small,
 * under test/sim/regress; others are named. Then everything in the table must have occurred.
 */
export function runSeeds(from: number, to: number): SeedsSummary {
  const run = (seed: number, overrides: Partial<SwarmOptions> = {}): Report =>
    simulate({
      seed,
      overrides,
      driver: peerDriver,
      invariantsEverySteps: seed % CLOSELY_EVERY === 0 ? 1 : 149,
    });
  const before = process.cpuUsage();
  const reports: Report[] = [];
  const failures: string[] = [];
  for (let seed = from; seed <= to; seed++) {
    const report = run(seed);
    if (!report.ok) {
      if (failures.length === 0) {
        failures.push(explain(report), `made small: ${keep(shrink(report, run))}`);
      } else failures.push(brief(report));
    }
    reports.push(report);
  }
  const { user, system } = process.cpuUsage(before);
  expect(failures.length, failures.join("\n")).toBe(0);
  const { table, faults } = judgeCoverage(reports.map(({ occurred }) => occurred));
  process.stdout.write(`seeds ${from} to ${to}, of them with\n${table}\n`);
  expect(faults, faults.join("\n")).toEqual([]);
  const sum = (of: (report: Report) => number): number =>
    reports.reduce((total, report) => total + of(report), 0);
  return {
    reports,
    goodShare: sum((report) => report.peersInGoodStanding) / sum((report) => report.peers),
    cpuMs: (user + system) / 1_000,
  };
}

function brief({ seed, violations }: Report): string {
  const [first] = violations;
  return `seed ${seed}: ${first?.checker}: ${first?.message}`;
}
