/**
 * One seed, by hand: MP2P_SIM_SEED=7 npx vitest run test/sim/replay.test.ts. Options that the seed
 * draws can be set with MP2P_SIM_OPTIONS='{"peers":3}'; MP2P_SIM_LOG=1 prints what happens. Without
 * a seed it proves that a replay is the same run.
 */

import { expect, test } from "vitest";
import type { SwarmOptions } from "./options.ts";
import { peerDriver } from "./peer-driver.ts";
import { explain, simulate } from "./run.ts";

test("a run replays from its seed and options", () => {
  const { MP2P_SIM_SEED, MP2P_SIM_OPTIONS, MP2P_SIM_LOG } = process.env;
  const seed = Number(MP2P_SIM_SEED ?? 1);
  // Without a seed the run need not be long.
  const own = MP2P_SIM_SEED === undefined ? { dataPerSource: 60 } : {};
  const overrides = { ...own, ...JSON.parse(MP2P_SIM_OPTIONS ?? "{}") } as Partial<SwarmOptions>;
  const lines: string[] = [];
  const log = (line: string): void => {
    lines.push(line);
  };
  const report = simulate({ seed, overrides, driver: peerDriver, log });
  if (MP2P_SIM_LOG !== undefined) process.stdout.write(`${lines.join("\n")}\n`);
  if (MP2P_SIM_SEED !== undefined) process.stdout.write(`${JSON.stringify(report, null, 1)}\n`);
  const again = simulate({ seed, overrides: report.options, driver: peerDriver });
  expect(again.traceHash).toBe(report.traceHash);
  expect(report.ok, explain(report)).toBe(true);
});
