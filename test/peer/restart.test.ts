/**
 * A source peer that is killed and starts over (sessionEpoch), against the real servers: its peers
 * take what there is of the epoch before, go on in the next, and are told how far they came.
 */

import { describe, expect, it } from "vitest";
import { type MsgpackValue, readMsgpack } from "../support/msgpack-reader.ts";
import { Feed, type Node } from "./harness.ts";
import { join, joinAt, joined, scene, source, taken } from "./restart-scene.ts";

const TAKE_OVER = 0x4d;

describe("a source peer that was killed and starts over with its key", () => {
  it("takes its overlay over in the next epoch; its peers lose nothing of what there was", () => {
    const { world, servers } = scene();
    const first = source(world);
    const peers = joined(world, 4);
    const one = new Feed(first, 300, () => 900, { ends: false });
    world.run(() => peers.every((peer) => peer.taken.length === 300), 20_000);
    first.crash();
    world.advance(2_000);
    expect(peers.some((peer) => peer.has("failed"))).toBe(false);

    const again = source(world, { keys: first.keys });
    expect(again.overlayId).toBe(first.overlayId);
    expect(again.overlay.settings.sessionEpoch).toBe(2);
    world.run(() => peers.every((peer) => peer.has("sessionRestarted")), 5_000);
    const two = new Feed(again, 500, (i) => 1_100 + i, { ends: true });
    world.run(() => peers.every((peer) => peer.has("ended")), 60_000);
    for (const peer of peers) {
      expect(taken(peer)).toEqual([...one.written, ...two.written]);
      expect(peer.has("gap")).toBe(false);
      expect(peer.has("left")).toBe(false);
      expect(peer.eventsOf("sessionRestarted")).toEqual([
        {
          kind: "sessionRestarted",
          sessionId: 1,
          overlayId: first.overlayId,
          sessionEpoch: 2,
          before: {
            sessionEpoch: 1,
            fragmentsTo: expect.any(Number),
            sources: [{ sourceId: "s", last: 300, ended: false }],
          },
        },
      ]);
      expect(peer.eventsOf("started").map(({ index }) => index)).toEqual([0, 0]);
    }
    expect(servers.oms.events.filter(({ type }) => type === "overlayCreated").length).toBe(1);
  });

  it("twice in a row, and once more: each epoch is followed by the next", () => {
    const { world } = scene();
    let owner = source(world);
    const peers = joined(world, 2);
    const all: string[] = [];
    for (let epoch = 1; epoch <= 4; epoch++) {
      const feed = new Feed(owner, 40 * epoch, () => 700, { ends: epoch === 4 });
      const due = all.length + 40 * epoch;
      world.run(() => peers.every((peer) => peer.taken.length === due), 20_000);
      all.push(...feed.written);
      if (epoch === 4) break;
      owner.crash();
      world.advance(500);
      owner = source(world, { keys: owner.keys });
      expect(owner.overlay.settings.sessionEpoch).toBe(epoch + 1);
      const count = epoch;
      world.run(
        () => peers.every((peer) => peer.eventsOf("sessionRestarted").length === count),
        10_000,
      );
    }
    world.run(() => peers.every((peer) => peer.has("ended")), 20_000);
    for (const peer of peers) expect(taken(peer)).toEqual(all);
  });

  it("a data source that goes on where it was is not written twice; what is missing is said", () => {
    const { world } = scene();
    const payload = (sequence: number): Uint8Array => new Uint8Array(500 + sequence);
    const write = (owner: Node, sourceId: string, from: number, to: number): void => {
      for (let n = from; n <= to; n++) {
        expect(owner.writeTo(owner.overlayId, sourceId, [payload(n)]).accepted).toBe(1);
      }
    };
    const first = source(world).register("far").register("lost").register("new");
    const peers = joined(world, 2);
    for (const id of ["far", "lost", "new"]) write(first, id, 1, 60);
    world.run(() => peers.every((peer) => peer.taken.length === 180), 20_000);
    first.crash();
    world.advance(500);
    const again = source(world, { keys: first.keys });
    const { overlayId } = again;
    const register = { kind: "registerDataSource", overlayId, contentType: "" } as const;
    again.command({ ...register, sourceId: "far", firstSequence: 41 });
    again.command({ ...register, sourceId: "lost", firstSequence: 66 });
    again.command({ ...register, sourceId: "new" });
    world.run(() => peers.every((peer) => peer.has("sessionRestarted")), 10_000);
    write(again, "far", 41, 55);
    // One fragment holds some that came before and some that did not.
    write(again, "far", 56, 80);
    write(again, "lost", 66, 70);
    write(again, "new", 1, 5);
    again.end();
    world.run(() => peers.every((peer) => peer.has("ended")), 20_000);
    for (const peer of peers) {
      const of = (id: string): number[] =>
        peer.taken.filter(({ sourceId }) => sourceId === id).map(({ sequence }) => sequence);
      const upTo = (last: number): number[] => Array.from({ length: last }, (_, i) => i + 1);
      expect(of("far")).toEqual(upTo(80));
      expect(of("lost")).toEqual([...upTo(60), 66, 67, 68, 69, 70]);
      // It began anew with 1.
      expect(of("new")).toEqual([...upTo(60), ...upTo(5)]);
      expect(peer.eventsOf("gap").map(({ gap }) => gap)).toEqual([
        { kind: "data", sourceId: "lost", from: 61, to: 65 },
      ]);
    }
  });

  it("nor is one that begins with 1 again, when it says that it goes by the same numbers", () => {
    const { world } = scene();
    const register = (owner: Node, sourceId: string, numbering: number): void => {
      const { overlayId } = owner;
      owner.command({
        kind: "registerDataSource",
        overlayId,
        sourceId,
        contentType: "",
        numbering,
      });
    };
    const write = (owner: Node, sourceId: string, to: number): void => {
      for (let n = 1; n <= to; n++) {
        const written = owner.writeTo(owner.overlayId, sourceId, [new Uint8Array(500 + n)]);
        expect(written.accepted).toBe(1);
      }
    };
    const first = source(world);
    register(first, "same", 7);
    register(first, "other", 7);
    const peers = joined(world, 2);
    for (const id of ["same", "other"]) write(first, id, 20);
    world.run(() => peers.every((peer) => peer.taken.length === 40), 20_000);
    first.crash();
    world.advance(500);
    const again = source(world, { keys: first.keys });
    register(again, "same", 7);
    register(again, "other", 8);
    world.run(() => peers.every((peer) => peer.has("sessionRestarted")), 10_000);
    for (const id of ["same", "other"]) write(again, id, 30);
    again.end();
    world.run(() => peers.every((peer) => peer.has("ended")), 20_000);
    const upTo = (last: number): number[] => Array.from({ length: last }, (_, i) => i + 1);
    for (const peer of peers) {
      const of = (id: string): number[] =>
        peer.taken.filter(({ sourceId }) => sourceId === id).map(({ sequence }) => sequence);
      expect(of("same")).toEqual(upTo(30));
      expect(of("other")).toEqual([...upTo(20), ...upTo(30)]);
      expect(peer.eventsOf("gap")).toEqual([]);
    }
  });

  it("a peer whose consumer is behind takes all of the epoch before first", () => {
    const { world } = scene();
    const first = source(world);
    const [quick, slow] = joined(world, 2) as [Node, Node];
    slow.takes = false;
    const one = new Feed(first, 150, () => 900, { ends: false });
    world.run(() => quick.taken.length === 150 && slow.overlay.window.heldCount > 30, 20_000);
    first.crash();
    const again = source(world, { keys: first.keys });
    world.run(() => quick.has("sessionRestarted"), 5_000);
    const two = new Feed(again, 20, () => 900, { ends: false });
    world.run(() => quick.taken.length === 170, 10_000);
    expect(slow.has("sessionRestarted")).toBe(false);
    slow.takes = true;
    slow.take();
    again.end();
    world.run(() => slow.has("ended") && quick.has("ended"), 30_000);
    expect(taken(slow)).toEqual([...one.written, ...two.written]);
  });

  it("what one member alone has of the epoch before is shared before they go on", () => {
    const { world } = scene();
    const first = source(world);
    const peers = joined(world, 5);
    const one = new Feed(first, 400, () => 900, { ends: false });
    world.run(() => peers.some((peer) => peer.taken.length > 100), 20_000);
    first.crash();
    source(world, { keys: first.keys });
    world.run(() => peers.every((peer) => peer.has("sessionRestarted")), 30_000);
    // All came equally far, and what each says of it is so.
    const longest = Math.max(...peers.map((peer) => peer.taken.length));
    for (const peer of peers) {
      const { before } = peer.eventsOf("sessionRestarted")[0] ?? {};
      expect(before?.sources).toMatchObject([{ last: peer.taken.at(-1)?.sequence, ended: false }]);
      const lost = peer
        .eventsOf("gap")
        .reduce((sum, { gap }) => sum + (gap.kind === "data" ? gap.to - gap.from + 1 : 0), 0);
      expect(peer.taken.length + lost).toBe(peer.taken.at(-1)?.sequence);
      expect(peer.taken.length).toBeGreaterThan(longest - 40);
      expect(one.written).toEqual(expect.arrayContaining(taken(peer)));
    }
  });

  it("while the one of before still runs: that one has lost the session, and says so", () => {
    const { world } = scene({ refreshMs: 6_000, memberLeaseMs: 6_000 });
    const first = source(world);
    const peers = joined(world, 2);
    const one = new Feed(first, 30, () => 900, { ends: false });
    world.run(() => peers.every((peer) => peer.taken.length === 30));
    const again = source(world, { keys: first.keys });
    expect(again.overlay.settings.sessionEpoch).toBe(2);
    world.run(() => first.has("sessionFailed"), 10_000);
    expect(first.eventsOf("sessionFailed")[0]).toMatchObject({ code: "NOT_OWNER" });
    world.run(() => peers.every((peer) => peer.has("sessionRestarted")), 10_000);
    const two = new Feed(again, 30, () => 800);
    world.run(() => peers.every((peer) => peer.has("ended")), 20_000);
    for (const peer of peers) expect(taken(peer)).toEqual([...one.written, ...two.written]);
    // Its end took nothing of the new one's from the servers.
    const late = world.messages.log.filter(({ from }) => from === first);
    const types = late.map(({ bytes }) => (readMsgpack(bytes) as MsgpackValue[])[0]);
    expect(types).not.toContain(0x43);
    expect(types).not.toContain(0x52);
  });

  it("where nobody tells the way to the next one, who reads hears of the failure before the end", () => {
    const { world, servers } = scene();
    const first = source(world);
    const [peer] = joined(world, 1) as [Node];
    const one = new Feed(first, 50, () => 500, { ends: false });
    world.run(() => peer.taken.length === one.written.length);
    first.crash();
    world.advance(1_000);
    source(world, { keys: first.keys });
    const isStartedOver = (text: string) => /started over/.test(text);
    world.run(() => peer.eventsOf("sessionNote").some(({ text }) => isStartedOver(text)), 20_000);
    servers.oms.kill();
    world.run(() => peer.has("sessionClosed"), 300_000);
    const told = ["sessionFailed", "left", "sessionClosed"];
    const kinds = peer.events.map(({ kind }) => kind).filter((kind) => told.includes(kind));
    expect(kinds).toEqual(told);
    expect(peer.eventsOf("sessionFailed")[0]).toMatchObject({ code: "SESSION_LOST" });
  });

  it("after its overlay expired it creates a new one, and its peers find that", () => {
    const { world, servers } = scene({ refreshMs: 3_000, memberLeaseMs: 60_000 });
    const first = source(world);
    const peers = joined(world, 2);
    new Feed(first, 30, () => 900, { ends: false });
    world.run(() => peers.every((peer) => peer.taken.length === 30));
    first.crash();
    world.run(() => servers.oms.events.some(({ type }) => type === "overlayEnded"), 20_000);
    const again = source(world, { keys: first.keys });
    expect(again.overlayId).not.toBe(first.overlayId);
    expect(again.overlay.settings.sessionEpoch).toBe(1);
    new Feed(again, 30, () => 800);
    world.run(() => peers.every((peer) => peer.has("ended")), 30_000);
    for (const peer of peers) {
      expect(peer.taken.length).toBe(60);
      expect(peer.eventsOf("sessionRestarted")[0]?.overlayId).toBe(again.overlayId);
    }
  });

  it("a peer whose engine is in the next overlay already fails, and the session there goes on", () => {
    const { world } = scene({ refreshMs: 3_000 });
    const first = source(world);
    const [peer] = joined(world, 1) as [Node];
    peer.takes = false;
    const one = new Feed(first, 20, () => 500, { ends: false });
    world.run(() => one.isWritten && peer.overlay.window.highest > 0, 5_000);
    first.crash();
    world.advance(20_000);
    const again = source(world, { keys: first.keys });
    expect(again.overlayId).not.toBe(first.overlayId);
    joinAt(peer, 2, {});
    world.run(() => peer.eventsOf("sessionOpen").length === 2, 10_000);
    peer.takes = true;
    peer.take(Number.POSITIVE_INFINITY, first.overlayId);
    peer.take(Number.POSITIVE_INFINITY, again.overlayId);
    world.run(() => peer.has("sessionFailed"), 30_000);
    expect(peer.eventsOf("sessionFailed")[0]).toMatchObject({ sessionId: 1, code: "USAGE" });
    expect(peer.machine.overlays.has(first.overlayId)).toBe(false);
    new Feed(again, 30, () => 500, { ends: true });
    world.run(() => peer.has("ended"), 20_000);
    expect(peer.taken.length).toBe(50);
  });

  it("live goes on as well", () => {
    const { world } = scene();
    const first = source(world, { delivery: "live" });
    const peers = joined(world, 3);
    new Feed(first, 30, () => 900, { ends: false });
    world.run(() => peers.every((peer) => peer.taken.length === 30));
    first.crash();
    const again = source(world, { delivery: "live", keys: first.keys });
    world.run(() => peers.every((peer) => peer.has("sessionRestarted")), 10_000);
    world.advance(500);
    new Feed(again, 30, () => 800);
    world.run(() => peers.every((peer) => peer.has("ended")), 30_000);
    for (const peer of peers) expect(peer.taken.length).toBe(60);
  });

  it("who does not follow ends with SESSION_LOST and what came", () => {
    const { world } = scene();
    const first = source(world);
    const peer = join(world, { followsRestarts: false });
    world.run(() => peer.has("started"), 10_000);
    new Feed(first, 30, () => 900, { ends: false });
    world.run(() => peer.taken.length === 30);
    first.crash();
    source(world, { keys: first.keys });
    world.run(() => peer.has("failed"), 10_000);
    expect(peer.eventsOf("failed")[0]).toMatchObject({ code: "SESSION_LOST" });
    expect(peer.has("sessionRestarted")).toBe(false);
  });

  it("a newcomer knows the next epoch only", () => {
    const { world } = scene();
    const first = source(world);
    const peers = joined(world, 1);
    new Feed(first, 30, () => 900, { ends: false });
    world.run(() => peers[0]?.taken.length === 30);
    first.crash();
    const again = source(world, { keys: first.keys });
    const late = join(world);
    const two = new Feed(again, 60, () => 800);
    world.run(() => late.has("ended"), 30_000);
    expect(taken(late)).toEqual(two.written);
    expect(late.has("sessionRestarted")).toBe(false);
  });

  it("proves its key to take over, and creates when there is nothing to take over", () => {
    const { world, servers } = scene();
    const first = source(world);
    const asked = (node: Node): unknown[] =>
      world.messages.log
        .filter(({ from, to }) => from === node && to === servers.oms)
        .map(({ bytes }) => (readMsgpack(bytes) as MsgpackValue[])[0]);
    expect(asked(first)).not.toContain(TAKE_OVER);
    expect(asked(first)).toContain(0x41);
    first.crash();
    const again = source(world, { keys: first.keys });
    expect(asked(again).slice(0, 2)).toEqual([0x40, TAKE_OVER]);
    expect(asked(again)).not.toContain(0x41);
  });
});
