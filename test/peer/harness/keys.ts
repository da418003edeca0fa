/** Keys of nodes, and what all nodes here have in common. */

import { createHash, generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import { toHex } from "../../../src/base/units.ts";

export const OVERLAY = "00112233445566778899aabbccddeeff";
export const LATENCY_MS = 2;
export const START_US = 1_700_000_000_000_000;

export function sha256(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(createHash("sha256").update(bytes).digest());
}

/** An Ed25519 key pair with its peer id. */
export class Keys {
  readonly publicKey: Uint8Array;
  readonly peerIdBytes: Uint8Array;
  readonly peerId: string;
  readonly #privateKey: KeyObject;
  constructor() {
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    this.publicKey = Uint8Array.from(
      publicKey.export({ type: "spki", format: "der" }).subarray(-32),
    );
    this.peerIdBytes = sha256(this.publicKey);
    this.peerId = toHex(this.peerIdBytes);
    this.#privateKey = privateKey;
  }
  sign(bytes: Uint8Array): Uint8Array {
    return Uint8Array.from(sign(null, bytes, this.#privateKey));
  }
}

const SPKI = Buffer.from("302a300506032b6570032100", "hex");
export function verifies(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  const key = { key: Buffer.concat([SPKI, publicKey]), format: "der", type: "spki" } as const;
  return signature.length === 64 && verify(null, bytes, key, signature);
}
