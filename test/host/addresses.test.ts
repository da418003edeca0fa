/** Addresses over real sockets: what is refused in plain text, dial-back, IPv6, both families. */

import { once } from "node:events";
import net from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { seededRng } from "../../src/base/rng.ts";
import { candidatesOf } from "../../src/host/node-candidates.ts";
import { createEngine } from "../../src/host/node-engine.ts";
import { sha256, systemEntropy, verifySignature } from "../../src/host/node-identity.ts";
import { type ServersOptions, startServers } from "../../src/host/node-servers.ts";
import { CANDIDATE_KINDS } from "../../src/protocol/common.ts";
import { DialBack } from "../../src/servers/dial-back.ts";
import { TcpProbeTransport } from "../../src/transport/tcp-probe.ts";
import type { WsBackend } from "../../src/transport/ws-server/ws-server.ts";
import { type Key, keyOf } from "../docs/wire.ts";

async function start(options: ServersOptions = {}) {
  const servers = await startServers({ port: 0, ...options });
  onTestFinished(() => servers.close());
  return servers;
}

async function engineOn(host: string, allowPlaintext = false) {
  const engine = await createEngine({ memoryMiB: 16, listen: { host, port: 0 }, allowPlaintext });
  onTestFinished(() => engine.close());
  return engine;
}

const payloads = (count: number): Uint8Array[] =>
  Array.from({ length: count }, (_, i) => Buffer.from(`${i} degrees`));

/** A session from one engine to the other, over the server at `url`. */
async function session(
  url: string,
  from: Awaited<ReturnType<typeof engineOn>>,
  to: Awaited<ReturnType<typeof engineOn>>,
): Promise<string[]> {
  const source = await from.createSource({
    server: url,
    title: "t",
    dataSources: [{ sourceId: "s" }],
  });
  const peer = await to.join({ server: url, title: "t" });
  const written = (async () => {
    for (const payload of payloads(50)) await source.dataSource("s").push(payload);
    await source.end();
  })();
  const got: string[] = [];
  for await (const datum of peer.data()) got.push(Buffer.from(datum.payload).toString());
  await written;
  return got;
}

describe("plain text off loopback", () => {
  test("is refused to servers, their other servers, engines and their servers", async () => {
    const refused = { code: "PLAINTEXT_REFUSED" };
    for (const host of ["0.0.0.0", "::", "192.0.2.1", "server.example"]) {
      await expect(startServers({ port: 0, host })).rejects.toMatchObject(refused);
      await expect(createEngine({ listen: { host } })).rejects.toMatchObject(refused);
    }
    const pamsUrl = "ws://192.0.2.1:7900";
    const oms = { port: 0, roles: ["oms"] as const };
    await expect(startServers({ ...oms, pamsUrl })).rejects.toMatchObject(refused);
    await expect(startServers({ ...oms, ixsUrl: pamsUrl })).rejects.toMatchObject(refused);
    const engine = await engineOn("127.0.0.1");
    await expect(engine.join({ server: pamsUrl, title: "t" })).rejects.toMatchObject(refused);
    const source = { server: pamsUrl, title: "t", dataSources: [{ sourceId: "s" }] };
    await expect(engine.createSource(source)).rejects.toMatchObject(refused);
  });

  test("says what cures it", async () => {
    await expect(startServers({ port: 0, host: "0.0.0.0" })).rejects.toThrow(
      /--allow-plaintext,.*listen on 0\.0\.0\.0/,
    );
  });

  test("loopback by any of its names needs no word", async () => {
    for (const host of ["127.0.0.1", "::1", "localhost"]) await start({ host });
  });
});

describe("both families", () => {
  test.each<WsBackend>(["uws", "ws"])(
    "servers on :: are found by IPv4 and IPv6 (%s)",
    async (backend) => {
      const servers = await start({ host: "::", allowPlaintext: true, backend });
      const port = new URL((servers.urls.oms as string).replace("ws:", "http:")).port;
      for (const host of ["127.0.0.1", "[::1]"]) {
        expect((await fetch(`http://${host}:${port}/healthz`)).status).toBe(200);
      }
    },
  );

  test.each([
    ["127.0.0.1", "::1"],
    ["::1", "127.0.0.1"],
    ["::1", "::1"],
  ])("a source on %s feeds a peer on %s over servers on ::1", async (from, to) => {
    const servers = await start({ host: "::1" });
    const got = await session(servers.urls.oms as string, await engineOn(from), await engineOn(to));
    expect(got).toEqual(
      payloads(50)
        .map(String)
        .map((_, i) => `${i} degrees`),
    );
  });

  test("engines and servers on every address find each other by the address that is seen", async () => {
    const servers = await start({ host: "::", allowPlaintext: true, reportIntervalMs: 100 });
    const port = new URL((servers.urls.oms as string).replace("ws:", "http:")).port;
    const url = `ws://127.0.0.1:${port}`;
    const got = await session(url, await engineOn("::", true), await engineOn("::", true));
    expect(got).toHaveLength(50);
    // The PAMS told as :: was found where the OMS was.
    expect((await servers.stats()).pams).toMatchObject({ reports: expect.any(Number) });
    expect(((await servers.stats()).pams as { reports: number }).reports).toBeGreaterThan(0);
  });
});

describe("where an engine says it can be dialled", () => {
  const hosts = (withIPv6: boolean): string[] =>
    withIPv6 ? ["10.0.0.5", "2001:db8::5"] : ["10.0.0.5"];
  const { local, observed, advertised } = CANDIDATE_KINDS;
  const of = (host: string) => candidatesOf({ transport: "tcp", host, port: 9 }, undefined, hosts);

  test("where it listens; everywhere is what is seen, and its interfaces", () => {
    expect(of("10.0.0.5")).toEqual([{ transport: "tcp", host: "10.0.0.5", port: 9, kind: local }]);
    expect(of("::").map(({ host, kind }) => [host, kind])).toEqual([
      ["::", observed],
      ["10.0.0.5", local],
      ["2001:db8::5", local],
    ]);
    expect(of("0.0.0.0").map(({ host }) => host)).toEqual(["0.0.0.0", "10.0.0.5"]);
  });

  test("what is advertised and nothing else, at most 8", () => {
    const advertise = Array.from({ length: 9 }, (_, i) => ({ host: `h${i}`, port: 1 }));
    const told = candidatesOf({ transport: "tcp", host: "::", port: 9 }, advertise, hosts);
    expect(told).toHaveLength(8);
    expect(told.every(({ kind }) => kind === advertised)).toBe(true);
  });
});

describe("dial-back over real links", () => {
  async function post(base: string, operation: string, fields: object) {
    const response = await fetch(`${base}/${operation}`, {
      method: "POST",
      body: JSON.stringify(fields),
    });
    return (await response.json()) as Record<string, unknown>;
  }

  /** An overlay of `key`, joined by a scripted member that names `port` of the host "localhost". */
  async function member(base: string, key: Key, port: number) {
    const prove = async (domain: string, rest: Uint8Array) => {
      const { nonce } = await post(base, "r5/challenge", {});
      const bytes = Buffer.from(String(nonce), "hex");
      const statement = Buffer.concat([Buffer.from(domain), bytes, rest]);
      const publicKey = key.publicKey.toString("hex");
      return { nonce, publicKey, signature: key.sign(statement).toString("hex") };
    };
    const created = await post(base, "r5/create", {
      ...(await prove("mp2p-r5-create-1", Buffer.alloc(0))),
      // A private address that the member is not seen at: listed only once it was dialled.
      candidates: [{ transport: "tcp", host: "10.255.255.254", port, kind: 2 }],
      title: "t",
      pams: false,
    });
    return { overlayId: String(created.overlayId), ownerToken: String(created.ownerToken) };
  }

  test("without a word for plain text the OMS dials nobody off this machine", async () => {
    const servers = await start();
    const base = (servers.urls.oms as string).replace("ws:", "http:");
    const owner = await member(base, keyOf(Buffer.alloc(32, 3)), 7_910);
    const dialled = async () =>
      ((await servers.stats()).oms as { dialBack: { dialled: number } }).dialBack.dialled;
    await expect.poll(dialled, { timeout: 5_000 }).toBeGreaterThan(0);
    expect(await post(base, "r5/refresh", owner)).toMatchObject({ reach: 0 });
  });

  test("an engine answers for its own key, in the overlay and epoch it is in, and for no other", async () => {
    const servers = await start();
    const engine = await engineOn("127.0.0.1");
    const source = await engine.createSource({
      server: servers.urls.oms as string,
      title: "t",
      dataSources: [{ sourceId: "s" }],
    });
    const probe = new TcpProbeTransport();
    onTestFinished(() => probe.shutdown());
    // Nobody needs to live through the pauses between tries: the clock leaps over them.
    let leaptMs = 0;
    const dialled = new Set<number>();
    const now = () => ({ monoMs: performance.now() + leaptMs, wallUs: 0 });
    const dialBack = new DialBack({
      entropy: systemEntropy,
      rng: seededRng(1),
      sha256,
      open: (linkId, address) => {
        dialled.add(linkId);
        probe.open(linkId, address);
      },
      transmit: (linkId, bytes) => probe.send(linkId, bytes),
      close: (linkId) => probe.close(linkId),
      verify: ({ publicKey, bytes, signature }, then) =>
        setImmediate(() => then(verifySignature(publicKey, bytes, signature))),
    });
    probe.attach({
      allocateLinkId: () => 0,
      linkUp: (linkId) => dialBack.linkUp(linkId),
      linkDown: (linkId) => {
        dialled.delete(linkId);
        dialBack.linkDown(linkId, now());
      },
      frames: (linkId, memory, ranges, count) =>
        dialBack.frames({ kind: "frames", linkId, memory, ranges, count }, now()),
      sent: () => undefined,
    });
    const timer = setInterval(() => {
      const waitMs = dialBack.earliestMs() - now().monoMs;
      if (dialled.size === 0 && waitMs > 0 && Number.isFinite(waitMs)) leaptMs += waitMs;
      dialBack.onTime(now());
    }, 20);
    onTestFinished(() => clearInterval(timer));
    const [address] = engine.listening;
    if (address === undefined) throw new Error("the engine does not listen");
    const overlayId = source.overlayId;
    const target = { overlayId, sessionEpoch: 1, peerId: engine.peerId, address };
    const proven = (change: object): Promise<boolean> =>
      new Promise((done) => {
        dialBack.want({ ...target, observedHost: "127.0.0.1", done, ...change }, now());
      });
    expect(await proven({})).toBe(true);
    expect(engine.status().counters).toMatchObject({ handshakes: 0, malformedFrames: 0 });
    const others = [
      { peerId: "ab".repeat(32) },
      { overlayId: "ab".repeat(16) },
      { sessionEpoch: 2 },
    ];
    expect(await Promise.all(others.map(proven))).toEqual([false, false, false]);
    await source.close();
  }, 60_000);

  test("the probe hands over whole frames of control size, and ends on anything else", async () => {
    const got: { readonly linkId: number; readonly frame: string }[] = [];
    const down = new Map<number, string>();
    const up: number[] = [];
    const probe = new TcpProbeTransport();
    onTestFinished(() => probe.shutdown());
    probe.attach({
      allocateLinkId: () => 0,
      linkUp: (linkId) => up.push(linkId),
      linkDown: (linkId, code) => down.set(linkId, code),
      frames: (linkId, memory, ranges) => {
        const frame = Buffer.from(memory.subarray(ranges[0], (ranges[0] ?? 0) + (ranges[1] ?? 0)));
        got.push({ linkId, frame: frame.toString("hex") });
      },
      sent: () => undefined,
    });
    const serve = async (reply: readonly Uint8Array[]): Promise<number> => {
      const server = net.createServer(async (socket) => {
        socket.on("error", () => undefined);
        for (const part of reply) {
          socket.write(part);
          await once(socket, "drain").catch(() => undefined);
        }
      });
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      onTestFinished(() => {
        server.close();
      });
      return (server.address() as net.AddressInfo).port;
    };
    const frame = Buffer.from("09000000b6010300aa", "hex");
    const good = await serve([Buffer.concat([frame, frame.subarray(0, 4)])]);
    const huge = await serve([Buffer.from("ffffff00b6010300", "hex")]);
    const text = await serve([Buffer.from("SSH-2.0-OpenSSH\r\n")]);
    const address = (port: number) => ({ transport: "tcp", host: "127.0.0.1", port }) as const;
    probe.open(1, address(good));
    probe.open(3, address(huge));
    probe.open(5, address(text));
    probe.open(7, address(1));
    await expect.poll(() => [got.length, down.size]).toEqual([1, 3]);
    expect(got).toEqual([{ linkId: 1, frame: frame.toString("hex") }]);
    expect([down.get(3), down.get(5), down.get(7)]).toEqual([
      "LINK_CLOSED",
      "LINK_CLOSED",
      "UNREACHABLE",
    ]);
    probe.close(1);
    await expect.poll(() => down.get(1)).toBe("LINK_CLOSED");
  });
});
