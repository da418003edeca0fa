/**
 * Jobs of large runs. All nodes share one memory in which a fragment lies once: its checksum is
 * computed when the source peer asks for it, and whoever verifies the same bytes at the same place
 * gets that answer. Signatures are a stand-in of the right shape: a hash over public key and bytes,
 * which anybody could forge and nobody here tries to.
 */

import type { Job, JobResult } from "../../base/machine.ts";
import type { MemoryOffset } from "../../base/units.ts";
import type { EngineMemory } from "../../kernel/engine-memory.ts";
import type { JobPort } from "../border.ts";
import type { World } from "../world.ts";

export type Sha256 = (bytes: Uint8Array) => Uint8Array;

const SCRATCH_FRAGMENTS = 64;
/** What a hand-over to a worker and back takes. */
const JOB_MS = 0.1;

/** What all nodes of a run know of the fragments in their common memory. */
export class CheckedFragments {
  readonly memory: EngineMemory;
  readonly #pairs: MemoryOffset;
  readonly #good: MemoryOffset;
  /** By place: bytes and the generation of the segment then. */
  readonly #checked = new Map<MemoryOffset, { bytes: number; generation: number }>();

  constructor(memory: EngineMemory) {
    this.memory = memory;
    this.#pairs = memory.allocate(8 * SCRATCH_FRAGMENTS);
    this.#good = memory.allocate(SCRATCH_FRAGMENTS);
  }

  checksum(ranges: Uint32Array): void {
    const { kernel } = this.memory;
    for (let i = 0; i + 1 < ranges.length; i += 2) {
      kernel.u32.set(ranges.subarray(i, i + 2), this.#pairs / 4);
      kernel.checksumFragments(this.#pairs, 1);
      this.#remember(ranges[i] as number, ranges[i + 1] as number);
    }
  }

  verify(ranges: Uint32Array): Uint8Array {
    const { kernel } = this.memory;
    const good = new Uint8Array(ranges.length / 2);
    for (let i = 0; i + 1 < ranges.length; i += 2) {
      const offset = ranges[i] as number;
      const bytes = ranges[i + 1] as number;
      const known = this.#checked.get(offset);
      if (known?.bytes === bytes && known.generation === this.memory.generationOf(offset)) {
        good[i / 2] = 1;
        continue;
      }
      kernel.u32.set(ranges.subarray(i, i + 2), this.#pairs / 4);
      good[i / 2] = kernel.verifyFragments(this.#pairs, 1, this.#good);
      if (good[i / 2] === 1) this.#remember(offset, bytes);
    }
    return good;
  }

  #remember(offset: MemoryOffset, bytes: number): void {
    this.#checked.set(offset, { bytes, generation: this.memory.generationOf(offset) });
  }
}

export class QuickJobs implements JobPort {
  /** Asked for and not answered: they hold memory. */
  readonly pending = new Set<number>();
  readonly #world: World;
  readonly #fragments: CheckedFragments;
  readonly #publicKey: Uint8Array;
  readonly #sha256: Sha256;

  constructor(world: World, fragments: CheckedFragments, publicKey: Uint8Array, sha256: Sha256) {
    this.#world = world;
    this.#fragments = fragments;
    this.#publicKey = publicKey;
    this.#sha256 = sha256;
  }

  run(job: Job, done: (result: JobResult) => void, jobId: number): void {
    this.pending.add(jobId);
    this.#world.after(JOB_MS, () => {
      // After a crash its memory was given back: nobody may look at it.
      if (!this.pending.delete(jobId)) return;
      done(this.#result(job));
    });
  }

  #result(job: Job): JobResult {
    switch (job.kind) {
      case "sign":
        return { kind: "sign", signature: standIn(this.#sha256, this.#publicKey, job.bytes) };
      case "verifySignature": {
        const expected = standIn(this.#sha256, job.publicKey, job.bytes);
        const valid =
          expected.length === job.signature.length &&
          expected.every((byte, i) => byte === job.signature[i]);
        return { kind: "verifySignature", valid };
      }
      case "checksumFragments":
        this.#fragments.checksum(job.ranges);
        return { kind: "checksumFragments" };
      case "verifyFragments":
        return { kind: "verifyFragments", good: this.#fragments.verify(job.ranges) };
    }
  }
}

/** 64 bytes: the hash of key and bytes, twice. */
function standIn(sha256: Sha256, publicKey: Uint8Array, bytes: Uint8Array): Uint8Array {
  const input = new Uint8Array(publicKey.length + bytes.length);
  input.set(publicKey);
  input.set(bytes, publicKey.length);
  const hash = sha256(input);
  const signature = new Uint8Array(64);
  signature.set(hash);
  signature.set(hash, 32);
  return signature;
}
