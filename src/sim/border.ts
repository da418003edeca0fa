/**
 * What nodes, links and the network are to each other, and what the harness tells its checkers.
 *
 * A `LinkEnd` is one end of a link, as a socket sees it (socket-end.ts). There are two models of it:
 * `FrameEnd` carries whole frames by reference and shares out the capacity of nodes (thousands of
 * peers); the one of the small swarms cuts bytes anywhere, as TCP does.
 *
 * An observer sees everything that crosses the border of a machine and changes nothing. Bytes and
 * ranges are valid during the call only.
 */

import type { ErrorCode } from "../base/errors.ts";
import type {
  Address,
  Input,
  Job,
  JobResult,
  LinkId,
  Machine,
  StoreOperation,
  StoreResult,
} from "../base/machine.ts";
import type { ReceiveArena } from "../base/receive-arena.ts";
import type { Rng } from "../base/rng.ts";
import type { World } from "./world.ts";

/** Runs a node's jobs; what it does after a crash reaches nobody. */
export interface JobPort {
  run(job: Job, done: (result: JobResult) => void, jobId: number): void;
}

/** A node's disk: it outlives the process. */
export interface DiskPort {
  run(operation: StoreOperation, done: (result: StoreResult) => void): void;
  crash(): void;
}

/** What a boot brings: the machine and the memory its links land in. */
export interface Body {
  readonly machine: Machine<unknown, unknown>;
  /** Absent: the node has message links only. */
  readonly arena?: ReceiveArena;
  readonly jobs?: JobPort;
  readonly disk?: DiskPort;
}

/** What links and checkers ask of a node. */
export interface NodePort {
  readonly index: number;
  readonly name: string;
  readonly host: string;
  readonly world: World;
  readonly network: NetPort;
  readonly body: Body | undefined;
  readonly alive: boolean;
  readonly paused: boolean;
  /** Counts boots: what was started before a crash does not reach the machine after it. */
  readonly generation: number;
  /** Bytes that the node's uplink carries per millisecond, all links together. */
  readonly uplinkBytesPerMs: number;
  uplinkFreeMs: number;
  /** Bytes that reach the node per millisecond, all links together. */
  readonly downlinkBytesPerMs: number;
  downlinkFreeMs: number;
  readonly ends: Map<LinkId, LinkEnd>;
  input(input: Input<unknown>): void;
  /** The address at which the node is seen by the other side of its link. */
  ephemeralAddress(transport: Address["transport"], linkId: LinkId): Address;
  /** An end got something to send during this drain; flush() comes at the end of it. */
  markDirty(end: LinkEnd): void;
}

/** What links ask of the network. */
export interface NetPort {
  readonly observers: Observers;
  readonly pathRng: Rng;
  readonly pieceRng: Rng;
  blockedUntilMs(from: NodePort, to: NodePort): number;
  /** The other side of `end` is gone without a word: the kernel finds out late. */
  timeOutSilent(end: LinkEnd): void;
}

export interface PathQuality {
  readonly latencyMs: number;
  /** Added per burst, uniform from 0. */
  readonly jitterMs: number;
  readonly bytesPerMs: number;
  /** Bytes taken by the network and not read by the other side, at most. */
  readonly windowBytes: number;
  /** A read brings at most this much. */
  readonly readBytesMax: number;
  /** Share of reads that bring 1 to 32 bytes only. */
  readonly crumbleRate: number;
}

export type LinkMode = "stream" | "message";

export interface EndOptions {
  readonly mode: LinkMode;
  readonly path: PathQuality;
  readonly remote: Address;
  readonly outbound: boolean;
}

/** Makes the end of a link at `node`. */
export type EndFactory = (node: NodePort, linkId: LinkId, options: EndOptions) => LinkEnd;

export interface LinkEnd extends EndOptions {
  readonly node: NodePort;
  readonly linkId: LinkId;
  other: LinkEnd | undefined;
  /** Nothing passes either way any more and nobody is told. */
  silent: boolean;
  /** What this end sends is held back until then. */
  stalledUntilMs: number;
  readonly accepts: boolean;
  readonly isOpen: boolean;
  /** Bytes transmitted and not yet taken by the network. */
  readonly queuedBytes: number;
  /** Whether this end belongs to the process that runs on its node now. */
  readonly current: boolean;
  /** The link is up; the machine is told. `notBeforeMs`: nothing of it may arrive earlier. */
  up(notBeforeMs: number): void;
  transmit(bytes: Uint8Array): void;
  /** Close by this end's machine. */
  close(abort: boolean): void;
  /** The link breaks: this end is told with `code`. What it had queued is lost. */
  break(code: ErrorCode, detail: string): void;
  /** The process of this end is gone. */
  vanish(silent: boolean): void;
  /** Sends what there is room for; called once a drain for an end that got something. */
  flush(): void;
  /** Reads what has arrived. */
  read(): void;
}

export interface Observer {
  /** A node handed bytes (whole frames) to one link. */
  onTransmit?(node: NodePort, end: LinkEnd, bytes: Uint8Array): void;
  /** Frames are about to be handed to a node: `count` pairs (offset, bytes) into `memory`. */
  onFrames?(
    node: NodePort,
    end: LinkEnd,
    memory: Uint8Array,
    ranges: Uint32Array,
    count: number,
  ): void;
  /** An input other than frames is about to be handed to a node. */
  onInput?(node: NodePort, input: Input<unknown>): void;
  /** A node's machine emitted an event. */
  onEvent?(node: NodePort, event: unknown): void;
  /** A node handled one input and its outputs are drained. */
  onStep?(node: NodePort): void;
  onLinkUp?(node: NodePort, end: LinkEnd): void;
  onLinkDown?(node: NodePort, end: LinkEnd): void;
  onBoot?(node: NodePort): void;
  onCrash?(node: NodePort): void;
  /** The run is over. */
  onEnd?(): void;
}

/** Calls each observer that listens; a list per call keeps the hot calls short. */
export class Observers {
  readonly #all: Observer[] = [];
  readonly #transmit: Observer[] = [];
  readonly #frames: Observer[] = [];
  readonly #input: Observer[] = [];
  readonly #event: Observer[] = [];
  readonly #step: Observer[] = [];

  add(observer: Observer): void {
    this.#all.push(observer);
    if (observer.onTransmit !== undefined) this.#transmit.push(observer);
    if (observer.onFrames !== undefined) this.#frames.push(observer);
    if (observer.onInput !== undefined) this.#input.push(observer);
    if (observer.onEvent !== undefined) this.#event.push(observer);
    if (observer.onStep !== undefined) this.#step.push(observer);
  }

  transmit(node: NodePort, end: LinkEnd, bytes: Uint8Array): void {
    for (const observer of this.#transmit) observer.onTransmit?.(node, end, bytes);
  }
  frames(
    node: NodePort,
    end: LinkEnd,
    memory: Uint8Array,
    ranges: Uint32Array,
    count: number,
  ): void {
    for (const observer of this.#frames) observer.onFrames?.(node, end, memory, ranges, count);
  }
  input(node: NodePort, input: Input<unknown>): void {
    for (const observer of this.#input) observer.onInput?.(node, input);
  }
  event(node: NodePort, event: unknown): void {
    for (const observer of this.#event) observer.onEvent?.(node, event);
  }
  step(node: NodePort): void {
    for (const observer of this.#step) observer.onStep?.(node);
  }
  linkUp(node: NodePort, end: LinkEnd): void {
    for (const observer of this.#all) observer.onLinkUp?.(node, end);
  }
  linkDown(node: NodePort, end: LinkEnd): void {
    for (const observer of this.#all) observer.onLinkDown?.(node, end);
  }
  boot(node: NodePort): void {
    for (const observer of this.#all) observer.onBoot?.(node);
  }
  crash(node: NodePort): void {
    for (const observer of this.#all) observer.onCrash?.(node);
  }
  end(): void {
    for (const observer of this.#all) observer.onEnd?.();
  }
}
