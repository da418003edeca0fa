/** Who becomes a neighbour, and who does not: HELLO, played by hand from the other side. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { encodeCredit } from "../../src/protocol/r10-binary.ts";
import { Keys, type Node, type Stranger, settingsOf, World } from "./harness.ts";

function peerOf(world: World, sourcePeerId = new Keys().peerId): Node {
  const node = world.node();
  return node.open("peer", settingsOf(sourcePeerId));
}
const neighbours = (node: Node): string[] => node.overlay.neighbours.map(({ peerId }) => peerId);

/** The stranger was told `code`, the link closed, and it is no neighbour. */
function expectRefused(world: World, node: Node, stranger: Stranger, code: string): void {
  world.run(() => stranger.closed !== undefined, 20_000);
  expect(stranger.error).toBe(code);
  expect(neighbours(node)).not.toContain(stranger.keys.peerId);
  expect(node.counters.refusedLinks).toBe(1);
  world.advance(100);
  expect([...node.machine.links.rows()]).toEqual([]);
}

describe("handshake", () => {
  it("makes who proves its key a neighbour", () => {
    const world = new World();
    const node = peerOf(world);
    const stranger = world.stranger().join(node);
    expect(neighbours(node)).toEqual([stranger.keys.peerId]);
    const answer = stranger.answer();
    expect(answer.step).toBe(1);
    expect(answer.nonce).not.toEqual(stranger.nonce);
    expect(Buffer.from(answer.publicKey)).toEqual(Buffer.from(node.keys.publicKey));
    expect(node.counters.handshakes).toBe(1);
  });

  it("refuses a signature by another key", () => {
    const world = new World();
    const node = peerOf(world);
    const stranger = world.stranger();
    stranger.connect(node);
    stranger.send(stranger.hello(0));
    world.run(() => stranger.seen(FRAME_TYPES.HELLO));
    const signature = new Keys().sign(stranger.proof(2, stranger.answer()));
    stranger.send(stranger.hello(2, { signature }));
    expectRefused(world, node, stranger, "IDENTITY_UNPROVEN");
  });

  it("refuses a replayed HELLO: the nonce it answered is of another link", () => {
    const world = new World();
    const node = peerOf(world);
    const honest = world.stranger().join(node);
    const recorded = honest.hello(2, {
      signature: honest.keys.sign(honest.proof(2, honest.answer())),
    });
    honest.close();
    world.advance(100);
    const thief = world.stranger();
    thief.connect(node);
    thief.send(honest.hello(0));
    world.run(() => thief.seen(FRAME_TYPES.HELLO));
    thief.send(recorded);
    world.run(() => thief.closed !== undefined);
    expect(thief.error).toBe("IDENTITY_UNPROVEN");
    expect(neighbours(node)).toEqual([]);
  });

  it("refuses our own signature played back to us", () => {
    const world = new World();
    const node = peerOf(world);
    const stranger = world.stranger();
    stranger.connect(node);
    stranger.send(stranger.hello(0));
    world.run(() => stranger.seen(FRAME_TYPES.HELLO));
    stranger.send(stranger.hello(2, { signature: stranger.answer().signature }));
    expectRefused(world, node, stranger, "IDENTITY_UNPROVEN");
  });

  it("refuses who names another key in its last HELLO than in its first", () => {
    const world = new World();
    const node = peerOf(world);
    const stranger = world.stranger();
    const other = new Keys();
    stranger.connect(node);
    stranger.send(stranger.hello(0));
    world.run(() => stranger.seen(FRAME_TYPES.HELLO));
    const signature = other.sign(stranger.proof(2, stranger.answer()));
    stranger.send(stranger.hello(2, { publicKey: other.publicKey, signature }));
    expectRefused(world, node, stranger, "IDENTITY_UNPROVEN");
  });

  it("refuses an unknown overlay", () => {
    const world = new World();
    const node = peerOf(world);
    const stranger = world.stranger();
    stranger.connect(node);
    stranger.send(stranger.hello(0, { overlayId: "ff".repeat(16) }));
    expectRefused(world, node, stranger, "WRONG_OVERLAY");
  });

  it("refuses another session epoch", () => {
    const world = new World();
    const node = peerOf(world);
    const stranger = world.stranger();
    stranger.connect(node);
    stranger.send(stranger.hello(0, { sessionEpoch: 2 }));
    expectRefused(world, node, stranger, "WRONG_OVERLAY");
  });

  it("refuses versions it does not speak, and takes who also speaks ours", () => {
    for (const [versionMin, version] of [
      [2, 3],
      [0, 0],
    ] as const) {
      const world = new World();
      const node = peerOf(world);
      const stranger = world.stranger();
      stranger.connect(node);
      stranger.send(stranger.hello(0, { versionMin, version }));
      expectRefused(world, node, stranger, "VERSION_UNSUPPORTED");
    }
    const world = new World();
    const node = peerOf(world);
    const newer = world.stranger();
    newer.connect(node);
    newer.send(newer.hello(0, { versionMin: 1, version: 2 }));
    world.run(() => newer.seen(FRAME_TYPES.HELLO));
    expect(newer.answer().version).toBe(1);
  });

  it("refuses a link to itself", () => {
    const world = new World();
    const node = peerOf(world);
    node.dial(node);
    world.run(() => node.has("linkFailed"));
    expect(node.eventsOf("linkFailed")[0]?.code).toBe("SELF_LINK");
    world.advance(1_000);
    expect(node.overlay.neighbours).toEqual([]);
    expect([...node.machine.links.rows()]).toEqual([]);
  });

  it("refuses who claims to be the source peer, and the source peer as a mere peer", () => {
    const world = new World();
    const node = peerOf(world);
    const liar = world.stranger();
    liar.connect(node);
    liar.send(liar.hello(0, { role: 0 }));
    world.run(() => liar.seen(FRAME_TYPES.HELLO));
    liar.send(liar.hello(2, { role: 0, signature: liar.keys.sign(liar.proof(2, liar.answer())) }));
    expectRefused(world, node, liar, "IDENTITY_UNPROVEN");

    const modest = world.stranger();
    const other = peerOf(world, modest.keys.peerId);
    modest.join(other);
    expectRefused(world, other, modest, "IDENTITY_UNPROVEN");
  });

  for (const [what, frames, code] of [
    ["an answer where none was asked", (s: Stranger) => [s.hello(1)], "FRAME_UNEXPECTED"],
    ["a confirmation first", (s: Stranger) => [s.hello(2)], "FRAME_UNEXPECTED"],
    ["two openings", (s: Stranger) => [s.hello(0), s.hello(0)], "FRAME_UNEXPECTED"],
    [
      "a frame of the overlay before any HELLO",
      (s: Stranger) => [encodeCredit(s.tag, 100)],
      "WRONG_OVERLAY",
    ],
  ] as const) {
    it(`refuses ${what}`, () => {
      const world = new World();
      const node = peerOf(world);
      const stranger = world.stranger();
      stranger.connect(node);
      stranger.send(...frames(stranger));
      expectRefused(world, node, stranger, code);
    });
  }

  it("refuses a HELLO on a link whose HELLO is done", () => {
    const world = new World();
    const node = peerOf(world);
    const stranger = world.stranger().join(node);
    stranger.send(stranger.hello(0));
    expectRefused(world, node, stranger, "FRAME_UNEXPECTED");
  });

  it("keeps frames that come while a signature is verified, and no more than a bounded number", () => {
    for (const [count, fine] of [
      [64, true],
      [65, false],
    ] as const) {
      const world = new World();
      const node = peerOf(world);
      const stranger = world.stranger();
      stranger.connect(node);
      stranger.send(stranger.hello(0));
      world.run(() => stranger.seen(FRAME_TYPES.HELLO));
      node.holdJobs = true;
      const signature = stranger.keys.sign(stranger.proof(2, stranger.answer()));
      stranger.send(stranger.hello(2, { signature }));
      for (let i = 1; i <= count; i++) stranger.send(encodeCredit(stranger.tag, i));
      world.advance(50);
      node.releaseJobs();
      world.advance(50);
      if (fine) expect(node.overlay.neighbours[0]?.creditLimit).toBe(64);
      else expectRefused(world, node, stranger, "FRAME_UNEXPECTED");
    }
  });

  it("closes a link that does not finish its HELLO in time", () => {
    for (const begun of [false, true]) {
      const world = new World();
      const node = peerOf(world);
      const stranger = world.stranger();
      stranger.connect(node);
      if (begun) stranger.send(stranger.hello(0));
      const atMs = world.nowMs;
      world.run(() => stranger.closed !== undefined, 10_000);
      expect(world.nowMs - atMs).toBeGreaterThan(4_900);
      expect(world.nowMs - atMs).toBeLessThan(6_500);
      world.advance(100);
      expect([...node.machine.links.rows()]).toEqual([]);
    }
  });

  it("keeps one of two links between two peers, the same on both sides", () => {
    for (let turn = 0; turn < 6; turn++) {
      const world = new World();
      const a = peerOf(world);
      const b = peerOf(world);
      if (turn % 3 === 0) a.dial(b).dial(b);
      else if (turn % 3 === 1) {
        a.dial(b);
        b.dial(a);
      } else {
        a.dial(b);
        world.advance(turn);
        b.dial(a);
      }
      world.advance(2_000);
      expect(neighbours(a)).toEqual([b.keys.peerId]);
      expect(neighbours(b)).toEqual([a.keys.peerId]);
      expect(a.openLinks.length).toBe(1);
      expect(b.openLinks.length).toBe(1);
      expect(a.overlay.neighbours[0]?.link.outbound).toBe(!b.overlay.neighbours[0]?.link.outbound);
    }
  });

  it("refuses links beyond its limit and goes on with those it has", () => {
    const world = new World();
    const node = world.node({ maxLinks: 2 });
    node.open("peer", settingsOf(new Keys().peerId));
    const first = world.stranger().join(node);
    const second = world.stranger().join(node);
    const third = world.stranger();
    third.connect(node);
    world.run(() => third.closed !== undefined);
    expect(third.error).toBe("TOO_MANY_LINKS");
    expect(neighbours(node).sort()).toEqual([first.keys.peerId, second.keys.peerId].sort());
    first.close();
    world.advance(100);
    const fourth = world.stranger().join(node);
    expect(neighbours(node)).toContain(fourth.keys.peerId);
  });

  it("says why a dialled link came to nothing", () => {
    const world = new World();
    const node = peerOf(world);
    const away = world.node();
    away.crash();
    node.dial(away);
    world.run(() => node.has("linkFailed"));
    expect(node.eventsOf("linkFailed")[0]).toMatchObject({ code: "UNREACHABLE" });
    const elsewhere = world.node();
    node.dial(elsewhere);
    world.run(() => node.eventsOf("linkFailed").length === 2);
    expect(node.eventsOf("linkFailed")[1]).toMatchObject({ code: "WRONG_OVERLAY" });
  });
});
