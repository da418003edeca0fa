/**
 * This node's identity: an Ed25519 key. The secret stays in a KeyObject here; machines see the
 * public key and ask for signatures by job.
 */

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  randomBytes,
  sign,
  verify,
} from "node:crypto";
import { LocalUsageError } from "../base/errors.ts";
import type { Entropy } from "../base/rng.ts";
import { toHex } from "../base/units.ts";
import type { PeerIdentity } from "../peer/context.ts";

export const SEED_BYTES = 32;
/** PKCS #8 and SPKI wrappers of a raw Ed25519 seed and public key (RFC 8410). */
const PKCS8_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

export function sha256(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash("sha256").update(bytes).digest());
}

export const systemEntropy: Entropy = {
  bytes: (count) => new Uint8Array(randomBytes(count)),
};

export class NodeIdentity implements PeerIdentity {
  readonly peerId: string;
  readonly peerIdBytes: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly #privateKey: KeyObject;

  /** `seed`: 32 bytes; default a fresh one. Throws LocalUsageError USAGE for another length. */
  constructor(seed: Uint8Array = systemEntropy.bytes(SEED_BYTES)) {
    if (seed.length !== SEED_BYTES) {
      throw new LocalUsageError("USAGE", { detail: `a key seed has ${SEED_BYTES} bytes` });
    }
    const der = Buffer.concat([PKCS8_PREFIX, seed]);
    this.#privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    const spki = createPublicKey(this.#privateKey).export({ format: "der", type: "spki" });
    this.publicKey = new Uint8Array(spki.subarray(SPKI_PREFIX.length));
    this.peerIdBytes = sha256(this.publicKey);
    this.peerId = toHex(this.peerIdBytes);
  }

  sign(bytes: Uint8Array): Uint8Array {
    return new Uint8Array(sign(null, bytes, this.#privateKey));
  }
}

/** False for a bad signature and for anything that is not a key. */
export function verifySignature(
  publicKey: Uint8Array,
  bytes: Uint8Array,
  signature: Uint8Array,
): boolean {
  try {
    const key = createPublicKey({
      key: Buffer.concat([SPKI_PREFIX, publicKey]),
      format: "der",
      type: "spki",
    });
    return verify(null, bytes, key, signature);
  } catch {
    // Not a point on the curve, or a wrong length: not valid, whatever the reason.
    return false;
  }
}
