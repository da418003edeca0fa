/** Standard input that says nothing for a while: what ends a command meanwhile, and what it keeps. */

import { afterEach, describe, expect, it } from "vitest";
import { feed, lines, rows, textOf } from "./feeds.ts";
import { cleanUp, join, serve, source } from "./processes.ts";

afterEach(cleanUp);

describe("standard input that stays open", () => {
  it("does not keep a source whose session has failed", async () => {
    const { url } = await serve();
    const sender = source(url, "t", "--hold-ms", "300", "--wait-peers", "1");
    sender.stdin.write("nobody takes this\n");
    expect(await sender.exit, sender.said).not.toBe(0);
    expect(sender.events.at(-1)).toMatchObject({ event: "error", code: "NO_PEERS" });
  }, 60_000);

  it("does not keep a feed whose source peer is gone for longer than it waits", async () => {
    const { url } = await serve();
    const at = source(url, "t", "--accept", "0", "--wait-peers", "1");
    const { addresses } = await at.event("accepting");
    const one = feed((addresses as string[])[0] ?? "", "a", "--wait-ms", "300");
    await one.event("registered");
    one.stdin.write("kept here only\n");
    at.kill("SIGKILL");
    expect(await one.exit, one.said).toBe(1);
    expect(one.events.at(-1)).toMatchObject({ event: "error", code: "UNREACHABLE" });
  }, 60_000);

  it("SIGTERM brings what was read of it to the peers, however slow it was sent", async () => {
    const { url } = await serve();
    const at = source(url, "t", "--accept", "0", "--wait-sources", "2", "--wait-peers", "1");
    const { addresses } = await at.event("accepting");
    const [to = ""] = addresses as string[];
    const text = lines("line", 1_500);
    const peer = join(url, "t", "--format", "ndjson");
    const slow = ["--rate", "20"];
    const fed = [feed(to, "a", ...slow), feed(to, "b", ...slow, "--format", "raw")];
    for (const one of fed) one.stdin.write(text);
    await peer.wrote(500);
    for (const one of fed) {
      one.kill("SIGTERM");
      expect(await one.exit, one.said).toBe(0);
    }
    // Their data sources are left open.
    for (const id of ["a", "b"]) {
      const end = feed(to, id);
      end.stdin.end();
      expect(await end.exit, end.said).toBe(0);
    }
    expect([await at.exit, await peer.exit]).toEqual([0, 0]);
    for (const id of ["a", "b"]) expect(textOf(rows(peer.output), id), id).toBe(text);
  }, 60_000);

  it("SIGTERM ends a source's session after what was read of it", async () => {
    const { url } = await serve();
    const sender = source(url, "t", "--rate", "20", "--wait-peers", "1");
    const peer = join(url, "t");
    const text = lines("line", 1_500);
    sender.stdin.write(text);
    await peer.wrote(20);
    sender.kill("SIGTERM");
    expect([await sender.exit, await peer.exit]).toEqual([0, 0]);
    expect(peer.output.toString() === text).toBe(true);
  }, 60_000);
});
