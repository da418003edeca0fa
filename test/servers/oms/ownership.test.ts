import { describe, expect, it } from "vitest";
import { ROLES } from "../../../src/protocol/common.ts";
import * as r5 from "../../../src/protocol/r5.ts";
import { createOms } from "../../../src/servers/oms.ts";
import type { OmsSnapshot } from "../../../src/servers/oms-types.ts";
import { Disk, Identity, ServerDriver } from "../driver.ts";
import { create, here, hex, join, oms } from "./scene.ts";

describe("R5.a: a source peer creates an overlay for a new session", () => {
  it("R5.a: created, listed, and on disk before it is acknowledged", () => {
    const driver = oms();
    const link = driver.link();
    const owner = new Identity();
    const { nonce } = driver.ask(link, r5.CHALLENGE, {});
    driver.hold = true;
    const requestId = driver.send(link, r5.CREATE, {
      nonce,
      publicKey: owner.publicKey,
      signature: owner.sign(r5.createProof(nonce)),
      candidates: here,
      title: "weather",
      pams: false,
    });
    driver.finishOne("job");
    expect(driver.rawReply(link, requestId)).toBeUndefined();
    const before = driver.disk.revision;
    driver.finishOne("store");
    expect(driver.disk.revision).toBe(before + 1);
    const raw = driver.rawReply(link, requestId) ?? [];
    expect(raw[0]).toBe(0x41 | 0x80);
    expect(hex(raw[2])).toMatch(/^[0-9a-f]{32}$/);
    expect(driver.snapshot<OmsSnapshot>().overlays).toMatchObject([
      { title: "weather", sourcePeerId: owner.peerId, sessionEpoch: 1, members: 1 },
    ]);
  });

  it("R5.a (twin): a wrong signature, a stale, foreign or used nonce, a peer list create nothing", () => {
    const driver = oms();
    const link = driver.link();
    const owner = new Identity();
    const request = (nonce: Uint8Array, signer: Identity) => ({
      nonce,
      publicKey: owner.publicKey,
      signature: signer.sign(r5.createProof(nonce)),
      candidates: [],
      title: "t",
      pams: false,
    });
    const fresh = () => driver.ask(link, r5.CHALLENGE, {}).nonce;
    const code = (value: ReturnType<typeof request> & { peerList?: string[] }) =>
      driver.refusal(link, r5.CREATE, value).code;
    expect(code(request(fresh(), new Identity()))).toBe("IDENTITY_UNPROVEN");
    expect(code(request(new Uint8Array(32), owner))).toBe("IDENTITY_UNPROVEN");
    const used = fresh();
    driver.ask(link, r5.CREATE, request(used, owner));
    expect(code(request(used, owner))).toBe("IDENTITY_UNPROVEN");
    const stale = fresh();
    driver.advance(31_000);
    expect(code(request(stale, owner))).toBe("IDENTITY_UNPROVEN");
    const closed = { ...request(fresh(), owner), peerList: [owner.peerId] };
    expect(code(closed)).toBe("CLOSED_UNSUPPORTED");
    expect(driver.snapshot<OmsSnapshot>().overlays).toHaveLength(1);
  });

  it("R5.a: at the limit OVERLOADED, and a full disk refuses without losing what stands", () => {
    const driver = oms({ overlaysMax: 2 });
    const link = driver.link();
    create(driver, link, new Identity());
    driver.disk.broken = "STORE_FULL";
    expect(() => create(driver, link, new Identity())).toThrow("STORE_FULL");
    driver.disk.broken = undefined;
    create(driver, link, new Identity());
    expect(() => create(driver, link, new Identity())).toThrow("OVERLOADED");
    driver.crash();
    expect(driver.snapshot<OmsSnapshot>().overlays).toHaveLength(2);
  });
});

it("R5.b: overlay ids are unique, over restarts and removals too", () => {
  const driver = oms();
  const owner = new Identity();
  const ids = new Set<string>();
  for (let i = 0; i < 20; i++) {
    const link = driver.link();
    const made = create(driver, link, owner);
    expect(ids.has(made.overlayId)).toBe(false);
    ids.add(made.overlayId);
    if (i % 3 === 0) driver.ask(link, r5.REMOVE_SESSION_OVERLAY, made);
    if (i % 5 === 4) driver.crash();
  }
  expect(ids.size).toBe(20);
});

it("R5.b (twin): a refused request is answered with no overlay id, and none comes to be", () => {
  const driver = oms({ overlaysMax: 1 });
  const link = driver.link();
  create(driver, link, new Identity());
  const owner = new Identity();
  const { nonce } = driver.ask(link, r5.CHALLENGE, {});
  const requestId = driver.send(link, r5.CREATE, {
    nonce,
    publicKey: owner.publicKey,
    signature: owner.sign(r5.createProof(nonce)),
    candidates: here,
    title: "weather",
    pams: false,
  });
  driver.settle();
  const raw = driver.rawReply(link, requestId) ?? [];
  expect(raw.slice(0, 3)).toEqual([0xff, requestId, "OVERLOADED"]);
  expect(raw.some((field) => field instanceof Uint8Array)).toBe(false);
  expect(driver.snapshot<OmsSnapshot>().overlays).toHaveLength(1);
});

describe("R5.c: the refresh expiration time", () => {
  it("R5.c: is given, and an overlay not refreshed before it is removed, for good", () => {
    const driver = oms({ refreshMs: 20_000 });
    const link = driver.link();
    const made = create(driver, link, new Identity());
    const other = create(driver, link, new Identity(), { leaseMs: 5_000 });
    expect([made.refreshMs, other.refreshMs]).toEqual([20_000, 5_000]);
    driver.advance(19_000);
    expect(driver.snapshot<OmsSnapshot>().overlays).toHaveLength(1);
    driver.advance(2_000);
    expect(driver.snapshot<OmsSnapshot>().overlays).toHaveLength(0);
    const failure = driver.refusal(link, r5.REFRESH_OVERLAY, made);
    expect(failure).toMatchObject({ code: "OVERLAY_GONE", detail: "expired" });
    expect(failure.whenUs).toBeGreaterThan(1_700_000_000_000_000);
    driver.crash();
    expect(driver.refusal(driver.link(), r5.REFRESH_OVERLAY, made).code).toBe("OVERLAY_GONE");
    const gone = driver.events.filter((event) => event.type === "overlayEnded");
    expect(gone.map((event) => event.why)).toEqual(["expired", "expired"]);
  });

  it("R5.c (twin): after a restart the lease runs at full length again", () => {
    const driver = oms({ refreshMs: 20_000 });
    const made = create(driver, driver.link(), new Identity());
    driver.advance(19_000);
    driver.crash();
    driver.advance(19_000);
    expect(driver.snapshot<OmsSnapshot>().overlays).toHaveLength(1);
    driver.ask(driver.link(), r5.REFRESH_OVERLAY, made);
    driver.advance(21_000);
    expect(driver.snapshot<OmsSnapshot>().overlays).toHaveLength(0);
  });

  it("R5.c: a slow start takes nothing off the lease, and names what ended before", () => {
    const disk = new Disk();
    const first = oms({ refreshMs: 20_000 }, 1, disk);
    const made = create(first, first.link(), new Identity());
    const ended = create(first, first.link(), new Identity());
    first.ask(first.link(), r5.REMOVE_SESSION_OVERLAY, ended);
    const next = new ServerDriver((base) => createOms({ ...base, refreshMs: 20_000 }), 2, disk);
    next.hold = true;
    next.command({ type: "start" });
    next.finishOne();
    next.advance(60_000);
    next.hold = false;
    next.settle();
    next.advance(19_000);
    next.ask(next.link(), r5.REFRESH_OVERLAY, made);
    expect(next.events).toContainEqual({ type: "endedBefore", overlayIds: [ended.overlayId] });
  });

  it("R5.c: an end that can not be written is an end all the same, and is written later", () => {
    const driver = oms({ refreshMs: 5_000 });
    const made = create(driver, driver.link(), new Identity());
    driver.disk.broken = "STORE_FULL";
    driver.advance(8_000);
    expect(driver.refusal(driver.link(), r5.REFRESH_OVERLAY, made).code).toBe("OVERLAY_GONE");
    driver.disk.broken = undefined;
    driver.advance(2_000);
    expect(driver.snapshot<OmsSnapshot>()).toMatchObject({ overlays: [], tombstones: 1 });
  });
});

describe("R5.d: the source peer refreshes before the expiration", () => {
  it("R5.d: an overlay refreshed in time stays, with new candidates kept over a restart", () => {
    const driver = oms({ refreshMs: 20_000 });
    const link = driver.link("203.0.113.5");
    const owner = new Identity();
    const made = create(driver, link, owner);
    for (let i = 0; i < 6; i++) {
      driver.advance(6_667);
      const candidates = [{ transport: "tcp", host: "0.0.0.0", port: 9_000 + i }] as const;
      expect(driver.ask(link, r5.REFRESH_OVERLAY, { ...made, candidates }).refreshMs).toBe(20_000);
    }
    driver.crash();
    const { members } = join(driver, driver.link(), made.overlayId, new Identity());
    expect(members).toMatchObject([
      {
        peerId: owner.peerId,
        role: ROLES.source,
        candidates: [{ transport: "tcp", host: "203.0.113.5", port: 9_005 }],
      },
    ]);
  });

  it("R5.d (twin): nobody else can refresh, restart or remove it", () => {
    const driver = oms({ refreshMs: 20_000 });
    const link = driver.link();
    const made = create(driver, link, new Identity());
    const forged = { overlayId: made.overlayId, ownerToken: made.memberToken };
    driver.advance(15_000);
    expect(driver.refusal(link, r5.REFRESH_OVERLAY, forged).code).toBe("NOT_OWNER");
    expect(driver.refusal(link, r5.RESTART, forged).code).toBe("NOT_OWNER");
    expect(driver.refusal(link, r5.REMOVE_SESSION_OVERLAY, forged).code).toBe("NOT_OWNER");
    driver.advance(6_000);
    expect(driver.snapshot<OmsSnapshot>().overlays).toHaveLength(0);
  });
});

describe("a source peer that starts over", () => {
  function takingOver(driver: ServerDriver, linkId: number, overlayId: string, who: Identity) {
    const { nonce } = driver.ask(linkId, r5.CHALLENGE, {});
    const signature = who.sign(r5.takeOverProof(nonce, overlayId));
    const candidates = [{ transport: "tcp", host: "0.0.0.0", port: 9_009 }] as const;
    return { overlayId, nonce, signature, candidates };
  }

  it("proves its key: the next epoch, new tokens, and members that have to join again", () => {
    const driver = oms({ refreshMs: 20_000, memberLeaseMs: 10_000 });
    const link = driver.link("203.0.113.7");
    const [owner, member] = [new Identity(), new Identity()];
    const made = create(driver, link, owner);
    const { overlayId } = made;
    const before = join(driver, link, overlayId, member);
    expect(before.sessionEpoch).toBe(1);
    driver.advance(19_000);
    const taken = driver.ask(link, r5.TAKE_OVER, takingOver(driver, link, overlayId, owner));
    expect(taken).toMatchObject({ sessionEpoch: 2, refreshMs: 20_000 });
    expect(driver.refusal(link, r5.REFRESH_OVERLAY, made).code).toBe("NOT_OWNER");
    expect(driver.refusal(link, r5.REMOVE_SESSION_OVERLAY, made).code).toBe("NOT_OWNER");
    const asMember = { overlayId, peerId: member.peerId, memberToken: before.memberToken };
    expect(
      driver.refusal(link, r5.MEMBER_REFRESH, { ...asMember, candidates: undefined }).code,
    ).toBe("UNKNOWN_PEER");
    // The lease runs at full length again.
    driver.advance(19_000);
    driver.ask(link, r5.REFRESH_OVERLAY, { overlayId, ownerToken: taken.ownerToken });
    // And all of it is on disk.
    driver.crash();
    const again = join(driver, driver.link(), overlayId, member);
    expect(again.sessionEpoch).toBe(2);
    expect(again.members).toEqual([
      {
        peerId: owner.peerId,
        role: ROLES.source,
        candidates: [{ transport: "tcp", host: "203.0.113.7", port: 9_009, kind: 1 }],
        reach: 0,
      },
    ]);
    driver.ask(driver.link(), r5.REFRESH_OVERLAY, { overlayId, ownerToken: taken.ownerToken });
  });

  it("nobody else can, no nonce counts twice, and what is gone stays gone", () => {
    const driver = oms({ refreshMs: 20_000 });
    const link = driver.link();
    const owner = new Identity();
    const made = create(driver, link, owner);
    const { overlayId } = made;
    const forged = takingOver(driver, link, overlayId, new Identity());
    expect(driver.refusal(link, r5.TAKE_OVER, forged).code).toBe("IDENTITY_UNPROVEN");
    const right = takingOver(driver, link, overlayId, owner);
    driver.ask(link, r5.TAKE_OVER, right);
    expect(driver.refusal(link, r5.TAKE_OVER, right).code).toBe("IDENTITY_UNPROVEN");
    const elsewhere = takingOver(driver, link, "77".repeat(16), owner);
    expect(driver.refusal(link, r5.TAKE_OVER, elsewhere).code).toBe("UNKNOWN_OVERLAY");
    // A proof to join is none to take over.
    const { nonce } = driver.ask(link, r5.CHALLENGE, {});
    const signature = owner.sign(r5.joinProof(nonce, overlayId));
    const request = { overlayId, nonce, signature, candidates: [] };
    expect(driver.refusal(link, r5.TAKE_OVER, request).code).toBe("IDENTITY_UNPROVEN");
    driver.advance(21_000);
    const late = takingOver(driver, link, overlayId, owner);
    expect(driver.refusal(link, r5.TAKE_OVER, late).code).toBe("OVERLAY_GONE");
  });

  it("with its token has members join again as well", () => {
    const driver = oms();
    const link = driver.link();
    const member = new Identity();
    const made = create(driver, link, new Identity());
    const { overlayId } = made;
    const { memberToken } = join(driver, link, overlayId, member);
    expect(driver.ask(link, r5.RESTART, made).sessionEpoch).toBe(2);
    const asMember = { overlayId, peerId: member.peerId, memberToken, candidates: undefined };
    expect(driver.refusal(link, r5.MEMBER_REFRESH, asMember).code).toBe("UNKNOWN_PEER");
    expect(join(driver, link, overlayId, member).sessionEpoch).toBe(2);
  });
});

describe("sessions start over and terms rise", () => {
  it("RESTART raises the session epoch durably", () => {
    const driver = oms();
    const made = create(driver, driver.link(), new Identity());
    expect(driver.ask(driver.link(), r5.RESTART, made).sessionEpoch).toBe(2);
    driver.crash();
    expect(driver.ask(driver.link(), r5.RESTART, made).sessionEpoch).toBe(3);
    expect(driver.snapshot<OmsSnapshot>().term).toBe(2);
  });

  it("two writes on one overlay at once are made one after the other", () => {
    const driver = oms();
    const link = driver.link();
    const made = create(driver, link, new Identity());
    driver.hold = true;
    const ids = [1, 2, 3].map(() => driver.send(link, r5.RESTART, made));
    driver.hold = false;
    driver.settle();
    const epochs = ids.map((id) => driver.replyTo(link, id, r5.RESTART));
    expect(epochs.map((reply) => reply?.ok && reply.answer.sessionEpoch)).toEqual([2, 3, 4]);
  });

  it("serves nothing before its state is loaded, nor from a damaged store", () => {
    const disk = new Disk();
    const driver = new ServerDriver((base) => createOms(base), 1, disk);
    const link = driver.link();
    expect(driver.refusal(link, r5.CHALLENGE, {}).code).toBe("OVERLOADED");
    driver.start();
    driver.ask(link, r5.CHALLENGE, {});
    const key = `oms/overlay/${"0f".repeat(16)}`;
    disk.records.set(key, { key, value: Uint8Array.of(0xc1), revision: 9 });
    driver.crash();
    expect(driver.events.at(-1)).toMatchObject({
      type: "failed",
      fatal: true,
      code: "STORE_CORRUPT",
    });
    expect(driver.refusal(driver.link(), r5.CHALLENGE, {}).code).toBe("OVERLOADED");
  });

  it("tombstones are bounded: the oldest becomes unknown", () => {
    const driver = oms({ tombstonesMax: 2 });
    const link = driver.link();
    const made = [1, 2, 3].map(() => create(driver, link, new Identity()));
    for (const overlay of made) driver.ask(link, r5.REMOVE_SESSION_OVERLAY, overlay);
    const codes = made.map((overlay) => driver.refusal(link, r5.REFRESH_OVERLAY, overlay).code);
    expect(codes).toEqual(["UNKNOWN_OVERLAY", "OVERLAY_GONE", "OVERLAY_GONE"]);
    expect([...driver.disk.records.keys()].filter((key) => key.includes("overlay"))).toHaveLength(
      2,
    );
  });
});
