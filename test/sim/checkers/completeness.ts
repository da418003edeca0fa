/**
 * `complete` means complete: once faults have stopped, every consumer in good standing comes to the
 * end of every data source; one that was there from the beginning has it from the first datum on.
 * A gap is allowed to those only that have an excuse, or where nobody could send what it names: then
 * the data in it, and nothing else, are not owed.
 */

import type { GapSeen, Member, SwarmObserver } from "../../../src/sim/swarm.ts";
import type { SwarmFacts } from "../facts.ts";
import type { FragmentContents } from "./contents.ts";
import type { DeliveryChecker } from "./delivery.ts";

/** What no neighbour holds for so long is given up, after the directory was asked for others. */
const REPAIR_MS = 5_000;

export class CompletenessChecker implements SwarmObserver {
  readonly #facts: SwarmFacts;
  readonly #delivery: DeliveryChecker;
  readonly #contents: FragmentContents;
  /** Gaps of fragments that could be had, the first of each member. */
  readonly #gaps = new Map<Member, GapSeen>();
  /** Gaps of data. */
  readonly #lost = new Map<Member, GapSeen[]>();
  /** Fragments that nobody could send to a member: what they carry is not owed to it. */
  readonly #excused = new Map<Member, Set<number>>();

  constructor(facts: SwarmFacts, delivery: DeliveryChecker, contents: FragmentContents) {
    this.#facts = facts;
    this.#delivery = delivery;
    this.#contents = contents;
  }

  onBoot(node: Member["node"]): void {
    const member = this.#facts.swarm.memberOf(node);
    if (member === undefined) return;
    this.#gaps.delete(member);
    this.#lost.delete(member);
    this.#excused.delete(member);
  }

  onGap(member: Member, gap: GapSeen): void {
    if (gap.kind === "data") {
      const lost = this.#lost.get(member) ?? [];
      this.#lost.set(member, lost);
      lost.push(gap);
      return;
    }
    const excused = this.#excused.get(member) ?? new Set();
    this.#excused.set(member, excused);
    for (let index = gap.from; index <= gap.to; index++) {
      if (!this.#couldBeHad(member, index)) excused.add(index);
      else if (!this.#gaps.has(member)) this.#gaps.set(member, gap);
    }
  }

  /**
   * Rule (d): what only members hold that stand still (their process is stopped) is given up; while
   * the directory is gone, what only strangers hold.
   */
  #couldBeHad(member: Member, index: number): boolean {
    const { swarm, directory, world } = this.#facts;
    const holders = swarm.members.filter(
      ({ node, driver }) => node.alive && driver.inspect()?.held(index) === true,
    );
    if (holders.length === 0) return true;
    const isNamed = directory.goneUntilMs <= world.nowMs - REPAIR_MS;
    const linked = new Set([...member.node.ends.values()].map(({ other }) => other?.node));
    return holders.some(({ node }) => !node.paused && (isNamed || linked.has(node)));
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
    const gap =
      this.#gaps.get(member) ?? this.#lost.get(member)?.find((g) => this.#isOwed(member, g));
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
      const owedBefore = (sequence: number): boolean =>
        member.fromStart && this.#isOwed(member, { sourceId, from: 1, to: sequence - 1 });
      if (seen === undefined) {
        if (owedBefore(total + 1))
          this.#violate(`${member.name} has nothing of ${sourceId}`, member);
        continue;
      }
      if (owedBefore(seen.first)) {
        this.#violate(`${member.name} ${sourceId} starts with ${seen.first}`, member);
      }
      if (seen.next !== total + 1) {
        this.#violate(`${member.name} ${sourceId} ends with ${seen.next - 1} of ${total}`, member);
      }
    }
  }

  /** Whether any datum of [from, to] lies outside the fragments that nobody could send. */
  #isOwed(member: Member, { sourceId = "", from, to }: Omit<GapSeen, "kind">): boolean {
    const excused = this.#excused.get(member) ?? new Set<number>();
    for (let sequence = from; sequence <= to; sequence++) {
      if (!this.#isExcused(excused, sourceId, sequence)) return true;
    }
    return false;
  }

  #isExcused(excused: ReadonlySet<number>, sourceId: string, sequence: number): boolean {
    if (excused.size === 0) return false;
    const place = this.#contents.placeOf(sourceId, sequence);
    if (place === undefined) return [...excused].some((index) => !this.#contents.wasSent(index));
    const { from, to, begins, ends } = place;
    for (let index = begins ? from : from - 1; index <= (ends ? to : to + 1); index++) {
      if (excused.has(index)) return true;
    }
    return false;
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
