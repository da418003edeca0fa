/** The engine in a process of its own: nothing of it keeps the process alive once it is closed. */

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

const SCRIPT = `
import { createEngine } from "./dist/index.js";
import { startServers } from "./dist/server.js";
const servers = await startServers({ port: 0 });
const server = servers.urls.oms;
const [one, two] = [await createEngine({ workers: 1 }), await createEngine()];
const joining = two.join({ server, title: "t" });
const source = await one.createSource({ server, title: "t", dataSources: [{ sourceId: "s" }] });
const peer = await joining;
const got = (async () => {
  let count = 0;
  for await (const datum of peer.data()) count += datum.payload.length;
  return count;
})();
for (let i = 0; i < 100; i++) await source.dataSource("s").push(new Uint8Array(1000));
await source.end();
console.log(await got);
await one.close();
await two.close();
await servers.close();
console.log("closed");
`;

it("ends by itself after close, without a signal or exit", async () => {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", SCRIPT], { cwd: ROOT });
  let output = "";
  child.stdout.on("data", (part) => {
    output += String(part);
  });
  let errors = "";
  child.stderr.on("data", (part) => {
    errors += String(part);
  });
  let closedMs = 0;
  const watch = setInterval(() => {
    if (closedMs === 0 && output.includes("closed")) closedMs = performance.now();
  }, 10);
  const status = await new Promise((resolve) => child.on("exit", resolve));
  clearInterval(watch);
  expect(errors).toBe("");
  expect(output).toBe("100000\nclosed\n");
  expect(status).toBe(0);
  if (closedMs > 0) expect(performance.now() - closedMs).toBeLessThan(2_000);
});
