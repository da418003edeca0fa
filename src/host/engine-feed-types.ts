/** What users of the library see of data sources on links of their own (R11), from either side. */

import type { ErrorCode } from "../base/errors.ts";
import type { Address } from "../base/machine.ts";
import type { OverlayId, SequenceNumber } from "../base/units.ts";
import type { AcceptCounters, RemoteSourceReport } from "../peer/feed/accept-types.ts";
import type { BatchWrite, Logger, OnNote, WriteMeta } from "./write-types.ts";

export interface AcceptListen {
  /** Default tcp. */
  readonly transport?: "tcp" | "ws";
  /**
   * Default 127.0.0.1; another than loopback is PLAINTEXT_REFUSED unless the engine allows it. Who
   * reaches it may feed the session: there is no other check.
   */
  readonly host?: string;
  /** Default 0: any free port. */
  readonly port?: number;
}

export interface AcceptSourcesOptions {
  readonly listen: readonly AcceptListen[];
  /**
   * `last`: the session may end with its last data source, or when a data source orders it;
   * `owner`: such an order is refused. Default owner.
   */
  readonly end?: "last" | "owner";
  /** Under `last`: data sources that must have registered before the last one can end. Default 1. */
  readonly waitSources?: number;
  /** Data id of data sources that name none. Default: the session's title, as in createSource. */
  readonly dataId?: string;
  /** Peers that must have advertised a fragment before its data are told as held. Default 1. */
  readonly minHolders?: number;
}

/** A source peer's ear for data sources on links of their own. */
export interface RemoteIntake {
  /** Where it listens, with real ports. */
  readonly listening: readonly Address[];
  /**
   * Resolves under `last` when every data source of the session has ended ("last"; local ones
   * count, too) or one of them ordered the end ("ordered"): then call end() of the session.
   */
  readonly finished: Promise<"last" | "ordered">;
  status(): { readonly sources: readonly RemoteSourceReport[]; readonly counters: AcceptCounters };
  on<K extends keyof IntakeEvents>(
    event: K,
    listener: (value: IntakeEvents[K]) => void,
  ): () => void;
}

export interface IntakeEvents {
  /** A data source registered for the first time, links up, loses its link, or has ended. */
  source: {
    readonly sourceId: string;
    readonly state: "registered" | "up" | "down" | "ended";
    readonly detail: string;
  };
  /** A link was refused or broke the protocol. */
  refused: { readonly code: ErrorCode; readonly detail: string };
}

export interface DataFeedOptions {
  /** Where the source peer accepts data sources: `host:port`, `tcp://host:port` or `ws://host:port`. */
  readonly to: string;
  /**
   * Allows a source peer on another machine. Nothing is encrypted in this version; without it a host
   * other than loopback is PLAINTEXT_REFUSED. Default false.
   */
  readonly allowPlaintext?: boolean;
  readonly sourceId: string;
  /** Default: the one that the source peer chose. */
  readonly dataId?: string;
  readonly contentType?: string;
  readonly description?: string;
  /** What an earlier run knew to be held, when that was kept. Default 0. */
  readonly held?: SequenceNumber;
  /**
   * 1 to 2^32 - 1, the same in every run that gives each datum the sequence number it had, e.g. of a
   * digest of its input: peers that follow a source peer that was started anew then drop what they
   * had, though this run is another one, too. Default: one of this run's own.
   */
  readonly numbering?: number;
  /**
   * What becomes of data of an earlier run that were accepted and not held when the source peer was
   * killed, and that this run does not keep. True: they are lost (event lost), and this run goes on.
   * Default false: it fails with SEQUENCE_SKIPPED, and a further run makes them again.
   */
  readonly passesLost?: boolean;
  /** What is written and not held is kept, up to here; more has to wait. Default 32. */
  readonly keepMiB?: number;
  /** How long a datum waits for others to share its frame when the link is busy. Default 5. */
  readonly maxDelayMs?: number;
  /**
   * How long to try for a link, at first and whenever one is lost; Infinity: for ever. Default 60,000.
   */
  readonly retryMs?: number;
  /** Why the first link is waited for; of those that follow, see the event linkLost. */
  readonly onNote?: OnNote;
  readonly logger?: Logger;
  /** Closes the feed when aborted. */
  readonly signal?: AbortSignal;
}

/** A data source on another machine than its source peer. */
export interface DataFeed {
  readonly sourceId: string;
  /** Sequence number that the next datum written gets. */
  readonly next: SequenceNumber;
  /** Everything up to here is in the source peer's memory. */
  readonly accepted: SequenceNumber;
  /** Everything up to here is held by peers: no restart of the source peer loses it. */
  readonly held: SequenceNumber;
  /** Takes one datum, or not (accepted 0). The payload is copied. Throws LocalUsageError. */
  write(payload: Uint8Array, meta?: FeedMeta): { readonly accepted: number };
  writeBatch(batch: BatchWrite, meta?: FeedMeta): { readonly accepted: number };
  /** Resolves when something may be written again; rejects when the feed failed. */
  writable(): Promise<void>;
  /** Writes one datum, waiting for room; resolves with its sequence number. */
  push(payload: Uint8Array, meta?: FeedMeta): Promise<SequenceNumber>;
  /** Resolves when peers hold all up to `sequence` (default: all written so far). */
  whenHeld(sequence?: SequenceNumber): Promise<void>;
  /**
   * Ends the data source after what was written, or the session (P3.1). Resolves when peers hold
   * everything; rejects with SESSION_LOST when the session ended without some of it,
   * with SOURCE_ENDED when another run has ended the data source.
   */
  end(options?: { readonly session?: boolean }): Promise<void>;
  /** Closes the link. The data source is not ended: it may come again. */
  close(): Promise<void>;
  on<K extends keyof FeedEvents>(event: K, listener: (value: FeedEvents[K]) => void): () => void;
  status(): { readonly linked: boolean; readonly keptBytes: number };
}

export type FeedMeta = Pick<WriteMeta, "timestampUs">;

export interface FeedEvents {
  registered: {
    readonly next: SequenceNumber;
    readonly held: SequenceNumber;
    readonly overlayId: OverlayId;
    readonly newSession: boolean;
  };
  /** See DataFeedOptions.passesLost; both included. */
  lost: { readonly from: SequenceNumber; readonly to: SequenceNumber };
  accepted: SequenceNumber;
  held: SequenceNumber;
  linkLost: { readonly code: ErrorCode; readonly detail: string; readonly retryInMs: number };
  ended: undefined;
  failed: { readonly code: ErrorCode; readonly detail: string };
}
