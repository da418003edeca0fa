/** Live under churn: what could be delivered is delivered, and nobody waits for anybody. */

import { describe, expect, test } from "vitest";
import { CALM_NETWORK } from "../../src/sim/network.ts";
import { Deliverable } from "./deliverable.ts";
import { NO_FAULTS, type SwarmOptions } from "./options.ts";
import { peerDriver } from "./peer-driver.ts";
import { explain, type Report, type Run, simulate } from "./run.ts";

const KIB = 1024;
const PEERS = 12;
/** Six times the 10 % a minute that the goal names: a run is short. */
const CHURN_PER_MINUTE = 0.6 * PEERS;

const LIVE: Partial<SwarmOptions> = {
  peers: PEERS,
  degree: 5,
  delivery: "live",
  integrity: "checksum",
  dataSources: 1,
  dataPerSource: 300,
  everyMs: 100,
  sizes: { bytesMin: 700, bytesMax: 900, emptyRate: 0, bigRate: 0, bigBytes: 0 },
  fragmentBytes: 1 * KIB,
  windowBytes: 256 * KIB,
  windowFragments: 1_024,
  substreams: 8,
  network: { ...CALM_NETWORK, latencyMsMin: 5, latencyMsMax: 80, jitterMsMax: 20 },
  // 8 KB/s of data and ample upload: what is measured is what live itself gives up.
  uplinkBytesPerMsMin: 80,
  uplinkBytesPerMsMax: 200,
  slowConsumers: 0,
  stuckConsumers: 0,
  driftPpmMax: 100,
  timerLateMsMax: 5,
  jobDelayMsMax: 1,
  lateJobRate: 0,
  faults: {
    ...NO_FAULTS,
    faultMs: 30_000,
    // Half crash, half leave, as many come.
    crashesPerMinute: CHURN_PER_MINUTE / 2,
    silentCrashRate: 0.5,
    leavesPerMinute: CHURN_PER_MINUTE / 2,
    joinsPerMinute: CHURN_PER_MINUTE,
  },
  healMs: 40_000,
};

interface Ending {
  readonly report: Report;
  readonly deliverable: Deliverable;
  readonly run: Run;
}

function play(seed: number, overrides: Partial<SwarmOptions>): Ending {
  let seen: { run: Run; deliverable: Deliverable } | undefined;
  const report = simulate({
    seed,
    driver: peerDriver,
    overrides: { ...LIVE, ...overrides },
    prepare: (run) => {
      const deliverable = new Deliverable(run, 5_000);
      run.swarm.observe(deliverable);
      seen = { run, deliverable };
    },
  });
  if (seen === undefined) throw new Error("not prepared");
  return { report, ...seen };
}

/** Violations but those of `complete`: in live a gap is none. */
const faults = (report: Report): readonly { readonly checker: string }[] =>
  report.violations.filter(({ checker }) => checker !== "completeness");

describe("live", () => {
  for (const seed of [101, 102]) {
    test(`seed ${seed}: at 60 % churn a minute 99.9 % of what can be delivered is`, () => {
      const { report, deliverable } = play(seed, {});
      const { deliverable: all, lost } = deliverable.sums;
      expect(faults(report), explain(report)).toEqual([]);
      const { crash = 0, leave = 0, join = 0 } = report.faultHits;
      expect(crash + leave, explain(report)).toBeGreaterThan(0);
      expect(crash + leave + join, explain(report)).toBeGreaterThan(2);
      expect(all, explain(report)).toBeGreaterThan(2_000);
      expect(lost / all, `${lost} of ${all} lost\n${explain(report)}`).toBeLessThanOrEqual(0.001);
    }, 120_000);
  }

  test("consumers that stand still or crawl cost nobody else anything", () => {
    const { report, deliverable, run } = play(104, {
      faults: NO_FAULTS,
      dataPerSource: 400,
      everyMs: 20,
      uplinkBytesPerMsMin: 1_000,
      uplinkBytesPerMsMax: 1_001,
      slowConsumers: 3,
      slowConsumerPauseMs: 400,
      stuckConsumers: 1,
      stuckAtMs: 1_000,
    });
    expect(faults(report), explain(report)).toEqual([]);
    expect(report.excuses, explain(report)).toMatchObject({ stuck: 1 });
    expect(report.excuses.lagging, explain(report)).toBeUndefined();
    // 8 s of data: the others are through at once, whoever crawls.
    const quick = run.swarm.members.slice(5);
    expect(quick.every(({ ended }) => ended)).toBe(true);
    const sums = deliverable.sums;
    expect(sums.lost / sums.deliverable, explain(report)).toBeLessThan(0.2);
    for (const member of quick) {
      const got = run.delivery.seen(member, "sensor-0");
      expect(got, `${member.name}\n${explain(report)}`).toMatchObject({ first: 1, next: 401 });
    }
  }, 120_000);
});
