/** A smoke run of the flow benchmark: it runs, checks what arrives, and reports what it must. */

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
    execFile(process.execPath, [here("flow.mjs").pathname, ...args], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

test("a quick run moves checked data between processes and reports it", async () => {
  const out = join(directory, "report.json");
  const { code, stderr } = await bench("--quick", "--only", "200 B, writeBatch", "--out", out);
  expect(stderr).toBe("");
  expect(code).toBe(0);
  const report = JSON.parse(readFileSync(out, "utf8"));
  expect(report.failures).toEqual([]);
  expect(typeof report.noisy).toBe("boolean");
  expect(report.node).toBe(process.version);
  expect(report.loadBefore).toBeGreaterThanOrEqual(0);
  for (const field of ["machine", "commit", "startedAt"]) {
    expect(report[field]).toBeTypeOf("string");
  }
  expect(report.rows.map((row: { case: string }) => row.case)).toEqual([
    "200 B, writeBatch to batches()",
    "200 B, writeBatch to data()",
  ]);
  for (const row of report.rows) {
    expect(row).toMatchObject({ suite: "flow", unit: "Mdata/s", runs: 1 });
    const { median, min, max, p50, p99, cpuSecondsPerGiB, rssMiB } = row;
    for (const figure of [median, min, max, p50, p99, cpuSecondsPerGiB, rssMiB]) {
      expect(Number.isFinite(figure)).toBe(true);
      expect(figure).toBeGreaterThan(0);
    }
  }
});

test("floors that were not measured count as missed; wrong options are refused", async () => {
  expect((await bench("--quick", "--only", "raw", "--floors")).code).toBe(1);
  expect((await bench("--only", "no such case")).code).toBe(2);
  expect((await bench("--runs", "0")).code).toBe(2);
  expect((await bench("--fast")).code).toBe(2);
});

test("a datum is told from any other and from one with a bit changed", async () => {
  const { Content } = await import(here("flow/content.mjs").href);
  for (const datumBytes of [200, 16_256]) {
    const content = new Content(datumBytes, 16);
    const payloads = new Uint8Array(16 * datumBytes);
    const view = new DataView(payloads.buffer);
    content.fill(3, payloads, view, 42);
    const matches = (n: number, at: number) => content.matches(n, payloads, view, at, datumBytes);
    expect(matches(48 + 5, 5 * datumBytes)).toBe(true);
    expect(matches(48 + 6, 5 * datumBytes)).toBe(false);
    expect(content.matches(53, payloads, view, 5 * datumBytes, datumBytes - 4)).toBe(false);
    for (const at of [0, 8, datumBytes - 1]) {
      const changed = 5 * datumBytes + at;
      payloads[changed] = (payloads[changed] as number) ^ 0x10;
      expect(matches(53, 5 * datumBytes)).toBe(false);
      payloads[changed] = (payloads[changed] as number) ^ 0x10;
    }
    expect(matches(53, 5 * datumBytes)).toBe(true);
  }
});

test("a run with a loss, a gap or a wrong datum has no figures", async () => {
  const { judge } = await import(here("flow/run.mjs").href);
  const flow = { unit: "GB/s", datumBytes: 1000 };
  const cost = { measured: 1000, seconds: 2, measuredCpuSeconds: 1, cpuSeconds: 1, rssMiB: 50 };
  const sent = { ...cost, written: 2000 };
  const whole = { ...cost, received: 2000, gaps: 0, wrong: "" };
  expect(judge(flow, sent, [whole])).toMatchObject({ rate: 0.0005, rssMiB: 50 });
  const judged = (change: object) => () => judge(flow, sent, [whole, { ...whole, ...change }]);
  expect(judged({ received: 1999 })).toThrow("1999 of 2000 data arrived");
  expect(judged({ gaps: 1 })).toThrow("1 gaps");
  expect(judged({ wrong: "datum 7" })).toThrow("datum 7");
  expect(judged({ measured: 0 })).toThrow("nothing after the warm-up");
  expect(() => judge(flow, { ...sent, measured: 0 }, [whole])).toThrow("nothing after");
});
