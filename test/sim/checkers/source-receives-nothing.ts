/** P0.1: no fragment goes to the source peer. */

import type { LinkEnd } from "../../../src/sim/border.ts";
import type { SimNode } from "../../../src/sim/node.ts";
import type { SwarmObserver } from "../../../src/sim/swarm.ts";
import type { SwarmFacts } from "../facts.ts";
import { dataIndex, eachFrame, TYPE } from "../wire.ts";

export class SourceReceivesNothingChecker implements SwarmObserver {
  readonly #facts: SwarmFacts;

  constructor(facts: SwarmFacts) {
    this.#facts = facts;
  }

  onTransmit(node: SimNode, end: LinkEnd, bytes: Uint8Array): void {
    const target = end.other?.node;
    if (target !== this.#facts.swarm.source.node || end.mode !== "stream") return;
    eachFrame(bytes, (type, offset) => {
      if (type !== TYPE.DATA) return;
      const index = dataIndex(bytes, offset);
      this.#facts.world.violate(
        "source-receives-nothing",
        `${node.name} sends fragment ${index} to the source peer`,
      );
    });
  }
}
