import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import * as layout from "../../src/base/layout.ts";
import { projectRoot, sourceTexts, trackedTexts } from "./source-files.ts";
import { FILE_LINES_MAX, leakFaults, sizeFaults, webAssemblyFaults } from "./tidy.ts";

describe("src/", () => {
  it("has no file past 500 lines", () => {
    expect(sourceTexts().flatMap(sizeFaults)).toEqual([]);
  });

  it("says WebAssembly in kernel only, types apart", () => {
    expect(sourceTexts().flatMap(webAssemblyFaults)).toEqual([]);
  });
});

describe("tracked files", () => {
  it("name no registry host and no machine path", () => {
    const tracked = trackedTexts();
    expect(tracked.map(({ path }) => path)).toContain("package-lock.json");
    expect(tracked.flatMap(leakFaults)).toEqual([]);
  });
});

describe("assembly/layout.ts", () => {
  it("holds every number of src/base/layout.ts with its value", () => {
    const generated = readFileSync(`${projectRoot}assembly/layout.ts`, "utf8");
    const rows = generated.matchAll(/^export const (\w+): \w+ = (-?\d+);$/gm);
    const values = new Map([...rows].map(([, name = "", value]) => [name, Number(value)]));
    const expected = Object.entries(layout).filter(([, value]) => typeof value === "number");
    expect(expected.length).toBeGreaterThan(20);
    for (const [name, value] of expected) expect(values.get(name), name).toBe(value);
  });
});

describe("biome", () => {
  it("holds the rooms apart where an editor shows it, and lets the rest pass (negative)", () => {
    const fixtures: Record<string, string> = {
      "src/peer/timer.ts": "export const later = setTimeout;\n",
      "src/servers/oms/clock.ts": "export const now = performance.now();\n",
      "src/stream/file.ts": 'export { open } from "node:fs";\n',
      "src/protocol/file.ts": 'export { open } from "node:fs";\n',
      "src/kernel/pack.ts": 'export { Packr } from "msgpackr";\n',
      "src/host/pack.ts": 'export { Packr } from "msgpackr/pack";\n',
      "src/host/node-clock.ts": "export const later = setTimeout;\n",
      "src/protocol/pack.ts": 'export { Packr } from "msgpackr/pack";\n',
      "src/peer/port.ts": "export const run = (process: () => void): void => process();\n",
    };
    expect(lint(fixtures)).toEqual([
      "src/host/pack.ts noRestrictedImports",
      "src/kernel/pack.ts noRestrictedImports",
      "src/peer/timer.ts noRestrictedGlobals",
      "src/protocol/file.ts noRestrictedImports",
      "src/servers/oms/clock.ts noRestrictedGlobals",
      "src/stream/file.ts noRestrictedImports",
    ]);
  });

  /** `path rule` of each error that the project's linter finds in the given files. */
  function lint(files: Readonly<Record<string, string>>): string[] {
    const folder = mkdtempSync(join(tmpdir(), "mp2p-biome-"));
    try {
      copyFileSync(`${projectRoot}biome.json`, join(folder, "biome.json"));
      for (const [path, text] of Object.entries(files)) {
        mkdirSync(dirname(join(folder, path)), { recursive: true });
        writeFileSync(join(folder, path), text);
      }
      const command = `${projectRoot}node_modules/@biomejs/biome/bin/biome`;
      const run = spawnSync(process.execPath, [command, "lint", "--colors=off", "."], {
        cwd: folder,
        encoding: "utf8",
      });
      const rows = `${run.stdout}${run.stderr}`.matchAll(/^(src\S+?):\d+:\d+ lint\/\w+\/(\w+)/gm);
      return [...rows].map(([, path, rule]) => `${path} ${rule}`).sort();
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
});

describe("the checks (negative)", () => {
  const line = "f();\n";
  it("finds a file that is too long, but not a long list of types", () => {
    const path = "src/peer/x.ts";
    expect(sizeFaults({ path, text: line.repeat(FILE_LINES_MAX) })).toEqual([]);
    expect(sizeFaults({ path, text: line.repeat(FILE_LINES_MAX + 1) })).toEqual([
      "src/peer/x.ts: 501 lines; make it a folder",
    ]);
    const types = `import type { A } from "./a.ts";\n${"export interface B { a: A }\n".repeat(600)}`;
    expect(sizeFaults({ path, text: types })).toEqual([]);
    expect(sizeFaults({ path, text: types + line })).not.toEqual([]);
  });

  it.each([
    ["src/pool/x.ts", "new WebAssembly.Memory({ initial: 1 });", 1],
    ["src/host/x.ts", "const { compile } = WebAssembly;", 1],
    ["src/host/x.ts", "if (m instanceof WebAssembly.Module) f();", 1],
    ["src/pool/x.ts", "function f(memory: WebAssembly.Memory): void {}", 0],
    ["src/kernel/x.ts", "new WebAssembly.Memory({ initial: 1 });", 0],
  ])("WebAssembly in %s: %s", (path, text, count) => {
    expect(webAssemblyFaults({ path, text }).length).toBe(count);
  });

  it.each([
    ["a registry host", `"resolved": "https://${"registry"}.npmjs.org/x.tgz"`],
    ["a machine path", `see ${"/home"}/somebody/x`],
    ["a machine path", `${"/work"}/x`],
  ])("finds %s", (what, text) => {
    expect(leakFaults({ path: "x", text: `one\n${text}` })).toEqual([`x:2: ${what}`]);
  });

  it("takes paths of the project for what they are", () => {
    expect(leakFaults({ path: "x", text: "src/work/x ./home/x /workers" })).toEqual([]);
  });
});
