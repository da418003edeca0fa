/** Servers in processes of their own: an index server learns of ends elsewhere; mp2p status. */

import { copyFileSync, readFileSync } from "node:fs";
import path from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { cleanUp, Mp2p, source, temporaryDirectory } from "./processes.ts";

afterEach(cleanUp);

type Ready = { readonly urls: Record<string, string>; readonly adminUrl: string };

async function serve(...flags: readonly string[]): Promise<Ready & { readonly process: Mp2p }> {
  const process = new Mp2p(["serve", "--port", "0", ...flags]);
  await process.until(() => process.output.includes("\n"), "ready line");
  return { process, ...(JSON.parse(process.output.toString()) as Ready) };
}

async function post(url: string, operation: string, fields: object) {
  const response = await fetch(`${url.replace(/^ws:/, "http:")}/${operation}`, {
    method: "POST",
    body: JSON.stringify(fields),
  });
  return (await response.json()) as Record<string, unknown>;
}

const query = { version: 0, title: "weather", dataSourceId: "", dataId: "" };

describe("OMS and IXS in two processes", () => {
  async function apart(...omsFlags: readonly string[]) {
    const directory = temporaryDirectory();
    const indexData = path.join(directory, "ixs");
    const index = await serve("--roles", "ixs", "--data-dir", indexData);
    const ixs = index.urls.ixs as string;
    const key = path.join(directory, "copied.key");
    copyFileSync(path.join(indexData, "service.key"), key);
    const flags = ["--roles", "oms,pams", "--data-dir", path.join(directory, "oms"), "--ixs", ixs];
    const oms = await serve(...flags, ...omsFlags.map((flag) => (flag === "KEY" ? key : flag)));
    return { directory, index, ixs, oms, omsUrl: oms.urls.oms as string };
  }

  test("a session whose source was killed is gone at the IXS once its overlay expired", async () => {
    const { ixs, oms, omsUrl } = await apart("--service-key-file", "KEY", "--refresh-ms", "1500");
    const feed = source(omsUrl, "weather", "--ixs", ixs);
    await feed.event("open");
    expect(await post(ixs, "r6/query", query)).toMatchObject({ files: [expect.any(String)] });
    feed.kill("SIGKILL");
    await feed.exit;
    await expect
      .poll(async () => (await post(ixs, "r6/query", query)).gone, {
        timeout: 15_000,
        interval: 200,
      })
      .toMatchObject([{ version: 1 }]);
    const stats = await (await fetch(`${oms.adminUrl}/stats.json`)).json();
    expect(stats).toMatchObject({ oms: { tombstones: 1, ixsPending: 0 } });
  }, 120_000);

  test("with another key the IXS keeps it, and the OMS says why", async () => {
    const { ixs, oms, omsUrl } = await apart("--refresh-ms", "1500", "--log-level", "warn");
    const feed = source(omsUrl, "weather", "--ixs", ixs);
    await feed.event("open");
    feed.kill("SIGKILL");
    await feed.exit;
    await oms.process.until(() => oms.process.said.includes("ixsRefused"), "the reason");
    expect(oms.process.said).toContain("KEY_REQUIRED");
    expect(await post(ixs, "r6/query", query)).toMatchObject({ files: [expect.any(String)] });
  }, 120_000);
});

describe("mp2p status", () => {
  test("shows sessions and peers as objects and as a table, one peer, and again and again", async () => {
    const data = temporaryDirectory();
    const { urls } = await serve("--data-dir", data, "--report-interval-ms", "200");
    const url = urls.oms as string;
    const key = ["--server", url, "--service-key-file", path.join(data, "service.key")];
    const empty = new Mp2p(["status", ...key], { json: false });
    expect(await empty.exit).toBe(0);
    expect(empty.output.toString()).toBe("no sessions\n");

    const feed = source(url, "weather", "--wait-peers", "1");
    const joined = new Mp2p(["join", "--server", url, "--title", "weather"]);
    await feed.feed(Buffer.from("sunny\n".repeat(100)));
    await joined.wrote(600);

    const watch = new Mp2p(["status", ...key, "--watch", "--interval-ms", "100"]);
    const lines = (): Record<string, unknown>[] =>
      watch.output
        .toString()
        .split("\n")
        .filter((line) => line.endsWith("}"))
        .map((line) => JSON.parse(line) as Record<string, unknown>);
    const peer = () =>
      lines().findLast(
        ({ event, role, heldEnd }) =>
          event === "peer" && role === "peer" && Number(heldEnd ?? 0) !== 0,
      );
    const sender = () =>
      lines().findLast(({ event, role }) => event === "peer" && role === "source");
    await watch.until(() => peer() !== undefined && sender() !== undefined, "a report of each");
    expect(peer()).toMatchObject({ activity: "active", missing: 0, lagMs: 0, links: 1 });
    expect(lines()[0]).toMatchObject({
      event: "overlay",
      title: "weather",
      members: 2,
      inbound: 2,
    });
    watch.kill("SIGTERM");
    expect(await watch.exit).toBe(0);

    const table = new Mp2p(["status", ...key, "--order", "contribution", "--peers", "1"], {
      json: false,
    });
    expect(await table.exit).toBe(0);
    expect(table.output.toString()).toMatch(
      /^"weather" {2}overlay [0-9a-f]{32} {2}epoch 1\n2 members: 2 can be dialled, 0 can not\npeer +role +state +lag/,
    );
    expect(table.output.toString()).toContain("and 1 more (--peers)");

    const peerId = String(peer()?.peerId);
    const one = new Mp2p(["status", ...key, "--peer", peerId], { json: false });
    expect(await one.exit).toBe(0);
    expect(one.output.toString()).toMatch(
      /took .* of the source and 0 B of peers, gave 0 B: 0\.00/,
    );
    // A source peer takes nothing, so there is nothing to compare with what it gave.
    expect(sender()).toMatchObject({ contributionPermille: null });
    const sourceId = String(sender()?.peerId);
    const giving = new Mp2p(["status", ...key, "--peer", sourceId], { json: false });
    expect(await giving.exit).toBe(0);
    expect(giving.output.toString()).toMatch(/of peers, gave .+: -$/m);
    const object = new Mp2p(["status", ...key, "--peer", sourceId]);
    expect(await object.exit).toBe(0);
    expect(JSON.parse(object.output.toString())).toMatchObject({ contributionPermille: null });
    const nobody = new Mp2p(["status", ...key, "--peer", "ab".repeat(32)]);
    expect(await nobody.exit).toBe(1);
    expect(await nobody.event("error").catch(() => nobody.events[0])).toMatchObject({
      code: "UNKNOWN_PEER",
    });

    feed.stdin.end();
    expect(await joined.exit).toBe(0);
    expect(await feed.exit).toBe(0);
  }, 120_000);

  test("without the right key, a server, or a word for plain text it says what cures it", async () => {
    const data = temporaryDirectory();
    const { urls } = await serve("--data-dir", data);
    const server = ["--server", urls.oms as string];
    const other = await serve("--data-dir", path.join(data, "other"));
    const wrong = path.join(data, "other", "service.key");
    expect(readFileSync(wrong, "utf8")).not.toBe(
      readFileSync(path.join(data, "service.key"), "utf8"),
    );
    const own = ["--service-key-file", path.join(data, "service.key")];
    const cases: readonly (readonly [readonly string[], number, string])[] = [
      [[...server, "--service-key-file", wrong], 1, "KEY_REQUIRED"],
      [[...server, "--service-key-file", path.join(data, "none.key")], 1, "FILE_NOT_FOUND"],
      [["--server", "ws://127.0.0.1:1", ...own], 1, "UNREACHABLE"],
      [["--server", "ws://192.0.2.1:7900", ...own], 2, "PLAINTEXT_REFUSED"],
      [own, 2, "USAGE"],
      [[...server, ...own, "--peer", "short"], 2, "USAGE"],
      [[...server, ...own, "--peers", "0"], 2, "USAGE"],
    ];
    for (const [flags, code, error] of cases) {
      const run = new Mp2p(["status", ...flags]);
      expect([await run.exit, run.events.at(-1)?.code], flags.join(" ")).toEqual([code, error]);
    }
    expect(other.urls.oms).toBeDefined();
  }, 120_000);
});

test("plain text off loopback is exit 2 for every command that links up, and says the flag", async () => {
  for (const args of [
    ["serve", "--host", "*", "--memory"],
    ["serve", "--roles", "oms", "--memory", "--pams", "ws://192.0.2.1:7900"],
    ["join", "--server", "ws://192.0.2.1:7900", "--title", "t"],
    ["source", "--server", "ws://127.0.0.1:1", "--title", "t", "--listen", "*:0"],
    ["source", "--server", "ws://127.0.0.1:1", "--title", "t", "--accept", "0,ws://0.0.0.0:0"],
    ["feed", "--to", "192.0.2.1:7950", "--source-id", "a"],
  ]) {
    const run = new Mp2p(args);
    run.stdin.end();
    expect(await run.exit, args.join(" ")).toBe(2);
    expect(run.events.at(-1)).toMatchObject({ event: "error", code: "PLAINTEXT_REFUSED" });
    expect(run.said).toContain("--allow-plaintext");
  }
}, 120_000);
