/**
 * A swarm: members (one source, many peers) on simulated nodes, and what checkers are told of them.
 * What a member runs is its driver's business: the real peer machine or a toy. Checkers see frames,
 * deliveries and inspections, never the machine.
 */

import type { Body, NodePort, Observer } from "./border.ts";
import type { Network } from "./network.ts";
import type { SimNode } from "./node.ts";
import { TRACE } from "./trace.ts";
import type { World } from "./world.ts";

export type Role = "source" | "peer";

/** What a machine shows of itself between two inputs. */
export interface Inspection {
  /** Whether fragment `index` is verified and in the window now. */
  held(index: number): boolean;
  /** Lowest index still held or wanted. */
  readonly start: number;
  /** First index there is no room for. */
  readonly limit: number;
  readonly heldCount: number;
  readonly heldBytes: number;
  /** Limits of this node. */
  readonly windowFragments: number;
  readonly windowBytes: number;
  readonly linkQueueBytesMax: number;
}

/** What a node believes of one link of its. */
export interface LinkBelief {
  readonly linkId: number;
  /** It takes DATA below this, by what it told; the other end does, by what that told. */
  readonly granted: number;
  readonly credit: number;
  /** Whether fragment `index` was sent over it, or is not to be. */
  sent(index: number): boolean;
  /** Whether the other end says that it holds fragment `index`. */
  advertised(index: number): boolean;
}

/** Of all its links, for fragments of [origin, mapEnd); from `to` on none of them was ever named. */
export interface Beliefs {
  readonly origin: number;
  readonly mapEnd: number;
  readonly to: number;
  /** Whether it has chosen where it starts. */
  readonly started: boolean;
  readonly links: readonly LinkBelief[];
}

export interface GapSeen {
  readonly kind: "fragments" | "data";
  readonly sourceId: string | undefined;
  readonly from: number;
  readonly to: number;
}

/** Runs one member: makes its machine, feeds it, consumes from it, reports to the swarm. */
export interface Driver {
  /** A machine for a fresh process. */
  body(): Body;
  /** The process runs: first commands. */
  started(): void;
  event(event: unknown): void;
  /** The process is gone. */
  stopped(): void;
  inspect(): Inspection | undefined;
  /** Recomputes what the machine derives; throws when it differs. */
  checkInvariants?(): void;
  beliefs?(): Beliefs | undefined;
  /** The run is over, or the process: its machine is looked at a last time. */
  finished?(): void;
  /** Leaves the overlay, announced. */
  leave(): void;
  /** Pause after each helping the consumer takes, 0 = none; Infinity: takes nothing. */
  consumerPauseMs: number;
}

/** Why a member need not get everything. */
export type Excuse = "crashed" | "left" | "stuck" | "lagging" | "late";

export class Member {
  readonly name: string;
  readonly role: Role;
  readonly node: SimNode;
  driver!: Driver;
  readonly joinedMs: number;
  /** Took part from before the first datum. */
  fromStart: boolean;
  readonly excuses = new Set<Excuse>();
  started = false;
  ended = false;

  constructor(node: SimNode, role: Role, joinedMs: number, fromStart: boolean) {
    this.node = node;
    this.name = node.name;
    this.role = role;
    this.joinedMs = joinedMs;
    this.fromStart = fromStart;
  }

  /** Present and owed all data from its start on. */
  get inGoodStanding(): boolean {
    return this.role === "peer" && this.node.alive && this.excuses.size === 0;
  }
}

export interface SwarmObserver extends Observer {
  onDatum?(member: Member, sourceId: string, sequence: number, payload: Uint8Array): void;
  onGap?(member: Member, gap: GapSeen): void;
  /** A member starts at fragment `index`. */
  onStarted?(member: Member, index: number): void;
  onEnded?(member: Member): void;
  /** `by` says that `member` is lagging. */
  onLagging?(by: Member, member: Member): void;
}

export class Swarm {
  readonly world: World;
  readonly network: Network;
  readonly members: Member[] = [];
  /** When a data source last wrote. */
  lastWriteMs = 0;
  /** Puts something between a machine and its node: planted bugs. */
  wrap: ((member: Member, machine: Body["machine"]) => Body["machine"]) | undefined;
  readonly #byNode = new Map<NodePort, Member>();
  readonly #observers: SwarmObserver[] = [];

  constructor(network: Network) {
    this.network = network;
    this.world = network.world;
  }

  observe(observer: SwarmObserver): void {
    this.#observers.push(observer);
    this.network.observers.add(observer);
  }

  add(
    node: SimNode,
    role: Role,
    fromStart: boolean,
    makeDriver: (member: Member) => Driver,
  ): Member {
    const member = new Member(node, role, this.world.nowMs, fromStart);
    member.driver = makeDriver(member);
    this.members.push(member);
    this.#byNode.set(node, member);
    node.onEvent = (event) => member.driver.event(event);
    this.boot(member);
    return member;
  }

  boot(member: Member): void {
    member.started = false;
    member.ended = false;
    // Nobody waits for a newcomer when all is over.
    if (member !== this.source && this.source.ended) member.excuses.add("late");
    const body = member.driver.body();
    const machine = this.wrap?.(member, body.machine) ?? body.machine;
    member.node.boot({ ...body, machine });
    member.driver.started();
  }

  crash(member: Member, silent: boolean): void {
    member.excuses.add("crashed");
    member.node.crash(silent);
    member.driver.stopped();
  }

  leave(member: Member): void {
    member.excuses.add("left");
    member.driver.leave();
  }

  memberOf(node: NodePort): Member | undefined {
    return this.#byNode.get(node);
  }

  get source(): Member {
    return this.members[0] as Member;
  }

  datum(member: Member, sourceId: string, sequence: number, payload: Uint8Array): void {
    this.world.trace.event(TRACE.DELIVERED, member.node.index, sequence);
    for (const observer of this.#observers) observer.onDatum?.(member, sourceId, sequence, payload);
  }
  gap(member: Member, gap: GapSeen): void {
    for (const observer of this.#observers) observer.onGap?.(member, gap);
  }
  memberStarted(member: Member, index: number): void {
    member.started = true;
    for (const observer of this.#observers) observer.onStarted?.(member, index);
  }
  memberEnded(member: Member): void {
    member.ended = true;
    if (member === this.source) this.#sourceEnded();
    for (const observer of this.#observers) observer.onEnded?.(member);
  }
  /** Who had not begun by then finds nobody who waits for it. */
  #sourceEnded(): void {
    for (const { role, started, excuses } of this.members) {
      if (role === "peer" && !started) excuses.add("late");
    }
  }
  lagging(by: Member, member: Member): void {
    member.excuses.add("lagging");
    for (const observer of this.#observers) observer.onLagging?.(by, member);
  }
}
