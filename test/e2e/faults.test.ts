/** What happens when processes come late, are killed, are stopped, or can not write. */

import { randomBytes } from "node:crypto";
import { openSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { cleanUp, freePort, join, Mp2p, serve, source, temporaryDirectory } from "./processes.ts";

const MIB = 1024 * 1024;

afterEach(cleanUp);

/** Lines of about 100 bytes, numbered from 1. */
function numberedLines(from: number, count: number): string {
  const lines: string[] = [];
  for (let i = from; i < from + count; i++) lines.push(`${i} ${"x".repeat(90)}\n`);
  return lines.join("");
}

async function listed(adminUrl: string): Promise<{ overlays: string[]; reporting: string[] }> {
  const stats = (await (await fetch(`${adminUrl}/stats.json`)).json()) as {
    oms: { overlays: { title: string }[] };
    pams: { overlays: { peers: { peerId: string; status: object | null }[] }[] };
  };
  return {
    overlays: stats.oms.overlays.map(({ title }) => title),
    reporting: stats.pams.overlays.flatMap(({ peers }) =>
      peers
        .filter(({ status }) => status !== null && status !== undefined)
        .map(({ peerId }) => peerId),
    ),
  };
}

describe("a peer", () => {
  it("that is killed half way holds nobody up", async () => {
    const { url } = await serve();
    const bytes = randomBytes(32 * MIB);
    const half = bytes.length / 2;
    const peers = [join(url, "t"), join(url, "t"), join(url, "t")];
    const sender = source(url, "t", "--format", "raw", "--wait-peers", "3");
    await sender.feed(bytes.subarray(0, half));
    await Promise.all(peers.map((peer) => peer.wrote(half / 2)));
    const [victim, ...others] = peers as [Mp2p, Mp2p, Mp2p];
    victim.kill("SIGKILL");
    await sender.feed(bytes.subarray(half));
    sender.stdin.end();
    expect(await Promise.all(others.map((peer) => peer.exit))).toEqual([0, 0]);
    expect(await sender.exit).toBe(0);
    for (const peer of others) expect(Buffer.compare(peer.output, bytes)).toBe(0);
  });

  it("that joins half way gets a suffix that begins with a datum, and says what it missed", async () => {
    const { url } = await serve();
    const early = join(url, "t");
    const sender = source(url, "t");
    const count = 200_000;
    const first = numberedLines(1, count);
    await sender.feed(Buffer.from(first));
    await early.wrote(first.length - MIB);
    const late = join(url, "t");
    const started = await late.event("started");
    expect(started.startedAt).toBeGreaterThan(0);
    const second = numberedLines(count + 1, 1_000);
    sender.stdin.end(second);
    expect([await sender.exit, await early.exit, await late.exit]).toEqual([0, 0, 0]);
    const all = first + second;
    expect(early.output.toString() === all).toBe(true);
    const suffix = late.output.toString();
    expect(suffix.length).toBeGreaterThan(second.length);
    expect(all.endsWith(`\n${suffix}`)).toBe(true);
    const missed = late.events.find(({ event }) => event === "missed");
    const firstLine = Number(suffix.slice(0, suffix.indexOf(" ")));
    expect(missed).toMatchObject({ sourceId: "source", upTo: firstLine - 1 });
  });

  it("--from start that comes too late for it ends with 3", async () => {
    const { url } = await serve();
    const early = join(url, "t");
    const sender = source(url, "t");
    const first = numberedLines(1, 200_000);
    await sender.feed(Buffer.from(first));
    await early.wrote(first.length - MIB);
    const late = join(url, "t", "--from", "start");
    expect(await late.exit).toBe(3);
    expect(late.said).toContain("START_GONE");
    sender.stdin.end();
    expect(await early.exit).toBe(0);
  });

  it("whose disk is full says so, and the others get all", async () => {
    const { url } = await serve();
    const full = join(url, "t", "--out", "/dev/full");
    const other = join(url, "t");
    const sender = source(url, "t", "--wait-peers", "2");
    sender.stdin.end(numberedLines(1, 10_000));
    expect(await full.exit).toBe(1);
    expect(full.said).toContain("OUTPUT_FAILED");
    expect(full.said).toContain("no space");
    expect([await other.exit, await sender.exit]).toEqual([0, 0]);
    expect(other.output.toString() === numberedLines(1, 10_000)).toBe(true);
  });

  it("whose standard output is a full disk says so too", async () => {
    const { url } = await serve();
    const stdoutTo = openSync("/dev/full", "w");
    const full = new Mp2p(["join", "--server", url, "--title", "t"], { stdoutTo });
    const sender = source(url, "t");
    sender.stdin.end(numberedLines(1, 10));
    expect(await full.exit).toBe(1);
    expect(full.said).toContain("OUTPUT_FAILED");
  });

  it("whose reader goes away leaves in order", async () => {
    const { url } = await serve();
    const peer = join(url, "t");
    const other = join(url, "t");
    const sender = source(url, "t", "--wait-peers", "2");
    await sender.feed(Buffer.from(numberedLines(1, 1_000)));
    await peer.wrote(100);
    peer.closeOutput();
    sender.stdin.end(numberedLines(1_001, 100_000));
    expect(await peer.exit).toBe(0);
    expect([await other.exit, await sender.exit]).toEqual([0, 0]);
    expect(other.output.toString() === numberedLines(1, 101_000)).toBe(true);
  });
});

describe("a source", () => {
  async function started(url: string, ...flags: readonly string[]): Promise<Mp2p> {
    const sender = source(url, "t", ...flags);
    await sender.event("open");
    return sender;
  }

  it("killed and started over with its key is followed, and its peers end with 3", async () => {
    const { url } = await serve();
    const key = path.join(temporaryDirectory(), "source.key");
    expect(await new Mp2p(["key", key]).exit).toBe(0);
    const peers = [join(url, "t"), join(url, "t")] as const;
    const keeps = join(url, "t", "--on-restart", "end");
    const first = await started(url, "--identity", key, "--wait-peers", "3");
    await first.feed(Buffer.from(numberedLines(1, 1_000)));
    const sofar = numberedLines(1, 1_000);
    await Promise.all([...peers, keeps].map((peer) => peer.wrote(sofar.length)));
    first.kill("SIGKILL");
    await first.exit;
    const again = await started(url, "--identity", key);
    await Promise.all(peers.map((peer) => peer.event("restarted")));
    again.stdin.end(numberedLines(5_001, 1_000));
    expect(await Promise.all([again, ...peers, keeps].map((one) => one.exit))).toEqual([
      0, 3, 3, 3,
    ]);
    for (const peer of peers) {
      expect(peer.output.toString() === sofar + numberedLines(5_001, 1_000)).toBe(true);
      expect(peer.events.find(({ event }) => event === "restarted")).toMatchObject({
        sessionEpoch: 2,
        before: { sessionEpoch: 1, sources: [{ sourceId: "source", last: 1_000 }] },
      });
    }
    expect(keeps.output.toString() === sofar).toBe(true);
    expect(keeps.said).toContain("SESSION_LOST");
  }, 60_000);
});

describe("servers", () => {
  it("killed during a session disturb no data, and list it again after their restart", async () => {
    const dataDir = temporaryDirectory();
    const port = String(await freePort());
    const flags = ["--port", port, "--data-dir", dataDir, "--report-interval-ms", "500"];
    const before = await serve(...flags);
    const { url } = before;
    const peer = join(url, "t");
    const sender = source(url, "t");
    await sender.feed(Buffer.from(numberedLines(1, 1_000)));
    await peer.wrote(50_000);
    before.process.kill("SIGKILL");
    await before.process.exit;
    const sofar = peer.outBytes;
    await sender.feed(Buffer.from(numberedLines(1_001, 1_000)));
    await peer.wrote(sofar + 90_000);
    const after = await serve(...flags);
    expect((await listed(after.adminUrl)).overlays).toEqual(["t"]);
    // Found again: a newcomer joins by the title.
    const newcomer = join(url, "t");
    await newcomer.event("started");
    const own = (await peer.event("joined")).peerId as string;
    await eventually(async () => (await listed(after.adminUrl)).reporting.includes(own));
    sender.stdin.end(numberedLines(2_001, 1_000));
    expect([await sender.exit, await peer.exit, await newcomer.exit]).toEqual([0, 0, 0]);
    expect(peer.output.toString() === numberedLines(1, 3_000)).toBe(true);
  });

  it("refuse a port in use and a data directory in use", async () => {
    const dataDir = temporaryDirectory();
    const port = String(await freePort());
    await serve("--port", port, "--data-dir", dataDir);
    const samePort = new Mp2p(["serve", "--memory", "--port", port]);
    const sameDirectory = new Mp2p(["serve", "--port", "0", "--data-dir", dataDir]);
    expect([await samePort.exit, await sameDirectory.exit]).toEqual([1, 1]);
    expect(samePort.said).toContain("ADDRESS_IN_USE");
    expect(sameDirectory.said).toContain("DATA_DIR_IN_USE");
  });

  it("stop in order with SIGTERM, and say 130 with SIGINT", async () => {
    const [first, second] = [await serve(), await serve()];
    first.process.kill("SIGTERM");
    second.process.kill("SIGINT");
    expect([await first.process.exit, await second.process.exit]).toEqual([0, 130]);
  });
});

describe("signals", () => {
  it("SIGTERM ends the input of a source and the session in order", async () => {
    const { url } = await serve();
    const peer = join(url, "t");
    const sender = source(url, "t");
    await sender.feed(Buffer.from("one\ntwo\n"));
    await peer.wrote(8);
    sender.kill("SIGTERM");
    expect([await sender.exit, await peer.exit]).toEqual([0, 0]);
    expect(peer.output.toString()).toBe("one\ntwo\n");
  });

  it("SIGTERM stops a paced file at once: what was read ahead is dropped, what was sent is whole", async () => {
    const { url } = await serve();
    const lines = Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`);
    const file = path.join(temporaryDirectory(), "input");
    writeFileSync(file, lines.join(""));
    const peer = join(url, "paced");
    const sender = source(url, "paced", "--file", file, "--rate", "200");
    await peer.wrote(1_000);
    sender.kill("SIGTERM");
    expect([await sender.exit, await peer.exit]).toEqual([0, 0]);
    const { data } = (await sender.event("done")) as unknown as { data: number };
    // The first block of the file alone holds ten times as many.
    expect(data).toBeLessThan(2_000);
    expect(peer.output.toString()).toBe(lines.slice(0, data).join(""));
    expect(await sender.event("ending")).toMatchObject({ why: "signal" });
    expect(await sender.event("read")).toMatchObject({ data });
  }, 60_000);

  it("SIGINT breaks the session off, and peers know that data are missing", async () => {
    const { url } = await serve();
    const peer = join(url, "t");
    const sender = source(url, "t");
    await sender.feed(Buffer.from("one\ntwo\n"));
    await peer.wrote(8);
    sender.kill("SIGINT");
    expect([await sender.exit, await peer.exit]).toEqual([130, 3]);
    expect(peer.said).toContain("the source left before the end of the stream");
    expect(peer.said).toContain("SESSION_LOST");
    expect(peer.output.toString()).toBe("one\ntwo\n");
  });

  it("a source without data or peers has nothing to hold: it ends at once, whenever it is told", async () => {
    const { url } = await serve();
    const reading = source(url, "reading");
    await reading.event("open");
    reading.kill("SIGTERM");
    expect(await reading.exit).toBe(0);
    // Its input has ended: it would wait for peers, to tell them so.
    const ended = source(url, "ended");
    ended.stdin.end();
    await ended.event("read");
    ended.kill("SIGTERM");
    expect(await ended.exit).toBe(0);
    const broken = source(url, "broken");
    broken.stdin.end();
    await broken.event("read");
    broken.kill("SIGINT");
    expect(await broken.exit).toBe(130);
    for (const end of ["last", "owner"]) {
      const accepts = source(url, `accepts ${end}`, "--accept", "0", "--end", end);
      const { addresses } = await accepts.event("accepting");
      const [to = ""] = addresses as string[];
      const idle = new Mp2p(["feed", "--to", to, "--source-id", "idle"]);
      await idle.event("registered");
      accepts.kill("SIGTERM");
      expect(await accepts.exit).toBe(0);
      // Its input stays open: all that came of it has its place.
      expect(await idle.exit, idle.said).toBe(0);
    }
    // What was written is held, as long as it was told to.
    const holding = source(url, "holding", "--hold-ms", "1000");
    await holding.feed(Buffer.from("one\n"));
    holding.stdin.end();
    await holding.event("read");
    holding.kill("SIGTERM");
    expect(await holding.exit).toBe(1);
    expect(holding.events.at(-1)).toMatchObject({ event: "error", code: "NO_PEERS" });
  }, 50_000);

  it("nor has one whose peers took everything and left: it says how they fared, exit 0", async () => {
    const { url } = await serve();
    const peer = join(url, "t");
    const sender = source(url, "t", "--hold-ms", "40000");
    await sender.feed(Buffer.from("one\n"));
    await peer.wrote(4);
    peer.kill("SIGTERM");
    expect(await peer.exit).toBe(0);
    sender.kill("SIGTERM");
    expect(await sender.exit).toBe(0);
    expect(await sender.event("done")).toMatchObject({
      data: 1,
      members: { complete: 0, left: 1, behind: 0 },
    });
  }, 30_000);

  it("SIGINT has a peer leave, SIGTERM too; the source stays for others", async () => {
    const { url } = await serve();
    const peers = [join(url, "t"), join(url, "t"), join(url, "t")] as const;
    const sender = source(url, "t", "--wait-peers", "3");
    await sender.feed(Buffer.from("one\n"));
    await Promise.all(peers.map((peer) => peer.wrote(4)));
    peers[0].kill("SIGINT");
    peers[1].kill("SIGTERM");
    expect([await peers[0].exit, await peers[1].exit]).toEqual([130, 0]);
    sender.stdin.end("two\n");
    expect([await sender.exit, await peers[2].exit]).toEqual([0, 0]);
    expect(peers[2].output.toString()).toBe("one\ntwo\n");
  });
});

/** Asks again and again until it holds; the test's own time limit ends it. */
async function eventually(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 50));
}
