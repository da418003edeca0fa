/**
 * What users of the library see: options and objects of createEngine. Promises and async iterators
 * live here, at the border; behind it is the machine.
 */

import type { ErrorCode } from "../base/errors.ts";
import type { Address } from "../base/machine.ts";
import type {
  FragmentIndex,
  OverlayId,
  PeerId,
  SequenceNumber,
  TimestampUs,
} from "../base/units.ts";
import type { PeerCounters } from "../peer/context.ts";
import type { MembersReport } from "../peer/finale-types.ts";
import type { EpochEnd } from "../peer/session/session-types.ts";
import type { Delivery, Integrity, NodeSettings, StartFrom } from "../peer/settings.ts";
import type { Traffic } from "../peer/traffic.ts";
import type { Gap } from "../stream/assembler.ts";
import type { SourceStanding } from "../stream/source-book.ts";
import type { AcceptSourcesOptions, RemoteIntake } from "./engine-feed-types.ts";
import type { BatchWrite, Logger, OnNote, WriteMeta } from "./write-types.ts";

export type * from "./engine-feed-types.ts";
export type * from "./write-types.ts";

export interface EngineOptions {
  /** Memory for fragments of all overlays together; 8 to 4095. Default 64. */
  readonly memoryMiB?: number;
  /** Piscina workers for large kernel jobs; 0 = everything inline. Default 0. */
  readonly workers?: number;
  /**
   * Where peers may link up with this one. Default { host: "127.0.0.1", port: 0 }. `::` is every
   * address of this machine, IPv4 and IPv6.
   */
  readonly listen?: { readonly host?: string; readonly port?: number };
  /** What others are told to dial, when it differs from where this engine listens. */
  readonly advertise?: readonly { readonly host: string; readonly port: number }[];
  /**
   * Allows links off this machine, to servers and peers and from them. Nothing is encrypted in this
   * version; without it a host other than loopback is PLAINTEXT_REFUSED. Default false.
   */
  readonly allowPlaintext?: boolean;
  /**
   * 32 bytes: the seed of this node's Ed25519 key. Default: a new one. With it a source that was
   * killed goes on in the next epoch of its session, and its peers with it.
   */
  readonly identitySeed?: Uint8Array;
  /** Links of proven peers at most; 1 to 4,096. Default 64. */
  readonly maxLinks?: number;
  /** DATA sent a second, over all overlays together; 1,024 to 12.5e9. Default: no limit. */
  readonly uploadLimitBytesPerSecond?: number;
  /** DATA taken a second, over all overlays together; as above. Default: no limit. */
  readonly downloadLimitBytesPerSecond?: number;
  /**
   * Network distance of a member, 0 (nearest, or not known) to 255: of members that are as good in all
   * else the nearest becomes a partner, and every second one that is dialled is the nearest of those
   * known. Asked at each choice: it answers from memory and does not throw. What is no number counts
   * as 0, what is out of range as its bound. Default: all are as near.
   */
  readonly networkDistance?: (peerId: string) => number;
  /** Fragments are lent as copies that are detached when their time is over: later use throws. */
  readonly debug?: boolean;
  readonly logger?: Logger;
  /** Closes the engine when aborted. */
  readonly signal?: AbortSignal;
}

/** Servers: one URL for all roles, or one each. `ws://host:port`. */
export interface ServerUrls {
  readonly server?: string;
  readonly oms?: string;
  readonly ixs?: string;
}

export interface SourceOptions extends ServerUrls {
  readonly title: string;
  /**
   * Data sources of this process; the session is found by their ids and its title. None: it is found
   * once a data source has come over a link (acceptDataSources). Source id and data id together are
   * those of one session of this engine at a time; else SOURCE_REGISTERED.
   */
  readonly dataSources: readonly DataSourceOptions[];
  readonly fragmentBytes?: number;
  readonly integrity?: Integrity;
  readonly delivery?: Delivery;
  readonly substreams?: number;
  readonly maxLagMs?: number;
  /** Complete: members that must have been there before anything is freed. Default 1, live 0. */
  readonly waitPeers?: number;
  /**
   * Complete: nothing is freed until no new member came for so long, at most five times as long in
   * all; so members that start together all get everything. Default 0.
   */
  readonly gatherMs?: number;
  /**
   * How long to wait where another key holds the same source id and data id, as after a kill of the
   * same program without identitySeed; then NOT_OWNER. Default 0.
   */
  readonly waitMs?: number;
  /**
   * P1.3: virtual peers of cache servers that the OMS is asked for: 0 to 64, and a priority from 0
   * (gives way to all others) to 7. They do not count as members. Default none.
   */
  readonly virtualPeers?: { readonly count: number; readonly priority: number };
  /** What the session waits for until it is open. */
  readonly onNote?: OnNote;
  readonly node?: NodeSettings;
  readonly signal?: AbortSignal;
}

export interface DataSourceOptions {
  readonly sourceId: string;
  /** Default: the session's title (of one above 128 bytes its SHA-256, in hex). */
  readonly dataId?: string;
  readonly contentType?: string;
  readonly description?: string;
}

export interface WriteResult {
  /** How many data were taken (write: 0 or 1). What was not taken was not touched. */
  readonly accepted: number;
  /** Fragments the window still takes; 0: wait for `writable()`. */
  readonly credit: number;
}

export interface DataSource {
  readonly id: string;
  /** Takes one datum, or not (accepted 0). The payload is copied. Throws LocalUsageError. */
  write(payload: Uint8Array, meta?: WriteMeta): WriteResult;
  writeBatch(batch: BatchWrite, meta?: WriteMeta): WriteResult;
  /** Resolves when something may be written again; rejects when the session failed. */
  writable(): Promise<void>;
  /** Writes one datum, waiting for room. */
  push(payload: Uint8Array, meta?: WriteMeta): Promise<void>;
  /** Ends this data source (TERMINATE, P3.1). */
  end(): void;
  /** A WritableStream that writes one datum a chunk and ends the data source when closed. */
  toWritableStream(): WritableStream<Uint8Array>;
}

export interface EndOptions {
  /** Stays until nobody new came for so long, at most five times as long in all. Default 0. */
  readonly lateJoinMs?: number;
  /**
   * False: when no datum was ever written, waits only for members that are linked, since there is
   * nothing to hold for others. May be said by a second call, while the first waits. Default true.
   */
  readonly waitForPeers?: boolean;
}

export interface EngineSource {
  readonly overlayId: OverlayId;
  readonly title: string;
  /** R11.e. Errors: SOURCE_REGISTERED. */
  registerDataSource(sourceId: string, options?: { readonly contentType?: string }): DataSource;
  dataSource(sourceId: string): DataSource;
  /**
   * Accepts data sources on links of their own, over TCP and WebSocket (R11). Each gets an index
   * file when it registers. Once a session. Errors: USAGE, ADDRESS_IN_USE, ADDRESS_UNAVAILABLE.
   */
  acceptDataSources(options: AcceptSourcesOptions): Promise<RemoteIntake>;
  /** How it stands in the overlay; afterwards, how it ended there. */
  status(): OverlayReport;
  on<K extends keyof SourceEvents>(
    event: K,
    listener: (value: SourceEvents[K]) => void,
  ): () => void;
  /**
   * Ends the session: END, then waits until every member in good standing has all or left, and
   * until nobody new came for `lateJoinMs` (default 0). Who came by then and reads is waited for
   * until it stands still for `lingerMs`, at most 60 times as long in all. Then it
   * removes it at the servers. Rejects with NO_PEERS when something written was held by nobody.
   */
  end(options?: EndOptions): Promise<void>;
  /** Leaves at once, without END: members see SESSION_LOST. */
  close(): Promise<void>;
}

export interface SourceEvents {
  link: LinkEvent;
  note: string;
  failed: { readonly code: ErrorCode; readonly detail: string };
}

export interface JoinOptions extends ServerUrls {
  readonly title?: string;
  readonly sourceId?: string;
  readonly dataId?: string;
  /**
   * `oldest` still held by anybody, `live`: what comes from now on, `start`: fragment 0 or
   * START_GONE. Default: as the delivery has it, `oldest` in complete, `live` in live.
   */
  readonly from?: StartFrom | undefined;
  /**
   * False: this peer only forwards. Its fragments count as consumed as soon as they are there;
   * data(), batches() and fragments() throw USAGE. Default true.
   */
  readonly consume?: boolean;
  /** How long an unknown title is waited for; Infinity: for ever. Default 60,000. */
  readonly waitMs?: number;
  /** What is waited for until the overlay is joined. */
  readonly onNote?: OnNote;
  /**
   * Joins this very overlay as a virtual peer that was ordered into it; anybody else is
   * NOT_ADMITTED. What startCacheServer does.
   */
  readonly virtualIn?: OverlayId;
  /** Links up with these members only; others may link up with this one all the same. */
  readonly dial?: readonly PeerId[];
  /** Goes on when the source peer starts over with the same key. Default true; else SESSION_LOST. */
  readonly followRestarts?: boolean;
  readonly node?: NodeSettings;
  readonly signal?: AbortSignal;
}

/** One datum, the consumer's for ever. */
export interface Datum {
  readonly sourceId: string;
  readonly sequence: SequenceNumber;
  readonly timestampUs: TimestampUs;
  readonly contentType: string;
  readonly payload: Uint8Array;
}

/**
 * Data lent until the next step of the iterator. Datum i: payload bytes
 * [offsets[i], offsets[i] + lengths[i]) of `memory`.
 */
export interface DatumBatch {
  readonly count: number;
  readonly index: FragmentIndex;
  readonly memory: Uint8Array;
  offsetOf(i: number): number;
  lengthOf(i: number): number;
  sequenceOf(i: number): SequenceNumber;
  timestampUsOf(i: number): TimestampUs;
  sourceIdOf(i: number): string;
  contentTypeOf(i: number): string;
  /** A lent view of the payload; copy it to keep it. */
  payloadOf(i: number): Uint8Array;
}

/**
 * A whole DATA frame, lent until the next step of the iterator or release(): header and records as
 * they came over the wire, [offset, offset + length) of `memory`. Later use throws USAGE; a view
 * kept from before shows other bytes then, and is detached with the engine option `debug`.
 */
export interface Fragment {
  readonly index: FragmentIndex;
  readonly offset: number;
  readonly length: number;
  readonly memory: Uint8Array;
  /** The frame as one view. */
  readonly bytes: Uint8Array;
  /** Gives it back before the next step. */
  release(): void;
}

export interface EnginePeer {
  readonly overlayId: OverlayId;
  readonly title: string;
  /** Data of all sources, or of those named; one iterator a peer. */
  data(options?: { readonly sources?: readonly string[] }): AsyncIterableIterator<Datum>;
  batches(): AsyncIterableIterator<DatumBatch>;
  /** Whole fragments in index order, for who passes them on: nothing is taken apart or copied. */
  fragments(): AsyncIterableIterator<Fragment>;
  toReadableStream(options?: { readonly sources?: readonly string[] }): ReadableStream<Datum>;
  /** How it stands in the overlay; afterwards, how it ended there. */
  status(): OverlayReport;
  on<K extends keyof PeerEvents>(event: K, listener: (value: PeerEvents[K]) => void): () => void;
  /** Resolves once END was taken and neighbours have all, or the peer left. */
  closed: Promise<void>;
  /** Leaves, announced (P3.4). */
  leave(): Promise<void>;
}

export interface PeerEvents {
  /**
   * The source peer was killed and started over: all data from here on are of the new epoch, whose
   * sequence numbers and fragments begin anew. What it had sent beyond `before` never came.
   */
  restarted: {
    readonly overlayId: OverlayId;
    readonly sessionEpoch: number;
    readonly before: EpochEnd;
  };
  started: { readonly index: FragmentIndex };
  gap: Gap;
  link: LinkEvent;
  /** END was taken; of each data source how far it came, counting epochs that it went on from. */
  ended: { readonly sources: readonly SourceStanding[] };
  note: string;
  failed: { readonly code: ErrorCode; readonly detail: string };
}

export interface LinkEvent {
  readonly peerId: PeerId;
  readonly state: "up" | "down" | "lagging" | "recovered";
  readonly detail: string;
}

export interface OverlayReport {
  readonly overlayId: OverlayId;
  readonly role: "source" | "peer";
  /** Lowest index still held or wanted. */
  readonly start: FragmentIndex;
  /** One past the highest index held. */
  readonly highest: FragmentIndex;
  /** One past the highest index known to exist. */
  readonly known: FragmentIndex;
  readonly fragmentsHeld: number;
  readonly bytesHeld: number;
  /** Known, not held, and not given up as lost. */
  readonly missing: number;
  readonly consumedTo: FragmentIndex;
  readonly lagMs: number;
  /**
   * Peer without a link to the source peer: how long it has learned of no further fragment. Then
   * `missing` and `lagMs` count only what it knew before. 0 while it has such a link, and at the end.
   */
  readonly noNewsMs: number;
  readonly ended: boolean;
  /**
   * Members that were linked with this node, each once: `complete` advertised everything to END (live:
   * stayed to END, with or without gaps), `left` were gone before that, `behind` are linked and lack
   * something still. What a member did with it, only that member knows.
   */
  readonly members: MembersReport;
  /**
   * Source, complete: no peer in good standing is there, and something is held by nobody: for so long
   * it is kept still (node.holdMs), then NO_PEERS. Undefined while there is nothing to keep.
   */
  readonly holdLeftMs: number | undefined;
  /**
   * Complete: the neighbour that fills this node's window and so sets its pace, how many fragments
   * it is behind, and for how long nothing was heard of it. `byOthers`: it says that others hold it
   * back in turn; false once it is silent for longer than any live one (12 s).
   */
  readonly heldBackBy:
    | {
        readonly peerId: PeerId;
        readonly behind: number;
        readonly byOthers: boolean;
        readonly silentMs: number;
      }
    | undefined;
  readonly neighbours: readonly {
    readonly peerId: PeerId;
    readonly role: "source" | "peer" | "virtual";
    /** Of a virtual peer: how many read what it passes on, as it says; else 0. */
    readonly readers: number;
    readonly lagging: boolean;
    readonly bytesFrom: number;
    readonly bytesTo: number;
    readonly queuedBytes: number;
  }[];
  readonly traffic: Traffic;
}

export interface EngineReport {
  readonly peerId: PeerId;
  readonly listening: readonly Address[];
  readonly memory: { readonly segments: number; readonly freeSegments: number };
  readonly kernel: "wasm" | "js";
  /** Links of proven peers, and links in all. */
  readonly links: { readonly peers: number; readonly open: number };
  readonly upload: {
    /** Undefined: no limit. */
    readonly limitBytesPerSecond: number | undefined;
    readonly rateBytesPerSecond: number;
    /** What could be sent on top; undefined without a limit. */
    readonly spareBytesPerSecond: number | undefined;
  };
  readonly download: { readonly limitBytesPerSecond: number | undefined };
  readonly counters: PeerCounters;
  readonly jobs: { readonly inline: number; readonly pooled: number };
  readonly overlays: readonly OverlayReport[];
}

export interface Engine {
  readonly peerId: PeerId;
  /** Where it listens, with real ports. */
  readonly listening: readonly Address[];
  /** Creates overlay and session at the servers; resolves when both are acknowledged. */
  createSource(options: SourceOptions): Promise<EngineSource>;
  /**
   * Resolves when the overlay is joined; rejects with UNKNOWN_INDEX after waitMs, and with USAGE when
   * this engine has the overlay open: one engine is one member.
   */
  join(options: JoinOptions): Promise<EnginePeer>;
  status(): EngineReport;
  /** Leaves everything, announced, and releases sockets, workers and memory. Idempotent. */
  close(): Promise<void>;
}
