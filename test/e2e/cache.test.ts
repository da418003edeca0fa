/** Cache servers as processes: `mp2p cache` beside servers, a source and peers. */

import { writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  cleanUp,
  join,
  Mp2p,
  type Served,
  serve,
  source,
  temporaryDirectory,
} from "./processes.ts";

const RUN_MS = 60_000;
let directory = "";
let keyFile = "";
let servers: Served;

beforeEach(async () => {
  directory = temporaryDirectory();
  keyFile = path.join(directory, "service.key");
  writeFileSync(keyFile, `${"5e".repeat(32)}\n`, { mode: 0o600 });
  servers = await serve("--service-key-file", keyFile);
});
afterEach(cleanUp);

function cacheServer(...flags: readonly string[]): Mp2p {
  const own = ["--server", servers.url, "--service-key-file", keyFile];
  return new Mp2p(["cache", ...own, ...flags]);
}

/** A cache server whose offer the overlay server has. */
async function ready(...flags: readonly string[]): Promise<Mp2p> {
  const cache = cacheServer(...flags);
  await cache.until(() => cache.output.includes("\n"), "ready line");
  return cache;
}

function input(lines: number): { readonly file: string; readonly bytes: Buffer } {
  const file = path.join(directory, "input");
  const text = Array.from({ length: lines }, (_, i) => `reading ${i} ${i * 7919}\n`).join("");
  writeFileSync(file, text);
  return { file, bytes: Buffer.from(text) };
}

async function status(): Promise<Record<string, unknown>[]> {
  const asked = new Mp2p(["status", "--server", servers.url, "--service-key-file", keyFile]);
  expect(await asked.exit).toBe(0);
  return asked.output
    .toString()
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe("mp2p cache", () => {
  it(
    "lends virtual peers to a session that asks, shows them, and leaves in order",
    async () => {
      const cache = await ready("--virtual-peers", "2", "--label", "rack 7");
      const told = JSON.parse(cache.output.toString()) as { virtualPeers: { peerId: string }[] };
      const ids = told.virtualPeers.map(({ peerId }) => peerId);
      expect(new Set(ids).size).toBe(2);
      const { bytes } = input(60_000);
      const from = source(servers.url, "weather", "--virtual-peers", "2", "--wait-peers", "2");
      const joined = () => cache.events.filter(({ event }) => event === "joined").length;
      await cache.until(() => joined() === 2, "two virtual peers in the session");
      const peers = [join(servers.url, "weather"), join(servers.url, "weather")];
      await from.feed(bytes.subarray(0, 500_000));
      await Promise.all(peers.map((peer) => peer.wrote(400_000)));
      const virtual = async () => (await status()).filter(({ role }) => role === "virtual").length;
      await expect.poll(virtual, { timeout: 20_000 }).toBe(2);
      const caches = (await status()).filter(({ event }) => event === "cacheServer");
      expect(caches).toMatchObject([
        { label: "rack 7", linked: true, virtualPeers: 2, places: 8, assigned: 2 },
      ]);
      await from.feed(bytes.subarray(500_000));
      from.stdin.end();
      expect(await from.exit).toBe(0);
      for (const peer of peers) {
        expect(await peer.exit).toBe(0);
        expect(peer.output.equals(bytes)).toBe(true);
      }
      const done = await from.event("done");
      // Members are those who read.
      expect(done.members).toEqual({ complete: 2, left: 0, behind: 0 });
      await cache.until(
        () =>
          cache.events.filter(({ event, code }) => event === "left" && code === undefined)
            .length === 2,
        "two virtual peers out of it",
      );
      cache.kill("SIGTERM");
      expect(await cache.exit).toBe(0);
      expect((await status()).filter(({ event }) => event === "cacheServer")).toEqual([]);
    },
    RUN_MS,
  );

  it(
    "killed -9 in the middle: peers lose nothing, and another one takes its place",
    async () => {
      const first = await ready("--virtual-peers", "1");
      const { file, bytes } = input(60_000);
      const asks = ["--virtual-peers", "1", "--wait-peers", "2", "--rate", "20000"];
      const from = source(servers.url, "weather", "--file", file, ...asks);
      await first.event("joined");
      const second = await ready("--virtual-peers", "1");
      const peers = [join(servers.url, "weather"), join(servers.url, "weather")];
      await Promise.all(peers.map((peer) => peer.wrote(bytes.length >> 3)));
      first.kill("SIGKILL");
      expect(await from.exit).toBe(0);
      for (const peer of peers) {
        expect(await peer.exit).toBe(0);
        expect(peer.output.equals(bytes)).toBe(true);
      }
      second.kill("SIGTERM");
      expect(await second.exit).toBe(0);
    },
    RUN_MS,
  );

  it(
    "tells of a wrong key and of a dead server",
    async () => {
      const wrong = path.join(directory, "wrong.key");
      writeFileSync(wrong, `${"5f".repeat(32)}\n`, { mode: 0o600 });
      const refused = cacheServer("--service-key-file", wrong);
      expect(await refused.exit).toBe(1);
      expect(await refused.event("error")).toMatchObject({ code: "KEY_REQUIRED" });
      servers.process.kill("SIGKILL");
      await servers.process.exit;
      const alone = cacheServer("--virtual-peers", "1");
      expect(await alone.event("omsAway")).toMatchObject({ oms: servers.url });
      alone.kill("SIGTERM");
      expect(await alone.exit).toBe(0);
    },
    RUN_MS,
  );
});
