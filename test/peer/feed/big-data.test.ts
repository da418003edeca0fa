/** Data in pieces: what the source peer waits for, for how long, and at whose cost. */

import { describe, expect, it } from "vitest";
import { datumFrame, frameOf, R11 } from "../../support/raw-data-source.ts";
import { acceptor } from "./driven.ts";
import { Producer, SourcePeer, World } from "./world.ts";

const OVERLAY = "0".repeat(32);

describe("a datum in pieces", () => {
  it("waits for credit as long as the overlay takes nothing, and is sent once", () => {
    const world = new World(5);
    const peer = new SourcePeer(world, OVERLAY);
    peer.roomData = 0;
    const payload = (n: number): Uint8Array => new Uint8Array(2_000_000).fill(n);
    const producer = new Producer(world, "big", 6, payload, { keepBytes: 40_000_000 });
    world.advance(600_000);
    expect(producer.events.filter(({ kind }) => kind === "linkLost")).toEqual([]);
    expect(producer.position).toMatchObject({ accepted: 1 });
    peer.roomData = 200;
    peer.command({ kind: "writable" });
    world.run(() => producer.isOver);
    expect(producer.failure()).toBeUndefined();
    expect(producer.position).toMatchObject({ accepted: 6, held: 6 });
    expect(peer.counters.duplicateData).toBe(0);
    expect(peer.events.filter(({ kind }) => kind === "sourceLink")).toHaveLength(1);
  });

  it("has 30 s for its next piece from when that was granted", () => {
    const piece = (n: number, offset: number): Buffer =>
      datumFrame(n, [{ payload: Buffer.alloc(200_000) }], { total: 2_000_000, offset });
    const pong = frameOf(R11.PONG, Buffer.alloc(8));
    let room = 0;
    const { driven } = acceptor(() => room);
    driven.admitted(2, "big");
    for (let i = 0; i < 10; i++) driven.frames(2, piece(1, i * 200_000));
    // The first waits for the overlay, the second for the first: of 1 MiB there is little left.
    for (let i = 0; i < 5; i++) driven.frames(2, piece(2, i * 200_000));
    const waits = (ms: number): void => {
      for (const endMs = driven.nowMs + ms; driven.nowMs < endMs; driven.wait(5_000)) {
        driven.frames(2, pong);
      }
    };
    waits(100_000);
    expect(driven.isClosed(2)).toBe(false);
    room = 1;
    driven.input({ kind: "command", command: { kind: "writable" } });
    waits(25_000);
    expect(driven.isClosed(2)).toBe(false);
    driven.frames(2, piece(2, 1_000_000));
    waits(25_000);
    expect(driven.isClosed(2)).toBe(false);
    waits(10_000);
    expect(driven.isClosed(2)).toBe(true);
  });
});

const MIB = 2 ** 20;
const PONG = frameOf(R11.PONG, Buffer.alloc(8));

/** Data sources before an accepting side whose overlay takes everything. */
class Sources {
  readonly #accepting = acceptor(() => 100);
  readonly driven = this.#accepting.driven;
  /** Bytes that each has sent of its datum under way. */
  readonly #sent = new Map<number, number>();
  #links = 0;

  get counters(): { readonly stuckData: number } {
    return this.#accepting.machine.counters;
  }

  came(): number {
    const linkId = 2 * ++this.#links;
    this.driven.admitted(linkId, `source ${linkId}`);
    return linkId;
  }

  /** The next part of a link's first datum of `total` bytes. */
  sends(linkId: number, total: number, bytes: number): void {
    for (let left = bytes; left > 0; ) {
      const offset = this.#sent.get(linkId) ?? 0;
      const payload = Buffer.alloc(Math.min(left, 65_536));
      left -= payload.length;
      this.#sent.set(linkId, offset + payload.length);
      this.driven.frames(linkId, datumFrame(1, [{ payload }], { total, offset }));
    }
  }

  /** Seconds go by in which everybody answers PING. */
  wait(seconds: number, eachSecond: (second: number) => void = () => undefined): void {
    for (let second = 0; second < seconds; second++) {
      for (let i = 1; i <= this.#links; i++) this.driven.frames(2 * i, PONG);
      eachSecond(second);
      this.driven.wait(1_000);
    }
  }

  /** How many data came whole of a link. */
  accepted(linkId: number): number | undefined {
    const reports = this.#accepting.machine.reports();
    return reports.find(({ sourceId }) => sourceId === `source ${linkId}`)?.accepted;
  }

  queuedBytes(linkId: number): number | undefined {
    const reports = this.#accepting.machine.reports();
    return reports.find(({ sourceId }) => sourceId === `source ${linkId}`)?.queuedBytes;
  }

  isClosed(linkId: number): boolean {
    return this.driven.isClosed(linkId);
  }
}

describe("memory for data in pieces", () => {
  it("is taken by what has come: who drips keeps it from nobody", () => {
    const sources = new Sources();
    const slow = Array.from({ length: 20 }, () => sources.came());
    for (const linkId of slow) sources.sends(linkId, 16 * MIB, 1);
    const honest = sources.came();
    sources.sends(honest, 16 * MIB, 16 * MIB);
    expect([sources.accepted(honest), sources.queuedBytes(honest)]).toEqual([1, 0]);
  });

  it("is freed of those who bring nearly nothing while others wait for it", () => {
    const sources = new Sources();
    const idle = Array.from({ length: 4 }, () => sources.came());
    for (const linkId of idle) sources.sends(linkId, 16 * MIB, 12 * MIB);
    const drip = (second: number): void => {
      if (second % 15 !== 0) return;
      for (const linkId of idle) if (!sources.isClosed(linkId)) sources.sends(linkId, 16 * MIB, 1);
    };
    // It costs nobody anything.
    sources.wait(300, drip);
    expect(idle.some((linkId) => sources.isClosed(linkId))).toBe(false);
    const honest = [sources.came(), sources.came()];
    for (const linkId of honest) sources.sends(linkId, 400_000, 400_000);
    expect(honest.map((linkId) => sources.queuedBytes(linkId))).not.toContain(0);
    sources.wait(35, drip);
    expect(idle.every((linkId) => sources.isClosed(linkId))).toBe(true);
    expect(sources.counters.stuckData).toBe(4);
    for (const linkId of honest) {
      expect([sources.isClosed(linkId), sources.queuedBytes(linkId)]).toEqual([false, 0]);
    }
  });

  it("is left to a slow line that brings an eighth of its datum in 30 s", () => {
    const sources = new Sources();
    const slow = sources.came();
    // 64 kbit/s, at first alone.
    sources.wait(75, () => sources.sends(slow, 1_000_000, 8_000));
    const fast = Array.from({ length: 3 }, () => sources.came());
    for (const linkId of fast) sources.sends(linkId, 16 * MIB, 12 * MIB);
    const waiting = sources.came();
    sources.sends(waiting, 400_000, 400_000);
    sources.wait(50, (second) => {
      sources.sends(slow, 1_000_000, 8_000);
      if (second >= 40) return;
      expect(sources.queuedBytes(waiting)).not.toBe(0);
      if (second % 5 === 4) for (const linkId of fast) sources.sends(linkId, 16 * MIB, MIB / 2);
    });
    expect(sources.accepted(slow)).toBe(1);
    expect(sources.counters.stuckData).toBe(0);
    expect(sources.queuedBytes(waiting)).toBe(0);
  });

  it("is enough for any number of data sources that begin at once", () => {
    const world = new World(7);
    const peer = new SourcePeer(world, OVERLAY);
    const payload = (n: number): Uint8Array => new Uint8Array(16 * MIB).fill(n);
    const producers = ["a", "b", "c", "d", "e"].map(
      (id) => new Producer(world, id, 1, payload, { keepBytes: 20 * MIB }),
    );
    world.run(() => producers.every((producer) => producer.isOver));
    expect(producers.map((producer) => producer.failure())).toEqual(producers.map(() => undefined));
    expect(peer.counters).toMatchObject({ stuckData: 0, duplicateData: 0 });
  });
});
