/** Whom a puller asks for what: one window, neighbours whose maps the test marks, no transport. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { RANGES_PER_FRAME_MAX } from "../../src/base/limits.ts";
import { seededRng } from "../../src/base/rng.ts";
import { type PeerContext, zeroCounters } from "../../src/peer/context.ts";
import type { PeerLink } from "../../src/peer/link.ts";
import { Neighbour } from "../../src/peer/neighbour.ts";
import { Puller, type PullView } from "../../src/peer/pull.ts";
import { ROLES } from "../../src/protocol/common.ts";
import { readFrameHeader, readRanges } from "../../src/protocol/r10-binary.ts";
import { FragmentWindow } from "../../src/stream/window.ts";
import { createMemory } from "../stream/world.ts";

const FRAGMENTS = 1_024;
/** As many requests a supplier has before it has shown what it bears. */
const ROOM = 16;
const NOBODY: PullView["partners"] = [undefined, undefined];

class Scene {
  readonly memory = createMemory(1);
  readonly #cursor = this.memory.open();
  readonly window: FragmentWindow;
  readonly neighbours: Neighbour[] = [];
  /** What each neighbour was sent since the last look: [first, end) of GETs. */
  readonly #asked = new Map<Neighbour, number[]>();
  readonly puller: Puller;
  /** What is asked for ends here. */
  to = FRAGMENTS;
  partners: PullView["partners"] = NOBODY;
  #nowMs = 0;

  constructor(seed = 1, fragments = FRAGMENTS) {
    const scene = this;
    const options = { start: 0, fragments, bytes: 2 ** 40, fragmentBytes: 1_024 };
    this.window = new FragmentWindow(this.memory, options);
    const context = {
      memory: this.memory,
      rng: seededRng(seed),
      counters: zeroCounters(),
      get now() {
        return { monoMs: scene.#nowMs, wallUs: 0 };
      },
    };
    this.puller = new Puller(context as unknown as PeerContext, this.window, TAG, 2, 3_000);
    this.puller.sample(fragments);
  }

  /** One that holds these. */
  join(holds: Iterable<number>, role: Neighbour["role"] = ROLES.peer): Neighbour {
    const asked: number[] = [];
    const link = {
      openLane: () => ({}),
      transmit: (frame: Uint8Array) => asked.push(...requestsIn(frame)),
    } as unknown as PeerLink;
    const picker = role === ROLES.source ? undefined : this.puller.picker;
    const neighbour = new Neighbour({}, this.window, picker, link, "aa", role, 0);
    for (const index of holds) neighbour.advertised(index, 1);
    neighbour.mapKnown = true;
    neighbour.grantedLimit = this.window.windowFragments;
    this.neighbours.push(neighbour);
    this.puller.add(neighbour);
    this.#asked.set(neighbour, asked);
    return neighbour;
  }

  /** What each is asked for in a run after so long, in order. */
  run(afterMs = 0): number[][] {
    this.#nowMs += afterMs;
    this.puller.run({
      neighbours: this.neighbours,
      partners: this.partners,
      awaited: [],
      head: this.window.firstMissing(0, this.to),
      to: this.to,
      overdue: () => {},
    });
    this.puller.checkInvariants(this.neighbours);
    return this.neighbours.map((each) => {
      const asked = this.#asked.get(each) as number[];
      return asked.splice(0).sort((a, b) => a - b);
    });
  }

  /** Fragment `index` comes `afterMs` later. */
  came(index: number, from: Neighbour, afterMs: number): void {
    this.#nowMs += afterMs;
    this.puller.came(index, from);
    this.puller.arriving(index);
    const cursor = this.#cursor;
    cursor.reserve(64);
    const offset = cursor.writeOffset;
    cursor.commit(64);
    this.memory.retain(offset, 64);
    cursor.consume(64);
    this.window.store(index, offset, 64);
  }
}

const TAG = new Uint8Array(8);
const LEFT = new Float64Array(1);
const ranges = new Float64Array(2 * RANGES_PER_FRAME_MAX);

function requestsIn(frame: Uint8Array): number[] {
  if (readFrameHeader(frame, 0, frame.length) !== FRAME_TYPES.GET) return [];
  const pairs = readRanges(frame, 0, frame.length, ranges);
  const indices: number[] = [];
  for (let i = 0; i < pairs; i++) {
    const first = ranges[2 * i] as number;
    for (let n = 0; n < (ranges[2 * i + 1] as number); n++) indices.push(first + n);
  }
  return indices;
}

function span(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, n) => from + n);
}

describe("a puller", () => {
  it("asks for each of few fragments whoever holds it", () => {
    const scene = new Scene();
    scene.join([3]);
    scene.join([700]);
    scene.join([]);
    expect(scene.run()).toEqual([[3], [700], []]);
  });

  it("of those that hold one of few, asks who has least to do", () => {
    const scene = new Scene();
    const [first, second] = [scene.join(span(0, 8)), scene.join([])];
    expect(scene.run()).toEqual([span(0, 8), []]);
    for (const index of [8, 9]) for (const each of [first, second]) each.advertised(index, 1);
    expect(scene.run()).toEqual([[], [8, 9]]);
  });

  it("asks for much until all have as much to do as they answer well, and for more as they answer", () => {
    const scene = new Scene();
    const all = [0, 1, 2].map(() => scene.join(span(0, FRAGMENTS)));
    const asked = scene.run();
    expect(asked.map(({ length }) => length)).toEqual([ROOM, ROOM, ROOM]);
    // The urgent part in order.
    expect(asked.flat().sort((a, b) => a - b)).toEqual(span(0, 3 * ROOM));
    expect(scene.run()).toEqual([[], [], []]);
    const [[index]] = asked as [[number]];
    scene.came(index, all[0] as Neighbour, 20);
    expect(scene.puller.due).toBe(true);
    expect(scene.run().map(({ length }) => length)).toEqual([1, 0, 0]);
  });

  it("in a large window too, where others hold most of what is as rare", () => {
    const scene = new Scene(1, 65_536);
    scene.to = 65_536;
    const own = span(0, 64).map((n) => 1_000 * n);
    const isOwn = new Set(own);
    scene.join(span(0, 65_536).filter((index) => !isOwn.has(index)));
    scene.join(own);
    const [, asked] = scene.run();
    expect(asked).toHaveLength(ROOM);
  });

  it("asks the soonest of all for what holds the consumer up, though it has nothing else", () => {
    const scene = new Scene();
    const [stuck, slow, fast] = [scene.join([]), scene.join([]), scene.join([])];
    // Two are known for what they are.
    for (const [each, ms, first] of [
      [slow, 900, 100],
      [fast, 20, 200],
    ] as const) {
      for (let index = first; index < first + 80; index++) {
        each.advertised(index, 1);
        scene.puller.heard(each);
        scene.run();
        scene.came(index, each, ms);
        each.withdrew(index, 1);
      }
    }
    stuck.advertised(0, 60);
    scene.puller.heard(stuck);
    expect(scene.run()[0]).toHaveLength(ROOM);
    // More than it has room for is left: of that one has nothing, the other is not looked at.
    fast.advertised(0, 1);
    scene.puller.heard(fast);
    expect(scene.run()).toEqual([[], [], []]);
    scene.to = ROOM;
    slow.advertised(0, 1);
    scene.puller.heard(slow);
    let second: number[][] = [];
    for (let ms = 0; ms < 2_000 && !second.slice(1).flat().includes(0); ms += 50) {
      second = scene.run(50);
    }
    expect(second[2]).toEqual([0]);
  });

  it("asks nobody for what it was not granted, however much it holds", () => {
    const scene = new Scene();
    for (const count of [4, 100]) {
      const neighbour = scene.join(span(0, count));
      neighbour.grantedLimit = 2;
    }
    expect(scene.run().flat().sort()).toEqual([0, 1]);
  });

  it("leaves nothing unasked that one who has room holds, and asks nobody for what it lacks", () => {
    const holds = fc.array(fc.integer({ min: 0, max: 99 }), { maxLength: 60 });
    fc.assert(
      fc.property(fc.array(holds, { minLength: 1, maxLength: 6 }), fc.nat(), (maps, seed) => {
        const scene = new Scene(seed, 128);
        const all = maps.map((map) => scene.join(map));
        const asked = scene.run();
        const once = new Set(asked.flat());
        expect(once.size).toBe(asked.flat().length);
        for (const [n, map] of maps.entries()) {
          expect(map).toEqual(expect.arrayContaining(asked[n] as number[]));
          const hasRoom = (all[n] as Neighbour).requestsInFlight < ROOM;
          if (hasRoom) expect(map.filter((index) => !once.has(index))).toEqual([]);
        }
      }),
      { numRuns: 100 },
    );
  });

  it("passes over those that lack what is left until they tell more, or it is no longer all", () => {
    const scene = new Scene();
    const ahead = scene.join(span(0, 400));
    const [none, some] = [scene.join([]), scene.join(span(500, 510))];
    scene.to = 500;
    expect(scene.run().map(({ length }) => length)).toEqual([ROOM, 0, 0]);
    // More than it was asked for is left, and nobody else holds it.
    none.advertised(300, 1);
    scene.puller.heard(none);
    expect(scene.run()).toEqual([[], [300], []]);
    scene.to = 505;
    expect(scene.run()).toEqual([[], [], span(500, 505)]);
    // What could not be had of one is asked of another, that had nothing till then.
    some.advertised(0, 1);
    scene.puller.heard(some);
    expect(scene.run()).toEqual([[], [], []]);
    scene.puller.lost(ahead, 0, 1);
    expect(scene.run()).toContainEqual([0]);
  });

  it("goes on to leave nothing unasked that one who has room holds, whatever happens", () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const rng = seededRng(seed);
        const scene = new Scene(seed, 128);
        const members = [0, 1, 2, 3, 4].map(() => scene.join([]));
        const under = new Map<Neighbour, number[]>(members.map((each) => [each, []]));
        const pick = (): Neighbour => members[rng.below(members.length)] as Neighbour;
        scene.to = 20;
        for (let step = 0; step < 60; step++) {
          const what = rng.below(6);
          const one = pick();
          const asked = under.get(one) as number[];
          if (what < 2) {
            for (let n = rng.below(12); n >= 0; n--) one.advertised(rng.below(100), 1);
            scene.puller.heard(one);
          } else if (what === 2 && asked.length > 0) {
            scene.came(asked.shift() as number, one, rng.below(30));
          } else if (what === 3) {
            scene.puller.lost(one, 0, 100);
            asked.length = 0;
          } else if (what === 4) scene.to = Math.max(scene.to, rng.below(110));
          else one.grantedLimit = 50 + rng.below(60);
          for (const [n, indices] of scene.run(rng.below(5)).entries()) {
            under.get(members[n] as Neighbour)?.push(...indices);
          }
          const request = { max: 1, urgentEnd: 0, random: 0 };
          for (const each of members) {
            if (under.get(each)?.length === ROOM) continue;
            const end = Math.min(scene.to, each.grantedLimit);
            const left = scene.puller.picker.pick({ ...request, end, have: each.have }, LEFT);
            expect(left, `step ${step}`).toBe(0);
          }
        }
      }),
      { numRuns: 40 },
    );
  });

  it("asks the source peer last: for what nobody else holds, once it was there to be pushed", () => {
    const scene = new Scene();
    scene.join(span(0, 4));
    scene.join(span(0, 6), ROLES.source);
    expect(scene.run()).toEqual([span(0, 4), []]);
    // Half of how long partners are waited for.
    expect(scene.run(1_400)).toEqual([[], []]);
    expect(scene.run(100)).toEqual([[], [4, 5]]);
  });

  it("looks for it at each tick, however often it asks others in between", () => {
    const scene = new Scene();
    scene.join([]);
    const source = scene.join([], ROLES.source);
    scene.run(3_000);
    source.advertised(9, 1);
    expect(scene.run(10)).toEqual([[], []]);
    expect(scene.run(40)).toEqual([[], [9]]);
    // At once where there was more than it had room for.
    source.advertised(10, 40);
    expect(scene.run(40)).toEqual([[], span(10, 10 + ROOM - 1)]);
    scene.came(9, source, 1);
    expect(scene.run()).toEqual([[], [10 + ROOM - 1]]);
  });

  it("looks at a part of a large window at a time where one does not send what it says it holds", () => {
    const scene = new Scene(1, 4_096);
    scene.join([0]);
    const slow = scene.join(span(1, 3_000));
    const source = scene.join(span(0, 3_000), ROLES.source);
    scene.to = 4_096;
    const [ofSlow, ofSource]: [number[], number[]] = [[], []];
    for (let ms = 0; ms < 20_000 && ofSource.length < 2; ms += 50) {
      const [, ...asked] = scene.run(50) as [number[], number[], number[]];
      ofSlow.push(...asked[0]);
      // What the other one holds is late, too, and comes without end.
      ofSource.push(...asked[1].filter((index) => index === 0 || index === 3_500));
      const sent = ofSlow.shift();
      if (sent !== undefined && !scene.window.holds(sent)) scene.came(sent, slow, 0);
      for (const index of asked[1]) scene.came(index, source, 0);
      if (ofSource.length === 1) source.advertised(3_500, 1);
    }
    expect(ofSource).toEqual([0, 3_500]);
  });

  it("asks the source peer at once where there is nobody else", () => {
    const scene = new Scene();
    const source = scene.join([], ROLES.source);
    scene.run();
    source.advertised(0, 3);
    expect(scene.run()).toEqual([[0, 1, 2]]);
  });

  it("asks the source peer for what a member let lie that now has no room for it", () => {
    const scene = new Scene();
    scene.join(span(0, ROOM));
    scene.join(span(0, ROOM), ROLES.source);
    expect(scene.run()).toEqual([span(0, ROOM), []]);
    expect(scene.run(2_400)).toEqual([[], []]);
    const [again, ofSource] = scene.run(100) as [number[], number[]];
    // Who let something lie is asked for half as much.
    expect(again).toHaveLength(ROOM / 2);
    expect([...again, ...ofSource].sort((a, b) => a - b)).toEqual(span(0, ROOM));
  });

  it("asks the source peer for what members hold and have no upload for, once it is late", () => {
    const scene = new Scene();
    const member = scene.join(span(0, ROOM));
    scene.join(span(0, ROOM), ROLES.source);
    scene.run();
    for (const index of span(0, ROOM)) {
      scene.puller.busy(member, index, index + 1, 10_000);
    }
    expect(scene.run(1_400)).toEqual([[], []]);
    expect(scene.run(100)).toEqual([[], span(0, ROOM)]);
  });

  it("asks a second one for two late fragments in a row, and for one of 128 that came", () => {
    const scene = new Scene();
    const both = [scene.join(span(0, FRAGMENTS)), scene.join(span(0, FRAGMENTS))];
    // Both have room to spare.
    const headOf = (): number => {
      const head = scene.window.firstMissing(0, FRAGMENTS);
      scene.to = head + 4;
      return head;
    };
    const come = (count: number): void => {
      for (let n = 0; n < count; n++) {
        scene.came(headOf(), both[0] as Neighbour, 1);
        scene.run();
      }
    };
    /** How many late ones a second one is asked for, before it is asked for no more. */
    const seconds = (): number => {
      for (let n = 0; ; n++) {
        const head = headOf();
        // Before any request is over.
        if (![...scene.run(), ...scene.run(400)].flat().includes(head)) return n;
        scene.came(head, both[1] as Neighbour, 0);
      }
    };
    come(300);
    expect(seconds()).toBe(2);
    come(126);
    expect(seconds()).toBe(1);
    come(100);
    expect(seconds()).toBe(0);
  });

  it("wakes one that had nothing to offer when its partner's pushes are waited for no more", () => {
    const scene = new Scene();
    // Of the first substream a partner owes all; of the second one has more than it has room for.
    const inFirst = span(0, 64).filter((index) => index % 32 < 16);
    const inSecond = span(0, 128).filter((index) => index % 32 >= 16);
    const full = scene.join(inSecond);
    const idle = scene.join(inFirst);
    const partner = scene.join([]);
    partner.pullMask = 1;
    scene.partners = [partner, undefined];
    const [ofFull, ofIdle] = scene.run() as [number[], number[], number[]];
    expect(ofFull).toHaveLength(ROOM);
    expect(ofIdle).toEqual([]);
    expect(full.requestsInFlight).toBe(ROOM);
    for (let ms = 0; ms < 5_000 && ofIdle.length === 0; ms += 50) {
      ofIdle.push(...(scene.run(50)[1] as number[]));
    }
    expect(ofIdle).toHaveLength(ROOM);
    expect(inFirst).toEqual(expect.arrayContaining(ofIdle));
    expect(idle.requestsInFlight).toBe(ROOM);
  });
});
