/** What a machine derives is what recomputing it gives: looked at after every so many steps. */

import type { NodePort } from "../../../src/sim/border.ts";
import type { SwarmObserver } from "../../../src/sim/swarm.ts";
import type { SwarmFacts } from "../facts.ts";

/** Recomputing costs as much as some dozens of steps. */
const EVERY_STEPS = 97;

export class InvariantsChecker implements SwarmObserver {
  readonly #facts: SwarmFacts;
  #steps = 0;

  constructor(facts: SwarmFacts) {
    this.#facts = facts;
  }

  onStep(node: NodePort): void {
    if (++this.#steps % EVERY_STEPS !== 0) return;
    const driver = this.#facts.swarm.memberOf(node)?.driver;
    try {
      driver?.checkInvariants?.();
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      this.#facts.world.violate("invariants", `${node.name}: ${text}`);
    }
  }
}
