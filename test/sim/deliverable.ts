/**
 * Live, measured as it is promised: of the fragments that could be delivered, how many were. A
 * fragment is deliverable to a peer if, from the peer's start until it had it, left or was cut, some
 * other live member of its connected component held it for `repairMs` without a break; what a peer
 * had was deliverable in any case. Lost is what a peer reported as a gap.
 */

import type { LinkEnd, NodePort } from "../../src/sim/border.ts";
import type { GapSeen, Member, SwarmObserver } from "../../src/sim/swarm.ts";
import type { Run } from "./run.ts";

/** How often is looked who holds what: what is held for a shorter time may be overlooked. */
const LOOK_MS = 250;

interface Owed {
  startIndex: number;
  readonly had: Set<number>;
  /** Index -> for how long others have held it. */
  readonly offeredMs: Map<number, number>;
  readonly deliverable: Set<number>;
  readonly lost: Set<number>;
}

export class Deliverable implements SwarmObserver {
  readonly #run: Run;
  readonly #repairMs: number;
  readonly #owed = new Map<Member, Owed>();

  constructor(run: Run, repairMs: number) {
    this.#run = run;
    this.#repairMs = repairMs;
    const look = (): void => {
      this.#look();
      run.world.after(LOOK_MS, look);
    };
    run.world.after(LOOK_MS, look);
  }

  onStarted(member: Member, index: number): void {
    const before = this.#owed.get(member);
    if (before !== undefined) before.startIndex = index;
    else {
      this.#owed.set(member, {
        startIndex: index,
        had: new Set(),
        offeredMs: new Map(),
        deliverable: new Set(),
        lost: new Set(),
      });
    }
  }

  onGap(member: Member, gap: GapSeen): void {
    if (gap.kind !== "fragments") return;
    for (let index = gap.from; index <= gap.to; index++) this.#owed.get(member)?.lost.add(index);
  }

  /** Over all peers: fragments that were deliverable, and how many of them were lost. */
  get sums(): { readonly deliverable: number; readonly lost: number } {
    let deliverable = 0;
    let lost = 0;
    for (const owed of this.#owed.values()) {
      const all = new Set([...owed.had, ...owed.deliverable]);
      deliverable += all.size;
      for (const index of owed.lost) if (all.has(index)) lost++;
    }
    return { deliverable, lost };
  }

  #look(): void {
    const { members } = this.#run.swarm;
    const component = components(members, this.#run.network.links());
    /** Component -> index -> how many of its members hold it. */
    const holders = new Map<NodePort, Map<number, number>>();
    for (const member of members) {
      const root = component(member.node);
      if (!member.node.alive || member.excuses.has("left")) continue;
      const held = holders.get(root) ?? new Map<number, number>();
      holders.set(root, held);
      eachHeld(member, (index) => {
        held.set(index, (held.get(index) ?? 0) + 1);
        const owed = this.#owed.get(member);
        if (owed !== undefined && index >= owed.startIndex) owed.had.add(index);
      });
    }
    for (const [member, owed] of this.#owed) {
      if (!member.node.alive || member.excuses.has("left")) continue;
      const held = holders.get(component(member.node)) ?? new Map<number, number>();
      for (const index of owed.offeredMs.keys()) {
        if (!held.has(index)) owed.offeredMs.delete(index);
      }
      for (const index of held.keys()) {
        if (index < owed.startIndex || owed.had.has(index)) continue;
        const offeredMs = (owed.offeredMs.get(index) ?? 0) + LOOK_MS;
        owed.offeredMs.set(index, offeredMs);
        if (offeredMs >= this.#repairMs) owed.deliverable.add(index);
      }
    }
  }
}

function eachHeld(member: Member, visit: (index: number) => void): void {
  const inspection = member.driver.inspect();
  if (inspection === undefined) return;
  let left = inspection.heldCount;
  for (let index = inspection.start; left > 0; index++) {
    if (!inspection.held(index)) continue;
    left--;
    visit(index);
  }
}

/** Finds for a node the one that stands for its connected component. */
function components(
  members: readonly Member[],
  links: readonly LinkEnd[],
): (node: NodePort) => NodePort {
  const parent = new Map<NodePort, NodePort>();
  const root = (node: NodePort): NodePort => {
    let at = node;
    for (let up = parent.get(at); up !== undefined && up !== at; up = parent.get(at)) at = up;
    return at;
  };
  for (const { node } of members) parent.set(node, node);
  for (const end of links) {
    if (end.other === undefined) continue;
    parent.set(root(end.node), root(end.other.node));
  }
  return root;
}
