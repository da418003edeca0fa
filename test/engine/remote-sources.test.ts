/**
 * Data sources on links of their own (R11) at a real source peer: sockets on loopback, servers in
 * this process, frames written and read by code that is not from src/.
 */

import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import type { Address } from "../../src/base/machine.ts";
import {
  type AcceptSourcesOptions,
  createEngine,
  createFeed,
  type DataFeed,
  type Datum,
  type Engine,
  type EngineSource,
  OperationError,
  type RemoteIntake,
} from "../../src/index.ts";
import { type RunningServers, startServers } from "../../src/server.ts";
import { datumFrame, frameOf, R11, RawDataSource } from "../support/raw-data-source.ts";

let servers: RunningServers;
let server = "";
let titles = 0;
const closing: { close(): unknown }[] = [];

beforeAll(async () => {
  servers = await startServers({ port: 0, reportIntervalMs: 500, memberLeaseMs: 3_000 });
  server = servers.urls.oms ?? "";
});
afterEach(async () => {
  await Promise.all(closing.splice(0).map((one) => one.close()));
});
afterAll(() => servers.close());

function later<T extends { close(): unknown }>(made: T): T {
  closing.unshift(made);
  return made;
}

interface Scene {
  readonly title: string;
  readonly source: EngineSource;
  readonly intake: RemoteIntake;
  readonly tcp: Address;
  readonly ws: Address;
  /** Everything that a peer gets, to the end. */
  data(): Promise<Datum[]>;
}

async function scene(
  options: Partial<AcceptSourcesOptions> = {},
  windowBytes = 8 << 20,
): Promise<Scene> {
  const title = `plant ${titles++}`;
  const engine: Engine = later(await createEngine({ memoryMiB: 32 }));
  const source = await engine.createSource({
    server,
    title,
    dataSources: [],
    node: { windowBytes },
  });
  const intake = await source.acceptDataSources({
    listen: [{ transport: "tcp" }, { transport: "ws" }],
    dataId: "readings",
    end: "last",
    ...options,
  });
  const [tcp, ws] = intake.listening;
  if (tcp === undefined || ws === undefined) throw new Error("two addresses");
  const data = async (): Promise<Datum[]> => {
    const joined = later(await createEngine({ memoryMiB: 32 }));
    const peer = await joined.join({ server, title });
    const all: Datum[] = [];
    for await (const datum of peer.data()) all.push(datum);
    return all;
  };
  return { title, source, intake, tcp, ws, data };
}

async function raw(address: Address): Promise<RawDataSource> {
  return later(await RawDataSource.connect(address));
}

/** What the index server says of a title, as a client over HTTP sees it. */
async function query(title: string, dataSourceId = "", dataId = ""): Promise<string> {
  const answer = await fetch(`${server.replace("ws:", "http:")}/r6/query`, {
    method: "POST",
    body: JSON.stringify({ version: 0, title, dataSourceId, dataId }),
  });
  const body = (await answer.json()) as { code?: string; files?: string[]; gone?: object[] };
  if (body.code !== undefined) return body.code;
  return `${body.files?.length} files, ${body.gone?.length} gone`;
}

const text = (value: string): Buffer => Buffer.from(value);
const data = (...payloads: string[]): { payload: Buffer }[] =>
  payloads.map((payload) => ({ payload: text(payload) }));

describe("on the wire", () => {
  it("P1.1: REGISTER has the source peer make the session known, under the data source's ids", async () => {
    const { title, tcp } = await scene();
    expect(await query(title)).toBe("UNKNOWN_INDEX");
    const link = await raw(tcp);
    link.register("pump", { dataId: "pressure" });
    const { fields } = await link.next(R11.REGISTERED);
    expect(fields.slice(0, 2)).toEqual([1, 0]);
    expect(await query(title)).toBe("1 files, 0 gone");
    expect(await query("", "pump", "pressure")).toBe("1 files, 0 gone");
    // The next one gets an index file of its own; who names no data id gets the source peer's.
    const other = await raw(tcp);
    other.register("valve");
    await other.next(R11.REGISTERED);
    expect(await query("", "valve", "readings")).toBe("1 files, 0 gone");
    expect(await query(title)).toBe("2 files, 0 gone");
  });

  it("P1.1 (negative): a REGISTER that is refused makes nothing known", async () => {
    const { title, tcp, intake } = await scene();
    const link = await raw(tcp);
    link.register("pump", { versions: [2, 9] });
    expect(await link.refusal()).toBe("VERSION_UNSUPPORTED");
    expect(await query(title)).toBe("UNKNOWN_INDEX");
    expect(intake.status().counters.refusedLinks).toBe(1);
  });

  it("R11.a, R11.c, R11.e, R11.f, R11.g: a registered data source's data reach the peers", async () => {
    const { source, tcp, data: receive } = await scene();
    const link = await raw(tcp);
    link.register("pump", { contentType: "text/x" });
    const { fields, bytes } = await link.next(R11.REGISTERED);
    expect(fields[0]).toBe(1);
    expect(Number(fields[2])).toBeGreaterThanOrEqual(262_144);
    expect(Buffer.from(fields[3] as Uint8Array).toString("hex")).toBe(source.overlayId);
    expect(bytes[6]).toBe(0x21);
    const got = receive();
    const stamped = [
      { payload: text("one") },
      { payload: text(""), deltaUs: 5 },
      { payload: text("three"), deltaUs: -7 },
    ];
    link.send(datumFrame(1, stamped, { baseUs: 1_000_000 }));
    await link.until(R11.ACCEPTED, 3);
    await link.until(R11.HELD, 3);
    // A datum that no frame holds comes in pieces.
    const big = Buffer.alloc(300_000, "0123456789");
    const total = big.length;
    for (let offset = 0; offset < total; offset += 100_000) {
      const piece = { payload: big.subarray(offset, offset + 100_000) };
      link.send(datumFrame(4, [piece], { baseUs: 2_000_000, total, offset }));
    }
    await link.until(R11.HELD, 4);
    link.message(R11.TERMINATE, [0, 4]);
    expect((await link.next(R11.TERMINATE)).fields).toEqual([0, 4]);
    await source.end();
    const all = await got;
    expect(
      all.map((one) => [one.sourceId, one.sequence, one.timestampUs, one.contentType]),
    ).toEqual([
      ["pump", 1, 1_000_000, "text/x"],
      ["pump", 2, 1_000_005, "text/x"],
      ["pump", 3, 999_993, "text/x"],
      ["pump", 4, 2_000_000, "text/x"],
    ]);
    expect(all.map(({ payload }) => Buffer.from(payload).toString())).toEqual([
      "one",
      "",
      "three",
      big.toString(),
    ]);
  });

  it("R11.a, R11.c, R11.e, R11.f, R11.g (negative): who has not registered is refused, and so is who has no id", async () => {
    const { source, tcp, ws, intake, data: receive } = await scene();
    for (const at of [tcp, ws]) {
      const early = await raw(at);
      early.send(datumFrame(1, data("early")));
      expect(await early.refusal()).toBe("SOURCE_UNREGISTERED");
      for (const id of ["", "x".repeat(129)]) {
        const nameless = await raw(at);
        nameless.register(id);
        nameless.send(datumFrame(1, data("nameless")));
        expect(await nameless.refusal()).toBe("MESSAGE_MALFORMED");
      }
    }
    expect(intake.status().sources).toEqual([]);
    const link = await raw(tcp);
    link.register("pump");
    await link.next(R11.REGISTERED);
    const got = receive();
    link.send(datumFrame(1, data("good")));
    await link.until(R11.HELD, 1);
    await source.end();
    expect((await got).map(({ payload }) => Buffer.from(payload).toString())).toEqual(["good"]);
  });

  it("R11.b, R11.d: several data sources at a time, over TCP and WebSocket, arrive apart", async () => {
    const { source, intake, tcp, ws, data: receive } = await scene();
    const links = await Promise.all([raw(tcp), raw(ws), raw(tcp), raw(ws)]);
    await Promise.all(
      links.map(async (link, n) => {
        link.register(`s${n}`);
        await link.next(R11.REGISTERED);
      }),
    );
    const got = receive();
    for (let i = 1; i <= 50; i++) {
      links.forEach((link, n) => {
        link.send(datumFrame(2 * i - 1, data(`${n}:${2 * i - 1}`, `${n}:${2 * i}`)));
      });
    }
    await Promise.all(links.map((link) => link.until(R11.HELD, 100)));
    expect(intake.status().sources.map(({ sourceId, linked }) => [sourceId, linked])).toEqual(
      links.map((_, n) => [`s${n}`, true]),
    );
    await source.end();
    const all = await got;
    expect(all.length).toBe(400);
    links.forEach((link, n) => {
      const mine = all.filter(({ sourceId }) => sourceId === `s${n}`);
      expect(mine.map(({ payload }) => Buffer.from(payload).toString())).toEqual(
        Array.from({ length: 100 }, (_, i) => `${n}:${i + 1}`),
      );
      // Each is told that the session is over, and how much of it was taken.
      expect(link.frames.find(({ type }) => type === R11.TERMINATE)?.fields).toEqual([1, 100]);
    });
  });

  it("R11.b, R11.d (negative): one identifier is one data source, whoever comes second", async () => {
    const { tcp, ws, intake } = await scene();
    const first = await raw(tcp);
    first.register("pump");
    await first.next(R11.REGISTERED);
    const second = await raw(ws);
    second.register("pump", { instance: Buffer.alloc(16, 8) });
    expect(await second.refusal()).toBe("SOURCE_REGISTERED");
    // The same run over another link is the same data source: its first link gives way.
    const again = await raw(ws);
    again.register("pump");
    await again.next(R11.REGISTERED);
    expect(await first.refusal()).toBe("DUPLICATE_LINK");
    expect(intake.status().sources.length).toBe(1);
  });

  it("fragments name the run of a data source, until another run goes on with it", async () => {
    const { title, tcp } = await scene();
    const joined = later(await createEngine({ memoryMiB: 32 }));
    const first = await raw(tcp);
    first.register("pump", { instance: Buffer.alloc(16, 7) });
    await first.next(R11.REGISTERED);
    const peer = await joined.join({ server, title });
    const fragments = peer.fragments();
    const numbering = async (): Promise<number> => {
      const { value } = await fragments.next();
      // The first record of a fragment declares a data source.
      const { buffer, byteOffset } = value.bytes;
      const found = new DataView(buffer, byteOffset).getUint32(40 + 4, true);
      value.release();
      return found;
    };
    first.send(datumFrame(1, data("one")));
    expect(await numbering()).toBe(0x07070707);
    await first.until(R11.ACCEPTED, 1);
    first.close();
    const second = await raw(tcp);
    second.register("pump", { instance: Buffer.alloc(16, 8) });
    expect((await second.next(R11.REGISTERED)).fields[0]).toBe(2);
    second.send(datumFrame(2, data("two")));
    expect(await numbering()).toBe(0);
    second.message(R11.TERMINATE, [0, 2]);
    await second.next(R11.TERMINATE);
  });

  it("P3.1: TERMINATE of a data source ends the session, for peers and at the servers", async () => {
    const { source, intake, tcp, data: receive } = await scene();
    const [a, b] = [await raw(tcp), await raw(tcp)];
    for (const [link, id] of [[a, "a"] as const, [b, "b"] as const]) {
      link.register(id);
      await link.next(R11.REGISTERED);
    }
    const got = receive();
    a.send(datumFrame(1, data("last words")));
    await a.until(R11.HELD, 1);
    a.message(R11.TERMINATE, [1, 1]);
    expect(await intake.finished).toBe("ordered");
    await source.end();
    expect((await a.next(R11.TERMINATE)).fields).toEqual([1, 1]);
    expect((await b.next(R11.TERMINATE)).fields).toEqual([1, 0]);
    expect((await got).length).toBe(1);
    expect(await query("", "a", "readings")).toBe("0 files, 1 gone");
    expect(await query("", "b", "readings")).toBe("0 files, 1 gone");
  });

  it("P3.1: the session ends with its last data source", async () => {
    const { source, intake, tcp, data: receive } = await scene();
    const links = [await raw(tcp), await raw(tcp)];
    for (const [n, link] of links.entries()) {
      link.register(`s${n}`);
      await link.next(R11.REGISTERED);
    }
    const got = receive();
    for (const link of links) {
      link.send(datumFrame(1, data("x")));
      link.message(R11.TERMINATE, [0, 1]);
      expect((await link.next(R11.TERMINATE)).fields).toEqual([0, 1]);
    }
    expect(await intake.finished).toBe("last");
    await source.end();
    expect((await got).length).toBe(2);
  });

  it("P3.1 (negative): where the owner ends the session no data source does", async () => {
    const { source, intake, tcp, data: receive } = await scene({ end: "owner" });
    const [a, b] = [await raw(tcp), await raw(tcp)];
    for (const [link, id] of [[a, "a"] as const, [b, "b"] as const]) {
      link.register(id);
      await link.next(R11.REGISTERED);
    }
    a.message(R11.TERMINATE, [1, 0]);
    expect(await a.refusal()).toBe("NOT_OWNER");
    const got = receive();
    b.send(datumFrame(1, data("goes on")));
    await b.until(R11.HELD, 1);
    b.message(R11.TERMINATE, [0, 1]);
    await b.next(R11.TERMINATE);
    const state = await Promise.race([intake.finished, Promise.resolve("not finished")]);
    expect(state).toBe("not finished");
    await source.end();
    expect((await got).length).toBe(1);
  });
});

describe("what breaks the protocol", () => {
  const registered = async (at: Address, id: string): Promise<RawDataSource> => {
    const link = await raw(at);
    link.register(id);
    await link.next(R11.REGISTERED);
    return link;
  };
  const malformedRegister = frameOf(R11.REGISTER, Buffer.from([0x81, 0xa1, 0x61, 1]));
  const wrongVersion = datumFrame(1, data("x"));
  wrongVersion[5] = 9;

  it.each<[string, Uint8Array, string]>([
    ["a skipped number", datumFrame(2, data("x")), "SEQUENCE_SKIPPED"],
    ["number 0", datumFrame(0, data("x")), "FRAME_MALFORMED"],
    ["no data", datumFrame(1, []), "FRAME_MALFORMED"],
    ["an absurd count", datumFrame(1, data("x"), { count: 0xffff_ffff }), "FRAME_MALFORMED"],
    ["reserved bits", datumFrame(1, data("x"), { reserved: 1 }), "FRAME_MALFORMED"],
    ["lengths that do not add up", frameCut(), "FRAME_MALFORMED"],
    ["a datum of 17 MiB", datumFrame(1, data("x"), { total: 17 << 20 }), "FRAME_MALFORMED"],
    ["a piece beyond its end", datumFrame(1, data("xx"), { total: 1 }), "FRAME_MALFORMED"],
    [
      "a piece out of order",
      datumFrame(1, data("x"), { total: 100, offset: 7 }),
      "FRAME_UNEXPECTED",
    ],
    ["REGISTER twice", malformedRegister, "FRAME_UNEXPECTED"],
    ["TERMINATE of data that never came", terminate(5), "SEQUENCE_SKIPPED"],
    ["a frame of peer links", frameOf(0x07, Buffer.alloc(16)), "FRAME_UNEXPECTED"],
    ["a type that does not exist", frameOf(0x7f, Buffer.alloc(0)), "FRAME_UNEXPECTED"],
  ])("%s: an error, the end of the link, and nobody else notices", async (_what, bad, expected) => {
    const { source, intake, tcp, ws, data: receive } = await scene();
    const good = await registered(tcp, "good");
    for (const at of [tcp, ws]) {
      const link = await registered(at, `bad-${at.transport}`);
      link.send(bad);
      expect(await link.refusal()).toBe(expected);
    }
    const { counters } = intake.status();
    const counted = counters.malformedFrames + counters.sequenceErrors + counters.refusedLinks;
    expect(counted).toBe(2);
    const got = receive();
    good.send(datumFrame(1, data("fine")));
    await good.until(R11.HELD, 1);
    await source.end();
    expect((await got).map(({ sourceId }) => sourceId)).toEqual(["good"]);
  });

  it("an absurd length, a wrong magic or version end a link at its first bytes", async () => {
    const { tcp, intake } = await scene();
    for (const bytes of [
      Buffer.from("ffffff7fb6012200", "hex"),
      Buffer.from("GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
      wrongVersion,
    ]) {
      const link = await raw(tcp);
      link.send(bytes);
      await link.closed();
    }
    expect(intake.status().counters.malformedFrames).toBeGreaterThanOrEqual(2);
  });

  it("more than was granted is refused", async () => {
    const { tcp, intake } = await scene();
    const link = await registered(tcp, "greedy");
    const full = Buffer.alloc(200_000);
    // Nobody has joined: the overlay fills up, and the grants stop.
    for (let n = 1; n < 200 && !link.isClosed; n++) link.send(datumFrame(n, [{ payload: full }]));
    expect(await link.refusal()).toBe("CREDIT_EXCEEDED");
    expect(intake.status().counters.creditExceeded).toBe(1);
    const [report] = intake.status().sources;
    expect(report?.queuedBytes).toBeLessThanOrEqual((1 << 20) + full.length);
  });

  it("a source that has ended takes nothing more, however it comes", async () => {
    const { tcp, data: receive } = await scene();
    const link = await registered(tcp, "brief");
    void receive();
    link.send(datumFrame(1, data("all")));
    link.message(R11.TERMINATE, [0, 1]);
    await link.next(R11.TERMINATE);
    await link.closed();
    const again = await registered(tcp, "brief");
    again.send(datumFrame(1, data("all")));
    again.send(datumFrame(2, data("more")));
    expect(await again.refusal()).toBe("SOURCE_ENDED");
  });
});

function frameCut(): Buffer {
  const frame = datumFrame(1, data("xyz"));
  frame.writeUInt32LE(9, 40);
  return frame;
}

function terminate(last: number): Buffer {
  return frameOf(R11.TERMINATE, Buffer.from([0x92, 0, last]));
}

it("off loopback data sources are accepted only by an engine that was allowed plain text", async () => {
  const open = async (allowPlaintext: boolean) => {
    const engine = later(await createEngine({ memoryMiB: 32, allowPlaintext }));
    return engine.createSource({ server, title: `plant ${titles++}`, dataSources: [] });
  };
  const listen = [{ host: "127.0.0.1" }, { transport: "ws", host: "0.0.0.0" }] as const;
  const refusing = await open(false);
  await expect(refusing.acceptDataSources({ listen })).rejects.toMatchObject({
    code: "PLAINTEXT_REFUSED",
  });
  expect((await refusing.acceptDataSources({ listen: [{}] })).listening.length).toBe(1);
  const { listening } = await (await open(true)).acceptDataSources({ listen });
  expect(listening.map(({ host }) => host)).toEqual(["127.0.0.1", "0.0.0.0"]);
});

it("a data source finds a place though others that never sent anything took them all", async () => {
  const { source, tcp, intake, data: receive } = await scene();
  const got = receive();
  const linked = (): number => intake.status().sources.filter((one) => one.linked).length;
  for (let i = 0; i < 250; i++) source.registerDataSource(`own ${i}`);
  for (let i = 0; i < 6; i++) {
    const link = await raw(tcp);
    link.register(`nobody ${i}`);
    await link.next(R11.REGISTERED);
    if (i > 0) link.close();
  }
  await vi.waitFor(() => expect(linked()).toBe(1));
  const standing = async (): Promise<string> => query("", "nobody 1", "readings");
  expect(await standing()).toBe("1 files, 0 gone");
  const feed = later(await createFeed({ to: `${tcp.host}:${tcp.port}`, sourceId: "honest" }));
  expect(await standing()).toBe("0 files, 1 gone");
  await feed.push(text("x"));
  // It has ended, the others have not: one that was forgotten ends the session for nobody.
  let finished = "";
  void intake.finished.then((how) => {
    finished = how;
  });
  await feed.end();
  expect(finished).toBe("");
  await source.end();
  expect((await got).map(({ sourceId, sequence }) => [sourceId, sequence])).toEqual([
    ["honest", 1],
  ]);
});

describe("createFeed", () => {
  const feedTo = async (at: Address, sourceId: string): Promise<DataFeed> =>
    later(await createFeed({ to: `${at.transport}://${at.host}:${at.port}`, sourceId }));

  it("brings data to peers, tells what they hold, and ends with the session", async () => {
    const { source, tcp, ws, intake, data: receive } = await scene();
    const [a, b] = [await feedTo(tcp, "a"), await feedTo(ws, "b")];
    const got = receive();
    const big = new Uint8Array(3 << 20).map((_, i) => i >>> 3);
    for (let i = 1; i <= 500; i++) {
      expect(await a.push(text(`a${i}`), { timestampUs: 1_000 + i })).toBe(i);
      await b.push(i === 250 ? big : text(`b${i}`));
    }
    await a.whenHeld(10);
    expect(a.held).toBeGreaterThanOrEqual(10);
    await Promise.all([a.whenHeld(), b.whenHeld()]);
    expect([a.held, a.accepted, a.next]).toEqual([500, 500, 501]);
    await Promise.all([a.end(), b.end({ session: true })]);
    await expect(a.push(text("late"))).rejects.toMatchObject({ code: "SOURCE_ENDED" });
    expect(["last", "ordered"]).toContain(await intake.finished);
    await source.end();
    const all = await got;
    const ofA = all.filter(({ sourceId }) => sourceId === "a");
    expect(ofA.map((one) => [Buffer.from(one.payload).toString(), one.timestampUs])).toEqual(
      Array.from({ length: 500 }, (_, i) => [`a${i + 1}`, 1_001 + i]),
    );
    const ofB = all.filter(({ sourceId }) => sourceId === "b");
    expect(ofB.length).toBe(500);
    expect(Buffer.compare(ofB[249]?.payload ?? new Uint8Array(0), big)).toBe(0);
  });

  it("back-pressure reaches a data source on another machine", async () => {
    const { tcp, intake, data: receive } = await scene({}, 1 << 20);
    const feed = later(
      await createFeed({ to: `${tcp.host}:${tcp.port}`, sourceId: "a", keepMiB: 4 }),
    );
    const payload = new Uint8Array(50_000);
    // Nobody has joined: overlay, credit and what the feed keeps fill up one after the other.
    while (feed.write(payload).accepted === 1);
    const acceptedBytes = (): number => feed.accepted * payload.length;
    await vi.waitFor(() => {
      expect(intake.status().sources[0]?.queuedBytes).toBeGreaterThan(900_000);
      expect(acceptedBytes()).toBeGreaterThan(3 << 19);
    }, 60_000);
    const keptBytes = feed.status().keptBytes;
    expect(keptBytes).toBeGreaterThan(3 << 20);
    expect(keptBytes).toBeLessThanOrEqual(4 << 20);
    expect(acceptedBytes()).toBeLessThan(5 << 19);
    expect(feed.held).toBe(0);
    expect(feed.write(payload).accepted).toBe(0);
    void receive();
    await feed.writable();
    await feed.push(payload);
    await feed.whenHeld();
    expect(feed.status().keptBytes).toBe(0);
  }, 120_000);

  it("says why it can not be: address, reach, an id that is taken, a session that is over", async () => {
    const { source, tcp } = await scene();
    const to = `${tcp.host}:${tcp.port}`;
    await expect(createFeed({ to: "nowhere", sourceId: "a" })).rejects.toMatchObject({
      code: "USAGE",
    });
    await expect(createFeed({ to: "192.0.2.1:7950", sourceId: "a" })).rejects.toMatchObject({
      code: "PLAINTEXT_REFUSED",
    });
    await expect(createFeed({ to, sourceId: "" })).rejects.toMatchObject({ code: "USAGE" });
    await expect(
      createFeed({ to: "127.0.0.1:1", sourceId: "a", retryMs: 50 }),
    ).rejects.toMatchObject({ code: "UNREACHABLE" });
    const feed = await feedTo(tcp, "a");
    await expect(createFeed({ to, sourceId: "a" })).rejects.toMatchObject({
      code: "SOURCE_REGISTERED",
    });
    const aborted = new AbortController();
    const waiting = createFeed({ to: "127.0.0.1:1", sourceId: "a", signal: aborted.signal });
    aborted.abort();
    await expect(waiting).rejects.toMatchObject({ name: "AbortError" });
    const failed = new Promise<string>((resolve) => {
      feed.on("failed", ({ code }) => resolve(code));
    });
    await source.close();
    expect(await failed).toBe("SESSION_LOST");
    await expect(feed.push(text("x"))).rejects.toBeInstanceOf(OperationError);
  });
});
