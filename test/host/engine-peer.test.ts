/** What the handle of a peer's session tells, driven by a machine on a virtual clock. */

import { describe, expect, it } from "vitest";
import { PeerHandle } from "../../src/host/engine-peer.ts";
import type { PeerEvent } from "../../src/peer/commands.ts";
import { Feed, OVERLAY, swarm } from "../peer/harness.ts";

const TICK_MS = 50;

/** One peer of one source, END in its window and nothing taken. */
function beforeTaking() {
  const { world, source, peers } = swarm(1);
  const [peer] = peers;
  if (peer === undefined) throw new Error("no peer");
  peer.takes = false;
  new Feed(source, 50, () => 900);
  let told = 0;
  const tell = (): void => {
    while (told < peer.events.length) handle.observe(peer.events[told++] as PeerEvent);
  };
  const handle: PeerHandle = new PeerHandle(
    {
      command: (command) => {
        peer.command(command);
        tell();
      },
      overlay: (overlayId) => peer.machine.overlays.get(overlayId),
      sleep: () => Promise.reject(new Error("no clock")),
      nowUs: () => 0,
      nowMs: () => 0,
      allowPlaintext: false,
      feedTransports: () => [],
      crashed: (error) => {
        throw error;
      },
      released: () => undefined,
    },
    peer.memory.kernel,
    { sessionId: 1, overlayId: OVERLAY, title: "t" },
    { consume: true, debug: false },
  );
  world.run(() => peer.overlay.endIndex !== undefined);
  world.advance(1_000);
  return { world, peer, handle };
}

describe("the end of a peer's session", () => {
  it("that failed is the failure, whatever is closed after that", () => {
    const { handle } = beforeTaking();
    handle.observe({ kind: "sessionFailed", sessionId: 1, code: "SESSION_LOST", detail: "gone" });
    handle.observe({ kind: "left", overlayId: OVERLAY });
    handle.observe({ kind: "sessionClosed", sessionId: 1 });
    expect(() => handle.isOver).toThrow(expect.objectContaining({ code: "SESSION_LOST" }));
  });
});

describe("the status of a peer's session", () => {
  it("is told after a node took END and left in one input, as on a machine that is busy", () => {
    let leftAtOnce = 0;
    // Only every second tick looks at how a session ends.
    for (const ticks of [0, 1]) {
      const { world, peer, handle } = beforeTaking();
      world.advance(ticks * TICK_MS);
      while (!handle.isOver) {
        world.nowMs += TICK_MS;
        handle.takeNow();
      }
      if (!peer.machine.overlays.has(OVERLAY)) leftAtOnce++;
      const { traffic, consumedTo, missing } = handle.status();
      expect(traffic.fragmentsFromSource).toBe(consumedTo);
      expect([consumedTo > 0, missing]).toEqual([true, 0]);
      world.run(() => peer.has("left"));
      handle.observe({ kind: "sessionClosed", sessionId: 1 });
      expect(handle.status()).toMatchObject({ traffic, consumedTo, ended: true, neighbours: [] });
    }
    expect(leftAtOnce).toBe(1);
  });
});
