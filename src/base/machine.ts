/**
 * The machine: the one contract of everything that decides in this project (DESIGN: peer and every
 * server). A machine is pure state. It has no clock, timer, socket, disk or promise of its own;
 * its host hands it inputs with the time, drains its outputs, then asks when to call again.
 *
 *     handle(input, now)   exactly one input
 *     poll() ... poll()    until undefined: what to do about it
 *     deadlineMs           when to hand in { kind: "timeout" } at the latest
 *
 * The order is asserted: an input before the outputs of the last one were drained, or a deadline
 * asked for too early, is a bug of the host.
 */

import { assert } from "./assert.ts";
import type { ErrorCode } from "./errors.ts";

export interface Now {
  /** Monotonic milliseconds (fractions allowed); deadlines use this only. */
  readonly monoMs: number;
  /** Wall clock in microseconds; stamps data and checks signed not-after times, nothing else. */
  readonly wallUs: number;
}

/** Names one link of one machine. Inbound: even, given by the host. Outbound: odd, by the machine. */
export type LinkId = number;

export type Transport = "tcp" | "ws" | "memory";

/** Where a peer or server can be reached. `host` may be an IPv6 literal, without brackets. */
export interface Address {
  readonly transport: Transport;
  readonly host: string;
  readonly port: number;
}

/** `tcp://127.0.0.1:7900`, `ws://[::1]:7900`. */
export function formatAddress(address: Address): string {
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  return `${address.transport}://${host}:${address.port}`;
}

/** Undefined when `text` is not an address. */
export function parseAddress(text: string): Address | undefined {
  const match =
    /^(tcp|ws|memory):\/\/(?:\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|([^[\]:/]+)):(\d{1,5})\/?$/.exec(
      text,
    );
  if (match === null) return undefined;
  const port = Number(match[4]);
  const host = match[2] ?? match[3];
  if (host === undefined || port > 65535) return undefined;
  return { transport: match[1] as Transport, host, port };
}

// ---------------------------------------------------------------------------------------- inputs

export interface LinkUp {
  readonly kind: "linkUp";
  readonly linkId: LinkId;
  readonly direction: "inbound" | "outbound";
  /** The other end as the socket sees it. */
  readonly remote: Address;
}

export interface LinkDown {
  readonly kind: "linkDown";
  readonly linkId: LinkId;
  /** LINK_CLOSED, LINK_RESET, UNREACHABLE, LINK_HALF_OPEN, FRAME_TOO_LARGE, FRAME_MALFORMED ... */
  readonly code: ErrorCode;
  readonly detail: string;
}

/**
 * Whole frames that arrived on one link, in order. `memory` and `ranges` are the host's and valid
 * until handle() returns; a machine that keeps a frame copies it or, where `memory` is the engine's
 * memory, retains its range in the arena.
 */
export interface Frames {
  readonly kind: "frames";
  readonly linkId: LinkId;
  readonly memory: Uint8Array;
  /** `count` pairs (offset into memory, bytes), each a whole frame with its header. */
  readonly ranges: Uint32Array;
  readonly count: number;
}

/** Of all that was transmitted on this link, `totalBytes` have left this process's queues so far. */
export interface Sent {
  readonly kind: "sent";
  readonly linkId: LinkId;
  readonly totalBytes: number;
}

export interface Command<C> {
  readonly kind: "command";
  readonly command: C;
}

export interface Timeout {
  readonly kind: "timeout";
}

export interface JobDone {
  readonly kind: "jobDone";
  readonly jobId: number;
  readonly result: JobResult;
}

export interface StoreDone {
  readonly kind: "storeDone";
  readonly opId: number;
  readonly result: StoreResult;
}

export type Input<C> =
  | LinkUp
  | LinkDown
  | Frames
  | Sent
  | Command<C>
  | Timeout
  | JobDone
  | StoreDone;

// --------------------------------------------------------------------------------------- outputs

/**
 * Bytes for one link: whole frames. Views of the engine's memory stay untouched until `sent` covers
 * them or the link is down; other bytes belong to the host from here on.
 */
export interface Transmit {
  readonly kind: "transmit";
  readonly linkId: LinkId;
  readonly bytes: Uint8Array;
}

export interface Open {
  readonly kind: "open";
  readonly linkId: LinkId;
  readonly address: Address;
}

/** Close after what was transmitted before has left; `abort` drops it. */
export interface Close {
  readonly kind: "close";
  readonly linkId: LinkId;
  readonly abort: boolean;
}

export interface Event<E> {
  readonly kind: "event";
  readonly event: E;
}

export interface JobRequest {
  readonly kind: "job";
  readonly jobId: number;
  readonly job: Job;
}

export interface StoreRequest {
  readonly kind: "store";
  readonly opId: number;
  readonly operation: StoreOperation;
}

export type Output<E> = Transmit | Open | Close | Event<E> | JobRequest | StoreRequest;

// ------------------------------------------------------------------------------------------ jobs

/**
 * Work that costs too much to do between two frames, or needs a key that no machine sees. The host
 * runs it inline, in a worker or (simulator) after a drawn delay; results come in any order.
 */
export type Job =
  /** Ed25519 over `bytes` with this node's own key. */
  | { readonly kind: "sign"; readonly bytes: Uint8Array }
  /** Ed25519 check. */
  | {
      readonly kind: "verifySignature";
      readonly publicKey: Uint8Array;
      readonly bytes: Uint8Array;
      readonly signature: Uint8Array;
    }
  /** Fills in the checksum of DATA frames lying in the engine's memory: pairs (offset, bytes). */
  | { readonly kind: "checksumFragments"; readonly ranges: Uint32Array }
  /** Checks the checksum of DATA frames lying in the engine's memory: pairs (offset, bytes). */
  | { readonly kind: "verifyFragments"; readonly ranges: Uint32Array };

export type JobResult =
  | { readonly kind: "sign"; readonly signature: Uint8Array }
  | { readonly kind: "verifySignature"; readonly valid: boolean }
  | { readonly kind: "checksumFragments" }
  /** One byte a fragment, 1 = good; the machine's for good. */
  | { readonly kind: "verifyFragments"; readonly good: Uint8Array }
  | { readonly kind: "error"; readonly code: ErrorCode; readonly detail: string };

// ----------------------------------------------------------------------------------------- store

/** One key and its value as of some revision. Keys are non-empty text, ordered by code unit. */
export interface StoreRecord {
  readonly key: string;
  readonly value: Uint8Array;
  /** Revision of the transaction that wrote it last; revisions rise over the whole store. */
  readonly revision: number;
}

export type StoreOperation =
  | { readonly kind: "read"; readonly key: string }
  /** Records with `from` <= key < `to` in key order, at most `limit`. */
  | { readonly kind: "range"; readonly from: string; readonly to: string; readonly limit: number }
  /**
   * All writes or none. Each condition: the key's present revision is exactly this (0 = absent).
   * Done means flushed to disk.
   */
  | {
      readonly kind: "transaction";
      readonly conditions: readonly { readonly key: string; readonly revision: number }[];
      /** `value` undefined removes the key. */
      readonly writes: readonly { readonly key: string; readonly value: Uint8Array | undefined }[];
    };

export type StoreResult =
  | { readonly kind: "read"; readonly record: StoreRecord | undefined }
  | { readonly kind: "range"; readonly records: readonly StoreRecord[] }
  | { readonly kind: "transaction"; readonly committed: boolean; readonly revision: number }
  | { readonly kind: "error"; readonly code: ErrorCode; readonly detail: string };

// --------------------------------------------------------------------------------------- machine

export interface Machine<C, E> {
  handle(input: Input<C>, now: Now): void;
  poll(): Output<E> | undefined;
  /** Monotonic ms; Infinity when nothing is waited for. */
  readonly deadlineMs: number;
}

/** Keeps the output queue and asserts the order of calls; machines extend it. */
export abstract class MachineBase<C, E> implements Machine<C, E> {
  #outputs: Output<E>[] = [];
  #head = 0;
  #drained = true;
  #handling = false;

  handle(input: Input<C>, now: Now): void {
    assert(this.#drained, "handle() before the outputs of the last input were drained");
    this.#drained = false;
    this.#handling = true;
    try {
      this.step(input, now);
    } finally {
      // A command that is refused by an error leaves a machine that can be drained and goes on.
      this.#handling = false;
    }
  }

  poll(): Output<E> | undefined {
    assert(!this.#handling, "poll() from within handle()");
    if (this.#head < this.#outputs.length) return this.#outputs[this.#head++];
    this.#outputs.length = 0;
    this.#head = 0;
    this.#drained = true;
    return undefined;
  }

  get deadlineMs(): number {
    assert(this.#drained, "deadlineMs before the outputs were drained");
    return this.nextDeadlineMs();
  }

  /** Queues an output; only from within step(). */
  protected emit(output: Output<E>): void {
    assert(this.#handling, "output outside of handle()");
    this.#outputs.push(output);
  }

  /** Reacts to one input. */
  protected abstract step(input: Input<C>, now: Now): void;
  protected abstract nextDeadlineMs(): number;
}
