/** Members that speak of fragments far beyond the stream: nobody loses anything by it, or crashes. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { INDEX_MAX } from "../../src/base/limits.ts";
import { encodeFrame, NOTIFY } from "../../src/protocol/r10.ts";
import { encodeBuffermap, encodeRanges } from "../../src/protocol/r10-binary.ts";
import { type Node, type Stranger, settingsOf, World } from "./harness.ts";

const NO_BITS = new Uint8Array(0);
const WAYS = {
  HAVE: (liar: Stranger, index: number) => encodeRanges(FRAME_TYPES.HAVE, liar.tag, 0, [index, 1]),
  NOTIFY: (liar: Stranger, index: number) => encodeFrame(NOTIFY, { tag: liar.tag, index }),
  BUFFERMAP: (liar: Stranger, index: number) => encodeBuffermap(liar.tag, index, 0, NO_BITS),
};
/** Beyond what a range counts, within it, and within the window of the victim. */
const FAR = [INDEX_MAX, 2 ** 31, 200];

interface Scene {
  readonly world: World;
  readonly source: Node;
  readonly settings: ReturnType<typeof settingsOf>;
}

function sceneOf(delivery: "live" | "complete", waitPeers: number): Scene {
  const world = new World();
  const source = world.node();
  const settings = settingsOf(source.keys.peerId, { delivery, maxLagMs: 2_000 });
  source.open("source", settings, { waitPeers }).register("s");
  return { world, source, settings };
}

/** A datum every 100 ms, each a fragment of its own. */
function write({ world, source }: Scene, count: number): void {
  for (let i = 0; i < count; i++) {
    expect(source.write("s", new Uint8Array(3_000)).accepted).toBe(1);
    world.advance(100);
  }
}

describe.each(["live", "complete"] as const)("in a %s overlay", (delivery) => {
  describe.each(Object.keys(WAYS) as (keyof typeof WAYS)[])("by %s", (way) => {
    /** Two liars beside `node` speak of fragment `far` in between: it takes all, without a gap. */
    function isUnmoved(scene: Scene, node: Node, far: number): void {
      const { world } = scene;
      const liars = [0, 1].map(() => world.stranger().join(node));
      for (const liar of liars) liar.send(encodeBuffermap(liar.tag, 0, 0, NO_BITS));
      world.run(() => node.has("started"));
      write(scene, 10);
      for (const liar of liars) liar.send(WAYS[way](liar, far));
      write(scene, 10);
      world.advance(20_000);
      write(scene, 10);
      world.advance(3_000);
      expect(node.taken).toHaveLength(30);
      expect(node.eventsOf("gap")).toEqual([]);
    }

    it.each(FAR)("two of them at fragment %d move nobody who is linked to the source", (far) => {
      const scene = sceneOf(delivery, 1);
      const { world, source, settings } = scene;
      isUnmoved(scene, world.node().open("peer", settings).dial(source), far);
    });

    it.each(FAR)("two of them at fragment %d move nobody with three honest neighbours", (far) => {
      const scene = sceneOf(delivery, 1);
      const { world, source, settings } = scene;
      const honest = [0, 1, 2].map(() => world.node().open("peer", settings).dial(source));
      const node = world.node().open("peer", settings);
      for (const each of honest) node.dial(each);
      isUnmoved(scene, node, far);
    });

    it("one that is the only neighbour does not stop the machine", () => {
      const scene = sceneOf(delivery, 0);
      const { world, settings } = scene;
      const node = world.node().open("peer", settings);
      const liar = world.stranger().join(node);
      liar.send(encodeBuffermap(liar.tag, 0, 0, NO_BITS));
      world.advance(1_000);
      liar.send(WAYS[way](liar, 10));
      world.advance(1_000);
      for (const index of [2 ** 31, 2 ** 40, INDEX_MAX]) {
        liar.send(WAYS[way](liar, index));
        world.advance(10_000);
      }
      node.overlay.checkInvariants();
    });
  });

  it.each([undefined, "start", "oldest", "live"] as const)(
    "a newcomer that hears one first starts all the same where it should, from %s",
    (from) => {
      const scene = sceneOf(delivery, 1);
      const { world, source, settings } = scene;
      const before = world.node().open("peer", settings).dial(source);
      world.advance(1_000);
      write(scene, 10);
      const node = world.node().open("peer", settings, from === undefined ? {} : { from });
      const liar = world.stranger().join(node);
      liar.send(encodeBuffermap(liar.tag, 2 ** 40, 0, NO_BITS));
      world.advance(50);
      node.dial(source).dial(before);
      world.advance(1_000);
      write(scene, 10);
      world.advance(1_000);
      const all = before.taken.map(({ sequence }) => sequence);
      const isFromEdge = from === "live" || (from === undefined && delivery === "live");
      expect(node.taken.map(({ sequence }) => sequence)).toEqual(isFromEdge ? all.slice(10) : all);
      expect(node.eventsOf("gap")).toEqual([]);
    },
  );
});
