import { describe, expect, it } from "vitest";
import { importCycles, importFaults, importsOf, ROOMS } from "./rooms.ts";
import { sourceTexts } from "./source-files.ts";

const sources = sourceTexts();

describe("imports of src/", () => {
  it("follow the table of rooms", () => {
    expect(sources.length).toBeGreaterThan(20);
    expect(sources.flatMap(importFaults)).toEqual([]);
  });

  it("have no cycle", () => {
    expect(importCycles(sources)).toEqual([]);
  });

  it("the table itself has no cycle", () => {
    const rooms = Object.entries(ROOMS).map(([name, { rooms: targets }]) => ({
      path: `src/${name}/x.ts`,
      text: targets.map((target) => `import "../${target}/x.ts";`).join("\n"),
    }));
    expect(importCycles(rooms)).toEqual([]);
  });
});

describe("the check of imports (negative)", () => {
  it.each([
    ["src/base/x.ts", 'import { a } from "../kernel/a.ts";', "base may not import kernel"],
    ["src/kernel/x.ts", 'export * from "../stream/a.ts";', "kernel may not import stream"],
    ["src/stream/x.ts", 'import type { A } from "../peer/a.ts";', "stream may not import peer"],
    ["src/peer/x.ts", 'let a: import("../kernel/a.ts").A;', "peer may not import kernel"],
    ["src/peer/deep/x.ts", 'import "../../host/a.ts";', "peer may not import host"],
    ["src/servers/oms.ts", 'import "../peer/a.ts";', "servers may not import peer"],
    ["src/store/x.ts", 'await import("../protocol/a.ts");', "store may not import protocol"],
    ["src/transport/x.ts", 'import "../index.ts";', "transport may not import the top level"],
    ["src/index.ts", 'import "./cli/main.ts";', "the top level may not import cli"],
    ["src/stream/x.ts", 'import { pack } from "msgpackr";', "stream may not import msgpackr"],
    ["src/servers/x.ts", 'import "msgpackr/pack";', "servers may not import msgpackr"],
    ["src/host/x.ts", 'import l from "@assemblyscript/loader/x";', "import @assemblyscript/loader"],
    ["src/peer/x.ts", 'import "fs";', "peer may not import fs"],
    ["src/peer/x.ts", 'import fs = require("node:fs");', "node:fs does not load in a browser"],
    ["src/base/x.ts", 'const fs = require("node:fs");', "node:fs does not load in a browser"],
    ["src/store/memory.ts", 'import "node:fs";', "node:fs does not load in a browser"],
    ["src/host/loop.ts", 'import "node:fs";', "node:fs does not load in a browser"],
    ["src/host/x.ts", 'import "../../test/support/a.ts";', "leaves src/"],
    ["src/host/x.ts", "await import(name);", "may not import (computed)"],
    ["src/utils/x.ts", "", "there is no room utils"],
  ])("%s: %s", (path, text, words) => {
    const faults = importFaults({ path, text });
    expect(faults.length).toBe(1);
    expect(faults[0]).toContain(words);
  });

  it.each([
    ["src/peer/x.ts", 'import { a } from "../stream/a.ts"; import b from "./b.ts";'],
    ["src/servers/cs/x.ts", 'import "../../peer/a.ts";'],
    ["src/store/lmdb-store.ts", 'import "node:fs"; await import("lmdb");'],
    ["src/host/node-host.ts", 'import "node:fs"; import "../servers/oms.ts"; import "pino";'],
    ["src/index.ts", 'export { a } from "./host/a.ts";'],
    ["src/kernel/x.ts", 'import { instantiate } from "@assemblyscript/loader";'],
  ])("lets pass: %s: %s", (path, text) => {
    expect(importFaults({ path, text })).toEqual([]);
  });

  it("finds a cycle, types included, and a file that imports itself", () => {
    const cycle = [
      { path: "src/base/a.ts", text: 'import "./b.ts"; import "./d.ts";' },
      { path: "src/base/b.ts", text: 'import type { C } from "./deep/c.ts";' },
      { path: "src/base/deep/c.ts", text: 'export { a } from "../a.ts";' },
      { path: "src/base/d.ts", text: 'import "./d.ts";' },
    ];
    expect(importCycles(cycle)).toEqual([
      "src/base/a.ts -> src/base/b.ts -> src/base/deep/c.ts -> src/base/a.ts",
      "src/base/d.ts -> src/base/d.ts",
    ]);
  });

  it("reads imports from code, not from text or comments", () => {
    const text =
      '// import "../peer/a.ts";\nconst s = \'import "../peer/a.ts"\';\nimport "./b.ts";';
    expect(importsOf({ path: "src/base/x.ts", text })).toEqual([{ specifier: "./b.ts", line: 3 }]);
  });
});
