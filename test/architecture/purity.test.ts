import { describe, expect, it } from "vitest";
import { PURE_ROOMS, purityFaults } from "./purity.ts";
import { roomOf } from "./rooms.ts";
import { sourceTexts } from "./source-files.ts";

describe("pure rooms", () => {
  it.each(PURE_ROOMS)("%s knows no clock, timer, chance, promise or process", (room) => {
    // A .d.ts file describes what others provide; nothing in it runs.
    const files = sourceTexts().filter(
      ({ path }) => roomOf(path) === room && !path.endsWith(".d.ts"),
    );
    expect(files.flatMap(purityFaults)).toEqual([]);
  });
});

describe("the check of purity (negative)", () => {
  it.each([
    ["Date.now", "const t = Date.now();"],
    ["Date", "const { now } = Date;"],
    ["Date[...]", 'Date["now"]();'],
    ["the current Date", "new Date();"],
    ["the current Date", "new Date;"],
    ["the current Date", "Date();"],
    ["Math.random", "Math.random();"],
    ["Math", "const m = Math;"],
    ["performance", "performance.now();"],
    ["setTimeout", "setTimeout(f, 1);"],
    ["setInterval", "const later = setInterval;"],
    ["setImmediate", "setImmediate(f);"],
    ["queueMicrotask", "queueMicrotask(f);"],
    ["Promise", "Promise.resolve();"],
    ["Promise", "interface A { b(): Promise<void> }"],
    ["async", "const f = async () => 1;"],
    ["async", "class A { async b() {} }"],
    ["await", "await f();"],
    ["for await", "for await (const a of b) {}"],
    ["import()", 'import("./a.ts");'],
    ["EventEmitter", "class A extends EventEmitter {}"],
    ["process", "process.exit(1);"],
    ["process", "const all = { process };"],
    ["console", "console.log(1);"],
    ["crypto", "crypto.getRandomValues(a);"],
    ["Buffer", "Buffer.from([1]);"],
    ["globalThis", 'globalThis["setTimeout"](f);'],
  ])("finds %s in: %s", (word, text) => {
    expect(purityFaults({ path: "src/peer/x.ts", text })).toContain(`src/peer/x.ts:1: ${word}`);
  });

  it.each([
    ["a member that has the name", "link.process(); a.Promise = 1; const b = { process: 1 };"],
    ["a name of its own", "function f(process: Step, crypto: Port) { process(crypto); }"],
    ["text and comments", "/* await Promise */ const text = 'Date.now';"],
    ["time handed in", "new Date(now.wallUs / 1000).toISOString(); Math.max(1, 2);"],
  ])("lets pass: %s", (_name, text) => {
    expect(purityFaults({ path: "src/peer/x.ts", text })).toEqual([]);
  });
});
