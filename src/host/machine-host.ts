/**
 * The one loop that runs a machine on real clocks, sockets, disks and workers:
 *
 *     input -> handle -> poll until nothing -> route each output -> deadline -> one timer
 *
 * Frames go from the transport's callback straight into the machine in the same turn; no promise,
 * closure or object is made per fragment. Events are handed out after the outputs are drained, so
 * that whoever hears one may give the next command at once.
 */

import { unreachable } from "../base/assert.ts";
import { type ErrorCode, LocalUsageError, OperationError } from "../base/errors.ts";
import type {
  Address,
  Input,
  LinkId,
  Machine,
  Output,
  StoreOperation,
  StoreResult,
} from "../base/machine.ts";
import type { EngineMemory } from "../kernel/engine-memory.ts";
import type { Transport, TransportHandler } from "../transport/transport.ts";
import { type Clock, systemClock } from "./clock.ts";
import type { JobRunner } from "./job-runner.ts";

/** What executes store operations; never rejects. */
export interface StoreExecutor {
  execute(operation: StoreOperation): Promise<StoreResult>;
}

export interface MachineHostOptions<E> {
  readonly transports: readonly Transport[];
  readonly jobs: JobRunner;
  readonly store?: StoreExecutor;
  readonly clock?: Clock;
  /** Stragglers are copied out of it when free segments run low. */
  readonly memory?: EngineMemory;
  readonly onEvent: (event: E) => void;
  /** Our own bug, caught at the outermost edge: the process should report it and end. */
  readonly onCrash: (error: unknown) => void;
}

/** setTimeout's own limit; a longer deadline is looked at again then. */
const TIMER_MS_MAX = 0x7fff_ffff;
/** Free segments below which stragglers are copied out, and how often at most. */
const SEGMENTS_LOW = 4;
const COMPACT_MS = 20;

export class MachineHost<C, E> {
  readonly #machine: Machine<C, E>;
  readonly #options: MachineHostOptions<E>;
  readonly #clock: Clock;
  readonly #transports = new Map<string, Transport>();
  readonly #linkTransports = new Map<LinkId, Transport>();
  /** Inputs that came up while the machine was being drained. */
  readonly #queue: Input<C>[] = [];
  readonly #events: E[] = [];
  #running = false;
  #dispatching = false;
  #closed = false;
  /** What the machine threw where nobody waited for it. */
  #failure: OperationError | undefined;
  #nextLink = 2;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerMs = Number.POSITIVE_INFINITY;
  #compactedMs = 0;

  constructor(machine: Machine<C, E>, options: MachineHostOptions<E>) {
    this.#machine = machine;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    for (const transport of options.transports) {
      this.#transports.set(transport.name, transport);
      transport.attach(this.#handler(transport));
    }
  }

  /**
   * Hands in a command; out-fields are filled when this returns. Throws what the machine throws,
   * LocalUsageError CLOSED after close(), and OperationError INTERNAL with its cause once the machine
   * has crashed.
   */
  command(command: C): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closed) throw new LocalUsageError("CLOSED");
    this.#input({ kind: "command", command });
  }

  /** Stops at once: no input is taken and no timer fires any more. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #handler(transport: Transport): TransportHandler {
    return {
      allocateLinkId: () => {
        const linkId = this.#nextLink;
        this.#nextLink += 2;
        return linkId;
      },
      linkUp: (linkId: LinkId, direction: "inbound" | "outbound", remote: Address) => {
        this.#linkTransports.set(linkId, transport);
        this.#guarded({ kind: "linkUp", linkId, direction, remote });
      },
      linkDown: (linkId: LinkId, code: ErrorCode, detail: string) => {
        this.#linkTransports.delete(linkId);
        this.#guarded({ kind: "linkDown", linkId, code, detail });
      },
      frames: (linkId: LinkId, memory: Uint8Array, ranges: Uint32Array, count: number) => {
        this.#guarded({ kind: "frames", linkId, memory, ranges, count });
      },
      sent: (linkId: LinkId, totalBytes: number) => {
        this.#guarded({ kind: "sent", linkId, totalBytes });
      },
    };
  }

  /** For inputs nobody waits for: what is thrown here is a bug of ours. */
  #guarded(input: Input<C>): void {
    if (this.#closed) return;
    try {
      this.#input(input);
    } catch (error) {
      this.#crash(error);
    }
  }

  #crash(error: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#failure = new OperationError("INTERNAL", { cause: error, detail: String(error) });
    this.#options.onCrash(error);
  }

  #input(input: Input<C>): void {
    if (this.#running) {
      this.#queue.push(input);
      return;
    }
    this.#running = true;
    let failure: { error: unknown } | undefined;
    try {
      failure = this.#handle(input);
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        const later = this.#handle(next);
        if (later !== undefined && failure === undefined) failure = later;
      }
    } finally {
      this.#running = false;
    }
    this.#afterwards();
    if (failure !== undefined) throw failure.error;
  }

  #handle(input: Input<C>): { error: unknown } | undefined {
    let failure: { error: unknown } | undefined;
    try {
      this.#machine.handle(input, this.#clock.now());
    } catch (error) {
      // A refused command: what it had put out before is carried out all the same.
      failure = { error };
    }
    for (let output = this.#machine.poll(); output !== undefined; output = this.#machine.poll()) {
      this.#route(output);
    }
    return failure;
  }

  #route(output: Output<E>): void {
    switch (output.kind) {
      case "transmit":
        this.#linkTransports.get(output.linkId)?.send(output.linkId, output.bytes);
        return;
      case "open":
        this.#open(output.linkId, output.address);
        return;
      case "close":
        this.#linkTransports.get(output.linkId)?.close(output.linkId, output.abort);
        return;
      case "event":
        this.#events.push(output.event);
        return;
      case "job": {
        const { jobId } = output;
        const result = this.#options.jobs.run(output.job);
        if (result instanceof Promise) {
          result.then(
            (late) => this.#guarded({ kind: "jobDone", jobId, result: late }),
            (error: unknown) => this.#crash(error),
          );
        } else {
          this.#queue.push({ kind: "jobDone", jobId, result });
        }
        return;
      }
      case "store": {
        const { opId } = output;
        const { store } = this.#options;
        if (store === undefined) {
          const result = { kind: "error", code: "INTERNAL", detail: "no store" } as const;
          this.#queue.push({ kind: "storeDone", opId, result });
          return;
        }
        store.execute(output.operation).then(
          (result) => this.#guarded({ kind: "storeDone", opId, result }),
          (error: unknown) => this.#crash(error),
        );
        return;
      }
      default:
        unreachable(output);
    }
  }

  #open(linkId: LinkId, address: Address): void {
    const transport = this.#transports.get(address.transport);
    if (transport === undefined) {
      const detail = `no transport for ${address.transport}`;
      this.#queue.push({ kind: "linkDown", linkId, code: "UNREACHABLE", detail });
      return;
    }
    this.#linkTransports.set(linkId, transport);
    transport.open(linkId, address);
  }

  #afterwards(): void {
    const { memory } = this.#options;
    if (memory !== undefined && memory.freeSegments < SEGMENTS_LOW) {
      const nowMs = this.#clock.now().monoMs;
      if (nowMs - this.#compactedMs >= COMPACT_MS) {
        this.#compactedMs = nowMs;
        memory.compact();
      }
    }
    for (const transport of this.#options.transports) transport.resume();
    this.#arm();
    this.#dispatch();
  }

  #dispatch(): void {
    if (this.#dispatching || this.#events.length === 0) return;
    this.#dispatching = true;
    try {
      for (let event = this.#events.shift(); event !== undefined; event = this.#events.shift()) {
        this.#options.onEvent(event);
      }
    } finally {
      this.#dispatching = false;
    }
  }

  /** One timer for the earliest deadline; one that is armed for earlier stays: it is harmless. */
  #arm(): void {
    if (this.#closed) return;
    const deadlineMs = this.#machine.deadlineMs;
    if (deadlineMs >= this.#timerMs) return;
    clearTimeout(this.#timer);
    this.#timerMs = deadlineMs;
    const waitMs = Math.max(0, deadlineMs - this.#clock.now().monoMs);
    this.#wait(waitMs);
  }

  #wait(waitMs: number): void {
    this.#timer = setTimeout(() => this.#fire(), Math.min(TIMER_MS_MAX, Math.ceil(waitMs)));
  }

  #fire(): void {
    // Timers of Node fire up to a millisecond early.
    const leftMs = this.#timerMs - this.#clock.now().monoMs;
    if (leftMs > 0) {
      this.#wait(leftMs);
      return;
    }
    this.#timerMs = Number.POSITIVE_INFINITY;
    this.#guarded({ kind: "timeout" });
  }
}
