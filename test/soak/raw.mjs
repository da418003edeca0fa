/**
 * Random bytes through three real peers, each output compared with the input: 1 GiB, or 64 MiB with
 * --quick. Run `npm run build` before. Prints one JSON line; exit 1 when an output differs.
 */

import { spawn } from "node:child_process";
import { createHash, randomFillSync } from "node:crypto";
import { once } from "node:events";
import { closeSync, createReadStream, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const MIB = 1024 * 1024;
const PEERS = 3;
const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const totalBytes = (process.argv.includes("--quick") ? 64 : 1024) * MIB;

function mp2p(...args) {
  return spawn(process.execPath, [main, ...args], { stdio: ["ignore", "pipe", "inherit"] });
}

async function digestOf(file) {
  const hash = createHash("sha256");
  for await (const block of createReadStream(file)) hash.update(block);
  return hash.digest("hex");
}

const directory = mkdtempSync(path.join(tmpdir(), "mp2p-soak-"));
const servers = mp2p("serve", "--memory", "--port", "0", "--json");
try {
  const ended = once(servers, "exit").then(([code]) => {
    throw new Error(`serve ended with ${code}; is the project built?`);
  });
  ended.catch(() => undefined); // it ends at the end, too
  const [line] = await Promise.race([once(servers.stdout, "data"), ended]);
  const url = JSON.parse(line.toString()).urls.oms;
  const input = path.join(directory, "input");
  const fd = openSync(input, "w");
  const block = new Uint8Array(MIB);
  for (let at = 0; at < totalBytes; at += MIB) writeSync(fd, randomFillSync(block));
  closeSync(fd);
  const common = ["--server", url, "--title", "soak", "--quiet"];
  const outputs = Array.from({ length: PEERS }, (_, i) => path.join(directory, `output-${i}`));
  const beganMs = performance.now();
  const all = [
    ...outputs.map((output) => mp2p("join", ...common, "--out", output)),
    mp2p("source", ...common, "--format", "raw", "--file", input, "--wait-peers", String(PEERS)),
  ];
  const codes = await Promise.all(all.map(async (child) => (await once(child, "exit"))[0]));
  const seconds = (performance.now() - beganMs) / 1000;
  const [expected, ...digests] = await Promise.all([input, ...outputs].map(digestOf));
  const equal = digests.every((digest) => digest === expected);
  const mibPerSecond = Math.round(totalBytes / MIB / seconds);
  console.log(JSON.stringify({ totalBytes, peers: PEERS, codes, equal, seconds, mibPerSecond }));
  process.exitCode = equal && codes.every((code) => code === 0) ? 0 : 1;
} finally {
  servers.kill("SIGTERM");
  rmSync(directory, { recursive: true });
}
