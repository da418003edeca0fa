/** The OMS at its border: options, events, snapshot. */

import type { ErrorCode } from "../base/errors.ts";
import type { PEER_STATUS } from "../protocol/r1.ts";
import type { AnswerOf } from "../protocol/signalling.ts";
import type { CacheServerSnapshot, LendingEvent } from "./cache-lending.ts";
import type { EndReason } from "./overlay-table.ts";
import type { ServerCounters, ServerOptions } from "./server-types.ts";

export interface OmsOptions extends ServerOptions {
  /**
   * `ws://host:port` of the PAMS, told to members; empty = none. A host of 0.0.0.0 or :: is, to a
   * member, the one where it found the OMS.
   */
  readonly pamsUrl?: string;
  /** Where this OMS finds that PAMS, when it is another address. */
  readonly pamsAddress?: string;
  /** Where this OMS is, told to the PAMS. */
  readonly omsUrl?: string;
  /** `ws://host:port` of the IXS of another process, told of overlays that end; empty = none. */
  readonly ixsUrl?: string;
  /** Shown to the PAMS (R1) and that IXS, and asked of who asks for overlays; 16 to 64 bytes. */
  readonly serviceKey?: Uint8Array;
  /** R5.c: the refresh expiration time, unless a source asks for less. Default 60 s. */
  readonly refreshMs?: number;
  /** Lease of a membership. Default 30 s. */
  readonly memberLeaseMs?: number;
  /** Given with a PAMS until that has said its own. Default 10 s. */
  readonly reportIntervalMs?: number;
  /** Overlays that stand. Default 1,000. */
  readonly overlaysMax?: number;
  /** Members an overlay; 1 KiB each. Default 10,000. */
  readonly membersMax?: number;
  /** Lease of a cache server's offer (R8). Default 30 s. */
  readonly cacheLeaseMs?: number;
  /** Virtual peers that one overlay gets at most. Default 16. */
  readonly virtualPeersMax?: number;
  /** R8.c: the highest priority that a source peer's word is taken for. Default 7. */
  readonly priorityMax?: number;
  /** Default 256. */
  readonly cacheServersMax?: number;
  /** Tombstones kept; the oldest go first and are then unknown. Default 10,000. */
  readonly tombstonesMax?: number;
}

export type OmsEvent =
  | LendingEvent
  | { readonly type: "overlayCreated"; readonly overlayId: string; readonly title: string }
  | { readonly type: "overlayEnded"; readonly overlayId: string; readonly why: EndReason }
  /**
   * With `ready`: overlays that ended before this start. An index server of the same process is
   * told of them too, as its own write may have been cut off by the stop.
   */
  | { readonly type: "endedBefore"; readonly overlayIds: readonly string[] }
  /**
   * The PAMS answered R1 with a failure (KEY_REQUIRED: another service key there). Told once a link
   * and code, with the first overlay; the overlay goes on without a PAMS and is registered again
   * every interval.
   */
  | {
      readonly type: "pamsRefused";
      readonly overlayId: string;
      readonly code: ErrorCode;
      readonly detail: string;
    }
  /** The IXS of another process does not take what ended. Told once a link and code. */
  | { readonly type: "ixsRefused"; readonly code: ErrorCode; readonly detail: string }
  /** R1.f: answers the command `peerStatus`; undefined: no link to the PAMS, or not known there. */
  | {
      readonly type: "peerStatus";
      readonly token: number;
      readonly status: AnswerOf<typeof PEER_STATUS> | undefined;
    };

export type OmsCommand =
  /** R1.f: asks the PAMS for the status of one peer; `ask`: the PAMS is to ask the peer first. */
  {
    readonly type: "peerStatus";
    readonly token: number;
    readonly overlayId: string;
    readonly peerId: string;
    readonly ask: boolean;
  };

export interface OmsOverlaySnapshot {
  readonly overlayId: string;
  readonly title: string;
  readonly sessionEpoch: number;
  readonly sourcePeerId: string;
  readonly members: number;
}

export interface OmsSnapshot {
  readonly ready: boolean;
  readonly term: number;
  readonly overlays: readonly OmsOverlaySnapshot[];
  readonly tombstones: number;
  /** Registrations at the PAMS since the start: answered, and refused or lost. */
  readonly pamsRegistrations: number;
  readonly pamsFailures: number;
  /** Ends of overlays that the IXS of another process has not acknowledged. */
  readonly ixsPending: number;
  readonly cacheServers: readonly CacheServerSnapshot[];
  readonly dialBack: {
    readonly dialled: number;
    readonly proven: number;
    readonly failed: number;
    /** Not dialled for want of room, or for a port that is not a peer's. */
    readonly refused: number;
  };
  readonly counters: ServerCounters;
}
