/** What a machine derives is what recomputing it gives: looked at after every so many steps. */

import type { NodePort } from "../../../src/sim/border.ts";
import type { SwarmObserver } from "../../../src/sim/swarm.ts";
import type { SwarmFacts } from "../facts.ts";

export class InvariantsChecker implements SwarmObserver {
  readonly #facts: SwarmFacts;
  readonly #everySteps: number;
  #steps = 0;

  constructor(facts: SwarmFacts, everySteps: number) {
    this.#facts = facts;
    this.#everySteps = everySteps;
  }

  onStep(node: NodePort): void {
    if (++this.#steps % this.#everySteps !== 0) return;
    const driver = this.#facts.swarm.memberOf(node)?.driver;
    try {
      driver?.checkInvariants?.();
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      this.#facts.world.violate("invariants", `${node.name}: ${text}`);
    }
  }
}
