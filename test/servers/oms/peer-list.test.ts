/** R1.d and R1.f at the OMS that asks. */

import { describe, expect, it } from "vitest";
import { type Candidate, ROLES } from "../../../src/protocol/common.ts";
import * as r1 from "../../../src/protocol/r1.ts";
import * as r5 from "../../../src/protocol/r5.ts";
import { encodeAnswer, encodeFailure } from "../../../src/protocol/signalling.ts";
import { createOms } from "../../../src/servers/oms.ts";
import type { OmsOptions } from "../../../src/servers/oms-types.ts";
import type { MsgpackValue } from "../../support/msgpack-reader.ts";
import { Identity, ServerDriver } from "../driver.ts";
import { hex } from "./scene.ts";

const overlayId = "0f".repeat(16);
const serviceKey = new Uint8Array(32).fill(0x5e);

const local = (port: number): Candidate => ({ transport: "tcp", host: "10.0.0.1", port });

class Oms {
  readonly driver: ServerDriver;
  readonly overlayId: string;
  readonly owner = new Identity();
  readonly #joined = new Map<string, { readonly link: number; readonly memberToken: Uint8Array }>();

  constructor(options: Partial<OmsOptions> = {}) {
    this.driver = new ServerDriver((base) =>
      createOms({
        ...base,
        pamsUrl: "ws://198.51.100.1:7900",
        serviceKey,
        memberLeaseMs: 600_000,
        refreshMs: 600_000,
        limits: { requestBurst: 1e6 },
        ...options,
      }),
    ).start();
    const link = this.driver.link("10.0.0.1");
    const { nonce } = this.driver.ask(link, r5.CHALLENGE, {});
    this.overlayId = this.driver.ask(link, r5.CREATE, {
      nonce,
      publicKey: this.owner.publicKey,
      signature: this.owner.sign(r5.createProof(nonce)),
      candidates: [local(1)],
      title: "t",
      pams: true,
    }).overlayId;
  }

  join(port: number): { readonly who: Identity; readonly members: readonly r5.Member[] } {
    const who = new Identity();
    const link = this.driver.link("10.0.0.1");
    const { nonce } = this.driver.ask(link, r5.CHALLENGE, {});
    const { overlayId } = this;
    const { members, memberToken } = this.driver.ask(link, r5.JOIN, {
      overlayId,
      nonce,
      publicKey: who.publicKey,
      signature: who.sign(r5.joinProof(nonce, overlayId)),
      candidates: [local(port)],
      role: ROLES.peer,
    });
    this.#joined.set(who.peerId, { link, memberToken });
    return { who, members };
  }

  /** Asks for a list; gives link and request id. */
  list({ peerId }: Identity, maxPeers: number, holding?: number): [number, number] {
    const { link, memberToken } = this.#joined.get(peerId) as NonNullable<
      ReturnType<typeof this.joinedOf>
    >;
    const request = { overlayId: this.overlayId, peerId, memberToken, maxPeers, holding };
    return [link, this.driver.send(link, r5.LIST_PEERS, request)];
  }

  joinedOf(peerId: string) {
    return this.#joined.get(peerId);
  }

  listed([link, requestId]: [number, number]): string[] | undefined {
    const members = this.driver.rawReply(link, requestId)?.[2] as MsgpackValue[][] | undefined;
    return members?.map((row) => hex(row[0]));
  }

  /** Answers the OMS's last question for a peer list. */
  answer(peerIds: readonly string[]): void {
    const question = this.driver.asked(1, 0x12).at(-1);
    const row = {
      role: 1,
      activity: 1,
      silentMs: 0,
      heldStart: 0,
      heldEnd: 9,
      missing: 0,
    } as const;
    const rates = { rateBytesPerSecond: 0, uploadBytesPerSecond: 0, spareBytesPerSecond: 0 };
    const more = { lagMs: 0, contributionPermille: 0, links: 1, ...rates };
    const peers = peerIds.map((peerId) => ({ peerId, ...row, ...more }));
    const counts = { matching: peers.length, registered: peers.length };
    this.driver.frame(1, encodeAnswer(r1.PEER_LIST, question?.[1] as number, { peers, ...counts }));
  }
}

describe("R1.d: an OMS asks for peer lists", () => {
  it("R1.d: naming activity, maximum, order and conditions, with its key, once a second at most", () => {
    const oms = new Oms();
    const { driver } = oms;
    driver.linkUp(1);
    for (let i = 0; i < 20; i++) oms.join(100 + i);
    const [question, ...more] = driver.asked(1, 0x12);
    expect(more).toEqual([]);
    const [, , id, activity, maxPeers, order, key, holding, maxLagMs, spare, exclude] =
      question ?? [];
    expect([hex(id), activity, maxPeers, order, hex(key)]).toEqual([
      oms.overlayId,
      r1.ACTIVITIES.active,
      64,
      r1.PEER_ORDERS.spare,
      hex(serviceKey),
    ]);
    expect([holding, maxLagMs, spare]).toEqual([null, 5_000, null]);
    expect((exclude as MsgpackValue[]).map(hex)).toEqual([oms.owner.peerId]);
    driver.advance(1_000);
    oms.join(200);
    expect(driver.asked(1, 0x12)).toHaveLength(2);
  });

  it("R1.d: and lists those that the PAMS named, up to half, among others by lot", () => {
    const oms = new Oms();
    oms.driver.linkUp(1);
    const all = Array.from({ length: 40 }, (_, i) => oms.join(100 + i).who.peerId);
    const good = all.slice(0, 3);
    const asker = oms.join(200).who;
    oms.answer(good);
    let others = new Set<string>();
    for (let i = 0; i < 30; i++) {
      const listed = oms.listed(oms.list(asker, 10)) ?? [];
      expect(listed).toHaveLength(10);
      expect(listed).toContain(oms.owner.peerId);
      for (const peerId of good) expect(listed).toContain(peerId);
      others = new Set([...others, ...listed]);
    }
    expect(others.size).toBeGreaterThan(25);
    // Who is no member is not listed, whatever the PAMS says; nor favourites alone.
    oms.driver.advance(1_100);
    oms.list(asker, 10);
    oms.answer([...all.slice(0, 30), "ab".repeat(32)]);
    const favourites = new Set([...all.slice(0, 30), oms.owner.peerId]);
    let besides = 0;
    for (let i = 0; i < 30; i++) {
      const listed = oms.listed(oms.list(asker, 10)) ?? [];
      expect(listed).not.toContain("ab".repeat(32));
      besides += listed.filter((peerId) => !favourites.has(peerId)).length;
    }
    expect(besides).toBeGreaterThan(10);
  });

  it("R1.d: for holders of a fragment the asker waits for the answer of the PAMS", () => {
    const oms = new Oms();
    oms.driver.linkUp(1);
    const all = Array.from({ length: 60 }, (_, i) => oms.join(100 + i).who);
    const asker = all[0] as Identity;
    oms.answer([]);
    const asked = oms.list(asker, 4, 77);
    expect(oms.listed(asked)).toBeUndefined();
    const question = oms.driver.asked(1, 0x12).at(-1) ?? [];
    expect([question[3], question[5], question[7]]).toEqual([
      r1.ACTIVITIES.any,
      r1.PEER_ORDERS.lag,
      77,
    ]);
    const holders = all.slice(50, 53).map(({ peerId }) => peerId);
    oms.answer(holders);
    expect(oms.listed(asked)?.sort()).toEqual([oms.owner.peerId, ...holders].sort());
  });

  it("R1.d (negative): without PAMS, link, answer or place it lists what it knows itself", () => {
    const without = new Oms({ pamsUrl: "" });
    const alone = without.join(5).who;
    expect(without.listed(without.list(alone, 5, 77))).toEqual([without.owner.peerId]);
    const unlinked = new Oms();
    const member = unlinked.join(5).who;
    expect(unlinked.listed(unlinked.list(member, 5, 77))).toEqual([unlinked.owner.peerId]);
    expect(unlinked.driver.asked(1, 0x12)).toEqual([]);

    const oms = new Oms();
    oms.driver.linkUp(1);
    const who = oms.join(5).who;
    const late = oms.list(who, 5, 77);
    oms.driver.advance(501);
    expect(oms.listed(late)).toEqual([oms.owner.peerId]);
    const refused = oms.list(who, 5, 77);
    const question = oms.driver.asked(1, 0x12).at(-1);
    const failure = { code: "MESSAGE_UNKNOWN", detail: "of before" } as const;
    oms.driver.frame(1, encodeFailure(question?.[1] as number, failure));
    expect(oms.listed(refused)).toEqual([oms.owner.peerId]);
    const many = Array.from({ length: 12 }, () => oms.list(who, 5, 77));
    expect(many.filter((one) => oms.listed(one) !== undefined)).toHaveLength(4);
    oms.driver.linkDown(1);
    expect(many.every((one) => oms.listed(one)?.length === 1)).toBe(true);
  });
});

describe("R1.f: an OMS queries the status of one peer", () => {
  const peerId = "1e".repeat(32);
  const command = { type: "peerStatus", token: 4, overlayId, peerId, ask: true };

  it("R1.f: by overlay and peer id, with its key, over its link", () => {
    const { driver } = new Oms();
    driver.linkUp(1);
    driver.command(command);
    const [question] = driver.asked(1, 0x13);
    const [, id, overlay, peer, key, ask] = question ?? [];
    expect([hex(overlay), hex(peer), hex(key), ask]).toEqual([
      overlayId,
      peerId,
      hex(serviceKey),
      true,
    ]);
    const answer = {
      role: 1,
      activity: 1,
      silentMs: 5,
      contributionPermille: 9,
      reports: [],
    } as const;
    driver.frame(1, encodeAnswer(r1.PEER_STATUS, id as number, answer));
    expect(driver.events.at(-1)).toMatchObject({ type: "peerStatus", token: 4, status: answer });
  });

  it("R1.f (negative): nothing is known without a link, an answer, or a peer of that id", () => {
    const nothing = { type: "peerStatus", token: 4, status: undefined };
    const { driver } = new Oms();
    driver.command(command);
    expect(driver.events.at(-1)).toEqual(nothing);
    driver.linkUp(1);
    driver.command(command);
    const [question] = driver.asked(1, 0x13);
    const failure = { code: "UNKNOWN_PEER", detail: "" } as const;
    driver.frame(1, encodeFailure(question?.[1] as number, failure));
    expect(driver.events.at(-1)).toEqual(nothing);
    driver.command({ ...command, token: 5 });
    driver.advance(8_001);
    expect(driver.events.at(-1)).toMatchObject({ token: 5, status: undefined });
  });
});
