/** The completeness checker by itself: what an excused gap excuses, and what it does not. */

import { describe, expect, test } from "vitest";
import type { LinkEnd } from "../../src/sim/border.ts";
import type { Inspection, Member } from "../../src/sim/swarm.ts";
import { CompletenessChecker } from "./checkers/completeness.ts";
import { FragmentContents } from "./checkers/contents.ts";
import { DeliveryChecker } from "./checkers/delivery.ts";
import type { SwarmFacts } from "./facts.ts";
import { toyData } from "./toys.ts";

const DATA = 20;
const SOURCE = "toy";
const NOW_MS = 60_000;

/**
 * One datum a fragment: datum n of source "toy" in fragment n - 1. A source peer, one holder besides
 * it that stands still, and the member that is judged.
 */
class Scene {
  readonly violations: string[] = [];
  readonly contents = new FragmentContents();
  readonly delivery: DeliveryChecker;
  readonly checker: CompletenessChecker;
  readonly member: Member;
  /** What the member that stands still holds, and nobody else. */
  readonly kept = new Set<number>();
  /** What a member holds that runs, which the judged one has no link to. */
  readonly strange = new Set<number>();
  readonly directory = { goneUntilMs: Number.NEGATIVE_INFINITY };

  constructor(sent = DATA) {
    const source = fakeMember("source", "source", (index) => this.strange.has(index));
    const holder = fakeMember("holder", "peer", (index) => this.kept.has(index));
    this.member = fakeMember("judged", "peer", () => false);
    const members = [source, holder, this.member];
    const facts = {
      world: {
        nowMs: NOW_MS,
        violate: (checker: string, message: string) =>
          this.violations.push(`${checker}: ${message}`),
      },
      payloads: { fault: () => undefined },
      dataPerSource: new Map([[SOURCE, DATA]]),
      delivery: "complete",
      swarm: { members, memberOf: () => undefined },
      directory: this.directory,
    } as unknown as SwarmFacts;
    this.delivery = new DeliveryChecker(facts);
    this.checker = new CompletenessChecker(facts, this.delivery, this.contents);
    const link = { mode: "stream" } as unknown as LinkEnd;
    for (let index = 0; index < sent; index++) {
      const frame = toyData(index, new Uint8Array(3), index === DATA - 1);
      this.contents.onTransmit(undefined as never, link, frame);
    }
  }

  takes(from: number, to: number): this {
    for (let sequence = from; sequence <= to; sequence++) {
      this.delivery.onDatum(this.member, SOURCE, sequence, new Uint8Array(3));
    }
    return this;
  }

  /** Fragments [from, to], and the data in them, are given up. */
  loses(from: number, to: number): this {
    const fragments = { kind: "fragments", sourceId: undefined, from, to } as const;
    this.checker.onGap(this.member, fragments);
    return this.losesData(from + 1, to + 1);
  }

  losesData(from: number, to: number): this {
    const data = { kind: "data", sourceId: SOURCE, from, to } as const;
    this.delivery.onGap(this.member, data);
    this.checker.onGap(this.member, data);
    return this;
  }

  end(): string[] {
    this.member.ended = true;
    this.checker.onEnd();
    return this.violations;
  }
}

function fakeMember(name: string, role: "source" | "peer", held: (i: number) => boolean): Member {
  return {
    name,
    role,
    node: { alive: true, paused: name === "holder", ends: new Map() },
    driver: { inspect: () => ({ held, start: 0 }) as unknown as Inspection },
    fromStart: true,
    excuses: new Set(name === "holder" ? ["stuck"] : []),
    started: true,
    ended: false,
    inGoodStanding: role === "peer" && name === "judged",
  } as unknown as Member;
}

describe("completeness", () => {
  test("all there is: no word", () => {
    expect(new Scene().takes(1, DATA).end()).toEqual([]);
  });

  test("a gap of what somebody who runs could send is none of the member's fault", () => {
    const scene = new Scene().takes(1, 5).loses(5, 6).takes(8, DATA);
    expect(scene.end()).toEqual([expect.stringContaining("has a gap, fragments 5..6")]);
  });

  test("a gap of what only a stranger holds is excused while nobody could name that one", () => {
    const scene = (goneUntilMs: number): Scene => {
      const made = new Scene().takes(1, 5);
      made.strange.add(5);
      made.directory.goneUntilMs = goneUntilMs;
      return made.loses(5, 5).takes(7, DATA);
    };
    expect(scene(NOW_MS - 1_000).end()).toEqual([]);
    expect(scene(NOW_MS - 6_000).end()).toEqual([expect.stringContaining("has a gap")]);
  });

  test("a gap of what only one holds that stands still is excused, of one fragment or of some", () => {
    for (const last of [5, 7]) {
      const scene = new Scene();
      for (let index = 5; index <= last; index++) scene.kept.add(index);
      expect(
        scene
          .takes(1, 5)
          .loses(5, last)
          .takes(last + 2, DATA)
          .end(),
      ).toEqual([]);
    }
  });

  test("a gap that names one fragment more than that is not", () => {
    const scene = new Scene();
    scene.kept.add(5);
    expect(scene.takes(1, 5).loses(5, 6).takes(8, DATA).end()).toEqual([
      expect.stringContaining("has a gap, fragments 5..6"),
    ]);
  });

  describe("after an excused gap", () => {
    const excused = (): Scene => {
      const scene = new Scene();
      scene.kept.add(5);
      return scene.takes(1, 5).loses(5, 5);
    };

    test("another gap is found", () => {
      expect(excused().takes(7, 9).loses(9, 9).takes(11, DATA).end()).toEqual([
        expect.stringContaining("has a gap, fragments 9..9"),
      ]);
    });

    test("data lost that lie elsewhere are found", () => {
      expect(excused().takes(7, 9).losesData(10, 10).takes(11, DATA).end()).toEqual([
        expect.stringContaining("has a gap, toy 10..10"),
      ]);
    });

    test("data past the end of what was delivered are missed", () => {
      expect(excused().takes(7, 15).end()).toEqual([
        expect.stringContaining(`ends with 15 of ${DATA}`),
      ]);
    });

    test("order and repeats are judged, END is asked for", () => {
      const scene = excused().takes(8, 8).takes(7, 7);
      expect(scene.violations).toEqual([
        expect.stringContaining("7 was skipped without a word"),
        expect.stringContaining("7: delivered again"),
      ]);
      const waiting = excused().takes(7, DATA);
      waiting.checker.onEnd();
      expect(waiting.violations).toEqual([expect.stringContaining("did not come to the end")]);
    });
  });

  test("a start is excused as far as it lies in an excused gap", () => {
    const scene = (first: number): Scene => {
      const made = new Scene();
      made.kept.add(0).add(1);
      return made.loses(0, 1).takes(first, DATA);
    };
    expect(scene(3).end()).toEqual([]);
    expect(scene(4).end()).toEqual([expect.stringContaining("starts with 4")]);
  });

  test("what was never sent to anybody is excused by a gap of just that", () => {
    const scene = new Scene(15);
    for (let index = 15; index < DATA; index++) scene.kept.add(index);
    expect(
      scene
        .takes(1, 15)
        .loses(15, DATA - 1)
        .end(),
    ).toEqual([]);
    const other = new Scene(15);
    other.kept.add(5);
    expect(other.takes(1, 5).loses(5, 5).takes(7, 15).losesData(16, DATA).end()).toEqual([
      expect.stringContaining(`has a gap, toy 16..${DATA}`),
    ]);
  });
});
