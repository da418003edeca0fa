/** Large runs in small: the machinery of `mp2p sim` by 30 to 100 peers. */

import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { LargeOptions } from "../../src/sim/large/options.ts";
import type { LargeReport } from "../../src/sim/large/report.ts";
import { type LargeRun, runLarge } from "../../src/sim/large/run.ts";
import { tableOf } from "../../src/sim/large/table.ts";

function run(
  options: Partial<LargeOptions>,
  progress?: (virtualMs: number, run: LargeRun) => void,
): LargeReport {
  return runLarge({
    options: { seed: 1, ...options },
    sha256: (bytes) => new Uint8Array(createHash("sha256").update(bytes).digest()),
    ...(progress === undefined ? {} : { progress }),
  });
}

describe("a large run", () => {
  test("of 60 peers: all in good standing get everything, goals are as listed", () => {
    const report = run({ peers: 60, fragments: 60 });
    expect(report.violations, tableOf(report)).toEqual([]);
    expect(report.delivery.complete).toBe(1);
    expect(report.peers.inGoodStanding).toBe(60);
    expect(report.fragments).toBeGreaterThanOrEqual(60);
    expect(report.hops.median).toBeGreaterThan(0);
    expect(report.frames.DATA?.frames).toBeGreaterThanOrEqual(60 * report.fragments);
    const missed = report.goals.filter(({ met }) => !met).map(({ name }) => name);
    expect(missed).toEqual([]);
  }, 300_000);

  test("replays: the same seed is the same run, another is not", () => {
    const options = { peers: 20, fragments: 40, churnPerMin: 6, delivery: "live" } as const;
    const [one, two] = [run(options), run(options)];
    expect(two.traceHash).toBe(one.traceHash);
    expect(two).toEqual(one);
    expect(run({ ...options, seed: 2 }).traceHash).not.toBe(one.traceHash);
  }, 120_000);

  test("under churn, loss, stalls, partitions, mass leave and mass join gives all memory back", () => {
    const report = run({
      peers: 40,
      fragments: 80,
      churnPerMin: 10,
      lossPerMin: 2,
      silencePerMin: 0.5,
      stallsPerMin: 2,
      partitionsPerMin: 10,
      massLeave: 0.3,
      massJoin: 10,
    });
    expect(report.violations, tableOf(report)).toEqual([]);
    for (const kind of ["crash", "leave", "reset", "stall", "join"]) {
      expect(report.churn[kind], kind).toBeGreaterThan(0);
    }
    expect(report.peers.ever).toBeGreaterThan(50);
  }, 300_000);

  test("keeps a fragment once, however many hold it", () => {
    let used = 0;
    let held = 0;
    run({ peers: 30, fragments: 60 }, (_virtualMs, { memory, swarm }) => {
      used = Math.max(used, memory.segmentCount - memory.freeSegments);
      let bytes = 0;
      for (const { driver } of swarm.members) bytes += driver.inspect()?.heldBytes ?? 0;
      held = Math.max(held, bytes);
    });
    // Tables included: without sharing, what is held alone would take more.
    expect(held).toBeGreaterThan(10 * 60 * 16_384);
    expect(used * 256 * 1024).toBeLessThan(held + 20 * 2 ** 20);
  }, 120_000);

  test("says of a goal whether it is missed (negative)", () => {
    // Nobody has the capacity to hand on what comes in.
    const report = run({
      peers: 12,
      fragments: 30,
      uploadMin: 0.05,
      uploadMax: 0.1,
      healMs: 5_000,
    });
    const complete = report.goals.find(({ name }) => name.startsWith("complete"));
    expect(complete?.met).toBe(false);
    expect(report.ok).toBe(false);
    expect(report.delivery.complete).toBeLessThan(1);
    expect(tableOf(report)).toContain("MISSED  complete");
  }, 120_000);
});
