/** R1.d and R1.f, at the PAMS that answers and at the OMS that asks; P0.3, what a status covers. */

import { describe, expect, it } from "vitest";
import { type Candidate, ROLES } from "../../src/protocol/common.ts";
import * as r1 from "../../src/protocol/r1.ts";
import * as r2 from "../../src/protocol/r2.ts";
import * as r5 from "../../src/protocol/r5.ts";
import { encodeAnswer, encodeFailure } from "../../src/protocol/signalling.ts";
import { createOms } from "../../src/servers/oms.ts";
import type { OmsOptions } from "../../src/servers/oms-types.ts";
import { createPams } from "../../src/servers/pams.ts";
import type { MsgpackValue } from "../support/msgpack-reader.ts";
import { Identity, ServerDriver } from "./driver.ts";

const hex = (bytes: unknown): string => Buffer.from(bytes as Uint8Array).toString("hex");
const overlayId = "0f".repeat(16);
const serviceKey = new Uint8Array(32).fill(0x5e);
const INTERVAL_MS = 10_000;

const report = {
  overlayId,
  event: r2.REPORT_EVENTS.interval,
  start: 0,
  haveEnd: 100,
  missing: 0,
  fragmentsHeld: 100,
  bytesFromSource: 1_000,
  bytesFromPeers: 1_000,
  bytesToPeers: 0,
  lagMs: 0,
  links: 4,
  rateBytesPerSecond: 0,
} as const;

/** The names of an ActivePeer's positions, as the page lists them. */
const NAMES = [
  "peerId",
  "role",
  "activity",
  "silentMs",
  "heldStart",
  "heldEnd",
  "missing",
  "lagMs",
  "contributionPermille",
  "rateBytesPerSecond",
  "uploadBytesPerSecond",
  "spareBytesPerSecond",
  "links",
] as const;

class Pams {
  readonly driver = new ServerDriver((base) =>
    createPams({ ...base, reportIntervalMs: INTERVAL_MS, serviceKey }),
  ).start();
  readonly link = this.driver.link();
  readonly #names = new Map<string, string>();
  readonly #tokens = new Map<string, { readonly peerId: string; readonly peerToken: Uint8Array }>();

  constructor() {
    this.driver.ask(this.link, r1.REGISTER_OVERLAY, { overlayId, omsUrl: "", serviceKey });
  }

  peer(name: string, status: Partial<Record<keyof r2.PeerStatus, unknown>> | undefined): string {
    const key = new Identity();
    const { peerId, publicKey } = key;
    const link = this.driver.link();
    const { nonce } = this.driver.ask(link, r2.PAMS_CHALLENGE, {});
    const signature = key.sign(r2.registerProof(nonce, overlayId));
    const request = { overlayId, peerId, role: ROLES.peer, nonce, publicKey, signature };
    const { peerToken } = this.driver.ask(link, r2.REGISTER_PEER, request);
    this.#names.set(peerId, name);
    this.#tokens.set(name, { peerId, peerToken });
    if (status !== undefined) this.report(name, status, link);
    return peerId;
  }

  report(name: string, status: object, link = this.driver.link()): void {
    const own = this.#tokens.get(name);
    if (own === undefined) throw new Error(`no peer ${name}`);
    this.driver.ask(link, r2.REPORT, { ...report, ...status, ...own });
  }

  /** The answer by independent code: names in order, the rows by field, the two counts. */
  list(wish: Partial<r1.PeerListRequest>): {
    names: string[];
    rows: Record<string, MsgpackValue>[];
    counts: MsgpackValue[];
  } {
    const requestId = this.driver.send(this.link, r1.PEER_LIST, {
      overlayId,
      activity: r1.ACTIVITIES.any,
      maxPeers: 128,
      order: r1.PEER_ORDERS.random,
      serviceKey,
      ...wish,
    });
    const raw = this.driver.rawReply(this.link, requestId) ?? [];
    expect(raw[0]).toBe(0x12 | 0x80);
    const rows = (raw[2] as MsgpackValue[][]).map((row) =>
      Object.fromEntries(NAMES.map((field, i) => [field, row[i] as MsgpackValue])),
    );
    const names = rows.map(({ peerId }) => this.#names.get(hex(peerId)) ?? "?");
    return { names, rows, counts: raw.slice(3) };
  }
}

describe("R1.d: a PAMS gives peer lists", () => {
  it("R1.d: by the activity asked for", () => {
    const pams = new Pams();
    pams.peer("new", undefined);
    pams.peer("active", { event: r2.REPORT_EVENTS.started });
    pams.peer("lagging", { event: r2.REPORT_EVENTS.lagging });
    pams.peer("done", { event: r2.REPORT_EVENTS.completed });
    // Interval reports go on after an event and do not undo it.
    pams.report("done", {});
    pams.report("lagging", {});
    const { any, active, lagging, completed } = r1.ACTIVITIES;
    expect(pams.list({ activity: any }).names.sort()).toEqual(["active", "done", "lagging", "new"]);
    expect(pams.list({ activity: active }).names).toEqual(["active"]);
    expect(pams.list({ activity: lagging }).names).toEqual(["lagging"]);
    expect(pams.list({ activity: completed }).names).toEqual(["done"]);
    pams.report("lagging", { cause: r2.REPORT_CAUSES.recovered });
    expect(pams.list({ activity: active }).names.sort()).toEqual(["active", "lagging"]);
    // A report that is overdue is counted on no more.
    pams.driver.advance(1.6 * INTERVAL_MS);
    expect(pams.list({ activity: active }).names).toEqual([]);
  });

  it("R1.d: at most as many as asked for, in the order asked for", () => {
    const pams = new Pams();
    const limit = { uploadLimitBytesPerSecond: 1_000 };
    pams.peer("a", { lagMs: 30, bytesToPeers: 6_000, fragmentsHeld: 5, uploadBytesPerSecond: 9 });
    pams.peer("b", { lagMs: 10, bytesToPeers: 2_000, fragmentsHeld: 9, ...limit });
    pams.peer("c", { lagMs: 20, bytesToPeers: 4_000, fragmentsHeld: 7, uploadBytesPerSecond: 3 });
    pams.peer("d", { lagMs: 40, fragmentsHeld: 1, uploadBytesPerSecond: 900, ...limit });
    pams.peer("silent", undefined);
    const { lag, spare, contribution, held, random } = r1.PEER_ORDERS;
    expect(pams.list({ order: lag }).names).toEqual(["b", "c", "a", "d", "silent"]);
    expect(pams.list({ order: spare }).names).toEqual(["c", "a", "b", "d", "silent"]);
    expect(pams.list({ order: contribution }).names).toEqual(["a", "c", "b", "d", "silent"]);
    expect(pams.list({ order: held }).names).toEqual(["b", "c", "a", "d", "silent"]);
    const orders = new Set(
      Array.from({ length: 40 }, () => pams.list({ order: random }).names.join()),
    );
    expect(orders.size).toBeGreaterThan(10);
    for (const maxPeers of [1, 3]) {
      const { names, counts } = pams.list({ order: lag, maxPeers });
      expect(names).toEqual(["b", "c", "a"].slice(0, maxPeers));
      expect(counts).toEqual([5, 5]);
    }
  });

  it("R1.d: on the conditions named, one by one and together", () => {
    const pams = new Pams();
    const excluded = pams.peer("x", {});
    pams.peer("early", { start: 0, haveEnd: 50, lagMs: 10 });
    pams.peer("late", { start: 40, haveEnd: 90, lagMs: 9_000 });
    pams.peer("busy", { start: 40, haveEnd: 90, uploadLimitBytesPerSecond: 100 });
    pams.peer("silent", undefined);
    const names = (wish: Partial<r1.PeerListRequest>): string[] => pams.list(wish).names.sort();
    const exclude = [excluded];
    expect(names({ exclude, holding: 45 })).toEqual(["busy", "early", "late"]);
    expect(names({ exclude, holding: 50 })).toEqual(["busy", "late"]);
    expect(names({ exclude, holding: 90 })).toEqual([]);
    expect(names({ exclude, maxLagMs: 100 })).toEqual(["busy", "early"]);
    expect(names({ exclude, minSpareBytesPerSecond: 101 })).toEqual(["early", "late"]);
    expect(names({ exclude, holding: 60, maxLagMs: 100 })).toEqual(["busy"]);
    expect(pams.list({ exclude, holding: 60, maxLagMs: 100 }).counts).toEqual([1, 5]);
  });

  it("R1.d (negative): not without the key, of no unknown overlay, for no order that is none", () => {
    const pams = new Pams();
    pams.peer("a", {});
    const wish = { overlayId, activity: 0, maxPeers: 5, order: 0 } as const;
    const { driver, link } = pams;
    for (const shown of [undefined, new Uint8Array(32)]) {
      const request = shown === undefined ? wish : { ...wish, serviceKey: shown };
      expect(driver.refusal(link, r1.PEER_LIST, request).code).toBe("KEY_REQUIRED");
    }
    const other = { ...wish, serviceKey, overlayId: "ab".repeat(16) };
    expect(driver.refusal(link, r1.PEER_LIST, other).code).toBe("UNKNOWN_OVERLAY");
    const id = [0xc4, 0x10, ...Buffer.from(overlayId, "hex")];
    for (const fields of [
      [9, 5, 0],
      [0, 0, 0],
      [0, 129, 0],
      [0, 5, 9],
    ]) {
      const stranger = driver.link();
      const small = fields.flatMap((value) => (value > 127 ? [0xcc, value] : [value]));
      driver.frame(stranger, Uint8Array.of(0x96, 0x12, 0x07, ...id, ...small));
      expect(driver.rawReply(stranger, 7)?.[2]).toBe("MESSAGE_MALFORMED");
    }
  });

  it("P0.3: the status covers what a peer holds and misses, what it took and gave, and the like", () => {
    const pams = new Pams();
    const neighbour = new Identity().peerId;
    const status = {
      start: 40,
      haveEnd: 300,
      missing: 7,
      fragmentsHeld: 265,
      known: 312,
      lost: 3,
      bytesFromSource: 1_000,
      bytesFromPeers: 3_000,
      bytesToPeers: 6_000,
      lagMs: 250,
      rateBytesPerSecond: 500,
      uploadBytesPerSecond: 700,
      uploadLimitBytesPerSecond: 1_000,
      neighbours: [{ peerId: neighbour, bytesFrom: 900, bytesTo: 1_500 }],
    };
    const peerId = pams.peer("a", status);
    pams.driver.advance(1_000);
    const [row] = pams.list({}).rows;
    expect(row).toMatchObject({
      role: 1,
      heldStart: 40,
      heldEnd: 300,
      missing: 7,
      lagMs: 250,
      contributionPermille: 1_500,
      rateBytesPerSecond: 500,
      uploadBytesPerSecond: 700,
      spareBytesPerSecond: 300,
      links: 4,
    });
    const { driver, link } = pams;
    const requestId = driver.send(link, r1.PEER_STATUS, { overlayId, peerId, serviceKey });
    const raw = driver.rawReply(link, requestId) ?? [];
    const [latest] = raw[6] as MsgpackValue[][];
    expect([latest?.[3], latest?.[4], latest?.[5], latest?.[6]]).toEqual([40, 300, 7, 265]);
    expect([latest?.[13], latest?.[14]]).toEqual([312, 3]);
    const [[id, bytesFrom, bytesTo] = []] = (latest?.[18] ?? []) as MsgpackValue[][];
    expect([hex(id), bytesFrom, bytesTo]).toEqual([neighbour, 900, 1_500]);
  });

  it("P0.3 (negative): of a peer that said nothing there is nothing, and a ratio of nothing is 0", () => {
    const pams = new Pams();
    const peerId = pams.peer("a", undefined);
    expect(pams.list({}).rows[0]).toMatchObject({
      activity: 0,
      heldEnd: 0,
      contributionPermille: 0,
    });
    const { driver, link } = pams;
    const requestId = driver.send(link, r1.PEER_STATUS, { overlayId, peerId, serviceKey });
    expect(driver.rawReply(link, requestId)?.slice(5)).toEqual([0, []]);
    pams.report("a", { bytesFromSource: 0, bytesFromPeers: 0, bytesToPeers: 0 });
    expect(pams.list({}).rows[0]).toMatchObject({ activity: 1, contributionPermille: 0 });
  });
});

describe("R1.f: a PAMS tells the status of one peer", () => {
  const ask = (pams: Pams, peerId: string, more: object = {}) =>
    pams.driver.send(pams.link, r1.PEER_STATUS, { overlayId, peerId, serviceKey, ...more });

  it("R1.f: its role, standing, contribution, and latest report", () => {
    const pams = new Pams();
    const peerId = pams.peer("a", { haveEnd: 77, bytesToPeers: 1_000 });
    pams.peer("b", { haveEnd: 99 });
    pams.driver.advance(4_000);
    const requestId = ask(pams, peerId);
    const [type, id, role, activity, silentMs, permille, reports] =
      pams.driver.rawReply(pams.link, requestId) ?? [];
    expect([type, id, role, activity, permille]).toEqual([0x13 | 0x80, requestId, 1, 1, 500]);
    expect(silentMs).toBeGreaterThanOrEqual(3_999);
    const [latest] = reports as MsgpackValue[][];
    expect([hex(latest?.[1]), latest?.[4]]).toEqual([peerId, 77]);
  });

  it("R1.f, R2.e: asks the peer itself first when told to; its latest report when it is silent", () => {
    const pams = new Pams();
    const { driver } = pams;
    const peerId = pams.peer("a", { haveEnd: 77 });
    const spoke = driver.link();
    pams.report("a", { haveEnd: 78 }, spoke);
    const requestId = ask(pams, peerId, { ask: true });
    expect(driver.rawReply(pams.link, requestId)).toBeUndefined();
    const [question] = driver.asked(spoke, 0x23);
    const status = { ...report, peerId, event: r2.REPORT_EVENTS.asked, haveEnd: 90 };
    driver.frame(spoke, encodeAnswer(r2.STATUS, question?.[1] as number, status));
    const latest = (id: number) =>
      ((driver.rawReply(pams.link, id)?.[6] ?? []) as MsgpackValue[][])[0];
    expect([latest(requestId)?.[2], latest(requestId)?.[4]]).toEqual([5, 90]);
    const again = ask(pams, peerId, { ask: true });
    driver.advance(5_001);
    expect(latest(again)?.[4]).toBe(90);
  });

  it("R1.f, R2.e (negative): of nobody unknown, and not without the key: the peer is not asked", () => {
    const pams = new Pams();
    const { driver } = pams;
    const peerId = pams.peer("a", {});
    const spoke = driver.link();
    pams.report("a", {}, spoke);
    const refused = (more: object) =>
      driver.refusal(pams.link, r1.PEER_STATUS, { overlayId, peerId, ask: true, ...more }).code;
    expect(refused({})).toBe("KEY_REQUIRED");
    expect(refused({ serviceKey: new Uint8Array(32) })).toBe("KEY_REQUIRED");
    expect(refused({ serviceKey, peerId: "ab".repeat(32) })).toBe("UNKNOWN_PEER");
    expect(refused({ serviceKey, overlayId: "ab".repeat(16) })).toBe("UNKNOWN_OVERLAY");
    expect(driver.asked(spoke, 0x23)).toEqual([]);
  });
});

// ------------------------------------------------------------------------------ the OMS that asks

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
