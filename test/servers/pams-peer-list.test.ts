/** R1.d and R1.f at the PAMS that answers; P0.3, what a status covers. */

import { describe, expect, it } from "vitest";
import { ROLES } from "../../src/protocol/common.ts";
import * as r1 from "../../src/protocol/r1.ts";
import * as r2 from "../../src/protocol/r2.ts";
import { encodeAnswer } from "../../src/protocol/signalling.ts";
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
