/**
 * The network: who listens where, how good each path is, and what is broken at the moment. Paths
 * are drawn once per pair of nodes; partitions block one direction or both until they heal.
 */

import type { Address, LinkId } from "../base/machine.ts";
import type { Rng } from "../base/rng.ts";
import {
  type EndFactory,
  type LinkEnd,
  type NodePort,
  Observers,
  type PathQuality,
} from "./border.ts";
import { type ClockFaults, type NodeNetwork, SimNode } from "./node.ts";
import { between, betweenLog, chance, type World } from "./world.ts";

export interface NetworkOptions {
  /** Each pair of nodes draws its latency between these, log-uniform. */
  readonly latencyMsMin: number;
  readonly latencyMsMax: number;
  readonly jitterMsMax: number;
  /** Each path draws its bandwidth between these, log-uniform. */
  readonly bytesPerMsMin: number;
  readonly bytesPerMsMax: number;
  readonly windowBytesMin: number;
  readonly windowBytesMax: number;
  readonly readBytesMax: number;
  /** Share of paths on which reads crumble, and of their reads that do. */
  readonly crumblePathRate: number;
  readonly crumbleRate: number;
  /** Share of connects that are refused though somebody listens. */
  readonly refuseRate: number;
}

export const CALM_NETWORK: NetworkOptions = {
  latencyMsMin: 1,
  latencyMsMax: 5,
  jitterMsMax: 0,
  bytesPerMsMin: 100_000,
  bytesPerMsMax: 100_001,
  windowBytesMin: 256 * 1024,
  windowBytesMax: 256 * 1024 + 1,
  readBytesMax: 65_536,
  crumblePathRate: 0,
  crumbleRate: 0,
  refuseRate: 0,
};

/** A connect to a place that does not answer fails after this. */
const CONNECT_TIMEOUT_MS = 5_000;
/** Unacknowledged bytes on a silent link end it after this (retransmission gives up). */
const SILENT_TIMEOUT_MS_MIN = 40_000;
const SILENT_TIMEOUT_MS_MAX = 120_000;

export class Network implements NodeNetwork {
  readonly world: World;
  readonly observers = new Observers();
  readonly pathRng: Rng;
  readonly pieceRng: Rng;
  readonly timerRng: Rng;
  readonly nodes: SimNode[] = [];
  options: NetworkOptions;
  readonly #makeEnd: EndFactory;
  readonly #listeners = new Map<string, SimNode>();
  #partitions: { readonly inside: ReadonlySet<number>; readonly untilMs: number }[] = [];
  readonly #blocked = new Map<number, number>();
  readonly #latencyMs = new Map<number, number>();

  constructor(world: World, options: NetworkOptions, makeEnd: EndFactory) {
    this.world = world;
    this.options = options;
    this.#makeEnd = makeEnd;
    this.pathRng = world.rng("paths");
    this.pieceRng = world.rng("pieces");
    this.timerRng = world.rng("timers");
  }

  addNode(name: string, clock?: Partial<ClockFaults>): SimNode {
    const index = this.nodes.length;
    const host = `10.0.${index >> 8}.${index & 255}`;
    const node = new SimNode(this, index, name, host, {
      offsetMs: clock?.offsetMs ?? 0,
      driftPpm: clock?.driftPpm ?? 0,
      wallOffsetMs: clock?.wallOffsetMs ?? 0,
    });
    this.nodes.push(node);
    return node;
  }

  /** Whoever runs on `node` answers there while it is alive. */
  listen(node: SimNode, transport: Address["transport"], port: number): Address {
    this.#listeners.set(`${transport} ${node.host} ${port}`, node);
    return { transport, host: node.host, port };
  }

  unlisten(address: Address): void {
    this.#listeners.delete(`${address.transport} ${address.host} ${address.port}`);
  }

  open(node: SimNode, linkId: LinkId, address: Address): void {
    if (node.ends.has(linkId)) throw new Error(`${node.name}: link id ${linkId} is in use`);
    const target = this.#listeners.get(`${address.transport} ${address.host} ${address.port}`);
    const path = this.#drawPath(node, target);
    const mode = address.transport === "ws" ? "message" : "stream";
    const end = this.#makeEnd(node, linkId, { mode, path, remote: address, outbound: true });
    node.ends.set(linkId, end);
    const refused = chance(this.pathRng, this.options.refuseRate);
    this.world.after(path.latencyMs, () => {
      if (!end.accepts || !end.current) return;
      if (target === undefined || refused) {
        this.world.after(path.latencyMs, () => end.break("UNREACHABLE", "connection refused"));
      } else if (this.#reaches(node, target)) this.#establish(end, target);
      else this.world.after(CONNECT_TIMEOUT_MS, () => this.#retry(end, target));
    });
  }

  /** Blocks what `from` sends to `to` until then. */
  block(from: NodePort, to: NodePort, untilMs: number): void {
    const key = from.index * 65_536 + to.index;
    this.#blocked.set(key, Math.max(this.#blocked.get(key) ?? 0, untilMs));
  }

  blockedUntilMs(from: NodePort, to: NodePort): number {
    let untilMs = 0;
    for (const partition of this.#partitions) {
      const parted = partition.inside.has(from.index) !== partition.inside.has(to.index);
      if (parted && partition.untilMs > untilMs) untilMs = partition.untilMs;
    }
    if (this.#blocked.size === 0) return untilMs;
    return Math.max(untilMs, this.#blocked.get(from.index * 65_536 + to.index) ?? 0);
  }

  /** Cuts the nodes with these indices off from all others until then, both ways. */
  partition(inside: ReadonlySet<number>, untilMs: number): void {
    this.#partitions.push({ inside, untilMs });
    this.world.at(untilMs, () => {
      this.#partitions = this.#partitions.filter((partition) => partition.untilMs > untilMs);
    });
  }

  healAll(): void {
    this.#blocked.clear();
    this.#partitions = [];
  }

  /** Every established link once, by its outbound end. */
  links(): LinkEnd[] {
    const found: LinkEnd[] = [];
    for (const node of this.nodes) {
      for (const end of node.ends.values()) {
        if (end.outbound && end.isOpen && end.other !== undefined) found.push(end);
      }
    }
    return found;
  }

  /** Breaks a link as a reset in the middle of the network does. */
  reset(end: LinkEnd): void {
    end.break("LINK_RESET", "reset on the way");
    end.other?.break("LINK_RESET", "reset on the way");
  }

  /** From now on nothing passes and nobody is told. */
  silence(end: LinkEnd): void {
    end.silent = true;
    this.timeOutSilent(end);
    if (end.other === undefined) return;
    end.other.silent = true;
    this.timeOutSilent(end.other);
  }

  /** The other side of `end` is gone without a word: the kernel finds out late. */
  timeOutSilent(end: LinkEnd): void {
    this.world.after(between(this.pathRng, SILENT_TIMEOUT_MS_MIN, SILENT_TIMEOUT_MS_MAX), () =>
      end.break("LINK_RESET", "retransmissions unanswered"),
    );
  }

  #retry(end: LinkEnd, target: SimNode): void {
    if (!end.accepts || !end.current) return;
    if (this.#reaches(end.node, target) && target.alive) this.#establish(end, target);
    else end.break("UNREACHABLE", "connect timed out");
  }

  /** A host that is down answers nothing, one that runs another process refuses. */
  #reaches(from: NodePort, to: NodePort): boolean {
    const nowMs = this.world.nowMs;
    return this.blockedUntilMs(from, to) <= nowMs && this.blockedUntilMs(to, from) <= nowMs;
  }

  #establish(end: LinkEnd, target: SimNode): void {
    const { node, path } = end;
    if (!target.alive) {
      this.world.after(path.latencyMs, () => end.break("UNREACHABLE", "connection refused"));
      return;
    }
    const linkId = target.nextInboundId();
    const remote = node.ephemeralAddress(end.remote.transport, end.linkId);
    const back = this.#makeEnd(target, linkId, { mode: end.mode, path, remote, outbound: false });
    target.ends.set(linkId, back);
    end.other = back;
    back.other = end;
    const upMs = this.world.nowMs + path.latencyMs;
    this.world.at(upMs, () => end.up(upMs));
    back.up(upMs);
  }

  #drawPath(node: SimNode, target: SimNode | undefined): PathQuality {
    const { options, pathRng: rng } = this;
    const low = Math.min(node.index, target?.index ?? 65_535);
    const high = Math.max(node.index, target?.index ?? 65_535);
    const pair = low * 65_536 + high;
    let latencyMs = this.#latencyMs.get(pair);
    if (latencyMs === undefined) {
      latencyMs = betweenLog(rng, options.latencyMsMin, options.latencyMsMax) / 2;
      this.#latencyMs.set(pair, latencyMs);
    }
    return {
      latencyMs,
      jitterMs: options.jitterMsMax * rng.next(),
      bytesPerMs: betweenLog(rng, options.bytesPerMsMin, options.bytesPerMsMax),
      windowBytes: Math.round(betweenLog(rng, options.windowBytesMin, options.windowBytesMax)),
      readBytesMax: Math.round(betweenLog(rng, 64, options.readBytesMax)),
      crumbleRate: chance(rng, options.crumblePathRate) ? options.crumbleRate : 0,
    };
  }
}
