/**
 * Real processes on loopback, a `complete` session, random bytes, every output's digest compared:
 *
 *   churn  12 peers; a third is killed -9 one after the other and replaced
 *   chain  4 peers, each linked to the one before only
 *   star   7 peers, each linked to the source only
 *   stop   4 peers; one is stopped (SIGSTOP) for 30 s in the middle
 *
 * 512 MiB (churn), 64 MiB (the others); with --quick 16 MiB through 6 peers (churn), 8 and 24 MiB
 * (the others) and a stop of 6 s. --only NAME,.. runs some. Run `npm run build` before. Prints one JSON line a case; exit 1 when one is not as it
 * should be.
 */

import { spawn } from "node:child_process";
import { createHash, randomFillSync } from "node:crypto";
import { once } from "node:events";
import { closeSync, createReadStream, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const MIB = 1024 * 1024;
const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const quick = process.argv.includes("--quick");
const onlyAt = process.argv.indexOf("--only");
const only = onlyAt < 0 ? undefined : (process.argv[onlyAt + 1] ?? "").split(",");
const directory = mkdtempSync(path.join(tmpdir(), "mp2p-swarm-"));
const running = new Set();

/** One mp2p process: its events, the digest and number of its output bytes, its end. */
class Mp2p {
  constructor(args, { input = "ignore" } = {}) {
    this.events = [];
    this.bytes = 0;
    this.hash = createHash("sha256");
    this.waiting = new Set();
    this.over = false;
    this.grewMs = performance.now();
    /** Longest time between two pieces of output. */
    this.pauseMs = 0;
    this.child = spawn(process.execPath, [main, ...args, "--json"], {
      stdio: [input, "pipe", "pipe"],
      env: { ...process.env, NODE_OPTIONS: "" },
    });
    this.child.stdin?.on("error", () => undefined);
    running.add(this.child);
    let line = "";
    this.said = "";
    this.child.stderr.setEncoding("utf8").on("data", (text) => {
      this.said = (this.said + text).slice(-4_000);
      const lines = (line + text).split("\n");
      line = lines.pop() ?? "";
      for (const one of lines) if (one.startsWith("{")) this.events.push(JSON.parse(one));
      this.changed();
    });
    this.first = once(this.child.stdout, "data").then(([chunk]) => chunk);
    this.child.stdout.on("data", (chunk) => {
      this.hash.update(chunk);
      const nowMs = performance.now();
      if (this.bytes > 0) this.pauseMs = Math.max(this.pauseMs, nowMs - this.grewMs);
      this.grewMs = nowMs;
      this.bytes += chunk.length;
      this.changed();
    });
    this.exit = once(this.child, "close").then(([code, signal]) => {
      this.over = true;
      running.delete(this.child);
      this.changed();
      return code ?? signal;
    });
  }

  /** Resolves when it holds; rejects when the process ends before. */
  async until(holds, what) {
    while (!holds(this)) {
      if (this.over) throw new Error(`ended without ${what}; it said:\n${this.said}`);
      await new Promise((resolve) => this.waiting.add(resolve));
    }
  }

  said1(name, fits = () => true) {
    return this.events.find((event) => event.event === name && fits(event));
  }

  changed() {
    for (const wake of this.waiting) wake();
    this.waiting.clear();
  }
}

function inputFile(bytes) {
  const file = path.join(directory, `input-${bytes}`);
  const fd = openSync(file, "w");
  const block = new Uint8Array(MIB);
  for (let at = 0; at < bytes; at += MIB) writeSync(fd, randomFillSync(block));
  closeSync(fd);
  return file;
}

async function digestOf(file, start) {
  const hash = createHash("sha256");
  for await (const block of createReadStream(file, { start })) hash.update(block);
  return hash.digest("hex");
}

async function serve() {
  const servers = new Mp2p(["serve", "--memory", "--port", "0"]);
  const line = await Promise.race([servers.first, servers.exit.then(() => undefined)]);
  if (line === undefined) throw new Error(`serve ended; is the project built?\n${servers.said}`);
  return { servers, url: JSON.parse(line.toString()).urls.oms };
}

/** A new key: its file and peer id. */
async function identity(name) {
  const file = path.join(directory, name);
  const key = new Mp2p(["key", file]);
  const { peerId } = JSON.parse((await key.first).toString());
  await key.exit;
  return { file, peerId };
}

/** The input, at most so many bytes a second. */
async function feed(source, file, bytesPerSecond = Number.POSITIVE_INFINITY) {
  const { stdin } = source.child;
  const beganMs = performance.now();
  let written = 0;
  for await (const block of createReadStream(file, { highWaterMark: 256 * 1024 })) {
    if (stdin.destroyed) return;
    if (!stdin.write(block)) await Promise.race([once(stdin, "drain"), source.exit]);
    written += block.length;
    const aheadMs = (written / bytesPerSecond) * 1000 - (performance.now() - beganMs);
    if (aheadMs > 1) await new Promise((resolve) => setTimeout(resolve, aheadMs));
  }
  stdin.end();
}

/** Whether the output is the input, or (`suffix`) the end of it from some datum on. */
async function isEqual(peer, file, totalBytes, suffix = false) {
  if (!suffix && peer.bytes !== totalBytes) return false;
  if (peer.bytes === 0) return false;
  return peer.hash.digest("hex") === (await digestOf(file, totalBytes - peer.bytes));
}

const result = (name, beganMs, bytes, peers, more) => {
  const seconds = (performance.now() - beganMs) / 1000;
  const mibPerSecond = Math.round((bytes / MIB / seconds) * 10) / 10;
  return {
    case: name,
    peers,
    bytes,
    seconds: Math.round(seconds * 10) / 10,
    mibPerSecond,
    ...more,
  };
};

const join = (url, ...flags) => new Mp2p(["join", "--server", url, "--title", "t", ...flags]);
const source = (url, ...flags) =>
  new Mp2p(["source", "--server", url, "--title", "t", "--format", "raw", ...flags], {
    input: "pipe",
  });
const up = (peerId) => (event) => event.state === "up" && event.peerId === peerId;

async function churn(url) {
  const [count, bytes] = quick ? [6, 16 * MIB] : [12, 512 * MIB];
  const file = inputFile(bytes);
  const peers = Array.from({ length: count }, () => join(url));
  const sender = source(url, "--wait-peers", String(count));
  await Promise.all(peers.map((peer) => peer.until((p) => p.said1("started"), "a start")));
  const beganMs = performance.now();
  const feeding = feed(sender, file);
  const victims = peers.slice(0, count / 3);
  const survivors = peers.slice(count / 3);
  const replacements = [];
  for (const [i, victim] of victims.entries()) {
    const share = ((i + 1) * bytes) / (victims.length + 2);
    await survivors[0].until((p) => p.bytes >= share, `${share} bytes`);
    victim.child.kill("SIGKILL");
    replacements.push(join(url));
  }
  await feeding;
  const codes = await Promise.all([sender, ...survivors, ...replacements].map((p) => p.exit));
  const equal = await Promise.all([
    ...survivors.map((peer) => isEqual(peer, file, bytes)),
    ...replacements.map((peer) => isEqual(peer, file, bytes, true)),
  ]);
  const killed = (await Promise.all(victims.map((p) => p.exit))).every((c) => c === "SIGKILL");
  const ok = killed && equal.every(Boolean) && codes.every((code) => code === 0);
  const late = replacements.map((peer) => peer.said1("started")?.startedAt);
  return result("churn", beganMs, bytes, count, { ok, codes, equal, replacedAt: late });
}

async function chain(url) {
  const [count, bytes] = [4, (quick ? 8 : 64) * MIB];
  const file = inputFile(bytes);
  const keys = [];
  for (let i = 0; i <= count; i++) keys.push(await identity(`chain-${i}`));
  const sender = source(url, "--identity", keys[0].file);
  const peers = keys
    .slice(1)
    .map(({ file: key }, i) => join(url, "--identity", key, "--dial", keys[i].peerId));
  await Promise.all(
    peers.map((peer, i) => peer.until((p) => p.said1("link", up(keys[i].peerId)), "its link")),
  );
  const beganMs = performance.now();
  await feed(sender, file);
  const codes = await Promise.all([sender, ...peers].map((p) => p.exit));
  const equal = await Promise.all(peers.map((peer) => isEqual(peer, file, bytes)));
  // Nobody was linked to any but the one before and the one behind.
  const straight = peers.every((peer, i) => {
    const near = new Set([keys[i].peerId, keys[i + 2]?.peerId]);
    return peer.events.every(({ event, peerId }) => event !== "link" || near.has(peerId));
  });
  const ok = straight && equal.every(Boolean) && codes.every((code) => code === 0);
  return result("chain", beganMs, bytes, count, { ok, codes, equal, straight });
}

async function star(url) {
  const [count, bytes] = [7, (quick ? 8 : 64) * MIB];
  const file = inputFile(bytes);
  const key = await identity("star");
  const sender = source(url, "--identity", key.file, "--wait-peers", String(count));
  const peers = Array.from({ length: count }, () => join(url, "--dial", key.peerId));
  await Promise.all(peers.map((peer) => peer.until((p) => p.said1("started"), "a start")));
  const beganMs = performance.now();
  await feed(sender, file);
  const codes = await Promise.all([sender, ...peers].map((p) => p.exit));
  const equal = await Promise.all(peers.map((peer) => isEqual(peer, file, bytes)));
  const links = peers.flatMap(({ events }) => events.filter(({ event }) => event === "link"));
  const straight = links.every(({ peerId }) => peerId === key.peerId);
  const ok = straight && equal.every(Boolean) && codes.every((code) => code === 0);
  return result("star", beganMs, bytes, count, { ok, codes, equal, straight });
}

async function stop(url) {
  const [count, bytes] = [4, (quick ? 24 : 64) * MIB];
  const [stallMs, stopMs] = quick ? [1_000, 6_000] : [10_000, 30_000];
  const file = inputFile(bytes);
  const patience = ["--stall-ms", String(stallMs)];
  const peers = Array.from({ length: count }, () => join(url, ...patience));
  const sender = source(url, "--wait-peers", String(count), ...patience);
  await Promise.all(peers.map((peer) => peer.until((p) => p.said1("started"), "a start")));
  const beganMs = performance.now();
  // It lasts twice as long as the stop does.
  const feeding = feed(sender, file, bytes / ((2 * stopMs) / 1000));
  const [stopped, ...others] = peers;
  await stopped.until((p) => p.bytes > bytes / 5, "a fifth");
  stopped.child.kill("SIGSTOP");
  const before = others.map((peer) => peer.bytes);
  for (const peer of others) peer.pauseMs = 0;
  await new Promise((resolve) => setTimeout(resolve, stopMs));
  const during = others.map((peer, i) => peer.bytes - before[i]);
  const lagging = [sender, ...others].some((p) =>
    p.said1("link", ({ state }) => state === "lagging" || state === "down"),
  );
  stopped.child.kill("SIGCONT");
  await feeding;
  const codes = await Promise.all([sender, ...others].map((p) => p.exit));
  const equal = await Promise.all(others.map((peer) => isEqual(peer, file, bytes)));
  const code = await stopped.exit;
  const gaps = stopped.events.filter(({ event }) => event === "gap").length;
  const caughtUp = code === 0 && (await isEqual(stopped, file, bytes));
  const longestPauseMs = Math.round(Math.max(...others.map(({ pauseMs }) => pauseMs)));
  // Rule (c): until the stopped one is found lagging, its full window may hold the others up.
  const unharmed = longestPauseMs < 2 * stallMs + 2_500 && Math.min(...during) > bytes / 20;
  const cut = stopped.said1("error", (error) => error.code === "SESSION_LOST") !== undefined;
  const ends = caughtUp || (code === 3 && (gaps > 0 || cut));
  const ok = lagging && unharmed && ends && equal.every(Boolean) && codes.every((c) => c === 0);
  if (!ok) process.stderr.write(`the stopped one said:\n${stopped.said}\n`);
  const more = { ok, codes, equal, longestPauseMs, duringStop: during, lagging };
  return result("stop", beganMs, bytes, count, { ...more, stopped: { code, gaps, cut, caughtUp } });
}

try {
  for (const run of [churn, chain, star, stop]) {
    if (only !== undefined && !only.includes(run.name)) continue;
    const { servers, url } = await serve();
    const row = await run(url);
    console.log(JSON.stringify(row));
    if (!row.ok) process.exitCode = 1;
    servers.child.kill("SIGTERM");
    await servers.exit;
  }
} finally {
  for (const child of running) child.kill("SIGKILL");
  rmSync(directory, { recursive: true });
}
