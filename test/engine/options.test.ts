/** What users hand in and should not: refused at once, by name, with what it may be. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DataFeed, Engine, EngineSource } from "../../src/index.ts";
import { createEngine, createFeed, Mp2pError } from "../../src/index.ts";
import { type RunningServers, startCacheServer, startServers } from "../../src/server.ts";

let servers: RunningServers;
let engine: Engine;
let source: EngineSource;
let feed: DataFeed;
let server = "";

beforeAll(async () => {
  servers = await startServers({ port: 0 });
  server = servers.urls.oms ?? "";
  engine = await createEngine({ memoryMiB: 32 });
  source = await engine.createSource({ server, title: "t", dataSources: [{ sourceId: "s" }] });
  const { listening } = await source.acceptDataSources({ listen: [{ transport: "tcp" }] });
  feed = await createFeed({ to: `127.0.0.1:${listening[0]?.port}`, sourceId: "fed" });
});
afterAll(async () => {
  await feed.close();
  await engine.close();
  await servers.close();
});

/** The sentence of the USAGE error; what is of another type than the compiler lets through. */
async function usageOf(run: () => unknown): Promise<string> {
  try {
    await run();
  } catch (error) {
    if (error instanceof Mp2pError && error.code === "USAGE") return error.detail ?? "";
    throw error;
  }
  return "nothing thrown";
}
const given = (value: unknown): never => value as never;

describe("options of an engine", () => {
  it.each([
    [{ memoryMib: 32 }, /^createEngine has no option "memoryMib"; it has memoryMiB, workers, /],
    [{ uploadLimit: "2M" }, /no option "uploadLimit"; it has .*uploadLimitBytesPerSecond/],
    [{ memoryMiB: "32" }, /^memoryMiB is a whole number from 8 to 4095, not "32"$/],
    [{ workers: 1.5 }, /^workers is a whole number from 0 to 64, not 1.5$/],
    [{ uploadLimitBytesPerSecond: "2M" }, /^uploadLimitBytesPerSecond is a number from 1024 to/],
    [{ downloadLimitBytesPerSecond: Number.NaN }, /from 1024 to 12500000000, not NaN$/],
    [{ listen: "::1" }, /^listen is an object of host, port, not "::1"$/],
    [{ listen: { prot: 1 } }, /^listen has no option "prot"; it has host, port$/],
    [{ listen: { port: 70_000 } }, /^listen.port is a whole number from 0 to 65535, not 70000$/],
    [{ advertise: [{ host: "a" }] }, /^advertise\[0\].port is a whole number .* not undefined$/],
    [{ identitySeed: "seed" }, /^identitySeed is a Uint8Array, not "seed"$/],
    [{ allowPlaintext: "no" }, /^allowPlaintext is true or false, not "no"$/],
    [{ networkDistance: 7 }, /^networkDistance is a function, not 7$/],
    [{ signal: new AbortController() }, /^signal is an AbortSignal, not AbortController$/],
    [{ logger: console.log }, /^logger is a logger, as of pino, not a function$/],
    ["fast", /^what createEngine takes is an object of options, not "fast"$/],
  ])("%j is refused", async (options, sentence) => {
    expect(await usageOf(() => createEngine(given(options)))).toMatch(sentence);
  });

  it("that are left undefined are as not given", async () => {
    const made = await createEngine(given({ memoryMiB: undefined, signal: undefined }));
    await made.close();
  });
});

describe("options of a session", () => {
  it.each([
    [{ from: "middle" }, /^from is one of "oldest", "live", "start", not "middle"$/],
    [{ fromm: "oldest" }, /^join has no option "fromm"; it has server, oms, ixs, title, /],
    [{ waitMs: "1 s" }, /^waitMs is a number from 0, not "1 s"$/],
    [
      { node: { windowBytes: 1 } },
      /^node.windowBytes is a whole number from 65536 to 2147483647, not 1$/,
    ],
    [
      { node: { windowFragments: 63 } },
      /^node.windowFragments is a whole number from 64 to 65536,/,
    ],
    [
      { node: { stallMs: Number.POSITIVE_INFINITY } },
      /^node.stallMs is a finite number from 0, not/,
    ],
    [{ node: { holdms: 1 } }, /^node has no option "holdms"; it has .*holdMs/],
    [{ dial: [5] }, /^dial\[0\] is a string, not 5$/],
  ])("join: %j is refused", async (options, sentence) => {
    const join = () => engine.join(given({ server, title: "other", ...options }));
    expect(await usageOf(join)).toMatch(sentence);
  });

  it.each([
    [{ title: undefined }, /^title is a string, not undefined$/],
    [{ dataSources: [{}] }, /^dataSources\[0\].sourceId is a string, not undefined$/],
    [{ dataSources: "s" }, /^dataSources is an array, not "s"$/],
    [{ delivery: "fast" }, /^delivery is one of "complete", "live", not "fast"$/],
    [{ virtualPeers: 3 }, /^virtualPeers is an object of count, priority, not 3$/],
    [
      { node: { windowBytes: 1 } },
      /^node.windowBytes is a whole number from 65536 to 2147483647, not 1$/,
    ],
    [
      { maxLagMs: Number.POSITIVE_INFINITY },
      /^maxLagMs is a whole number from 0 to 4294967295, not/,
    ],
    [{ gatherMs: Number.POSITIVE_INFINITY }, /^gatherMs is a finite number from 0, not Infinity$/],
    [{ waitPeers: -1 }, /^waitPeers is a whole number from 0, not -1$/],
  ])("createSource: %j is refused", async (options, sentence) => {
    const rest = { server, title: "other", dataSources: [], ...options };
    expect(await usageOf(() => engine.createSource(given(rest)))).toMatch(sentence);
  });

  it("are wrong before any server is asked", async () => {
    const nowhere = { server: "ws://127.0.0.1:1", title: "other", node: { windowBytes: 1 } };
    const waits = { ...nowhere, waitMs: 60_000 };
    expect(await usageOf(() => engine.join(waits))).toMatch(/^node.windowBytes is /);
    const made = () => engine.createSource({ ...waits, dataSources: [{ sourceId: "s" }] });
    expect(await usageOf(made)).toMatch(/^node.windowBytes is /);
  });

  it("are checked where a session ends and where it accepts data sources", async () => {
    const end = () => source.end(given({ latejoinMs: 5 }));
    expect(await usageOf(end)).toBe(
      'end has no option "latejoinMs"; it has lateJoinMs, waitForPeers',
    );
    const late = () => source.end({ lateJoinMs: Number.POSITIVE_INFINITY });
    expect(await usageOf(late)).toBe("lateJoinMs is a finite number from 0, not Infinity");
    const accept = () => source.acceptDataSources(given({ listen: [{ transport: "udp" }] }));
    expect(await usageOf(accept)).toBe('listen[0].transport is one of "tcp", "ws", not "udp"');
    const fed = () => createFeed(given({ to: "127.0.0.1:1", source: "a" }));
    expect(await usageOf(fed)).toMatch(/^createFeed has no option "source"; it has to, .*sourceId/);
  });
});

describe("what is written", () => {
  it("is bytes, of whatever kind, and nothing else", async () => {
    for (const at of [source.dataSource("s"), feed]) {
      const cure = "; text: new TextEncoder().encode(it)";
      const push = (value: unknown) => usageOf(() => at.push(given(value)));
      expect(await push("hello")).toBe(`payload is a Uint8Array, not "hello"${cure}`);
      expect(await push("x".repeat(5_000))).toMatch(/^payload is a Uint8Array, not "x{40}\.\.\."/);
      expect(await push(undefined)).toContain("payload is a Uint8Array, not undefined");
      expect(await push(null)).toContain("not null");
      expect(await push(new ArrayBuffer(4))).toContain("not ArrayBuffer");
      expect(await push(new Float64Array(4))).toContain("not Float64Array");
      await at.push(Buffer.from("fine"));
      const batch = (value: unknown) => usageOf(() => at.writeBatch(given(value)));
      expect(await batch(undefined)).toContain("payloads is a Uint8Array, not undefined");
      const payloads = Uint8Array.of(1);
      expect(await batch({ payloads, lengths: [1] })).toBe("lengths is a Uint32Array, not Array");
      expect(at.writeBatch({ payloads, lengths: Uint32Array.of(1) }).accepted).toBe(1);
    }
    const typed = () => source.dataSource("s").push(Uint8Array.of(1), given({ contentType: 5 }));
    expect(await usageOf(typed)).toBe("contentType is a string, not 5");
    expect(await usageOf(() => source.registerDataSource(given(undefined)))).toContain("sourceId");
  });
});

describe("options of servers", () => {
  it.each([
    [
      { reportInterval: 5 },
      /^startServers has no option "reportInterval"; it has .*reportIntervalMs/,
    ],
    [{ roles: ["unis"] }, /^roles\[0\] is one of "oms", "ixs", "pams", not "unis"$/],
    [{ roles: "oms" }, /^roles is an array, not "oms"$/],
    [{ port: "7900" }, /^port is a whole number from 0 to 65535, not "7900"$/],
    [{ refreshMs: 0 }, /^refreshMs is a whole number from 1 to 4294967295, not 0$/],
    [{ priorityMax: 8 }, /^priorityMax is a whole number from 0 to 7, not 8$/],
    [{ backend: "http" }, /^backend is one of "uws", "ws", not "http"$/],
    [{ serviceKey: "secret" }, /^serviceKey is a Uint8Array, not "secret"$/],
  ])("startServers: %j is refused", async (options, sentence) => {
    expect(await usageOf(() => startServers(given({ port: 0, ...options })))).toMatch(sentence);
  });

  it.each([
    [{ virtualPeer: 2 }, /^startCacheServer has no option "virtualPeer"; it has .*virtualPeers/],
    [{ serviceKey: undefined }, /^serviceKey is a Uint8Array, not undefined$/],
    [{ virtualPeers: 0 }, /^virtualPeers is a whole number from 1 to 64, not 0$/],
    [{ overlaysPerPeer: 1.5 }, /^overlaysPerPeer is a whole number from 1 to 64, not 1.5$/],
    [{ label: 7 }, /^label is a string, not 7$/],
    [{ node: { holdms: 1 } }, /^node has no option "holdms"; it has .*holdMs/],
  ])("startCacheServer: %j is refused", async (options, sentence) => {
    const rest = { server, serviceKey: new Uint8Array(32), ...options };
    expect(await usageOf(() => startCacheServer(given(rest)))).toMatch(sentence);
  });
});
