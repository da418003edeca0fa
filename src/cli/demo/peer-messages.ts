/** What the processes of the demo agree on: messages of a peer to its parent, and the window. */

import type { ErrorCode } from "../../base/errors.ts";
import { MIB } from "../../base/units.ts";
import type { SourceDigest } from "./digest.ts";

/** The whole stream would fit the usual window, and a late peer would miss nothing. */
export const DEMO_WINDOW_BYTES = 1 * MIB;

export interface PeerStatus {
  readonly kind: "status";
  readonly fragmentsHeld: number;
  /** Fragments taken from the session so far. */
  readonly consumed: number;
  readonly missing: number;
  readonly data: number;
  readonly dataPerSecond: number;
  readonly lagP50Ms: number;
  readonly lagP99Ms: number;
  readonly bytesFromSource: number;
  readonly bytesFromPeers: number;
  readonly fragmentsFromSource: number;
  readonly fragmentsFromPeers: number;
  readonly neighbours: number;
}

export interface PeerStarted {
  readonly kind: "started";
  readonly peerId: string;
  readonly startedAt: number;
}

/** All came, up to END; the peer stays for its neighbours. */
export interface PeerCompleted {
  readonly kind: "completed";
  readonly status: PeerStatus;
  readonly gaps: number;
  readonly digests: readonly SourceDigest[];
}

export interface PeerFailed {
  readonly kind: "failed";
  readonly code: ErrorCode | "INTERNAL";
  readonly message: string;
}

export type PeerMessage = PeerStatus | PeerStarted | PeerCompleted | PeerFailed;
