/** Runs a range of seeds and says what they were like, so that a test can ask for enough of it. */

import { expect } from "vitest";
import { peerDriver } from "./peer-driver.ts";
import { explain, type Report, simulate } from "./run.ts";

export interface SeedsSummary {
  readonly reports: readonly Report[];
  /** Share of peers owed everything, over all seeds. */
  readonly goodShare: number;
  readonly hits: Readonly<Record<string, number>>;
}

/** Every seed of [from, to] must hold; the first that does not is explained, others are named. */
export function runSeeds(from: number, to: number): SeedsSummary {
  const reports: Report[] = [];
  const hits: Record<string, number> = {};
  const failures: string[] = [];
  let peers = 0;
  let good = 0;
  for (let seed = from; seed <= to; seed++) {
    const report = simulate({ seed, driver: peerDriver });
    if (!report.ok) failures.push(failures.length === 0 ? explain(report) : brief(report));
    reports.push(report);
    peers += report.peers;
    good += report.peersInGoodStanding;
    for (const [kind, count] of Object.entries(report.faultHits)) {
      hits[kind] = (hits[kind] ?? 0) + count;
    }
  }
  expect(failures.length, failures.join("\n")).toBe(0);
  return { reports, goodShare: good / peers, hits };
}

function brief({ seed, violations }: Report): string {
  const [first] = violations;
  return `seed ${seed}: ${first?.checker}: ${first?.message}`;
}
