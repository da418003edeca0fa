/** Swarm, faults, checkers and replay, proved on toy relays: a checker that can't fire is none. */

import { describe, expect, test } from "vitest";
import { NO_FAULTS, type SwarmOptions } from "./options.ts";
import { explain, type Report, type Run, simulate } from "./run.ts";
import { toyDriver } from "./toy-driver.ts";
import { TYPE } from "./wire.ts";

const TOY: Partial<SwarmOptions> = {
  dataSources: 1,
  dataPerSource: 60,
  everyMs: 20,
  sizes: { bytesMin: 1, bytesMax: 900, emptyRate: 0.1, bigRate: 0, bigBytes: 0 },
  stuckConsumers: 0,
};

function toy(
  seed: number,
  overrides: Partial<SwarmOptions> = {},
  prepare?: (run: Run) => void,
): Report {
  return simulate({
    seed,
    driver: toyDriver,
    overrides: { ...TOY, ...overrides },
    withoutCredit: true,
    ...(prepare === undefined ? {} : { prepare }),
  });
}

describe("toy swarm", () => {
  test("comes through the faults of many seeds, and faults of every kind happen", () => {
    const hits: Record<string, number> = {};
    for (let seed = 1; seed <= 60; seed++) {
      const report = toy(seed);
      expect(report.ok, explain(report)).toBe(true);
      for (const [kind, count] of Object.entries(report.faultHits)) {
        hits[kind] = (hits[kind] ?? 0) + count;
      }
    }
    const kinds = [
      "reset",
      "silence",
      "stall",
      "partition",
      "pause",
      "crash",
      "leave",
      "join",
      "wallJump",
    ];
    for (const kind of kinds) expect(hits[kind], kind).toBeGreaterThan(0);
  }, 120_000);

  test("the same seed gives the same trace hash, another seed another", () => {
    for (let seed = 1; seed <= 5; seed++) {
      const [one, two] = [toy(seed), toy(seed)];
      expect(one.traceHash).toBe(two.traceHash);
      expect(one.events).toBe(two.events);
      expect(one.traceHash).not.toBe(toy(seed + 100).traceHash);
    }
  });

  test("a failed run says its seed, its options and how to see it again", () => {
    const report = toy(1, { healMs: 1, faults: NO_FAULTS });
    expect(report.ok).toBe(false);
    const text = explain(report);
    expect(text).toContain("seed 1:");
    expect(text).toContain("completeness: peer-1 did not come to the end");
    expect(text).toContain('"fragmentBytes":');
    expect(text).toMatch(/MP2P_SIM_SEED=1 MP2P_SIM_OPTIONS='\{.*\}' npx vitest run/);
  });
});

describe("checkers fire", () => {
  /** Names of the checkers that speak up when `prepare` spoils a calm run. */
  function fired(prepare: (run: Run) => void): Set<string> {
    const report = toy(3, { faults: NO_FAULTS, healMs: 20_000 }, prepare);
    return new Set(report.violations.map(({ checker }) => checker));
  }

  test("none of them does on a calm run", () => {
    expect(fired(() => undefined)).toEqual(new Set());
  });

  test("delivery: twice, skipped, changed, unknown", () => {
    const payloadOf = ({ swarm }: Run): void => {
      let spoiled = 0;
      swarm.observe({
        onDatum: (member, sourceId, sequence, payload) => {
          if (spoiled++ === 0) swarm.datum(member, sourceId, sequence, payload);
        },
      });
    };
    expect(fired(payloadOf)).toEqual(new Set(["delivery"]));
    const changed = ({ delivery, world, swarm }: Run): void => {
      world.at(5, () =>
        delivery.onDatum(swarm.members[1] as never, "sensor-0", 1, new Uint8Array(3)),
      );
    };
    expect(fired(changed)).toContain("delivery");
    const unknown = ({ delivery, world, swarm }: Run): void => {
      world.at(5, () => delivery.onDatum(swarm.members[1] as never, "other", 1, new Uint8Array(3)));
    };
    expect(fired(unknown)).toContain("delivery");
  });

  test("completeness: a gap of a member in good standing, a member that never ends", () => {
    const gap = ({ world, swarm }: Run): void => {
      world.at(5, () =>
        swarm.gap(swarm.members[1] as never, {
          kind: "fragments",
          sourceId: undefined,
          from: 7,
          to: 8,
        }),
      );
    };
    expect(fired(gap)).toEqual(new Set(["completeness"]));
    const cut = ({ world, network, swarm }: Run): void => {
      world.at(5, () => {
        for (const { node } of swarm.members) {
          const last = swarm.members.at(-1)?.node as never;
          network.block(node, last, 1e9);
        }
      });
    };
    expect(fired(cut)).toEqual(new Set(["completeness"]));
  });

  /** Rewrites the first frame of `type` that a relay transmits. */
  function rewriting(type: number, change: (frame: Uint8Array) => void): (run: Run) => void {
    return ({ swarm }) => {
      let done = false;
      swarm.observe({
        onStep: () => undefined,
        onBoot: (node) => {
          const body = node.body;
          if (body === undefined) return;
          const poll = body.machine.poll.bind(body.machine);
          body.machine.poll = () => {
            const output = poll();
            if (output?.kind !== "transmit" || output.bytes[6] !== type || done) return output;
            if (node === swarm.members[0]?.node) return output;
            done = true;
            change(output.bytes);
            return output;
          };
        },
      });
    };
  }

  test("honest-maps: a HAVE for what is not held, a frame that is none", () => {
    expect(fired(rewriting(TYPE.HAVE, (frame) => frame.fill(9, 32, 33)))).toContain("honest-maps");
    expect(fired(rewriting(TYPE.HAVE, (frame) => frame.fill(9, 24, 25)))).toContain("honest-maps");
  });

  test("identical-fragments: a changed byte", () => {
    const flip = rewriting(TYPE.DATA, (frame) => {
      frame[frame.length - 1] = (frame.at(-1) as number) ^ 1;
    });
    expect(fired(flip)).toContain("identical-fragments");
  });
});
