/**
 * Jobs finish after a drawn delay, in drawn order, also after their link is gone. Ranges that a job
 * touches must stay as they are until it is done: they are kept aside when the job is asked for and
 * compared when it runs.
 *
 * Signatures are real Ed25519 (keys derived from the seed) or, for big runs, a stand-in of the same
 * shape that costs a hash: SHA-512 over public key and bytes, which anybody could forge and nobody
 * here tries to.
 */

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";
import type { Job, JobResult } from "../../src/base/machine.ts";
import type { Rng } from "../../src/base/rng.ts";
import type { Kernel } from "../../src/kernel/kernel.ts";
import { between, chance, type World } from "../../src/sim/world.ts";

export type SignatureKind = "ed25519" | "stand-in";

/** Key pair of one node. `publicKey` holds 32 raw bytes. */
export interface NodeKeys {
  readonly publicKey: Uint8Array;
  sign(bytes: Uint8Array): Uint8Array;
}

/** DER before the 32 bytes of an Ed25519 private key (PKCS 8) and of a public one (SPKI). */
const PKCS8_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

/** The keys that `label` has under `seed`: the same in every run and after every restart. */
export function nodeKeys(kind: SignatureKind, seed: number, label: string): NodeKeys {
  const secret = createHash("sha256").update(`${seed} ${label}`).digest();
  if (kind === "stand-in") {
    const publicKey = new Uint8Array(createHash("sha256").update(secret).digest());
    return { publicKey, sign: (bytes) => standIn(publicKey, bytes) };
  }
  const privateKey = createPrivateKey({
    key: Buffer.concat([PKCS8_PREFIX, secret]),
    format: "der",
    type: "pkcs8",
  });
  const spki = createPublicKey(privateKey).export({ format: "der", type: "spki" });
  return {
    publicKey: new Uint8Array(spki.subarray(SPKI_PREFIX.length)),
    sign: (bytes) => new Uint8Array(sign(null, bytes, privateKey)),
  };
}

export function verifySignature(
  kind: SignatureKind,
  publicKey: Uint8Array,
  bytes: Uint8Array,
  signature: Uint8Array,
): boolean {
  if (publicKey.length !== 32 || signature.length !== 64) return false;
  if (kind === "stand-in") return Buffer.compare(standIn(publicKey, bytes), signature) === 0;
  const key: KeyObject = createPublicKey({
    key: Buffer.concat([SPKI_PREFIX, publicKey]),
    format: "der",
    type: "spki",
  });
  return verify(null, bytes, key, signature);
}

function standIn(publicKey: Uint8Array, bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash("sha512").update(publicKey).update(bytes).digest());
}

export interface JobRunnerOptions {
  readonly signatures: SignatureKind;
  readonly keys: NodeKeys;
  /** Needed for jobs on fragments. */
  readonly kernel?: Kernel;
  readonly delayMsMax: number;
  /** Share of jobs that take up to 50 times as long. */
  readonly lateRate: number;
  /** A job was made late. */
  readonly onLate?: () => void;
  /** Two free places in the kernel's memory for its calls: pairs and verdicts. */
  readonly scratch?: { readonly pairs: number; readonly good: number; readonly fragments: number };
}

export class JobRunner {
  readonly #world: World;
  readonly #rng: Rng;
  readonly #label: string;
  readonly #options: JobRunnerOptions;

  constructor(world: World, label: string, options: JobRunnerOptions) {
    this.#world = world;
    this.#label = label;
    this.#rng = world.rng(`jobs ${label}`);
    this.#options = options;
  }

  run(job: Job, done: (result: JobResult) => void): void {
    const { delayMsMax, lateRate } = this.#options;
    const late = lateRate > 0 && chance(this.#rng, lateRate);
    if (late) this.#options.onLate?.();
    const delayMs = between(this.#rng, 0, late ? 50 * delayMsMax : delayMsMax);
    const kept =
      job.kind === "checksumFragments" || job.kind === "verifyFragments"
        ? this.#keep(job.ranges)
        : undefined;
    this.#world.after(delayMs, () => {
      if (kept !== undefined && "ranges" in job) this.#compare(job.ranges, kept);
      done(this.#result(job));
    });
  }

  #result(job: Job): JobResult {
    const { keys, signatures } = this.#options;
    switch (job.kind) {
      case "sign":
        return { kind: "sign", signature: keys.sign(job.bytes) };
      case "verifySignature": {
        const { publicKey, bytes, signature } = job;
        const valid = verifySignature(signatures, publicKey, bytes, signature);
        return { kind: "verifySignature", valid };
      }
      case "checksumFragments":
        this.#inBatches(job.ranges, (kernel, pairs, count) =>
          kernel.checksumFragments(pairs, count),
        );
        return { kind: "checksumFragments" };
      case "verifyFragments": {
        const good = new Uint8Array(job.ranges.length / 2);
        this.#inBatches(job.ranges, (kernel, pairs, count, from, verdicts) => {
          kernel.verifyFragments(pairs, count, verdicts);
          good.set(kernel.bytes.subarray(verdicts, verdicts + count), from);
        });
        return { kind: "verifyFragments", good };
      }
    }
  }

  /** Copies pairs to the scratch place and calls the kernel until all were its. */
  #inBatches(
    ranges: Uint32Array,
    call: (kernel: Kernel, pairs: number, count: number, from: number, good: number) => void,
  ): void {
    const { kernel, scratch } = this.#options;
    if (kernel === undefined || scratch === undefined) {
      throw new Error(`${this.#label}: a job on fragments and no kernel for it`);
    }
    const fragments = ranges.length / 2;
    for (let from = 0; from < fragments; from += scratch.fragments) {
      const count = Math.min(scratch.fragments, fragments - from);
      kernel.u32.set(ranges.subarray(2 * from, 2 * (from + count)), scratch.pairs / 4);
      call(kernel, scratch.pairs, count, from, scratch.good);
    }
  }

  #keep(ranges: Uint32Array): Uint8Array[] {
    const memory = this.#memory();
    const kept: Uint8Array[] = [];
    for (let i = 0; i + 1 < ranges.length; i += 2) {
      const offset = ranges[i] as number;
      kept.push(memory.slice(offset, offset + (ranges[i + 1] as number)));
    }
    return kept;
  }

  #compare(ranges: Uint32Array, kept: readonly Uint8Array[]): void {
    const memory = this.#memory();
    kept.forEach((before, i) => {
      const offset = ranges[2 * i] as number;
      if (Buffer.compare(memory.subarray(offset, offset + before.length), before) !== 0) {
        const range = `[${offset}, ${offset + before.length})`;
        this.#world.violate("job-untouched", `${this.#label}: ${range} changed under a job`);
      }
    });
  }

  #memory(): Uint8Array {
    const { kernel } = this.#options;
    if (kernel === undefined) throw new Error(`${this.#label}: a job on fragments and no kernel`);
    return kernel.bytes;
  }
}
