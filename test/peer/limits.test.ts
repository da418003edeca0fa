/** Upload and download limits of an engine: DATA a second over all its overlays, in virtual time. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import type { OverlaySettings } from "../../src/peer/settings.ts";
import { Feed, type Node, received, settingsOf, swarm, World } from "./harness.ts";

const FIRST = "01".repeat(16);
const SECOND = "02".repeat(16);
const SPAN_MS = 12_000;

interface Scene {
  readonly world: World;
  readonly source: Node;
  readonly peers: readonly Node[];
}

/** One source of `overlays`, and peers of all of them, each over one link to the source. */
function scene(
  limits: {
    readonly up?: number;
    readonly down?: number;
    readonly peers?: number;
    readonly overlays?: readonly string[];
  },
  more: Partial<OverlaySettings> = {},
): Scene {
  const { up, down, peers: count = 1, overlays = [FIRST] } = limits;
  const world = new World();
  const source = world.node(up === undefined ? {} : { uploadLimitBytesPerSecond: up });
  const settings = overlays.map((overlayId) =>
    settingsOf(source.keys.peerId, { overlayId, ...more }),
  );
  for (const each of settings) {
    source.open("source", each, { waitPeers: 1 });
    source.register(each.overlayId.slice(0, 2), "", each.overlayId);
  }
  const peers = Array.from({ length: count }, () =>
    world.node(down === undefined ? {} : { downloadLimitBytesPerSecond: down }),
  );
  for (const peer of peers) {
    for (const each of settings) peer.open("peer", each).dial(source, each.overlayId);
  }
  world.run(() => peers.every((peer) => peer.eventsOf("started").length === overlays.length));
  return { world, source, peers };
}
const feedOf = (node: Node, overlayId: string, count: number, bytes = 1_500): Feed =>
  new Feed(node, count, () => bytes, { overlayId, sourceId: overlayId.slice(0, 2), ends: false });

/** Bytes a second of DATA that a node sent in the next SPAN_MS. */
function rateOf({ world, source }: Scene): number {
  const before = source.counters.bytesSent;
  world.advance(SPAN_MS);
  return ((source.counters.bytesSent - before) * 1_000) / SPAN_MS;
}
function within(actual: number, expected: number, share = 0.1): void {
  expect(actual).toBeGreaterThan(expected * (1 - share));
  expect(actual).toBeLessThan(expected * (1 + share));
}

describe("the upload limit", () => {
  it.each([20_000, 200_000, 1_000_000])("holds at %d bytes a second", (up) => {
    const all = scene({ up });
    feedOf(all.source, FIRST, 100_000);
    within(rateOf(all), up);
    expect(all.source.context.upload.spareBytesPerSecond(all.world.nowMs)).toBe(0);
  });

  it("is one for all overlays and peers, and shared out evenly", () => {
    const all = scene({ up: 400_000, peers: 3, overlays: [FIRST, SECOND] });
    feedOf(all.source, FIRST, 100_000);
    feedOf(all.source, SECOND, 100_000);
    within(rateOf(all), 400_000);
    all.world.advance(2 * SPAN_MS);
    const sent = [FIRST, SECOND].map((id) => all.source.overlayOf(id).traffic().bytesToPeers);
    within((sent[0] ?? 0) / ((sent[0] ?? 0) + (sent[1] ?? 0)), 0.5);
  });

  it("shapes what is asked for like what is pushed", () => {
    const { world, source, peers } = swarm(1, { waitPeers: 1 });
    const up = 50_000;
    const relay = world.node({ uploadLimitBytesPerSecond: up });
    const [peer] = peers as [Node];
    relay.open("peer", source.overlay.settings).dial(source);
    world.run(() => relay.has("started") && peer.has("started"));
    new Feed(source, 120, () => 1_500, { ends: false });
    world.run(() => received(relay).length === 120);
    const stranger = world.stranger().join(relay);
    const credit = new Uint8Array(24);
    new DataView(credit.buffer).setUint32(0, 24, true);
    credit.set([0xb6, 1, FRAME_TYPES.CREDIT, 0], 4);
    credit.set(stranger.tag, 8);
    credit[17] = 1;
    const start = relay.overlay.window.start;
    const count = relay.overlay.window.highest - start;
    expect(count).toBeGreaterThan(8);
    const get = new Uint8Array(44);
    const view = new DataView(get.buffer);
    view.setUint32(0, 44, true);
    get.set([0xb6, 1, FRAME_TYPES.GET, 0], 4);
    get.set(stranger.tag, 8);
    view.setUint32(24, 1, true);
    view.setBigUint64(32, BigInt(start), true);
    view.setUint32(40, count, true);
    const atMs = world.nowMs;
    stranger.send(credit, get);
    world.run(() => stranger.of(FRAME_TYPES.DATA).length === count);
    const bytes = stranger.of(FRAME_TYPES.DATA).reduce((sum, each) => sum + each.bytes.length, 0);
    // The burst comes at once.
    within((bytes - 16_384) / ((world.nowMs - atMs) / 1_000), up, 0.2);
  });

  it("holds no control frame back", () => {
    const { world, source } = scene({ up: 5_000 });
    feedOf(source, FIRST, 10_000);
    world.advance(5_000);
    const stranger = world.stranger();
    stranger.tag = source.overlayOf(FIRST).tag;
    const atMs = world.nowMs;
    stranger.connect(source);
    stranger.send(stranger.hello(0, { overlayId: FIRST }));
    world.run(() => stranger.seen(FRAME_TYPES.HELLO), 100);
    expect(world.nowMs - atMs).toBeLessThan(20);
    const sent = source.sentFrames.filter(({ atMs: at }) => at > atMs - 5_000);
    expect(sent.filter(({ type }) => type === FRAME_TYPES.HAVE).length).toBeGreaterThan(0);
  });

  it("lets what was saved up go at once, but no more than a burst", () => {
    const { world, source, peers } = scene({ up: 100_000 });
    world.advance(60_000);
    feedOf(source, FIRST, 2_000);
    world.advance(50);
    expect(source.counters.bytesSent).toBeLessThan(16_384 + 5_000 + 4_096);
    expect(source.counters.bytesSent).toBeGreaterThan(8_000);
    world.advance(5_000);
    expect(peers[0]?.counters.gaps).toBe(0);
  });

  it("merges data while it holds them back", () => {
    const { world, source, peers } = scene({ up: 20_000 });
    const feed = feedOf(source, FIRST, 5_000, 20);
    world.run(() => received(peers[0] as Node).length === 5_000);
    expect(received(peers[0] as Node)).toEqual(feed.written);
    // 128 data of 20 bytes fit a fragment; sent one by one it would be 5,000 fragments.
    expect(source.counters.fragmentsSent).toBeLessThan(200);
  });

  it("tells what is to spare", () => {
    const { world, source } = scene({ up: 100_000 });
    const { upload } = source.context;
    expect(upload.spareBytesPerSecond(world.nowMs)).toBeGreaterThan(99_000);
    for (let second = 0; second < 10; second++) {
      for (let i = 0; i < 10; i++) {
        source.writeTo(FIRST, "01", [new Uint8Array(4_000)]);
        world.advance(100);
      }
    }
    within(upload.spareBytesPerSecond(world.nowMs), 60_000, 0.15);
    expect(scene({}).source.context.upload.spareBytesPerSecond(0)).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("the download limit", () => {
  it.each([20_000, 200_000, 1_000_000])(
    "holds at %d bytes a second, and nothing is lost",
    (down) => {
      const all = scene({ down });
      const feed = feedOf(all.source, FIRST, 100_000);
      within(rateOf(all), down);
      const [peer] = all.peers as [Node];
      expect(peer.counters.gaps + peer.counters.lateFragments).toBe(0);
      expect(received(peer)).toEqual(feed.written.slice(0, received(peer).length));
      expect(peer.eventsOf("neighbour").map(({ state }) => state)).toEqual(["up"]);
    },
  );

  it("is one for all overlays, and one that is silent takes nothing from another", () => {
    const all = scene({ down: 300_000, overlays: [FIRST, SECOND] });
    feedOf(all.source, FIRST, 100_000);
    within(rateOf(all), 300_000);
    feedOf(all.source, SECOND, 100_000);
    within(rateOf(all), 300_000);
    const before = [FIRST, SECOND].map((id) => all.source.overlayOf(id).traffic().bytesToPeers);
    within(rateOf(all), 300_000);
    const [first = 0, second = 0] = [FIRST, SECOND].map(
      (id, i) => all.source.overlayOf(id).traffic().bytesToPeers - (before[i] ?? 0),
    );
    within(second / (first + second), 0.5, 0.2);
  });

  it("after a silence no more than a burst is under way", () => {
    const { world, source, peers } = scene({ down: 100_000 });
    world.advance(30_000);
    feedOf(source, FIRST, 10_000);
    world.advance(100);
    const [peer] = peers as [Node];
    expect(peer.counters.bytesReceived).toBeLessThan(50_000 + 10_000 + 2 * 4_096);
  });

  it("holds for what is asked for as well: it asks for no more than it granted", () => {
    const down = 60_000;
    const { world, source, peers } = swarm(2, { waitPeers: 1, windowBytes: 1 << 20 });
    const feed = new Feed(source, 2_000, () => 1_500, { ends: false });
    world.run(() => peers.every((peer) => received(peer).length > 100));
    const late = world.node({ downloadLimitBytesPerSecond: down });
    // Nobody pushes to it: all comes by GET.
    late.open("peer", source.overlay.settings);
    for (const peer of peers) late.dial(peer);
    world.run(() => late.has("started"));
    const before = late.counters.bytesReceived;
    world.advance(SPAN_MS);
    const rate = ((late.counters.bytesReceived - before) * 1_000) / SPAN_MS;
    expect(rate).toBeLessThan(down * 1.1);
    expect(rate).toBeGreaterThan(down * 0.8);
    expect(late.counters.requestsSent).toBeGreaterThan(0);
    for (const node of [source, ...peers]) expect(node.counters.requestsBeyondCredit).toBe(0);
    expect(feed.isWritten).toBe(false);
  });

  it("lets a session end", () => {
    const { world, source, peers } = scene({ down: 100_000, up: 120_000 });
    const feed = feedOf(source, FIRST, 200);
    world.run(() => feed.isWritten);
    source.end(FIRST);
    world.run(() => peers[0]?.has("ended") === true && source.has("ended"));
    expect(received(peers[0] as Node)).toEqual(feed.written);
  });
});

describe("a limit out of range", () => {
  it.each([0, -1, 1_023, Number.NaN, Number.POSITIVE_INFINITY, 1e12])("%d is refused", (limit) => {
    const world = new World();
    for (const option of ["uploadLimitBytesPerSecond", "downloadLimitBytesPerSecond"]) {
      expect(() => world.node({ [option]: limit })).toThrow(option);
    }
  });
});
