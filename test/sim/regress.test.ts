/**
 * Runs that once failed, made small: none fails again. One that was found with a planted bug still
 * fails with it, so that a replay which no longer reaches the place is noticed.
 */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { peerDriver } from "./peer-driver.ts";
import { PLANTED_BUGS } from "./planted.ts";
import { explain, type Report, simulate } from "./run.ts";
import { type KeptRun, REGRESS_DIR } from "./shrink.ts";

const kept = readdirSync(REGRESS_DIR)
  .filter((name) => name.endsWith(".json"))
  .map((name) => ({
    name,
    run: JSON.parse(readFileSync(join(REGRESS_DIR, name), "utf8")) as KeptRun,
  }));

function replay({ seed, overrides, planted }: KeptRun): Report {
  const bug = PLANTED_BUGS.find(({ name }) => name === planted);
  return simulate({
    seed,
    overrides,
    driver: peerDriver,
    prepare: ({ swarm }) => {
      if (bug !== undefined) swarm.wrap = (member, machine) => bug.plant(member, machine, swarm);
    },
  });
}

describe("kept runs", () => {
  test("there are some", () => {
    expect(kept.length).toBeGreaterThan(0);
  });

  test.each(kept)("$name holds now", ({ run: { seed, overrides } }) => {
    const report = simulate({ seed, overrides, driver: peerDriver });
    expect(report.ok, explain(report)).toBe(true);
  });

  test.each(kept.filter(({ run }) => run.planted !== undefined))(
    "$name still finds the bug that was planted for it",
    ({ run }) => {
      const checkers = replay(run).violations.map(({ checker }) => checker);
      expect(checkers).toContain(run.checker);
    },
  );
});
