/** The library as its users hold it: real sockets on loopback, servers in the same process. */

import { connect } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { OperationError } from "../../src/base/errors.ts";
import type {
  Datum,
  Engine,
  EngineOptions,
  EnginePeer,
  EngineSource,
  JoinOptions,
  SourceOptions,
} from "../../src/index.ts";
import { createEngine } from "../../src/index.ts";
import { type RunningServers, startServers } from "../../src/server.ts";

let servers: RunningServers;
let server = "";
const engines: Engine[] = [];
let titles = 0;

beforeAll(async () => {
  servers = await startServers({
    port: 0,
    reportIntervalMs: 500,
    memberLeaseMs: 3_000,
    refreshMs: 3_000,
  });
  server = servers.urls.oms ?? "";
});
afterEach(async () => {
  await Promise.all(engines.splice(0).map((engine) => engine.close()));
});
afterAll(() => servers.close());

async function engine(options: EngineOptions = {}): Promise<Engine> {
  const made = await createEngine({ memoryMiB: 32, ...options });
  engines.push(made);
  return made;
}

interface Pair {
  readonly source: EngineSource;
  readonly peer: EnginePeer;
  readonly sourceEngine: Engine;
  readonly peerEngine: Engine;
}

async function pair(
  source: Partial<SourceOptions> = {},
  join: Partial<JoinOptions> = {},
): Promise<Pair> {
  const title = `title ${titles++}`;
  const sourceEngine = await engine();
  const peerEngine = await engine();
  const [made, peer] = await Promise.all([
    sourceEngine.createSource({
      server,
      title,
      dataSources: [{ sourceId: `s${titles}` }],
      ...source,
    }),
    peerEngine.join({ server, title, ...join }),
  ]);
  return { source: made, peer, sourceEngine, peerEngine };
}
const first = (source: EngineSource): ReturnType<EngineSource["dataSource"]> =>
  source.dataSource(`s${titles}`);

async function collect(data: AsyncIterable<Datum>): Promise<Datum[]> {
  const all: Datum[] = [];
  for await (const datum of data) all.push(datum);
  return all;
}
async function code(run: () => unknown): Promise<string> {
  try {
    await run();
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : String(error);
  }
  return "nothing thrown";
}
const payloadOf = (i: number): Uint8Array => new Uint8Array((i * 37) % 3_000).fill(i);

describe("createEngine", () => {
  it("carries data of several sources, their types and times, which stay the user's", async () => {
    const { source, peer } = await pair({
      dataSources: [
        { sourceId: "a", contentType: "text/plain" },
        { sourceId: "b", dataId: `d${titles}` },
      ],
    });
    const got = collect(peer.data());
    const [a, b] = [source.dataSource("a"), source.dataSource("b")];
    for (let i = 1; i <= 300; i++) {
      await a.push(payloadOf(i), { timestampUs: 1_000 + i });
      if (i % 3 === 0) await b.push(payloadOf(2 * i), { contentType: `n/${i % 2}` });
    }
    await source.end();
    const data = await got;
    const ofA = data.filter(({ sourceId }) => sourceId === "a");
    expect(ofA.map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: 300 }, (_, i) => i + 1),
    );
    for (const { payload, sequence, timestampUs, contentType } of ofA) {
      expect(Buffer.compare(payload, payloadOf(sequence))).toBe(0);
      expect([timestampUs, contentType]).toEqual([1_000 + sequence, "text/plain"]);
    }
    const ofB = data.filter(({ sourceId }) => sourceId === "b");
    expect(ofB.map(({ contentType }) => contentType)).toEqual(
      Array.from({ length: 100 }, (_, i) => `n/${((i + 1) * 3) % 2}`),
    );
    await peer.closed;
  });

  it("lends views in batches, filters by source, and takes batches", async () => {
    const title = `title ${titles++}`;
    const sourceEngine = await engine();
    const [viaBatches, viaData] = [await engine(), await engine()];
    const opening = sourceEngine.createSource({
      server,
      title,
      waitPeers: 2,
      dataSources: [{ sourceId: "x" }, { sourceId: "y", dataId: "other" }],
    });
    const lends = await viaBatches.join({ server, title });
    const filtered = await viaData.join({ server, title });
    const source = await opening;
    const counts = (async () => {
      const all: string[] = [];
      for await (const batch of lends.batches()) {
        for (let i = 0; i < batch.count; i++) {
          expect(batch.payloadOf(i).length).toBe(batch.lengthOf(i));
          all.push(`${batch.sourceIdOf(i)}${batch.sequenceOf(i)}:${batch.payloadOf(i)[0]}`);
        }
      }
      return all;
    })();
    const onlyY = collect(filtered.data({ sources: ["y"] }));
    const lengths = new Uint32Array(500).fill(100);
    const payloads = new Uint8Array(50_000).map((_, i) => Math.floor(i / 100) & 255);
    for (const id of ["x", "y"]) {
      let done = 0;
      while (done < 500) {
        const rest = { payloads: payloads.subarray(done * 100), lengths: lengths.subarray(done) };
        const { accepted } = source.dataSource(id).writeBatch(rest);
        done += accepted;
        if (accepted === 0) await source.dataSource(id).writable();
      }
    }
    await source.end();
    const seen = await counts;
    expect(seen.length).toBe(1_000);
    expect(seen.filter((row) => row.startsWith("x"))).toEqual(
      Array.from({ length: 500 }, (_, i) => `x${i + 1}:${i & 255}`),
    );
    expect((await onlyY).map(({ sourceId, sequence }) => `${sourceId}${sequence}`)).toEqual(
      Array.from({ length: 500 }, (_, i) => `y${i + 1}`),
    );
  });

  it("R10.c: peers speak TCP: the frames of a link are seen on a plain socket", async () => {
    const listening = (await engine()).listening[0];
    expect(listening?.transport).toBe("tcp");
    const { sourceEngine, peerEngine, source, peer } = await pair();
    const got = collect(peer.data());
    await first(source).push(Uint8Array.of(1, 2, 3));
    const address = sourceEngine.listening[0];
    // Its port takes TCP and answers what is no HELLO by an ERROR frame and an end.
    const answer = await new Promise<Buffer>((resolve, reject) => {
      const socket = connect(address?.port ?? 0, address?.host ?? "");
      const parts: Buffer[] = [];
      socket.on("data", (part) => parts.push(part));
      socket.on("error", reject);
      socket.on("close", () => resolve(Buffer.concat(parts)));
      socket.write(Uint8Array.of(16, 0, 0, 0, 0xb6, 1, 0x1e, 0, 0, 0, 0, 0, 0, 0, 0, 0));
    });
    expect([...answer.subarray(4, 8)]).toEqual([0xb6, 1, 0x10, 0]);
    expect(answer.toString("latin1")).toContain("FRAME_UNEXPECTED");
    expect(peerEngine.status().overlays[0]?.neighbours[0]?.peerId).toBe(sourceEngine.peerId);
    await source.end();
    expect((await got)[0]?.payload).toEqual(Uint8Array.of(1, 2, 3));
  });

  it("R10.c (negative): what is no frame gets the connection closed, and nothing else happens", async () => {
    const { sourceEngine, source, peer } = await pair();
    const address = sourceEngine.listening[0];
    await new Promise<void>((resolve) => {
      const socket = connect(address?.port ?? 0, address?.host ?? "");
      // A reset is a way to be closed, too.
      socket.on("error", () => undefined);
      socket.on("close", () => resolve());
      socket.resume();
      socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    });
    const got = collect(peer.data());
    await first(source).push(Uint8Array.of(9));
    await source.end();
    expect((await got).length).toBe(1);
  });

  it("refuses an unregistered data source, a second one of a name, and data after an end", async () => {
    const { source, peer } = await pair();
    const got = collect(peer.data());
    expect(await code(() => source.dataSource("nobody"))).toBe("SOURCE_UNREGISTERED");
    const late = source.registerDataSource("late");
    expect(await code(() => source.registerDataSource("late"))).toBe("SOURCE_REGISTERED");
    await late.push(Uint8Array.of(1));
    late.end();
    expect(await code(() => late.write(Uint8Array.of(1)))).toBe("SOURCE_ENDED");
    expect(await code(() => late.write(new Uint8Array(17 << 20)))).toBe("SOURCE_ENDED");
    const other = first(source);
    expect(await code(() => other.write(new Uint8Array(17 << 20)))).toBe("DATUM_TOO_LARGE");
    expect(
      await code(() =>
        other.writeBatch({ payloads: new Uint8Array(1), lengths: Uint32Array.of(2) }),
      ),
    ).toBe("USAGE");
    expect(await code(() => other.write(Uint8Array.of(1), { timestampUs: -5 }))).toBe("USAGE");
    await source.end();
    expect((await got).map(({ sourceId }) => sourceId)).toEqual(["late"]);
  });

  it("answers credit 0 when nobody takes, and writable() when somebody does", async () => {
    const { source, peer } = await pair(
      { node: { windowBytes: 256 * 1024 } },
      { node: { windowBytes: 256 * 1024 } },
    );
    const writer = first(source);
    let written = 0;
    let credit = 1;
    for (let i = 0; i < 2_000 && credit > 0; i++) {
      const result = writer.write(new Uint8Array(10_000));
      written += result.accepted;
      credit = result.credit;
      if (credit === 0) {
        // What moves on to the peer's own window makes room once more, then no longer.
        const moved = await Promise.race([
          writer.writable().then(() => true),
          new Promise((resolve) => setTimeout(resolve, 300, false)),
        ]);
        if (moved === true) credit = 1;
      }
    }
    expect(credit).toBe(0);
    expect(written).toBeLessThan(150);
    const woken = writer.writable();
    const got = collect(peer.data());
    await woken;
    await source.end();
    expect((await got).length).toBe(written);
  });

  it("SESSION_LOST when the source closes without END, after what came", async () => {
    const { source, peer } = await pair({}, { node: { repairMs: 300 } });
    await first(source).push(Uint8Array.of(1));
    const iterator = peer.data();
    expect((await iterator.next()).value?.payload).toEqual(Uint8Array.of(1));
    await source.close();
    expect(await code(() => iterator.next())).toBe("SESSION_LOST");
  });

  it("can be left amid a batch: the iterator ends, and nothing is read from memory given back", async () => {
    const { source, peer } = await pair();
    const writer = first(source);
    const lengths = new Uint32Array(100).fill(50);
    writer.writeBatch({ payloads: new Uint8Array(5_000).fill(7), lengths });
    const iterator = peer.data();
    const step = await iterator.next();
    expect(step.value?.payload).toEqual(new Uint8Array(50).fill(7));
    await peer.leave();
    for (let i = 0; i < 120; i++) {
      const next = await iterator.next();
      if (next.done === true) break;
      expect(next.value.payload).toEqual(new Uint8Array(50).fill(7));
    }
    expect((await iterator.next()).done).toBe(true);
    await source.close();
  });

  it("break in a for await leaves the overlay", async () => {
    const { source, peer, peerEngine } = await pair();
    await first(source).push(Uint8Array.of(1));
    for await (const datum of peer.data()) {
      expect(datum.payload.length).toBe(1);
      break;
    }
    await peer.closed;
    expect(peerEngine.status().overlays).toEqual([]);
    await source.close();
  });

  it("gives one iterator a peer", async () => {
    const { source, peer } = await pair();
    peer.data();
    expect(await code(() => peer.batches())).toBe("USAGE");
    await source.close();
  });

  it("reports what a peer that was left behind has lost, as gap events", async () => {
    const { source, peer } = await pair(
      { delivery: "live", maxLagMs: 300, node: { windowBytes: 64 * 1024 } },
      { node: { windowBytes: 64 * 1024, repairMs: 300 } },
    );
    const gaps: unknown[] = [];
    peer.on("gap", (gap) => gaps.push(gap));
    await new Promise((resolve) => peer.on("started", resolve));
    const writer = first(source);
    for (let i = 0; i < 200; i++) {
      writer.write(new Uint8Array(8_000).fill(i));
      if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
    const got = collect(peer.data());
    writer.end();
    await source.end();
    const data = await got;
    const lost = (gaps as { kind: string; from: number; to: number }[])
      .filter(({ kind }) => kind === "data")
      .reduce((sum, { from, to }) => sum + to - from + 1, 0);
    expect(data.length).toBeLessThan(200);
    expect((data.at(-1)?.sequence ?? 0) - (data[0]?.sequence ?? 0) + 1).toBeLessThanOrEqual(
      data.length + lost,
    );
  });

  it("runs two engines and two sessions of one engine side by side", async () => {
    const one = await engine();
    const two = await engine();
    const made = await Promise.all(
      [0, 1].map(async (n) => {
        const title = `side ${titles}-${n}`;
        const source = await one.createSource({
          server,
          title,
          // Both have the same: of the two titles each is a data id.
          dataSources: [{ sourceId: "side" }],
        });
        const peer = await two.join({ server, title });
        const got = collect(peer.data());
        for (let i = 1; i <= 50; i++) await source.dataSource("side").push(Uint8Array.of(n, i));
        await source.end();
        return { n, data: await got };
      }),
    );
    for (const { n, data } of made) {
      expect(data.map(({ payload }) => [...payload])).toEqual(
        Array.from({ length: 50 }, (_, i) => [n, i + 1]),
      );
    }
  });

  it("an unknown title is waited for waitMs, then UNKNOWN_INDEX", async () => {
    const peerEngine = await engine();
    expect(await code(() => peerEngine.join({ server, title: "nobody", waitMs: 200 }))).toBe(
      "UNKNOWN_INDEX",
    );
  });

  it("AbortSignal ends a waiting join, a session and an engine", async () => {
    const peerEngine = await engine();
    const waiting = new AbortController();
    const joining = code(() => peerEngine.join({ server, title: "never", signal: waiting.signal }));
    waiting.abort();
    expect(await joining).toMatch(/ABORTED|20/);

    const whole = new AbortController();
    const aborted = await engine({ signal: whole.signal });
    whole.abort();
    await aborted.close();
    expect(await code(() => aborted.join({ server, title: "x" }))).toBe("CLOSED");
    expect(await code(() => createEngine({ signal: AbortSignal.abort() }))).toMatch(/ABORTED|20/);
  });

  it("close is idempotent, refuses what comes after, and ends open iterators", async () => {
    const { source, peer, peerEngine, sourceEngine } = await pair();
    await first(source).push(Uint8Array.of(5));
    const iterator = peer.data();
    expect((await iterator.next()).value?.payload).toEqual(Uint8Array.of(5));
    const waiting = iterator.next();
    await Promise.all([peerEngine.close(), peerEngine.close()]);
    expect((await waiting).done).toBe(true);
    await peerEngine.close();
    expect(await code(() => peerEngine.join({ server, title: "x" }))).toBe("CLOSED");
    await sourceEngine.close();
    expect(await code(() => first(source).write(Uint8Array.of(1)))).toBe("CLOSED");
  });

  it("says ENGINE_MEMORY and the figure to set when a session does not fit", async () => {
    const small = await engine({ memoryMiB: 8 });
    const attempt = small.createSource({
      server,
      title: `big ${titles++}`,
      dataSources: [{ sourceId: `big${titles}` }],
      node: { windowBytes: 64 << 20 },
    });
    const error = await attempt.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(OperationError);
    expect((error as OperationError).code).toBe("ENGINE_MEMORY");
    expect((error as OperationError).message).toMatch(/memoryMiB/);
  });

  it("refuses options that can not be", async () => {
    expect(await code(() => createEngine({ memoryMiB: 1 }))).toBe("USAGE");
    expect(await code(() => createEngine({ workers: -1 }))).toBe("USAGE");
    const made = await engine();
    const taken = made.listening[0]?.port ?? 0;
    expect(await code(() => createEngine({ listen: { port: taken } }))).toBe("ADDRESS_IN_USE");
    const base = { server, title: "t", dataSources: [{ sourceId: "s" }] };
    expect(await code(() => made.createSource({ ...base, integrity: "signed" }))).toBe(
      "INTEGRITY_UNSUPPORTED",
    );
    expect(await code(() => made.createSource({ ...base, fragmentBytes: 100 }))).toBe("USAGE");
    expect(await code(() => made.createSource({ ...base, server: "http://x" }))).toBe("USAGE");
  });
});
