/**
 * Makes faults happen until their time is over, then undoes those that last. Which member or link
 * is hit, and for how long, comes from the seed. What a member suffered longer than its neighbours
 * wait for it is remembered: it may then be told lagging.
 */

import type { Rng } from "../../src/base/rng.ts";
import type { Member, Swarm } from "../../src/sim/swarm.ts";
import { TRACE } from "../../src/sim/trace.ts";
import { between, chance, exponentialMs } from "../../src/sim/world.ts";
import type { FaultOptions } from "./options.ts";

/** Faults that keep somebody from answering for a while. */
const WAITING_FAULTS = new Set(["silence", "stall", "partition", "pause", "crash"]);

export interface FaultActions {
  /** A newcomer joins. */
  join(): void;
  /** A crashed member's process starts again. */
  restart(member: Member): void;
  /** The directory is gone until then. */
  crashServer(untilMs: number): void;
}

export class Faults {
  /** How often each kind hit. */
  readonly hits: Record<string, number> = {};
  /** Whether something happened that makes members wait: they may be told lagging then. */
  disturbed = false;
  readonly #swarm: Swarm;
  readonly #options: FaultOptions;
  readonly #actions: FaultActions;
  readonly #rng: Rng;

  constructor(swarm: Swarm, options: FaultOptions, actions: FaultActions) {
    this.#swarm = swarm;
    this.#options = options;
    this.#actions = actions;
    this.#rng = swarm.world.rng("faults");
  }

  start(): void {
    const { faultMs } = this.#options;
    const o = this.#options;
    this.#repeat("reset", o.resetsPerMinute, () => this.#reset());
    this.#repeat("silence", o.silencesPerMinute, () => this.#silence());
    this.#repeat("stall", o.stallsPerMinute, () => this.#stall());
    this.#repeat("partition", o.partitionsPerMinute, () => this.#partition());
    this.#repeat("pause", o.pausesPerMinute, () => this.#pause());
    this.#repeat("crash", o.crashesPerMinute, () => this.#crash());
    this.#repeat("leave", o.leavesPerMinute, () => this.#leave());
    this.#repeat("join", o.joinsPerMinute, () => this.#join());
    this.#repeat("wallJump", o.wallJumpsPerMinute, () => this.#wallJump());
    this.#repeat("serverCrash", o.serverCrashesPerMinute, () => this.#crashServer());
    this.#swarm.world.at(faultMs, () => this.#heal());
  }

  #repeat(kind: string, perMinute: number, act: () => boolean): void {
    if (perMinute === 0) return;
    const world = this.#swarm.world;
    const next = (): void => {
      const atMs = world.nowMs + exponentialMs(this.#rng, 60_000 / perMinute);
      if (atMs >= this.#options.faultMs) return;
      world.at(atMs, () => {
        if (act()) {
          this.hits[kind] = (this.hits[kind] ?? 0) + 1;
          if (WAITING_FAULTS.has(kind)) this.disturbed = true;
          world.trace.event(TRACE.FAULT, kind.length, Math.round(world.nowMs * 1000));
          world.log?.(`${world.nowMs.toFixed(3)} fault ${kind}`);
        }
        next();
      });
    };
    next();
  }

  #reset(): boolean {
    const links = this.#swarm.network.links();
    const link = links[this.#rng.below(Math.max(1, links.length))];
    if (link !== undefined) this.#swarm.network.reset(link);
    return link !== undefined;
  }

  #silence(): boolean {
    const links = this.#swarm.network.links();
    const link = links[this.#rng.below(Math.max(1, links.length))];
    if (link !== undefined) this.#swarm.network.silence(link);
    return link !== undefined;
  }

  #stall(): boolean {
    const links = this.#swarm.network.links();
    const link = links[this.#rng.below(Math.max(1, links.length))];
    const end = chance(this.#rng, 0.5) ? link : link?.other;
    if (end === undefined) return false;
    end.stalledUntilMs = Math.max(end.stalledUntilMs, this.#until(this.#options.stallMsMax));
    return true;
  }

  /** One group against the rest, both ways or one. */
  #partition(): boolean {
    const network = this.#swarm.network;
    const untilMs = this.#until(this.#options.partitionMsMax);
    const share = between(this.#rng, 0.05, 0.5);
    const symmetric = chance(this.#rng, 0.5);
    const inside = network.nodes.map(() => chance(this.#rng, share));
    for (const from of network.nodes) {
      for (const to of network.nodes) {
        if (inside[from.index] === inside[to.index]) continue;
        if (symmetric || inside[from.index] === true) network.block(from, to, untilMs);
      }
    }
    return true;
  }

  #pause(): boolean {
    const member = this.#pick(true);
    if (member === undefined) return false;
    member.node.pause(this.#until(this.#options.pauseMsMax));
    return true;
  }

  #crash(): boolean {
    const member = this.#pick(false);
    if (member === undefined) return false;
    const silent = chance(this.#rng, this.#options.silentCrashRate);
    const restarts = chance(this.#rng, this.#options.restartRate);
    const afterMs = between(this.#rng, 100, 10_000);
    this.#swarm.crash(member, silent);
    if (restarts) this.#swarm.world.after(afterMs, () => this.#actions.restart(member));
    return true;
  }

  #leave(): boolean {
    const member = this.#pick(false);
    if (member === undefined) return false;
    this.#swarm.leave(member);
    return true;
  }

  #join(): boolean {
    // Nobody joins what is over.
    if (this.#swarm.source.ended) return false;
    this.#actions.join();
    return true;
  }

  #wallJump(): boolean {
    const member = this.#pick(true);
    if (member === undefined) return false;
    const { wallJumpMsMax } = this.#options;
    member.node.jumpWallClock(between(this.#rng, -wallJumpMsMax, wallJumpMsMax));
    return true;
  }

  #crashServer(): boolean {
    this.#actions.crashServer(this.#until(this.#options.serverDownMsMax));
    return true;
  }

  #heal(): void {
    const network = this.#swarm.network;
    network.options = { ...network.options, refuseRate: 0 };
    for (const member of this.#swarm.members) {
      const { driver } = member;
      if (Number.isFinite(driver.consumerPauseMs)) driver.consumerPauseMs = 0;
    }
  }

  /** Lasting faults end when the time of faults does. */
  #until(lastsMsMax: number): number {
    const world = this.#swarm.world;
    return Math.min(this.#options.faultMs, world.nowMs + between(this.#rng, 0, lastsMsMax));
  }

  /** A member that runs and stays: the source only if `source`, at least two peers always. */
  #pick(source: boolean): Member | undefined {
    const present = this.#swarm.members.filter(
      ({ node, role, excuses }) =>
        node.alive && !excuses.has("left") && (source || role === "peer"),
    );
    if (!source && present.length <= 2) return undefined;
    return present[this.#rng.below(Math.max(1, present.length))];
  }
}
