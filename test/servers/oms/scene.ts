/** An OMS at work: overlays created and joined there. */

import { ROLES, type Role } from "../../../src/protocol/common.ts";
import * as r5 from "../../../src/protocol/r5.ts";
import { createOms } from "../../../src/servers/oms.ts";
import type { OmsOptions } from "../../../src/servers/oms-types.ts";
import { Disk, type Identity, ServerDriver } from "../driver.ts";

export const hex = (bytes: unknown): string => Buffer.from(bytes as Uint8Array).toString("hex");
export const here = [{ transport: "tcp", host: "192.0.2.1", port: 7_901 }] as const;

export function oms(options: Partial<OmsOptions> = {}, seed = 1, disk = new Disk()): ServerDriver {
  return new ServerDriver((base) => createOms({ ...base, ...options }), seed, disk).start();
}

export function create(driver: ServerDriver, linkId: number, owner: Identity, more = {}) {
  const { nonce } = driver.ask(linkId, r5.CHALLENGE, {});
  const signature = owner.sign(r5.createProof(nonce));
  return driver.ask(linkId, r5.CREATE, {
    nonce,
    publicKey: owner.publicKey,
    signature,
    candidates: here,
    title: "weather",
    pams: false,
    ...more,
  });
}

export function joining(
  driver: ServerDriver,
  linkId: number,
  overlayId: string,
  who: Identity,
  role: Role,
) {
  const { nonce } = driver.ask(linkId, r5.CHALLENGE, {});
  const signature = who.sign(r5.joinProof(nonce, overlayId));
  return { overlayId, nonce, publicKey: who.publicKey, signature, candidates: here, role };
}

export function join(driver: ServerDriver, linkId: number, overlayId: string, who: Identity) {
  return driver.ask(linkId, r5.JOIN, joining(driver, linkId, overlayId, who, ROLES.peer));
}
