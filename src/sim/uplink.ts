/** What the ends of a large run share: the memory in which frames lie, and each node's way out. */

import { FRAME_BYTES_MAX } from "../base/limits.ts";
import type { MemoryOffset } from "../base/units.ts";
import type { EngineMemory } from "../kernel/engine-memory.ts";
import type { NodePort } from "./border.ts";
import type { InTransit } from "./socket-end.ts";

/** Control frames of one turn. */
export const CONTROL_TURN_BYTES = 64 * 1024;

/** One frame: DATA lies in the shared memory, a control frame in bytes of its own. */
export interface Frame {
  readonly control: Uint8Array | undefined;
  readonly offset: MemoryOffset;
  readonly bytes: number;
}

export interface Burst extends InTransit {
  readonly frames: readonly Frame[];
}

/** What all ends of one run share. */
export class Ground {
  readonly memory: EngineMemory;
  readonly scratch: MemoryOffset;
  ranges = new Uint32Array(2 * 256);
  readonly #uplinks: (Uplink | undefined)[] = [];

  constructor(memory: EngineMemory) {
    this.memory = memory;
    this.scratch = memory.allocate(CONTROL_TURN_BYTES + FRAME_BYTES_MAX);
  }

  uplink(node: NodePort): Uplink {
    const found = this.#uplinks[node.index] ?? new Uplink(node);
    this.#uplinks[node.index] = found;
    return found;
  }

  release(frames: readonly Frame[]): void {
    for (const { control, offset, bytes } of frames) {
      if (control === undefined) this.memory.release(offset, bytes);
    }
  }
}

/** Who waits for a turn at the uplink of its node. */
export interface Turns {
  turn(): void;
}

/** A node's way out: links with DATA take turns; control frames do not wait for other links. */
export class Uplink {
  readonly #node: NodePort;
  #waiting: Turns[] = [];
  #head = 0;
  #wakesMs = Number.POSITIVE_INFINITY;

  constructor(node: NodePort) {
    this.#node = node;
  }

  offer(end: Turns): void {
    this.#waiting.push(end);
    this.serve();
  }

  /** `bytes` take their time, now or after what is under way. Returns when they have left. */
  occupy(bytes: number): number {
    const node = this.#node;
    const startMs = Math.max(node.world.nowMs, node.uplinkFreeMs);
    node.uplinkFreeMs = startMs + bytes / node.uplinkBytesPerMs;
    return node.uplinkFreeMs;
  }

  serve(): void {
    const node = this.#node;
    const { world } = node;
    while (this.#head < this.#waiting.length) {
      if (node.uplinkFreeMs > world.nowMs) {
        this.#wake(node.uplinkFreeMs);
        return;
      }
      const end = this.#waiting[this.#head++] as Turns;
      if (this.#head === this.#waiting.length || this.#head > 256) {
        this.#waiting.splice(0, this.#head);
        this.#head = 0;
      }
      end.turn();
    }
  }

  #wake(atMs: number): void {
    if (this.#wakesMs <= atMs && this.#wakesMs > this.#node.world.nowMs) return;
    this.#wakesMs = atMs;
    this.#node.world.at(atMs, () => {
      if (this.#wakesMs === atMs) this.#wakesMs = Number.POSITIVE_INFINITY;
      this.serve();
    });
  }
}
