/** How a source and a virtual peer count those that read: neighbours by hand, no transport. */

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
