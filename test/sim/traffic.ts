/** Counts what crosses the links: frames and bytes by type, duplicates, the source's share. */

import type { LinkEnd } from "../../src/sim/border.ts";
import type { SimNode } from "../../src/sim/node.ts";
import type { Swarm, SwarmObserver } from "../../src/sim/swarm.ts";
import { DATA_HEADER, dataIndex, TYPE, TYPE_NAMES, u32 } from "./wire.ts";

export class Traffic implements SwarmObserver {
  readonly #swarm: Swarm;
  readonly #frames = new Float64Array(256);
  readonly #bytes = new Float64Array(256);
  readonly #seen = new Map<SimNode, Set<number>>();
  messages = 0;
  dataFrames = 0;
  duplicates = 0;
  dataBytesFromSource = 0;
  controlBytes = 0;
  recordBytes = 0;

  constructor(swarm: Swarm) {
    this.#swarm = swarm;
  }

  onBoot(node: SimNode): void {
    this.#seen.set(node, new Set());
  }

  onFrames(
    node: SimNode,
    end: LinkEnd,
    memory: Uint8Array,
    ranges: Uint32Array,
    count: number,
  ): void {
    if (end.mode === "message") {
      this.messages += count;
      return;
    }
    const fromSource = end.other?.node === this.#swarm.source.node;
    const seen = this.#seen.get(node);
    for (let i = 0; i < count; i++) {
      const offset = ranges[2 * i] as number;
      const type = memory[offset + 6] as number;
      const frameBytes = u32(memory, offset);
      this.#frames[type] = (this.#frames[type] as number) + 1;
      this.#bytes[type] = (this.#bytes[type] as number) + frameBytes;
      if (type !== TYPE.DATA) {
        this.controlBytes += frameBytes;
        continue;
      }
      this.dataFrames++;
      this.controlBytes += DATA_HEADER;
      this.recordBytes += frameBytes - DATA_HEADER;
      if (fromSource) this.dataBytesFromSource += frameBytes;
      const index = dataIndex(memory, offset);
      if (seen?.has(index) === true) this.duplicates++;
      else seen?.add(index);
    }
  }

  get framesByType(): Record<string, number> {
    const found: Record<string, number> = {};
    this.#frames.forEach((count, type) => {
      if (count > 0) found[TYPE_NAMES.get(type) ?? `0x${type.toString(16)}`] = count;
    });
    return found;
  }

  get frames(): number {
    return this.#frames.reduce((sum, count) => sum + count, 0);
  }
}
