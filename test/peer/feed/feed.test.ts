/** Data source and source peer against each other: seeded losses of links and processes. */

import { describe, expect, it } from "vitest";
import { decodeFrame } from "../../../src/protocol/r10.ts";
import { REGISTER } from "../../../src/protocol/r11.ts";
import { R11 } from "../../support/raw-data-source.ts";
import { digestOf, Producer, payloadOf, SourcePeer, World } from "./world.ts";

const overlayOf = (n: number): string => n.toString(16).padStart(32, "0");

/** What consumers of all sessions have of a source, by sequence number; fails on a contradiction. */
function merged(sessions: readonly SourcePeer[], sourceId: string): Map<number, string> {
  const all = new Map<number, string>();
  for (const session of sessions) {
    const taken = session.taken.get(sourceId) ?? [];
    // What a killed source peer had not brought to its peers may be lost with it.
    const kept = session.isAlive ? taken.length : (session.held.get(sourceId) ?? 0);
    taken.forEach(({ sequence, digest }, i) => {
      // Within a session: in order, without a hole, each once.
      if (i > 0 && sequence !== (taken[i - 1]?.sequence ?? 0) + 1) {
        throw new Error(`${sequence} follows ${taken[i - 1]?.sequence}`);
      }
      if (i >= kept) return;
      const before = all.get(sequence);
      if (before !== undefined && digest !== before) throw new Error(`two data ${sequence}`);
      all.set(sequence, digest);
    });
  }
  return all;
}

function expectAll(
  sessions: readonly SourcePeer[],
  sourceId: string,
  count: number,
  payload: (n: number) => Uint8Array,
): void {
  const all = merged(sessions, sourceId);
  expect(all.size).toBe(count);
  const wrong: number[] = [];
  for (let n = 1; n <= count; n++) if (all.get(n) !== digestOf(payload(n))) wrong.push(n);
  expect(wrong).toEqual([]);
}

describe("data sources on links of their own", () => {
  it("bring everything, in order and once, however the bytes are cut", () => {
    const world = new World(1);
    const peer = new SourcePeer(world, overlayOf(1));
    const producers = ["a", "b", "c"].map(
      (id, n) => new Producer(world, id, 1_500, payloadOf(n * 1_000)),
    );
    world.run(() => producers.every((producer) => producer.isOver));
    producers.forEach((producer, n) => {
      expect(producer.failure()).toBeUndefined();
      expect(producer.position).toMatchObject({ accepted: 1_500, held: 1_500, keptBytes: 0 });
      expectAll([peer], producer.sourceId, 1_500, payloadOf(n * 1_000));
    });
    expect(peer.counters.duplicateData).toBe(0);
    expect(world.arena.freeSlots).toBeGreaterThan(0);
  });

  it("lose and repeat nothing over links that break again and again", () => {
    let cuts = 0;
    for (let seed = 1; seed <= 12; seed++) {
      const world = new World(seed);
      const peer = new SourcePeer(world, overlayOf(1));
      const producers = ["a", "b"].map((id, n) => new Producer(world, id, 600, payloadOf(n)));
      const cut = (): void => {
        const ends = [...peer.ends.values()];
        const end = ends[world.rng.below(Math.max(1, ends.length))];
        if (end !== undefined) {
          world.cut(end);
          cuts++;
        }
        world.after(world.rng.next() * 120, cut);
      };
      world.after(20, cut);
      world.run(() => producers.every((producer) => producer.isOver));
      producers.forEach((producer, n) => {
        expect(producer.failure()).toBeUndefined();
        expectAll([peer], producer.sourceId, 600, payloadOf(n));
      });
    }
    expect(cuts).toBeGreaterThan(40);
  });

  it("lose and repeat nothing when a data source is killed and starts over", () => {
    let kills = 0;
    for (let seed = 1; seed <= 10; seed++) {
      const world = new World(seed);
      const peer = new SourcePeer(world, overlayOf(1));
      const payload = payloadOf(seed);
      let producer = new Producer(world, "a", 2_000, payload);
      while (!producer.isOver && kills < 1_000) {
        world.advance(world.rng.next() * 80);
        if (producer.isOver) break;
        producer.kill();
        kills++;
        producer = new Producer(world, "a", 2_000, payload);
      }
      expect(producer.failure()).toBeUndefined();
      expectAll([peer], "a", 2_000, payload);
    }
    expect(kills).toBeGreaterThan(40);
  });

  it("lose nothing when the source peer is killed and starts over with another overlay", () => {
    let again = 0;
    let duplicates = 0;
    for (let seed = 1; seed <= 12; seed++) {
      const world = new World(seed);
      const sessions = [new SourcePeer(world, overlayOf(1))];
      const producers = ["a", "b"].map((id, n) => new Producer(world, id, 1_200, payloadOf(n)));
      for (let i = 2; i <= 4; i++) {
        world.advance(30 + world.rng.next() * 100);
        if (producers.every((producer) => producer.isOver)) break;
        sessions.at(-1)?.kill();
        world.advance(world.rng.next() * 300);
        sessions.push(new SourcePeer(world, overlayOf(i)));
      }
      world.run(() => producers.every((producer) => producer.isOver));
      producers.forEach((producer, n) => {
        expect(producer.failure()).toBeUndefined();
        // A source that had ended before the kill does not come again.
        expectAll(sessions, producer.sourceId, 1_200, payloadOf(n));
        duplicates += sessions.reduce((sum, { counters }) => sum + counters.duplicateData, 0);
        again += producer.events.filter((e) => e.kind === "registered" && e.newSession).length;
      });
    }
    expect(again).toBeGreaterThan(15);
    expect(duplicates).toBeGreaterThan(0);
  });

  describe("started again before what they sent was held, then their source peer, too", () => {
    function lost(passesLost: boolean) {
      const world = new World(24);
      const before = new SourcePeer(world, overlayOf(1));
      const first = new Producer(world, "a", 20, payloadOf(1), { ends: false });
      world.run(() => first.position.held === 20);
      before.roomData = 0;
      first.command({
        kind: "write",
        payloads: new Uint8Array(5),
        lengths: new Uint32Array(5).fill(1),
        timestampUs: undefined,
        accepted: 0,
      });
      world.run(() => first.position.accepted === 25);
      first.kill();
      const second = new Producer(world, "a", 40, payloadOf(1), { held: 20, passesLost });
      world.run(() => second.position.accepted === 40);
      before.kill();
      const after = new SourcePeer(world, overlayOf(2));
      world.run(() => second.isOver);
      return { second, after };
    }

    it("go on with their own data and say what is lost, when nobody can make that again", () => {
      const { second, after } = lost(true);
      expect(second.failure()).toBeUndefined();
      expect(second.events.filter(({ kind }) => kind === "lost")).toEqual([
        { kind: "lost", from: 21, to: 25 },
      ]);
      expect(after.taken.get("a")?.map(({ sequence }) => sequence)).toEqual(
        Array.from({ length: 15 }, (_, i) => 26 + i),
      );
    });

    it("fail when a further run can make it again", () => {
      const { second } = lost(false);
      expect(second.failure()).toBe("SEQUENCE_SKIPPED");
      expect(second.events.some(({ kind }) => kind === "lost")).toBe(false);
    });
  });

  it("keep no more than they were told to, and grow the source peer's memory no further", () => {
    const world = new World(7);
    const peer = new SourcePeer(world, overlayOf(1));
    peer.roomData = 0;
    const payload = (n: number): Uint8Array => new Uint8Array(1_000).fill(n);
    const producer = new Producer(world, "a", 20_000, payload, { keepBytes: 3_000_000 });
    world.advance(5_000);
    const [report] = peer.reports();
    // One credit's worth waits there, the rest waits here.
    expect(report?.queuedBytes).toBeGreaterThan(900_000);
    expect(report?.queuedBytes).toBeLessThanOrEqual(1 << 20);
    expect(producer.position.keptBytes).toBeGreaterThan(2_900_000);
    expect(producer.position.keptBytes).toBeLessThan(3_200_000);
    expect(producer.position.held).toBe(0);
    peer.roomData = 500;
    peer.command({ kind: "writable" });
    world.run(() => producer.isOver, 600_000);
    expectAll([peer], "a", 20_000, payload);
  });

  it("a datum of 16 MiB and one of 0 bytes pass, also over a link that breaks amid it", () => {
    const world = new World(3);
    const peer = new SourcePeer(world, overlayOf(1));
    const big = new Uint8Array(16 << 20).map((_, i) => (i * 31) >>> 8);
    const payload = (n: number): Uint8Array => (n === 2 ? big : new Uint8Array(0));
    const producer = new Producer(world, "a", 3, payload, { keepBytes: 64 << 20 });
    for (let i = 0; i < 3; i++) {
      world.advance(40);
      const end = [...peer.ends.values()][0];
      if (end !== undefined) world.cut(end);
    }
    world.run(() => producer.isOver, 600_000);
    expectAll([peer], "a", 3, payload);
  });

  it("give up after retryMs, and say why", () => {
    const world = new World(4);
    const producer = new Producer(world, "a", 3, payloadOf(1), { retryMs: 2_000 });
    world.run(() => producer.isOver, 10_000);
    expect(producer.failure()).toBe("UNREACHABLE");
    expect(world.nowMs).toBeGreaterThanOrEqual(3_000);
    expect(world.nowMs).toBeLessThan(9_000);
  });

  it("hear that the session ended: all taken is the end, something left is a failure", () => {
    const world = new World(5);
    const peer = new SourcePeer(world, overlayOf(1));
    const done = new Producer(world, "done", 10, payloadOf(1), { ends: false });
    world.run(() => done.position.held === 10);
    peer.roomData = 0;
    peer.command({ kind: "stop" });
    const late = new Producer(world, "late", 10, payloadOf(1));
    world.run(() => late.isOver);
    expect(late.failure()).toBe("SOURCE_ENDED");
    peer.command({ kind: "finish", failure: undefined });
    world.run(() => done.isOver);
    expect(done.events.at(-1)).toEqual({ kind: "ended", last: 10, scope: 1 });

    const other = new SourcePeer(world, overlayOf(2));
    const cut = new Producer(world, "cut", 10, payloadOf(1), { ends: false });
    world.run(() => cut.position.held === 10);
    other.command({ kind: "stop" });
    cut.command({
      kind: "write",
      payloads: Uint8Array.of(1, 2),
      lengths: Uint32Array.of(1, 1),
      timestampUs: undefined,
      accepted: 0,
    });
    other.command({ kind: "finish", failure: undefined });
    world.run(() => cut.isOver);
    expect(cut.events.at(-1)).toMatchObject({ kind: "failed", code: "SESSION_LOST" });
  });

  describe("that have ended, started again", () => {
    /** A run with 10 data ends, then comes one with `data` of the same id. */
    function another(seed: number, data: number): Producer {
      const world = new World(seed);
      const peer = new SourcePeer(world, overlayOf(1));
      const first = new Producer(world, "a", 10, payloadOf(1));
      world.run(() => first.isOver);
      const second = new Producer(world, "a", data, payloadOf(1));
      world.run(() => second.isOver);
      expectAll([peer], "a", 10, payloadOf(1));
      return second;
    }

    it("with more are refused it, and hear why", () => {
      expect(another(10, 20).events.at(-1)).toMatchObject({
        kind: "failed",
        code: "SOURCE_ENDED",
        detail: expect.stringContaining("with datum 10:"),
      });
    });

    it("with the same data are done", () => {
      expect(another(12, 10).failure()).toBeUndefined();
    });
  });

  it("that were killed before their end was answered end when they are started again", () => {
    const world = new World(11);
    const peer = new SourcePeer(world, overlayOf(1));
    const first = new Producer(world, "a", 10, payloadOf(1));
    world.run(() => peer.events.some(({ kind }) => kind === "terminate"));
    first.kill();
    const second = new Producer(world, "a", 10, payloadOf(1));
    world.run(() => second.isOver);
    expect(second.failure()).toBeUndefined();
    expectAll([peer], "a", 10, payloadOf(1));
  });
});

describe("two links for one data source", () => {
  it("a stranger is refused while the first answers", () => {
    const world = new World(6);
    const peer = new SourcePeer(world, overlayOf(1));
    const first = new Producer(world, "a", 10, payloadOf(1), { ends: false });
    world.run(() => first.position.held === 10);
    const second = new Producer(world, "a", 10, payloadOf(1));
    world.run(() => second.isOver);
    expect(second.failure()).toBe("SOURCE_REGISTERED");
    expect(first.isOver).toBe(false);
    expect(peer.reports()[0]?.linked).toBe(true);
  });

  it("a stranger is let in within seconds when the first does not answer any more", () => {
    const world = new World(6);
    const peer = new SourcePeer(world, overlayOf(1));
    const first = new Producer(world, "a", 10, payloadOf(1), { ends: false });
    world.run(() => first.position.held === 10);
    // Its machine stands still; the link is up.
    first.isAlive = false;
    first.deadlineMs = Number.POSITIVE_INFINITY;
    const second = new Producer(world, "a", 20, payloadOf(1));
    world.run(() => second.isOver, 5_000);
    expect(second.failure()).toBeUndefined();
    expectAll([peer], "a", 20, payloadOf(1));
  });

  it("a run whose place another took is refused when it comes back: the numbers are no more its own", () => {
    const world = new World(23);
    const peer = new SourcePeer(world, overlayOf(1));
    const first = new Producer(world, "a", 10, payloadOf(1), { ends: false });
    world.run(() => first.position.held === 10);
    const [link] = [...first.ends.values()];
    if (link === undefined) throw new Error("no link");
    // It goes on writing; the link that is cut takes that with it.
    first.command({
      kind: "write",
      payloads: new Uint8Array(3),
      lengths: Uint32Array.of(1, 1, 1),
      timestampUs: undefined,
      accepted: 0,
    });
    world.cut(link);
    const second = new Producer(world, "a", 12, payloadOf(2), { ends: false });
    world.run(() => second.position.held === 12);
    second.kill();
    world.run(() => first.isOver, 20_000);
    expect(first.failure()).toBe("SOURCE_REGISTERED");
    expect(first.position.held).toBe(10);
    expect(peer.reports()[0]).toMatchObject({ accepted: 12 });
    // A further one is none of those.
    const third = new Producer(world, "a", 15, payloadOf(2));
    world.run(() => third.isOver);
    expect(third.failure()).toBeUndefined();
  });

  it("of another run that numbers alike have other links, and the same numbering", () => {
    const world = new World(22);
    world.recordsFrames = true;
    const peer = new SourcePeer(world, overlayOf(1));
    const options = { ends: false, numbering: 0xfedc_ba98 };
    const instances: Buffer[] = [];
    for (let run = 0; run < 2; run++) {
      const producer = new Producer(world, "a", 10, payloadOf(0), options);
      world.run(() => producer.position.held === 10);
      const register = world.frames.find(
        ({ from, bytes }) => from === producer && bytes[6] === R11.REGISTER,
      );
      const bytes = register?.bytes as Uint8Array;
      const { instance } = decodeFrame(REGISTER, bytes, 0, bytes.length);
      instances.push(Buffer.from(instance));
      producer.kill();
    }
    const [first, second] = instances as [Buffer, Buffer];
    expect(first.readUInt32BE(0)).toBe(0xfedc_ba98);
    expect(second.readUInt32BE(0)).toBe(0xfedc_ba98);
    expect(first.equals(second)).toBe(false);
    expect(peer.events.filter(({ kind }) => kind === "otherRun")).toEqual([]);
    const other = new Producer(world, "a", 10, payloadOf(0), { ends: false });
    world.run(() => other.position.held === 10);
    expect(peer.events.filter(({ kind }) => kind === "otherRun")).toHaveLength(1);
  });

  it("an id of the source peer's own process is taken", () => {
    const world = new World(8);
    new SourcePeer(world, overlayOf(1));
    const producer = new Producer(world, "local", 1, payloadOf(1));
    world.run(() => producer.isOver);
    expect(producer.failure()).toBe("SOURCE_REGISTERED");
  });

  it("what the servers refuse is told, and the id is free again", () => {
    const world = new World(9);
    const peer = new SourcePeer(world, overlayOf(1));
    peer.refusal = "NOT_OWNER";
    const refused = new Producer(world, "a", 1, payloadOf(1));
    world.run(() => refused.isOver);
    expect(refused.failure()).toBe("NOT_OWNER");
    peer.refusal = undefined;
    const producer = new Producer(world, "a", 5, payloadOf(1));
    world.run(() => producer.isOver);
    expect(producer.failure()).toBeUndefined();
  });
});
