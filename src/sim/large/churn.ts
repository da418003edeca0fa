/** What happens to members and links of a large run while data flow; all of it drawn from the seed. */

import type { Rng } from "../../base/rng.ts";
import type { Network } from "../network.ts";
import type { Member, Swarm } from "../swarm.ts";
import { between, chance, exponentialMs } from "../world.ts";
import type { LargeOptions } from "./options.ts";
import { LEASE_MS, type Roster } from "./roster.ts";
import type { Stream } from "./stream.ts";

/** A process that left stays this long to say so. */
const EXIT_MS = 1_000;
/** Share of crashes that take the host along, so that nobody is told. */
const SILENT_RATE = 0.5;
const MASS_MS = 1_000;
const PARTITION_SHARE_MIN = 0.05;
const PARTITION_SHARE_MAX = 0.3;

export class Churn {
  /** How often each kind happened. */
  readonly hits: Record<string, number> = {};
  readonly #swarm: Swarm;
  readonly #network: Network;
  readonly #options: LargeOptions;
  readonly #stream: Stream;
  readonly #roster: Roster;
  readonly #join: () => void;
  readonly #rng: Rng;

  constructor(
    parts: {
      readonly swarm: Swarm;
      readonly network: Network;
      readonly options: LargeOptions;
      readonly stream: Stream;
      readonly roster: Roster;
    },
    join: () => void,
  ) {
    this.#swarm = parts.swarm;
    this.#network = parts.network;
    this.#options = parts.options;
    this.#stream = parts.stream;
    this.#roster = parts.roster;
    this.#join = join;
    this.#rng = parts.swarm.world.rng("churn");
  }

  /** To be called when data begin to flow, which they do for about `lastsMs`. */
  start(lastsMs: number): void {
    const o = this.#options;
    const members = (): number => this.#present().length;
    const links = (): number => this.#network.links().length;
    this.#repeat(o.churnPerMin, members, () => this.#replace());
    this.#repeat(o.lossPerMin, links, () => this.#onLink("reset"));
    this.#repeat(o.silencePerMin, links, () => this.#onLink("silence"));
    this.#repeat(o.stallsPerMin, links, () => this.#onLink("stall"));
    this.#repeat(
      o.partitionsPerMin,
      () => 1,
      () => this.#partition(),
    );
    const { world } = this.#swarm;
    if (o.massLeave > 0) world.after(lastsMs / 2, () => this.#massLeave());
    if (o.massJoin > 0) world.after(lastsMs / 2, () => this.#massJoin());
  }

  /** `act` so often: `perMin` of what `population` counts at the time. */
  #repeat(perMin: number, population: () => number, act: () => void): void {
    if (perMin <= 0) return;
    const { world } = this.#swarm;
    const next = (): void => {
      const meanMs = 60_000 / (perMin * Math.max(1, population()));
      world.after(exponentialMs(this.#rng, meanMs), () => {
        if (this.#stream.endedMs !== undefined) return;
        act();
        next();
      });
    };
    next();
  }

  #replace(): void {
    const member = this.#pick();
    if (member === undefined) return;
    this.#remove(member);
    this.#join();
  }

  #remove(member: Member): void {
    if (chance(this.#rng, 0.5)) this.#crash(member);
    else this.#leave(member);
  }

  #crash(member: Member): void {
    this.#hit("crash");
    const { world } = this.#swarm;
    this.#swarm.crash(member, chance(this.#rng, SILENT_RATE));
    world.after(LEASE_MS, () => this.#roster.remove(member));
  }

  #leave(member: Member): void {
    this.#hit("leave");
    this.#roster.remove(member);
    this.#swarm.leave(member);
    this.#swarm.world.after(EXIT_MS, () => {
      member.node.crash(false);
      member.driver.stopped();
    });
  }

  #onLink(kind: "reset" | "silence" | "stall"): void {
    const links = this.#network.links();
    const link = links[this.#rng.below(Math.max(1, links.length))];
    if (link === undefined) return;
    this.#hit(kind);
    if (kind === "reset") this.#network.reset(link);
    else if (kind === "silence") this.#network.silence(link);
    else {
      const end = chance(this.#rng, 0.5) ? link : link.other;
      const lastsMs = between(this.#rng, 0, this.#options.stallMsMax);
      if (end !== undefined) end.stalledUntilMs = this.#swarm.world.nowMs + lastsMs;
    }
  }

  #partition(): void {
    this.#hit("partition");
    const share = between(this.#rng, PARTITION_SHARE_MIN, PARTITION_SHARE_MAX);
    const inside = new Set<number>();
    for (const { index } of this.#network.nodes) if (chance(this.#rng, share)) inside.add(index);
    const lastsMs = between(this.#rng, 0, this.#options.partitionMsMax);
    this.#network.partition(inside, this.#swarm.world.nowMs + lastsMs);
  }

  #massLeave(): void {
    const present = this.#present();
    const count = Math.round(this.#options.massLeave * present.length);
    for (let i = 0; i < count; i++) {
      const j = i + this.#rng.below(present.length - i);
      const member = present[j] as Member;
      present[j] = present[i] as Member;
      this.#swarm.world.after(between(this.#rng, 0, MASS_MS), () => {
        if (member.node.alive && !member.excuses.has("left")) this.#remove(member);
      });
    }
  }

  #massJoin(): void {
    for (let i = 0; i < this.#options.massJoin; i++) {
      this.#hit("join");
      this.#swarm.world.after(between(this.#rng, 0, MASS_MS), this.#join);
    }
  }

  #present(): Member[] {
    return this.#swarm.members.filter(
      ({ node, role, excuses }) => role === "peer" && node.alive && !excuses.has("left"),
    );
  }

  #pick(): Member | undefined {
    const present = this.#present();
    return present[this.#rng.below(Math.max(1, present.length))];
  }

  #hit(kind: string): void {
    this.hits[kind] = (this.hits[kind] ?? 0) + 1;
  }
}
