/** What peers tell the PAMS and when (R2), against the real servers and by itself. */

import { describe, expect, it } from "vitest";
import type { PeerEvent } from "../../src/peer/commands.ts";
import { ActivityReporter, type ReporterHost } from "../../src/peer/session/activity-reporter.ts";
import { PAMS_CHALLENGE, REGISTER_PEER, REPORT, STATUS_FIELDS } from "../../src/protocol/r2.ts";
import { type MsgpackValue, readMsgpack } from "../support/msgpack-reader.ts";
import { Feed, type Node, World } from "./harness.ts";
import { IXS, OMS, PAMS, type Servers, startServers } from "./server-node.ts";

const FIELDS = Object.keys(STATUS_FIELDS);
const node = { windowFragments: 256, windowBytes: 256 * 1024, repairMs: 2_000 };

interface Scene {
  readonly world: World;
  readonly servers: Servers;
  readonly source: Node;
}

function scene(reportIntervalMs = 1_000): Scene {
  const world = new World();
  const servers = startServers(world, { reportIntervalMs });
  const source = world.node();
  source.command({ kind: "setListen", addresses: [source.address] });
  source.command({
    kind: "createSession",
    sessionId: 1,
    oms: OMS,
    ixs: IXS,
    title: "weather",
    dataSources: [{ sourceId: "s", dataId: "default", contentType: "", description: "" }],
    fragmentBytes: 4096,
    integrity: "checksum",
    delivery: "complete",
    substreams: 8,
    maxLagMs: 1_000,
    waitPeers: 1,
    node,
  });
  world.run(() => source.has("sessionOpen"));
  source.overlayId = source.eventsOf("sessionOpen")[0]?.overlayId ?? "";
  source.register("s");
  return { world, servers, source };
}

function join({ world }: Scene, takes = true): Node {
  const peer = world.node();
  peer.command({ kind: "setListen", addresses: [peer.address] });
  peer.command({
    kind: "joinSession",
    sessionId: 1,
    ixs: IXS,
    title: "weather",
    dataSourceId: "",
    dataId: "",
    from: "oldest",
    waitMs: 60_000,
    node,
  });
  peer.onEvent = (event) => {
    if (event.kind !== "sessionOpen") return;
    peer.overlayId = event.overlayId;
    if (takes) peer.take();
  };
  world.run(() => peer.has("started"), 10_000);
  return peer;
}

interface Told {
  readonly atMs: number;
  readonly fields: Readonly<Record<string, MsgpackValue>>;
}

/** Reports of a peer, by independent code. */
function reports({ world, servers }: Scene, from: Node): Told[] {
  return world.messages.log
    .filter((message) => message.from === from && message.to === servers.pams)
    .map(({ atMs, bytes }) => ({ atMs, message: readMsgpack(bytes) as MsgpackValue[] }))
    .filter(({ message }) => message[0] === 0x21)
    .map(({ atMs, message }) => ({
      atMs,
      fields: Object.fromEntries(FIELDS.map((name, i) => [name, message[i + 2] ?? null])),
    }));
}

const reasons = (told: readonly Told[]): string[] =>
  told
    .map(({ fields }) => (fields.cause === 0 ? `event ${fields.event}` : `cause ${fields.cause}`))
    .filter((reason) => reason !== "event 0");

describe("a peer's reports", () => {
  it("P0.3, R2.c: tell what it holds and misses, whom it took it of, what it gave, how it keeps up", () => {
    const here = scene();
    const peers = [join(here), join(here)];
    const feed = new Feed(here.source, 300, () => 1_000, { ends: false });
    here.world.run(
      () => feed.isWritten && peers.every((peer) => peer.taken.length === 300),
      60_000,
    );
    here.world.advance(2_500);
    const latest = (from: Node) => reports(here, from).at(-1)?.fields ?? {};
    const [mine, other] = peers.map(latest);
    expect(mine).toMatchObject({ missing: 0, lagMs: 0, lost: 0 });
    const { start, haveEnd, known, fragmentsHeld } = mine as Record<string, number>;
    expect(haveEnd).toBe(known);
    expect((start as number) + (fragmentsHeld as number)).toBe(known);
    const took = (of: typeof mine): number =>
      Number(of?.bytesFromSource) + Number(of?.bytesFromPeers);
    expect(took(mine)).toBeGreaterThan(300_000);
    expect(Number(mine?.bytesToPeers) + Number(other?.bytesToPeers)).toBe(
      Number(mine?.bytesFromPeers) + Number(other?.bytesFromPeers),
    );
    const neighbours = mine?.neighbours as MsgpackValue[][];
    expect(neighbours).toHaveLength(2);
    const bytes = neighbours.reduce((sum, row) => sum + Number(row[1]), 0);
    expect(bytes).toBe(took(mine));
    const source = latest(here.source);
    expect(source).toMatchObject({ bytesFromSource: 0, bytesFromPeers: 0, known });
    expect(Number(source.bytesToPeers)).toBeGreaterThan(300_000);
  });

  it("R2.c: on events too: started, lagging, caught up, lost its source, completed", () => {
    const here = scene(30_000);
    const { world, source } = here;
    const peer = join(here, false);
    new Feed(source, 40, () => 1_000, { ends: false });
    world.advance(4_000);
    expect(reasons(reports(here, peer))).toEqual(["event 1", "event 4"]);
    expect(reports(here, peer).at(-1)?.fields.lagMs).toBeGreaterThan(1_000);
    peer.take();
    world.advance(2_000);
    expect(reasons(reports(here, peer))).toEqual(["event 1", "event 4", "cause 8"]);
    source.command({ kind: "endSession", overlayId: source.overlayId });
    world.run(() => peer.has("ended"), 10_000);
    world.advance(1_500);
    expect(reasons(reports(here, peer)).at(-1)).toBe("event 2");

    const there = scene(30_000);
    const orphan = join(there);
    there.world.advance(2_000);
    there.source.crash();
    there.world.run(
      () => orphan.eventsOf("neighbour").some(({ state }) => state === "down"),
      60_000,
    );
    there.world.advance(1_100);
    expect(reasons(reports(there, orphan))).toEqual(["event 1", "cause 7"]);
  });

  it("who is held back by one that lags does not lag itself", () => {
    const here = scene(30_000);
    const stuck = join(here, false);
    const other = join(here);
    new Feed(here.source, 2_000, () => 1_000, { ends: false });
    here.world.advance(8_000);
    expect(other.overlay.heldBackBy?.peerId).toBe(stuck.keys.peerId);
    expect(reasons(reports(here, stuck))).toEqual(["event 1", "event 4"]);
    expect(reasons(reports(here, other))).toEqual(["event 1"]);
  });

  it("R2.c: tell how many fragments were lost, each of them", () => {
    const here = scene(30_000);
    const { world, source } = here;
    const peer = join(here);
    const feed = new Feed(source, 10, () => 3_500, { ends: false });
    world.run(() => feed.isWritten && peer.overlay.consumer?.consumedTo === 10);
    for (const [to, lost] of [
      [11, 1],
      [15, 5],
    ] as const) {
      peer.overlay.consumer?.assembler.skipTo(to);
      world.advance(1_500);
      expect(reports(here, peer).at(-1)?.fields).toMatchObject({ cause: 6, lost });
    }
    const gaps = peer.eventsOf("gap").map(({ gap }) => gap);
    expect(gaps).toEqual([
      { kind: "fragments", from: 10, to: 10 },
      { kind: "fragments", from: 11, to: 14 },
    ]);
  });

  it("R2.c (negative): without an event nothing comes before the interval is over", () => {
    const here = scene(30_000);
    const peer = join(here);
    new Feed(here.source, 200, () => 1_000, { ends: false });
    here.world.advance(26_000);
    expect(reasons(reports(here, peer))).toEqual(["event 1"]);
    expect(reports(here, peer)).toHaveLength(1);
  });

  it("R2.e: a peer tells its status when the PAMS asks, at any time", () => {
    const here = scene(30_000);
    const { servers, world, source } = here;
    const peer = join(here);
    new Feed(source, 50, () => 1_000, { ends: false });
    world.advance(3_000);
    const { peerId } = peer.keys;
    servers.pams.command({ type: "ask", token: 3, overlayId: peer.overlayId, peerId });
    world.advance(100);
    const answers = world.messages.log
      .filter((message) => message.from === peer && message.to === servers.pams)
      .map(({ bytes }) => readMsgpack(bytes) as MsgpackValue[])
      .filter((message) => message[0] === (0x23 | 0x80));
    expect(answers).toHaveLength(1);
    const fields = Object.fromEntries(FIELDS.map((name, i) => [name, answers[0]?.[i + 2]]));
    expect(fields).toMatchObject({ event: 5, missing: 0, haveEnd: fields.known });
    expect(Buffer.from(fields.peerId as Uint8Array).toString("hex")).toBe(peerId);
    expect(Number(fields.rateBytesPerSecond)).toBeGreaterThan(0);
    expect(servers.pams.events.at(-1)).toMatchObject({ type: "status", token: 3 });
  });

  it("R2.e (negative): of another peer or overlay it tells nothing", () => {
    const here = scene(30_000);
    const { servers, world } = here;
    const peer = join(here);
    peer.command({ kind: "leaveSession", sessionId: 1 });
    world.run(() => peer.has("sessionClosed"), 10_000);
    const { peerId } = peer.keys;
    servers.pams.command({ type: "ask", token: 3, overlayId: peer.overlayId, peerId });
    world.advance(6_000);
    expect(servers.pams.events.at(-1)).toEqual({ type: "status", token: 3, status: undefined });
  });

  it("are told to a PAMS that was started anew, with how the peer stands", () => {
    const here = scene();
    const { world, servers, source } = here;
    const peer = join(here, false);
    new Feed(source, 40, () => 1_000, { ends: false });
    world.run(() => reasons(reports(here, peer)).includes("event 4"), 20_000);
    servers.pams.kill();
    world.advance(500);
    const before = reports(here, peer).length;
    servers.pams.start();
    world.run(() => reports(here, peer).length > before + 2, 40_000);
    expect(reasons(reports(here, peer).slice(before))).toEqual(["event 4"]);
  });
});

describe("a reporter by itself", () => {
  /** A reporter over the overlay of a real peer, whose requests are only noted. */
  function alone(challenge: "answers" | "MESSAGE_UNKNOWN" = "answers") {
    const here = scene();
    const peer = join(here);
    const asked: { readonly name: string; readonly bytes: number; readonly request: unknown }[] =
      [];
    const timers = new Map<string, { readonly atMs: number; readonly run: () => void }>();
    const nowMs = (): number => peer.machine.context.now.monoMs;
    let shiftMs = 0;
    const host: ReporterHost = {
      context: {
        ...peer.machine.context,
        get now() {
          return { monoMs: nowMs() + shiftMs, wallUs: 0 };
        },
      } as ReporterHost["context"],
      overlay: () => peer.overlay,
      after: (name, delayMs, run) => timers.set(name, { atMs: nowMs() + shiftMs + delayMs, run }),
      cancel: (name) => timers.delete(name),
      backoffMs: () => 1_000,
      sign: (_, done) => done(new Uint8Array(64)),
      ask: (_, operation, request, done, failed) => {
        const bytes = operation.request.encode(request).length;
        asked.push({ name: operation.name, bytes, request });
        const answers: Record<string, unknown> = {
          [PAMS_CHALLENGE.name]: { nonce: new Uint8Array(32) },
          [REGISTER_PEER.name]: { reportIntervalMs: 60_000, peerToken: new Uint8Array(16) },
        };
        if (operation.name === PAMS_CHALLENGE.name && challenge !== "answers") {
          failed({ code: challenge, detail: "", retryAfterMs: 0 });
        } else done((answers[operation.name] ?? {}) as never);
      },
    };
    const reporter = new ActivityReporter(host, PAMS, peer.overlayId, 1);
    const advance = (ms: number): void => {
      const endMs = shiftMs + ms;
      while (shiftMs < endMs) {
        shiftMs = Math.min(endMs, shiftMs + 10);
        for (const [name, timer] of [...timers]) {
          if (timer.atMs > nowMs() + shiftMs) continue;
          timers.delete(name);
          timer.run();
        }
      }
    };
    const told = () => asked.filter(({ name }) => name === REPORT.name);
    return { reporter, asked, told, advance };
  }

  const gap: PeerEvent = {
    kind: "gap",
    overlayId: "",
    gap: { kind: "fragments", from: 10, to: 13 },
  };

  it("tells events at most once a second, of several the weightiest, and loses no count", () => {
    const { reporter, told, advance } = alone();
    reporter.start();
    expect(told()).toHaveLength(1);
    for (let i = 0; i < 500; i++) {
      reporter.observe(gap, "");
      advance(10);
    }
    const during = told().slice(1);
    expect(during.length).toBeGreaterThanOrEqual(5);
    expect(during.length).toBeLessThanOrEqual(6);
    advance(1_000);
    expect(told().at(-1)?.request).toMatchObject({ cause: 6, lost: 2_000 });
    reporter.observe(gap, "");
    reporter.observe(gap, "");
    reporter.observe({ kind: "ended", overlayId: "" }, "");
    advance(1_000);
    expect(told().at(-1)?.request).toMatchObject({ event: 2, cause: 0, lost: 2_008 });
  });

  it("registers with a PAMS of before the proof as that knows it", () => {
    const { reporter, asked } = alone("MESSAGE_UNKNOWN");
    reporter.start();
    expect(asked.map(({ name }) => name)).toEqual([
      "r2/challenge",
      "r2/register-peer",
      "r2/report",
    ]);
    expect(asked[1]?.request).not.toHaveProperty("signature");
  });

  it("a report has less than 1 KiB, whatever its figures", () => {
    const big = Number.MAX_SAFE_INTEGER;
    const id = "ab".repeat(32);
    const value = Object.fromEntries(FIELDS.map((name) => [name, big]));
    const bytes = REPORT.request.encode({
      ...(value as unknown as Parameters<typeof REPORT.request.encode>[0]),
      overlayId: "0f".repeat(16),
      peerId: id,
      event: 0,
      missing: 0xffff_ffff,
      fragmentsHeld: 0xffff_ffff,
      links: 0xffff,
      cause: 6,
      neighbours: new Array(12).fill({ peerId: id, bytesFrom: big, bytesTo: big }),
      peerToken: new Uint8Array(16),
    });
    expect(bytes.length).toBeLessThan(1_024);
  });
});
