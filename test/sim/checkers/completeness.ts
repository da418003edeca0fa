/**
 * `complete` means complete: once faults have stopped, every consumer in good standing comes to the
 * end of every data source; one that was there from the beginning has it from the first datum on.
 * A gap is allowed to those only that have an excuse.
 */

import type { GapSeen, Member, SwarmObserver } from "../../../src/sim/swarm.ts";
import type { SwarmFacts } from "../facts.ts";
import type { DeliveryChecker } from "./delivery.ts";

export class CompletenessChecker implements SwarmObserver {
  readonly #facts: SwarmFacts;
  readonly #delivery: DeliveryChecker;
  readonly #gaps = new Map<Member, GapSeen>();
  /** What they lack of data sources follows from fragments that nobody could send. */
  readonly #excused = new Set<Member>();

  constructor(facts: SwarmFacts, delivery: DeliveryChecker) {
    this.#facts = facts;
    this.#delivery = delivery;
  }

  onBoot(node: Member["node"]): void {
    const member = this.#facts.swarm.memberOf(node);
    if (member !== undefined) this.#gaps.delete(member);
  }

  onGap(member: Member, gap: GapSeen): void {
    if (this.#gaps.has(member) || !this.#couldBeHad(member, gap)) return;
    this.#gaps.set(member, gap);
  }

  /** Rule (d): what only members hold that stand still (their process is stopped) is given up. */
  #couldBeHad(member: Member, gap: GapSeen): boolean {
    if (gap.kind !== "fragments") return !this.#excused.has(member);
    const { members } = this.#facts.swarm;
    for (let index = gap.from; index < gap.to; index++) {
      const holders = members.filter(
        ({ node, driver }) => node.alive && driver.inspect()?.held(index) === true,
      );
      if (holders.length === 0 || holders.some(({ node }) => !node.paused)) return true;
    }
    this.#excused.add(member);
    return false;
  }

  /** Whether everybody who is owed the end has it. */
  get done(): boolean {
    return this.#facts.swarm.members.every((member) => !owedTheEnd(member) || member.ended);
  }

  onEnd(): void {
    for (const member of this.#facts.swarm.members) {
      if (!owedTheEnd(member)) continue;
      if (!member.ended) this.#violate(`${member.name} did not come to the end`, member);
      // Live drops what is late; that nothing is skipped in silence is judged elsewhere.
      else if (member.inGoodStanding && this.#facts.delivery === "complete") this.#judge(member);
    }
  }

  #judge(member: Member): void {
    if (this.#excused.has(member) && !this.#gaps.has(member)) return;
    const gap = this.#gaps.get(member);
    if (gap !== undefined) {
      const whose = gap.sourceId ?? "fragments";
      this.#violate(
        `${member.name} in good standing has a gap, ${whose} ${gap.from}..${gap.to}`,
        member,
      );
      return;
    }
    for (const [sourceId, total] of this.#facts.dataPerSource) {
      const seen = this.#delivery.seen(member, sourceId);
      if (seen === undefined) {
        if (member.fromStart && total > 0) {
          this.#violate(`${member.name} has nothing of ${sourceId}`, member);
        }
        continue;
      }
      if (member.fromStart && seen.first !== 1) {
        this.#violate(`${member.name} ${sourceId} starts with ${seen.first}`, member);
      }
      if (seen.next !== total + 1) {
        this.#violate(`${member.name} ${sourceId} ends with ${seen.next - 1} of ${total}`, member);
      }
    }
  }

  #violate(message: string, member: Member): void {
    const inspection = member.driver.inspect();
    const where = inspection === undefined ? "" : `; window starts at ${inspection.start}`;
    this.#facts.world.violate("completeness", `${message}${where}`);
  }
}

/** Lagging or isolated members may have gaps, and come to the end all the same. */
function owedTheEnd(member: Member): boolean {
  if (member.role === "source" || !member.node.alive) return false;
  const { excuses } = member;
  return !excuses.has("stuck") && !excuses.has("left") && !excuses.has("late");
}
