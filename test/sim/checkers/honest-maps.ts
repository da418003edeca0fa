/**
 * No buffermap and no HAVE that lies: what is advertised is held at that instant. What a node frees
 * in the very step that advertised it was held when the frame was made: no lie, and nothing that
 * anybody lacks (completeness judges that).
 */

import type { LinkEnd } from "../../../src/sim/border.ts";
import type { SimNode } from "../../../src/sim/node.ts";
import type { Inspection, SwarmObserver } from "../../../src/sim/swarm.ts";
import type { SwarmFacts } from "../facts.ts";
import { buffermap, eachFrame, type Range, ranges, TYPE } from "../wire.ts";

export class HonestMapsChecker implements SwarmObserver {
  readonly #facts: SwarmFacts;
  /** Where each node's window began after its last step. */
  readonly #starts = new Map<SimNode, number>();
  advertised = 0;

  constructor(facts: SwarmFacts) {
    this.#facts = facts;
  }

  onStep(node: SimNode): void {
    const start = this.#facts.swarm.memberOf(node)?.driver.inspect()?.start;
    if (start !== undefined) this.#starts.set(node, start);
  }

  onBoot(node: SimNode): void {
    this.#starts.delete(node);
  }

  onTransmit(node: SimNode, end: LinkEnd, bytes: Uint8Array): void {
    if (end.mode !== "stream") return;
    const whole = eachFrame(bytes, (type, offset, frameBytes) => {
      if (type === TYPE.HAVE) this.#check(node, "HAVE", ranges(bytes, offset, frameBytes));
      else if (type === TYPE.BUFFERMAP) {
        this.#check(node, "BUFFERMAP", buffermap(bytes, offset, frameBytes)?.held);
      }
    });
    if (!whole) this.#violate(`${node.name} transmits what is not whole frames`);
  }

  #check(node: SimNode, name: string, list: readonly Range[] | undefined): void {
    if (list === undefined) {
      this.#violate(`${node.name} ${name} does not follow the layout`);
      return;
    }
    const inspection = this.#facts.swarm.memberOf(node)?.driver.inspect();
    if (inspection === undefined) return;
    for (const range of list) this.#checkRange(node, name, range, inspection);
  }

  #checkRange(node: SimNode, name: string, range: Range, inspection: Inspection): void {
    this.advertised += range.count;
    for (let index = range.first; index < range.first + range.count; index++) {
      if (inspection.held(index)) continue;
      if (index < inspection.start && index >= (this.#starts.get(node) ?? 0)) continue;
      this.#violate(`${node.name} ${name} names fragment ${index}, which it does not hold`);
      return;
    }
  }

  #violate(message: string): void {
    this.#facts.world.violate("honest-maps", message);
  }
}
