/** What people get wrong, with real processes: each has its exit code and says the cure. */

import path from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { cleanUp, freePort, join, Mp2p, serve, source, temporaryDirectory } from "./processes.ts";

afterEach(cleanUp);

describe("bad input", () => {
  it("a wrong flag is 2, in words of one line", async () => {
    const process = new Mp2p(["join", "--titel", "x"], { json: false });
    expect(await process.exit).toBe(2);
    expect(process.said).toBe(
      "mp2p: error: unknown option '--titel'\n(Did you mean --title?)\n" +
        "(mp2p join --help shows all options, with examples)\n",
    );
  });

  it("integrity signed is refused", async () => {
    const process = source("ws://127.0.0.1:1", "t", "--integrity", "signed");
    expect(await process.exit).toBe(2);
    expect(process.said).toContain("INTEGRITY_UNSUPPORTED");
  });

  it("an unknown title is waited for, then told", async () => {
    const { url } = await serve();
    const process = join(url, "no such", "--wait-ms", "300");
    expect(await process.exit).toBe(1);
    expect(await process.event("error")).toMatchObject({ code: "UNKNOWN_INDEX" });
    expect(process.said).toContain("title no such,");
    const byId = join(url, "no such", "--source-id", "pump-9", "--wait-ms", "300");
    expect(await byId.exit).toBe(1);
    expect(byId.said).toContain("title no such, data source id pump-9, waited 300 ms");
  });

  it("a server that is not there is waited for, then told", async () => {
    const url = `ws://127.0.0.1:${await freePort()}`;
    const [peer, sender] = [
      join(url, "t", "--wait-ms", "300"),
      source(url, "t", "--wait-ms", "300"),
    ];
    expect([await peer.exit, await sender.exit]).toEqual([1, 1]);
    expect(peer.said).toContain("UNREACHABLE");
    expect(sender.said).toContain("UNREACHABLE");
  });

  it("who waits for a server or a source peer says at once why, and each cause once", async () => {
    const port = await freePort();
    const feed = ["feed", "--to", `127.0.0.1:${port}`, "--source-id", "s"];
    const all = [
      join(`ws://127.0.0.1:${port}`, "t", "--wait-ms", "30000"),
      new Mp2p([...feed, "--wait-ms", "30000"]),
    ];
    for (const process of all) {
      // The second says after a second what it waits for: it has tried several times by then.
      const waits = () => process.events.filter(({ event }) => event === "waiting");
      await process.until(() => waits().length >= 2, "two events waiting");
      const [why, what] = waits();
      expect(why?.why).toMatch(/^UNREACHABLE .*ECONNREFUSED.*: trying again$/);
      expect(what).toEqual({ event: "waiting" });
      process.kill("SIGTERM");
      expect(await process.exit).toBe(0);
    }
  });

  it("a missing file is told before any session is opened", async () => {
    const file = path.join(temporaryDirectory(), "none");
    const process = source("ws://127.0.0.1:1", "t", "--file", file);
    expect(await process.exit).toBe(1);
    expect(await process.event("error")).toMatchObject({ code: "FILE_NOT_FOUND" });
    expect(process.said).toContain(file);
  });

  it("an output that can not be made is told before anything is joined", async () => {
    const file = path.join(temporaryDirectory(), "none", "out");
    const process = join("ws://127.0.0.1:1", "t", "--out", file);
    expect(await process.exit).toBe(1);
    expect(await process.event("error")).toMatchObject({ code: "OUTPUT_FAILED" });
  });

  it("input that breaks its format ends the session as broken off", async () => {
    const { url } = await serve();
    const peer = join(url, "t");
    const sender = source(url, "t", "--format", "ndjson");
    await sender.feed(Buffer.from('{"good":1}\n'));
    await peer.wrote(11);
    sender.stdin.end("not json\n");
    expect(await sender.exit).toBe(1);
    expect(sender.said).toContain("INPUT_MALFORMED");
    expect(sender.said).toContain("2");
    expect(await peer.exit).toBe(3);
    expect(peer.output.toString()).toBe('{"good":1}\n');
  });

  it("a title of several sessions names the candidates", async () => {
    const { url } = await serve();
    const senders = ["a", "b"].map((id) => source(url, "t", "--source-id", id));
    await Promise.all(senders.map((sender) => sender.event("open")));
    const lost = join(url, "t");
    expect(await lost.exit).toBe(2);
    expect(lost.said).toMatch(/a\/t, b\/t|b\/t, a\/t/);
    const named = join(url, "t", "--source-id", "b");
    await named.event("joined");
    for (const sender of senders) sender.stdin.end("x\n");
    expect(await named.exit).toBe(0);
    expect(named.output.toString()).toBe("x\n");
  });
});

describe("mp2p key", () => {
  it("makes a key that gives a peer its id, and replaces none", async () => {
    const { url } = await serve();
    const file = path.join(temporaryDirectory(), "relay.key");
    const key = new Mp2p(["key", file]);
    expect(await key.exit).toBe(0);
    const { peerId } = JSON.parse(key.output.toString()) as { peerId: string };
    const again = new Mp2p(["key", file]);
    expect(await again.exit).toBe(1);
    expect(again.said).toContain("is not replaced");
    const peer = join(url, "t", "--identity", file);
    const sender = source(url, "t");
    sender.stdin.end("x\n");
    expect((await peer.event("joined")).peerId).toBe(peerId);
    expect([await sender.exit, await peer.exit]).toEqual([0, 0]);
  });
});
