/** Data sources on links of their own whose source peer is killed and started anew, as processes. */

import path from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { feed, fileOf, lines, rows, textOf } from "./feeds.ts";
import { cleanUp, freePort, join, Mp2p, serve, source, temporaryDirectory } from "./processes.ts";

afterEach(cleanUp);

interface Restartable {
  readonly url: string;
  /** Where feeds link up. */
  readonly to: string;
  start(): Mp2p;
  /** Starts it, and waits until it accepts. */
  begin(): Promise<Mp2p>;
}

/** A source peer that accepts at the same port, with the same key, whenever it is started. */
async function restartable(title: string, ...flags: readonly string[]): Promise<Restartable> {
  const { url } = await serve();
  const key = path.join(temporaryDirectory(), "key");
  expect(await new Mp2p(["key", key]).exit).toBe(0);
  const port = await freePort();
  const start = (): Mp2p => source(url, title, "--accept", `${port}`, "--identity", key, ...flags);
  const begin = async (): Promise<Mp2p> => {
    const running = start();
    await running.event("accepting");
    return running;
  };
  return { url, to: `127.0.0.1:${port}`, start, begin };
}

describe("data sources whose source peer is killed and started anew", () => {
  it("what no peer holds comes again when the source peer is killed and started anew", async () => {
    const waits = ["--wait-peers", "2", "--wait-sources", "2"];
    const { url, to, begin } = await restartable("again", ...waits);
    // Each session's data are looked at by themselves here; who follows is in test/peer/restart.
    const alone = ["--format", "ndjson", "--on-restart", "end"];
    const joined = (): Mp2p[] => [0, 1].map(() => join(url, "again", ...alone));
    let running = await begin();
    const parts = [0, 1, 2, 3, 4].map((n) => lines(`part ${n}`, 3_000, 80));
    const fed = ["a", "b"].map((name) => feed(to, name));
    const more = (part: number): void => {
      for (const one of fed) one.stdin.write(parts[part] ?? "");
    };
    const linked = (one: Mp2p): number =>
      one.events.filter(({ event }) => event === "linked").length;
    await Promise.all(fed.map((one) => one.event("registered")));
    let peers = joined();
    const outputs: Buffer[] = [];
    for (const times of [1, 2]) {
      more(2 * times - 2);
      await Promise.all(peers.map((peer) => peer.wrote(200_000)));
      // Some of this is accepted, some is on its way, and nothing of it may be held.
      more(2 * times - 1);
      running.kill("SIGKILL");
      await running.exit;
      running = await begin();
      // The index names the new overlay from here on.
      await Promise.all(fed.map((one) => one.until(() => linked(one) >= times, "new link")));
      const old = peers;
      peers = joined();
      // Members of the old overlay hear that it is over, with all that any of them had.
      expect(await Promise.all(old.map((peer) => peer.exit))).toEqual([3, 3]);
      outputs.push(...old.map((peer) => peer.output));
    }
    for (const one of fed) one.stdin.end(parts[4]);
    expect(await Promise.all(fed.map((one) => one.exit))).toEqual([0, 0]);
    expect(await running.exit).toBe(0);
    for (const peer of peers) expect(await peer.exit, peer.said).toBe(0);
    const all = rows(...outputs, ...peers.map((peer) => peer.output));
    for (const name of ["a", "b"]) expect(textOf(all, name) === parts.join(""), name).toBe(true);
    for (const one of fed) {
      const again = one.events.filter(({ event }) => event === "linked");
      expect(again.map(({ newSession }) => newSession)).toEqual([true, true]);
    }
  }, 240_000);

  it("a file whose feed is killed with its source peer comes once to peers that follow", async () => {
    // It waits for both, also when one follows later: what is over by then nobody can join.
    const { url, to, begin: beginSource } = await restartable("dark", "--wait-peers", "2");
    const text = Array.from({ length: 400 }, (_, i) => `{"n":${i + 1}}\n`).join("");
    const file = fileOf(text);
    const begin = async (...pace: readonly string[]): Promise<Mp2p[]> => {
      const at = await beginSource();
      const flags = ["--file", file, "--format", "ndjson", ...pace];
      return [at, feed(to, "a", ...flags)];
    };
    const telling = ["join", "--server", url, "--title", "dark", "--format", "ndjson"];
    const peers = [join(url, "dark", "--format", "ndjson"), new Mp2p(telling, { json: false })];
    const killed = await begin("--rate", "40");
    await Promise.all(peers.map((peer) => peer.wrote(8_000)));
    for (const one of killed) one.kill("SIGKILL");
    await Promise.all(killed.map((one) => one.exit));
    const [at, fed] = await begin();
    expect(await fed?.exit, fed?.said).toBe(0);
    expect(await at?.exit, at?.said).toBe(0);
    for (const peer of peers) {
      expect(await peer.exit, peer.said).toBe(0);
      const sequences = rows(peer.output).map(({ sequence }) => sequence);
      expect(sequences).toEqual(Array.from({ length: 400 }, (_, i) => i + 1));
      expect(textOf(rows(peer.output), "a") === text).toBe(true);
    }
    const began = /started over, in epoch 2: of all it sent before that came a up to \d+;/;
    expect(peers[1]?.said).toMatch(began);
  }, 120_000);

  it("a file is read again when what an earlier run had brought is lost with the source peer", async () => {
    const { url, to, begin } = await restartable("again");
    const text = lines("line", 2_000);
    const flags = ["--file", fileOf(text)];
    let running = await begin();
    const accepted = (count: number) => () =>
      running.events.some((event) => Number(event.acceptedData ?? 0) >= count);
    // Nobody holds what it brings.
    const first = feed(to, "a", ...flags, "--rate", "500");
    await running.until(accepted(200), "200 data");
    first.kill("SIGKILL");
    await first.exit;
    const second = feed(to, "a", ...flags);
    const { data } = (await second.event("skipped")) as unknown as { data: number };
    expect(data).toBeGreaterThanOrEqual(200);
    await running.until(accepted(2_000), "all data");
    running.kill("SIGKILL");
    await running.exit;
    running = await begin();
    const peer = join(url, "again");
    expect(await second.exit, second.said).toBe(0);
    expect(second.events.some(({ event }) => event === "again")).toBe(true);
    expect([await running.exit, await peer.exit]).toEqual([0, 0]);
    expect(peer.output.toString() === text).toBe(true);
  }, 120_000);

  it("one that is started twice leaves the session of the first alone", async () => {
    const { url, to, start, begin } = await restartable("twice");
    const running = await begin();
    const fed = feed(to, "a");
    await fed.event("registered");
    const again = start();
    expect(await again.exit).toBe(1);
    expect(again.said).toContain("ADDRESS_IN_USE");
    const peer = join(url, "twice");
    await peer.event("joined");
    fed.stdin.end("one\n");
    expect([await fed.exit, await running.exit, await peer.exit]).toEqual([0, 0, 0]);
    expect(peer.output.toString()).toBe("one\n");
  }, 60_000);

  it("peers go on with those that come again, whichever they came by, and newcomers find them", async () => {
    const { url, to, begin } = await restartable("left");
    let running = await begin();
    const [a, b] = ["a", "b"].map((name) => feed(to, name)) as [Mp2p, Mp2p];
    await Promise.all([a, b].map((one) => one.event("registered")));
    const peer = join(url, "left", "--format", "ndjson");
    const parts = [0, 1, 2].map((n) => lines(`part ${n}`, 500, 80));
    a.stdin.end(parts[0]);
    b.stdin.write(parts[0]);
    // It has ended when the source peer is killed, and does not come again.
    expect(await a.exit, a.said).toBe(0);
    running.kill("SIGKILL");
    await running.exit;
    b.stdin.write(parts[1]);
    running = await begin();
    await b.event("linked");
    const late = join(url, "left", "--format", "ndjson");
    const fromStart = join(url, "left", "--from", "start", "--format", "ndjson");
    await Promise.all([peer, late, fromStart].map((one) => one.event("joined")));
    await peer.event("restarted");
    b.stdin.end(parts[2]);
    expect(await b.exit, b.said).toBe(0);
    expect(await running.exit, running.said).toBe(0);
    expect(await peer.exit, peer.said).toBe(0);
    expect(await late.exit, late.said).toBe(0);
    // What was there before the restart is gone, and who came after it hears of that.
    for (const one of [late, fromStart]) {
      expect(await one.event("missed")).toMatchObject({ sourceId: "b", upTo: 500 });
    }
    expect(await fromStart.exit, fromStart.said).toBe(3);
    const all = rows(peer.output);
    expect(textOf(all, "a") === parts[0]).toBe(true);
    expect(textOf(all, "b") === parts.join("")).toBe(true);
    expect(all.length).toBe(2_000);
  }, 120_000);

  it("the first that comes back and ends is not the last", async () => {
    const { url, to, begin } = await restartable("first");
    const first = await begin();
    const fed = feed(to, "a");
    fed.stdin.write("one\n");
    const peer = join(url, "first", "--format", "ndjson");
    await peer.wrote(10);
    first.kill("SIGKILL");
    await first.exit;
    // It is away for a moment, another one comes and is done.
    fed.kill("SIGSTOP");
    const again = await begin();
    const short = feed(to, "b");
    short.stdin.end("two\n");
    expect(await short.exit, short.said).toBe(0);
    fed.kill("SIGCONT");
    fed.stdin.end("three\n");
    expect(await fed.exit, fed.said).toBe(0);
    expect([await again.exit, await peer.exit]).toEqual([0, 0]);
    const all = rows(peer.output);
    expect([textOf(all, "a"), textOf(all, "b")]).toEqual(["one\nthree\n", "two\n"]);
  }, 60_000);
});
