/**
 * What a host asks of a transport: whole frames over links, by callback. The calls and callbacks
 * match the machine contract one to one, so the host only passes them on.
 *
 * - Every link that was opened or came up ends in exactly one linkDown, whoever closed it; only then
 *   is memory that was handed to send() out of use (before, as far as `sent` says).
 * - No callback comes from within open(), send(), close() or resume().
 * - A link that came up delivers whole frames in order; what the other side sent before an orderly
 *   close is delivered before linkDown. After close() of this side nothing more is delivered.
 * - Calls that name a link that is gone already do nothing: the linkDown is on its way.
 * - A transport never bounds what send() queues; the machine does, by `sent`.
 */

import type { ErrorCode } from "../base/errors.ts";
import type { Address, LinkId, Transport as TransportName } from "../base/machine.ts";

export interface TransportHandler {
  /** The id of a link that the other side opened (even). */
  allocateLinkId(): LinkId;
  linkUp(linkId: LinkId, direction: "inbound" | "outbound", remote: Address): void;
  /** LINK_CLOSED, LINK_RESET, UNREACHABLE, LINK_HALF_OPEN, FRAME_TOO_LARGE, FRAME_MALFORMED ... */
  linkDown(linkId: LinkId, code: ErrorCode, detail: string): void;
  /** `count` pairs (offset into memory, bytes); lent until the call returns. */
  frames(linkId: LinkId, memory: Uint8Array, ranges: Uint32Array, count: number): void;
  /** Of all that was sent on this link, `totalBytes` have left this process's queues. */
  sent(linkId: LinkId, totalBytes: number): void;
}

export interface Listening {
  /** Where it really listens: the port is known even when 0 was asked for. */
  readonly address: Address;
  /** Accepts no more; links that are up stay. */
  close(): Promise<void>;
}

export interface TransportStats {
  /** Links that are up or being opened. */
  readonly links: number;
  readonly accepted: number;
  /** Inbound links turned away at the limit. */
  readonly refused: number;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** Links that stopped reading because memory was exhausted, so far. */
  readonly pauses: number;
}

export interface Transport {
  readonly name: TransportName;
  /** Once, before anything else. */
  attach(handler: TransportHandler): void;
  /** Rejects with OperationError ADDRESS_IN_USE or ADDRESS_UNAVAILABLE. */
  listen(address: Address): Promise<Listening>;
  open(linkId: LinkId, address: Address): void;
  /** Whole frames. Views of the engine's memory stay untouched until sent or down. */
  send(linkId: LinkId, bytes: Uint8Array): void;
  /** Closes after what was sent before has left; `abort` drops it. */
  close(linkId: LinkId, abort: boolean): void;
  /** Links that paused for want of memory try again. Cheap when there is none. */
  resume(): void;
  stats(): TransportStats;
  /** Stops listening, aborts every link; resolves when all is released. No linkDown comes. */
  shutdown(): Promise<void>;
}
