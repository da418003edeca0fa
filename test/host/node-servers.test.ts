import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { toHex } from "../../src/base/units.ts";
import { NodeIdentity } from "../../src/host/node-identity.ts";
import {
  type RunningServers,
  type ServersOptions,
  startServers,
} from "../../src/host/node-servers.ts";
import { encodeIndexFile, indexFileBytes } from "../../src/protocol/index-file.ts";
import * as r5 from "../../src/protocol/r5.ts";
import * as r6 from "../../src/protocol/r6.ts";
import { encodeRequest, readEnvelope } from "../../src/protocol/signalling.ts";
import type { WsBackend } from "../../src/transport/ws-server/ws-server.ts";

async function start(options: ServersOptions = {}): Promise<RunningServers & { base: string }> {
  const servers = await startServers({ port: 0, ...options });
  onTestFinished(() => servers.close());
  return Object.assign(servers, { base: httpBase(servers.urls.oms ?? servers.urls.ixs ?? "") });
}

const httpBase = (url: string): string => url.replace(/^ws:/, "http:");

function newDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "mp2p-servers-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

async function post(base: string, operation: string, body: unknown): Promise<Answer> {
  const response = await fetch(`${base}/${operation}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

/** Creates an overlay by JSON over HTTP, as another language would. */
async function createOverlay(base: string, identity: NodeIdentity, title: string): Promise<Answer> {
  const { body } = await post(base, "r5/challenge", {});
  const nonce = Buffer.from(String(body.nonce), "hex");
  return post(base, "r5/create", {
    nonce: body.nonce,
    publicKey: toHex(identity.publicKey),
    signature: toHex(identity.sign(r5.createProof(nonce))),
    candidates: [],
    title,
    pams: true,
  });
}

function indexFile(
  identity: NodeIdentity,
  overlayId: string,
  title: string,
  version: number,
): string {
  const body = {
    formatVersion: 1,
    version,
    title,
    omsAddress: "ws://127.0.0.1:7900",
    overlayId,
    sessionEpoch: 1,
    dataSourceId: `sensor/${title}`,
    dataId: "data",
    fragmentBytes: 16_384,
    description: "",
    integrity: "checksum" as const,
    delivery: "complete" as const,
    maxLagMs: 10_000,
    substreams: 8,
    sourcePublicKey: identity.publicKey,
    createdUs: 1,
  };
  return toHex(encodeIndexFile(body, identity.sign(indexFileBytes(body))));
}

const builtServers = new URL("../../dist/host/node-servers.js", import.meta.url).href;

async function serveInChild(dataDir: string, port = 0) {
  const script = new URL("serve.mjs", import.meta.url).pathname;
  const child: ChildProcess = spawn(
    process.execPath,
    [script, builtServers, dataDir, String(port)],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  if (child.stdout === null) throw new Error("no output");
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const said = JSON.parse((await lines.next()).value) as Record<string, string>;
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  return { child, said, exited };
}

describe.each<WsBackend>(["uws", "ws"])("startServers over the back end %s", (backend) => {
  test("serves all roles on one port, ready and alive", async () => {
    const servers = await start({ backend });
    expect(servers.backend).toBe(backend);
    expect(new Set(Object.values(servers.urls)).size).toBe(1);
    expect((await fetch(`${servers.base}/healthz`)).status).toBe(200);
    const ready = await fetch(`${servers.base}/readyz`);
    expect([ready.status, await ready.json()]).toEqual([200, { ready: true }]);
    expect((await fetch(`${servers.base}/nothing`)).status).toBe(404);
  });

  test("R5.a, R5.b, R6.a, R6.e: operations by JSON over HTTP, errors with their codes", async () => {
    const { base } = await start({ backend });
    const identity = new NodeIdentity();
    const created = await createOverlay(base, identity, "Weather");
    expect(created.status).toBe(200);
    const overlayId = String(created.body.overlayId);
    expect(overlayId).toMatch(/^[0-9a-f]{32}$/);
    const file = indexFile(identity, overlayId, "Weather", 1);
    expect(await post(base, "r6/register", { indexFile: file })).toEqual({
      status: 200,
      body: { version: 1 },
    });
    const query = { version: 0, title: "Weather", dataSourceId: "", dataId: "" };
    expect((await post(base, "r6/query", query)).body.files).toEqual([file]);
    expect(await post(base, "r6/query", { ...query, title: "Other" })).toMatchObject({
      status: 404,
      body: { code: "UNKNOWN_INDEX" },
    });
    for (const [operation, body, status, code] of [
      ["r6/query", "{", 400, "MESSAGE_MALFORMED"],
      ["r6/query", { title: 7 }, 400, "MESSAGE_MALFORMED"],
      ["r9/query", {}, 404, "MESSAGE_UNKNOWN"],
      ["r6/register", { indexFile: "00" }, 400, "MESSAGE_MALFORMED"],
      ["r5/join", [], 400, "MESSAGE_MALFORMED"],
    ] as const) {
      expect(await post(base, operation, body)).toMatchObject({ status, body: { code } });
    }
  });

  test("the same operations by msgpack over HTTP and over WebSocket", async () => {
    const servers = await start({ backend });
    const message = encodeRequest(r5.CHALLENGE, 9, {});
    const response = await fetch(`${servers.base}/r5/challenge`, {
      method: "POST",
      headers: { "content-type": "application/msgpack" },
      body: new Uint8Array(message),
    });
    const bytes = new Uint8Array(await response.arrayBuffer());
    expect(readEnvelope(bytes, 0, bytes.length)).toMatchObject({
      kind: "answer",
      type: r5.CHALLENGE.type,
      requestId: 9,
    });
    const socket = new WebSocket(String(servers.urls.oms));
    await new Promise((resolve) => socket.once("open", resolve));
    const query = { version: 0, title: "none", dataSourceId: "", dataId: "" };
    socket.send(encodeRequest(r5.CHALLENGE, 1, {}));
    socket.send(encodeRequest(r6.QUERY_INDEX, 2, query));
    const kinds = new Map<number, string>();
    await new Promise<void>((resolve) => {
      socket.on("message", (data: Buffer) => {
        const envelope = readEnvelope(data, 0, data.length);
        kinds.set(envelope.requestId, envelope.kind);
        if (kinds.size === 2) resolve();
      });
    });
    expect([kinds.get(1), kinds.get(2)]).toEqual(["answer", "failure"]);
    const closed = new Promise((resolve) => socket.once("close", resolve));
    await servers.close();
    expect(await closed).toBe(1001);
    expect(servers.isReady()).toBe(false);
  });

  test("R1.a: the OMS registers its overlay at the PAMS of the same process over a real link", async () => {
    const servers = await start({ backend, reportIntervalMs: 200 });
    const created = await createOverlay(servers.base, new NodeIdentity(), "Managed");
    const overlays = async () => {
      const { pams } = (await servers.stats()) as { pams: { overlays: { overlayId: string }[] } };
      return pams.overlays.map(({ overlayId }) => overlayId);
    };
    while ((await overlays()).length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(await overlays()).toEqual([created.body.overlayId]);
  });

  test("garbage over WebSocket closes that link only", async () => {
    const servers = await start({ backend });
    const socket = new WebSocket(String(servers.urls.ixs));
    await new Promise((resolve) => socket.once("open", resolve));
    const closed = new Promise((resolve) => socket.once("close", resolve));
    for (let i = 0; i < 5; i++) socket.send(new Uint8Array([0xc1, 0xff, 0x00]));
    await closed;
    expect((await fetch(`${servers.base}/readyz`)).status).toBe(200);
  });

  test("a flood over one link is cut off, and others are served meanwhile", async () => {
    const servers = await start({ backend });
    const socket = new WebSocket(String(servers.urls.ixs), { perMessageDeflate: false });
    await new Promise((resolve) => socket.once("open", resolve));
    let answers = 0;
    socket.on("message", () => answers++);
    // Writing to a link that was cut off.
    socket.on("error", () => undefined);
    const closed = new Promise((resolve) => socket.once("close", resolve));
    for (let i = 0; i < 100_000; i++) socket.send(new Uint8Array([0x93, 0x70, 0x01, 0x90]));
    expect((await createOverlay(servers.base, new NodeIdentity(), "calm")).status).toBe(200);
    await closed;
    expect(answers).toBeLessThanOrEqual(250);
    const stats = (await servers.stats()) as Record<string, { counters: Record<string, number> }>;
    const cut = ["oms", "ixs", "pams"].map((role) => stats[role]?.counters.floodsClosed ?? 0);
    expect(cut.reduce((sum, count) => sum + count)).toBe(1);
  });

  test("one host's requests over HTTP are limited: 503 with Retry-After", async () => {
    const servers = await start({ backend });
    const url = `${servers.base}/r5/challenge`;
    const wave = (): Promise<Response[]> =>
      Promise.all(Array.from({ length: 300 }, () => fetch(url, { method: "POST", body: "{}" })));
    const responses: Response[] = [];
    // On a busy machine one wave takes so long that the bucket fills up again meanwhile.
    for (let i = 0; i < 10 && !responses.some(({ status }) => status === 503); i++) {
      responses.push(...(await wave()));
    }
    const refused = responses.filter(({ status }) => status === 503);
    expect(responses.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(200);
    expect(refused.length).toBeGreaterThan(0);
    expect(Number(refused[0]?.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(await refused[0]?.json()).toMatchObject({ code: "OVERLOADED" });
    const metrics = await (await fetch(`${servers.adminUrl}/metrics`)).text();
    expect(metrics).toContain(`mp2p_http_overloaded ${refused.length}`);
  });
});

describe("startServers", () => {
  test("metrics and statistics are on the admin port only", async () => {
    const servers = await start();
    for (const page of ["metrics", "stats.json"]) {
      expect((await fetch(`${servers.base}/${page}`)).status).toBe(404);
    }
    const metrics = await (await fetch(`${servers.adminUrl}/metrics`)).text();
    expect(metrics).toMatch(/^mp2p_ready 1$/m);
    expect(metrics).toContain("mp2p_nodejs_eventloop_lag_seconds");
    expect(metrics).toMatch(/mp2p_server_count\{role="oms",counter="requests"\} \d/);
    const stats = await (await fetch(`${servers.adminUrl}/stats.json`)).json();
    expect(stats).toMatchObject({ ready: true, oms: { ready: true }, ixs: { indexFiles: 0 } });
  });

  test("any subset of roles runs; operations of others are MESSAGE_UNKNOWN", async () => {
    const { base, urls } = await start({ roles: ["ixs"] });
    expect(Object.keys(urls)).toEqual(["ixs"]);
    expect(await post(base, "r5/challenge", {})).toMatchObject({
      status: 404,
      body: { code: "MESSAGE_UNKNOWN" },
    });
    await expect(startServers({ roles: [] })).rejects.toMatchObject({ code: "USAGE" });
  });

  test("a port in use is ADDRESS_IN_USE, and the data directory is free again", async () => {
    const first = await start();
    const port = Number(new URL(first.base).port);
    const dataDir = newDirectory();
    await expect(startServers({ port, dataDir })).rejects.toMatchObject({ code: "ADDRESS_IN_USE" });
    await start({ dataDir });
  });

  test("a start that fails at a port makes no data directory", async () => {
    const first = await start();
    const port = Number(new URL(first.base).port);
    const dataDir = join(newDirectory(), "new", "deeper");
    for (const ports of [{ port }, { port: 0, adminPort: port }]) {
      const starting = startServers({ ...ports, dataDir });
      await expect(starting).rejects.toMatchObject({ code: "ADDRESS_IN_USE" });
    }
    expect(existsSync(dirname(dataDir))).toBe(false);
    const freed = await start({ dataDir });
    await freed.close();
    await start({ dataDir, port: Number(new URL(freed.base).port) });
  });

  test("close leaves nothing open: port and directory can be used at once, twice is once", async () => {
    const dataDir = newDirectory();
    const first = await start({ dataDir });
    const port = Number(new URL(first.base).port);
    await Promise.all([first.close(), first.close()]);
    const second = await start({ dataDir, port });
    expect((await fetch(`${second.base}/readyz`)).status).toBe(200);
  });

  test("a second server on one data directory is refused with DATA_DIR_IN_USE", async () => {
    const dataDir = newDirectory();
    const { said } = await serveInChild(dataDir);
    await expect(startServers({ port: 0, dataDir })).rejects.toMatchObject({
      code: "DATA_DIR_IN_USE",
    });
    const second = await serveInChild(dataDir);
    expect(second.said).toEqual({ failed: "DATA_DIR_IN_USE" });
    expect(await second.exited).toBe(1);
    expect((await fetch(`${httpBase(said.oms ?? "")}/readyz`)).status).toBe(200);
  });

  test("kill -9: acknowledged overlays and index files are there after the restart", async () => {
    const dataDir = newDirectory();
    const identity = new NodeIdentity();
    const acknowledged: { title: string; overlayId: string; ownerToken: unknown; file: string }[] =
      [];
    let port = 0;
    for (let round = 0; round < 3; round++) {
      const server = await serveInChild(dataDir, port);
      expect(server.said.failed).toBeUndefined();
      const base = httpBase(server.said.oms ?? "");
      port = Number(new URL(base).port);
      for (const { title, overlayId, ownerToken, file } of acknowledged) {
        const query = { version: 0, title, dataSourceId: "", dataId: "" };
        expect((await post(base, "r6/query", query)).body.files).toEqual([file]);
        expect((await post(base, "r5/refresh", { overlayId, ownerToken })).status).toBe(200);
      }
      // Many at once, killed in the midst of them.
      const writes = Array.from({ length: 6 }, async (_, i) => {
        const title = `Session ${round}-${i}`;
        const { body } = await createOverlay(base, identity, title);
        const overlayId = String(body.overlayId);
        const file = indexFile(identity, overlayId, title, 1);
        const { status } = await post(base, "r6/register", { indexFile: file });
        if (status !== 200) throw new Error(`status ${status}`);
        acknowledged.push({ title, overlayId, ownerToken: body.ownerToken, file });
        if (acknowledged.length >= 3 * (round + 1)) server.child.kill("SIGKILL");
      });
      await Promise.allSettled(writes);
      await server.exited;
    }
    expect(acknowledged.length).toBeGreaterThanOrEqual(9);
    const after = await start({ dataDir });
    for (const { title, file } of acknowledged) {
      const query = { version: 0, title, dataSourceId: "", dataId: "" };
      expect((await post(after.base, "r6/query", query)).body.files).toEqual([file]);
    }
  });
});
