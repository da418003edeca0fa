/**
 * What was deliverable (live): a fragment is deliverable to P when, from P's start until P had it,
 * left or was cut, an honest live node in P's connected component held it for repairMs. Looked at
 * every TICK_MS; what nobody could have given in time is nobody's fault.
 */

import { REPAIR_MS_DEFAULT } from "../../base/limits.ts";
import type { Network } from "../network.ts";
import type { Swarm } from "../swarm.ts";
import type { Meter, Progress } from "./meter.ts";

const TICK_MS = 250;

interface Lack {
  /** Milliseconds for which each fragment was there to be had and not had. */
  readonly lackedMs: Float32Array;
  /** All below are had. */
  from: number;
}

export class Deliverable {
  delivered = 0;
  missed = 0;
  /** Fragments from a peer's start on that it never had, deliverable or not. */
  absent = 0;
  readonly #swarm: Swarm;
  readonly #network: Network;
  readonly #meter: Meter;
  readonly #lacks = new Map<Progress, Lack>();
  #stopped = false;

  constructor(swarm: Swarm, network: Network, meter: Meter) {
    this.#swarm = swarm;
    this.#network = network;
    this.#meter = meter;
  }

  start(): void {
    const { world } = this.#swarm;
    const tick = (): void => {
      if (this.#stopped) return;
      this.#look();
      world.after(TICK_MS, tick);
    };
    world.after(TICK_MS, tick);
  }

  /** A process is over: what it lacked is settled. */
  close(progress: Progress): void {
    const { startIndex, member } = progress;
    if (startIndex === undefined || member.role === "source") return;
    const lack = this.#lacks.get(progress);
    this.#lacks.delete(progress);
    const to = Math.min(this.#meter.streamFragments, progress.hops.length);
    for (let index = startIndex; index < to; index++) {
      const skipped = progress.gaps.some(({ from, to: last }) => index >= from && index <= last);
      if (progress.has(index) && !skipped) {
        this.delivered++;
        continue;
      }
      this.absent++;
      if ((lack?.lackedMs[index] ?? 0) >= REPAIR_MS_DEFAULT) this.missed++;
    }
  }

  stop(): void {
    this.#stopped = true;
  }

  #look(): void {
    const components = this.#components();
    const held = new Map<number, Uint8Array>();
    const highest = new Map<number, number>();
    for (const { member } of this.#meter.running) {
      if (!member.node.alive || member.node.paused) continue;
      const component = find(components, member.node.index);
      const inspection = member.driver.inspect();
      if (inspection === undefined || inspection.heldCount === 0) continue;
      let union = held.get(component);
      if (union === undefined) {
        union = new Uint8Array(this.#meter.streamFragments + 1);
        held.set(component, union);
      }
      let index = inspection.start;
      for (let left = inspection.heldCount; left > 0 && index < union.length; index++) {
        if (!inspection.held(index)) continue;
        union[index] = 1;
        left--;
      }
      highest.set(component, Math.max(highest.get(component) ?? 0, index));
    }
    for (const progress of this.#meter.running) {
      const { member, startIndex } = progress;
      if (startIndex === undefined || member.role === "source" || progress.ended) continue;
      const component = find(components, member.node.index);
      const union = held.get(component);
      if (union === undefined) continue;
      this.#lacking(progress, startIndex, union, highest.get(component) as number);
    }
  }

  #lacking(progress: Progress, startIndex: number, union: Uint8Array, to: number): void {
    let lack = this.#lacks.get(progress);
    if (lack === undefined) {
      lack = { lackedMs: new Float32Array(progress.hops.length), from: startIndex };
      this.#lacks.set(progress, lack);
    }
    while (lack.from < to && progress.has(lack.from)) lack.from++;
    const { lackedMs } = lack;
    for (let index = lack.from; index < to; index++) {
      if (union[index] === 1 && !progress.has(index)) {
        lackedMs[index] = (lackedMs[index] as number) + TICK_MS;
      }
    }
  }

  /** Who is connected to whom now: a forest over node indices. */
  #components(): Int32Array {
    const { nodes } = this.#network;
    const parents = Int32Array.from(nodes, (_, i) => i);
    for (const end of this.#network.links()) {
      if (end.silent || end.other === undefined) continue;
      const other = end.other.node;
      if (this.#network.blockedUntilMs(end.node, other) > this.#swarm.world.nowMs) continue;
      const a = find(parents, end.node.index);
      const b = find(parents, other.index);
      if (a !== b) parents[a] = b;
    }
    return parents;
  }
}

function find(parents: Int32Array, index: number): number {
  let root = index;
  while (parents[root] !== root) root = parents[root] as number;
  while (parents[index] !== root) {
    const next = parents[index] as number;
    parents[index] = root;
    index = next;
  }
  return root;
}
