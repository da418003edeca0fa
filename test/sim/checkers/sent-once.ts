/**
 * A fragment crosses a link once, unless the receiver asked for it (again) after it was sent: what
 * was sent and not yet advertised is on its way, and a second copy of it costs the swarm for nothing.
 */

import type { LinkEnd, NodePort } from "../../../src/sim/border.ts";
import type { SwarmObserver } from "../../../src/sim/swarm.ts";
import type { SwarmFacts } from "../facts.ts";
import { dataIndex, eachFrame, type Range, ranges, TYPE } from "../wire.ts";

export class SentOnceChecker implements SwarmObserver {
  readonly #facts: SwarmFacts;
  /** What each end sent and was not asked for since. */
  readonly #sent = new WeakMap<LinkEnd, Set<number>>();

  constructor(facts: SwarmFacts) {
    this.#facts = facts;
  }

  onTransmit(node: NodePort, end: LinkEnd, bytes: Uint8Array): void {
    if (end.mode !== "stream") return;
    eachFrame(bytes, (type, offset) => {
      if (type === TYPE.DATA) this.#send(node, end, dataIndex(bytes, offset));
    });
  }

  onFrames(
    _node: NodePort,
    end: LinkEnd,
    memory: Uint8Array,
    frames: Uint32Array,
    count: number,
  ): void {
    for (let i = 0; i < count; i++) {
      const offset = frames[2 * i] as number;
      if (memory[offset + 6] !== TYPE.GET) continue;
      this.#asked(end, ranges(memory, offset, frames[2 * i + 1] as number) ?? []);
    }
  }

  #send(node: NodePort, end: LinkEnd, index: number): void {
    const sent = this.#sent.get(end) ?? new Set();
    this.#sent.set(end, sent);
    if (sent.has(index)) {
      this.#facts.world.violate(
        "sent-once",
        `${node.name} sends fragment ${index} again on link ${end.linkId}, unasked`,
      );
    }
    sent.add(index);
  }

  /** A GET reached `end`: what it names may be sent again. */
  #asked(end: LinkEnd, list: readonly Range[]): void {
    const sent = this.#sent.get(end);
    if (sent === undefined) return;
    for (const { first, count } of list) {
      for (let index = first; index < first + count; index++) sent.delete(index);
    }
  }
}
