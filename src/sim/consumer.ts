/** A consumer at its own pace: takes batches, reads their rows, reports each datum to the swarm. */

import {
  ENTRY_BYTES,
  ENTRY_DECLARATION,
  ENTRY_LENGTH,
  ENTRY_OFFSET,
  ENTRY_SEQUENCE,
} from "../base/layout.ts";
import type { Take } from "../peer/commands.ts";
import type { Member, Swarm } from "./swarm.ts";

/** A consumer whose process is paused looks again after this. */
const PAUSED_RETRY_MS = 50;

export class Consumer {
  /** Pause after each batch, 0 = none; Infinity: takes nothing from now on. */
  pauseMs = 0;
  readonly #swarm: Swarm;
  readonly #member: Member;
  readonly #overlayId: string;
  #generation = 0;
  #scheduled = false;
  #stopped = true;

  constructor(swarm: Swarm, member: Member, overlayId: string) {
    this.#swarm = swarm;
    this.#member = member;
    this.#overlayId = overlayId;
  }

  start(): void {
    this.#generation++;
    this.#scheduled = false;
    this.#stopped = false;
    this.wake(0);
  }

  /** No more commands: the overlay is left or the process gone. */
  stop(): void {
    this.#stopped = true;
    this.#generation++;
  }

  wake(afterMs: number): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    const generation = this.#generation;
    this.#swarm.world.after(afterMs, () => {
      if (generation !== this.#generation) return;
      this.#scheduled = false;
      this.#consume();
    });
  }

  #consume(): void {
    const { node } = this.#member;
    for (;;) {
      if (this.#stopped) return;
      if (this.pauseMs === Number.POSITIVE_INFINITY) return;
      if (node.paused) {
        this.wake(PAUSED_RETRY_MS);
        return;
      }
      const take: Take = {
        kind: "take",
        overlayId: this.#overlayId,
        batch: undefined,
        sourceOf: undefined,
      };
      node.command(take);
      if (take.batch === undefined) return;
      this.#deliver(take);
      if (this.pauseMs > 0) {
        this.wake(this.pauseMs);
        return;
      }
    }
  }

  #deliver({ batch, sourceOf }: Take): void {
    const memory = this.#member.node.body?.arena?.bytes;
    if (batch === undefined || sourceOf === undefined || memory === undefined) return;
    const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
    for (let i = 0; i < batch.count; i++) {
      const row = batch.entries + i * ENTRY_BYTES;
      const source = sourceOf(view.getUint32(row + ENTRY_DECLARATION, true));
      const sequence = view.getFloat64(row + ENTRY_SEQUENCE, true);
      const offset = view.getUint32(row + ENTRY_OFFSET, true);
      const bytes = view.getUint32(row + ENTRY_LENGTH, true);
      const payload = batch.memory.subarray(offset, offset + bytes);
      this.#swarm.datum(this.#member, source.id, sequence, payload);
    }
  }
}
