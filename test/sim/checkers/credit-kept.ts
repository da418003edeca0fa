/**
 * DATA stays below the credit that the receiver granted on that link; credit never falls and is
 * never granted past what the window has room for.
 */

import type { LinkEnd } from "../../../src/sim/border.ts";
import type { SimNode } from "../../../src/sim/node.ts";
import type { SwarmObserver } from "../../../src/sim/swarm.ts";
import type { SwarmFacts } from "../facts.ts";
import { creditLimit, dataIndex, eachFrame, TYPE } from "../wire.ts";

export class CreditKeptChecker implements SwarmObserver {
  readonly #facts: SwarmFacts;
  /** Highest limit that each end granted to the other. */
  readonly #granted = new WeakMap<LinkEnd, number>();

  constructor(facts: SwarmFacts) {
    this.#facts = facts;
  }

  onTransmit(node: SimNode, end: LinkEnd, bytes: Uint8Array): void {
    if (end.mode !== "stream") return;
    eachFrame(bytes, (type, offset) => {
      if (type === TYPE.CREDIT) this.#grant(node, end, creditLimit(bytes, offset));
      else if (type === TYPE.DATA) this.#spend(node, end, dataIndex(bytes, offset));
    });
  }

  #grant(node: SimNode, end: LinkEnd, limit: number): void {
    const before = this.#granted.get(end) ?? 0;
    if (limit < before) {
      this.#violate(`${node.name} lowers its credit from ${before} to ${limit}`);
    }
    const room = this.#facts.swarm.memberOf(node)?.driver.inspect()?.limit;
    if (room !== undefined && limit > room) {
      this.#violate(`${node.name} grants credit up to ${limit}, its window ends at ${room}`);
    }
    this.#granted.set(end, Math.max(before, limit));
  }

  #spend(node: SimNode, end: LinkEnd, index: number): void {
    const limit = end.other === undefined ? 0 : (this.#granted.get(end.other) ?? 0);
    if (index < limit) return;
    const to = end.other?.node.name ?? "nobody";
    this.#violate(`${node.name} sends fragment ${index} to ${to}, whose credit ends at ${limit}`);
  }

  #violate(message: string): void {
    this.#facts.world.violate("credit-kept", message);
  }
}
