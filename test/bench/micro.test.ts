/** A smoke run of the kernel benchmarks: they run, agree, and report what they must. */

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

const script = new URL("../../bench/micro.mjs", import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), "mp2p-bench-"));
afterAll(() => rmSync(directory, { recursive: true }));

function bench(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [script, ...args], (error, stdout, stderr) => {
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
    new Set(["checksum", "fragments", "bits", "picker"]),
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

test("floors are told by name, with what they were measured by", async () => {
  const out = join(directory, "floors.json");
  const { code, stdout, stderr } = await bench(
    ...["--quick", "--floors", "--only", "crc32c 200", "--out", out],
  );
  expect(stderr).toBe("");
  const { floors } = JSON.parse(readFileSync(out, "utf8"));
  expect(floors).toHaveLength(14);
  for (const { name, small, large, ratio, holds } of floors) {
    expect(small).toBeGreaterThan(0);
    expect(ratio).toBeCloseTo(large / small);
    expect(holds).toBe(large <= 1.2 * small);
    expect(stdout).toContain(`floor ${name}`);
  }
  // Beside other work a floor may fall: then the run says so.
  expect(code).toBe(floors.every(({ holds }: { holds: boolean }) => holds) ? 0 : 1);
});

test("one case can be picked; wrong options are refused", async () => {
  const picked = await bench("--quick", "--only", "crc32c 200");
  expect(picked.code).toBe(0);
  expect(picked.stdout.split("\n").filter((line) => line.includes("crc32c"))).toHaveLength(1);
  expect((await bench("--only", "no such case")).code).toBe(2);
  expect((await bench("--runs", "0")).code).toBe(2);
  expect((await bench("--fast")).code).toBe(2);
});
