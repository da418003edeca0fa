/** Whom a peer dials of those that the OMS named: when again, how many, and who is forgotten. */

import { describe, expect, it } from "vitest";
import { seededRng } from "../../src/base/rng.ts";
import {
  type DialWish,
  KNOWN_MAX,
  KnownMembers,
  listAgainMs,
} from "../../src/peer/session/known-members.ts";
import { type Candidate, ROLES } from "../../src/protocol/common.ts";
import type { Member } from "../../src/protocol/r5.ts";

const at = (host: string, port = 7_910): Candidate => ({ transport: "tcp", host, port, kind: 1 });
const idOf = (n: number): string => n.toString(16).padStart(64, "0");

function member(n: number, more: Partial<Member> = {}): Member {
  const candidates = [at("198.51.100.1", n)];
  return { peerId: idOf(n), role: ROLES.peer, candidates, reach: 1, ...more };
}
/** Whom the index file names as the source peer. */
const SOURCE = member(5_000, { role: ROLES.source });
const someOf = (from: number, count: number): Member[] =>
  Array.from({ length: count }, (_, i) => member(from + i));

const other = idOf(9_999);
const wish = (more: Partial<DialWish> = {}): DialWish => ({
  linked: new Set([other]),
  links: 6,
  dial: undefined,
  metSource: true,
  ...more,
});

function fresh(
  members: readonly Member[] = [],
  distanceTo: (peerId: string) => number = () => 0,
): KnownMembers {
  const known = new KnownMembers(seededRng(1), idOf(0), distanceTo);
  known.begin(SOURCE.peerId);
  known.learn(members, []);
  return known;
}

interface Dialled {
  readonly peerId: string;
  readonly atMs: number;
}

/** Dials once every 500 ms, and again after each failure; all dials come to nothing. */
function allDead(
  known: KnownMembers,
  { fromMs = 0, untilMs }: { readonly fromMs?: number; readonly untilMs: number },
  { every = () => {}, ...more }: Partial<DialWish> & { every?: (atMs: number) => void } = {},
): Dialled[] {
  const dialled: Dialled[] = [];
  for (let atMs = fromMs; atMs < untilMs; atMs += 500) {
    every(atMs);
    for (let dials = known.toDial(wish(more), atMs); dials.length > 0; ) {
      for (const { peerId, address } of dials) {
        dialled.push({ peerId, atMs });
        known.failed(address, "UNREACHABLE");
      }
      dials = known.toDial(wish(more), atMs);
    }
  }
  return dialled;
}

const times = (dialled: readonly Dialled[]): number[] => dialled.map(({ atMs }) => atMs);

describe("a member that can not be reached", () => {
  it("is dialled after 4 s, 8 s, ... each a quarter longer at most, up to some minutes", () => {
    const atMs = times(allDead(fresh([member(1)]), { untilMs: 3_600_000 }));
    const pauses = atMs.slice(1).map((ms, i) => ms - (atMs[i] as number));
    for (const [i, pauseMs] of pauses.entries()) {
      const leastMs = Math.min(4_000 * 2 ** i, 256_000);
      expect(pauseMs).toBeGreaterThanOrEqual(leastMs);
      expect(pauseMs).toBeLessThanOrEqual(leastMs * 1.25 + 500);
    }
    expect(pauses.length).toBeGreaterThan(10);
    // By lot, so that not all come at once: but the same each time.
    expect(times(allDead(fresh([member(1)]), { untilMs: 3_600_000 }))).toEqual(atMs);
    expect(new Set(pauses.slice(7)).size).toBeGreaterThan(1);
  });

  it("waits 8 s at most for who is linked to nobody", () => {
    const atMs = times(allDead(fresh([member(1)]), { untilMs: 120_000 }, { linked: new Set() }));
    for (const [i, ms] of atMs.slice(1).entries()) {
      expect(ms - (atMs[i] as number)).toBeLessThanOrEqual(8_500);
    }
    expect(atMs.length).toBeGreaterThan(12);
  });

  it("is dialled every 4 s when it is the source peer, and never forgotten", () => {
    const known = fresh([SOURCE]);
    const nobody = (): void => known.learn([], []);
    const atMs = times(allDead(known, { untilMs: 120_000 }, { every: nobody }));
    expect(atMs.length).toBe(30);
    for (let i = 0; i < 30; i++) expect(atMs[i]).toBe(i * 4_000);
  });

  it("is forgotten when it fails and was in none of three lists", () => {
    const known = fresh([member(1), member(2)]);
    allDead(known, { untilMs: 60_000 });
    expect(known.size).toBe(2);
    for (let i = 0; i < 3; i++) known.learn([member(2)], []);
    expect(known.size).toBe(2);
    allDead(known, { fromMs: 60_000, untilMs: 600_000 });
    expect(known.has(idOf(1))).toBe(false);
    expect(known.has(idOf(2))).toBe(true);
  });

  it("is not forgotten for lists of those only that hold something", () => {
    const known = fresh([member(1)]);
    for (let i = 0; i < 10; i++) known.learn([], [], true);
    allDead(known, { untilMs: 60_000 });
    expect(known.has(idOf(1))).toBe(true);
  });

  it("begins afresh when the OMS names it again, when it moved, and when it was linked", () => {
    const again = [
      (known: KnownMembers) => {
        for (let i = 0; i < 3; i++) known.learn([], []);
        known.learn([member(1)], []);
      },
      (known: KnownMembers) =>
        known.learn([member(1, { candidates: [at("198.51.100.2", 1)] })], []),
      (known: KnownMembers) => known.linked(idOf(1)),
    ];
    for (const act of again) {
      const known = fresh([member(1)]);
      const before = times(allDead(known, { untilMs: 100_000 }));
      expect(before.length).toBe(5);
      act(known);
      const after = times(allDead(known, { fromMs: 100_000, untilMs: 130_000 }));
      expect(after[0]).toBe(100_000);
      expect((after[1] ?? 0) - 100_000).toBeLessThan(6_000);
    }
    const named = fresh([member(1)]);
    allDead(named, { untilMs: 100_000 });
    named.learn([member(1)], []);
    expect(named.toDial(wish(), 100_000)).toEqual([]);
  });
});

describe("a member with several candidates", () => {
  const candidates = [at("198.51.100.1"), at("198.51.100.2"), at("198.51.100.3")];

  it("is dialled at its next one at once, until all were tried", () => {
    const known = fresh([member(1, { candidates })]);
    const hosts: string[] = [];
    for (let i = 0; i < 3; i++) {
      const [dial] = known.toDial(wish(), 1_000);
      hosts.push(dial?.address.host ?? "none");
      if (dial !== undefined) known.failed(dial.address, "UNREACHABLE");
    }
    expect(hosts).toEqual(candidates.map(({ host }) => host));
    expect(known.toDial(wish(), 1_000)).toEqual([]);
    expect(known.toDial(wish(), 4_999)).toEqual([]);
    expect(known.toDial(wish(), 6_000).length).toBe(1);
  });

  it("is not touched by another's failure", () => {
    const known = fresh([member(1, { candidates })]);
    known.toDial(wish(), 1_000);
    known.failed(at("192.0.2.1"), "UNREACHABLE");
    known.failed(at("198.51.100.1", 9), "UNREACHABLE");
    known.failed(at("198.51.100.2"), "UNREACHABLE");
    expect(known.toDial(wish(), 1_000)).toEqual([]);
  });
});

describe("members that come and go", () => {
  it("are known in limits: those go that failed most, then whom the OMS named longest ago", () => {
    const known = fresh(someOf(1, 4));
    const dead = known.toDial(wish({ dial: [idOf(1)] }), 0);
    for (const { address } of dead) known.failed(address, "UNREACHABLE");
    known.learn([SOURCE, ...someOf(100, KNOWN_MAX - 4)], []);
    expect(known.size).toBe(KNOWN_MAX);
    expect(known.has(idOf(1))).toBe(false);
    known.learn([member(3000)], []);
    expect(known.size).toBe(KNOWN_MAX);
    expect([2, 3, 4].filter((n) => known.has(idOf(n))).length).toBe(2);
    known.learn(someOf(10_000, 1_000), []);
    expect(known.size).toBe(KNOWN_MAX);
    expect(known.has(SOURCE.peerId)).toBe(true);
  });

  it("are asked for again soon while none of those named is linked, and why is said once", () => {
    expect(listAgainMs(0, [idOf(1)])).toBe(1_000);
    expect([listAgainMs(0), listAgainMs(1, [idOf(1)])]).toEqual([2_000, 2_000]);
    const known = fresh(someOf(2, 3));
    const alone = wish({ linked: new Set(), dial: [idOf(1)] });
    const why = (atMs: number): string | undefined => known.whyAlone(alone, atMs);
    expect([why(0), why(2_400)]).toEqual([undefined, undefined]);
    expect(why(2_500)).toBe("dial: none of the members named is there");
    expect(why(60_000)).toBeUndefined();
    known.whyAlone(wish({ dial: [idOf(1)] }), 61_000);
    known.learn(someOf(1, 3), []);
    for (const { address } of known.toDial(alone, 61_000)) known.failed(address, "UNREACHABLE");
    expect(why(61_000)).toBeUndefined();
    expect(why(64_000)).toBe("dial: none of the members named could be reached: UNREACHABLE");
    // Whoever dials anybody is looked after by others.
    expect(fresh().whyAlone(wish({ linked: new Set() }), 99_000)).toBeUndefined();
  });

  it("are dialled in limits, whatever the OMS names: a list at once, then one a second", () => {
    const known = fresh();
    let next = 1;
    const dialled = allDead(
      known,
      { untilMs: 60_000 },
      {
        linked: new Set(),
        every: (atMs) => {
          if (atMs % 2_000 !== 0) return;
          known.learn(someOf(next, 20), []);
          next += 20;
        },
      },
    );
    expect(dialled.length).toBeLessThanOrEqual(32 + 60);
    expect(times(dialled).filter((atMs) => atMs === 0).length).toBe(20);
  });

  it("are dialled and known in limits when the OMS says of each that it is the source peer", () => {
    const known = fresh([SOURCE]);
    let next = 10_000;
    const dialled = allDead(
      known,
      { untilMs: 60_000 },
      {
        metSource: false,
        every: (atMs) => {
          if (atMs % 2_000 !== 0) return;
          known.learn(
            someOf(next, 20).map((each) => ({ ...each, role: ROLES.source })),
            [],
          );
          next += 20;
        },
      },
    );
    const ofSource = dialled.filter(({ peerId }) => peerId === SOURCE.peerId);
    expect(times(ofSource)).toEqual(Array.from({ length: 15 }, (_, i) => i * 4_000));
    expect(dialled.length - ofSource.length).toBeLessThanOrEqual(32 + 60);
    expect(known.size).toBeLessThanOrEqual(KNOWN_MAX);
    expect(known.has(SOURCE.peerId)).toBe(true);
  });

  it("are none once another overlay begins, whose source peer is another one", () => {
    const known = fresh([SOURCE, ...someOf(1, 10)]);
    known.toDial(wish(), 0);
    known.begin(idOf(1));
    expect(known.size).toBe(0);
    known.learn([SOURCE, member(1)], []);
    const all = allDead(known, { fromMs: 60_000, untilMs: 100_000 });
    expect(all.filter(({ peerId }) => peerId === idOf(1))).toHaveLength(10);
    expect(all.filter(({ peerId }) => peerId === SOURCE.peerId).length).toBeLessThan(6);
  });

  it("are dialled one for the other while few are wanted: who failed makes room at once", () => {
    const known = fresh(someOf(1, 10));
    const first = known.toDial(wish({ links: 3 }), 0);
    expect(first.length).toBe(2);
    expect(known.toDial(wish({ links: 3 }), 0)).toEqual([]);
    known.failed(first[0]?.address ?? at("none"), "UNREACHABLE");
    const [second, ...more] = known.toDial(wish({ links: 3 }), 0);
    expect(more).toEqual([]);
    expect(first.map(({ peerId }) => peerId)).not.toContain(second?.peerId);
    // Of who does not answer at all nothing is expected any more after a while.
    expect(known.toDial(wish({ links: 3 }), 4_000).length).toBe(2);
  });
});

describe("members whose distance is known", () => {
  const distanceTo = (peerId: string): number => Number.parseInt(peerId, 16);
  const dialled = (members: readonly Member[], distance?: (peerId: string) => number): number[] =>
    fresh(members, distance)
      .toDial(wish({ links: 11, metSource: false }), 0)
      .map(({ peerId }) => Number.parseInt(peerId, 16));

  it("are dialled the source peer first, then the nearest and one by lot in turn", () => {
    const members = [...someOf(1, 30), SOURCE];
    const byLot = dialled(members);
    const [source, ...others] = dialled(members, distanceTo);
    expect(source).toBe(5_000);
    expect(others).toHaveLength(9);
    // The first after the source is whom the lot chose, then come the nearest in between.
    const near = others.filter((n) => n <= 6);
    expect(near).toEqual(near.toSorted((a, b) => a - b));
    expect(near.length).toBeGreaterThanOrEqual(4);
    expect(others.some((n) => n > 10)).toBe(true);
    expect(byLot).not.toEqual([source, ...others]);
  });

  it("are dialled by lot alone when all are as near", () => {
    expect(dialled(someOf(1, 30), () => 7)).toEqual(dialled(someOf(1, 30)));
  });
});
