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
