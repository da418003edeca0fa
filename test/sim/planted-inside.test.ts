/**
 * Bugs planted inside the peer, one at a time: a rule of scheduling, credit or the window is changed
 * where it stands, for every member of the swarm. Each is found within a few seeds.
 */

import { afterEach, describe, expect, test, vi } from "vitest";
import { Advertiser } from "../../src/peer/advertiser.ts";
import { Neighbour } from "../../src/peer/neighbour.ts";
import { Requests } from "../../src/peer/requests.ts";
import { Retention } from "../../src/peer/retention.ts";
import { Suppliers } from "../../src/peer/suppliers.ts";
import { Picker } from "../../src/stream/picker.ts";
import { FragmentWindow } from "../../src/stream/window.ts";
import { peerDriver } from "./peer-driver.ts";
import { simulate } from "./run.ts";

/** Those that find much come first. */
const SEEDS = [4, 10, 1, 2, 3, 5, 6, 7, 8, 9, 11, 12];
/** The one that finds most of them. */
const CONTROL_SEEDS = SEEDS.slice(0, 1);
/** Often enough for what is amiss for a moment only. */
const INVARIANTS_EVERY = 7;

interface InsideBug {
  readonly name: string;
  plant(): unknown;
}

const nothing = (): undefined => undefined;

const BUGS: readonly InsideBug[] = [
  {
    name: "scheduling: what came to nothing is never asked for again",
    plant: () => vi.spyOn(Picker.prototype, "release").mockImplementation(nothing),
  },
  {
    name: "scheduling: what is asked for stays a candidate",
    plant: () => vi.spyOn(Picker.prototype, "take").mockImplementation(nothing),
  },
  {
    name: "scheduling: all is left to partners, whoever pushes",
    plant: () => {
      const { pushedFrom } = Picker.prototype;
      vi.spyOn(Picker.prototype, "pushedFrom").mockImplementation(function (this: Picker, s) {
        pushedFrom.call(this, s, 0);
      });
    },
  },
  {
    name: "scheduling: what was withdrawn counts as held",
    plant: () => vi.spyOn(Picker.prototype, "withdrew").mockImplementation(() => 0),
  },
  {
    name: "scheduling: who rested is never woken",
    plant: () => {
      vi.spyOn(Suppliers.prototype, "wake").mockImplementation(nothing);
      vi.spyOn(Suppliers.prototype, "wakeSome").mockImplementation(nothing);
    },
  },
  {
    name: "scheduling: a request is forgotten only by who was asked first",
    plant: () => vi.spyOn(Requests.prototype, "remove").mockImplementation(nothing),
  },
  {
    name: "credit: what makes room is granted to nobody",
    plant: () => {
      const { grant } = Advertiser.prototype;
      vi.spyOn(Advertiser.prototype, "grant").mockImplementation(function (
        this: Advertiser,
        neighbour,
        due,
      ) {
        if (neighbour.grantedLimit === 0) grant.call(this, neighbour, due);
      });
    },
  },
  {
    name: "credit: granted beyond what has room",
    plant: () => {
      const limit = Object.getOwnPropertyDescriptor(FragmentWindow.prototype, "limit")?.get;
      vi.spyOn(FragmentWindow.prototype, "limit", "get").mockImplementation(function (
        this: FragmentWindow,
      ) {
        return limit?.call(this) + 64;
      });
    },
  },
  {
    name: "window: freed with no regard to neighbours",
    plant: () =>
      vi
        .spyOn(Retention.prototype, "acknowledgedTo")
        .mockImplementation(() => Number.POSITIVE_INFINITY),
  },
  {
    name: "window: the highest fragment advertised counts for all below it",
    plant: () =>
      vi.spyOn(Neighbour.prototype, "updateAcked").mockImplementation(function (this: Neighbour) {
        this.ackedTo = Math.max(this.ackedTo, this.remoteHighest);
        return this.ackedTo;
      }),
  },
  {
    name: "window: frees one more than it may",
    plant: () => {
      const { advance } = FragmentWindow.prototype;
      vi.spyOn(FragmentWindow.prototype, "advance").mockImplementation(function (
        this: FragmentWindow,
        start,
      ) {
        advance.call(this, start + 1);
      });
    },
  },
  {
    name: "window: a neighbour's start is ignored",
    plant: () => vi.spyOn(Neighbour.prototype, "startMoved").mockImplementation(nothing),
  },
];

/** What the first seed that finds the planted bug says. */
function hunt(seeds: readonly number[] = SEEDS): string | undefined {
  for (const seed of seeds) {
    const report = simulate({
      seed,
      driver: peerDriver,
      overrides: { healMs: 60_000 },
      invariantsEverySteps: INVARIANTS_EVERY,
      isEnough: ({ length }) => length > 0,
    });
    const [first] = report.violations;
    if (first !== undefined) return `seed ${seed}, ${first.checker}: ${first.message}`;
  }
  return undefined;
}

afterEach(() => vi.restoreAllMocks());

describe("bugs planted inside the peer", () => {
  test.each(BUGS)(
    "$name: found",
    ({ name, plant }) => {
      plant();
      expect(hunt(), `${name} stays hidden for ${SEEDS.length} seeds`).toBeDefined();
    },
    120_000,
  );

  test("none: the same hunt finds nothing", () => {
    expect(hunt(CONTROL_SEEDS)).toBeUndefined();
  }, 120_000);
});
