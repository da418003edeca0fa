/**
 * What the parts of a peer machine share: the time of the present input, chance, memory, and the
 * ways out. One per machine; only the machine writes to it.
 */

import type { Job, JobResult, Now } from "../base/machine.ts";
import type { Entropy, Rng } from "../base/rng.ts";
import type { PeerId } from "../base/units.ts";
import type { EngineMemory } from "../stream/memory.ts";
import type { PeerEvent } from "./commands.ts";
import type { Download } from "./download.ts";
import type { Neighbour } from "./neighbour.ts";
import type { Upload } from "./upload.ts";

export interface PeerIdentity {
  readonly peerId: PeerId;
  readonly peerIdBytes: Uint8Array;
  /** Raw Ed25519 public key, 32 bytes. The secret key stays with the host: job "sign". */
  readonly publicKey: Uint8Array;
}

export const DISTANCE_MAX = 255;

/**
 * Network distance of a member, 0 (nearest) to DISTANCE_MAX, as a UNIS or the user knows it; 0 where
 * it is not known. Asked at each choice, so it answers from memory. Among members that are as good in
 * all else the nearest is chosen.
 */
export type DistanceTo = (peerId: PeerId) => number;

export interface PeerContext {
  readonly memory: EngineMemory;
  readonly identity: PeerIdentity;
  readonly rng: Rng;
  readonly entropy: Entropy;
  readonly sha256: (bytes: Uint8Array) => Uint8Array;
  readonly counters: PeerCounters;
  /** Shared by all overlays; `spareBytesPerSecond` says what this node could give on top. */
  readonly upload: Upload<Neighbour>;
  readonly download: Download;
  readonly distanceTo: DistanceTo;
  /** Time of the input that is being handled. */
  now: Now;
  job(job: Job, done: (result: JobResult) => void): void;
  event(event: PeerEvent): void;
}

/** What happened, counted since start. Exported by the host as metrics. */
export interface PeerCounters {
  fragmentsReceived: number;
  fragmentsSent: number;
  bytesReceived: number;
  bytesSent: number;
  /** DATA for an index that was stored or under verification already. */
  duplicates: number;
  /** Below the window, which moved on: DATA that came, own data whose checksum took too long. */
  lateFragments: number;
  corruptFragments: number;
  malformedFrames: number;
  refusedLinks: number;
  /** Links that this node did not open because of its own limit. */
  unopenedLinks: number;
  /** Inbound links without a proven identity, closed to let others in. */
  evictedLinks: number;
  requestsSent: number;
  requestsServed: number;
  /** Fragments that a neighbour asked for at or above its own credit: not served. */
  requestsBeyondCredit: number;
  requestTimeouts: number;
  /** Taken back: timed out, or the fragment came another way. */
  requestsCancelled: number;
  /** Asked of a second supplier while a first was under way. */
  requestsDoubled: number;
  busySent: number;
  busyReceived: number;
  gaps: number;
  handshakes: number;
  slowLinks: number;
  /** PING and REFRESH beyond what a neighbour is answered a second. */
  ignoredFrames: number;
  memoryStalls: number;
}

export function zeroCounters(): PeerCounters {
  return {
    fragmentsReceived: 0,
    fragmentsSent: 0,
    bytesReceived: 0,
    bytesSent: 0,
    duplicates: 0,
    lateFragments: 0,
    corruptFragments: 0,
    malformedFrames: 0,
    refusedLinks: 0,
    unopenedLinks: 0,
    evictedLinks: 0,
    requestsSent: 0,
    requestsServed: 0,
    requestsBeyondCredit: 0,
    requestTimeouts: 0,
    requestsCancelled: 0,
    requestsDoubled: 0,
    busySent: 0,
    busyReceived: 0,
    gaps: 0,
    handshakes: 0,
    slowLinks: 0,
    ignoredFrames: 0,
    memoryStalls: 0,
  };
}
