/** startCacheServer with real servers and engines, in one process over loopback. */

import { createServer } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createEngine, type Engine } from "../../src/index.ts";
import {
  type CacheServerEvents,
  type CacheServerOptions,
  type RunningCacheServer,
  type RunningServers,
  startCacheServer,
  startServers,
} from "../../src/server.ts";

const KEY = new Uint8Array(32).fill(7);
let servers: RunningServers;
const open: { close(): Promise<void> }[] = [];

beforeEach(async () => {
  servers = await startServers({ port: 0, serviceKey: KEY });
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close()));
  await servers.close();
});

async function cacheServer(more: Partial<CacheServerOptions> = {}): Promise<RunningCacheServer> {
  const server = servers.urls.oms as string;
  const options = { server, serviceKey: KEY, memoryMiB: 40, overlaysPerPeer: 2, ...more };
  const cache = await startCacheServer(options);
  open.push(cache);
  return cache;
}

async function engine(): Promise<Engine> {
  const made = await createEngine({ memoryMiB: 16 });
  open.push(made);
  return made;
}

function told<K extends keyof CacheServerEvents>(
  cache: RunningCacheServer,
  event: K,
): Promise<CacheServerEvents[K]> {
  return new Promise((resolve) => {
    const stop = cache.on(event, (value) => {
      stop();
      resolve(value);
    });
  });
}

describe("startCacheServer", () => {
  it("is registered, sends a virtual peer where it is ordered, and tells what it is in", async () => {
    const cache = await cacheServer({ virtualPeers: 1, label: "rack" });
    await told(cache, "registered");
    const [ordered, joined] = [told(cache, "ordered"), told(cache, "joined")];
    const source = await (await engine()).createSource({
      server: servers.urls.oms as string,
      title: "weather",
      dataSources: [{ sourceId: "s" }],
      virtualPeers: { count: 1, priority: 2 },
    });
    const [{ peerId = "" } = {}] = cache.virtualPeers;
    const place = { peerId, overlayId: source.overlayId, title: "weather" };
    expect(await ordered).toEqual({ ...place, priority: 2, pamsUrl: servers.urls.pams });
    expect(await joined).toEqual(place);
    const peer = await (await engine()).join({
      server: servers.urls.oms as string,
      title: "weather",
    });
    const got: number[] = [];
    const reading = (async () => {
      for await (const { payload } of peer.data()) got.push(payload.length);
    })();
    for (let i = 1; i <= 50; i++) await source.dataSource("s").push(new Uint8Array(i * 100));
    const left = told(cache, "left");
    const status = cache.status();
    expect(status).toMatchObject({ label: "rack", registered: true, places: 2 });
    expect(status.virtualPeers).toMatchObject([{ peerId, overlays: [{ role: "peer" }] }]);
    await source.end();
    await reading;
    expect(got).toHaveLength(50);
    expect(await left).toMatchObject({ ...place, code: "" });
    expect(cache.status().virtualPeers[0]?.overlays).toEqual([]);
    // Of its neighbours the source peer knows which one only lends.
    expect(source.status().members).toEqual({ complete: 1, left: 0, behind: 0 });
  });

  it("closed while a session breaks off it tells no failure", async () => {
    const cache = await cacheServer({ virtualPeers: 1 });
    await told(cache, "registered");
    const joined = told(cache, "joined");
    const source = await (await engine()).createSource({
      server: servers.urls.oms as string,
      title: "weather",
      dataSources: [{ sourceId: "s" }],
      virtualPeers: { count: 1, priority: 0 },
    });
    await joined;
    const left = told(cache, "left");
    await source.close();
    await cache.close();
    expect(await left).toMatchObject({ code: "" });
  });

  it("listens on ports that follow each other, with ids made from its identity", async () => {
    const probe = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => probe.once("listening", resolve));
    const { port } = probe.address() as { port: number };
    const identitySeed = new Uint8Array(32).fill(3);
    const listen = { port };
    await expect(cacheServer({ identitySeed, listen, virtualPeers: 2 })).rejects.toMatchObject({
      code: "ADDRESS_IN_USE",
    });
    await new Promise((resolve) => probe.close(resolve));
    const first = await cacheServer({ identitySeed, listen, virtualPeers: 2 });
    const ports = first.virtualPeers.map(({ listening }) => listening[0]?.port);
    expect(ports).toEqual([port, port + 1]);
    const ids = [first.cacheServerId, ...first.virtualPeers.map(({ peerId }) => peerId)];
    expect(new Set(ids).size).toBe(3);
    await first.close();
    const again = await cacheServer({ identitySeed, virtualPeers: 2 });
    expect([again.cacheServerId, ...again.virtualPeers.map(({ peerId }) => peerId)]).toEqual(ids);
  });

  it("refuses options out of range, and names them", async () => {
    const refused = async (more: Partial<CacheServerOptions>, says: RegExp) => {
      await expect(cacheServer(more)).rejects.toMatchObject({ code: "USAGE" });
      await expect(cacheServer(more)).rejects.toThrow(says);
    };
    await refused({ virtualPeers: 0 }, /virtualPeers/);
    await refused({ virtualPeers: 65 }, /virtualPeers/);
    await refused({ overlaysPerPeer: 1.5 }, /overlaysPerPeer/);
    await refused({ virtualPeers: 64, overlaysPerPeer: 64 }, /at most 1024/);
    await refused({ overlaysPerPeer: 4, memoryMiB: 59 }, /memory-mib/);
    await refused({ uploadLimitBytesPerSecond: 4_000 }, /each of 4 virtual peers 1000 bytes/);
    await refused({ serviceKey: new Uint8Array(8) }, /service key/);
    await refused({ listen: { port: 65_534 }, virtualPeers: 4 }, /port 65537/);
    const far = { server: "ws://192.0.2.1:7900" };
    await expect(cacheServer(far)).rejects.toMatchObject({ code: "PLAINTEXT_REFUSED" });
  });

  it("can be stopped at any moment", async () => {
    const early = AbortSignal.abort();
    await expect(cacheServer({ signal: early })).rejects.toMatchObject({ code: "ABORTED" });
    const late = new AbortController();
    const starting = cacheServer({ signal: late.signal });
    late.abort();
    await expect(starting).rejects.toMatchObject({ code: "ABORTED" });
    const cache = await cacheServer({ virtualPeers: 1 });
    // Before it has a link.
    await Promise.all([cache.close(), cache.close()]);
  });
});
