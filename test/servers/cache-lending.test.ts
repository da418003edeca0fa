/** R8 at the OMS: what cache servers offer, and what overlays get of it. */

import { describe, expect, it } from "vitest";
import { LIST_CACHE_SERVERS } from "../../src/protocol/admin.ts";
import { ROLES } from "../../src/protocol/common.ts";
import * as r5 from "../../src/protocol/r5.ts";
import * as r8 from "../../src/protocol/r8.ts";
import { encodeFailure } from "../../src/protocol/signalling.ts";
import {
  brief,
  Cache,
  type Created,
  create,
  join,
  KEY,
  type Order,
  oms,
  wish,
} from "./cache-world.ts";
import { Identity } from "./driver.ts";

describe("an offer", () => {
  it("is acknowledged when it is on the disk, with lease and term, and shown to operators", () => {
    const driver = oms({ cacheLeaseMs: 12_000 });
    const cache = new Cache(driver);
    driver.hold = true;
    const requestId = driver.send(cache.linkId, r8.REGISTER_CACHE, cache.offer);
    expect(driver.rawReply(cache.linkId, requestId)).toBeUndefined();
    driver.finishOne("store");
    expect(driver.rawReply(cache.linkId, requestId)).toEqual([0xe0, requestId, 12_000, 1, 0]);
    driver.hold = false;
    const { rows, more } = driver.ask(driver.link(), LIST_CACHE_SERVERS, {
      limit: 1,
      serviceKey: KEY,
      after: undefined,
    });
    expect(more).toBe(false);
    expect(rows).toEqual([
      {
        cacheServerId: cache.id,
        label: "rack 7",
        linked: true,
        virtualPeers: 2,
        places: 4,
        assigned: 0,
      },
    ]);
  });

  it("is refused without the service key, with another's virtual peers, beyond the limits", () => {
    const driver = oms({ cacheServersMax: 1 });
    const cache = new Cache(driver);
    const refused = (more: object) =>
      driver.refusal(cache.linkId, r8.REGISTER_CACHE, { ...cache.offer, ...more }).code;
    expect(refused({ serviceKey: new Uint8Array(0) })).toBe("KEY_REQUIRED");
    expect(refused({ serviceKey: new Uint8Array(32).fill(8) })).toBe("KEY_REQUIRED");
    const [first] = cache.peers as [Identity];
    expect(refused({ virtualPeers: [first.peerId, first.peerId] })).toBe("MESSAGE_MALFORMED");
    const many = Array.from({ length: 17 }, (_, i) => i.toString(16).padStart(64, "0"));
    expect(refused({ virtualPeers: many, overlaysPerPeer: 64 })).toBe("OVERLOADED");
    cache.register();
    expect(refused({ cacheServerId: "ab".repeat(32) })).toBe("OVERLOADED");
    const roomy = oms();
    const one = new Cache(roomy);
    one.register();
    const other = { ...one.offer, cacheServerId: "ab".repeat(32) };
    expect(roomy.refusal(one.linkId, r8.REGISTER_CACHE, other).code).toBe("NOT_OWNER");
    const request = { limit: 1, serviceKey: new Uint8Array(0), after: undefined };
    expect(roomy.refusal(one.linkId, LIST_CACHE_SERVERS, request).code).toBe("KEY_REQUIRED");
    // A server without a key lends nothing.
    const open = oms({ serviceKey: undefined as never });
    const third = new Cache(open);
    expect(open.refusal(third.linkId, r8.REGISTER_CACHE, third.offer).code).toBe("KEY_REQUIRED");
  });

  it("a disk that takes no writes: the offer is refused, and taken once it does", () => {
    const driver = oms();
    const cache = new Cache(driver);
    driver.disk.broken = "STORE_FULL";
    expect(driver.refusal(cache.linkId, r8.REGISTER_CACHE, cache.offer).code).toBe("STORE_FULL");
    driver.disk.broken = undefined;
    expect(cache.register().assigned).toBe(0);
    expect(wish(driver, create(driver), 1)).toEqual({ virtualPeers: 1, assigned: 1 });
  });
});

describe("assigning", () => {
  it("what a source peer asks for is ordered once it is on the disk, spread over cache servers", () => {
    const driver = oms();
    const caches = [new Cache(driver), new Cache(driver)];
    for (const cache of caches) cache.register();
    const session = create(driver);
    driver.hold = true;
    const { overlayId, ownerToken, linkId } = session;
    const request = { overlayId, ownerToken, virtualPeers: 2, priority: 3 };
    driver.send(linkId, r5.ASK_VIRTUAL_PEERS, request);
    expect(caches.flatMap((cache) => cache.orders())).toEqual([]);
    driver.hold = false;
    driver.settle();
    const orders = caches.map((cache) => cache.obey());
    for (const [i, [order, ...others]] of orders.entries()) {
      expect(others).toEqual([]);
      expect(order).toMatchObject({ kind: "allocate", term: 1, overlayId });
      expect(order?.rest).toEqual(["weather", "", 3]);
      expect(caches[i]?.peers.map(({ peerId }) => peerId)).toContain(order?.peerId);
    }
    // Said again it changes nothing; with more than there is room for, the rest comes later.
    expect(wish(driver, session, 2, 3)).toEqual({ virtualPeers: 2, assigned: 2 });
    expect(wish(driver, session, 5, 3)).toEqual({ virtualPeers: 5, assigned: 4 });
    const late = new Cache(driver);
    late.register();
    driver.advance(1_000);
    expect(late.obey()).toHaveLength(1);
    expect(wish(driver, session, 5, 3)).toEqual({ virtualPeers: 5, assigned: 5 });
  });

  it("at most what one overlay may have, and only to its owner", () => {
    const driver = oms({ virtualPeersMax: 1 });
    new Cache(driver).register();
    const session = create(driver);
    expect(wish(driver, session, 9)).toEqual({ virtualPeers: 1, assigned: 1 });
    const request = { overlayId: session.overlayId, virtualPeers: 0 };
    const ownerToken = new Uint8Array(16);
    const refusal = { ...request, ownerToken };
    expect(driver.refusal(session.linkId, r5.ASK_VIRTUAL_PEERS, refusal).code).toBe("NOT_OWNER");
  });

  it("what is given back is released at once, and given to who waits for it", () => {
    const driver = oms();
    const cache = new Cache(driver, 1);
    cache.register({ overlaysPerPeer: 1 });
    const first = create(driver);
    const second = create(driver);
    wish(driver, first, 1);
    const { peerId } = cache.peers[0] as Identity;
    expect(brief(cache.obey())).toEqual([`allocate ${first.overlayId} ${peerId}`]);
    expect(wish(driver, second, 1)).toEqual({ virtualPeers: 1, assigned: 0 });
    expect(cache.obey()).toEqual([]);
    wish(driver, first, 0);
    driver.advance(1_000);
    const orders = cache.obey();
    expect(brief(orders)).toEqual([
      `release ${first.overlayId} ${peerId}`,
      `allocate ${second.overlayId} ${peerId}`,
    ]);
    expect(orders[0]?.rest).toEqual([1]);
  });

  it("a higher priority takes the place of the lowest, an equal one does not", () => {
    const driver = oms();
    const cache = new Cache(driver, 1);
    cache.register({ overlaysPerPeer: 2 });
    const [low, middle, high, equal] = [1, 2, 3, 2].map((priority) => {
      const session = create(driver);
      return { session, priority };
    }) as { session: Created; priority: number }[] as [never, never, never, never];
    const ask = ({ session, priority }: { session: Created; priority: number }) =>
      wish(driver, session, 1, priority).assigned;
    expect([ask(low), ask(middle), ask(high), ask(equal)]).toEqual([1, 1, 1, 0]);
    cache.obey();
    driver.advance(2_000);
    cache.obey();
    const held = cache.holds.map(({ overlayId }) => overlayId).sort();
    const ids = [middle, high].map(({ session }: { session: Created }) => session.overlayId);
    expect(held).toEqual(ids.sort());
  });

  it("no priority counts beyond what the OMS allows", () => {
    const driver = oms({ priorityMax: 2 });
    const cache = new Cache(driver, 1);
    cache.register({ overlaysPerPeer: 1 });
    const [first, second] = [create(driver), create(driver)];
    expect(wish(driver, first, 1, 2).assigned).toBe(1);
    expect(wish(driver, second, 1, 7).assigned).toBe(0);
    expect(cache.obey().map(({ rest }) => rest[2])).toEqual([2]);
  });

  it("one that could not serve an overlay is left alone with it, and others are asked", () => {
    const driver = oms({ refreshMs: 600_000, cacheLeaseMs: 600_000 });
    const caches = [new Cache(driver, 1), new Cache(driver, 1)];
    for (const cache of caches) cache.register();
    const session = create(driver);
    wish(driver, session, 1);
    const isAsked = (cache: Cache) => driver.asked(cache.linkId, 0x68).length > 0;
    const asked = caches.find(isAsked) as Cache;
    const other = caches.find((cache) => !isAsked(cache)) as Cache;
    const [order] = asked.orders();
    const failure = { code: "OVERLOADED", detail: "no room" } as const;
    driver.frame(asked.linkId, encodeFailure(order?.requestId ?? 0, failure));
    driver.settle();
    driver.advance(1_000);
    expect(other.obey()).toHaveLength(1);
    expect(asked.orders()).toEqual([]);
    expect(driver.events).toContainEqual(
      expect.objectContaining({ type: "cacheFailed", cacheServerId: asked.id, ...failure }),
    );
    // The other one fails later on: after a while the first is asked again.
    const [held] = other.holds as [r8.Assignment];
    const back = { serviceKey: KEY, cacheServerId: other.id, ...held };
    driver.ask(other.linkId, r8.GIVE_BACK, { ...back, code: "SESSION_LOST", detail: "" });
    driver.advance(20_000);
    asked.register();
    driver.advance(1_000);
    expect([...asked.orders(), ...other.orders()]).toEqual([]);
    driver.advance(14_000);
    asked.register();
    driver.advance(1_000);
    expect(asked.obey()).toHaveLength(1);
  });

  it("after END nobody more is sent there, and those that are there stay to give", () => {
    const driver = oms({ refreshMs: 600_000, cacheLeaseMs: 600_000 });
    const cache = new Cache(driver, 3);
    cache.register();
    const session = create(driver);
    wish(driver, session, 2);
    const [first] = cache.obey();
    const { peerId = "" } = first ?? {};
    const { overlayId } = session;
    const given = { serviceKey: KEY, cacheServerId: cache.id, overlayId, peerId };
    driver.ask(cache.linkId, r8.GIVE_BACK, { ...given, code: "", detail: "" });
    cache.holds = cache.holds.filter((each) => each.peerId !== peerId);
    cache.register();
    driver.advance(60_000);
    expect(cache.orders()).toEqual([]);
    // The source peer starts over.
    const { ownerToken } = session;
    driver.ask(session.linkId, r5.RESTART, { overlayId, ownerToken });
    driver.advance(2_000);
    expect(cache.obey()).toHaveLength(1);
  });

  it("a virtual peer joins as one only where it was ordered to", () => {
    const driver = oms();
    const cache = new Cache(driver, 1);
    cache.register();
    const [session, elsewhere] = [create(driver), create(driver)];
    wish(driver, session, 1);
    const [virtual] = cache.peers as [Identity];
    const joined = join(driver, session.overlayId, virtual, ROLES.virtual);
    expect(joined.ok).toBe(true);
    for (const reply of [
      join(driver, elsewhere.overlayId, virtual, ROLES.virtual),
      join(driver, session.overlayId, new Identity(), ROLES.virtual),
    ]) {
      expect(reply).toMatchObject({ ok: false, failure: { code: "NOT_ADMITTED" } });
    }
    const member = join(driver, session.overlayId, new Identity(), ROLES.peer);
    expect(member).toMatchObject({
      answer: {
        members: expect.arrayContaining([
          expect.objectContaining({ peerId: virtual.peerId, role: ROLES.virtual }),
        ]),
      },
    });
  });
});

describe("an overlay in which nobody can be dialled", () => {
  it.each(["before", "after"])(
    "gets one unasked of a cache server that came %s it, and loses it some time after it needs none",
    (when) => {
      const driver = oms({ refreshMs: 600_000, cacheLeaseMs: 600_000, memberLeaseMs: 600_000 });
      const cache = new Cache(driver);
      // The cache server comes later than those who need it.
      if (when === "before") cache.register();
      const session = create(driver);
      const who = new Identity();
      const joined = join(driver, session.overlayId, who, ROLES.peer);
      driver.advance(2_000);
      expect(cache.orders()).toEqual([]);
      // All tries to dial them back fail.
      const orders: Order[] = [];
      for (let i = 0; i < 10; i++) {
        for (const { linkId } of driver.dialled.splice(0)) driver.linkDown(linkId);
        driver.advance(4_000);
        orders.push(...cache.obey());
      }
      if (when === "after") cache.register();
      driver.advance(1_000);
      orders.push(...cache.obey());
      expect(brief(orders)).toHaveLength(1);
      expect(orders[0]).toMatchObject({ kind: "allocate", overlayId: session.overlayId });
      // Whom it was for leaves.
      const { memberToken } = joined.ok ? joined.answer : { memberToken: new Uint8Array(16) };
      const { overlayId } = session;
      driver.ask(driver.link(), r5.LEAVE, { overlayId, peerId: who.peerId, memberToken });
      driver.advance(20_000);
      expect(cache.orders()).toEqual([]);
      driver.advance(20_000);
      expect(cache.obey()).toMatchObject([{ kind: "release", rest: [1] }]);
    },
  );
});
