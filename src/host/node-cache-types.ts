/** A cache server at its border: options, events and what it tells of itself. */

import type { ErrorCode } from "../base/errors.ts";
import type { Address } from "../base/machine.ts";
import type { OverlayId, PeerId } from "../base/units.ts";
import type { EngineOptions, JoinOptions, OverlayReport, ServerUrls } from "./engine-types.ts";
import type { Logger } from "./write-types.ts";

export interface CacheServerOptions
  extends ServerUrls,
    Pick<
      EngineOptions,
      "memoryMiB" | "workers" | "allowPlaintext" | "identitySeed" | "maxLinks" | "signal"
    > {
  /** The key that the OMS knows the servers of its provider by: 16 to 64 bytes. */
  readonly serviceKey: Uint8Array;
  /** For people. Default: the host's name is not told; "cache server". */
  readonly label?: string;
  /** Peers of one machine, each with a key and memory of its own; 1 to 64. Default 4. */
  readonly virtualPeers?: number;
  /**
   * Overlays that each may be in; 1 to 64, with `virtualPeers` at most 1,024 in all. Each needs 10 MiB
   * of `memoryMiB`, and two more that end meanwhile. Default 4.
   */
  readonly overlaysPerPeer?: number;
  /**
   * Where others link up with the first of them; the others take the ports that follow, or any free
   * ones where `port` is 0. Default 127.0.0.1, port 0.
   */
  readonly listen?: EngineOptions["listen"];
  /** What others are told to dial; of each the port that follows, as of `listen`. */
  readonly advertise?: EngineOptions["advertise"];
  /** Of all virtual peers together: each has an equal share. */
  readonly uploadLimitBytesPerSecond?: number;
  readonly downloadLimitBytesPerSecond?: number;
  /** Of the virtual peers in every overlay. */
  readonly node?: JoinOptions["node"];
  readonly logger?: Logger;
}

export interface CacheServerEvents {
  /** The OMS has the offer on its disk: from now on it may order. Told again after it was away. */
  registered: { readonly leaseMs: number };
  /** The OMS does not take the offer: it is asked again. */
  unregistered: { readonly code: ErrorCode; readonly detail: string };
  /** No link to the OMS, or no answer; what the virtual peers are in goes on. */
  omsAway: undefined;
  /** A bug of ours: it takes no orders any more; close it and start another. */
  crashed: { readonly detail: string };
  /** A virtual peer was ordered into an overlay. */
  ordered: VirtualPeerOrder;
  /** It has joined. */
  joined: VirtualPeerPlace;
  /** It is out: `code` is empty when the session ended, or it was ordered out. */
  left: VirtualPeerPlace & { readonly code: ErrorCode | ""; readonly detail: string };
}

export interface VirtualPeerPlace {
  readonly peerId: PeerId;
  readonly overlayId: OverlayId;
  readonly title: string;
}

export interface VirtualPeerOrder extends VirtualPeerPlace {
  readonly priority: number;
  /** R8.b: empty when no PAMS manages the overlay. */
  readonly pamsUrl: string;
}

export interface VirtualPeerReport {
  readonly peerId: PeerId;
  readonly listening: readonly Address[];
  readonly overlays: readonly OverlayReport[];
  readonly uploadBytesPerSecond: number;
}

export interface CacheServerReport {
  readonly cacheServerId: PeerId;
  readonly label: string;
  /** Whether the OMS has the offer, as far as this cache server knows. */
  readonly registered: boolean;
  readonly places: number;
  readonly virtualPeers: readonly VirtualPeerReport[];
}

export interface RunningCacheServer {
  readonly cacheServerId: PeerId;
  readonly virtualPeers: readonly {
    readonly peerId: PeerId;
    readonly listening: readonly Address[];
  }[];
  status(): CacheServerReport;
  on<K extends keyof CacheServerEvents>(
    event: K,
    listener: (value: CacheServerEvents[K]) => void,
  ): () => void;
  /** Withdraws the offer, leaves all overlays, announced, and releases everything. Idempotent. */
  close(): Promise<void>;
}
