#!/usr/bin/env node
/**
 * The mp2p command. What runs a command is loaded when it runs: help and wrong flags answer at once.
 */

import { readFileSync } from "node:fs";
import { EXIT } from "./exit.ts";
import { runProgram } from "./program.ts";

const manifest: { readonly version: string } = JSON.parse(
  readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
);

// Whoever reads our words may be gone; that is no reason to fail. Data have their own watch.
process.stderr.on("error", () => undefined);
let outputError: NodeJS.ErrnoException | undefined;
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") outputError ??= error;
});

const code = await runProgram(
  process.argv.slice(2),
  {
    serve: async (options) => (await import("./run-serve.ts")).runServe(options),
    source: async (options) => (await import("./run-source.ts")).runSource(options),
    feed: async (options) => (await import("./run-feed.ts")).runFeed(options),
    join: async (options) => (await import("./run-join.ts")).runJoin(options),
    cache: async (options) => (await import("./run-cache.ts")).runCache(options),
    demo: async (options) => (await import("./demo/run-demo.ts")).runDemo(options),
    demoPeer: async (options) => (await import("./demo/run-demo-peer.ts")).runDemoPeer(options),
    status: async (options) => (await import("./run-status.ts")).runStatus(options),
    key: async (options) => (await import("./run-key.ts")).runKey(options),
    sim: async (options) => (await import("./run-sim.ts")).runSim(options),
  },
  { version: manifest.version, out: process.stdout, error: process.stderr },
);

// Pipes are written asynchronously: what was said must be out before the process ends.
await Promise.all(
  [process.stdout, process.stderr].map(
    (stream) =>
      new Promise<void>((resolve) => {
        if (stream.destroyed || stream.writableLength === 0) resolve();
        else stream.write("", () => resolve());
      }),
  ),
);
if (outputError !== undefined && code === EXIT.ok) {
  process.stderr.write(`mp2p: error: standard output: ${outputError.message}\n`);
  process.exit(EXIT.failure);
}
process.exit(code);
