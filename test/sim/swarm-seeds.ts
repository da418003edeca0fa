/** Runs a range of seeds, holds what occurred against the table, and makes the first failure small. */

import { expect } from "vitest";
import { judgeCoverage } from "./expected.ts";
import type { SwarmOptions } from "./options.ts";
import { peerDriver } from "./peer-driver.ts";
import { explain, type Report, simulate } from "./run.ts";
import { keep, shrink } from "./shrink.ts";

/**
 * Half of the seeds on one of two cores: all of them within two minutes on a machine at rest. The
 * reference needs few caches; where others use them, the runs cost up to 1.75 times as much as it
 * tells (on one host 204 s for 98 s on another, with a reference of 1.2 times).
 */
export const CPU_MS_MAX = 1.75 * 120_000;
/** What the reference takes of a core there; the same core takes twice that when others use it, too. */
const REFERENCE_MS = 130;
/** And after how many seeds it is taken again. */
const REFERENCE_EVERY = 15;
/** In one of so many seeds invariants are recomputed after each step. */
const CLOSELY_EVERY = 50;

export interface SeedsSummary {
  readonly reports: readonly Report[];
  /** Share of peers owed everything, over all seeds. */
  readonly goodShare: number;
  /** Time of a core that the runs would take on a machine at rest. */
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
  let runsMs = 0;
  let referenceMs = 0;
  let references = 0;
  const reports: Report[] = [];
  const failures: string[] = [];
  for (let seed = from; seed <= to; seed++) {
    if ((seed - from) % REFERENCE_EVERY === 0) {
      referenceMs += spentMs(reference);
      references++;
    }
    let report = undefined as unknown as Report;
    runsMs += spentMs(() => {
      report = run(seed);
    });
    if (!report.ok) {
      if (failures.length === 0) {
        failures.push(explain(report), `made small: ${keep(shrink(report, run))}`);
      } else failures.push(brief(report));
    }
    reports.push(report);
  }
  const slowness = Math.max(1, referenceMs / references / REFERENCE_MS);
  expect(failures.length, failures.join("\n")).toBe(0);
  const { table, faults } = judgeCoverage(reports.map(({ occurred }) => occurred));
  const time = `${(runsMs / 1_000).toFixed(1)} s of a core that is ${slowness.toFixed(2)} times as slow`;
  process.stdout.write(`seeds ${from} to ${to}, ${time}, of them with\n${table}\n`);
  expect(faults, faults.join("\n")).toEqual([]);
  const sum = (of: (report: Report) => number): number =>
    reports.reduce((total, report) => total + of(report), 0);
  return {
    reports,
    goodShare: sum((report) => report.peersInGoodStanding) / sum((report) => report.peers),
    cpuMs: runsMs / slowness,
  };
}

function spentMs(work: () => unknown): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

/** Always the same work, of the kind that a simulation is: small tables, small objects, a hash map. */
function reference(): number {
  let sum = 0;
  const table = new Float64Array(1 << 16);
  const map = new Map<number, { readonly at: number }>();
  let x = 88_172_645;
  for (let i = 0; i < 3_000_000; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    const at = x & 0xffff;
    table[at] = (table[at] as number) + i;
    sum += table[(at * 31) & 0xffff] as number;
    if ((i & 3) !== 0) continue;
    map.set(x & 0x3fff, { at });
    sum += map.get((x * 7) & 0x3fff)?.at ?? 0;
  }
  return sum;
}

function brief({ seed, violations }: Report): string {
  const [first] = violations;
  return `seed ${seed}: ${first?.checker}: ${first?.message}`;
}
