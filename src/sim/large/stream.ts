/**
 * The one data source of a large run: data of equal size at an even pace, as credit allows. A
 * payload is a function of seed and sequence number: nothing is stored to check it.
 */

import { seededRng } from "../../base/rng.ts";
import type { Write } from "../../peer/commands.ts";
import type { Member, Swarm } from "../swarm.ts";
import { everyMs, FRAGMENT_OVERHEAD_BYTES, type LargeOptions, SOURCE_ID } from "./options.ts";

const BLOCK_BYTES = 64 * 1024;
/** Of so many checks of a payload one looks at all of it. */
const WHOLE_CHECKS = 61;
/** Looks again whether members take part, or whether the source's process runs again. */
const RETRY_MS = 50;
/**
 * Data flow once this share of the first peers takes part, or after START_MS_MAX. Live: once all have
 * been started; they take part with the first data.
 */
const START_SHARE = 0.98;
const START_MS_MAX = 60_000;

export class Payload {
  readonly bytes: number;
  readonly #block: Uint8Array;
  #checks = 0;

  constructor(seed: number, bytes: number) {
    this.bytes = bytes;
    const rng = seededRng(seed ^ 0x70617932);
    // A payload begins anywhere in the first block.
    this.#block = new Uint8Array(BLOCK_BYTES + Math.max(BLOCK_BYTES, bytes));
    for (let at = 0; at < BLOCK_BYTES; at++) this.#block[at] = rng.below(256);
    for (let at = BLOCK_BYTES; at < this.#block.length; at += BLOCK_BYTES) {
      this.#block.copyWithin(at, 0, Math.min(BLOCK_BYTES, this.#block.length - at));
    }
  }

  of(sequence: number): Uint8Array {
    const start = Math.imul(sequence, 0x9e3779b1) >>> 16;
    const payload = this.#block.slice(start, start + this.bytes);
    new DataView(payload.buffer).setUint32(0, sequence, true);
    return payload;
  }

  /** Whether `payload` is that of datum `sequence`: its length and name, now and then all of it. */
  matches(sequence: number, payload: Uint8Array): boolean {
    if (payload.length !== this.bytes) return false;
    const view = new DataView(payload.buffer, payload.byteOffset, 4);
    if (view.getUint32(0, true) !== sequence) return false;
    if (++this.#checks % WHOLE_CHECKS !== 0) return true;
    const expected = this.of(sequence);
    return payload.every((byte, i) => byte === expected[i]);
  }
}

export class Stream {
  readonly payload: Payload;
  /** World time at which each datum was taken, by sequence number. */
  readonly writtenMs: Float64Array;
  /** World time at which the last datum was taken. */
  endedMs: number | undefined;
  /** World time at which data began to flow. */
  startedMs: number | undefined;
  readonly #swarm: Swarm;
  readonly #options: LargeOptions;
  readonly #overlayId: string;
  #source: Member | undefined;
  #next = 1;
  #dueMs = 0;
  #waiting = false;

  constructor(swarm: Swarm, options: LargeOptions, overlayId: string) {
    this.#swarm = swarm;
    this.#options = options;
    this.#overlayId = overlayId;
    this.payload = new Payload(options.seed, options.fragmentBytes - FRAGMENT_OVERHEAD_BYTES);
    this.writtenMs = new Float64Array(options.fragments + 1).fill(Number.POSITIVE_INFINITY);
  }

  start(source: Member): void {
    this.#source = source;
    source.node.command({
      kind: "registerDataSource",
      overlayId: this.#overlayId,
      sourceId: SOURCE_ID,
      contentType: "application/octet-stream",
    });
    this.#begin();
  }

  /** The window takes more. */
  writable(): void {
    if (!this.#waiting) return;
    this.#waiting = false;
    this.#swarm.world.after(0, () => this.#write());
  }

  #begin(): void {
    const { world, members } = this.#swarm;
    const { peers, delivery, joinMs } = this.#options;
    const started = members.filter((member) => member.fromStart && member.started).length;
    const isReady = delivery === "live" ? world.nowMs > joinMs : started >= START_SHARE * peers;
    if (!isReady && world.nowMs < START_MS_MAX) {
      world.after(RETRY_MS, () => this.#begin());
      return;
    }
    for (const member of members) {
      if (!member.started && member.role === "peer") member.fromStart = false;
    }
    this.startedMs = world.nowMs;
    this.#dueMs = world.nowMs;
    this.#write();
  }

  #write(): void {
    const { world } = this.#swarm;
    const source = this.#source as Member;
    if (!source.node.alive) return;
    if (source.node.paused) {
      world.after(RETRY_MS, () => this.#write());
      return;
    }
    const payload = this.payload.of(this.#next);
    const write: Write = {
      kind: "write",
      overlayId: this.#overlayId,
      sourceId: SOURCE_ID,
      payloads: payload,
      lengths: Uint32Array.of(payload.length),
      timestampUs: source.node.now().wallUs,
      contentType: undefined,
      accepted: 0,
      credit: 0,
    };
    source.node.command(write);
    if (write.accepted === 1) this.writtenMs[this.#next++] = world.nowMs;
    if (this.#next > this.#options.fragments) {
      this.endedMs = world.nowMs;
      source.node.command({ kind: "endSession", overlayId: this.#overlayId });
      return;
    }
    if (write.accepted === 0 || write.credit === 0) {
      this.#waiting = true;
      return;
    }
    // A source held back does not make up for it in a burst.
    this.#dueMs = Math.max(this.#dueMs + everyMs(this.#options), world.nowMs);
    world.at(this.#dueMs, () => this.#write());
  }
}
