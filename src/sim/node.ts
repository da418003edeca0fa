/**
 * One node: a host in miniature. It runs one machine at a time by the machine contract (one input,
 * drain, deadline), with clocks of its own that are off and drift, and survives what happens to a
 * process: it is paused, it crashes, it boots again with a new machine and an empty memory.
 *
 * It never decides anything for its machine. A machine that throws is a violation: bad input may
 * close links, never a process.
 */

import type {
  Address,
  Input,
  JobRequest,
  JobResult,
  LinkId,
  Now,
  Output,
  StoreRequest,
} from "../base/machine.ts";
import type { Rng } from "../base/rng.ts";
import type { Body, LinkEnd, NetPort, NodePort } from "./border.ts";
import { TRACE } from "./trace.ts";
import type { World } from "./world.ts";

export interface ClockFaults {
  /** Monotonic clock at the world's time 0. */
  readonly offsetMs: number;
  /** Parts per million that both clocks run fast. */
  readonly driftPpm: number;
  /** Wall clock less the true one. */
  readonly wallOffsetMs: number;
}

/** True wall clock at the world's time 0: 2026-01-01T00:00:00Z. */
export const WALL_EPOCH_MS = 1_767_225_600_000;
/** So many timeouts in one instant of virtual time: the machine turns in circles. */
const TIMEOUTS_PER_INSTANT_MAX = 1_000;

/** What a node asks of its network. */
export interface NodeNetwork extends NetPort {
  readonly world: World;
  readonly timerRng: Rng;
  open(node: SimNode, linkId: LinkId, address: Address): void;
}

export class SimNode implements NodePort {
  readonly index: number;
  readonly name: string;
  readonly host: string;
  readonly world: World;
  readonly network: NodeNetwork;
  /** Bytes that the node's uplink carries per millisecond, all links together. */
  uplinkBytesPerMs = Number.POSITIVE_INFINITY;
  uplinkFreeMs = 0;
  /** Bytes that reach the node per millisecond, all links together. */
  downlinkBytesPerMs = Number.POSITIVE_INFINITY;
  downlinkFreeMs = 0;
  /** How late this node's timers fire, at most. */
  timerLateMs = 0;
  body: Body | undefined;
  /** Counts boots: what was started before a crash does not reach the machine after it. */
  generation = 0;
  readonly ends = new Map<LinkId, LinkEnd>();
  /** Called with each event of the machine; may call `command`. */
  onEvent: ((event: unknown) => void) | undefined;
  readonly #clock: { offsetMs: number; driftPpm: number; wallOffsetMs: number };
  #pausedUntilMs = 0;
  #backlog: Input<unknown>[] = [];
  #busy = false;
  #armedMs = Number.POSITIVE_INFINITY;
  #armGeneration = 0;
  #nextInboundId = 0;
  readonly #dirty: LinkEnd[] = [];
  #timeoutsAtMs = -1;
  #timeouts = 0;

  constructor(network: NodeNetwork, index: number, name: string, host: string, clock: ClockFaults) {
    this.network = network;
    this.world = network.world;
    this.index = index;
    this.name = name;
    this.host = host;
    this.#clock = { ...clock };
  }

  get alive(): boolean {
    return this.body !== undefined;
  }
  get paused(): boolean {
    return this.world.nowMs < this.#pausedUntilMs;
  }

  boot(body: Body): void {
    if (this.body !== undefined) throw new Error(`${this.name} runs already`);
    this.generation++;
    this.body = body;
    this.#armedMs = Number.POSITIVE_INFINITY;
    this.#armGeneration++;
    this.#nextInboundId = 0;
    this.network.observers.boot(this);
    // A fresh machine may have a deadline before its first input.
    this.#arm();
  }

  /** The process is gone; `silent`: its host as well, so that nobody is told. */
  crash(silent: boolean): void {
    if (this.body === undefined) return;
    this.network.observers.crash(this);
    this.world.trace.event(TRACE.FAULT, this.index, silent ? 1 : 0);
    this.body.disk?.crash();
    this.body = undefined;
    this.generation++;
    this.#backlog = [];
    this.#pausedUntilMs = 0;
    const ends = [...this.ends.values()];
    this.ends.clear();
    for (const end of ends) end.vanish(silent);
  }

  /** As SIGSTOP and SIGCONT: nothing runs, clocks go on, sockets fill. */
  pause(untilMs: number): void {
    if (this.body === undefined || untilMs <= this.#pausedUntilMs) return;
    this.#pausedUntilMs = untilMs;
    const generation = this.generation;
    this.world.at(untilMs, () => {
      if (this.generation === generation && !this.paused) this.#resume();
    });
  }

  jumpWallClock(byMs: number): void {
    this.#clock.wallOffsetMs += byMs;
  }

  now(): Now {
    const monoMs = this.#monoMs(this.world.nowMs);
    const wallMs = WALL_EPOCH_MS + monoMs - this.#clock.offsetMs + this.#clock.wallOffsetMs;
    return { monoMs, wallUs: Math.round(wallMs * 1000) };
  }

  command(command: unknown): void {
    this.input({ kind: "command", command });
  }

  /** Hands in one input, then drains. From within a drain: in an event of its own, at once. */
  input(input: Input<unknown>): void {
    if (this.body === undefined) return;
    if (this.paused) {
      if (input.kind === "frames") throw new Error("frames for a paused node");
      this.#backlog.push(input);
      return;
    }
    if (this.#busy) {
      if (input.kind === "frames") throw new Error("frames from within a drain");
      const generation = this.generation;
      this.world.after(0, () => {
        if (this.generation === generation) this.input(input);
      });
      return;
    }
    this.#traceInput(input);
    if (input.kind !== "frames") this.network.observers.input(this, input);
    this.#step(input, this.now());
  }

  nextInboundId(): LinkId {
    const linkId = this.#nextInboundId;
    this.#nextInboundId += 2;
    return linkId;
  }

  /** An end got something to send during this drain; its bytes leave together at the end of it. */
  markDirty(end: LinkEnd): void {
    this.#dirty.push(end);
  }

  #step(input: Input<unknown>, now: Now): void {
    const body = this.body as Body;
    this.#busy = true;
    try {
      body.machine.handle(input, now);
      for (;;) {
        const output = body.machine.poll();
        if (output === undefined) break;
        this.#output(body, output);
      }
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.world.violate("machine-throws", `${this.name} on ${input.kind}: ${text}`);
      this.#busy = false;
      this.crash(false);
      return;
    }
    this.#busy = false;
    for (const end of this.#dirty) end.flush();
    this.#dirty.length = 0;
    this.network.observers.step(this);
    this.#arm();
  }

  #output(body: Body, output: Output<unknown>): void {
    const trace = this.world.trace;
    switch (output.kind) {
      case "transmit": {
        trace.event(TRACE.TRANSMIT, this.index, output.linkId);
        trace.bytes(output.bytes);
        // A link that went down meanwhile takes nothing; the machine learns of it by linkDown.
        const end = this.ends.get(output.linkId);
        if (end?.accepts === true) {
          this.network.observers.transmit(this, end, output.bytes);
          end.transmit(output.bytes);
        }
        return;
      }
      case "open":
        trace.event(TRACE.OPEN, this.index, output.linkId);
        if (output.linkId % 2 !== 1) throw new Error("an outbound link id must be odd");
        this.network.open(this, output.linkId, output.address);
        return;
      case "close":
        trace.event(TRACE.CLOSE, this.index, output.linkId);
        this.ends.get(output.linkId)?.close(output.abort);
        return;
      case "event":
        trace.event(TRACE.EVENT, this.index, 0);
        this.network.observers.event(this, output.event);
        this.onEvent?.(output.event);
        return;
      case "job":
        this.#job(body, output);
        return;
      case "store":
        this.#store(body, output);
        return;
    }
  }

  #job(body: Body, request: JobRequest): void {
    this.world.trace.event(TRACE.JOB, this.index, request.jobId);
    if (body.jobs === undefined) throw new Error(`${this.name} has nobody to run jobs`);
    const generation = this.generation;
    const done = (result: JobResult): void => {
      if (this.generation === generation) {
        this.input({ kind: "jobDone", jobId: request.jobId, result });
      }
    };
    body.jobs.run(request.job, done, request.jobId);
  }

  #store(body: Body, request: StoreRequest): void {
    this.world.trace.event(TRACE.STORE, this.index, request.opId);
    if (body.disk === undefined) throw new Error(`${this.name} has no disk`);
    const generation = this.generation;
    body.disk.run(request.operation, (result) => {
      if (this.generation === generation) {
        this.input({ kind: "storeDone", opId: request.opId, result });
      }
    });
  }

  #arm(): void {
    const body = this.body;
    if (body === undefined) return;
    const deadlineMs = body.machine.deadlineMs;
    if (deadlineMs === Number.POSITIVE_INFINITY) return;
    if (Number.isNaN(deadlineMs)) throw new Error(`${this.name}: the deadline is not a number`);
    const lateMs = this.timerLateMs * this.network.timerRng.next();
    const atMs = Math.max(this.world.nowMs, this.#worldMs(deadlineMs) + lateMs);
    // An earlier wake-up under way finds the deadline not due and arms again.
    if (this.#armedMs <= atMs) return;
    this.#armedMs = atMs;
    const armGeneration = ++this.#armGeneration;
    this.world.at(atMs, () => {
      if (armGeneration === this.#armGeneration) this.#wake();
    });
  }

  #wake(): void {
    this.#armedMs = Number.POSITIVE_INFINITY;
    const body = this.body;
    // A paused node looks at its deadline when it resumes.
    if (body === undefined || this.paused) return;
    const deadlineMs = body.machine.deadlineMs;
    const now = this.now();
    // The way from one clock to the other and back rounds.
    if (now.monoMs < deadlineMs - 1e-6) {
      this.#arm();
      return;
    }
    this.#countTimeouts();
    if (this.body === undefined) return;
    this.world.trace.event(TRACE.TIMEOUT, this.index, Math.round(this.world.nowMs * 1000));
    this.#step(
      { kind: "timeout" },
      { monoMs: Math.max(now.monoMs, deadlineMs), wallUs: now.wallUs },
    );
  }

  #countTimeouts(): void {
    if (this.#timeoutsAtMs !== this.world.nowMs) {
      this.#timeoutsAtMs = this.world.nowMs;
      this.#timeouts = 0;
    }
    if (++this.#timeouts > TIMEOUTS_PER_INSTANT_MAX) {
      this.world.violate("livelock", `${this.name}: its deadline stays due after every timeout`);
      this.crash(false);
    }
  }

  #resume(): void {
    const backlog = this.#backlog;
    this.#backlog = [];
    const generation = this.generation;
    for (const input of backlog) {
      if (this.generation !== generation) return;
      this.input(input);
    }
    for (const end of [...this.ends.values()]) {
      if (this.generation === generation && !this.paused) end.read();
    }
    if (this.generation === generation) this.#arm();
  }

  #monoMs(worldMs: number): number {
    return worldMs * (1 + this.#clock.driftPpm / 1e6) + this.#clock.offsetMs;
  }

  #worldMs(monoMs: number): number {
    return (monoMs - this.#clock.offsetMs) / (1 + this.#clock.driftPpm / 1e6);
  }

  #traceInput(input: Input<unknown>): void {
    const trace = this.world.trace;
    const atUs = Math.round(this.world.nowMs * 1000);
    switch (input.kind) {
      case "linkUp":
        trace.event(TRACE.LINK_UP, this.index + 4096 * input.linkId, atUs);
        return;
      case "linkDown":
        trace.event(TRACE.LINK_DOWN, this.index + 4096 * input.linkId, atUs);
        return;
      case "frames":
        trace.event(TRACE.FRAMES, this.index + 4096 * input.linkId, atUs);
        trace.event(TRACE.FRAMES, input.count, input.ranges[2 * input.count - 1] ?? 0);
        return;
      case "sent":
        trace.event(TRACE.SENT, this.index + 4096 * input.linkId, input.totalBytes);
        return;
      case "command":
        trace.event(TRACE.COMMAND, this.index, atUs);
        return;
      case "timeout":
        trace.event(TRACE.TIMEOUT, this.index, atUs);
        return;
      case "jobDone":
        trace.event(TRACE.JOB_DONE, this.index, input.jobId);
        return;
      case "storeDone":
        trace.event(TRACE.STORE_DONE, this.index, input.opId);
        return;
    }
  }

  /** The address at which `end`'s node is seen by the other side. */
  ephemeralAddress(transport: Address["transport"], linkId: LinkId): Address {
    return { transport, host: this.host, port: 40_000 + (linkId % 20_000) };
  }
}
