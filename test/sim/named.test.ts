/** Situations with a name: each was, or could have been, somebody's deadlock. */

import { describe, expect, test } from "vitest";
import { CALM_NETWORK } from "../../src/sim/network.ts";
import { NO_FAULTS, type SwarmOptions } from "./options.ts";
import { peerDriver } from "./peer-driver.ts";
import { explain, type Report, type Run, simulate } from "./run.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

/** The source and five peers, each linked to the next, the last to the source. */
const RING: SwarmOptions["links"] = [1, 2, 3, 4, 5, 0].map((to, from) => [
  Math.max(from, to),
  Math.min(from, to),
]);
/** The source and six peers in a line. */
const LINE: SwarmOptions["links"] = [1, 2, 3, 4, 5, 6].map((from) => [from, from - 1]);

const CALM: Partial<SwarmOptions> = {
  integrity: "checksum",
  dataSources: 2,
  dataPerSource: 1500,
  everyMs: 0,
  sizes: { bytesMin: 100, bytesMax: 200, emptyRate: 0, bigRate: 0, bigBytes: 0 },
  fragmentBytes: 1 * KIB,
  windowBytes: 64 * KIB,
  windowFragments: 64,
  substreams: 4,
  network: CALM_NETWORK,
  uplinkBytesPerMsMin: 100_000,
  uplinkBytesPerMsMax: 100_001,
  slowConsumers: 0,
  stuckConsumers: 0,
  driftPpmMax: 0,
  timerLateMsMax: 0,
  jobDelayMsMax: 0.1,
  lateJobRate: 0,
  faults: NO_FAULTS,
  healMs: 120_000,
};

interface Ending {
  readonly report: Report;
  /** When each member took END, by name. */
  readonly endedMs: Map<string, number>;
  readonly run: Run;
}

function play(
  overrides: Partial<SwarmOptions>,
  prepare: (run: Run) => void = () => undefined,
): Ending {
  const endedMs = new Map<string, number>();
  let seen: Run | undefined;
  const report = simulate({
    seed: 11,
    driver: peerDriver,
    overrides: { ...CALM, ...overrides },
    prepare: (run) => {
      seen = run;
      run.swarm.observe({
        onEnded: (member) => endedMs.set(member.name, run.world.nowMs),
      });
      prepare(run);
    },
  });
  return { report, endedMs, run: seen as Run };
}

describe("named cases", () => {
  test("a ring of 5 with one stuck consumer: the others get everything, in bounded time", () => {
    const { report, endedMs, run } = play({
      peers: 5,
      links: RING,
      stuckConsumers: 1,
      stuckAtMs: 50,
    });
    expect(report.ok, explain(report)).toBe(true);
    expect(report.excuses).toMatchObject({ stuck: 1 });
    // The first in the ring is stuck: all data come to the others the other way round.
    const others = ["peer-2", "peer-3", "peer-4", "peer-5"];
    for (const name of others) expect(endedMs.get(name), name).toBeDefined();
    expect(endedMs.has("peer-1")).toBe(false);
    expect(report.fragments).toBeGreaterThan(4 * 64);
    expect(run.world.nowMs).toBeLessThan(60_000);
  });

  test("the farthest joiner gets everything when all others finish first", () => {
    const { report, endedMs } = play(
      {
        peers: 6,
        links: LINE,
        dataPerSource: 150,
      },
      ({ swarm, world }) => {
        world.at(0, () => {
          const last = swarm.members.at(-1);
          const before = swarm.members.at(-2);
          if (last === undefined || before === undefined) throw new Error("no members");
          // 20 KB/s on the only way to it: it comes to the end long after the others.
          before.node.uplinkBytesPerMs = 20;
          last.driver.consumerPauseMs = 20;
        });
      },
    );
    expect(report.ok, explain(report)).toBe(true);
    expect(report.peersInGoodStanding).toBe(6);
    const last = endedMs.get("peer-6") as number;
    for (const name of ["peer-1", "peer-2", "peer-3", "peer-4", "peer-5"]) {
      expect(endedMs.get(name), name).toBeLessThan(last - 500);
    }
  });

  test("R11.a, P2.1: data of 16 MiB pass a window of 1 MiB whole", () => {
    const { report } = play({
      peers: 3,
      degree: 2,
      dataSources: 1,
      dataPerSource: 2,
      sizes: { bytesMin: 1, bytesMax: 1, emptyRate: 0, bigRate: 1, bigBytes: 16 * MIB },
      fragmentBytes: 16 * KIB,
      windowBytes: 1 * MIB,
      windowFragments: 1024,
      segmentBytes: 64 * KIB,
      memoryBytes: 8 * MIB,
    });
    expect(report.ok, explain(report)).toBe(true);
    expect(report.delivered).toBe(6);
    expect(report.fragments).toBeGreaterThan(2 * 1024);
    expect(report.excuses, explain(report)).toEqual({});
    expect(report.peersInGoodStanding).toBe(3);
  });
});
