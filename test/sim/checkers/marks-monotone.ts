/** What a node declares about itself on a link only rises: the start in its HAVE and BUFFERMAP. */

import type { LinkEnd } from "../../../src/sim/border.ts";
import type { SimNode } from "../../../src/sim/node.ts";
import type { SwarmObserver } from "../../../src/sim/swarm.ts";
import type { SwarmFacts } from "../facts.ts";
import { buffermap, eachFrame, haveStart, TYPE } from "../wire.ts";

export class MarksMonotoneChecker implements SwarmObserver {
  readonly #facts: SwarmFacts;
  readonly #starts = new WeakMap<LinkEnd, number>();

  constructor(facts: SwarmFacts) {
    this.#facts = facts;
  }

  onTransmit(node: SimNode, end: LinkEnd, bytes: Uint8Array): void {
    if (end.mode !== "stream") return;
    eachFrame(bytes, (type, offset, frameBytes) => {
      if (type === TYPE.HAVE) this.#declare(node, end, haveStart(bytes, offset));
      else if (type === TYPE.BUFFERMAP) {
        const map = buffermap(bytes, offset, frameBytes);
        if (map !== undefined) this.#declare(node, end, map.start);
      }
    });
  }

  #declare(node: SimNode, end: LinkEnd, start: number): void {
    const before = this.#starts.get(end) ?? 0;
    if (start < before) {
      this.#facts.world.violate(
        "marks-monotone",
        `${node.name} link ${end.linkId}: its start falls from ${before} to ${start}`,
      );
    }
    this.#starts.set(end, Math.max(before, start));
  }
}
