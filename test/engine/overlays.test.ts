/** Several overlays, limits and relays with real engines: sockets on loopback, servers in the same process. */

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type {
  Engine,
  EngineOptions,
  EnginePeer,
  EngineSource,
  JoinOptions,
} from "../../src/index.ts";
import { createEngine } from "../../src/index.ts";
import { type RunningServers, startServers } from "../../src/server.ts";

let servers: RunningServers;
let server = "";
let titles = 0;
const engines: Engine[] = [];

beforeAll(async () => {
  servers = await startServers({ port: 0, reportIntervalMs: 500 });
  server = servers.urls.oms ?? "";
});
afterEach(async () => {
  await Promise.all(engines.splice(0).map((engine) => engine.close()));
});
afterAll(() => servers.close());

async function engine(options: EngineOptions = {}): Promise<Engine> {
  const made = await createEngine({ memoryMiB: 64, ...options });
  engines.push(made);
  return made;
}

interface Session {
  readonly title: string;
  readonly source: EngineSource;
  readonly send: (count: number, bytes: number) => Promise<void>;
}

async function session(at: Engine, waitPeers = 1): Promise<Session> {
  const title = `overlay ${titles++}`;
  const source = await at.createSource({
    server,
    title,
    dataSources: [{ sourceId: title }],
    waitPeers,
    node: { windowBytes: 1 << 20, lingerMs: 2_000 },
  });
  const send = async (count: number, bytes: number): Promise<void> => {
    const data = source.dataSource(title);
    for (let i = 0; i < count; i++) await data.push(payloadOf(i, bytes));
    await source.end();
  };
  return { title, source, send };
}
const join = (
  at: Engine,
  { title }: Session,
  more: Partial<JoinOptions> = {},
): Promise<EnginePeer> =>
  at.join({ server, title, node: { windowBytes: 1 << 20, lingerMs: 2_000 }, ...more });
const payloadOf = (i: number, bytes: number): Uint8Array => new Uint8Array(bytes).fill(i * 31 + 7);

/** Bytes of payload of all data, which are checked one by one. */
async function drain(peer: EnginePeer, bytes: number): Promise<number> {
  let count = 0;
  for await (const { payload, sequence } of peer.data()) {
    expect(sequence).toBe(++count);
    expect(Buffer.compare(payload, payloadOf(sequence - 1, bytes))).toBe(0);
  }
  return count;
}
async function until(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error("not within 20 s");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
async function codeOf(run: () => unknown): Promise<string> {
  try {
    await run();
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : String(error);
  }
  return "nothing thrown";
}

describe("two engines with three overlays", () => {
  it("use one link, each being source in one and peer in others", async () => {
    const [a, b] = [await engine(), await engine()];
    const [first, second, third] = [await session(a), await session(a), await session(b)];
    const peers = await Promise.all([join(b, first), join(b, second), join(a, third)]);
    const counts = Promise.all(peers.map((peer) => drain(peer, 2_000)));
    const linked = (report: EnginePeer | EngineSource): boolean =>
      report.status().neighbours.length === 1;
    await until(() => [...peers, first.source, second.source, third.source].every(linked));
    await until(() => a.status().links.open === 1 && b.status().links.open === 1);
    expect(a.status().links).toEqual({ peers: 1, open: 1 });
    await Promise.all([first.send(800, 2_000), second.send(500, 2_000), third.send(600, 2_000)]);
    expect(await counts).toEqual([800, 500, 600]);
    expect(a.status().counters.requestsBeyondCredit).toBe(0);
    await Promise.all(peers.map((peer) => peer.closed));
    await until(() => a.status().links.open === 0 && b.status().links.open === 0);
  });

  it("one that is not read holds no other, and ends without ending the link", async () => {
    const [a, b] = [await engine(), await engine()];
    const [slow, fast] = [await session(a), await session(a)];
    const [unread, read] = await Promise.all([join(b, slow), join(b, fast)]);
    const written = slow.source.dataSource(slow.title);
    let credit = 1;
    while (credit > 0) credit = written.write(payloadOf(0, 2_000)).credit;
    const count = drain(read, 2_000);
    await fast.send(3_000, 2_000);
    expect(await count).toBe(3_000);
    expect(unread.status().consumedTo).toBe(0);
    expect(unread.status().neighbours.length).toBe(1);
    await unread.leave();
    await slow.source.close();
  });
});

describe("one overlay in one engine", () => {
  it("is joined once: the second join is refused, and the first peer gets everything", async () => {
    const [a, b] = [await engine(), await engine()];
    const one = await session(a);
    const peer = await join(b, one);
    const count = drain(peer, 1_000);
    await until(() => peer.status().neighbours.length === 1);
    for (const at of [a, b]) expect(await codeOf(() => join(at, one))).toBe("USAGE");
    await one.send(200, 1_000);
    expect(await count).toBe(200);
    await peer.closed;
  });
});

describe("limits", () => {
  it("hold loosely on real sockets, up and down", async () => {
    const limit = 1_000_000;
    const holds = async (
      side: "uploadLimitBytesPerSecond" | "downloadLimitBytesPerSecond",
    ): Promise<void> => {
      const limited = { [side]: limit };
      const a = await engine(side === "uploadLimitBytesPerSecond" ? limited : {});
      const b = await engine(side === "downloadLimitBytesPerSecond" ? limited : {});
      const one = await session(a);
      const peer = await join(b, one);
      const count = drain(peer, 10_000);
      const beganMs = performance.now();
      await one.send(300, 10_000);
      const elapsedMs = performance.now() - beganMs;
      expect(await count).toBe(300);
      // 3 MB, less a burst of half a second at most; a busy machine is slower.
      expect(elapsedMs).toBeGreaterThan(2_300);
      expect(elapsedMs).toBeLessThan(9_000);
      const { upload, download } = side.startsWith("upload") ? a.status() : b.status();
      expect([upload.limitBytesPerSecond, download.limitBytesPerSecond]).toContain(limit);
    };
    await Promise.all([holds("uploadLimitBytesPerSecond"), holds("downloadLimitBytesPerSecond")]);
  });

  it("on links turns away whom there is no place for, and lets in who comes when there is", async () => {
    const a = await engine({ maxLinks: 1 });
    const one = await session(a);
    const first = await join(await engine(), one);
    await until(() => one.source.status().neighbours.length === 1);
    const second = await join(await engine({ maxLinks: 1 }), one);
    await until(() => a.status().counters.refusedLinks > 0);
    await until(() => second.status().neighbours.length === 1);
    expect(a.status().links.peers).toBe(1);
    // The second one gets all through the first.
    const counts = Promise.all([drain(first, 1_000), drain(second, 1_000)]);
    await one.send(200, 1_000);
    expect(await counts).toEqual([200, 200]);
    expect(second.status().traffic.bytesFromSource).toBe(0);
    expect(a.status().links.peers).toBeLessThanOrEqual(1);
  });

  it("asks for the distance of members it is named, and takes no number for 0", async () => {
    const one = await session(await engine());
    const first = await join(await engine(), one);
    const asked = new Set<string>();
    const networkDistance = (peerId: string): number => {
      asked.add(peerId);
      return asked.size % 2 === 0 ? Number.NaN : 1e9;
    };
    const second = await join(await engine({ networkDistance }), one);
    await until(() => second.status().neighbours.length === 2);
    const counts = Promise.all([drain(first, 1_000), drain(second, 1_000)]);
    await one.send(200, 1_000);
    expect(await counts).toEqual([200, 200]);
    expect(asked.size).toBeGreaterThan(0);
  });

  it.each([
    { uploadLimitBytesPerSecond: 10 },
    { downloadLimitBytesPerSecond: Number.NaN },
    { maxLinks: 0 },
    { maxLinks: 4_097 },
    { maxLinks: 1.5 },
  ])("%j is refused", async (options) => {
    expect(await codeOf(() => createEngine(options))).toBe("USAGE");
  });
});

describe("relays", () => {
  it("forward what they do not consume, and report it", async () => {
    const one = await session(await engine());
    const relay = await join(await engine(), one, { consume: false });
    const peer = await join(await engine(), one);
    expect(await codeOf(() => relay.data())).toBe("USAGE");
    expect(await codeOf(() => relay.fragments())).toBe("USAGE");
    const count = drain(peer, 3_000);
    await until(() => relay.status().neighbours.length === 2);
    await one.send(1_000, 3_000);
    expect(await count).toBe(1_000);
    await relay.closed;
    const { traffic, consumedTo, highest } = relay.status();
    expect(consumedTo).toBe(highest);
    expect(traffic.bytesFromSource + traffic.bytesFromPeers).toBeGreaterThan(3_000_000);
  });

  it("take whole fragments, which are theirs until the next step or release()", async () => {
    for (const debug of [false, true]) {
      const one = await session(await engine());
      const at = await engine({ debug });
      const peer = await join(at, one);
      const sent = one.send(300, 2_000);
      let next = 0;
      let bytes = 0;
      let kept: Uint8Array | undefined;
      for await (const fragment of peer.fragments()) {
        expect(fragment.index).toBe(next++);
        const view = new DataView(fragment.bytes.buffer, fragment.bytes.byteOffset);
        expect(view.getUint32(0, true)).toBe(fragment.length);
        expect(fragment.bytes[6]).toBe(1);
        expect(Number(view.getBigUint64(24, true))).toBe(fragment.index);
        const { memory, offset, length } = fragment;
        expect(Buffer.compare(memory.subarray(offset, offset + length), fragment.bytes)).toBe(0);
        bytes += length;
        kept = fragment.bytes;
        if (next % 2 === 0) continue;
        fragment.release();
        fragment.release();
        expect(await codeOf(() => fragment.bytes)).toBe("USAGE");
        expect(await codeOf(() => fragment.offset)).toBe("USAGE");
      }
      await sent;
      await peer.closed;
      expect(bytes).toBeGreaterThan(600_000);
      expect(kept?.length === 0).toBe(debug);
    }
  });
});
