/** Several overlays between the same two nodes: one link, and each overlay for itself on it. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { LINK_QUEUE_BYTES_MAX } from "../../src/base/limits.ts";
import { overlayTag } from "../../src/peer/overlay-tag.ts";
import type { OverlaySettings } from "../../src/peer/settings.ts";
import { encodeCredit } from "../../src/protocol/r10-binary.ts";
import { type MsgpackValue, readMsgpack } from "../support/msgpack-reader.ts";
import {
  Feed,
  Keys,
  type Node,
  OVERLAY,
  received,
  type SeenFrame,
  type Stranger,
  settingsOf,
  sha256,
  World,
} from "./harness.ts";

const FIRST = "01".repeat(16);
const SECOND = "02".repeat(16);
const THIRD = "03".repeat(16);

function openSource(node: Node, overlayId: string, more: Partial<OverlaySettings> = {}): void {
  const settings = settingsOf(node.keys.peerId, { overlayId, ...more });
  node.open("source", settings, { waitPeers: 1 }).register(overlayId.slice(0, 2), "", overlayId);
}
function openPeer(
  node: Node,
  source: Node,
  overlayId: string,
  more: Partial<OverlaySettings> = {},
): void {
  node.open("peer", settingsOf(source.keys.peerId, { overlayId, ...more }));
}
const neighbours = (node: Node, overlayId: string): string[] =>
  node.overlayOf(overlayId).neighbours.map(({ peerId }) => peerId);
const linked = (a: Node, b: Node, overlayId: string): boolean =>
  neighbours(a, overlayId).includes(b.keys.peerId) &&
  neighbours(b, overlayId).includes(a.keys.peerId);
const feedOf = (node: Node, overlayId: string, count: number, bytes = 700, ends = true): Feed =>
  new Feed(node, count, () => bytes, { overlayId, sourceId: overlayId.slice(0, 2), ends });
const receivedOf = (node: Node, overlayId: string): string[] =>
  received(node, overlayId.slice(0, 2));
/** Links that ever came up between nodes of a test. */
const linksMade = (...nodes: Node[]): number =>
  nodes.reduce((sum, node) => sum + node.lastInbound / 2, 0);

/** a: source of FIRST and SECOND, peer of THIRD; b: the other way round. */
function three(more: Partial<OverlaySettings> = {}): {
  readonly world: World;
  readonly a: Node;
  readonly b: Node;
} {
  const world = new World();
  const [a, b] = [world.node(), world.node()];
  openSource(a, FIRST, more);
  openSource(a, SECOND, more);
  openSource(b, THIRD, more);
  openPeer(b, a, FIRST, more);
  openPeer(b, a, SECOND, more);
  openPeer(a, b, THIRD, more);
  return { world, a, b };
}

describe("several overlays on one link", () => {
  it("share the link that is there, and each carries its data", () => {
    const { world, a, b } = three();
    b.dial(a, FIRST);
    world.run(() => linked(a, b, FIRST));
    b.dial(a, SECOND, a.keys.peerId);
    a.dial(b, THIRD, b.keys.peerId);
    world.run(() => [SECOND, THIRD].every((each) => linked(a, b, each)));
    const feeds = [feedOf(a, FIRST, 300), feedOf(a, SECOND, 200), feedOf(b, THIRD, 250)];
    world.run(() => b.eventsOf("ended").length === 3 && a.eventsOf("ended").length === 3);
    expect(receivedOf(b, FIRST)).toEqual(feeds[0]?.written);
    expect(receivedOf(b, SECOND)).toEqual(feeds[1]?.written);
    expect(receivedOf(a, THIRD)).toEqual(feeds[2]?.written);
    expect(linksMade(a, b)).toBe(1);
    expect(a.counters.handshakes).toBe(3);
  });

  it("wait for the link that is being dialled", () => {
    for (const named of [false, true]) {
      const { world, a, b } = three();
      const peerId = named ? a.keys.peerId : undefined;
      b.dial(a, FIRST, peerId).dial(a, SECOND, peerId);
      b.dial(a, FIRST, peerId);
      world.advance(1.5);
      b.dial(a, SECOND, peerId);
      world.run(() => [FIRST, SECOND].every((each) => linked(a, b, each)));
      expect(linksMade(a, b)).toBe(1);
    }
  });

  it("end up on one link, whoever dials when", () => {
    for (let turn = 0; turn < 16; turn++) {
      const { world, a, b } = three();
      b.dial(a, FIRST, a.keys.peerId);
      world.advance((turn >> 1) * 0.7);
      a.dial(b, turn % 2 === 0 ? THIRD : SECOND, b.keys.peerId);
      world.advance(3);
      b.dial(a, SECOND, a.keys.peerId);
      a.dial(b, THIRD, b.keys.peerId);
      const feeds = [feedOf(a, FIRST, 100), feedOf(b, THIRD, 100)];
      world.run(() => [FIRST, SECOND, THIRD].every((each) => linked(a, b, each)));
      world.run(() => a.openLinks.length === 1 && b.openLinks.length === 1, 2_000);
      expect([FIRST, SECOND, THIRD].every((each) => linked(a, b, each))).toBe(true);
      const rows = [a, b].flatMap((node) =>
        [...node.machine.links.rows()].filter(({ link }) => link.isOpen),
      );
      expect(rows.map(({ neighbours: all }) => all.length)).toEqual([3, 3]);
      world.run(() => a.has("ended") && b.has("ended"));
      expect(receivedOf(b, FIRST)).toEqual(feeds[0]?.written);
      expect(receivedOf(a, THIRD)).toEqual(feeds[1]?.written);
      // Both may have dialled for the same overlay: the one link that had nothing else is refused.
      for (const node of [a, b]) {
        expect(node.counters.refusedLinks).toBeLessThanOrEqual(1);
        const codes = new Set(node.eventsOf("linkFailed").map(({ code }) => code));
        codes.delete("DUPLICATE_LINK");
        codes.delete("LINK_CLOSED");
        expect([...codes]).toEqual([]);
      }
    }
  });

  it("settle alike when both sides open one at once on a link that is there", () => {
    for (let turn = 0; turn < 8; turn++) {
      const { world, a, b } = three();
      b.dial(a, FIRST);
      world.run(() => linked(a, b, FIRST));
      b.dial(a, SECOND, a.keys.peerId);
      world.advance((turn >> 1) * 0.6);
      a.dial(b, SECOND, b.keys.peerId);
      world.run(() => linked(a, b, SECOND));
      world.advance(6_000);
      expect(linked(a, b, FIRST) && linked(a, b, SECOND)).toBe(true);
      expect([a.counters.handshakes, b.counters.handshakes]).toEqual([2, 2]);
      expect(linksMade(a, b)).toBe(1);
    }
  });

  it("go one by one: BYE ends one, the last one ends the link", () => {
    const { world, a, b } = three();
    b.dial(a, FIRST).dial(a, SECOND);
    world.run(() => linked(a, b, FIRST) && linked(a, b, SECOND));
    b.leave(true, FIRST);
    world.advance(20);
    expect(neighbours(a, FIRST)).toEqual([]);
    expect([a.openLinks.length, b.openLinks.length]).toEqual([1, 1]);
    const feed = feedOf(a, SECOND, 200, 700, false);
    world.run(() => receivedOf(b, SECOND).length === 200);
    expect(receivedOf(b, SECOND)).toEqual(feed.written);
    // It comes again on the same link.
    openPeer(b, a, FIRST);
    b.dial(a, FIRST, a.keys.peerId);
    world.run(() => linked(a, b, FIRST));
    b.leave(true, FIRST);
    b.leave(true, SECOND);
    world.run(() => a.openLinks.length === 0 && b.openLinks.length === 0, 1_000);
    expect(linksMade(a, b)).toBe(1);
    expect([a.counters.refusedLinks, b.counters.refusedLinks]).toEqual([0, 0]);
  });

  it("one that the other side does not share is answered with BYE, and the rest goes on", () => {
    const { world, a, b } = three();
    const other = "04".repeat(16);
    openPeer(b, a, other);
    b.dial(a, FIRST);
    world.run(() => linked(a, b, FIRST));
    b.dial(a, other, a.keys.peerId);
    world.run(() => b.has("linkFailed"), 1_000);
    expect(b.eventsOf("linkFailed")).toMatchObject([{ overlayId: other, code: "WRONG_OVERLAY" }]);
    expect(linked(a, b, FIRST)).toBe(true);
    openSource(a, other);
    b.dial(a, other, a.keys.peerId);
    world.run(() => linked(a, b, other));
    expect(linksMade(a, b)).toBe(1);
  });

  it("are dialled anew when the first one is refused", () => {
    const { world, a, b } = three();
    const other = "04".repeat(16);
    openPeer(b, a, other);
    b.dial(a, other).dial(a, SECOND).dial(a, FIRST);
    world.run(() => linked(a, b, FIRST) && linked(a, b, SECOND), 1_000);
    expect(b.eventsOf("linkFailed")).toMatchObject([{ overlayId: other, code: "WRONG_OVERLAY" }]);
    expect(linksMade(a, b)).toBe(2);
    expect(b.openLinks.length).toBe(1);
  });

  it("are all told when the link breaks, those under way too", () => {
    const { world, a, b } = three();
    b.dial(a, FIRST);
    world.run(() => linked(a, b, FIRST));
    a.holdJobs = true;
    b.dial(a, SECOND, a.keys.peerId);
    world.advance(10);
    a.crash();
    world.run(() => b.has("linkFailed"), 1_000);
    expect(b.eventsOf("linkFailed")[0]).toMatchObject({ overlayId: SECOND, code: "LINK_RESET" });
    expect(b.eventsOf("neighbour").at(-1)).toMatchObject({ overlayId: FIRST, state: "down" });
  });

  it("an answer that does not come is not waited for, and the rest goes on", () => {
    const { world, a, b } = three();
    b.dial(a, FIRST);
    world.run(() => linked(a, b, FIRST));
    a.holdJobs = true;
    b.dial(a, SECOND, a.keys.peerId);
    world.run(() => b.has("linkFailed"), 10_000);
    expect(b.eventsOf("linkFailed")[0]).toMatchObject({ overlayId: SECOND, code: "TIMEOUT" });
    a.releaseJobs();
    world.advance(1_000);
    expect(linked(a, b, FIRST)).toBe(true);
    b.dial(a, SECOND, a.keys.peerId);
    world.run(() => linked(a, b, SECOND));
    expect([a.counters.refusedLinks, b.counters.refusedLinks]).toEqual([0, 0]);
  });
});

describe("a link that does not answer", () => {
  it("is not used for a further overlay again: the member is dialled", () => {
    const { world, a, b } = three();
    b.dial(a, FIRST);
    world.run(() => linked(a, b, FIRST));
    a.stall(a.lastInbound, true);
    b.dial(a, SECOND, a.keys.peerId);
    world.run(() => b.has("linkFailed"), 10_000);
    expect(b.eventsOf("linkFailed")[0]).toMatchObject({ overlayId: SECOND, code: "TIMEOUT" });
    b.dial(a, SECOND, a.keys.peerId);
    world.run(() => linked(a, b, SECOND), 1_000);
    expect(linksMade(a, b)).toBe(2);
    // The first overlay moves to the link that works.
    world.run(() => a.openLinks.length === 1 && b.openLinks.length === 1, 30_000);
    expect([FIRST, SECOND].every((each) => linked(a, b, each))).toBe(true);
  });
});

describe("one link, one identity", () => {
  const codesOf = (frames: readonly SeenFrame[]): unknown[] =>
    frames.map(({ bytes }) => (readMsgpack(bytes.subarray(8)) as MsgpackValue[])[1]);

  function met(): { readonly world: World; readonly node: Node; readonly stranger: Stranger } {
    const world = new World();
    const node = world.node();
    const source = new Keys();
    for (const overlayId of [OVERLAY, FIRST]) {
      node.open("peer", settingsOf(source.peerId, { overlayId }));
    }
    return { world, node, stranger: world.stranger().join(node) };
  }

  it("a HELLO for what is not open there is answered with BYE, as often as it is asked", () => {
    const { world, node, stranger } = met();
    for (let i = 0; i < 3; i++) stranger.send(stranger.hello(0, { overlayId: SECOND }));
    stranger.send(stranger.hello(0, { sessionEpoch: 9 }));
    world.advance(100);
    expect(codesOf(stranger.of(FRAME_TYPES.BYE))).toEqual(Array(4).fill("WRONG_OVERLAY"));
    const tag = readMsgpack(stranger.of(FRAME_TYPES.BYE)[0]?.bytes.subarray(8) ?? new Uint8Array());
    expect((tag as MsgpackValue[])[0]).toEqual(overlayTag(sha256, SECOND, 1));
    expect(stranger.closed).toBeUndefined();
    expect(node.overlay.neighbours.length).toBe(1);
  });

  it("another key in a second overlay closes the link", () => {
    const { world, node, stranger } = met();
    const thief = new Keys();
    const hello = { overlayId: FIRST, publicKey: thief.publicKey };
    stranger.frames.length = 0;
    stranger.send(stranger.hello(0, hello));
    world.run(() => stranger.seen(FRAME_TYPES.HELLO));
    const answer = stranger.answer();
    const proof = Buffer.from(stranger.proof(2, answer));
    proof.set(Buffer.from(FIRST, "hex"), 17);
    proof.set(thief.peerIdBytes, 16 + 1 + 16 + 4 + 64);
    stranger.send(stranger.hello(2, { ...hello, signature: thief.sign(proof) }));
    world.run(() => stranger.closed !== undefined, 1_000);
    expect(stranger.error).toBe("IDENTITY_UNPROVEN");
    expect(node.overlay.neighbours).toEqual([]);
  });

  it("who answers in place of the member that was dialled is no neighbour", () => {
    const { world, a, b } = three();
    b.dial(a, FIRST, new Keys().peerId);
    world.run(() => b.has("linkFailed"));
    expect(b.eventsOf("linkFailed")[0]?.code).toBe("IDENTITY_UNPROVEN");
    world.advance(100);
    expect([...b.machine.links.rows()]).toEqual([]);
  });
});

describe("each overlay for itself", () => {
  it("one whose consumer stands still holds no other", () => {
    const { world, a, b } = three();
    b.untaken.add(FIRST);
    b.dial(a, FIRST).dial(a, SECOND);
    world.run(() => linked(a, b, FIRST) && linked(a, b, SECOND));
    const held = feedOf(a, FIRST, 3_000, 700, false);
    const feed = feedOf(a, SECOND, 3_000);
    world.run(() => b.eventsOf("ended").some(({ overlayId }) => overlayId === SECOND), 30_000);
    expect(receivedOf(b, SECOND)).toEqual(feed.written);
    expect(held.isWritten).toBe(false);
    const creditIn = (overlayId: string): [number, number] => {
      const seen = a.overlayOf(overlayId).neighbours[0]?.creditLimit ?? 0;
      return [seen, b.overlayOf(overlayId).window.limit];
    };
    const [stopped, limit] = creditIn(FIRST);
    expect(stopped).toBe(limit);
    expect(a.overlayOf(FIRST).window.highest).toBeLessThanOrEqual(limit + 256);
    for (const overlayId of [FIRST, SECOND]) {
      const { window } = b.overlayOf(overlayId);
      expect(window.heldBytes).toBeLessThanOrEqual(window.windowBytes);
    }
    // It goes on where it stood.
    b.untaken.delete(FIRST);
    b.take(Number.POSITIVE_INFINITY, FIRST);
    world.run(() => held.isWritten, 30_000);
    a.end(FIRST);
    world.run(() => b.eventsOf("ended").length === 2, 30_000);
    expect(receivedOf(b, FIRST)).toEqual(held.written);
  });

  const wide = { windowFragments: 512, windowBytes: 2 << 20, fragmentBytes: 4_096 };

  it("bulk of one leaves half of the link to the bulk of another", () => {
    const { world, a, b } = three(wide);
    a.bytesPerSecond = 1_000_000;
    b.dial(a, FIRST).dial(a, SECOND);
    world.run(() => linked(a, b, FIRST) && linked(a, b, SECOND));
    feedOf(a, FIRST, 20_000, 3_000, false);
    world.advance(3_000);
    const before = a.overlayOf(FIRST).traffic().bytesToPeers;
    feedOf(a, SECOND, 20_000, 3_000, false);
    // What was queued for the link before is on its way.
    world.advance((LINK_QUEUE_BYTES_MAX / a.bytesPerSecond) * 1_000);
    const at = a.overlayOf(SECOND).traffic().bytesToPeers;
    const since = a.overlayOf(FIRST).traffic().bytesToPeers;
    world.advance(10_000);
    const first = a.overlayOf(FIRST).traffic().bytesToPeers - since;
    const second = a.overlayOf(SECOND).traffic().bytesToPeers - at;
    expect(since - before).toBeLessThan(2 * LINK_QUEUE_BYTES_MAX);
    expect(first + second).toBeGreaterThan(9_000_000);
    expect(second / (first + second)).toBeGreaterThan(0.43);
    expect(second / (first + second)).toBeLessThan(0.57);
    const [row] = [...a.machine.links.rows()];
    expect(row?.link.queuedBytes).toBeLessThan(LINK_QUEUE_BYTES_MAX + 600 * 1024);
  });

  it("a datum now and then waits for no more than what is queued on the link", () => {
    const { world, a, b } = three(wide);
    a.bytesPerSecond = 2_000_000;
    b.dial(a, FIRST).dial(a, SECOND);
    world.run(() => linked(a, b, FIRST) && linked(a, b, SECOND));
    feedOf(a, FIRST, 30_000, 3_000, false);
    world.advance(2_000);
    for (let i = 0; i < 20; i++) {
      const count = receivedOf(b, SECOND).length;
      a.writeTo(SECOND, "02", [new Uint8Array(100)]);
      const atMs = world.nowMs;
      world.run(() => receivedOf(b, SECOND).length > count, 5_000);
      const boundMs = ((LINK_QUEUE_BYTES_MAX + 600 * 1024) / a.bytesPerSecond) * 1_000;
      expect(world.nowMs - atMs).toBeLessThan(boundMs + 100);
    }
  });
});

describe("the limit on links", () => {
  it("counts proven peers, whatever they share, and holds what this node dials too", () => {
    const world = new World();
    const source = world.node();
    openSource(source, FIRST);
    openSource(source, SECOND);
    const peers = [0, 1, 2].map(() => world.node());
    for (const peer of peers) {
      openPeer(peer, source, FIRST);
      openPeer(peer, source, SECOND);
    }
    const narrow = world.node({ maxLinks: 2 });
    openPeer(narrow, source, FIRST);
    openPeer(narrow, source, SECOND);
    narrow.dial(source, FIRST).dial(source, SECOND);
    peers[0]?.dial(narrow, FIRST);
    world.run(() => narrow.openLinks.length === 2);
    world.run(() => linked(narrow, source, SECOND));
    const [first, second, third] = peers as [Node, Node, Node];
    second.dial(narrow, FIRST);
    world.run(() => second.has("linkFailed"), 1_000);
    expect(second.eventsOf("linkFailed")[0]?.code).toBe("TOO_MANY_LINKS");
    narrow.dial(third, FIRST);
    world.run(() => narrow.has("linkFailed"), 1_000);
    expect(narrow.eventsOf("linkFailed")[0]?.code).toBe("TOO_MANY_LINKS");
    expect(third.lastInbound).toBe(0);
    expect(narrow.counters.unopenedLinks).toBe(1);
    // Who is linked already may share another overlay.
    narrow.dial(first, SECOND, first.keys.peerId);
    world.run(() => linked(narrow, first, SECOND), 1_000);
    expect(narrow.openLinks.length).toBe(2);
    // A place that becomes free is given away.
    first.leave(true, FIRST);
    first.leave(true, SECOND);
    world.run(() => narrow.openLinks.length === 1, 1_000);
    second.dial(narrow, FIRST);
    world.run(() => linked(narrow, second, FIRST), 1_000);
  });
});

describe("overlays that were left", () => {
  const LEFT = 1_025;

  /** A stranger in the first overlay of a node that went through 1,025 epochs of another. */
  function leftMany() {
    const world = new World();
    const node = world.node();
    openSource(node, OVERLAY);
    const stranger = world.stranger(new Keys()).join(node);
    for (let sessionEpoch = 1; sessionEpoch <= LEFT; sessionEpoch++) {
      openPeer(node, node, SECOND, { sessionEpoch });
      node.leave(true, SECOND);
    }
    const says = (epoch: number): string | undefined => {
      stranger.send(encodeCredit(overlayTag(sha256, SECOND, epoch), 5));
      world.advance(100);
      return stranger.closed;
    };
    return { says };
  }

  it("are remembered, so that what still comes of them is no fault", () => {
    const { says } = leftMany();
    for (const epoch of [2, 3, LEFT]) expect(says(epoch)).toBeUndefined();
  });

  it("are the newest 1,024 of them", () => {
    expect(leftMany().says(1)).toBe("LINK_CLOSED");
  });
});
