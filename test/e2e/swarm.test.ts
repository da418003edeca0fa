/** The runs of test/soak/swarm.mjs in small: real processes killed, chained, and stopped. */

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const SCRIPT = fileURLToPath(new URL("../soak/swarm.mjs", import.meta.url));

interface Row {
  readonly ok: boolean;
  readonly codes: readonly number[];
  readonly equal: readonly boolean[];
  readonly straight?: boolean;
  readonly lagging?: boolean;
  readonly stopped?: { readonly code: number };
}

/** Runs one case; a row that is not ok fails with all that it says. */
async function run(name: string): Promise<Row> {
  const args = [SCRIPT, "--quick", "--only", name];
  const { stdout } = await promisify(execFile)(process.execPath, args).catch(
    (error: { stdout: string; stderr: string }) => ({ stdout: error.stdout + error.stderr }),
  );
  const row = stdout.startsWith("{") ? (JSON.parse(stdout.split("\n")[0] ?? "") as Row) : undefined;
  expect(row?.ok, stdout).toBe(true);
  return row as Row;
}

describe("processes of their own", () => {
  it("a third killed and replaced in the middle: all others end equal", async () => {
    const { codes, equal } = await run("churn");
    expect(codes).toEqual(new Array(1 + 4 + 2).fill(0));
    expect(equal).toEqual(new Array(4 + 2).fill(true));
  }, 120_000);

  it("a chain of 4, each linked to the one before only", async () => {
    const { codes, equal, straight } = await run("chain");
    expect(codes).toEqual([0, 0, 0, 0, 0]);
    expect(equal).toEqual([true, true, true, true]);
    expect(straight).toBe(true);
  }, 120_000);

  it("a star of 7, linked to the source only", async () => {
    const { equal, straight } = await run("star");
    expect(equal).toEqual(new Array(7).fill(true));
    expect(straight).toBe(true);
  }, 120_000);

  it("one that is stopped is left behind, and nobody else suffers", async () => {
    const { codes, equal, lagging } = await run("stop");
    expect(codes).toEqual([0, 0, 0, 0]);
    expect(equal).toEqual([true, true, true]);
    expect(lagging).toBe(true);
  }, 120_000);
});
