/** What a host asks of a data source's machine (R11), and what it is told. */

import type { ErrorCode } from "../../base/errors.ts";
import type { Address } from "../../base/machine.ts";
import type { Entropy, Rng } from "../../base/rng.ts";
import type { OverlayId, SequenceNumber, TimestampUs } from "../../base/units.ts";
import type { TerminateScope } from "../../protocol/r11.ts";

export interface FeedMachineOptions {
  /** Where the source peer accepts data sources. */
  readonly to: Address;
  readonly sourceId: string;
  /** Empty: the one that the source peer chose. */
  readonly dataId: string;
  readonly contentType: string;
  readonly description: string;
  /** What is known from before to be held and will not come again. */
  readonly held: SequenceNumber;
  /**
   * Whether it goes on with its own data where a source peer that was started anew lacks some of an
   * earlier run, accepted and not held: those are lost. Else it fails with SEQUENCE_SKIPPED, and
   * another run can make them again.
   */
  readonly passesLost: boolean;
  /** Bytes kept because no peer is known to hold them; at least one datum is. */
  readonly keepBytes: number;
  /** How long a datum waits for others to share its frame. */
  readonly maxDelayMs: number;
  /** How long to try for a link, from the loss of the last one. */
  readonly retryMs: number;
  /**
   * Of every run that gives each datum the number it had, and of no other: members drop what they had
   * before the source peer started over. 0: this run's own.
   */
  readonly numbering: number;
  readonly rng: Rng;
  readonly entropy: Entropy;
}

/** Takes the first link up. */
export interface StartFeed {
  readonly kind: "start";
}

/**
 * Data: payloads back to back, datum i has lengths[i] bytes; copied before handle() returns.
 * `timestampUs` undefined: now. `accepted` (out) data were taken; fewer than asked: wait for the
 * event "writable". Nothing is taken before the event "registered".
 */
export interface FeedWrite {
  readonly kind: "write";
  readonly payloads: Uint8Array;
  readonly lengths: Uint32Array;
  readonly timestampUs: TimestampUs | undefined;
  accepted: number;
}

/** After all that was written: the data source ends, or orders the session to (P3.1). */
export interface EndFeed {
  readonly kind: "end";
  readonly scope: TerminateScope;
}

/** Closes the link; what is not held is given up. */
export interface CloseFeed {
  readonly kind: "close";
}

export type FeedCommand = StartFeed | FeedWrite | EndFeed | CloseFeed;

export type FeedEvent =
  /** The first datum to be written has number `next`; again after each new link. */
  | {
      readonly kind: "registered";
      readonly next: SequenceNumber;
      readonly held: SequenceNumber;
      readonly overlayId: OverlayId;
      /** Not the session that the last link led to: the source peer was started anew. */
      readonly newSession: boolean;
    }
  /** Of an earlier run, not held when the source peer was started anew, and not kept here. */
  | { readonly kind: "lost"; readonly from: SequenceNumber; readonly to: SequenceNumber }
  | { readonly kind: "accepted"; readonly sequence: SequenceNumber }
  | { readonly kind: "held"; readonly sequence: SequenceNumber }
  | { readonly kind: "writable" }
  /** The link is gone; it is tried again in `retryInMs`. */
  | {
      readonly kind: "linkLost";
      readonly code: ErrorCode;
      readonly detail: string;
      readonly retryInMs: number;
    }
  /** In answer to "end", or because the session ended: nothing after `last` is taken. */
  | { readonly kind: "ended"; readonly last: SequenceNumber; readonly scope: TerminateScope }
  /** For good. */
  | { readonly kind: "failed"; readonly code: ErrorCode; readonly detail: string };

/** For the user of a data source that ended before `last + 1` came; short, it goes over the wire. */
export function endedText(last: SequenceNumber): string {
  return `ended with datum ${last}: take another id, or leave it open`;
}
