/** What a source counts as held by members that went before END, and what as held by nobody. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import type { PeerContext } from "../../src/peer/context.ts";
import { Finale } from "../../src/peer/finale.ts";
import { IndexRanges } from "../../src/peer/index-ranges.ts";
import type { Neighbour } from "../../src/peer/neighbour.ts";
import { ROLES } from "../../src/protocol/common.ts";
import { encodeBuffermap, encodeCredit, encodeRanges } from "../../src/protocol/r10-binary.ts";
import { Keys, type Node, received, swarm } from "./harness.ts";

const DATA = 20;
const KEYS = new Keys();

/** A source that wrote and sealed 20 data, each in a fragment of its own, while nobody was there. */
function written() {
  const { world, source } = swarm(0, { holdMs: 20_000, lingerMs: 3_000, waitPeers: 1 });
  const write = (): void => {
    source.write("s", new Uint8Array(3_000));
    world.advance(50);
  };
  for (let i = 0; i < DATA; i++) write();
  return { world, source, write };
}

/** How a source ends whose members are all gone. */
function outcome({ world, source }: { world: ReturnType<typeof written>["world"]; source: Node }) {
  source.end();
  world.run(() => source.has("ended") || source.has("failed"), 60_000);
  return source.has("ended") ? "ended" : source.eventsOf("failed")[0]?.code;
}

describe("what a member that went held", () => {
  it("is nothing when it began at the live edge and took nothing", () => {
    const { world, source } = written();
    const peer = world.node().open("peer", source.overlay.settings, { from: "live" }).dial(source);
    world.advance(1_000);
    expect(peer.taken).toEqual([]);
    peer.leave();
    world.advance(500);
    expect(outcome({ world, source })).toBe("NO_PEERS");
  });

  it("is what came since when it began at the live edge: what others held before is theirs", () => {
    for (const oldestToo of [true, false]) {
      const { world, source, write } = written();
      const { settings } = source.overlay;
      const live = world.node().open("peer", settings, { from: "live" }).dial(source);
      world.advance(1_000);
      for (let i = 0; i < DATA; i++) write();
      world.run(() => received(live).length === DATA, 2_000);
      live.leave();
      world.advance(500);
      if (oldestToo) {
        const oldest = world.node().open("peer", settings).dial(source);
        world.run(() => received(oldest).length === 2 * DATA, 5_000);
        world.advance(500);
        oldest.leave();
        world.advance(500);
      }
      expect(outcome({ world, source })).toBe(oldestToo ? "ended" : "NO_PEERS");
    }
  });

  /** A member by hand that advertises nothing: what it is done with it says by its start. */
  function reader({ world, source }: Pick<ReturnType<typeof written>, "world" | "source">) {
    const stranger = world.stranger(KEYS).join(source);
    const say = (frame: Uint8Array): void => {
      stranger.send(frame);
      world.advance(100);
    };
    return {
      map: (start: number) => say(encodeBuffermap(stranger.tag, start, 0, new Uint8Array(0))),
      takes: () => say(encodeCredit(stranger.tag, 100)),
      isDoneTo: (start: number) =>
        say(encodeRanges(FRAME_TYPES.HAVE, stranger.tag, start, [], 0, 0)),
      goes: () => {
        stranger.close();
        world.advance(500);
      },
    };
  }

  it("is all that it consumed, also when it advertises nothing and only moves its start", () => {
    for (const takes of [true, false]) {
      const { world, source } = written();
      const member = reader({ world, source });
      member.map(0);
      if (takes) member.takes();
      member.isDoneTo(source.overlay.window.highest);
      member.goes();
      expect(outcome({ world, source })).toBe(takes ? "ended" : "NO_PEERS");
    }
  });

  it("is what it had before it came again over a new link, and what it had then", () => {
    for (const [hadTo, againFrom, ends] of [
      [12, 12, "ended"],
      [12, 13, "NO_PEERS"],
    ] as const) {
      const { world, source } = written();
      const member = reader({ world, source });
      member.map(0);
      member.takes();
      member.isDoneTo(hadTo);
      member.goes();
      const again = reader({ world, source });
      again.map(againFrom);
      again.takes();
      again.isDoneTo(source.overlay.window.highest);
      again.goes();
      expect(outcome({ world, source })).toBe(ends);
    }
  });
});

describe("a member that was left behind", () => {
  /** A source's end by hand, of which all members are gone. */
  function finaleOf(end: number) {
    const now = { monoMs: 1_000_000, wallUs: 0 };
    const view = {
      settings: { delivery: "complete", holdMs: 60_000, lingerMs: 5_000, repairMs: 1_000 },
      neighbours: [] as Neighbour[],
      window: { start: 0, highest: end + 1 },
      source: { isStarved: true, isEnding: true, hasData: true, dataTo: end },
      consumer: undefined,
      times: { latestMs: 0 },
    };
    const options = { role: "source", waitPeers: 1, gatherMs: 0 } as const;
    const finale = new Finale({ now } as unknown as PeerContext, view as never, options);
    finale.endKnown(end);
    const went = (more: Partial<Neighbour>): void => {
      const one = { peerId: "a", role: ROLES.peer, mapKnown: true, lostSome: false, ...more };
      const member = { ...one, updateAcked: () => one.ackedTo } as unknown as Neighbour;
      finale.memberCame(member);
      finale.memberWent(member, false);
    };
    const step = () => {
      finale.watch();
      now.monoMs += 61_000;
      return finale.watch();
    };
    return { went, step };
  }

  it("lacks what it lost over its next link, too: with END it has not all", () => {
    const { went, step } = finaleOf(10);
    went({ beganAt: 0, ackedTo: 6, lostSome: true });
    went({ beganAt: 6, ackedTo: 11 });
    expect(step()).toMatchObject({ kind: "failed", code: "NO_PEERS" });
  });

  it("is made up for by another that held it", () => {
    const { went, step } = finaleOf(10);
    went({ beganAt: 0, ackedTo: 6, lostSome: true });
    went({ beganAt: 6, ackedTo: 10 });
    went({ peerId: "b", beganAt: 0, ackedTo: 6 });
    expect(step()).toMatchObject({ kind: "ended" });
  });
});

describe("ranges that grow together", () => {
  it("reach from 0 as far as all that was added, in whatever order", () => {
    const numbers = fc.array(fc.tuple(fc.nat(40), fc.nat(12)), { maxLength: 30 });
    fc.assert(
      fc.property(numbers, (added) => {
        const ranges = new IndexRanges();
        const all = new Set<number>();
        for (const [first, count] of added) {
          ranges.add(first, first + count);
          for (let i = first; i < first + count; i++) all.add(i);
          let to = 0;
          while (all.has(to)) to++;
          expect(ranges.to).toBe(to);
        }
      }),
    );
  });

  it("are kept from the lowest on when there are many", () => {
    const ranges = new IndexRanges();
    for (let i = 1_000; i > 0; i--) ranges.add(10 * i, 10 * i + 5);
    ranges.add(0, 10);
    expect(ranges.to).toBe(15);
    ranges.add(15, 100_000);
    expect(ranges.to).toBe(100_000);
  });
});
