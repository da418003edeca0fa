/**
 * A receive arena in ordinary memory, for links whose frames are read and done with: data sources
 * (R11), which would otherwise take the engine's memory from fragments. One slot a link, taken with
 * the first bytes that need it and given back when nothing is pending; untouched slots cost nothing
 * but address space. Frames can't be retained.
 */

import { assert } from "../base/assert.ts";
import { FRAME_BYTES_MAX } from "../base/limits.ts";
import type { ReceiveArena, ReceiveCursor } from "../base/receive-arena.ts";
import type { MemoryOffset } from "../base/units.ts";

/** A frame of the largest size fits, wherever the one before it ended. */
const SLOT_BYTES = 2 * FRAME_BYTES_MAX;

export class HeapArena implements ReceiveArena {
  readonly bytes: Uint8Array;
  readonly #free: MemoryOffset[] = [];

  /** `links` that may receive at a time; others wait for a slot. */
  constructor(links: number) {
    this.bytes = new Uint8Array(links * SLOT_BYTES);
    for (let i = links - 1; i >= 0; i--) this.#free.push(i * SLOT_BYTES);
  }

  get freeSlots(): number {
    return this.#free.length;
  }

  open(): ReceiveCursor {
    return new HeapCursor(this.bytes, this.#free);
  }
}

class HeapCursor implements ReceiveCursor {
  readonly #bytes: Uint8Array;
  readonly #free: MemoryOffset[];
  #slot: MemoryOffset | undefined;
  #read = 0;
  #written = 0;

  constructor(bytes: Uint8Array, free: MemoryOffset[]) {
    this.#bytes = bytes;
    this.#free = free;
  }

  get writeOffset(): MemoryOffset {
    return (this.#slot ?? 0) + this.#written;
  }
  get writableBytes(): number {
    return this.#slot === undefined ? 0 : SLOT_BYTES - this.#written;
  }
  get parseOffset(): MemoryOffset {
    return (this.#slot ?? 0) + this.#read;
  }
  get parsableBytes(): number {
    return this.#written - this.#read;
  }

  reserve(frameBytes: number): boolean {
    if (frameBytes > SLOT_BYTES) return false;
    this.#slot ??= this.#free.pop();
    const slot = this.#slot;
    if (slot === undefined) return false;
    if (this.#read + frameBytes > SLOT_BYTES) {
      this.#bytes.copyWithin(slot, slot + this.#read, slot + this.#written);
      this.#written -= this.#read;
      this.#read = 0;
    }
    return true;
  }

  commit(bytes: number): void {
    assert(bytes <= this.writableBytes, "committed no more than was writable");
    this.#written += bytes;
  }

  consume(bytes: number): void {
    assert(bytes <= this.parsableBytes, "consumed no more than was committed");
    this.#read += bytes;
    if (this.#read < this.#written) return;
    this.#giveBack();
  }

  close(): void {
    this.#giveBack();
  }

  #giveBack(): void {
    this.#read = 0;
    this.#written = 0;
    if (this.#slot !== undefined) this.#free.push(this.#slot);
    this.#slot = undefined;
  }
}
