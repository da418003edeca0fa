/** END, lingering, BYE, crashes: how members go, and what the others get nevertheless. */

import { describe, expect, it } from "vitest";
import { LocalUsageError } from "../../src/base/errors.ts";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { Feed, OVERLAY, received, settingsOf, swarm, World } from "./harness.ts";

describe("leaving", () => {
  it("P3.4: a peer leaves at any time, announced or not, and the others get everything", () => {
    for (const announced of [true, false]) {
      const { world, source, peers } = swarm(4);
      const feed = new Feed(source, 2_000, () => 800);
      const [gone, ...others] = peers;
      if (gone === undefined) throw new Error("no peer");
      world.run(() => gone.taken.length > 300);
      if (announced) gone.leave();
      else gone.crash();
      world.advance(20);
      expect(source.overlay.neighbours.some(({ peerId }) => peerId === gone.keys.peerId)).toBe(
        false,
      );
      world.run(() => [...others, source].every((node) => node.has("ended")));
      for (const peer of others) expect(received(peer)).toEqual(feed.written);
      const down = source
        .eventsOf("neighbour")
        .find(({ state, peerId }) => state === "down" && peerId === gone.keys.peerId);
      expect(down?.detail).toMatch(announced ? /^BYE/ : /LINK_RESET/);
    }
  });

  it("P3.4 (negative): who has not left is still a neighbour, and nobody said BYE", () => {
    const { world, source, peers } = swarm(2);
    new Feed(source, 200, () => 800, { ends: false });
    world.advance(5_000);
    expect(source.overlay.neighbours.length).toBe(2);
    for (const node of [source, ...peers]) expect(node.sentOf(FRAME_TYPES.BYE)).toEqual([]);
  });

  it("who has all lingers for its neighbours, and goes when they have all", () => {
    const { world, source, peers } = swarm(2, { links: "chain", waitPeers: 1, lingerMs: 8_000 });
    const [near, far] = peers;
    if (near === undefined || far === undefined) throw new Error("no peer");
    far.takes = false;
    const feed = new Feed(source, 300, () => 1_000);
    world.run(() => near.has("ended"));
    world.advance(2_000);
    expect(near.has("left")).toBe(false);
    far.takes = true;
    far.take();
    world.run(() => far.has("ended"));
    world.run(() => near.has("left"), 1_000);
    expect(received(far)).toEqual(feed.written);
  });

  it("stays for a slow reader behind it that has nobody else, long after the source went", () => {
    const { world, source, peers } = swarm(2, { links: "chain", waitPeers: 1 });
    const [near, far] = peers;
    if (near === undefined || far === undefined) throw new Error("no peer");
    far.takes = false;
    const feed = new Feed(source, 200, () => 4_000);
    let endedMs = 0;
    for (let i = 0; i < 300 && !far.has("ended") && !far.has("failed"); i++) {
      world.advance(1_500);
      far.take(1);
      if (endedMs > 0 || !source.has("ended")) continue;
      endedMs = world.nowMs;
      source.leave();
      far.command({ kind: "overlayEnded", overlayId: far.overlayId });
    }
    expect(received(far)).toEqual(feed.written);
    expect(world.nowMs - endedMs).toBeGreaterThan(100_000);
    world.run(() => near.has("left"), 20_000);
  });

  it("lingers no longer than lingerMs for one that makes no progress", () => {
    const { world, source, peers } = swarm(2, { links: "chain", waitPeers: 1, lingerMs: 2_000 });
    const [near, far] = peers;
    if (near === undefined || far === undefined) throw new Error("no peer");
    far.takes = false;
    new Feed(source, 90, () => 1_000);
    world.run(() => near.has("ended"), 20_000);
    const atMs = world.nowMs;
    world.run(() => near.has("left"), 20_000);
    expect(world.nowMs - atMs).toBeLessThan(4_000);
  });

  it("a source has ended once all have END, and not while one is behind", () => {
    const { world, source, peers } = swarm(2);
    const slow = peers[1];
    if (slow === undefined) throw new Error("no peer");
    slow.takes = false;
    new Feed(source, 600, () => 1_000);
    world.advance(5_000);
    expect(source.has("ended")).toBe(false);
    slow.takes = true;
    slow.take();
    world.run(() => source.has("ended") && peers.every((peer) => peer.has("ended")));
  });

  it("an empty session ends, too", () => {
    const { world, source, peers } = swarm(2);
    world.advance(500);
    source.end();
    world.run(() => [...peers, source].every((node) => node.has("ended")), 5_000);
    for (const peer of peers) expect(peer.taken).toEqual([]);
  });

  it("an overlay that was left can be joined again, and what comes late of it is no fault", () => {
    const { world, source, peers } = swarm(2);
    const feed = new Feed(source, 1_000, () => 900, { ends: false });
    const again = peers[0];
    if (again === undefined) throw new Error("no peer");
    world.run(() => again.taken.length > 100);
    again.leave();
    world.advance(300);
    again.taken.length = 0;
    again.open("peer", source.overlay.settings).dial(source);
    world.run(() => feed.isWritten);
    source.end();
    world.run(() => again.has("ended"));
    const own = received(again);
    expect(own.length).toBeGreaterThan(0);
    expect(feed.written.slice(-own.length)).toEqual(own);
    expect(again.counters.refusedLinks + source.counters.refusedLinks).toBe(0);
  });

  it("jobs that end after the overlay was left are harmless, and give their memory back", () => {
    const { world, source, peers } = swarm(1);
    const peer = peers[0];
    if (peer === undefined) throw new Error("no peer");
    world.advance(500);
    peer.holdJobs = true;
    source.holdJobs = true;
    new Feed(source, 50, () => 900, { ends: false });
    world.advance(50);
    source.leave();
    source.releaseJobs();
    world.advance(50);
    peer.leave();
    peer.releaseJobs();
    world.advance(50);
    for (const node of [source, peer]) {
      node.memory.checkInvariants();
      expect(node.memory.segmentCount - node.memory.freeSegments).toBeLessThanOrEqual(1);
    }
  });

  it("a link that says nothing is pinged, then given up", () => {
    const world = new World();
    const node = world.node().open("peer", settingsOf(world.stranger().keys.peerId));
    const stranger = world.stranger().join(node);
    world.advance(12_000);
    expect(stranger.seen(FRAME_TYPES.PING)).toBe(true);
    world.run(() => stranger.closed !== undefined, 20_000);
    expect(node.eventsOf("neighbour").at(-1)).toMatchObject({
      state: "down",
      detail: "LINK_HALF_OPEN",
    });
  });

  it("a neighbour that does not read is closed, and costs no one else anything", () => {
    const { world, source, peers } = swarm(2, { stallMs: 5_000 });
    world.advance(1_000);
    const row = source.overlay.neighbours.find(({ peerId }) => peerId === peers[0]?.keys.peerId);
    if (row === undefined) throw new Error("no neighbour");
    peers[0]?.crash();
    const other = peers[1];
    const feed = new Feed(source, 1_000, () => 1_000);
    world.run(() => other?.has("ended") ?? false);
    expect(other === undefined ? [] : received(other)).toEqual(feed.written);
  });
});

describe("data sources (R11)", () => {
  const code = (run: () => unknown): string => {
    try {
      run();
    } catch (error) {
      if (error instanceof LocalUsageError) return error.code;
      throw error;
    }
    return "nothing thrown";
  };

  it("R11.b, R11.c, R11.d: several sources at a time arrive apart, by their identifiers", () => {
    const { world, source, peers } = swarm(2);
    source.register("temperature").register("pressure");
    const feeds = ["s", "temperature", "pressure"].map(
      (sourceId, n) =>
        new Feed(source, 200 + n, (i) => 30 + ((i + n) % 90), { ends: false, sourceId }),
    );
    world.run(() => feeds.every((feed) => feed.isWritten));
    source.end();
    world.run(() => peers.every((peer) => peer.has("ended")));
    for (const peer of peers) {
      ["s", "temperature", "pressure"].forEach((id, n) => {
        expect(received(peer, id)).toEqual(feeds[n]?.written);
      });
    }
  });

  it("R11.b, R11.c, R11.d (negative): one identifier is one source; none or a long one is none", () => {
    const { source } = swarm(1);
    expect(code(() => source.register("s"))).toBe("SOURCE_REGISTERED");
    expect(code(() => source.register(""))).toBe("USAGE");
    expect(code(() => source.register("x".repeat(129)))).toBe("USAGE");
    for (let i = 1; i < 256; i++) source.register(`s${i}`);
    expect(code(() => source.register("one too many"))).toBe("USAGE");
  });

  it("R11.e, R11.f, R11.g: after it has registered a source's data are accepted", () => {
    const { world, source, peers } = swarm(1);
    source.register("new");
    expect(source.write("new", Uint8Array.of(1)).accepted).toBe(1);
    source.end();
    world.run(() => peers[0]?.has("ended") ?? false);
    expect(peers[0]?.taken.map(({ sourceId }) => sourceId)).toEqual(["new"]);
  });

  it("R11.e, R11.f, R11.g (negative): before that they are refused, and nothing is sent of them", () => {
    const { world, source, peers } = swarm(1);
    expect(code(() => source.write("new", Uint8Array.of(1)))).toBe("SOURCE_UNREGISTERED");
    const end = { kind: "endSource", overlayId: OVERLAY, sourceId: "new" } as const;
    expect(code(() => source.command(end))).toBe("SOURCE_UNREGISTERED");
    source.end();
    expect(code(() => source.register("late"))).toBe("SOURCE_ENDED");
    world.run(() => peers[0]?.has("ended") ?? false);
    expect(peers[0]?.taken).toEqual([]);
  });

  it("what a write can not be is refused before anything of it is taken", () => {
    const { source } = swarm(1);
    const write = (payloads: Uint8Array, lengths: number[], timestampUs = 1): string =>
      code(() =>
        source.command({
          kind: "write",
          overlayId: OVERLAY,
          sourceId: "s",
          payloads,
          lengths: Uint32Array.from(lengths),
          timestampUs,
          contentType: undefined,
          accepted: 0,
          credit: 0,
        }),
      );
    expect(write(new Uint8Array(4), [3, 2])).toBe("USAGE");
    expect(write(new Uint8Array(4), [5])).toBe("USAGE");
    expect(write(new Uint8Array(4), [4], -1)).toBe("USAGE");
    expect(write(new Uint8Array(4), [4], Number.NaN)).toBe("USAGE");
    expect(write(new Uint8Array(4), [4], 2 ** 53)).toBe("USAGE");
    expect(write(new Uint8Array(17 << 20), [1, 17 << 20])).toBe("DATUM_TOO_LARGE");
    expect(source.overlay.source?.sources.find("s")?.nextSequence).toBe(1);
    expect(write(new Uint8Array(4), [3, 1], 1.5)).toBe("nothing thrown");
  });

  it("a write that is not taken does not change the content type of what is", () => {
    const { world, source, peers } = swarm(1, { waitPeers: 1 });
    const peer = peers[0];
    if (peer === undefined) throw new Error("no peer");
    const types: string[] = [];
    peer.takes = false;
    const write = (bytes: number, contentType: string): number => {
      const command = {
        kind: "write",
        overlayId: OVERLAY,
        sourceId: "s",
        payloads: new Uint8Array(bytes),
        lengths: Uint32Array.of(bytes),
        timestampUs: 1,
        contentType,
        accepted: 0,
        credit: 0,
      } as const;
      source.command(command);
      return command.accepted;
    };
    expect(write(2 << 20, "big")).toBe(1);
    expect(write(10, "small")).toBe(0);
    world.advance(100);
    expect(write(10, "small")).toBe(0);
    expect(source.overlay.source?.sources.find("s")?.contentType).toBe("big");
    peer.takes = true;
    peer.take();
    world.run(() => peer.taken.length === 1);
    for (const { contentType } of peer.overlay.consumer?.assembler.sources.values() ?? []) {
      types.push(contentType);
    }
    expect(types).toEqual(["big"]);
  });
});
