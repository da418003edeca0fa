/**
 * Nobody loses its good standing for another's fault: a member is told lagging only if its own
 * consumer is slow or stuck, or if something happened that made members wait.
 */

import type { Member, SwarmObserver } from "../../../src/sim/swarm.ts";
import type { SwarmFacts } from "../facts.ts";

export class StandingChecker implements SwarmObserver {
  readonly #facts: SwarmFacts;
  readonly #faults: { readonly disturbed: boolean };

  constructor(facts: SwarmFacts, faults: { readonly disturbed: boolean }) {
    this.#facts = facts;
    this.#faults = faults;
  }

  onLagging(by: Member, member: Member): void {
    if (this.#faults.disturbed || member.excuses.has("stuck")) return;
    if (member.driver.consumerPauseMs > 0) return;
    this.#facts.world.violate("standing", `${by.name} finds ${member.name} lagging, which is not`);
  }
}
