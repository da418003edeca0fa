/** The files that the architecture checks read, with paths relative to the project and "/". */

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const projectRoot = fileURLToPath(new URL("../../", import.meta.url));

export interface SourceText {
  /** As `src/peer/link.ts`. */
  readonly path: string;
  readonly text: string;
}

/** Every TypeScript file below src/. */
export function sourceTexts(): SourceText[] {
  return readdirSync(`${projectRoot}src`, { recursive: true, encoding: "utf8" })
    .map((name) => `src/${name.replaceAll("\\", "/")}`)
    .filter((path) => path.endsWith(".ts"))
    .sort()
    .map((path) => ({ path, text: readFileSync(`${projectRoot}${path}`, "utf8") }));
}

/** Every tracked file that exists, as bytes read as Latin-1. */
export function trackedTexts(): SourceText[] {
  return execFileSync("git", ["ls-files", "-z"], { cwd: projectRoot, encoding: "utf8" })
    .split("\0")
    .filter((path) => path !== "" && existsSync(`${projectRoot}${path}`))
    .map((path) => ({ path, text: readFileSync(`${projectRoot}${path}`, "latin1") }));
}
