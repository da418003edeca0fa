/**
 * Sessions: what leads to an overlay and away from it. A session part of the machine speaks to IXS,
 * OMS and PAMS (R6, R5, R2) and opens, feeds with members and leaves overlays accordingly.
 */

import type { ErrorCode } from "../../base/errors.ts";
import type { Address } from "../../base/machine.ts";
import type { FragmentIndex, OverlayId, PeerId } from "../../base/units.ts";
import type { SourceStanding } from "../../stream/source-book.ts";
import type { Delivery, Integrity, NodeSettings, StartFrom } from "../settings.ts";

/** One data source of a session: each has an index file of its own, naming the same overlay. */
export interface SessionDataSource {
  readonly sourceId: string;
  readonly dataId: string;
  readonly contentType: string;
  readonly description: string;
}

/** Creates the overlay (R5.a), registers the index files (R6.a), reports (R2). */
export interface CreateSession {
  readonly kind: "createSession";
  /** The host's name for this session; events carry it. */
  readonly sessionId: number;
  readonly oms: Address;
  readonly ixs: Address;
  readonly title: string;
  readonly dataSources: readonly SessionDataSource[];
  readonly fragmentBytes: number;
  readonly integrity: Integrity;
  readonly delivery: Delivery;
  readonly substreams: number;
  readonly maxLagMs: number;
  readonly waitPeers: number;
  /** How long to wait for ids that another key holds until its overlay expires. Default 0. */
  readonly waitMs?: number;
  /**
   * Goes on in the overlay that this very key has under these ids, in its next epoch: what a source
   * peer that was killed does. Default false: always a new overlay.
   */
  readonly resumes?: boolean;
  readonly gatherMs?: number;
  /** P1.3: virtual peers of cache servers that the OMS is asked for. Default none. */
  readonly virtualPeers?: { readonly count: number; readonly priority: number };
  readonly node: NodeSettings;
}

/**
 * A data source that came when the session was open: it gets an index file of its own. The answer is
 * "dataSourceAdded" or "dataSourceRefused"; the session goes on either way.
 */
export interface AddDataSource {
  readonly kind: "addDataSource";
  readonly sessionId: number;
  readonly dataSource: SessionDataSource;
}

/** A data source added so gave its place back: its index file is removed. */
export interface RemoveDataSource {
  readonly kind: "removeDataSource";
  readonly sessionId: number;
  readonly sourceId: string;
}

/** Queries the IXS (R6.e), joins at the OMS the index file names (R5), reports (R2). */
export interface JoinSession {
  readonly kind: "joinSession";
  readonly sessionId: number;
  readonly ixs: Address;
  readonly title: string;
  readonly dataSourceId: string;
  readonly dataId: string;
  /** Undefined: as the delivery has it, the oldest held (complete) or the live edge. */
  readonly from: StartFrom | undefined;
  /** How long an unknown title is waited for. */
  readonly waitMs: number;
  /** False: this peer only forwards. Default true. */
  readonly consume?: boolean;
  /** Goes on when the source peer starts over with the same key. Default true; else SESSION_LOST. */
  readonly followsRestarts?: boolean;
  /** As a virtual peer that was ordered into this overlay (R8): no other is joined. */
  readonly virtualIn?: OverlayId;
  /** Opens links to these members only. Default: to any. */
  readonly dial?: readonly PeerId[];
  readonly node: NodeSettings;
}

/** Where a session stood when its source peer started over. */
export interface EpochEnd {
  readonly sessionEpoch: number;
  /** Fragments below this came, or were reported as gaps; what the source had beyond is lost. */
  readonly fragmentsTo: FragmentIndex;
  /** Of each data source how far it came. */
  readonly sources: readonly SourceStanding[];
}

/**
 * Source: terminates the session: removes the index files and the overlay (P3.2), then leaves.
 * Peer: leaves (P3.4).
 */
export interface EndOfSession {
  readonly kind: "leaveSession";
  readonly sessionId: number;
}

export type SessionCommand =
  | CreateSession
  | AddDataSource
  | RemoveDataSource
  | JoinSession
  | EndOfSession;

export type SessionEvent =
  /** The overlay is open: writes or takes may begin. */
  | {
      readonly kind: "sessionOpen";
      readonly sessionId: number;
      readonly overlayId: OverlayId;
      readonly sourcePeerId: PeerId;
      readonly title: string;
    }
  /**
   * The source peer started over and this peer went on there: all data from here on are of the new
   * epoch, in which fragments and sequence numbers begin anew. `overlayId` may be another one.
   */
  | {
      readonly kind: "sessionRestarted";
      readonly sessionId: number;
      readonly overlayId: OverlayId;
      readonly sessionEpoch: number;
      readonly before: EpochEnd;
    }
  | {
      readonly kind: "dataSourceAdded";
      readonly sessionId: number;
      readonly sourceId: string;
    }
  | {
      readonly kind: "dataSourceRefused";
      readonly sessionId: number;
      readonly sourceId: string;
      readonly code: ErrorCode;
      readonly detail: string;
    }
  /** What is going on, for people; `failure`: that is tried again. */
  | {
      readonly kind: "sessionNote";
      readonly sessionId: number;
      readonly text: string;
      readonly failure?: { readonly code: ErrorCode; readonly detail: string };
    }
  /** The servers were told all; nothing more comes of this session. */
  | { readonly kind: "sessionClosed"; readonly sessionId: number }
  | {
      readonly kind: "sessionFailed";
      readonly sessionId: number;
      readonly code: ErrorCode;
      readonly detail: string;
    };
