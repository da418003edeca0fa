import { describe, expect, it } from "vitest";
import { ROLES } from "../../../src/protocol/common.ts";
import * as r5 from "../../../src/protocol/r5.ts";
import type { OmsSnapshot } from "../../../src/servers/oms-types.ts";
import { Identity } from "../driver.ts";
import { create, hex, join, joining, oms } from "./scene.ts";

describe("R5.0: a peer joins an overlay, gets a list of its peers, leaves it", () => {
  it("R5.0: join, list, leave, as decoded by independent code", () => {
    const driver = oms();
    const link = driver.link();
    const owner = new Identity();
    const made = create(driver, link, owner);
    const [a, b] = [new Identity(), new Identity()];
    const asA = join(driver, link, made.overlayId, a);
    const joined = joining(driver, link, made.overlayId, b, ROLES.peer);
    const requestId = driver.send(link, r5.JOIN, joined);
    driver.settle();
    const raw = driver.rawReply(link, requestId) ?? [];
    expect([raw[0], raw[2], raw[4]]).toEqual([0x45 | 0x80, 30_000, 1]);
    const listed = (raw[7] as unknown[][]).map(([id, role]) => [hex(id), role]);
    expect(new Map(listed as [string, unknown][])).toEqual(
      new Map([
        [owner.peerId, 0],
        [a.peerId, 1],
      ]),
    );
    const ask = { overlayId: made.overlayId, peerId: a.peerId, memberToken: asA.memberToken };
    const list = () =>
      driver.ask(link, r5.LIST_PEERS, { ...ask, maxPeers: 8 }).members.map(({ peerId }) => peerId);
    expect(list().sort()).toEqual([owner.peerId, b.peerId].sort());
    const token = raw[3] as Uint8Array;
    driver.ask(link, r5.LEAVE, { ...ask, peerId: b.peerId, memberToken: token });
    expect(list()).toEqual([owner.peerId]);
    const asOwner = { ...ask, peerId: owner.peerId, memberToken: made.memberToken };
    expect(driver.ask(link, r5.LIST_PEERS, { ...asOwner, maxPeers: 8 }).members).toHaveLength(1);
  });

  it("R5.0 (twin): unproven, unknown, gone, wrong role and wrong token are told apart", () => {
    const driver = oms();
    const link = driver.link();
    const owner = new Identity();
    const made = create(driver, link, owner);
    const who = new Identity();
    const code = (request: ReturnType<typeof joining>) =>
      driver.refusal(link, r5.JOIN, request).code;
    const good = () => joining(driver, link, made.overlayId, who, ROLES.peer);
    expect(code({ ...good(), publicKey: new Identity().publicKey })).toBe("IDENTITY_UNPROVEN");
    expect(code({ ...good(), overlayId: "ab".repeat(16) })).toBe("UNKNOWN_OVERLAY");
    expect(code({ ...good(), role: ROLES.source })).toBe("NOT_OWNER");
    const { memberToken } = join(driver, link, made.overlayId, who);
    const ask = { overlayId: made.overlayId, peerId: who.peerId, memberToken, maxPeers: 1 };
    expect(driver.refusal(link, r5.LIST_PEERS, { ...ask, memberToken: made.ownerToken }).code).toBe(
      "UNKNOWN_PEER",
    );
    driver.ask(link, r5.REMOVE_SESSION_OVERLAY, made);
    expect(driver.refusal(link, r5.LIST_PEERS, ask)).toMatchObject({
      code: "OVERLAY_GONE",
      detail: "removed",
    });
    expect(code(good())).toBe("OVERLAY_GONE");
    expect(driver.refusal(link, r5.REMOVE_SESSION_OVERLAY, made).code).toBe("OVERLAY_GONE");
  });

  it("an overlay that ends while a signature is checked admits nobody", () => {
    const driver = oms();
    const link = driver.link();
    const made = create(driver, link, new Identity());
    const request = joining(driver, link, made.overlayId, new Identity(), ROLES.peer);
    driver.hold = true;
    const joinId = driver.send(link, r5.JOIN, request);
    const removeId = driver.send(link, r5.REMOVE_SESSION_OVERLAY, made);
    driver.finishOne("store");
    expect(driver.replyTo(link, removeId, r5.REMOVE_SESSION_OVERLAY)?.ok).toBe(true);
    driver.finishOne("job");
    expect(driver.replyTo(link, joinId, r5.JOIN)).toMatchObject({
      ok: false,
      failure: { code: "OVERLAY_GONE" },
    });
  });

  it("memberships are soft: silent members go, and after a restart they join again", () => {
    const driver = oms({ memberLeaseMs: 10_000 });
    const link = driver.link();
    const made = create(driver, link, new Identity());
    const [a, b] = [new Identity(), new Identity()];
    const asA = join(driver, link, made.overlayId, a);
    join(driver, link, made.overlayId, b);
    const refresh = { overlayId: made.overlayId, peerId: a.peerId, memberToken: asA.memberToken };
    driver.advance(7_000);
    expect(driver.ask(link, r5.MEMBER_REFRESH, refresh)).toMatchObject({ sessionEpoch: 1 });
    driver.advance(7_000);
    expect(driver.snapshot<OmsSnapshot>().overlays).toMatchObject([{ members: 2 }]);
    driver.crash();
    const again = driver.link();
    expect(driver.refusal(again, r5.MEMBER_REFRESH, refresh).code).toBe("UNKNOWN_PEER");
    join(driver, again, made.overlayId, a);
    expect(driver.snapshot<OmsSnapshot>().overlays).toMatchObject([{ members: 2 }]);
  });

  it("lists hold at most what was asked, always the source peer, others at random", () => {
    const driver = oms({ limits: { requestBurst: 1_000 } });
    const link = driver.link();
    const owner = new Identity();
    const made = create(driver, link, owner);
    const peers = Array.from({ length: 40 }, () => new Identity());
    const joined = peers.map((peer) => join(driver, link, made.overlayId, peer));
    expect(joined.at(-1)?.members).toHaveLength(30);
    const peerId = peers[0]?.peerId ?? "";
    const memberToken = joined[0]?.memberToken ?? new Uint8Array(16);
    const ask = { overlayId: made.overlayId, peerId, memberToken };
    const seen = new Set<string>();
    for (let i = 0; i < 40; i++) {
      const exclude = [peers[1]?.peerId ?? ""];
      const { members } = driver.ask(link, r5.LIST_PEERS, { ...ask, maxPeers: 5, exclude });
      const ids = members.map((member) => member.peerId);
      expect(new Set(ids).size).toBe(5);
      expect(ids).toContain(owner.peerId);
      expect(ids).not.toContain(peerId);
      expect(ids).not.toContain(exclude[0]);
      for (const id of ids) seen.add(id);
    }
    expect(seen.size).toBeGreaterThan(30);
    const holder = peers[7]?.peerId ?? "";
    const holderToken = joined[7]?.memberToken ?? new Uint8Array(16);
    driver.ask(link, r5.MEMBER_REFRESH, {
      overlayId: made.overlayId,
      peerId: holder,
      memberToken: holderToken,
      heldStart: 100,
      heldEnd: 200,
    });
    const holding = driver.ask(link, r5.LIST_PEERS, { ...ask, maxPeers: 2, holding: 150 }).members;
    expect(holding.map((member) => member.peerId).sort()).toEqual([owner.peerId, holder].sort());
  });

  it("a list of members with the longest candidates fits one message", () => {
    const pamsUrl = `ws://${"p".repeat(240)}:7900`;
    const driver = oms({ pamsUrl, limits: { requestBurst: 1_000 } });
    const link = driver.link();
    const candidates = Array.from({ length: 8 }, () => ({
      transport: "memory" as const,
      host: "h".repeat(255),
      port: 65_535,
    }));
    const made = create(driver, link, new Identity(), { candidates, pams: true });
    for (let i = 0; i < 31; i++) {
      const request = joining(driver, link, made.overlayId, new Identity(), ROLES.peer);
      const { members } = driver.ask(link, r5.JOIN, { ...request, candidates });
      expect(members.length).toBeGreaterThanOrEqual(Math.min(9, i + 1));
    }
  });
});
