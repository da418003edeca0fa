/** R8 at the OMS: lost orders, restarts, disks that take no writes, cache servers that go. */

import { describe, expect, it } from "vitest";
import * as r5 from "../../src/protocol/r5.ts";
import * as r8 from "../../src/protocol/r8.ts";
import { encodeFailure } from "../../src/protocol/signalling.ts";
import type { OmsSnapshot } from "../../src/servers/oms-types.ts";
import { brief, Cache, create, KEY, oms, refresh, remove, wish } from "./cache-world.ts";
import { Disk } from "./driver.ts";

describe("orders", () => {
  it("what got lost is repeated at the next registration; what is not assigned is taken back", () => {
    const driver = oms({ refreshMs: 600_000, cacheLeaseMs: 600_000 });
    const cache = new Cache(driver);
    cache.register();
    const session = create(driver);
    wish(driver, session, 1);
    const [lost] = cache.orders();
    expect(lost?.kind).toBe("allocate");
    // Neither answered nor done: the link breaks.
    driver.linkDown(cache.linkId);
    cache.comesBack();
    const stranger = { overlayId: "ef".repeat(16), peerId: cache.peers[1]?.peerId ?? "" };
    cache.holds = [stranger];
    expect(cache.register().assigned).toBe(1);
    const orders = cache.obey();
    expect(brief(orders)).toEqual([
      `release ${stranger.overlayId} ${stranger.peerId}`,
      `allocate ${session.overlayId} ${lost?.peerId}`,
    ]);
    // An overlay that does not stand is left as its session ends.
    expect(orders[0]?.rest).toEqual([0]);
    cache.register();
    expect(cache.orders()).toEqual([]);
  });

  it("while one is under way a registration that crossed it does not repeat it", () => {
    const driver = oms();
    const cache = new Cache(driver);
    cache.register();
    wish(driver, create(driver), 1);
    expect(cache.orders()).toHaveLength(1);
    cache.register();
    expect(cache.orders()).toHaveLength(0);
  });
});

describe("outages", () => {
  it("assignments survive a kill of the OMS; orders then carry a higher term", () => {
    const driver = oms({ refreshMs: 600_000, cacheLeaseMs: 600_000 }, 3);
    const cache = new Cache(driver);
    cache.register();
    const session = create(driver);
    wish(driver, session, 2);
    cache.obey();
    const held = [...cache.holds];
    driver.crash();
    cache.comesBack();
    expect(driver.snapshot<OmsSnapshot>().cacheServers).toMatchObject([
      { cacheServerId: cache.id, linked: false, assigned: 2 },
    ]);
    expect(cache.register()).toMatchObject({ term: 2, assigned: 2 });
    expect(cache.orders()).toEqual([]);
    // It lost one meanwhile.
    cache.holds = held.slice(1);
    cache.register();
    const [again] = cache.obey();
    expect(again).toMatchObject({ kind: "allocate", term: 2, peerId: held[0]?.peerId });
  });

  it("an OMS that forgot its assignments takes over those that are of use", () => {
    const disk = new Disk();
    const driver = oms({ refreshMs: 600_000 }, 4, disk);
    const cache = new Cache(driver);
    cache.register();
    const session = create(driver);
    wish(driver, session, 1);
    cache.obey();
    for (const key of [...disk.records.keys()]) {
      if (key.startsWith("oms/cache/")) disk.records.delete(key);
    }
    driver.crash();
    cache.comesBack();
    expect(cache.register().assigned).toBe(1);
    driver.advance(1_000);
    expect(cache.orders()).toEqual([]);
  });

  it("a cache server that stays away loses all to others after its lease, and its offer", () => {
    const driver = oms({ refreshMs: 600_000, cacheLeaseMs: 10_000 });
    const [cache, other] = [new Cache(driver), new Cache(driver)];
    cache.register();
    const session = create(driver);
    wish(driver, session, 1);
    cache.obey();
    other.register();
    driver.linkDown(cache.linkId);
    driver.advance(5_000);
    other.register();
    driver.advance(3_000);
    expect(other.orders()).toEqual([]);
    other.register();
    driver.advance(3_500);
    expect(brief(other.obey())).toHaveLength(1);
    expect(driver.events).toContainEqual(
      expect.objectContaining({ type: "cacheServer", cacheServerId: cache.id, state: "silent" }),
    );
    expect(driver.snapshot<OmsSnapshot>().cacheServers).toHaveLength(1);
    // What it still is in is taken back when it returns.
    cache.comesBack();
    expect(cache.register().assigned).toBe(0);
    expect(cache.obey()).toMatchObject([{ kind: "release", rest: [1] }]);
  });

  it("one that withdraws is out of it at once, whatever the disk says at first", () => {
    const driver = oms({ refreshMs: 600_000 });
    const [cache, other] = [new Cache(driver), new Cache(driver)];
    cache.register();
    const session = create(driver);
    wish(driver, session, 1);
    cache.obey();
    other.register();
    const request = { serviceKey: KEY, cacheServerId: cache.id };
    driver.disk.broken = "STORE_FULL";
    expect(driver.refusal(cache.linkId, r8.WITHDRAW_CACHE, request).code).toBe("STORE_FULL");
    driver.disk.broken = undefined;
    driver.advance(1_500);
    expect(brief(other.obey())).toHaveLength(1);
    expect(driver.ask(cache.linkId, r8.WITHDRAW_CACHE, request)).toEqual({});
    expect(driver.disk.records.has(`oms/cache/${cache.id}`)).toBe(false);
  });

  it("what could not be written is decided again", () => {
    const driver = oms({ refreshMs: 600_000 });
    const cache = new Cache(driver);
    cache.register();
    const session = create(driver);
    wish(driver, session, 1);
    cache.obey();
    driver.disk.broken = "STORE_FULL";
    const other = { serviceKey: KEY, cacheServerId: cache.id, overlayId: session.overlayId };
    const { peerId = "" } = cache.holds[0] ?? {};
    const given = { ...other, peerId, code: "ENGINE_MEMORY", detail: "" };
    expect(driver.refusal(cache.linkId, r8.GIVE_BACK, given).code).toBe("STORE_FULL");
    driver.advance(3_000);
    driver.disk.broken = undefined;
    cache.holds = [];
    cache.register();
    driver.advance(20_000);
    expect(cache.orders()).toEqual([]);
    driver.advance(8_000);
    cache.register();
    // Memory went back to the disk: it is assigned there still, and so ordered again.
    expect(brief(cache.obey())).toEqual([`allocate ${session.overlayId} ${peerId}`]);
  });

  it("a refused order and a full disk make no loop", () => {
    const driver = oms({ refreshMs: 600_000, cacheLeaseMs: 600_000 });
    const cache = new Cache(driver);
    cache.register();
    wish(driver, create(driver), 1);
    driver.disk.broken = "STORE_FULL";
    for (let i = 0; i < 60; i++) {
      for (const { requestId } of cache.orders()) {
        const failure = { code: "OVERLOADED", detail: "no room" } as const;
        driver.frame(cache.linkId, encodeFailure(requestId, failure));
        driver.settle();
      }
      cache.register();
      driver.advance(1_000);
    }
    const all = driver.asked(cache.linkId, 0x68).length;
    expect(all).toBeGreaterThan(1);
    expect(all).toBeLessThanOrEqual(3);
  });

  it("what was decided while a write failed is decided again, for others, too", () => {
    let judged = 0;
    for (let seed = 1; seed <= 24; seed++) {
      const driver = oms({ refreshMs: 600_000, cacheLeaseMs: 600_000 }, seed);
      const cache = new Cache(driver);
      cache.register();
      const sessions = [create(driver), create(driver)];
      driver.hold = true;
      const asked = sessions.map(({ overlayId, ownerToken, linkId }) => {
        const request = { overlayId, ownerToken, virtualPeers: 1, priority: 0 };
        return { linkId, requestId: driver.send(linkId, r5.ASK_VIRTUAL_PEERS, request) };
      });
      // One of the writes fails: that of a wish, or that of what was assigned upon one.
      for (let i = 0; i < seed % 3; i++) driver.finishOne("store");
      driver.disk.broken = "STORE_FULL";
      driver.finishOne("store");
      driver.disk.broken = undefined;
      driver.hold = false;
      driver.settle();
      driver.advance(3_000);
      cache.obey();
      const told = asked.map(({ linkId, requestId }) =>
        driver.replyTo(linkId, requestId, r5.ASK_VIRTUAL_PEERS),
      );
      const granted = sessions.filter((_, i) => told[i]?.ok === true);
      if (granted.length === 2) judged++;
      const held = cache.holds.map(({ overlayId }) => overlayId).sort();
      expect(held, `seed ${seed}`).toEqual(granted.map(({ overlayId }) => overlayId).sort());
    }
    expect(judged).toBeGreaterThan(2);
  });

  it("an offer that shrank gives what it had to others", () => {
    const driver = oms({ refreshMs: 600_000, cacheLeaseMs: 600_000 });
    const cache = new Cache(driver);
    cache.register();
    const session = create(driver);
    wish(driver, session, 1);
    const [order] = cache.obey();
    const other = new Cache(driver);
    other.register();
    cache.holds = [];
    const left = cache.peers.map(({ peerId }) => peerId).filter((id) => id !== order?.peerId);
    driver.linkDown(cache.linkId);
    cache.comesBack();
    cache.register({ virtualPeers: left, overlaysPerPeer: 1 });
    driver.advance(1_000);
    expect([...cache.obey(), ...other.obey()]).toMatchObject([
      { kind: "allocate", overlayId: session.overlayId },
    ]);
  });

  it("a second process with the same id is refused while the first one registers", () => {
    const driver = oms({ cacheLeaseMs: 20_000, refreshMs: 600_000 });
    const cache = new Cache(driver);
    cache.register();
    const second = { ...cache.offer, instance: new Uint8Array(8).fill(2) };
    const elsewhere = driver.link();
    const refusal = driver.refusal(elsewhere, r8.REGISTER_CACHE, second);
    expect(refusal).toMatchObject({ code: "NOT_OWNER" });
    expect(refusal.detail).toContain("stop one of them");
    // The same process over another link is none.
    const newLink = driver.link();
    driver.ask(newLink, r8.REGISTER_CACHE, cache.offer);
    // Gone without a word, its link still seems to stand: the other one may after half a lease.
    driver.advance(9_000);
    expect(driver.refusal(elsewhere, r8.REGISTER_CACHE, second).code).toBe("NOT_OWNER");
    driver.advance(1_500);
    expect(driver.ask(elsewhere, r8.REGISTER_CACHE, second).term).toBe(1);
  });

  it("an order that crosses a withdrawal is no failure", () => {
    const driver = oms({ refreshMs: 600_000 });
    const cache = new Cache(driver);
    cache.register();
    const session = create(driver);
    wish(driver, session, 1);
    const [order] = cache.orders();
    const request = { serviceKey: KEY, cacheServerId: cache.id };
    driver.ask(cache.linkId, r8.WITHDRAW_CACHE, request);
    const failure = { code: "OVERLOADED", detail: "this cache server goes" } as const;
    driver.frame(cache.linkId, encodeFailure(order?.requestId ?? 0, failure));
    driver.settle();
    expect(driver.events.filter(({ type }) => type === "failed" || type === "cacheFailed")).toEqual(
      [],
    );
  });

  it("the records of cache servers are checked when they are read", () => {
    const disk = new Disk();
    disk.apply({
      kind: "transaction",
      conditions: [],
      writes: [{ key: `oms/cache/${"ab".repeat(32)}`, value: Uint8Array.of(0xc1) }],
    });
    const driver = oms({}, 1, disk);
    expect(driver.events).toContainEqual(
      expect.objectContaining({ type: "failed", fatal: true, code: "STORE_CORRUPT" }),
    );
  });
});

describe("an overlay that ends", () => {
  it("has its virtual peers released as its session ends, removed or expired", () => {
    const driver = oms({ refreshMs: 20_000, cacheLeaseMs: 600_000 });
    const cache = new Cache(driver);
    cache.register();
    const [removed, expired] = [create(driver), create(driver)];
    for (const session of [removed, expired]) wish(driver, session, 1);
    cache.obey();
    remove(driver, removed);
    expect(cache.obey()).toMatchObject([
      { kind: "release", overlayId: removed.overlayId, rest: [0] },
    ]);
    driver.advance(15_000);
    refresh(driver, expired);
    driver.advance(15_000);
    expect(cache.orders()).toEqual([]);
    driver.advance(6_000);
    expect(cache.obey()).toMatchObject([
      { kind: "release", overlayId: expired.overlayId, rest: [0] },
    ]);
    expect(driver.snapshot<OmsSnapshot>().cacheServers).toMatchObject([{ assigned: 0 }]);
  });

  it("that ended while the OMS was down, too", () => {
    const disk = new Disk();
    const driver = oms({ refreshMs: 600_000 }, 5, disk);
    const cache = new Cache(driver);
    cache.register();
    const session = create(driver);
    wish(driver, session, 1);
    cache.obey();
    // The end of the overlay was the last write that reached the disk.
    driver.hold = true;
    const { overlayId, ownerToken } = session;
    driver.send(driver.link(), r5.REMOVE_SESSION_OVERLAY, { overlayId, ownerToken });
    driver.finishOne("store");
    driver.crash();
    cache.comesBack();
    expect(cache.register().assigned).toBe(0);
    expect(cache.obey()).toMatchObject([{ kind: "release", overlayId, rest: [0] }]);
  });
});
