import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const EXAMPLE = fileURLToPath(new URL("../../examples/embed.mjs", import.meta.url));
const README = fileURLToPath(new URL("../../README.md", import.meta.url));

describe("examples/embed.mjs", () => {
  it("runs and prints what it sent", async () => {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [EXAMPLE]);
    expect(stderr).toBe("");
    expect(stdout.trim().split("\n").sort()).toEqual([
      "tide 1 1.4 m",
      "wind 1 7.2 m/s",
      "wind 2 7.9 m/s",
    ]);
  });

  it("is the code that README shows", () => {
    const code = readFileSync(EXAMPLE, "utf8").replace(/^\/\*\*[\s\S]*?\*\/\n\n/, "");
    expect(readFileSync(README, "utf8")).toContain(code);
  });
});
