import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const projectRoot = fileURLToPath(new URL("../../", import.meta.url));

/** Runs the fixture project with the rows of a case; `extra` are further arguments. */
function runFixture(name: string, ...extra: string[]): { status: number | null; output: string } {
  const command = [`${projectRoot}node_modules/vitest/vitest.mjs`, "run", ...extra];
  const run = spawnSync(process.execPath, command, {
    cwd: `${projectRoot}test/conformance/fixture`,
    encoding: "utf8",
    env: { ...process.env, MP2P_CONFORMANCE_CASE: name, NO_COLOR: "1" },
  });
  return { status: run.status, output: `${run.stdout}${run.stderr}` };
}

describe("ConformanceReporter", () => {
  it("passes a whole run that agrees with the rows, and counts them", () => {
    const { status, output } = runFixture("agrees");
    expect(output).toContain("conformance: 1 of 3 rows proven");
    expect(status).toBe(0);
  });

  it.each([
    ["failed-proof", "R1.c is proven, but no test of it passed in titled.fixture.ts"],
    ["open-with-proof", "R1.a is open, but a test of it passed in titled.fixture.ts"],
    ["grew", "2 rows are open, 1 were: it grew"],
  ])("fails a whole run, every test of which passed: %s", (name, words) => {
    const { status, output } = runFixture(name);
    expect(output).toContain(`conformance: ${words}`);
    expect(status).toBe(1);
  });

  it.each([
    [["other.fixture.ts"], "1 of 2 files were not run"],
    [["-t", "speaks"], "titles were picked"],
  ])("does not judge a part of a run: %j", (extra, words) => {
    const { status, output } = runFixture("grew", ...extra);
    expect(output).toContain(`conformance: not compared, ${words}`);
    expect(status).toBe(0);
  });
});
