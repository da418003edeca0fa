/** Who is counted, and who is waited for at the end: neighbours by hand, no transport. */

import { describe, expect, it } from "vitest";
import type { PeerContext } from "../../src/peer/context.ts";
import { Finale } from "../../src/peer/finale.ts";
import type { Neighbour } from "../../src/peer/neighbour.ts";
import { ROLES } from "../../src/protocol/common.ts";

const END = 10;

function neighbour(peerId: string, role: number, more: Partial<Neighbour> = {}): Neighbour {
  const one = {
    peerId,
    role,
    readers: 0,
    lagging: false,
    lostSome: false,
    ackedTo: 0,
    isSource: role === ROLES.source,
    updateAcked: (): number => one.ackedTo,
    ...more,
  } as Neighbour;
  return one;
}

function finaleOf(role: keyof typeof ROLES, neighbours: Neighbour[], waitPeers = 0) {
  const now = { monoMs: 1_000_000, wallUs: 0 };
  const settings = { delivery: "complete", holdMs: 60_000, lingerMs: 5_000, repairMs: 1_000 };
  const view = {
    settings,
    neighbours,
    window: { start: 0, highest: END + 1 },
    source: role === "source" ? { isStarved: true, hasData: true } : undefined,
    consumer: undefined,
    times: { latestMs: 0 },
  };
  const options = { role, waitPeers, gatherMs: 0 };
  const finale = new Finale({ now } as unknown as PeerContext, view as never, options);
  return { now, finale };
}

describe("the readers that a virtual peer tells", () => {
  it("are members linked to it, and those that had all here and went", () => {
    const neighbours = [neighbour("a", ROLES.peer), neighbour("b", ROLES.peer)];
    const { finale } = finaleOf("virtual", neighbours);
    expect(finale.readers).toBe(2);
    finale.endKnown(END);
    const [a] = neighbours.splice(0, 1) as [Neighbour];
    Object.assign(a, { ackedTo: END + 1 });
    finale.memberWent(a, false);
    expect(finale.readers).toBe(2);
    const [b] = neighbours.splice(0, 1) as [Neighbour];
    finale.memberWent(b, false);
    expect(finale.readers).toBe(1);
  });

  it("are neither the source peer nor other virtual peers, whatever they had when they went", () => {
    const { finale } = finaleOf("virtual", []);
    finale.endKnown(END);
    const had = { ackedTo: END + 1, readers: 3 };
    finale.memberWent(neighbour("v", ROLES.virtual, had), false);
    finale.memberWent(neighbour("s", ROLES.source, had), false);
    expect(finale.readers).toBe(0);
  });
});

describe("the source peer", () => {
  it("counts a virtual peer's readers less the members that went of late", () => {
    const virtual = neighbour("v", ROLES.virtual, { readers: 2 });
    const { now, finale } = finaleOf("source", [virtual], 1);
    const goes = (peerId: string): void => {
      const one = neighbour(peerId, ROLES.peer);
      finale.memberCame(one);
      finale.memberWent(one, false);
    };
    expect(finale.isAttended).toBe(true);
    goes("a");
    expect(finale.isAttended).toBe(true);
    // Both of those told may be the two that went.
    goes("b");
    expect(finale.isAttended).toBe(false);
    now.monoMs += 2_000;
    expect(finale.isAttended).toBe(true);
  });

  it("is not held up by one that comes and goes where others read", () => {
    const virtual = neighbour("v", ROLES.virtual, { readers: 3, ackedTo: 5 });
    const { now, finale } = finaleOf("source", [virtual], 1);
    for (let n = 0; n < 100; n++) {
      now.monoMs += 900;
      const one = neighbour("a", ROLES.peer);
      finale.memberCame(one);
      finale.memberWent(one, false);
      expect(finale.isAttended).toBe(true);
      expect(finale.watch()).toBeUndefined();
    }
  });
});

describe("a finished node", () => {
  /** How long it stays, of 10 minutes, while `each` happens every 4 s. */
  function stays(
    role: "peer" | "source" | "virtual",
    neighbours: Neighbour[],
    each: (turn: number) => void,
  ): number {
    const { now, finale } = finaleOf(role, neighbours);
    const beganMs = now.monoMs;
    finale.endKnown(END * 1_000);
    for (let turn = 0; turn < 600; turn++) {
      if (turn % 4 === 0) each(turn / 4);
      if (finale.watch() !== undefined) break;
      now.monoMs += 1_000;
    }
    return now.monoMs - beganMs;
  }

  it("stays for lingerMs from when one of its neighbours came or went on, whoever leaves", () => {
    const all = ["a", "b", "c", "d"].map((peerId) => neighbour(peerId, ROLES.peer));
    expect(stays("peer", [...all], () => undefined)).toBe(5_000);
    // The second goes on twice and a third comes.
    const ms = stays("peer", all, (turn) => {
      if (turn === 1 || turn === 2) Object.assign(all[1] as Neighbour, { ackedTo: turn });
      if (turn === 3) all.push(neighbour("e", ROLES.peer));
      if (turn > 3 && all.length > 1) all.pop();
    });
    expect(ms).toBe(12_000 + 5_000);
  });

  it.each(["peer", "virtual"] as const)(
    "that is a %s stays six times as long at most for whoever comes or goes on meanwhile",
    (role) => {
      const comes =
        (to: Neighbour[], at = 0) =>
        (turn: number): void => {
          to[at] = neighbour(`stranger ${turn}`, ROLES.peer);
        };
      const strangers: Neighbour[] = [];
      expect(stays(role, strangers, comes(strangers))).toBe(30_000);
      const late = neighbour("late", ROLES.peer);
      const withLate = [neighbour("stuck", ROLES.peer)];
      const lateGoesOn = (turn: number): void => {
        if (turn > 0) withLate[1] = Object.assign(late, { ackedTo: turn });
      };
      expect(stays(role, withLate, lateGoesOn)).toBe(30_000);
      // One that was there and has all by now, and one that was there and goes on no more.
      const had = neighbour("had", ROLES.peer, { ackedTo: 1 });
      const all = [had, neighbour("stuck", ROLES.peer)];
      const hasAll = (turn: number): void => {
        if (turn === 5) Object.assign(had, { ackedTo: END * 1_000 + 1 });
        comes(all, 2)(turn);
      };
      expect(stays(role, all, hasAll)).toBe(30_000);
    },
  );

  it.each(["peer", "virtual"] as const)(
    "that is a %s stays for who was there and goes on, sixty times as long at most",
    (role) => {
      const slow = neighbour("slow", ROLES.peer);
      const goesOn =
        (until: number, others: Neighbour[] = []) =>
        (turn: number): void => {
          if (turn <= until) Object.assign(slow, { ackedTo: turn });
          others[1] = neighbour(`stranger ${turn}`, ROLES.peer);
        };
      expect(stays(role, [slow], goesOn(1_000))).toBe(300_000);
      Object.assign(slow, { ackedTo: 0 });
      expect(stays(role, [slow], goesOn(20))).toBe(80_000 + 5_000);
      // Strangers make that neither longer nor shorter.
      Object.assign(slow, { ackedTo: 0 });
      const others = [slow];
      expect(stays(role, others, goesOn(20, others))).toBe(80_000 + 5_000);
      Object.assign(slow, { ackedTo: 0 });
      const ends = (turn: number): void => {
        Object.assign(slow, { ackedTo: turn < 20 ? turn : END * 1_000 + 1 });
      };
      expect(stays(role, [slow], ends)).toBe(80_000);
    },
  );

  it("that is the source stays for whoever goes on, however slowly", () => {
    const slow = neighbour("slow", ROLES.peer);
    const goesOn = (turn: number): unknown => Object.assign(slow, { ackedTo: turn });
    expect(stays("source", [slow], goesOn)).toBe(600_000);
  });
});
