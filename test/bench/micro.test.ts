/** A smoke run of the kernel benchmarks: they run, agree, and report what they must. */

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

const here = (path: string) => new URL(`../../bench/${path}`, import.meta.url);
const directory = mkdtempSync(join(tmpdir(), "mp2p-bench-"));
afterAll(() => rmSync(directory, { recursive: true }));

function bench(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [here("micro.mjs").pathname, ...args], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

test("a quick run reports every case of both kernels, and they agree", async () => {
  const out = join(directory, "report.json");
  const { code, stderr } = await bench("--quick", "--out", out);
  expect(stderr).toBe("");
  expect(code).toBe(0);
  const report = JSON.parse(readFileSync(out, "utf8"));
  expect(report.failures).toEqual([]);
  expect(typeof report.noisy).toBe("boolean");
  expect(report.node).toBe(process.version);
  for (const field of ["machine", "commit", "startedAt"])
    expect(report[field]).toBeTypeOf("string");
  expect(new Set(report.rows.map((row: { suite: string }) => row.suite))).toEqual(
    new Set(["checksum", "fragments", "bits", "picker", "pull"]),
  );
  for (const row of report.rows) {
    expect(row.case).toMatch(/, (wasm|js)$/);
    expect(row.unit).toMatch(/^(GB\/s|Mdata\/s|Mcalls\/s|Mfragments\/s)$/);
    for (const figure of [row.median, row.min, row.max, row.p50, row.p99]) {
      expect(figure).toBeGreaterThan(0);
      expect(Number.isFinite(figure)).toBe(true);
    }
    expect(row.runs).toBe(1);
  }
});

interface Growth {
  name: string;
  small: number;
  large: number;
  ratio: number;
  most?: number;
}

test("growths are told by name, with what they were measured by; some are floors", async () => {
  const out = join(directory, "floors.json");
  const { code, stdout, stderr } = await bench(
    ...["--quick", "--floors", "--only", "crc32c 200", "--out", out],
  );
  expect(stderr).toBe("");
  const growths: Growth[] = JSON.parse(readFileSync(out, "utf8")).growths;
  for (const { name, small, large, ratio } of growths) {
    expect(small).toBeGreaterThan(0);
    expect(ratio).toBeCloseTo(large / small);
    expect(stdout).toContain(name);
  }
  const floors = growths.filter(({ most }) => most !== undefined);
  expect(new Set(floors.map(({ most }) => most))).toEqual(new Set([1.2]));
  const countOf = (what: string) => floors.filter(({ name }) => name.startsWith(what)).length;
  const named = {
    "pick of one, dense": 7,
    "pick of one, sparse": 7,
    advertise: 3,
    "pull, dense": 6,
    "pull, sparse": 6,
    "pull beside the source": 12,
    "pull of little": 6,
    "pull of one ahead": 12,
  };
  expect(Object.keys(named).map(countOf)).toEqual(Object.values(named));
  expect(floors).toHaveLength(59);
  // Beside other work a floor may fall: then the run says so.
  const fallen = floors.filter(({ ratio }) => ratio > 1.2);
  expect(stdout.match(/FALLEN/g) ?? []).toHaveLength(fallen.length);
  expect(code).toBe(fallen.length === 0 ? 0 : 1);
});

test("a search of the whole window before each pick for a neighbour is noticed", async () => {
  const { exitCodeOf, growths, WAYS } = await import(here("micro/growth.mjs").href);
  const { createJsKernel } = await import(here("../dist/kernel/js-kernel.js").href);
  const way = WAYS.find(({ name }: { name: string }) => name === "pick of one");
  const create = () => {
    const kernel = createJsKernel({ memoryBytes: 8 * 1024 * 1024 });
    const pick = kernel.pickerPick.bind(kernel);
    kernel.pickerPick = (...args: number[]) => {
      const [, have = 0, , , to = 0] = args;
      for (let n = 0; have !== 0 && n < 8; n++) kernel.bitsCount(have, 0, to);
      return pick(...args);
    };
    return kernel;
  };
  const slowed: Growth = growths(create, 3, [
    { ...way, densities: ["sparse"], neighbours: [4, 64] },
  ]).find(({ name }: Growth) => name === "pick of one, sparse, 1 -> 64 Ki, 64 neighbours");
  expect(slowed.ratio).toBeGreaterThan(slowed.most as number);
  expect(exitCodeOf([], [slowed])).toBe(1);
  expect(exitCodeOf([], [{ ...slowed, ratio: slowed.most }])).toBe(0);
  expect(exitCodeOf([], [{ ...slowed, most: undefined }])).toBe(0);
  expect(exitCodeOf(["the kernels differ"], [])).toBe(1);
});

test("one case can be picked; wrong options are refused", async () => {
  const picked = await bench("--quick", "--only", "crc32c 200");
  expect(picked.code).toBe(0);
  expect(picked.stdout.split("\n").filter((line) => line.includes("crc32c"))).toHaveLength(1);
  expect((await bench("--only", "no such case")).code).toBe(2);
  expect((await bench("--runs", "0")).code).toBe(2);
  expect((await bench("--fast")).code).toBe(2);
});
