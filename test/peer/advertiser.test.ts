/** What a node tells its neighbours of what it holds, and when. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { encodeFrame, REFRESH } from "../../src/protocol/r10.ts";
import { swarm } from "./harness.ts";

describe("a map that was put off", () => {
  it("is told when the second is over, at whatever fraction of a millisecond that began", () => {
    for (let tenths = 1; tenths <= 10; tenths++) {
      const { world, source } = swarm(0);
      // The second is over beyond 2,048 ms, from where on numbers are rounded more coarsely.
      world.advance(300 + tenths / 10);
      const asks = world.stranger().join(source);
      const input = source.input.bind(source);
      let turns = 0;
      source.input = (each) => {
        if (++turns > 1_000) throw new Error("it is due again and again");
        input(each);
      };
      const refresh = encodeFrame(REFRESH, { tag: asks.tag });
      asks.send(refresh, refresh, refresh);
      world.advance(500);
      expect(asks.of(FRAME_TYPES.BUFFERMAP)).toHaveLength(3);
      world.advance(600);
      expect(asks.of(FRAME_TYPES.BUFFERMAP)).toHaveLength(4);
    }
  });
});
