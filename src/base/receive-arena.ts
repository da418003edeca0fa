/**
 * Where a transport lets received bytes land: the engine's memory, so that a fragment stays where
 * it arrived. Implemented by kernel, handed to transports by host.
 *
 * A link opens one cursor. It reads into [writeOffset, writeOffset + writableBytes), commits what
 * came, parses whole frames from parseOffset on, hands them over and consumes them. Whoever keeps a
 * frame retains its range before the hand-over ends; what nobody retained is recycled.
 */

import type { MemoryOffset } from "./units.ts";

export interface ReceiveCursor {
  /** Where the next read may write. Stays put until reserve, commit or consume. */
  readonly writeOffset: MemoryOffset;
  /** How many bytes fit there without another reserve. */
  readonly writableBytes: number;
  /** First byte not consumed. */
  readonly parseOffset: MemoryOffset;
  /** Committed and not consumed bytes. */
  readonly parsableBytes: number;
  /**
   * Makes room so that a frame of `frameBytes` starting at parseOffset fits contiguously, moving the
   * unconsumed bytes to a fresh segment when needed (parseOffset changes). False when memory is
   * exhausted: stop reading and try again later.
   */
  reserve(frameBytes: number): boolean;
  /** `bytes` were written at writeOffset. */
  commit(bytes: number): void;
  /** The first `bytes` parsable bytes were handed over. */
  consume(bytes: number): void;
  close(): void;
}

export interface ReceiveArena {
  /** The whole memory; offsets index it. */
  readonly bytes: Uint8Array;
  open(): ReceiveCursor;
}
