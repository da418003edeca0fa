/** Who asks without end, and reads nothing: bounded per link, closed, and no one else notices. */

import { describe, expect, it, vi } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import {
  LINK_CONTROL_BYTES_MAX,
  LINKS_PENDING_MAX,
  PINGS_PER_SECOND_MAX,
  REFRESHES_PER_SECOND_MAX,
} from "../../src/base/limits.ts";
import * as r10 from "../../src/protocol/r10.ts";
import {
  encodeBuffermap,
  encodeCredit,
  encodePing,
  encodeRanges,
} from "../../src/protocol/r10-binary.ts";
import { Feed, Keys, received, settingsOf, World } from "./harness.ts";

const NO_BITS = new Uint8Array(0);
const ping = (): Uint8Array => encodePing(FRAME_TYPES.PING, new Uint8Array(8).fill(3));

describe("floods on a peer link", () => {
  for (const type of [FRAME_TYPES.PING, FRAME_TYPES.PONG]) {
    it(`frame type ${type} before HELLO has no place and gets no answer`, () => {
      const world = new World();
      const node = world.node().open("peer", settingsOf(new Keys().peerId));
      const stranger = world.stranger();
      stranger.connect(node);
      stranger.send(encodePing(type, new Uint8Array(8)));
      world.run(() => stranger.closed !== undefined, 2_000);
      expect(stranger.error).toBe("FRAME_UNEXPECTED");
      expect(stranger.seen(FRAME_TYPES.PONG)).toBe(false);
      expect(node.counters.refusedLinks).toBe(1);
    });
  }

  for (const speaks of [false, true]) {
    it(`${speaks ? "half a HELLO" : "silence"} on any number of links keeps no newcomer out`, () => {
      const world = new World();
      const node = world.node().open("peer", settingsOf(new Keys().peerId));
      const member = world.stranger().join(node);
      const flood = Array.from({ length: 2 * LINKS_PENDING_MAX }, () => {
        const stranger = world.stranger();
        stranger.connect(node);
        if (speaks) stranger.send(stranger.hello(0));
        return stranger;
      });
      const newcomer = world.stranger().join(node);
      world.advance(50);
      const peerIds = node.overlay.neighbours.map(({ peerId }) => peerId);
      expect(peerIds).toEqual([member.keys.peerId, newcomer.keys.peerId]);
      const evicted = [...flood.keys()].filter((i) => flood[i]?.closed !== undefined);
      expect(evicted.length).toBe(node.counters.evictedLinks);
      expect(evicted.length).toBeGreaterThanOrEqual(flood.length - LINKS_PENDING_MAX);
      // The oldest went first.
      expect(evicted).toEqual([...evicted.keys()]);
    });
  }

  it("links that are refused and never close their side keep no newcomer out", () => {
    const world = new World();
    const node = world.node({ maxLinks: 1 }).open("peer", settingsOf(new Keys().peerId));
    const member = world.stranger().join(node);
    for (let i = 0; i < 2 * LINKS_PENDING_MAX; i++) world.stranger().connect(node);
    world.advance(100);
    expect(node.machine.links.size).toBeLessThanOrEqual(1 + LINKS_PENDING_MAX);
    member.close();
    world.advance(100);
    const newcomer = world.stranger().join(node);
    expect(node.overlay.neighbours.map(({ peerId }) => peerId)).toEqual([newcomer.keys.peerId]);
  });

  it("PINGs are answered so many times a second, the others counted", () => {
    const world = new World();
    const node = world.node().open("peer", settingsOf(new Keys().peerId));
    const stranger = world.stranger().join(node);
    for (let i = 0; i < 100; i++) stranger.send(ping());
    world.advance(500);
    expect(stranger.of(FRAME_TYPES.PONG).length).toBe(PINGS_PER_SECOND_MAX);
    expect(node.counters.ignoredFrames).toBe(100 - PINGS_PER_SECOND_MAX);
    world.advance(1_000);
    stranger.send(ping());
    world.advance(100);
    expect(stranger.of(FRAME_TYPES.PONG).length).toBe(PINGS_PER_SECOND_MAX + 1);
    expect(stranger.closed).toBeUndefined();
  });

  it("REFRESHes are answered so many times a second, and the last never goes unanswered", () => {
    const world = new World();
    const node = world.node().open("peer", settingsOf(new Keys().peerId));
    const stranger = world.stranger().join(node);
    const maps = (): number => stranger.of(FRAME_TYPES.BUFFERMAP).length;
    world.advance(100);
    const before = maps();
    for (let i = 0; i < 100; i++)
      stranger.send(r10.encodeFrame(r10.REFRESH, { tag: stranger.tag }));
    world.advance(500);
    expect(maps() - before).toBe(REFRESHES_PER_SECOND_MAX);
    expect(node.counters.ignoredFrames).toBe(100 - REFRESHES_PER_SECOND_MAX - 1);
    world.advance(3_000);
    expect(maps() - before).toBe(REFRESHES_PER_SECOND_MAX + 1);
    expect(stranger.closed).toBeUndefined();
  });

  it("who asks and does not read is closed with LINK_SLOW at the limit, the others go on", () => {
    const world = new World();
    const source = world.node();
    const settings = settingsOf(source.keys.peerId);
    source.open("source", settings, { waitPeers: 1 }).register("s");
    const peer = world.node().open("peer", settings).dial(source);
    world.run(() => peer.has("started"));
    const feed = new Feed(source, 50, () => 700, { ends: false });
    const stranger = world.stranger().join(source);
    const linkId = source.lastInbound;
    stranger.send(encodeBuffermap(stranger.tag, 0, 0, NO_BITS), encodeCredit(stranger.tag, 20));
    world.advance(100);
    source.stall(linkId, true);
    const { link } = [...source.machine.links.rows()].find((row) => row.link.id === linkId) ?? {};
    // It asks for what is there too: those ranges are pinned when the link is closed.
    stranger.send(encodeRanges(FRAME_TYPES.GET, stranger.tag, 0, [0, 20]));
    world.advance(100);
    expect(link?.pinnedRanges).toBeGreaterThan(0);
    const pinned = link?.queuedBytes ?? 0;
    const frame = encodeBuffermap(stranger.tag, 0, 0, new Uint8Array(8_000).fill(1));
    // Whatever is answered within one input: no `sent` comes in between.
    vi.spyOn(source.overlay, "notify").mockImplementation(() => {
      for (let i = 0; i < 400; i++) link?.transmit(frame);
    });
    stranger.send(r10.encodeFrame(r10.NOTIFY, { tag: stranger.tag, index: 1 }));
    world.advance(5);
    const most = link?.queuedBytes ?? 0;
    expect(link?.isOpen).toBe(false);
    expect(most).toBeGreaterThan(LINK_CONTROL_BYTES_MAX / 2);
    expect(most).toBeLessThanOrEqual(LINK_CONTROL_BYTES_MAX + pinned);
    expect(source.counters.slowLinks).toBe(1);
    expect(source.eventsOf("linkFailed").at(-1)?.code).toBe("LINK_SLOW");
    world.advance(100);
    expect(link?.pinnedRanges).toBe(0);
    expect(source.overlay.neighbours.map(({ peerId }) => peerId)).toEqual([peer.keys.peerId]);
    source.end();
    world.run(() => peer.has("ended"));
    expect(received(peer)).toEqual(feed.written);
    source.memory.checkInvariants();
  });
});
