import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, it, onTestFinished } from "vitest";
import { toHex } from "../../src/base/units.ts";
import { NodeIdentity } from "../../src/host/node-identity.ts";
import { type ServersOptions, startServers } from "../../src/host/node-servers.ts";
import {
  newServiceKey,
  readServiceKey,
  SERVICE_KEY_FILE,
  serviceKeyOf,
} from "../../src/host/node-service-key.ts";
import * as r1 from "../../src/protocol/r1.ts";
import * as r5 from "../../src/protocol/r5.ts";
import { encodeRequest, readEnvelope } from "../../src/protocol/signalling.ts";

const DIGITS = "5e".repeat(32);
const OVERLAY = "0f".repeat(16);

function newDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "mp2p-key-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function keyFile(content: string, mode = 0o600): string {
  const path = join(newDirectory(), "any.key");
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

const modeOf = (path: string): number => statSync(path).mode & 0o777;
const httpBase = (url: unknown): string => String(url).replace(/^ws:/, "http:");

async function start(options: ServersOptions) {
  const servers = await startServers({ port: 0, ...options });
  onTestFinished(() => servers.close());
  return servers;
}

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

async function post(base: string, operation: string, fields: unknown): Promise<Answer> {
  const body = JSON.stringify(fields);
  const response = await fetch(`${base}/${operation}`, { method: "POST", body });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

async function createOverlay(base: string): Promise<Record<string, unknown>> {
  const identity = new NodeIdentity();
  const { nonce } = (await post(base, "r5/challenge", {})).body;
  const proof = r5.createProof(Buffer.from(String(nonce), "hex"));
  const { status, body } = await post(base, "r5/create", {
    nonce,
    publicKey: toHex(identity.publicKey),
    signature: toHex(identity.sign(proof)),
    candidates: [],
    title: "apart",
    pams: true,
  });
  expect(status).toBe(200);
  return body;
}

describe("the key of a data directory", () => {
  it("is made once, whole, for its owner only, and read from then on", () => {
    const directory = newDirectory();
    const path = join(directory, SERVICE_KEY_FILE);
    const key = serviceKeyOf(directory);
    expect(key).toHaveLength(32);
    expect(readFileSync(path, "utf8")).toBe(`${toHex(key)}\n`);
    expect(modeOf(path)).toBe(0o600);
    expect(serviceKeyOf(directory)).toEqual(key);
    expect(readServiceKey(path)).toEqual(key);
    expect(readdirSync(directory)).toEqual([SERVICE_KEY_FILE]);
    expect(serviceKeyOf(newDirectory())).not.toEqual(key);
  });

  it("is not made where a file stands that holds none: that file stays as it is", () => {
    const directory = newDirectory();
    const path = join(directory, SERVICE_KEY_FILE);
    writeFileSync(path, "", { mode: 0o600 });
    expect(() => serviceKeyOf(directory)).toThrow("KEY_FILE_UNUSABLE");
    expect(readFileSync(path, "utf8")).toBe("");
  });

  it("that can not be written is DATA_DIR_UNUSABLE", () => {
    const nowhere = join(newDirectory(), "none");
    expect(() => serviceKeyOf(nowhere)).toThrow(/DATA_DIR_UNUSABLE.*none.*ENOENT/);
  });
});

describe("a key file", () => {
  it.each([`${DIGITS}\n`, DIGITS, `${DIGITS}\r\n`, DIGITS.toUpperCase()])("is read: %j", (text) => {
    expect(toHex(readServiceKey(keyFile(text)))).toBe(DIGITS);
    expect(toHex(readServiceKey(keyFile(text, 0o400)))).toBe(DIGITS);
  });

  it("may be a link to one", () => {
    const link = join(newDirectory(), "link.key");
    symlinkSync(keyFile(DIGITS), link);
    expect(toHex(readServiceKey(link))).toBe(DIGITS);
  });

  it.each(["640", "620", "610", "604", "602", "601", "644", "660", "777"])(
    "that others can use is refused, with path, mode and cure: %s",
    (mode) => {
      const path = keyFile(DIGITS, Number.parseInt(mode, 8));
      let message = "";
      try {
        readServiceKey(path);
      } catch (error) {
        message = String(error);
      }
      for (const words of ["KEY_FILE_UNUSABLE", path, `mode ${mode}`, "chmod 600"]) {
        expect(message).toContain(words);
      }
      expect(message).not.toContain(DIGITS);
    },
  );

  it.each([
    ["nothing", ""],
    ["a digit less", DIGITS.slice(1)],
    ["a digit more", `${DIGITS}0`],
    ["no hex", `g${DIGITS.slice(1)}`],
    ["a second line", `${DIGITS}\n${DIGITS}\n`],
    ["a space before", ` ${DIGITS}`],
    ["much", DIGITS.repeat(1_000)],
  ])("with %s is refused, and nothing of it is shown", (_, content) => {
    const path = keyFile(content);
    expect(() => readServiceKey(path)).toThrow(/KEY_FILE_UNUSABLE.*any\.key.*64 hex digits/);
    expect(() => readServiceKey(path)).not.toThrow("5e5e");
  });

  it("that is a copy of a server's is to be copied again, not made anew", () => {
    const readable = keyFile(DIGITS, 0o644);
    expect(() => readServiceKey(readable, true)).toThrow(/chmod 600 it; .*copied again/);
    const empty = keyFile("");
    expect(() => readServiceKey(empty, true)).toThrow("copy the server's service.key again");
    for (const path of [readable, empty]) {
      expect(() => readServiceKey(path, true)).not.toThrow("start again");
      expect(() => readServiceKey(path)).toThrow("start again");
    }
  });

  it("that is missing or no file is refused", () => {
    const directory = newDirectory();
    const missing = join(directory, "none.key");
    expect(() => readServiceKey(missing)).toThrow(/FILE_NOT_FOUND.*none\.key/);
    const inner = join(directory, "inner");
    mkdirSync(inner);
    expect(() => readServiceKey(inner)).toThrow(/KEY_FILE_UNUSABLE.*no file/);
  });
});

describe("startServers", () => {
  it("keeps the key of its data directory over restarts; OMS and PAMS share it", async () => {
    const dataDir = newDirectory();
    for (let round = 0; round < 2; round++) {
      const servers = await startServers({ port: 0, dataDir, reportIntervalMs: 10_000 });
      const base = httpBase(servers.urls.pams);
      const serviceKey = readFileSync(join(dataDir, SERVICE_KEY_FILE), "utf8").trim();
      const request = { overlayId: OVERLAY, omsUrl: "ws://192.0.2.1:7900" };
      expect(await post(base, "r1/register-overlay", request)).toMatchObject({
        status: 403,
        body: { code: "KEY_REQUIRED" },
      });
      expect(await post(base, "r1/register-overlay", { ...request, serviceKey })).toMatchObject({
        status: 200,
      });
      await createOverlay(base);
      const registered = async () => {
        const { pams } = (await servers.stats()) as { pams: { overlays: unknown[] } };
        return pams.overlays.length;
      };
      while ((await registered()) < 2 + round) await new Promise((next) => setImmediate(next));
      await servers.close();
    }
  });

  it("in memory nobody else has the key, by JSON, msgpack or an empty one", async () => {
    const servers = await start({});
    const base = httpBase(servers.urls.pams);
    const wrong = { overlayId: OVERLAY, omsUrl: "", serviceKey: DIGITS };
    for (const serviceKey of [undefined, null, "", DIGITS]) {
      for (const operation of ["r1/register-overlay", "r1/remove-overlay"]) {
        const answer = await post(base, operation, { ...wrong, serviceKey });
        expect(answer).toMatchObject({ status: 403, body: { code: "KEY_REQUIRED" } });
      }
    }
    const response = await fetch(base, {
      method: "POST",
      headers: { "content-type": "application/msgpack" },
      body: new Uint8Array(encodeRequest(r1.REMOVE_OVERLAY, 9, { overlayId: OVERLAY })),
    });
    const bytes = new Uint8Array(await response.arrayBuffer());
    expect(readEnvelope(bytes, 0, bytes.length)).toMatchObject({ kind: "failure", requestId: 9 });
    expect(await servers.stats()).toMatchObject({
      pams: { overlays: [], counters: { keyRefused: 9 } },
    });
  });

  it("takes the key given, and makes none then; an index server alone has one too", async () => {
    const serviceKey = newServiceKey();
    const given = newDirectory();
    const servers = await start({ serviceKey, dataDir: given });
    const fields = { overlayId: OVERLAY, omsUrl: "", serviceKey: toHex(serviceKey) };
    expect((await post(httpBase(servers.urls.pams), "r1/register-overlay", fields)).status).toBe(
      200,
    );
    const index = newDirectory();
    await start({ roles: ["ixs"], dataDir: index });
    expect(existsSync(join(given, SERVICE_KEY_FILE))).toBe(false);
    expect(existsSync(join(index, SERVICE_KEY_FILE))).toBe(true);
  });

  it("refuses a short or long key, a PAMS here and elsewhere, and frees the directory", async () => {
    for (const bytes of [0, 15, 65]) {
      const serviceKey = new Uint8Array(bytes);
      const failed = expect(startServers({ port: 0, serviceKey })).rejects;
      await failed.toMatchObject({ code: "USAGE", detail: expect.stringContaining(`${bytes}`) });
    }
    const both = { port: 0, pamsUrl: "ws://127.0.0.1:7900" };
    await expect(startServers(both)).rejects.toMatchObject({ code: "USAGE" });
    const dataDir = newDirectory();
    const path = join(dataDir, SERVICE_KEY_FILE);
    writeFileSync(path, DIGITS);
    chmodSync(path, 0o644);
    await expect(startServers({ port: 0, dataDir })).rejects.toMatchObject({
      code: "KEY_FILE_UNUSABLE",
    });
    chmodSync(path, 0o600);
    await start({ dataDir });
  });
});

describe("OMS and PAMS in processes of their own", () => {
  const program = new URL("../../dist/cli/main.js", import.meta.url).pathname;

  /** What `mp2p serve` said when it was ready, and its log, line by line. */
  async function serve(...flags: string[]) {
    const words = ["serve", "--port", "0", "--json", "--log-level", "warn", ...flags];
    const child: ChildProcess = spawn(process.execPath, [program, ...words], {
      stdio: ["ignore", "pipe", "pipe"],
      cwd: newDirectory(),
    });
    onTestFinished(async () => {
      const exited = once(child, "exit");
      if (child.kill("SIGKILL")) await exited;
    });
    if (child.stdout === null || child.stderr === null) throw new Error("no output");
    const log = createInterface(child.stderr)[Symbol.asyncIterator]();
    const { value } = await createInterface(child.stdout)[Symbol.asyncIterator]().next();
    if (value === undefined) throw new Error(`not ready: ${(await log.next()).value}`);
    const { urls, adminUrl } = JSON.parse(value) as {
      urls: Record<string, string>;
      adminUrl: string;
    };
    const stats = async () =>
      (await (await fetch(`${adminUrl}/stats.json`)).json()) as Record<string, Snapshot>;
    return { urls, stats, log };
  }

  interface Snapshot {
    readonly overlays: readonly { readonly overlayId: string }[];
    readonly counters: { readonly keyRefused: number };
    readonly pamsFailures: number;
  }

  it("R1.a: with one key file the overlay is registered; with another key it is not, and the OMS says so and goes on", async () => {
    const dataDir = newDirectory();
    const interval = ["--report-interval-ms", "200"];
    const pams = await serve("--roles", "pams", "--data-dir", dataDir, ...interval);
    const shared = join(dataDir, SERVICE_KEY_FILE);
    expect(modeOf(shared)).toBe(0o600);
    const apart = ["--roles", "oms", "--memory", "--pams", pams.urls.pams ?? "", ...interval];

    const oms = await serve(...apart, "--service-key-file", shared);
    const known = await createOverlay(httpBase(oms.urls.oms));
    const registered = async () =>
      (await pams.stats()).pams?.overlays.map(({ overlayId }) => overlayId) ?? [];
    while ((await registered()).length === 0) await new Promise((next) => setImmediate(next));
    expect(await registered()).toEqual([known.overlayId]);

    const other = await serve(...apart, "--service-key-file", keyFile(DIGITS));
    const base = httpBase(other.urls.oms);
    const { overlayId, ownerToken } = await createOverlay(base);
    const nextLine = async () =>
      JSON.parse((await other.log.next()).value ?? "{}") as Record<string, unknown>;
    // First it says what it does without.
    expect(await nextLine()).toMatchObject({ event: "absent" });
    const line = await nextLine();
    expect(line).toMatchObject({
      role: "oms",
      type: "pamsRefused",
      overlayId,
      code: "KEY_REQUIRED",
    });
    expect(JSON.stringify(line)).not.toContain(DIGITS);
    // It asks again every interval, and serves meanwhile.
    while (((await other.stats()).oms?.pamsFailures ?? 0) < 3) {
      await new Promise((next) => setImmediate(next));
    }
    expect((await post(base, "r5/refresh", { overlayId, ownerToken })).status).toBe(200);
    expect((await fetch(`${base}/readyz`)).status).toBe(200);
    expect(await registered()).toEqual([known.overlayId]);
    expect((await pams.stats()).pams?.counters.keyRefused).toBeGreaterThanOrEqual(3);
  });
});
