/**
 * Makes a failing run small: one thing after another is taken away (peers, data, faults, an uneven
 * network) and stays away if the same checker still speaks up. The result is kept as a file, which
 * regress.test.ts replays for ever.
 */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type FaultOptions, NO_FAULTS, type SwarmOptions } from "./options.ts";
import type { Report } from "./run.ts";

export const REGRESS_DIR = fileURLToPath(new URL("./regress/", import.meta.url));

/** One kept run: what the seed draws, and what was set on top until little was left of it. */
export interface KeptRun {
  readonly seed: number;
  readonly overrides: Partial<SwarmOptions>;
  readonly checker: string;
  /** What was wrong when it was found. */
  readonly message: string;
  /** The bug that was planted for it; absent: it was a bug of src/, mended since. */
  readonly planted?: string;
}

export type RunOnce = (seed: number, overrides: Partial<SwarmOptions>) => Report;

/** Runs that one shrinking makes, at most: it is to end while somebody waits. */
const RUNS_MAX = 60;
const PEERS_MIN = 2;

/** `report` failed. Runs of the same seed, each smaller than the last that still fails the same way. */
export function shrink(report: Report, run: RunOnce, runsMax = RUNS_MAX): KeptRun {
  const [first] = report.violations;
  if (first === undefined) throw new Error("only a run that failed is made small");
  const { seed } = report;
  let smallest = report.options;
  let overrides: Partial<SwarmOptions> = { ...report.overrides };
  let { message } = first;
  let runs = 0;
  for (let progress = true; progress && runs < runsMax; ) {
    progress = false;
    for (const change of changesOf(smallest)) {
      if (runs >= runsMax) break;
      const candidate = { ...overrides, ...change };
      runs++;
      const again = run(seed, candidate);
      const same = again.violations.find(({ checker }) => checker === first.checker);
      if (same === undefined) continue;
      overrides = candidate;
      smallest = again.options;
      message = same.message;
      progress = true;
    }
  }
  return { seed, overrides, checker: first.checker, message };
}

/** Writes `kept` to a file of its own and returns its path. */
export function keep(kept: KeptRun, directory = REGRESS_DIR): string {
  mkdirSync(directory, { recursive: true });
  const file = join(directory, `${kept.checker}-${kept.seed}.json`);
  writeFileSync(file, `${JSON.stringify(kept, undefined, 2)}\n`);
  return file;
}

/** What could be taken away from a run with these options, the most first. */
function* changesOf(options: SwarmOptions): Generator<Partial<SwarmOptions>> {
  const { faults, network } = options;
  if (Object.keys(activeFaults(faults)).length > 0) yield { faults: NO_FAULTS };
  const half = Math.max(PEERS_MIN, options.peers >> 1);
  if (half < options.peers) yield { peers: half };
  if (options.peers - 1 >= PEERS_MIN) yield { peers: options.peers - 1 };
  if (options.dataPerSource > 3) yield { dataPerSource: options.dataPerSource >> 1 };
  if (options.dataSources > 1) yield { dataSources: 1 };
  for (const kind of Object.keys(activeFaults(faults))) yield { faults: { ...faults, [kind]: 0 } };
  if (faults.faultMs > 2_000) yield { faults: { ...faults, faultMs: faults.faultMs / 2 } };
  if (options.stuckConsumers > 0) yield { stuckConsumers: 0 };
  if (options.slowConsumers > 0) yield { slowConsumers: 0 };
  if (options.lateJobRate > 0) yield { lateJobRate: 0 };
  if (options.timerLateMsMax > 0 || options.driftPpmMax > 0) {
    yield { timerLateMsMax: 0, driftPpmMax: 0 };
  }
  if (network.crumblePathRate > 0) yield { network: { ...network, crumblePathRate: 0 } };
  if (network.jitterMsMax > 0) yield { network: { ...network, jitterMsMax: 0 } };
  if (network.refuseRate > 0) yield { network: { ...network, refuseRate: 0 } };
  const { sizes } = options;
  if (sizes.bigRate > 0 || sizes.emptyRate > 0) {
    yield { sizes: { ...sizes, bigRate: 0, emptyRate: 0 } };
  }
}

function activeFaults(faults: FaultOptions): Partial<FaultOptions> {
  return Object.fromEntries(
    Object.entries(faults).filter(([name, rate]) => name.endsWith("PerMinute") && rate > 0),
  );
}
