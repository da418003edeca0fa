/** Standard input that says nothing for a while: what ends a command meanwhile, and what it keeps. */

import { execFileSync } from "node:child_process";
import { closeSync, openSync, writeSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { feed, lines, rows, textOf } from "./feeds.ts";
import { cleanUp, join, serve, source, temporaryDirectory } from "./processes.ts";

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

  it("of a named pipe is as good, whether somebody writes to it or not", async () => {
    const { url } = await serve();
    const fifo = path.join(temporaryDirectory(), "fifo");
    execFileSync("mkfifo", [fifo]);
    for (const writes of [false, true]) {
      const at = source(url, `t ${writes}`, "--accept", "0", "--end", "owner");
      const { addresses } = await at.event("accepting");
      const [to = ""] = addresses as string[];
      const peer = join(url, `t ${writes}`);
      const stopped = feed(to, "stopped", "--file", fifo);
      await stopped.event("registered");
      const over = feed(to, "over", "--file", fifo);
      await over.event("registered");
      await peer.event("joined");
      const writer = writes ? openSync(fifo, "r+") : undefined;
      if (writer !== undefined) {
        writeSync(writer, "who reads this\n");
        await peer.wrote(15);
      }
      stopped.kill("SIGTERM");
      expect(await stopped.exit, stopped.said).toBe(0);
      at.kill("SIGTERM");
      expect([await at.exit, await over.exit, await peer.exit]).toEqual([0, 0, 0]);
      if (writer !== undefined) closeSync(writer);
      expect(peer.output.toString()).toBe(writes ? "who reads this\n" : "");
    }
    const at = source(url, "whole", "--file", fifo, "--wait-peers", "1");
    const peer = join(url, "whole");
    const text = lines("line", 20_000);
    await writeFile(fifo, text);
    expect([await at.exit, await peer.exit]).toEqual([0, 0]);
    expect(peer.output.toString() === text).toBe(true);
  }, 60_000);

  it("brings what came before a fault to the peers, and leaves the data source open", async () => {
    const { url } = await serve();
    const at = source(url, "t", "--accept", "0", "--wait-peers", "1");
    const { addresses } = await at.event("accepting");
    const [to = ""] = addresses as string[];
    const peer = join(url, "t");
    const one = feed(to, "a", "--format", "ndjson");
    one.stdin.write('{"n":1}\nnot json\n{"n":2}\n');
    expect(await one.exit).toBe(1);
    expect(one.events.at(-1)).toMatchObject({ event: "error", code: "INPUT_MALFORMED" });
    const more = feed(to, "a", "--format", "ndjson");
    more.stdin.end('{"n":3}\n');
    expect([await more.exit, await at.exit, await peer.exit]).toEqual([0, 0, 0]);
    expect(peer.output.toString()).toBe('{"n":1}\n{"n":3}\n');
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
