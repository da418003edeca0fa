/** Who pushes what to whom: shares of the source peer, grants of a peer, no loops. */

import { describe, expect, it } from "vitest";
import { FRAME_TYPES } from "../../src/base/layout.ts";
import { CHILDREN_MAX, SUBSTREAM_RUN } from "../../src/base/limits.ts";
import { seededRng } from "../../src/base/rng.ts";
import type { PeerContext } from "../../src/peer/context.ts";
import { KnownTimes } from "../../src/peer/known-times.ts";
import type { Neighbour } from "../../src/peer/neighbour.ts";
import { bitCount } from "../../src/peer/partners/grants.ts";
import { Partners } from "../../src/peer/partners/partners.ts";
import type { Accept } from "../../src/protocol/r10.ts";
import type { FragmentWindow } from "../../src/stream/window.ts";
import { type MsgpackValue, readMsgpack } from "../support/msgpack-reader.ts";

const SUBSTREAMS = 8;
const ALL = 0xff;
const NOT_GRANTED = 255;

interface Told {
  readonly type: number;
  readonly mask: number;
}

/** A neighbour as far as partners look at it; frames it is told are kept. */
class FakeNeighbour {
  static #made = 0;
  readonly peerId = `peer ${FakeNeighbour.#made++}`;
  readonly told: Told[] = [];
  readonly isSource: boolean;
  mapKnown = true;
  pushMask = 0;
  wantedMask = 0;
  toldAccept = "";
  toldAcceptMs = Number.NEGATIVE_INFINITY;
  roomMs = 0;
  pullMask = 0;
  readonly pullFrom = new Float64Array(32);
  pullSinceMs = 0;
  readonly tookOver: unknown[] = [];
  lagging = false;
  remoteHighest = Number.MAX_SAFE_INTEGER;
  advancedMs = 0;
  has = true;
  readonly depths = new Uint8Array(32).fill(NOT_GRANTED);
  openMask = 0;
  spareCopies = 0;
  askedMask = 0;
  askedMs = 0;
  awaitingAccept = false;
  readonly refusedUntilMs = new Float64Array(32);
  lastDataMs = 0;
  acked = Number.MAX_SAFE_INTEGER;
  readonly lane = { waits: false };
  readonly link = {
    transmit: (bytes: Uint8Array) => {
      const fields = readMsgpack(bytes.subarray(8)) as MsgpackValue[];
      this.told.push({ type: bytes[6] as number, mask: Number(fields[1]) });
    },
  };
  constructor(isSource = false) {
    this.isSource = isSource;
  }
  tailTo = 0;
  wantsPushed(mask: number, _from: number, until: number): void {
    this.wantedMask = mask;
    this.tailTo = until;
  }
  setPush(mask: number): void {
    this.pushMask = mask;
  }
  holds(): boolean {
    return this.has;
  }
  updateAcked(): number {
    return this.acked;
  }
  /** The masks it was told in frames of this type. */
  masks(type: number): number[] {
    return this.told.filter((each) => each.type === type).map(({ mask }) => mask);
  }
}

class Scene {
  readonly partners: Partners;
  readonly all: FakeNeighbour[] = [];
  readonly context: { now: { monoMs: number } };
  /** The first fragment that is missing here. */
  missing = 100;
  /** So far the stream is known. */
  known = 100;
  readonly times = new KnownTimes(10_000);
  readonly distances = new Map<string, number>();

  constructor(isSource: boolean) {
    const context = {
      now: { monoMs: 1_000 },
      rng: seededRng(7),
      upload: { isSaturated: false },
      distanceTo: (peerId: string) => this.distances.get(peerId) ?? 0,
    };
    this.context = context;
    const window = {
      start: 0,
      highest: 100,
      limit: 1_000,
      firstMissing: (from: number, to: number) =>
        from > this.missing ? to : Math.min(to, this.missing),
    };
    this.partners = new Partners(
      context as unknown as PeerContext,
      window as unknown as FragmentWindow,
      new Uint8Array(8),
      SUBSTREAMS,
      isSource,
      this.times,
    );
  }

  get list(): Neighbour[] {
    return this.all as unknown as Neighbour[];
  }

  join(neighbour = new FakeNeighbour()): FakeNeighbour {
    this.all.push(neighbour);
    return neighbour;
  }

  wants(neighbour: FakeNeighbour, mask: number, until = 0): void {
    const message = { mask, from: 100, until };
    this.partners.wanted(neighbour as unknown as Neighbour, message, this.list);
  }

  accept(neighbour: FakeNeighbour, mask: number, depth: number, open = mask): void {
    const depths = new Uint8Array(SUBSTREAMS).fill(depth);
    const accept = { mask, depths, open, wanted: neighbour.askedMask, spare: 16 } as Accept;
    this.partners.accepted(neighbour as unknown as Neighbour, accept, this.list);
  }

  /** It has been told by ACCEPT that `neighbour` would grant `mask` over `depth` hops. */
  offers(neighbour: FakeNeighbour, mask: number, depth: number): void {
    neighbour.openMask = mask;
    neighbour.spareCopies = 16;
    neighbour.depths.fill(depth, 0, SUBSTREAMS);
  }

  seek(): void {
    this.times.sample(this.known, this.context.now.monoMs);
    this.partners.seek(this.list, this.known);
  }

  /** A peer that `feeder` pushes all to, from `depth` hops away. */
  static fed(depth = 1): { scene: Scene; feeder: FakeNeighbour } {
    const scene = new Scene(false);
    const feeder = scene.join();
    scene.offers(feeder, ALL, depth);
    scene.seek();
    scene.accept(feeder, ALL, depth);
    return { scene, feeder };
  }
}

describe("shares of the source peer", () => {
  it("each substream goes to one, evenly among those who ask, whoever comes and goes", () => {
    for (let seed = 1; seed <= 30; seed++) {
      const rng = seededRng(seed);
      const scene = new Scene(true);
      for (let turn = 0; turn < 20; turn++) {
        if (scene.all.length === 0 || rng.below(3) > 0) scene.wants(scene.join(), ALL);
        else {
          const [gone] = scene.all.splice(rng.below(scene.all.length), 1);
          scene.partners.gone(gone as unknown as Neighbour, scene.list);
        }
        const masks = scene.all.map(({ pushMask }) => pushMask);
        const counts = masks.map(bitCount);
        const union = masks.reduce((sum, mask) => sum | mask, 0);
        const total = counts.reduce((sum, count) => sum + count, 0);
        expect(total, `seed ${seed}: no substream twice`).toBe(bitCount(union));
        if (masks.length === 0) continue;
        expect(union, `seed ${seed}: all are given`).toBe(ALL);
        expect(Math.max(...counts), `seed ${seed}`).toBeLessThanOrEqual(
          Math.ceil(SUBSTREAMS / masks.length),
        );
      }
    }
  });

  it("who does not ask gets nothing; who asks for some gets none of the others", () => {
    const scene = new Scene(true);
    const [silent, modest, eager] = [scene.join(), scene.join(), scene.join()];
    scene.wants(modest, 0b11);
    scene.wants(eager, ALL);
    expect(silent.pushMask).toBe(0);
    expect(modest.pushMask & ~0b11).toBe(0);
    expect(modest.pushMask | eager.pushMask).toBe(ALL);
    expect(modest.pushMask & eager.pushMask).toBe(0);
  });

  it("a newcomer that still catches up gets its share once it has, and each change is told", () => {
    const scene = new Scene(true);
    const first = scene.join();
    scene.wants(first, ALL);
    const late = scene.join();
    late.acked = Number.NEGATIVE_INFINITY;
    scene.wants(late, ALL);
    expect([first.pushMask, late.pushMask]).toEqual([ALL, 0]);
    late.acked = 100;
    scene.partners.watch(scene.list);
    expect(bitCount(late.pushMask)).toBe(SUBSTREAMS / 2);
    for (const each of [first, late]) {
      expect(each.masks(FRAME_TYPES.ACCEPT).at(-1)).toBe(each.pushMask);
    }
  });
});

describe("grants of a peer", () => {
  it("grants what it is fed, and nothing else", () => {
    const unfed = new Scene(false);
    const asker = unfed.join();
    unfed.wants(asker, ALL);
    expect(asker.pushMask).toBe(0);
    expect(asker.masks(FRAME_TYPES.ACCEPT)).toEqual([0]);

    const { scene } = Scene.fed();
    const child = scene.join();
    scene.wants(child, 0b101);
    expect(child.pushMask).toBe(0b101);
    expect(child.masks(FRAME_TYPES.ACCEPT).at(-1)).toBe(0b101);
  });

  it("never grants a neighbour what that neighbour feeds it, nor what it asks of it now", () => {
    const { scene, feeder } = Scene.fed();
    scene.wants(feeder, ALL);
    expect(feeder.pushMask).toBe(0);
    const asked = scene.join();
    asked.askedMask = 0b11;
    asked.awaitingAccept = true;
    scene.wants(asked, 0b110);
    expect(asked.pushMask & 0b11).toBe(0);
  });

  it("takes no more than it bears, and no more children in a substream than there may be", () => {
    const { scene } = Scene.fed();
    for (let i = 0; i < 4 * CHILDREN_MAX; i++) {
      scene.wants(scene.join(), ALL);
      const copies = scene.all.reduce((sum, { pushMask }) => sum + bitCount(pushMask), 0);
      expect(copies).toBeLessThanOrEqual(scene.partners.copiesMax);
      for (let s = 0; s < SUBSTREAMS; s++) {
        const children = scene.all.filter(({ pushMask }) => (pushMask & (1 << s)) !== 0);
        expect(children.length).toBeLessThanOrEqual(CHILDREN_MAX);
      }
    }
  });

  it("takes back what is wanted no more", () => {
    const { scene } = Scene.fed();
    const child = scene.join();
    scene.wants(child, 0b111);
    scene.wants(child, 0b010);
    expect(child.pushMask).toBe(0b010);
  });

  it("goes on with what was dropped as far as its window reaches, and no further", () => {
    const { scene } = Scene.fed();
    const child = scene.join();
    scene.wants(child, 0b11);
    scene.wants(child, 0b01, 400);
    expect(child.tailTo).toBe(400);
    scene.wants(child, 0b11);
    scene.wants(child, 0b01, Number.MAX_SAFE_INTEGER);
    expect(child.tailTo).toBe(1_000);
  });

  it("withdraws from those it feeds what nobody feeds it for long", () => {
    const { scene, feeder } = Scene.fed();
    const child = scene.join();
    scene.wants(child, ALL);
    const granted = child.pushMask;
    expect(granted).not.toBe(0);
    scene.all.splice(0, 1);
    scene.partners.gone(feeder as unknown as Neighbour, scene.list);
    scene.seek();
    // Kept for a moment: another may be found.
    expect(child.pushMask).toBe(granted);
    scene.context.now = { monoMs: scene.context.now.monoMs + 60_000 };
    scene.seek();
    expect(child.pushMask).toBe(0);
    expect(child.masks(FRAME_TYPES.ACCEPT).at(-1)).toBe(0);
  });
});

describe("asking for partners", () => {
  it("asks one that would grant, of those alike near the nearer, and takes it when it says so", () => {
    const scene = new Scene(false);
    const [closed, far, near] = [scene.join(), scene.join(), scene.join()];
    scene.offers(closed, 0, 1);
    scene.offers(far, ALL, 7);
    scene.offers(near, ALL, 2);
    scene.seek();
    expect(near.masks(FRAME_TYPES.PARTNER)).toEqual([ALL]);
    expect([...closed.told, ...far.told]).toEqual([]);
    expect(scene.partners.partners.every((partner) => partner === undefined)).toBe(true);
    scene.accept(near, ALL, 2);
    expect(new Set(scene.partners.partners)).toEqual(new Set([near]));
    for (let s = 0; s < SUBSTREAMS; s++) expect(scene.partners.depth(s)).toBe(3);
  });

  it("asks the nearest in the network of those that are as good in all else", () => {
    for (const [far, near, depth] of [
      [200, 10, 2],
      [10, 200, 2],
      [1, 0, 2],
      [200, 0, 1],
    ] as const) {
      const scene = new Scene(false);
      const [one, other] = [scene.join(), scene.join()];
      scene.distances.set(one.peerId, far).set(other.peerId, near);
      // Fewer hops to the source count for more.
      scene.offers(one, 1, depth);
      scene.offers(other, 1, 2);
      scene.seek();
      const isOne = depth < 2 || far < near;
      expect([one.askedMask, other.askedMask]).toEqual(isOne ? [1, 0] : [0, 1]);
    }
  });

  it("one that grants some feeds those; for the others it is not asked again at once", () => {
    const scene = new Scene(false);
    const one = scene.join();
    scene.offers(one, ALL, 1);
    scene.seek();
    scene.accept(one, 0b1111, 1, ALL);
    expect(scene.partners.partners.filter((partner) => partner !== undefined).length).toBe(4);
    const before = one.masks(FRAME_TYPES.PARTNER).length;
    scene.seek();
    expect(one.masks(FRAME_TYPES.PARTNER).length).toBe(before);
    const other = scene.join();
    scene.offers(other, ALL, 1);
    scene.seek();
    expect(other.masks(FRAME_TYPES.PARTNER)).toEqual([0b1111_0000]);
  });

  it("no loop: who feeds others takes no partner that is as far from the source as itself", () => {
    const { scene, feeder } = Scene.fed(3);
    const child = scene.join();
    scene.wants(child, ALL);
    const granted = child.pushMask;
    scene.all.splice(0, 1);
    scene.partners.gone(feeder as unknown as Neighbour, scene.list);
    // One further off, which may hang on this node by others; the child itself; one nearer.
    const below = scene.join();
    scene.offers(below, ALL, 5);
    scene.offers(child, ALL, 0);
    scene.seek();
    expect(below.masks(FRAME_TYPES.PARTNER)).toEqual([]);
    expect(child.masks(FRAME_TYPES.PARTNER)).toEqual([]);
    expect(child.pushMask).toBe(granted);
    const above = scene.join();
    scene.offers(above, ALL, 2);
    scene.seek();
    expect(above.masks(FRAME_TYPES.PARTNER)).toEqual([ALL]);
  });

  it("no loop: an ACCEPT that came of a race is refused, and told so", () => {
    const { scene } = Scene.fed(1);
    const child = scene.join();
    scene.wants(child, 1);
    expect(child.pushMask).toBe(1);
    child.askedMask = 1;
    child.awaitingAccept = true;
    scene.accept(child, 1, 5);
    expect(scene.partners.partners[0]).not.toBe(child);
    expect(child.masks(FRAME_TYPES.PARTNER).at(-1)).toBe(0);
  });

  it("no loop: nor is one granted that moved away from the source since it was asked", () => {
    const { scene, feeder } = Scene.fed(3);
    const child = scene.join();
    scene.wants(child, 1);
    const other = scene.join();
    scene.offers(other, ALL, 1);
    other.askedMask = 1;
    other.awaitingAccept = true;
    // It hangs on this node by now, perhaps: as far off as this node itself.
    scene.accept(other, 1, 4);
    expect(scene.partners.partners[0]).toBe(feeder);
    expect(other.masks(FRAME_TYPES.PARTNER).at(-1)).toBe(0);
    other.askedMask = 1;
    scene.accept(other, 1, 2);
    expect(scene.partners.partners[0]).toBe(other);
  });

  it("a partner that is gone is one no more, and what it fed is sought again", () => {
    const { scene, feeder } = Scene.fed(1);
    const other = scene.join();
    scene.offers(other, ALL, 1);
    scene.all.splice(0, 1);
    scene.partners.gone(feeder as unknown as Neighbour, scene.list);
    expect(scene.partners.partners.every((partner) => partner === undefined)).toBe(true);
    scene.seek();
    expect(other.masks(FRAME_TYPES.PARTNER)).toEqual([ALL]);
  });

  it("a partner that pushes nothing for long while something is missing is given up", () => {
    const { scene, feeder } = Scene.fed(1);
    const pushes = (): boolean => scene.partners.partners.includes(feeder as unknown as Neighbour);
    const pass = (ms: number): void => {
      scene.context.now = { monoMs: scene.context.now.monoMs + ms };
      scene.seek();
    };
    // Nothing is missing: it has nothing to push.
    for (let i = 0; i < 100; i++) pass(600);
    expect(pushes()).toBe(true);
    scene.missing = 150;
    scene.known = 200;
    feeder.lastDataMs = scene.context.now.monoMs;
    const before = feeder.masks(FRAME_TYPES.PARTNER).length;
    const asked = (): number[] => feeder.masks(FRAME_TYPES.PARTNER).slice(before);
    let passes = 0;
    while (passes < 100 && asked().length === 0) {
      pass(600);
      passes++;
    }
    expect(passes).toBeGreaterThan(2);
    // Of the one substream that lacks something, and of no other.
    const s = Math.floor(150 / SUBSTREAM_RUN) % SUBSTREAMS;
    expect(asked()).toEqual([ALL & ~(1 << s)]);
    expect(pushes()).toBe(true);
    expect(scene.partners.partners[s]).toBe(undefined);
  });

  it("one that has nothing of it yet is given more time, as long as it gets what is new", () => {
    const waited = [
      { has: true, advances: true },
      { has: false, advances: true },
      { has: false, advances: false },
    ].map(({ has, advances }) => {
      const { scene, feeder } = Scene.fed(1);
      feeder.has = has;
      scene.missing = 150;
      scene.known = 200;
      feeder.lastDataMs = scene.context.now.monoMs;
      feeder.advancedMs = scene.context.now.monoMs;
      const sinceMs = scene.context.now.monoMs;
      const isPartner = () => scene.partners.partners.every((each) => each !== undefined);
      for (let i = 0; i < 1_000 && isPartner(); i++) {
        scene.context.now = { monoMs: scene.context.now.monoMs + 100 };
        if (advances) feeder.advancedMs = scene.context.now.monoMs;
        scene.seek();
      }
      expect(isPartner()).toBe(false);
      return scene.context.now.monoMs - sinceMs;
    });
    expect(waited[1]).toBeGreaterThan(2 * (waited[0] as number));
    expect(waited[2]).toBeLessThan(1.2 * (waited[0] as number));
  });

  it("leaves a full partner for one with plenty to spare, not for one as full", () => {
    for (const [spare, leaves] of [
      [0, false],
      [16, true],
    ] as const) {
      const { scene, feeder } = Scene.fed(2);
      feeder.spareCopies = 0;
      const other = scene.join();
      scene.offers(other, ALL, 2);
      other.spareCopies = spare;
      for (let i = 0; i < 20; i++) {
        scene.context.now = { monoMs: scene.context.now.monoMs + 500 };
        scene.seek();
      }
      expect(other.masks(FRAME_TYPES.PARTNER).length > 0).toBe(leaves);
    }
  });

  it("takes none that lags, or gets nothing new", () => {
    const scene = new Scene(false);
    const [lags, stands] = [scene.join(), scene.join()];
    scene.offers(lags, ALL, 1);
    scene.offers(stands, ALL, 1);
    lags.lagging = true;
    stands.remoteHighest = 50;
    scene.context.now = { monoMs: 10_000 };
    scene.seek();
    expect([...lags.told, ...stands.told]).toEqual([]);
    stands.advancedMs = 9_900;
    scene.seek();
    expect(stands.masks(FRAME_TYPES.PARTNER)).toEqual([ALL]);
  });

  it("says that it lacks partners after a while without", () => {
    const { scene, feeder } = Scene.fed(1);
    expect(scene.partners.lacks).toBe(false);
    scene.all.splice(0, 1);
    scene.partners.gone(feeder as unknown as Neighbour, scene.list);
    expect(scene.partners.lacks).toBe(false);
    scene.context.now = { monoMs: scene.context.now.monoMs + 60_000 };
    expect(scene.partners.lacks).toBe(true);
  });
});
