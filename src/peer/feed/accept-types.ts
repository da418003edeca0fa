/**
 * What a host asks of the machine that accepts data sources on links of their own (R11), what it
 * tells the host, and what it needs of the source peer.
 */

import type { ErrorCode } from "../../base/errors.ts";
import type { OverlayId, SequenceNumber, TimestampUs } from "../../base/units.ts";
import type { TerminateScope } from "../../protocol/r11.ts";

/** Where accepted data go: the source peer. Called from within handle(); calls nothing back. */
export interface DataSink {
  /**
   * Takes whole data of one source: datum i has lengths[i] bytes of `payloads`, which are copied.
   * `timestampUs` 0: now. Returns how many were taken; fewer: the command "writable" will come.
   */
  write(
    sourceId: string,
    payloads: Uint8Array,
    lengths: Uint32Array,
    timestampUs: TimestampUs,
  ): number;
}

/** Answers the event "register": the source is registered and goes on with `next`. */
export interface Admit {
  readonly kind: "admit";
  readonly sourceId: string;
  readonly next: SequenceNumber;
}

/** Answers the event "register": the source is not registered. */
export interface Refuse {
  readonly kind: "refuse";
  readonly sourceId: string;
  readonly code: ErrorCode;
  readonly detail: string;
}

/** The overlay takes data again. */
export interface Writable {
  readonly kind: "writable";
}

/** Peers hold all of this source up to `sequence`. */
export interface HeldUpTo {
  readonly kind: "heldUpTo";
  readonly sourceId: string;
  readonly sequence: SequenceNumber;
}

/** The source has ended: its end lies in a fragment. */
export interface SourceIsOver {
  readonly kind: "sourceIsOver";
  readonly sourceId: string;
}

/** Takes no more data and no new source; what was accepted is still written and told as held. */
export interface Stop {
  readonly kind: "stop";
}

/** Ends every link: with TERMINATE when all went well, else with ERROR and this code. */
export interface Finish {
  readonly kind: "finish";
  readonly failure: { readonly code: ErrorCode; readonly detail: string } | undefined;
}

export type AcceptCommand = Admit | Refuse | Writable | HeldUpTo | SourceIsOver | Stop | Finish;

export type AcceptEvent =
  /** A new data source: answer with admit or refuse. `held`: what need not come again. `numbering`: of its run, u32; 0: unknown.  */
  | {
      readonly kind: "register";
      readonly sourceId: string;
      readonly dataId: string;
      readonly contentType: string;
      readonly description: string;
      readonly held: SequenceNumber;
      readonly numbering: number;
    }
  /** A data source of which nothing came gave its place to another: as if it had never been. */
  | { readonly kind: "forgotten"; readonly sourceId: string }
  /** Another run goes on with it: its numbering is unknown from here on. */
  | { readonly kind: "otherRun"; readonly sourceId: string }
  /** A link of a registered data source is up, or gone (`detail` says why). */
  | {
      readonly kind: "sourceLink";
      readonly sourceId: string;
      readonly state: "up" | "down";
      readonly detail: string;
    }
  /** All data of the source are written: it ends, or wants the session to end (P3.1). */
  | { readonly kind: "terminate"; readonly sourceId: string; readonly scope: TerminateScope }
  /** After "stop": nothing waits for room any more. */
  | { readonly kind: "drained" }
  /** A link that was refused or broke the protocol. */
  | { readonly kind: "linkRefused"; readonly code: ErrorCode; readonly detail: string };

export interface AcceptOptions {
  readonly overlayId: OverlayId;
  readonly sessionEpoch: number;
  readonly sink: DataSink;
  /** False: a data source may end itself only, not the session. */
  readonly mayEndSession: boolean;
  /** Data sources of this process: their ids are taken. */
  readonly isLocal: (sourceId: string) => boolean;
  /** How many those are, which the others find no place beside. Default none. */
  readonly localCount?: () => number;
}

/** What happened, counted since start. */
export interface AcceptCounters {
  dataAccepted: number;
  /** Data that came again and were dropped. */
  duplicateData: number;
  /** Frames of data that came after "stop". */
  ignoredFrames: number;
  refusedLinks: number;
  malformedFrames: number;
  creditExceeded: number;
  sequenceErrors: number;
  /** Data in pieces that did not go on, or too slowly while others waited for their memory. */
  stuckData: number;
  slowLinks: number;
  deadLinks: number;
}

export function zeroAcceptCounters(): AcceptCounters {
  return {
    dataAccepted: 0,
    duplicateData: 0,
    ignoredFrames: 0,
    refusedLinks: 0,
    malformedFrames: 0,
    creditExceeded: 0,
    sequenceErrors: 0,
    stuckData: 0,
    slowLinks: 0,
    deadLinks: 0,
  };
}

/** A data source as a status page shows it. */
export interface RemoteSourceReport {
  readonly sourceId: string;
  readonly linked: boolean;
  readonly ended: boolean;
  readonly accepted: SequenceNumber;
  readonly held: SequenceNumber;
  /** Accepted and not in a fragment yet. */
  readonly queuedBytes: number;
}
