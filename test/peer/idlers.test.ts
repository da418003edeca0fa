/** Neighbours that stand still on purpose, and what they do so as not to be found lagging. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { MIB } from "../../src/base/units.ts";
import { encodeBuffermap, encodeCredit, encodeRanges } from "../../src/protocol/r10-binary.ts";
import { Feed, received, settingsOf, World } from "./harness.ts";

const GET = FRAME_TYPES.GET;

function beside(credit: number) {
  const world = new World();
  const source = world.node({ memoryMiB: 32 });
  const settings = settingsOf(source.keys.peerId, {
    fragmentBytes: 16_384,
    windowBytes: 2 * MIB,
    windowFragments: 1_024,
  });
  source.open("source", settings, { waitPeers: 1 }).register("s");
  const peer = world.node({ memoryMiB: 32 }).open("peer", settings).dial(source);
  world.advance(1_000);
  const idler = world.stranger().join(source);
  const link = source.lastInbound;
  idler.send(encodeBuffermap(idler.tag, 0, 0, new Uint8Array(0)), encodeCredit(idler.tag, credit));
  world.advance(100);
  const ask = (first: number, count: number): void => {
    idler.send(encodeRanges(GET, idler.tag, 0, [first, count]));
  };
  return { world, source, peer, idler, link, ask };
}

describe("a neighbour that never gets on", () => {
  it.each([8_000, 2_000])("and asks for the same every %d ms is lagging", (everyMs) => {
    const { world, source, peer, idler, ask } = beside(60);
    const feed = new Feed(source, 600, () => 16_000);
    for (let ms = 0; ms < 60_000 && !peer.has("ended"); ms += everyMs) {
      ask(0, 1);
      world.advance(everyMs);
    }
    expect(received(peer)).toEqual(feed.written);
    expect(source.eventsOf("neighbour").map(({ peerId, state }) => [peerId, state])).toContainEqual(
      [idler.keys.peerId, "lagging"],
    );
  });

  it("and does not read, so that its own link declines it, is lagging", () => {
    const { world, source, peer, link, ask } = beside(4_096);
    source.stall(link, true);
    const feed = new Feed(source, 600, () => 16_000);
    world.advance(300);
    ask(1, 200);
    for (let ms = 0; ms < 60_000 && !peer.has("ended"); ms += 500) {
      world.advance(500);
      // It reads for a moment now and then, lest its link is closed for being slow.
      if (ms % 20_000 !== 0) ask(0, 1);
      else {
        source.stall(link, false);
        world.advance(4);
        source.stall(link, true);
        ask(1, 200);
      }
    }
    expect(received(peer)).toEqual(feed.written);
  });
});
