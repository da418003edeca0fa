// Writes assembly/layout.ts from the byte layout table, so that both sides share one truth.
// Usage: node assembly/emit-layout.mjs [--check]
import { readFileSync, writeFileSync } from "node:fs";
import * as layout from "../dist/base/layout.js";

const target = new URL("./layout.ts", import.meta.url);
const lines = ["// Generated from src/base/layout.ts by assembly/emit-layout.mjs. Do not edit.", ""];
for (const [name, value] of Object.entries(layout)) {
  if (typeof value !== "number") continue;
  lines.push(`export const ${name}: ${value < 0 ? "i32" : "u32"} = ${value};`);
}
const text = `${lines.join("\n")}\n`;
if (process.argv.includes("--check")) {
  if (readFileSync(target, "utf8") !== text) {
    console.error("assembly/layout.ts is stale: run npm run build");
    process.exit(1);
  }
} else {
  writeFileSync(target, text);
}
