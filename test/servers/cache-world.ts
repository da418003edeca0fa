/** An OMS with sessions, and cache servers played by hand. */

import { expect } from "vitest";
import type { Role } from "../../src/protocol/common.ts";
import * as r5 from "../../src/protocol/r5.ts";
import * as r8 from "../../src/protocol/r8.ts";
import { encodeAnswer } from "../../src/protocol/signalling.ts";
import { createOms } from "../../src/servers/oms.ts";
import type { OmsOptions } from "../../src/servers/oms-types.ts";
import { Disk, Identity, ServerDriver } from "./driver.ts";

export const KEY = new Uint8Array(32).fill(7);
const here = [{ transport: "tcp", host: "192.0.2.1", port: 7_901 }] as const;
const hex = (bytes: unknown): string => Buffer.from(bytes as Uint8Array).toString("hex");

export function oms(options: Partial<OmsOptions> = {}, seed = 1, disk = new Disk()): ServerDriver {
  const build = (base: object) => createOms({ ...base, serviceKey: KEY, ...options } as OmsOptions);
  return new ServerDriver(build, seed, disk).start();
}

export function create(driver: ServerDriver, owner = new Identity(), title = "weather") {
  const linkId = driver.link();
  const { nonce } = driver.ask(linkId, r5.CHALLENGE, {});
  const created = driver.ask(linkId, r5.CREATE, {
    nonce,
    publicKey: owner.publicKey,
    signature: owner.sign(r5.createProof(nonce)),
    candidates: here,
    title,
    pams: true,
  });
  return { ...created, linkId };
}

export type Created = ReturnType<typeof create>;

export function wish(driver: ServerDriver, session: Created, virtualPeers: number, priority = 0) {
  const { overlayId, ownerToken, linkId } = session;
  return driver.ask(linkId, r5.ASK_VIRTUAL_PEERS, {
    overlayId,
    ownerToken,
    virtualPeers,
    priority,
  });
}

export function refresh(driver: ServerDriver, session: Created): void {
  const { overlayId, ownerToken } = session;
  const request = { overlayId, ownerToken, candidates: undefined };
  driver.ask(driver.link(), r5.REFRESH_OVERLAY, request);
}

export function remove(driver: ServerDriver, { overlayId, ownerToken }: Created): void {
  driver.ask(driver.link(), r5.REMOVE_SESSION_OVERLAY, { overlayId, ownerToken });
}

export function join(driver: ServerDriver, overlayId: string, who: Identity, role: Role) {
  const linkId = driver.link();
  const { nonce } = driver.ask(linkId, r5.CHALLENGE, {});
  const signature = who.sign(r5.joinProof(nonce, overlayId));
  const request = { overlayId, nonce, publicKey: who.publicKey, signature, role };
  return driver.request(linkId, r5.JOIN, { ...request, candidates: here });
}

export interface Order {
  readonly kind: "allocate" | "release";
  readonly requestId: number;
  readonly term: number;
  readonly overlayId: string;
  readonly peerId: string;
  readonly rest: unknown[];
}

/** A cache server by hand: registers, and answers orders as a test wants it. */
export class Cache {
  readonly id = new Identity().peerId;
  readonly peers: readonly Identity[];
  readonly driver: ServerDriver;
  holds: r8.Assignment[] = [];
  linkId: number;
  #read = 0;

  constructor(driver: ServerDriver, peers = 2) {
    this.driver = driver;
    this.peers = Array.from({ length: peers }, () => new Identity());
    this.linkId = driver.link();
  }

  get offer() {
    return {
      serviceKey: KEY,
      cacheServerId: this.id,
      label: "rack 7",
      virtualPeers: this.peers.map(({ peerId }) => peerId),
      overlaysPerPeer: 2,
      holds: this.holds,
      instance: new Uint8Array(8).fill(1),
    };
  }

  register(more: Partial<Cache["offer"]> = {}) {
    return this.driver.ask(this.linkId, r8.REGISTER_CACHE, { ...this.offer, ...more });
  }

  /** Orders since the last call, read by independent code. */
  orders(): Order[] {
    const sent = this.driver.sent.filter(({ linkId }) => linkId === this.linkId);
    const types = { allocate: 0x68, release: 0x69 } as const;
    const all = (["release", "allocate"] as const).flatMap((kind) =>
      this.driver.asked(this.linkId, types[kind]).map((message) => ({ kind, message })),
    );
    const ids = new Map(all.map(({ kind, message }) => [message[1] as number, { kind, message }]));
    const inOrder = [...ids.values()].sort((a, b) => Number(a.message[1]) - Number(b.message[1]));
    const fresh = inOrder.slice(this.#read);
    this.#read = inOrder.length;
    expect(sent.length).toBeGreaterThanOrEqual(inOrder.length);
    return fresh.map(({ kind, message }) => {
      const [, requestId, term, overlay, peer, ...rest] = message;
      return {
        kind,
        requestId: requestId as number,
        term: term as number,
        overlayId: hex(overlay),
        peerId: hex(peer),
        rest,
      };
    });
  }

  /** Takes all orders there are; gives what they were. */
  obey(): Order[] {
    const orders = this.orders();
    for (const order of orders) {
      const { kind, requestId, overlayId, peerId } = order;
      const operation = kind === "allocate" ? r8.ALLOCATE : r8.RELEASE;
      this.holds = this.holds.filter((h) => h.overlayId !== overlayId || h.peerId !== peerId);
      if (kind === "allocate") this.holds.push({ overlayId, peerId });
      this.driver.frame(this.linkId, encodeAnswer(operation, requestId, {}));
      this.driver.settle();
    }
    return orders;
  }

  comesBack(): void {
    this.linkId = this.driver.link();
    this.#read = 0;
  }
}

export const brief = (orders: readonly Order[]) =>
  orders.map(({ kind, overlayId, peerId }) => `${kind} ${overlayId} ${peerId}`);
