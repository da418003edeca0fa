/** A failing run becomes a small one that fails the same way; what occurs is held against a table. */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { judgeCoverage } from "./expected.ts";
import type { SwarmOptions } from "./options.ts";
import { peerDriver } from "./peer-driver.ts";
import { PLANTED_BUGS, type PlantedBug } from "./planted.ts";
import { type Report, simulate } from "./run.ts";
import { type KeptRun, keep, shrink } from "./shrink.ts";

const BUG = PLANTED_BUGS.find(
  ({ name }) => name === "grants credit beyond its window",
) as PlantedBug;

function runWithBug(seed: number, overrides: Partial<SwarmOptions>): Report {
  return simulate({
    seed,
    overrides,
    driver: peerDriver,
    prepare: ({ swarm }) => {
      swarm.wrap = (member, machine) => BUG.plant(member, machine, swarm);
    },
  });
}

describe("shrinking", () => {
  test("takes away what the failure does not need, and keeps the rest as a file", () => {
    const report = runWithBug(3, {});
    expect(report.ok).toBe(false);
    const kept = shrink(report, runWithBug, 30);
    const small = runWithBug(kept.seed, kept.overrides);
    expect(small.violations.map(({ checker }) => checker)).toContain(kept.checker);
    expect(small.options.peers).toBeLessThan((2 * report.options.peers) / 3);
    expect(small.events).toBeLessThan(report.events / 4);
    const directory = mkdtempSync(join(tmpdir(), "mp2p-regress-"));
    try {
      const file = keep({ ...kept, planted: BUG.name }, directory);
      const read = JSON.parse(readFileSync(file, "utf8")) as KeptRun;
      expect(runWithBug(read.seed, read.overrides).traceHash).toBe(small.traceHash);
    } finally {
      rmSync(directory, { recursive: true });
    }
  }, 120_000);

  test("a run that holds can not be made small (negative)", () => {
    const report = simulate({ seed: 3, driver: peerDriver, overrides: { dataPerSource: 60 } });
    expect(report.ok).toBe(true);
    expect(() => shrink(report, runWithBug)).toThrow("only a run that failed");
  });
});

describe("the table of what must occur", () => {
  const expected = [
    { name: "branch:a" },
    { name: "branch:b", seldom: "why" },
    { name: "branch:c", never: "nobody does it" },
  ];
  const runs = Array.from({ length: 200 }, (_, i) => (i < 2 ? ["branch:a"] : []));

  test("asks for one seed in a hundred", () => {
    expect(judgeCoverage(runs, expected).faults).toEqual([]);
    expect(judgeCoverage(runs.slice(1, 200), expected).faults).toEqual([
      "branch:a: in 1 of 199 seeds, 2 are asked for",
    ]);
  });

  test("says what occurs and has no row, or one that is switched off (negative)", () => {
    const { faults } = judgeCoverage([...runs, ["branch:c", "branch:d"]], expected);
    expect(faults).toEqual([
      "branch:a: in 2 of 201 seeds, 3 are asked for",
      'branch:c: occurs now, though "nobody does it": switch its row on',
      "branch:d: occurs in 1 seeds and has no row",
    ]);
  });
});
