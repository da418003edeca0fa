/**
 * DATA is byte-identical on every link: what anybody transmits is what the source transmitted, and
 * one index never stands for two fragments. END is one fragment, the last.
 */

import type { LinkEnd } from "../../../src/sim/border.ts";
import type { SimNode } from "../../../src/sim/node.ts";
import type { SwarmObserver } from "../../../src/sim/swarm.ts";
import type { SwarmFacts } from "../facts.ts";
import { dataIndex, eachFrame, isEnd, TYPE } from "../wire.ts";

export class IdenticalFragmentsChecker implements SwarmObserver {
  readonly #facts: SwarmFacts;
  readonly #fragments = new Map<number, Buffer>();
  #endIndex: number | undefined;

  constructor(facts: SwarmFacts) {
    this.#facts = facts;
  }

  get fragmentCount(): number {
    return this.#fragments.size;
  }
  /** Bytes of all fragments, each once. */
  get streamBytes(): number {
    let bytes = 0;
    for (const frame of this.#fragments.values()) bytes += frame.length;
    return bytes;
  }

  onTransmit(node: SimNode, end: LinkEnd, bytes: Uint8Array): void {
    if (end.mode !== "stream") return;
    eachFrame(bytes, (type, offset, frameBytes) => {
      if (type === TYPE.DATA) this.#check(node, bytes, offset, frameBytes);
    });
  }

  #check(node: SimNode, bytes: Uint8Array, offset: number, frameBytes: number): void {
    const index = dataIndex(bytes, offset);
    const frame = bytes.subarray(offset, offset + frameBytes);
    const known = this.#fragments.get(index);
    if (known !== undefined) {
      if (Buffer.compare(known, frame) !== 0) {
        this.#violate(`${node.name} sends another fragment ${index} than the source did`);
      }
      return;
    }
    if (node !== this.#facts.swarm.source.node) {
      this.#violate(`${node.name} sends fragment ${index}, which the source never sent`);
    }
    if (frameBytes > this.#facts.fragmentBytes) {
      this.#violate(`fragment ${index} has ${frameBytes} bytes`);
    }
    this.#fragments.set(index, Buffer.from(frame));
    this.#checkEnd(index, isEnd(frame, 0));
  }

  #checkEnd(index: number, last: boolean): void {
    if (last) {
      if (this.#endIndex !== undefined) {
        this.#violate(`END at ${index} and at ${this.#endIndex}`);
      }
      this.#endIndex = index;
      for (const known of this.#fragments.keys()) {
        if (known > index) this.#violate(`fragment ${known} lies past END at ${index}`);
      }
    } else if (this.#endIndex !== undefined && index > this.#endIndex) {
      this.#violate(`fragment ${index} lies past END at ${this.#endIndex}`);
    }
  }

  #violate(message: string): void {
    this.#facts.world.violate("identical-fragments", message);
  }
}
