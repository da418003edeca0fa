/** The OMS dials members back: what it sends, what it believes, and whom it can not be set upon. */

import { describe, expect, it } from "vitest";
import { type Candidate, REACH, ROLES } from "../../src/protocol/common.ts";
import * as r5 from "../../src/protocol/r5.ts";
import { createOms } from "../../src/servers/oms.ts";
import type { OmsOptions, OmsSnapshot } from "../../src/servers/oms-types.ts";
import * as wire from "../docs/wire.ts";
import { Identity, ServerDriver } from "./driver.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

function oms(options: Partial<OmsOptions> = {}): ServerDriver {
  return new ServerDriver((base) =>
    createOms({ ...base, memberLeaseMs: 600_000, refreshMs: 600_000, ...options }),
  ).start();
}

function create(driver: ServerDriver, link: number, owner: Identity, candidates: Candidate[]) {
  const { nonce } = driver.ask(link, r5.CHALLENGE, {});
  const signature = owner.sign(r5.createProof(nonce));
  const { publicKey } = owner;
  const request = { nonce, publicKey, signature, candidates, title: "weather", pams: false };
  return driver.ask(link, r5.CREATE, request);
}

function join(
  driver: ServerDriver,
  link: number,
  overlayId: string,
  who: Identity,
  candidates: readonly Candidate[],
) {
  const { nonce } = driver.ask(link, r5.CHALLENGE, {});
  const signature = who.sign(r5.joinProof(nonce, overlayId));
  const { publicKey } = who;
  const request = { overlayId, nonce, publicKey, signature, candidates, role: ROLES.peer };
  return driver.ask(link, r5.JOIN, request);
}

const at = (host: string, port = 7_910): Candidate => ({ transport: "tcp", host, port, kind: 2 });

/** The HELLO that the OMS sent over a link it dialled. */
function asked(driver: ServerDriver, linkId: number): wire.HelloFields {
  const sent = driver.sent.filter((entry) => entry.linkId === linkId);
  expect(sent).toHaveLength(1);
  const bytes = Buffer.from(sent[0]?.bytes ?? []);
  expect(bytes.length).toBeLessThan(200);
  const frames: wire.RawFrame[] = [];
  expect(wire.splitFrames(bytes, (raw) => frames.push(raw))).toHaveLength(0);
  expect(frames.map(({ type }) => type)).toEqual([wire.TYPES.HELLO]);
  return wire.readHello(frames[0] as wire.RawFrame);
}

/** The answer of a member as the page describes it; `signer` may be another. */
function answer(hello: wire.HelloFields, member: Identity, signer = member): Buffer {
  const nonce = Buffer.alloc(32, 0x77);
  const opener = { nonce: hello.nonce, peerId: wire.sha256(hello.publicKey) };
  const answerer = { nonce, peerId: wire.sha256(member.publicKey) };
  const proof = wire.helloProof(1, hello.overlayId, hello.epoch, opener, answerer);
  const signature = signer.sign(proof);
  const { publicKey } = member;
  return wire.helloFrame({ ...hello, step: 1, role: 1, publicKey, nonce, signature });
}

interface Scene {
  readonly driver: ServerDriver;
  readonly overlayId: string;
  /** A member that can be dialled looks at who is listed. */
  readonly look: () => readonly r5.Member[];
}

function scene(options: Partial<OmsOptions> = {}): Scene {
  const driver = oms(options);
  const owner = driver.link("10.0.0.1");
  const { overlayId } = create(driver, owner, new Identity(), []);
  const link = driver.link("10.0.0.200");
  const looker = new Identity();
  const { memberToken } = join(driver, link, overlayId, looker, [at("10.0.0.200")]);
  return {
    driver,
    overlayId,
    look: () =>
      driver.ask(link, r5.LIST_PEERS, {
        overlayId,
        peerId: looker.peerId,
        memberToken,
        maxPeers: 30,
      }).members,
  };
}

const ofMember = (members: readonly r5.Member[], { peerId }: Identity) =>
  members.find((member) => member.peerId === peerId);

/** Lets the OMS dial, and brings the link up. */
function dialled(driver: ServerDriver, from = 0): { linkId: number; host: string; port: number } {
  for (let i = 0; i < 300 && driver.dialled.length <= from; i++) driver.advance(100);
  const dial = driver.dialled[from];
  if (dial === undefined) throw new Error("nothing was dialled");
  return dial;
}

describe("a candidate that is not where the member is seen", () => {
  it("is listed once the member's key answered there, over HELLO with a nonce each way", () => {
    const { driver, overlayId, look } = scene();
    const member = new Identity();
    join(driver, driver.link("198.51.100.9"), overlayId, member, [at("203.0.113.7")]);
    const dial = dialled(driver);
    expect([dial.host, dial.port]).toEqual(["203.0.113.7", 7_910]);
    expect(ofMember(look(), member)?.candidates ?? []).toEqual([]);
    driver.linkUp(dial.linkId);
    const hello = asked(driver, dial.linkId);
    expect(hello).toMatchObject({ step: 0, epoch: 1 });
    expect(hex(hello.overlayId)).toBe(overlayId);
    driver.frame(dial.linkId, answer(hello, member));
    driver.settle();
    expect(driver.closed).toContain(dial.linkId);
    expect(ofMember(look(), member)).toMatchObject({
      candidates: [at("203.0.113.7")],
      reach: REACH.inbound,
    });
    expect(driver.snapshot<OmsSnapshot>().dialBack).toMatchObject({ dialled: 1, proven: 1 });
    driver.advance(60_000);
    expect(driver.dialled).toHaveLength(1);
  });

  it.each<[string, (hello: wire.HelloFields, member: Identity) => Buffer]>([
    ["another key", (hello) => answer(hello, new Identity())],
    ["the right key, signed by another", (hello, m) => answer(hello, m, new Identity())],
    ["an old answer", (hello, m) => answer({ ...hello, nonce: Buffer.alloc(32, 1) }, m)],
    ["its own HELLO back", (hello) => wire.helloFrame(hello)],
    [
      "an answer for another overlay",
      (hello, m) => answer({ ...hello, overlayId: Buffer.alloc(16, 9) }, m),
    ],
    ["an ERROR", () => wire.message("ERROR", ["WRONG_OVERLAY", ""])],
    ["garbage", () => Buffer.from("SSH-2.0-OpenSSH_9.6\r\n")],
    ["a frame of another type", () => wire.frame("PONG", Buffer.alloc(8))],
  ])("is not listed when what answers is %s", (_, reply) => {
    const { driver, overlayId, look } = scene();
    const member = new Identity();
    join(driver, driver.link("198.51.100.9"), overlayId, member, [at("203.0.113.7")]);
    for (let tries = 0; tries < 3; tries++) {
      const { linkId } = dialled(driver, tries);
      driver.linkUp(linkId);
      driver.frame(linkId, reply(asked(driver, linkId), member));
      driver.settle();
      expect(driver.closed).toContain(linkId);
      if (driver.snapshot<OmsSnapshot>().dialBack.failed > 0) break;
    }
    driver.advance(60_000);
    expect(driver.snapshot<OmsSnapshot>().dialBack).toMatchObject({ proven: 0, failed: 1 });
    expect(ofMember(look(), member)).toMatchObject({ candidates: [], reach: REACH.outboundOnly });
    expect(driver.snapshot<OmsSnapshot>().counters.malformed).toBe(0);
  });

  it("tries three times in all when nobody answers, then leaves it alone", () => {
    const { driver, overlayId, look } = scene();
    const member = new Identity();
    const link = driver.link("198.51.100.9");
    const joined = join(driver, link, overlayId, member, [at("203.0.113.7"), at("0.0.0.0")]);
    expect(ofMember(look(), member)).toMatchObject({
      candidates: [{ host: "198.51.100.9", port: 7_910, kind: 1 }],
      reach: REACH.unknown,
    });
    driver.advance(120_000);
    expect(driver.dialled).toHaveLength(6);
    expect(ofMember(look(), member)).toMatchObject({ candidates: [], reach: REACH.outboundOnly });
    const refresh = { overlayId, peerId: member.peerId, memberToken: joined.memberToken };
    expect(driver.ask(link, r5.MEMBER_REFRESH, refresh).reach).toBe(REACH.outboundOnly);
    driver.advance(120_000);
    expect(driver.dialled).toHaveLength(6);
    // New candidates are a new matter.
    const moved = { ...refresh, candidates: [at("203.0.113.8")] };
    expect(driver.ask(link, r5.MEMBER_REFRESH, moved).reach).toBe(REACH.unknown);
    expect(dialled(driver, 6).host).toBe("203.0.113.8");
  });

  it("of a source peer is dialled again after a restart of the OMS, before it is listed", () => {
    const driver = oms();
    const owner = new Identity();
    const made = create(driver, driver.link("198.51.100.9"), owner, [at("203.0.113.7")]);
    driver.crash();
    const { overlayId } = made;
    driver.dialled.length = 0;
    const link = driver.link("10.0.0.200");
    const looker = new Identity();
    const own = [at("10.0.0.200")];
    const { members, memberToken } = join(driver, link, overlayId, looker, own);
    expect(members).toMatchObject([{ peerId: owner.peerId, candidates: [] }]);
    const { linkId } = dialled(driver);
    driver.linkUp(linkId);
    const sent = driver.sent.filter((entry) => entry.linkId === linkId).at(-1);
    const hello = wire.readHello({ type: 3, bytes: Buffer.from(sent?.bytes ?? []) });
    driver.frame(linkId, answer(hello, owner));
    driver.settle();
    const request = { overlayId, peerId: looker.peerId, memberToken, maxPeers: 5 };
    expect(driver.ask(link, r5.LIST_PEERS, request).members).toMatchObject([
      { candidates: [at("203.0.113.7")], reach: REACH.inbound },
    ]);
  });
});

describe("the OMS can not be set upon others", () => {
  it("dials nobody for who did not prove a key, and no private address for who is outside", () => {
    const { driver, overlayId } = scene();
    const link = driver.link("198.51.100.9");
    const { nonce } = driver.ask(link, r5.CHALLENGE, {});
    const forged = {
      overlayId,
      nonce,
      publicKey: new Identity().publicKey,
      signature: new Uint8Array(64),
      candidates: [at("203.0.113.7")],
      role: ROLES.peer,
    };
    expect(driver.refusal(link, r5.JOIN, forged).code).toBe("IDENTITY_UNPROVEN");
    const inside = ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "localhost"];
    for (const host of [...inside, "224.0.0.1", "metadata.internal"]) {
      join(driver, link, overlayId, new Identity(), [at(host, 8_080)]);
    }
    driver.advance(60_000);
    // 10.0.0.1 behind a NAT may keep its port: that is dialled where the member is seen.
    expect(
      driver.dialled.map(({ host }) => host).filter((host) => host !== "198.51.100.9"),
    ).toEqual([]);
  });

  it("no well-known port elsewhere, and no host often: many members make it no scanner", () => {
    const { driver, overlayId } = scene({ limits: { requestsPerSecond: 1e6, requestBurst: 1e6 } });
    for (let i = 0; i < 40; i++) {
      const link = driver.link(`198.51.100.${i + 1}`);
      const ports = [22, 25, 80, 443, 1_000 + 7 * i + 24, 1_001 + 7 * i + 24];
      join(
        driver,
        link,
        overlayId,
        new Identity(),
        ports.map((port) => at("203.0.113.7", port)),
      );
    }
    const fromMs = driver.monoMs;
    driver.advance(60_000);
    expect(driver.dialled.every(({ port }) => port >= 1_024)).toBe(true);
    // 8 at once, then one in 10 s.
    const elapsedMs = driver.monoMs - fromMs;
    expect(driver.dialled.length).toBeGreaterThan(0);
    expect(driver.dialled.length).toBeLessThanOrEqual(8 + Math.ceil(elapsedMs / 10_000));
    expect(driver.snapshot<OmsSnapshot>().dialBack.refused).toBe(160);
  });

  it("at most 16 at once, whatever hosts are named", () => {
    const { driver, overlayId } = scene({ limits: { requestsPerSecond: 1e6, requestBurst: 1e6 } });
    for (let i = 0; i < 30; i++) {
      const link = driver.link(`198.51.100.${i + 1}`);
      join(driver, link, overlayId, new Identity(), [at(`203.0.113.${i + 1}`)]);
    }
    driver.advance(1_000);
    expect(driver.dialled).toHaveLength(16);
    driver.advance(3_000);
    expect(driver.dialled.length).toBeGreaterThan(16);
    expect(driver.dialled.length).toBeLessThanOrEqual(32);
  });
});

describe("lists for a member that can not be dialled", () => {
  function population(inbound: number, outboundOnly: number) {
    const driver = oms({ limits: { requestsPerSecond: 1e6, requestBurst: 1e6 } });
    const { overlayId } = create(driver, driver.link("198.51.100.1"), new Identity(), []);
    for (let i = 0; i < inbound; i++) {
      join(driver, driver.link(`10.0.1.${i + 1}`), overlayId, new Identity(), [
        at(`10.0.1.${i + 1}`),
      ]);
    }
    for (let i = 0; i < outboundOnly; i++) {
      join(driver, driver.link(`10.0.2.${i + 1}`), overlayId, new Identity(), []);
    }
    return { driver, overlayId };
  }

  it("at least half of them can be dialled, and none is of no use to it", () => {
    const { driver, overlayId } = population(6, 40);
    const { members } = join(driver, driver.link("10.0.3.1"), overlayId, new Identity(), []);
    const inbound = members.filter(({ reach }) => reach === REACH.inbound);
    expect(inbound.length).toBe(6);
    expect(inbound.length).toBeGreaterThanOrEqual(members.length / 2);
    expect(members.every(({ reach }) => reach !== REACH.outboundOnly)).toBe(true);
  });

  it("who can be dialled hears of the others too, after those it can dial", () => {
    const { driver, overlayId } = population(6, 40);
    const link = driver.link("10.0.3.1");
    const { members } = join(driver, link, overlayId, new Identity(), [at("10.0.3.1")]);
    expect(members).toHaveLength(30);
    expect(members.filter(({ reach }) => reach === REACH.inbound)).toHaveLength(6);
  });
});
