/** `mp2p sim` and `npm run sim` as processes: replayable, with goals in the exit code. */

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const bench = fileURLToPath(new URL("../../bench/sim.mjs", import.meta.url));

function node(...args: string[]): Promise<{ code: number | null; out: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    let out = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text;
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, out }));
  });
}

const SMALL = ["sim", "--peers", "10", "--fragments", "20"];

describe("mp2p sim", () => {
  test("prints a report that replays from its seed", async () => {
    const runs = [await node(main, ...SMALL, "--json"), await node(main, ...SMALL, "--json")];
    const [one, two] = runs.map(({ out }) => JSON.parse(out) as Record<string, unknown>);
    expect(runs.map(({ code }) => code)).toEqual([0, 0]);
    expect(one).toMatchObject({ event: "sim", seed: 1, violations: [] });
    expect(two?.traceHash).toBe(one?.traceHash);
    const { out } = await node(main, ...SMALL);
    expect(out).toContain(String(one?.traceHash));
    expect(out).toContain("source upload");
  }, 120_000);

  test("--goals: exit 1 when one is missed", async () => {
    const starved = [...SMALL, "--upload", "0.05", "--goals"];
    expect((await node(main, ...starved)).code).toBe(1);
  }, 120_000);

  test("wrong usage is exit 2: a range the wrong way round, a stream too slow to stream", async () => {
    expect((await node(main, ...SMALL, "--upload", "3-1")).code).toBe(2);
    expect((await node(main, ...SMALL, "--stream-kib", "8")).code).toBe(2);
    expect((await node(bench, "--peers", "abc")).code).toBe(2);
  }, 60_000);

  test("fragments of any size arrive as they were sent", async () => {
    const large = [...SMALL, "--fragment-kib", "256", "--json"];
    const { code, out } = await node(main, ...large);
    expect(JSON.parse(out)).toMatchObject({ violations: [], delivery: { complete: 1 } });
    expect(code).toBe(0);
  }, 60_000);

  test("a goal that nobody was there for is not met", async () => {
    const { code, out } = await node(main, ...SMALL, "--mass-leave", "1", "--goals", "--json");
    const { goals } = JSON.parse(out) as { goals: { name: string; met: boolean }[] };
    expect(goals).toContainEqual(
      expect.objectContaining({ name: "peers in good standing", met: false }),
    );
    expect(code).toBe(1);
  }, 60_000);

  test("seed after seed, all cases", async () => {
    const { out } = await node(bench, "--seeds", "2", "--peers", "8", "--fragments", "10");
    for (const name of ["complete", "churn", "live"]) {
      for (const seed of [1, 2]) expect(out).toContain(`${name} seed ${seed}`);
    }
    expect(out).toMatch(/\d of 6 runs meet all goals/);
  }, 120_000);
});
