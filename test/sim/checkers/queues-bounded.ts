/** Queues and windows stay under their limits, at every step of every node. */

import type { LinkEnd } from "../../../src/sim/border.ts";
import type { SimNode } from "../../../src/sim/node.ts";
import type { SwarmObserver } from "../../../src/sim/swarm.ts";
import type { SwarmFacts } from "../facts.ts";

export class QueuesBoundedChecker implements SwarmObserver {
  readonly #facts: SwarmFacts;
  /** A link may pass its limit by what one step hands over: control frames and one run. */
  readonly #slackBytes: number;
  highestQueueBytes = 0;

  constructor(facts: SwarmFacts, slackBytes: number) {
    this.#facts = facts;
    this.#slackBytes = slackBytes;
  }

  onTransmit(node: SimNode, end: LinkEnd, bytes: Uint8Array): void {
    const queuedBytes = end.queuedBytes + bytes.length;
    if (queuedBytes > this.highestQueueBytes) this.highestQueueBytes = queuedBytes;
    if (queuedBytes <= this.#slackBytes) return;
    const limit = this.#facts.swarm.memberOf(node)?.driver.inspect()?.linkQueueBytesMax;
    if (limit === undefined || queuedBytes <= limit + this.#slackBytes) return;
    this.#violate(`${node.name} link ${end.linkId} has ${queuedBytes} bytes queued of ${limit}`);
  }

  onStep(node: SimNode): void {
    const inspection = this.#facts.swarm.memberOf(node)?.driver.inspect();
    if (inspection === undefined) return;
    const { heldBytes, heldCount, windowBytes, windowFragments } = inspection;
    if (heldBytes > windowBytes)
      this.#violate(`${node.name} holds ${heldBytes} bytes of ${windowBytes}`);
    if (heldCount > windowFragments) {
      this.#violate(`${node.name} holds ${heldCount} fragments of ${windowFragments}`);
    }
  }

  #violate(message: string): void {
    this.#facts.world.violate("queues-bounded", message);
  }
}
