/**
 * Every consumer's bytes are the source's, in order per data source, each datum exactly once;
 * whatever is skipped was reported as a gap before.
 */

import type { GapSeen, Member, SwarmObserver } from "../../../src/sim/swarm.ts";
import type { SwarmFacts } from "../facts.ts";

interface Progress {
  first: number;
  next: number;
  /** Reported lost: sequence numbers [from, to] not yet passed. */
  gaps: { readonly from: number; readonly to: number }[];
}

export class DeliveryChecker implements SwarmObserver {
  readonly #facts: SwarmFacts;
  readonly #progress = new Map<Member, Map<string, Progress>>();
  delivered = 0;

  constructor(facts: SwarmFacts) {
    this.#facts = facts;
  }

  /** First and next sequence number of a member's source; undefined: nothing seen of it. */
  seen(member: Member, sourceId: string): { first: number; next: number } | undefined {
    return this.#progress.get(member)?.get(sourceId);
  }

  onBoot(node: Member["node"]): void {
    const member = this.#facts.swarm.memberOf(node);
    if (member !== undefined) this.#progress.delete(member);
  }

  onDatum(member: Member, sourceId: string, sequence: number, payload: Uint8Array): void {
    this.delivered++;
    const total = this.#facts.dataPerSource.get(sourceId);
    const what = `${member.name} ${sourceId} ${sequence}`;
    if (total === undefined || sequence < 1 || sequence > total) {
      this.#violate(`${what}: no such datum was sent`);
      return;
    }
    const fault = this.#facts.payloads.fault(sourceId, sequence, payload);
    if (fault !== undefined) this.#violate(`${what}: ${fault}`);
    const progress = this.#of(member, sourceId);
    if (progress === undefined) {
      const sources = this.#progress.get(member) ?? new Map<string, Progress>();
      sources.set(sourceId, { first: sequence, next: sequence + 1, gaps: [] });
      this.#progress.set(member, sources);
      return;
    }
    this.#passGaps(progress);
    if (sequence < progress.next) this.#violate(`${what}: delivered again`);
    else if (sequence > progress.next) {
      this.#violate(`${what}: ${progress.next} was skipped without a word`);
    }
    progress.next = Math.max(progress.next, sequence + 1);
  }

  onGap(member: Member, gap: GapSeen): void {
    if (gap.kind !== "data" || gap.sourceId === undefined) return;
    const progress = this.#of(member, gap.sourceId);
    const what = `${member.name} ${gap.sourceId} gap ${gap.from}..${gap.to}`;
    if (gap.from > gap.to) this.#violate(`${what}: empty`);
    if (progress === undefined) return;
    if (gap.from < progress.next) this.#violate(`${what}: ${progress.next - 1} was delivered`);
    progress.gaps.push({ from: gap.from, to: gap.to });
    this.#passGaps(progress);
  }

  #of(member: Member, sourceId: string): Progress | undefined {
    return this.#progress.get(member)?.get(sourceId);
  }

  #passGaps(progress: Progress): void {
    while (progress.gaps[0] !== undefined && progress.gaps[0].from <= progress.next) {
      progress.next = Math.max(progress.next, progress.gaps[0].to + 1);
      progress.gaps.shift();
    }
  }

  #violate(message: string): void {
    this.#facts.world.violate("delivery", message);
  }
}
