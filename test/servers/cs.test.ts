/** The cache server's side of R8, against an OMS played by hand. */

import { describe, expect, it } from "vitest";
import * as r8 from "../../src/protocol/r8.ts";
import { encodeAnswer, encodeFailure } from "../../src/protocol/signalling.ts";
import { type CsSnapshot, createCs } from "../../src/servers/cs.ts";
import type { ServerOptions } from "../../src/servers/server-types.ts";
import type { MsgpackValue } from "../support/msgpack-reader.ts";
import { ServerDriver } from "./driver.ts";

const KEY = new Uint8Array(32).fill(7);
const ID = "cc".repeat(32);
const PEERS = ["a1".repeat(32), "a2".repeat(32)] as const;
const [OVERLAY, OTHER, THIRD] = ["01".repeat(16), "02".repeat(16), "03".repeat(16)] as const;
const hex = (bytes: unknown): string => Buffer.from(bytes as Uint8Array).toString("hex");

/** A cache server of two virtual peers with two overlays each, and what it says. */
class Scene {
  readonly driver: ServerDriver;
  linkId = 0;

  constructor() {
    this.driver = new ServerDriver((base) =>
      createCs({
        ...(base as ServerOptions),
        oms: { transport: "ws", host: "oms", port: 7_900 },
        serviceKey: KEY,
        cacheServerId: ID,
        label: "rack",
        virtualPeers: PEERS,
        overlaysPerPeer: 2,
        leavingMax: 1,
      }),
    ).start();
    this.link();
  }

  /** The link that it opened last comes up. */
  link(): void {
    const { linkId } = this.driver.opened.at(-1) as { linkId: number };
    this.linkId = linkId;
    this.driver.linkUp(linkId);
  }

  registrations(): MsgpackValue[][] {
    return this.driver.asked(this.linkId, 0x60);
  }

  /** Answers its last registration. */
  acknowledge(term = 4, leaseMs = 30_000): void {
    const requestId = this.registrations().at(-1)?.[1] as number;
    const answer = { leaseMs, term, assigned: 0 };
    this.driver.frame(this.linkId, encodeAnswer(r8.REGISTER_CACHE, requestId, answer));
  }

  allocate(overlayId: string, peerId: string, term = 4) {
    const order = { term, overlayId, peerId, title: "t", pamsUrl: "", priority: 1 };
    return this.driver.request(this.linkId, r8.ALLOCATE, order);
  }

  release(overlayId: string, peerId: string, reason: r8.ReleaseReason, term = 4) {
    return this.driver.request(this.linkId, r8.RELEASE, { term, overlayId, peerId, reason });
  }

  out(overlayId: string, peerId: string, code = ""): void {
    this.driver.command({ type: "out", overlayId, peerId, code, detail: "why" });
  }

  events(type: string) {
    return this.driver.events.filter((event) => event.type === type);
  }

  get places(): CsSnapshot["places"] {
    return this.driver.snapshot<CsSnapshot>().places;
  }
}

const code = (reply: { ok: boolean; failure?: { code: string } }) =>
  reply.ok ? "" : reply.failure?.code;

describe("registration", () => {
  it("comes first on each link, then well within the lease, with what is held", () => {
    const scene = new Scene();
    const [[, , key, id, label, peers, overlaysPerPeer, none, instance] = []] =
      scene.registrations();
    expect([hex(key), hex(id), label, overlaysPerPeer, none]).toEqual([
      hex(KEY),
      ID,
      "rack",
      2,
      [],
    ]);
    expect((peers as MsgpackValue[]).map(hex)).toEqual(PEERS);
    expect(instance).toHaveLength(8);
    scene.acknowledge();
    expect(scene.events("registered")).toMatchObject([{ leaseMs: 30_000, term: 4 }]);
    scene.allocate(OVERLAY, PEERS[0]);
    scene.driver.advance(8_900);
    expect(scene.registrations()).toHaveLength(1);
    scene.driver.advance(1_200);
    const holds = scene.registrations().at(-1)?.[7] as MsgpackValue[][];
    expect(holds.map((pair) => pair.map(hex))).toEqual([[OVERLAY, PEERS[0]]]);
    // The same offer taken again is no news.
    scene.acknowledge();
    expect(scene.events("registered")).toHaveLength(1);
  });

  it("refused, it is tried again and told once; unanswered, too", () => {
    const scene = new Scene();
    const refuse = () => {
      const requestId = scene.registrations().at(-1)?.[1] as number;
      const failure = { code: "KEY_REQUIRED", detail: "another one shown" } as const;
      scene.driver.frame(scene.linkId, encodeFailure(requestId, failure));
    };
    refuse();
    scene.driver.advance(2_100);
    expect(scene.registrations()).toHaveLength(2);
    refuse();
    expect(scene.events("unregistered")).toMatchObject([{ code: "KEY_REQUIRED" }]);
    scene.driver.advance(2_100);
    expect(scene.registrations()).toHaveLength(3);
    scene.driver.advance(7_100);
    expect(scene.registrations()).toHaveLength(4);
    scene.acknowledge();
    expect(scene.events("registered")).toHaveLength(1);
  });

  it("an OMS that does not answer is away; however short a lease it gives, it is not flooded", () => {
    const scene = new Scene();
    scene.driver.advance(5_100);
    expect(scene.events("omsAway")).toHaveLength(1);
    scene.driver.advance(2_100);
    scene.acknowledge(4, 0);
    expect(scene.events("registered")).toHaveLength(1);
    const before = scene.registrations().length;
    scene.driver.advance(400);
    expect(scene.registrations()).toHaveLength(before);
    scene.driver.advance(200);
    expect(scene.registrations()).toHaveLength(before + 1);
  });

  it("once it answers again that is told, and so is each refusal after that", () => {
    const scene = new Scene();
    const told = () =>
      scene.driver.events
        .map(({ type }) => type)
        .filter((type) => ["registered", "unregistered", "omsAway"].includes(type));
    const refuse = () => {
      const requestId = scene.registrations().at(-1)?.[1] as number;
      const failure = { code: "OVERLOADED", detail: "many", retryAfterMs: 0 } as const;
      scene.driver.frame(scene.linkId, encodeFailure(requestId, failure));
    };
    scene.acknowledge();
    scene.driver.advance(10_100);
    scene.driver.advance(5_100);
    expect(told()).toEqual(["registered", "omsAway"]);
    scene.driver.advance(2_100);
    scene.acknowledge();
    expect(told()).toEqual(["registered", "omsAway", "registered"]);
    for (let again = 0; again < 2; again++) {
      scene.driver.advance(10_100);
      refuse();
      expect(told().at(-1)).toBe("unregistered");
      scene.driver.advance(2_100);
      scene.acknowledge();
      expect(told().at(-1)).toBe("registered");
    }
  });

  it("a silence after a refusal is told, and a refusal after a silence", () => {
    const scene = new Scene();
    const told = () =>
      scene.driver.events.map(({ type }) => type).filter((type) => type !== "ready");
    const refuse = () => {
      const requestId = scene.registrations().at(-1)?.[1] as number;
      const failure = { code: "KEY_REQUIRED", detail: "another one shown" } as const;
      scene.driver.frame(scene.linkId, encodeFailure(requestId, failure));
    };
    const expected: string[] = [];
    for (let turn = 0; turn < 3; turn++) {
      // Not answered.
      scene.driver.advance(5_100);
      expected.push("omsAway");
      expect(told()).toEqual(expected);
      scene.driver.advance(2_100);
      refuse();
      expected.push("unregistered");
      expect(told()).toEqual(expected);
      // The same once more is not.
      scene.driver.advance(2_100);
      refuse();
      expect(told()).toEqual(expected);
      scene.driver.advance(2_100);
    }
  });

  it("a lost link is opened again, and what is held stays", () => {
    const scene = new Scene();
    scene.acknowledge();
    scene.allocate(OVERLAY, PEERS[0]);
    scene.driver.linkDown(scene.linkId);
    expect(scene.events("omsAway")).toHaveLength(1);
    scene.driver.advance(1_000);
    expect(scene.driver.opened).toHaveLength(2);
    scene.link();
    expect(scene.registrations().at(-1)?.[7]).toHaveLength(1);
    scene.acknowledge();
    expect(scene.events("registered")).toHaveLength(2);
    expect(scene.events("leave")).toEqual([]);
  });
});

describe("orders", () => {
  it("are handed on once, however often they are said", () => {
    const scene = new Scene();
    scene.acknowledge();
    expect(code(scene.allocate(OVERLAY, PEERS[0]))).toBe("");
    expect(code(scene.allocate(OVERLAY, PEERS[0]))).toBe("");
    expect(scene.events("enter")).toMatchObject([
      { order: { overlayId: OVERLAY, peerId: PEERS[0], title: "t", priority: 1 } },
    ]);
    const { ended, withdrawn } = r8.RELEASE_REASONS;
    for (let i = 0; i < 2; i++) expect(code(scene.release(OVERLAY, PEERS[0], ended))).toBe("");
    expect(scene.events("leave")).toHaveLength(1);
    // At once, though it was already leaving by itself.
    expect(code(scene.release(OVERLAY, PEERS[0], withdrawn))).toBe("");
    expect(scene.events("leave")).toHaveLength(2);
    // One that is in no such overlay: it is so.
    expect(code(scene.release(OTHER, PEERS[0], withdrawn))).toBe("");
    expect(scene.events("leave")).toHaveLength(2);
  });

  it("are refused: for no virtual peer of its own, beyond its overlays, into one that it is leaving", () => {
    const scene = new Scene();
    scene.acknowledge();
    expect(code(scene.allocate(OVERLAY, ID))).toBe("UNKNOWN_PEER");
    scene.allocate(OVERLAY, PEERS[0]);
    scene.allocate(OTHER, PEERS[0]);
    expect(code(scene.allocate(THIRD, PEERS[0]))).toBe("OVERLOADED");
    expect(code(scene.allocate(THIRD, PEERS[1]))).toBe("");
    scene.release(OVERLAY, PEERS[0], r8.RELEASE_REASONS.ended);
    expect(code(scene.allocate(OVERLAY, PEERS[0]))).toBe("OVERLOADED");
    // What it is leaving takes no place any more.
    expect(code(scene.allocate(THIRD, PEERS[0]))).toBe("");
    scene.out(OVERLAY, PEERS[0]);
    expect(scene.places.map(({ overlayId }) => overlayId).sort()).toEqual(
      [OTHER, THIRD, THIRD].sort(),
    );
    expect(scene.driver.snapshot<CsSnapshot>().refused).toBe(3);
  });

  it("of a lower term than one seen, in an answer or an order, are refused", () => {
    const scene = new Scene();
    scene.acknowledge(4);
    expect(code(scene.allocate(OVERLAY, PEERS[0], 3))).toBe("TERM_PASSED");
    expect(code(scene.allocate(OVERLAY, PEERS[0], 6))).toBe("");
    const { withdrawn } = r8.RELEASE_REASONS;
    expect(code(scene.release(OVERLAY, PEERS[0], withdrawn, 5))).toBe("TERM_PASSED");
    expect(scene.events("leave")).toEqual([]);
    expect(code(scene.release(OVERLAY, PEERS[0], withdrawn, 6))).toBe("");
  });

  it("an OMS that counts from the beginning again is none to take orders of, and that is told", () => {
    const scene = new Scene();
    scene.acknowledge(4);
    scene.driver.linkDown(scene.linkId);
    scene.driver.advance(1_000);
    scene.link();
    scene.acknowledge(1);
    expect(scene.events("unregistered")).toMatchObject([{ code: "TERM_PASSED" }]);
    expect(scene.events("registered")).toHaveLength(1);
  });

  it("one that ends keeps its room: no more than a few beside those that stay", () => {
    const scene = new Scene();
    scene.acknowledge();
    const id = (i: number) => i.toString(16).padStart(32, "0");
    const entered = () => scene.events("enter").length;
    for (let i = 0; i < 9; i++) {
      scene.allocate(id(i), PEERS[0]);
      scene.release(id(i), PEERS[0], r8.RELEASE_REASONS.ended);
    }
    // Two that it may be in, and one that ends.
    expect(entered()).toBe(3);
    scene.out(id(0), PEERS[0]);
    scene.allocate(id(10), PEERS[0]);
    expect(entered()).toBe(4);
  });

  it("malformed ones break the link off after a few, and nothing else", () => {
    const scene = new Scene();
    scene.acknowledge();
    for (let i = 0; i < 3; i++) scene.driver.frame(scene.linkId, Uint8Array.of(0xc1, i));
    expect(scene.driver.closed).toEqual([scene.linkId]);
    expect(scene.places).toEqual([]);
  });
});

describe("what a virtual peer is out of", () => {
  it("without an order is given back, again until it is acknowledged", () => {
    const scene = new Scene();
    scene.acknowledge();
    scene.allocate(OVERLAY, PEERS[0]);
    scene.out(OVERLAY, PEERS[0], "SESSION_LOST");
    const given = () => scene.driver.asked(scene.linkId, 0x61);
    expect(
      given().map((fields) => fields.slice(4).map((x) => (typeof x === "string" ? x : hex(x)))),
    ).toEqual([[OVERLAY, PEERS[0], "SESSION_LOST", "why"]]);
    scene.driver.advance(7_200);
    expect(given()).toHaveLength(2);
    scene.driver.linkDown(scene.linkId);
    scene.driver.advance(1_000);
    scene.link();
    const [first, second] = scene.driver.sent.filter(({ linkId }) => linkId === scene.linkId);
    expect([first?.bytes[1], second?.bytes[1]]).toEqual([0x61, 0x60]);
    const requestId = given().at(-1)?.[1] as number;
    scene.driver.frame(scene.linkId, encodeAnswer(r8.GIVE_BACK, requestId, {}));
    scene.acknowledge();
    scene.driver.advance(6_000);
    expect(given()).toHaveLength(1);
  });

  it("refused for now it is given back again, and not at once", () => {
    const scene = new Scene();
    scene.acknowledge();
    scene.allocate(OVERLAY, PEERS[0]);
    scene.out(OVERLAY, PEERS[0], "ENGINE_MEMORY");
    const given = () => scene.driver.asked(scene.linkId, 0x61);
    for (const code of ["STORE_FULL", "KEY_REQUIRED"] as const) {
      const requestId = given().at(-1)?.[1] as number;
      scene.driver.frame(scene.linkId, encodeFailure(requestId, { code, detail: "" }));
      scene.driver.advance(1_500);
      scene.driver.advance(1_500);
    }
    // For good is for good.
    expect(given()).toHaveLength(2);
  });

  it("by order is no news", () => {
    const scene = new Scene();
    scene.acknowledge();
    scene.allocate(OVERLAY, PEERS[0]);
    scene.release(OVERLAY, PEERS[0], r8.RELEASE_REASONS.withdrawn);
    scene.out(OVERLAY, PEERS[0]);
    scene.driver.advance(1_000);
    expect(scene.driver.asked(scene.linkId, 0x61)).toEqual([]);
    expect(scene.places).toEqual([]);
  });
});

describe("a cache server that goes", () => {
  it("says so, takes no order, and waits for the OMS for a while only", () => {
    const scene = new Scene();
    scene.acknowledge();
    scene.driver.command({ type: "withdraw" });
    const [, requestId] = scene.driver.asked(scene.linkId, 0x62)[0] as [number, number];
    expect(code(scene.allocate(OVERLAY, PEERS[0]))).toBe("OVERLOADED");
    scene.driver.frame(scene.linkId, encodeAnswer(r8.WITHDRAW_CACHE, requestId, {}));
    expect(scene.events("withdrawn")).toHaveLength(1);
    const silent = new Scene();
    silent.driver.command({ type: "withdraw" });
    silent.driver.advance(2_900);
    expect(silent.events("withdrawn")).toEqual([]);
    silent.driver.advance(200);
    expect(silent.events("withdrawn")).toHaveLength(1);
    const alone = new Scene();
    alone.driver.linkDown(alone.linkId);
    alone.driver.command({ type: "withdraw" });
    expect(alone.events("withdrawn")).toHaveLength(1);
  });
});
