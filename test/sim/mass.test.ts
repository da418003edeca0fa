/** Many at once: half leaves within a second, as many join, and nobody lists members for minutes. */

import { describe, expect, test } from "vitest";
import { CALM_NETWORK } from "../../src/sim/network.ts";
import type { Directory } from "./directory.ts";
import { NO_FAULTS, type SwarmOptions } from "./options.ts";
import { peerDriver } from "./peer-driver.ts";
import { type DriverSetup, explain, type Report, type Run, simulate } from "./run.ts";

const KIB = 1024;

const COMPLETE: Partial<SwarmOptions> = {
  peers: 16,
  degree: 5,
  delivery: "complete",
  integrity: "checksum",
  dataSources: 2,
  dataPerSource: 300,
  everyMs: 40,
  sizes: { bytesMin: 500, bytesMax: 900, emptyRate: 0, bigRate: 0, bigBytes: 0 },
  fragmentBytes: 1 * KIB,
  windowBytes: 128 * KIB,
  windowFragments: 128,
  substreams: 8,
  network: { ...CALM_NETWORK, latencyMsMin: 2, latencyMsMax: 40 },
  uplinkBytesPerMsMin: 500,
  uplinkBytesPerMsMax: 1_000,
  slowConsumers: 0,
  stuckConsumers: 0,
  driftPpmMax: 50,
  timerLateMsMax: 2,
  jobDelayMsMax: 0.5,
  lateJobRate: 0,
  faults: NO_FAULTS,
  healMs: 60_000,
};

interface Ending {
  readonly report: Report;
  readonly run: Run;
}

/** `script` is called once all is set up, with what stands in for the servers. */
function play(
  seed: number,
  overrides: Partial<SwarmOptions>,
  script: (run: Run, directory: () => Directory) => void,
): Ending {
  let seen: Run | undefined;
  let directory: Directory | undefined;
  const report = simulate({
    seed,
    driver: (setup: DriverSetup) => {
      directory = setup.directory;
      return peerDriver(setup);
    },
    overrides: { ...COMPLETE, ...overrides },
    prepare: (run) => {
      seen = run;
      script(run, () => directory as Directory);
    },
  });
  return { report, run: seen as Run };
}

describe("many at once (complete)", () => {
  for (const [how, seed] of [
    ["say BYE", 201],
    ["crash", 202],
    ["fall silent", 203],
  ] as const) {
    test(`half of all ${how} within a second: the others get everything`, () => {
      const { report } = play(seed, {}, ({ swarm, world }) => {
        world.at(6_000, () => {
          const leaving = swarm.members.filter(({ role }, i) => role === "peer" && i % 2 === 0);
          leaving.forEach((member, i) => {
            world.after((1_000 * i) / leaving.length, () => {
              if (how === "say BYE") swarm.leave(member);
              else swarm.crash(member, how === "fall silent");
            });
          });
        });
      });
      // Whom nobody told waits for those who fell silent: what it finds of them is no fault.
      const faults = report.violations.filter(({ checker }) => checker !== "standing");
      expect(faults, explain(report)).toEqual([]);
      expect((report.excuses.left ?? 0) + (report.excuses.crashed ?? 0), explain(report)).toBe(8);
      expect(report.peersInGoodStanding, explain(report)).toBeGreaterThanOrEqual(7);
    }, 120_000);
  }

  test("as many as there are join within a second: all get everything from their start on", () => {
    // Some 16 within the second in which anybody comes.
    const faults = { ...NO_FAULTS, faultMs: 1_000, joinsPerMinute: 960 };
    const { report, run } = play(204, { peers: 8, faults }, () => undefined);
    expect(report.violations, explain(report)).toEqual([]);
    const late = run.swarm.members.filter(({ name }) => name.startsWith("late"));
    expect(late.length, explain(report)).toBeGreaterThan(8);
    expect(late.every(({ ended, excuses }) => ended || excuses.has("late"))).toBe(true);
  }, 120_000);

  test("members go on without servers for minutes, while some leave; who comes then waits", () => {
    const { report, run } = play(
      205,
      { dataPerSource: 250, everyMs: 1_000, healMs: 600_000, peers: 10 },
      ({ swarm, world }, directory) => {
        world.at(5_000, () => {
          const { suggest } = directory();
          // Gone: nobody is told of anybody.
          directory().suggest = () => [];
          for (const [i, member] of swarm.members.slice(1, 4).entries()) {
            world.after(30_000 * (i + 1), () => swarm.crash(member, false));
          }
          world.after(180_000, () => {
            directory().suggest = suggest;
          });
        });
      },
    );
    expect(report.violations, explain(report)).toEqual([]);
    expect(report.virtualMs).toBeGreaterThan(185_000);
    expect(report.excuses, explain(report)).toEqual({ crashed: 3 });
    expect(run.swarm.members.slice(4).every(({ ended }) => ended)).toBe(true);
  }, 120_000);
});
