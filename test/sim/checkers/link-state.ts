/**
 * What a node believes of each link is what crossed it: which fragments it sent, what was advertised
 * to it, and the credit both ways, recomputed from nothing but the frames.
 */

import type { LinkEnd, NodePort } from "../../../src/sim/border.ts";
import type { Beliefs, LinkBelief, SwarmObserver } from "../../../src/sim/swarm.ts";
import type { SwarmFacts } from "../facts.ts";
import {
  buffermap,
  creditLimit,
  dataIndex,
  eachFrame,
  haveStart,
  type Range,
  ranges,
  TYPE,
} from "../wire.ts";

/** No window of a run is as large; a planted bug may name any range. */
const COUNT_MAX = 4096;

class LinkTruth {
  readonly sent = new Set<number>();
  /** What it took back, or sent itself: that need not be pushed to it. */
  readonly needless = new Set<number>();
  advertised = new Set<number>();
  /** Of that what lay inside the maps when it came: it can't have been clipped. */
  inside = new Set<number>();
  start = 0;
  granted = 0;
  credit = 0;

  /** What lies below is looked at no more. */
  prune(origin: number): void {
    for (const set of [this.sent, this.needless, this.advertised, this.inside]) {
      for (const index of set) if (index < origin) set.delete(index);
    }
  }
}

export class LinkStateChecker implements SwarmObserver {
  readonly #facts: SwarmFacts;
  readonly #everySteps: number;
  readonly #truths = new WeakMap<LinkEnd, LinkTruth>();
  #steps = 0;

  constructor(facts: SwarmFacts, everySteps: number) {
    this.#facts = facts;
    this.#everySteps = everySteps;
  }

  onTransmit(_node: NodePort, end: LinkEnd, bytes: Uint8Array): void {
    if (end.mode !== "stream") return;
    const truth = this.#truth(end);
    eachFrame(bytes, (type, offset) => {
      if (type === TYPE.DATA) truth.sent.add(dataIndex(bytes, offset));
      else if (type === TYPE.CREDIT) {
        truth.granted = Math.max(truth.granted, creditLimit(bytes, offset));
      }
    });
  }

  onFrames(
    node: NodePort,
    end: LinkEnd,
    memory: Uint8Array,
    frames: Uint32Array,
    count: number,
  ): void {
    if (end.mode !== "stream") return;
    const beliefs = this.#beliefs(node);
    // Who chooses its start looks at the stream from there: its maps begin anew, and it asks again.
    const to = beliefs?.started === true ? beliefs.mapEnd : 0;
    const truth = this.#truth(end);
    for (let i = 0; i < count; i++) {
      this.#take(truth, memory, frames[2 * i] as number, frames[2 * i + 1] as number, to);
    }
  }

  onStep(node: NodePort): void {
    if (++this.#steps % this.#everySteps !== 0) return;
    const beliefs = this.#beliefs(node);
    if (beliefs === undefined) return;
    for (const belief of beliefs.links) {
      const end = node.ends.get(belief.linkId);
      if (end === undefined) continue;
      const truth = this.#truth(end);
      truth.prune(beliefs.origin);
      const fault = differs(belief, truth, beliefs);
      if (fault === undefined) continue;
      this.#facts.world.violate("link-state", `${node.name} link ${belief.linkId}: ${fault}`);
    }
  }

  #take(truth: LinkTruth, memory: Uint8Array, at: number, bytes: number, mapEnd: number): void {
    const type = memory[at + 6];
    if (type === TYPE.CREDIT) {
      truth.credit = Math.max(truth.credit, creditLimit(memory, at));
    } else if (type === TYPE.HAVE || type === TYPE.BUFFERMAP) {
      const map = type === TYPE.BUFFERMAP ? buffermap(memory, at, bytes) : undefined;
      if (map !== undefined) {
        truth.advertised = new Set();
        truth.inside = new Set();
      }
      truth.start = Math.max(truth.start, map?.start ?? haveStart(memory, at));
      each(map?.held ?? ranges(memory, at, bytes), (index) => {
        truth.advertised.add(index);
        if (index < mapEnd) truth.inside.add(index);
      });
    } else if (type === TYPE.GONE) {
      each(ranges(memory, at, bytes), (index) => {
        truth.advertised.delete(index);
        truth.inside.delete(index);
      });
    } else if (type === TYPE.CANCEL) {
      each(ranges(memory, at, bytes), (index) => truth.needless.add(index));
    } else if (type === TYPE.DATA) truth.needless.add(dataIndex(memory, at));
  }

  #beliefs(node: NodePort) {
    return this.#facts.swarm.memberOf(node)?.driver.beliefs?.();
  }

  #truth(end: LinkEnd): LinkTruth {
    let truth = this.#truths.get(end);
    if (truth === undefined) {
      truth = new LinkTruth();
      this.#truths.set(end, truth);
    }
    return truth;
  }
}

function each(list: readonly Range[] | undefined, visit: (index: number) => void): void {
  for (const { first, count } of list ?? []) {
    for (let index = first; index < first + Math.min(count, COUNT_MAX); index++) visit(index);
  }
}

function differs(
  belief: LinkBelief,
  truth: LinkTruth,
  { origin, to }: Beliefs,
): string | undefined {
  const { granted, credit, start } = truth;
  if (belief.granted !== granted) return `granted ${granted}, noted ${belief.granted}`;
  if (belief.credit !== credit) return `was granted ${credit}, noted ${belief.credit}`;
  for (let index = origin; index < to; index++) {
    const wasSent = truth.sent.has(index);
    const isSent = belief.sent(index);
    if (wasSent && !isSent) return `fragment ${index} was sent, and is not noted`;
    if (isSent && !wasSent && !truth.needless.has(index)) {
      return `fragment ${index} is noted as sent, and was not`;
    }
    const isNoted = belief.advertised(index);
    if (isNoted && (index < start || !truth.advertised.has(index))) {
      return `fragment ${index} is noted as advertised, and is not`;
    }
    if (!isNoted && index >= start && truth.inside.has(index)) {
      return `fragment ${index} is advertised, and not noted`;
    }
  }
  return undefined;
}
