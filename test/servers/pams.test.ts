import { describe, expect, it } from "vitest";
import { ROLES } from "../../src/protocol/common.ts";
import * as r1 from "../../src/protocol/r1.ts";
import * as r2 from "../../src/protocol/r2.ts";
import { encodeAnswer } from "../../src/protocol/signalling.ts";
import { createPams, type PamsOptions, type PamsSnapshot } from "../../src/servers/pams.ts";
import { Identity, ServerDriver } from "./driver.ts";

const overlayId = "0f".repeat(16);
const key = new Identity();
const { peerId } = key;
const overlay = { overlayId, omsUrl: "ws://192.0.2.1:7900" };
const peer = { overlayId, peerId, role: ROLES.peer };
const report = {
  overlayId,
  peerId,
  event: r2.REPORT_EVENTS.interval,
  start: 5,
  haveEnd: 100,
  missing: 3,
  fragmentsHeld: 92,
  bytesFromSource: 1_000,
  bytesFromPeers: 9_000,
  bytesToPeers: 5_000,
  lagMs: 40,
  links: 4,
  rateBytesPerSecond: 125_000,
} as const;

/** A peer that proves its key, as the page says; gives the token of its registration. */
function register(driver: ServerDriver, link: number, more: Partial<typeof peer> = {}): Uint8Array {
  return driver.ask(link, r2.REGISTER_PEER, { ...peer, ...more, ...proof(driver, link) }).peerToken;
}

function proof(driver: ServerDriver, link: number, identity = key, id = overlayId) {
  const { nonce } = driver.ask(link, r2.PAMS_CHALLENGE, {});
  const statement = Buffer.concat([
    Buffer.from("mp2p-r2-register-1"),
    nonce,
    Buffer.from(id, "hex"),
  ]);
  return { nonce, publicKey: identity.publicKey, signature: identity.sign(statement) };
}

const sent = (driver: ServerDriver, link: number, peerToken: Uint8Array, more: object = {}) =>
  driver.ask(link, r2.REPORT, { ...report, ...more, peerToken });

function pams(options: Partial<PamsOptions> = {}): ServerDriver {
  return new ServerDriver((base) =>
    createPams({ ...base, reportIntervalMs: 10_000, ...options }),
  ).start();
}
const overlays = (driver: ServerDriver) => driver.snapshot<PamsSnapshot>().overlays;

describe("R1.a, R1.b: an OMS registers an overlay", () => {
  it("R1.a, R1.b: by its id; the answer gives the report interval", () => {
    const driver = pams();
    const link = driver.link();
    const requestId = driver.send(link, r1.REGISTER_OVERLAY, overlay);
    expect(driver.rawReply(link, requestId)).toEqual([0x10 | 0x80, requestId, 10_000]);
    expect(overlays(driver)).toEqual([{ ...overlay, peers: [] }]);
  });

  it("R1.a, R1.b (twin): not without an id, not beyond the limit", () => {
    const driver = pams({ overlaysMax: 1 });
    const link = driver.link();
    driver.frame(link, Uint8Array.of(0x93, 0x10, 0x07, 0xa0));
    expect(driver.rawReply(link, 7)?.[2]).toBe("MESSAGE_MALFORMED");
    driver.ask(link, r1.REGISTER_OVERLAY, overlay);
    const other = { ...overlay, overlayId: "ab".repeat(16) };
    const failure = driver.refusal(link, r1.REGISTER_OVERLAY, other);
    expect(failure.code).toBe("OVERLOADED");
    expect(failure.retryAfterMs).toBeGreaterThan(0);
    driver.ask(link, r1.REGISTER_OVERLAY, overlay);
    expect(overlays(driver)).toHaveLength(1);
  });
});

describe("R1.c: the registration is kept alive", () => {
  it("R1.c: repeated every interval it stays; after three silent intervals it is dropped", () => {
    const driver = pams();
    const link = driver.link();
    for (let i = 0; i < 8; i++) {
      driver.ask(link, r1.REGISTER_OVERLAY, overlay);
      driver.advance(10_000);
      expect(overlays(driver)).toHaveLength(1);
    }
    driver.advance(19_999);
    expect(overlays(driver)).toHaveLength(1);
    driver.advance(2);
    expect(overlays(driver)).toHaveLength(0);
    expect(driver.events.at(-2)).toEqual({ type: "overlayDropped", overlayId, why: "silent" });
  });

  it("R1.c (twin): repeating it does not touch the peers registered meanwhile", () => {
    const driver = pams();
    const link = driver.link();
    driver.ask(link, r1.REGISTER_OVERLAY, overlay);
    register(driver, link);
    driver.ask(link, r1.REGISTER_OVERLAY, overlay);
    expect(overlays(driver)[0]?.peers).toHaveLength(1);
  });
});

describe("R1.e: an OMS removes an overlay", () => {
  it("R1.e: by its id; its peers go with it", () => {
    const driver = pams();
    const link = driver.link();
    driver.ask(link, r1.REGISTER_OVERLAY, overlay);
    register(driver, link);
    const requestId = driver.send(link, r1.REMOVE_OVERLAY, { overlayId });
    expect(driver.rawReply(link, requestId)).toEqual([0x11 | 0x80, requestId]);
    expect(overlays(driver)).toEqual([]);
    expect(driver.refusal(link, r2.REPORT, report).code).toBe("UNKNOWN_OVERLAY");
    expect((driver.machine as { deadlineMs: number }).deadlineMs).toBe(Number.POSITIVE_INFINITY);
  });

  it("R1.e (twin): an unknown id removes nothing", () => {
    const driver = pams();
    const link = driver.link();
    driver.ask(link, r1.REGISTER_OVERLAY, overlay);
    driver.ask(link, r1.REMOVE_OVERLAY, { overlayId: "ab".repeat(16) });
    expect(overlays(driver)).toHaveLength(1);
  });
});

describe("the service key", () => {
  const serviceKey = Uint8Array.from({ length: 32 }, (_, i) => i);
  const wrong = (change: (key: Uint8Array) => Uint8Array): Uint8Array => change(serviceKey.slice());
  const flip = (at: number) => (key: Uint8Array) => {
    key[at] = (key[at] ?? 0) ^ 0x80;
    return key;
  };

  it("R1.a, R1.e: who shows it registers and removes", () => {
    const driver = pams({ serviceKey });
    const link = driver.link();
    driver.ask(link, r1.REGISTER_OVERLAY, { ...overlay, serviceKey });
    expect(overlays(driver)).toHaveLength(1);
    driver.ask(link, r1.REMOVE_OVERLAY, { overlayId, serviceKey });
    expect(overlays(driver)).toEqual([]);
    expect(driver.snapshot<PamsSnapshot>().counters.keyRefused).toBe(0);
  });

  it.each([
    ["none", new Uint8Array(0)],
    ["the first byte differs", wrong(flip(0))],
    ["the last byte differs", wrong(flip(31))],
    ["cut short", wrong((key) => key.subarray(0, 31))],
    ["a zero byte more", wrong((key) => Uint8Array.from([...key, 0]))],
    ["the longest", new Uint8Array(64)],
  ])("R1.a, R1.e (twin): KEY_REQUIRED, counted, nothing changed: %s", (_, shown) => {
    const driver = pams({ serviceKey });
    const link = driver.link();
    driver.ask(link, r1.REGISTER_OVERLAY, { ...overlay, serviceKey });
    register(driver, link);
    const before = overlays(driver);
    const other = { overlayId: "ab".repeat(16), omsUrl: "", serviceKey: shown };
    const moved = { overlayId, omsUrl: "ws://192.0.2.66:1", serviceKey: shown };
    const removal = { overlayId, serviceKey: shown };
    expect(driver.refusal(link, r1.REGISTER_OVERLAY, other).code).toBe("KEY_REQUIRED");
    expect(driver.refusal(link, r1.REGISTER_OVERLAY, moved).code).toBe("KEY_REQUIRED");
    expect(driver.refusal(link, r1.REMOVE_OVERLAY, removal).code).toBe("KEY_REQUIRED");
    expect(overlays(driver)).toEqual(before);
    const { counters } = driver.snapshot<PamsSnapshot>();
    expect(counters).toMatchObject({ keyRefused: 3, failures: 3, inFlight: 0, malformed: 0 });
    expect(driver.closed).toEqual([]);
  });

  it("R1.c (twin): refused keep-alives keep nothing alive", () => {
    const driver = pams({ serviceKey });
    const link = driver.link();
    driver.ask(link, r1.REGISTER_OVERLAY, { ...overlay, serviceKey });
    for (let i = 0; i < 4; i++) {
      driver.advance(10_000);
      driver.refusal(link, r1.REGISTER_OVERLAY, overlay);
    }
    expect(overlays(driver)).toEqual([]);
  });

  it("is asked of no peer", () => {
    const driver = pams({ serviceKey });
    const link = driver.link();
    driver.ask(link, r1.REGISTER_OVERLAY, { ...overlay, serviceKey });
    const peerToken = register(driver, link);
    sent(driver, link, peerToken);
    driver.ask(link, r2.REMOVE_PEER, { overlayId, peerId, peerToken });
  });

  it("a request of an OMS that does not know the field is one without the key", () => {
    const id = Buffer.from(overlayId, "hex");
    const bare = [0x11, 0x07, 0xc4, 0x10, ...id];
    const keyed = pams({ serviceKey });
    const link = keyed.link();
    keyed.frame(link, Uint8Array.of(0x93, ...bare));
    expect(keyed.rawReply(link, 7)?.[2]).toBe("KEY_REQUIRED");
    const open = pams();
    const openLink = open.link();
    open.frame(openLink, Uint8Array.of(0x93, ...bare));
    expect(open.rawReply(openLink, 7)).toEqual([0x11 | 0x80, 7]);
    open.ask(openLink, r1.REGISTER_OVERLAY, { ...overlay, serviceKey });
    expect(overlays(open)).toHaveLength(1);
  });

  it("of a length that can be guessed or not be sent is a mistake of the caller", () => {
    for (const bytes of [0, 15, 65]) {
      expect(() => pams({ serviceKey: new Uint8Array(bytes) })).toThrow("16 to 64 bytes");
    }
  });
});

describe("R2.a, R2.b: a peer registers", () => {
  it("R2.a, R2.b: by its id; the answer gives the report interval", () => {
    const driver = pams({ reportIntervalMs: 2_500 });
    const link = driver.link();
    driver.ask(link, r1.REGISTER_OVERLAY, overlay);
    const request = { ...peer, ...proof(driver, link) };
    const requestId = driver.send(link, r2.REGISTER_PEER, request);
    driver.settle();
    const [type, id, intervalMs, token] = driver.rawReply(link, requestId) ?? [];
    expect([type, id, intervalMs]).toEqual([0x20 | 0x80, requestId, 2_500]);
    expect((token as Uint8Array).length).toBe(16);
    expect(overlays(driver)[0]?.peers).toEqual([
      {
        peerId,
        role: ROLES.peer,
        activity: r1.ACTIVITIES.any,
        contributionPermille: 0,
        status: undefined,
        silentMs: 0,
      },
    ]);
  });

  it("R2.a, R2.b (twin): not in an overlay that is not registered, not beyond the limit", () => {
    const driver = pams({ peersMax: 1 });
    const link = driver.link();
    const failure = driver.refusal(link, r2.REGISTER_PEER, peer);
    expect(failure.code).toBe("UNKNOWN_OVERLAY");
    expect(failure.retryAfterMs).toBeGreaterThan(0);
    driver.ask(link, r1.REGISTER_OVERLAY, overlay);
    register(driver, link);
    const other = new Identity();
    const more = { ...peer, peerId: other.peerId, ...proof(driver, link, other) };
    expect(driver.refusal(link, r2.REGISTER_PEER, more).code).toBe("OVERLOADED");
    register(driver, link);
  });

  it("R2.a (negative): nobody registers, reports for or removes somebody else", () => {
    const driver = pams();
    const link = driver.link();
    driver.ask(link, r1.REGISTER_OVERLAY, overlay);
    const mallory = new Identity();
    const own = proof(driver, link);
    const bare = peer;
    const foreign = { ...peer, ...proof(driver, link, mallory) };
    const signedByOther = { ...peer, ...own, signature: mallory.sign(own.nonce) };
    const elsewhere = { ...peer, ...proof(driver, link, key, "ab".repeat(16)) };
    const unasked = { ...peer, ...proof(driver, link), nonce: new Uint8Array(32) };
    for (const request of [bare, foreign, signedByOther, elsewhere, unasked]) {
      expect(driver.refusal(link, r2.REGISTER_PEER, request).code).toBe("IDENTITY_UNPROVEN");
    }
    expect(overlays(driver)[0]?.peers).toEqual([]);
    // A nonce is good for one use: what was overheard is worth nothing.
    const overheard = { ...peer, ...proof(driver, link) };
    const { peerToken } = driver.ask(link, r2.REGISTER_PEER, overheard);
    expect(driver.refusal(link, r2.REGISTER_PEER, overheard).code).toBe("IDENTITY_UNPROVEN");
    sent(driver, link, peerToken, { haveEnd: 42 });
    const lies = { ...report, haveEnd: 9_999 };
    for (const wrong of [new Uint8Array(0), new Uint8Array(16)]) {
      const forged = { ...lies, peerToken: wrong };
      expect(driver.refusal(driver.link(), r2.REPORT, forged).code).toBe("UNKNOWN_PEER");
      const removal = { overlayId, peerId, peerToken: wrong };
      expect(driver.refusal(driver.link(), r2.REMOVE_PEER, removal).code).toBe("NOT_OWNER");
    }
    expect(overlays(driver)[0]?.peers).toMatchObject([{ peerId, status: { haveEnd: 42 } }]);
    // Registering again makes the token of before worthless.
    const again = register(driver, link);
    expect(driver.refusal(link, r2.REPORT, { ...lies, peerToken }).code).toBe("UNKNOWN_PEER");
    sent(driver, link, again);
  });
});

describe("R2.c: a peer reports its status", () => {
  it("R2.c: every interval and on events; the latest wins; three silent intervals end it", () => {
    const driver = pams();
    const link = driver.link();
    driver.ask(link, r1.REGISTER_OVERLAY, overlay);
    const peerToken = register(driver, link);
    for (let i = 1; i <= 6; i++) {
      driver.advance(10_000);
      driver.ask(link, r1.REGISTER_OVERLAY, overlay);
      sent(driver, link, peerToken, { haveEnd: 100 * i });
    }
    sent(driver, link, peerToken, { event: r2.REPORT_EVENTS.completed, haveEnd: 700 });
    driver.advance(1_000);
    expect(overlays(driver)[0]?.peers).toMatchObject([
      { status: { haveEnd: 700, event: 2, bytesFromPeers: 9_000 } },
    ]);
    expect(driver.snapshot<PamsSnapshot>().reports).toBe(7);
    for (let i = 0; i < 3; i++) {
      driver.ask(link, r1.REGISTER_OVERLAY, overlay);
      driver.advance(10_000);
    }
    expect(overlays(driver)[0]?.peers).toEqual([]);
  });

  it("R2.c (twin): a report of a peer that did not register is refused, so that it registers", () => {
    const driver = pams();
    const link = driver.link();
    driver.ask(link, r1.REGISTER_OVERLAY, overlay);
    expect(driver.refusal(link, r2.REPORT, report).code).toBe("UNKNOWN_PEER");
    sent(driver, link, register(driver, link));
    driver.crash();
    const again = driver.link();
    expect(driver.refusal(again, r2.REPORT, report).code).toBe("UNKNOWN_OVERLAY");
    driver.ask(again, r1.REGISTER_OVERLAY, overlay);
    const fresh = register(driver, again);
    sent(driver, again, fresh);
    expect(overlays(driver)[0]?.peers).toHaveLength(1);
  });
});

describe("R2.d: a registered peer removes itself", () => {
  it("R2.d: by its id", () => {
    const driver = pams();
    const link = driver.link();
    driver.ask(link, r1.REGISTER_OVERLAY, overlay);
    const peerToken = register(driver, link);
    const requestId = driver.send(link, r2.REMOVE_PEER, { overlayId, peerId, peerToken });
    expect(driver.rawReply(link, requestId)).toEqual([0x22 | 0x80, requestId]);
    expect(overlays(driver)[0]?.peers).toEqual([]);
  });

  it("R2.d (twin): another id, or another overlay, removes nobody", () => {
    const driver = pams();
    const link = driver.link();
    driver.ask(link, r1.REGISTER_OVERLAY, overlay);
    const peerToken = register(driver, link);
    driver.ask(link, r2.REMOVE_PEER, { overlayId, peerId: "ab".repeat(32), peerToken });
    driver.ask(link, r2.REMOVE_PEER, { overlayId: "ab".repeat(16), peerId, peerToken });
    expect(overlays(driver)[0]?.peers).toHaveLength(1);
  });
});

describe("R2.e: the PAMS asks a peer for its status", () => {
  const asking = { type: "ask", token: 9, overlayId, peerId };
  const status = { ...report, event: r2.REPORT_EVENTS.asked, haveEnd: 999 };
  function registered(): [ServerDriver, number] {
    const driver = pams();
    const link = driver.link();
    driver.ask(link, r1.REGISTER_OVERLAY, overlay);
    register(driver, link);
    driver.command(asking);
    return [driver, link];
  }

  it("R2.e: over the link where it spoke last; its answer counts as a report", () => {
    const [driver, link] = registered();
    const [raw] = driver.asked(link, 0x23);
    expect(Buffer.from(raw?.[3] as Uint8Array).toString("hex")).toBe(peerId);
    driver.frame(link, encodeAnswer(r2.STATUS, raw?.[1] as number, status));
    expect(driver.events.at(-1)).toMatchObject({ type: "status", token: 9, status });
    expect(overlays(driver)[0]?.peers).toMatchObject([{ status: { haveEnd: 999 } }]);
  });

  it("R2.e (twin): no answer, a wrong one, one of another link or peer, no link, no such peer", () => {
    const nothing = { type: "status", token: 9, status: undefined };
    const [silent] = registered();
    silent.advance(5_001);
    expect(silent.events.at(-1)).toEqual(nothing);

    const [lying, link] = registered();
    const [raw] = lying.asked(link, 0x23);
    const requestId = raw?.[1] as number;
    const other = lying.link();
    lying.frame(other, encodeAnswer(r2.STATUS, requestId, status));
    expect(lying.events.some((event) => event.type === "status")).toBe(false);
    const foreign = { ...status, peerId: "ab".repeat(32) };
    lying.frame(link, encodeAnswer(r2.STATUS, requestId, foreign));
    expect(lying.events.at(-1)).toEqual(nothing);
    expect(overlays(lying)[0]?.peers).toMatchObject([{ status: undefined }]);

    const [wrong, wrongLink] = registered();
    const [asked] = wrong.asked(wrongLink, 0x23);
    wrong.frame(wrongLink, encodeAnswer(r2.REPORT, asked?.[1] as number, {}));
    expect(wrong.events.at(-1)).toEqual(nothing);

    const [lost, lostLink] = registered();
    lost.linkDown(lostLink);
    expect(lost.events.at(-1)).toEqual(nothing);
    lost.command(asking);
    lost.command({ ...asking, peerId: "ab".repeat(32) });
    expect(lost.events.filter((event) => event.type === "status")).toHaveLength(3);
  });
});

it("a report costs the same whatever the size of the overlay", () => {
  const peers = 400;
  const driver = pams({ limits: { requestBurst: 1e9, inFlightPerLink: 10 } });
  const link = driver.link();
  driver.ask(link, r1.REGISTER_OVERLAY, overlay);
  const registered = Array.from({ length: peers }, () => {
    const identity = new Identity();
    const request = { ...peer, peerId: identity.peerId, ...proof(driver, link, identity) };
    const requestId = driver.send(link, r2.REGISTER_PEER, request);
    driver.settle();
    const peerToken = driver.rawReply(link, requestId)?.[3] as Uint8Array;
    driver.sent.length = 0;
    return { peerId: identity.peerId, peerToken };
  });
  const rounds = (list: typeof registered): number => {
    driver.sent.length = 0;
    const from = performance.now();
    for (let i = 0; i < 2_000; i++) {
      driver.send(link, r2.REPORT, { ...report, ...list[i % list.length] });
    }
    return performance.now() - from;
  };
  rounds(registered);
  const few = rounds(registered.slice(0, 2));
  const many = rounds(registered);
  expect(many).toBeLessThan(10 * few + 50);
  expect(driver.snapshot<PamsSnapshot>().counters.failures).toBe(0);
});
