/**
 * Every curl line of docs/protocol.md, sent as curl sends it, in the order in which a peer needs
 * them. Also that HTTP says a failure by the status of the table.
 */

import { expect, onTestFinished, test } from "vitest";
import { startServers } from "../../src/server.ts";
import { writeMsgpack } from "../support/msgpack-writer.ts";
import { readPage } from "./page.ts";
import { keyOf } from "./wire.ts";

const page = readPage("protocol.md");

/** Operation -> body, with the shell's variables still in it. */
const calls = new Map<string, string>();
for (const { info, text } of page.blocks) {
  if (info !== "sh") continue;
  for (const line of text.split("\n")) {
    const call = /^curl -s (?:-X POST )?http:\/\/127\.0\.0\.1:7900\/(\S+)(?: -d (.+))?$/.exec(line);
    if (call !== null) calls.set(call[1] as string, call[2] ?? "''");
  }
}

const statuses = new Map(
  page.section("Failure codes").tables[0]?.rows.map(([code, status]) => [code, Number(status)]),
);

test("every curl line does what it says", async () => {
  const serviceKey = Buffer.alloc(32, 0x5e);
  const servers = await startServers({ port: 0, serviceKey });
  onTestFinished(() => servers.close());
  const base = (servers.urls.oms as string).replace(/^ws:/, "http:");
  const variables: Record<string, string> = { SERVICE_KEY: "00".repeat(32) };
  const done = new Set<string>();

  const curl = async (operation: string): Promise<Record<string, unknown>> => {
    done.add(operation);
    const word = calls.get(operation);
    if (word === undefined) throw new Error(`no curl line for ${operation}`);
    // 'text'$NAME'text': quotes go, variables are filled in.
    const body = word.replace(/'(\$([A-Z_]+)')?/g, (_, _variable, name: string | undefined) => {
      if (name === undefined) return "";
      const value = variables[name];
      if (value === undefined) throw new Error(`${operation}: $${name} is not set`);
      return value;
    });
    const response = await fetch(`${base}/${operation}`, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body,
    });
    const answer = (await response.json()) as Record<string, unknown>;
    const status = answer.code === undefined ? 200 : statuses.get(answer.code as string);
    expect(response.status, `${operation}: ${JSON.stringify(answer)}`).toBe(status);
    return answer;
  };
  const succeed = async (operation: string): Promise<Record<string, unknown>> => {
    const answer = await curl(operation);
    expect(answer.code, `${operation}: ${String(answer.detail)}`).toBeUndefined();
    return answer;
  };
  const prove = async (
    seed: number,
    domain: string,
    rest: Uint8Array,
    challenge = "r5/challenge",
  ): Promise<void> => {
    const key = keyOf(Buffer.alloc(32, seed));
    variables.NONCE = String((await succeed(challenge)).nonce);
    const statement = [Buffer.from(domain), Buffer.from(variables.NONCE, "hex"), rest];
    variables.PUBLIC = key.publicKey.toString("hex");
    variables.PEER = key.peerId.toString("hex");
    variables.SIGNATURE = key.sign(Buffer.concat(statement)).toString("hex");
  };

  // The owner.
  await prove(1, "mp2p-r5-create-1", Buffer.alloc(0));
  const created = await succeed("r5/create");
  expect(created).toMatchObject({ sessionEpoch: 1, refreshMs: 60_000, reportIntervalMs: 10_000 });
  variables.OVERLAY = String(created.overlayId);
  variables.OWNER_TOKEN = String(created.ownerToken);
  const overlayId = Buffer.from(variables.OVERLAY, "hex");
  expect(await succeed("r5/refresh")).toEqual({ refreshMs: 60_000, reach: 1 });
  const owner = keyOf(Buffer.alloc(32, 1));
  const fields = ["ws://127.0.0.1:7900", overlayId, 1, "t", "2014", 16_384, "", "checksum"];
  const more = ["complete", 10_000, 8, owner.publicKey, 1];
  const body = writeMsgpack([1, 4, "Seattle", ...fields, ...more]);
  const signature = owner.sign(Buffer.concat([Buffer.from("mp2p-index-file-1"), body]));
  variables.FILE = writeMsgpack([body, signature]).toString("hex");
  expect(await curl("r6/query")).toMatchObject({ code: "UNKNOWN_INDEX" });
  expect(await succeed("r6/register")).toEqual({ version: 4 });
  expect((await succeed("r6/query")).files).toEqual([variables.FILE]);
  expect((await succeed("r6/list")).rows).toEqual([
    {
      title: "Seattle",
      dataSourceId: "t",
      dataId: "2014",
      version: 4,
      overlayId: variables.OVERLAY,
    },
  ]);

  // A member.
  await prove(2, "mp2p-r5-join-1", overlayId);
  const joined = await succeed("r5/join");
  expect(joined.members).toMatchObject([
    { role: 0, candidates: [{ transport: "tcp", host: "127.0.0.1", port: 7901 }] },
  ]);
  variables.TOKEN = String(joined.memberToken);
  expect(await succeed("r5/member-refresh")).toEqual({
    leaseMs: 30_000,
    sessionEpoch: 1,
    reach: 2,
  });
  expect((await succeed("r5/list")).members).toHaveLength(1);
  const keyed = ["r1/register-overlay", "r1/remove-overlay", "r1/peer-list", "r1/peer-status"];
  const cache = ["r8/register", "r8/give-back", "r8/withdraw", "admin/cache-servers"];
  for (const operation of [...keyed, ...cache, "r6/overlay-gone", "admin/overlays"]) {
    expect(await curl(operation)).toMatchObject({ code: "KEY_REQUIRED" });
  }
  variables.SERVICE_KEY = serviceKey.toString("hex");
  expect(await succeed("r1/register-overlay")).toEqual({ reportIntervalMs: 10_000 });
  expect(await succeed("r5/virtual-peers")).toEqual({ virtualPeers: 2, assigned: 0 });
  expect(await succeed("r8/register")).toEqual({ leaseMs: 30_000, term: 1, assigned: 0 });
  expect((await succeed("admin/cache-servers")).rows).toMatchObject([{ label: "rack 7" }]);
  expect(await succeed("r8/give-back")).toEqual({});
  expect(await succeed("r8/withdraw")).toEqual({});
  await prove(2, "mp2p-r2-register-1", overlayId, "r2/challenge");
  const registered = await succeed("r2/register-peer");
  expect(registered).toMatchObject({ reportIntervalMs: 10_000 });
  variables.PEER_TOKEN = String(registered.peerToken);
  expect(await succeed("r2/report")).toEqual({});
  expect(await succeed("r1/peer-list")).toMatchObject({
    peers: [{ peerId: variables.PEER, activity: 1, links: 1 }],
    matching: 1,
    registered: 1,
  });
  expect(await succeed("r1/peer-status")).toMatchObject({ role: 1, reports: [{ links: 1 }] });
  expect(await succeed("admin/overlays")).toMatchObject({
    rows: [{ overlayId: variables.OVERLAY, title: "Seattle", members: 2, inbound: 1 }],
    more: false,
    pamsUrl: servers.urls.pams,
  });
  expect(await succeed("r2/remove-peer")).toEqual({});
  expect(await curl("r2/report")).toMatchObject({ code: "UNKNOWN_PEER" });
  expect(await succeed("r1/remove-overlay")).toEqual({});
  expect(await succeed("r5/leave")).toEqual({});
  expect(await succeed("r6/overlay-gone")).toEqual({});
  expect((await succeed("r6/list")).rows).toEqual([]);

  // The end.
  expect(await succeed("r5/restart")).toEqual({ sessionEpoch: 2, refreshMs: 60_000 });
  await prove(1, "mp2p-r5-take-over-1", overlayId);
  const taken = await succeed("r5/take-over");
  expect(taken).toMatchObject({ sessionEpoch: 3, refreshMs: 60_000, reportIntervalMs: 10_000 });
  expect(await curl("r5/refresh")).toMatchObject({ code: "NOT_OWNER" });
  variables.OWNER_TOKEN = String(taken.ownerToken);
  const token = variables.OWNER_TOKEN;
  variables.OWNER_TOKEN = "00".repeat(16);
  expect(await curl("r5/remove")).toMatchObject({ code: "NOT_OWNER" });
  variables.OWNER_TOKEN = token;
  expect(await succeed("r5/remove")).toEqual({});
  const gone = await curl("r5/remove");
  expect(gone).toMatchObject({ code: "OVERLAY_GONE", detail: "removed" });
  expect(gone.whenUs).toBeGreaterThan(0);
  expect([...calls.keys()].filter((operation) => !done.has(operation))).toEqual([]);
});

test("failures over HTTP: malformed, unknown, too large, wrong method, msgpack", async () => {
  const servers = await startServers({ port: 0, roles: ["ixs"] });
  onTestFinished(() => servers.close());
  const base = (servers.urls.ixs as string).replace(/^ws:/, "http:");
  const post = async (path: string, body: string | Buffer, type = "application/json") => {
    const headers = { "content-type": type };
    const response = await fetch(`${base}/${path}`, { method: "POST", headers, body });
    return { response, status: response.status };
  };
  const malformed = await post("r6/query", "{}");
  expect(malformed.status).toBe(400);
  expect(await malformed.response.json()).toMatchObject({ code: "MESSAGE_MALFORMED" });
  expect((await post("r9/none", "{}")).status).toBe(404);
  const unplayed = await post("r5/challenge", "{}");
  expect(unplayed.status).toBe(404);
  expect(await unplayed.response.json()).toMatchObject({ code: "MESSAGE_UNKNOWN" });
  expect((await post("r6/query", "x".repeat(70_000))).status).toBe(413);
  expect((await fetch(`${base}/r6/query`, { method: "PUT" })).status).toBe(405);
  const packed = await post("", writeMsgpack([0x54, 9, "", 5]), "application/msgpack");
  expect(packed.status).toBe(200);
  const answer = Buffer.from(await packed.response.arrayBuffer());
  expect(answer).toEqual(writeMsgpack([0xd4, 9, [], false]));
  expect((await fetch(`${base}/healthz`)).status).toBe(200);
  expect((await fetch(`${base}/readyz`)).status).toBe(200);
});
