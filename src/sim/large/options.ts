/**
 * What a large run is made of. Everything left out is drawn from the seed or has the value DESIGN's
 * goals are stated for; the same options give the same run, event for event.
 */

import { KIB } from "../../base/units.ts";

export interface LargeOptions {
  readonly seed: number;
  readonly peers: number;
  readonly delivery: "complete" | "live";
  /** Fragments of the stream, END not counted; one datum each. */
  readonly fragments: number;
  readonly fragmentBytes: number;
  /** What the data source sends, in payload bytes a second. */
  readonly streamBytesPerS: number;
  readonly windowBytes: number;
  readonly windowFragments: number;
  readonly substreams: number;
  readonly maxLagMs: number;

  /** Members that a peer links up with of its own choice: drawn per peer between these. */
  readonly fanOutMin: number;
  readonly fanOutMax: number;
  /** Upload capacity of a peer in multiples of the stream, drawn per peer, uniform. */
  readonly uploadMin: number;
  readonly uploadMax: number;
  /** Upload of the source peer and download of everybody, in multiples of the stream. */
  readonly sourceUpload: number;
  readonly download: number;
  /** Share of peers that nobody can dial. */
  readonly outboundOnly: number;

  /** One way, drawn per pair of nodes, log-uniform. */
  readonly latencyMsMin: number;
  readonly latencyMsMax: number;
  readonly jitterMsMax: number;

  /** The first peers join over this time. */
  readonly joinMs: number;
  /** Share of peers that go a minute, half by crash, half announced; each is replaced at once. */
  readonly churnPerMin: number;
  /** Share of links that break a minute (a reset on the way). */
  readonly lossPerMin: number;
  /** Share of links that fall silent a minute: nothing passes, nobody is told. */
  readonly silencePerMin: number;
  /** Share of links that stall a minute, each for up to stallMsMax. */
  readonly stallsPerMin: number;
  readonly stallMsMax: number;
  /** So many partitions a minute cut off 5 to 30 % of the nodes, each for up to partitionMsMax. */
  readonly partitionsPerMin: number;
  readonly partitionMsMax: number;
  /** This share of peers leaves within a second, unreplaced, in the middle of the stream; 0 = none. */
  readonly massLeave: number;
  /** So many more peers join within a second in the middle of the stream. */
  readonly massJoin: number;
  /** Virtual time within which all must be done after the last datum was written. */
  readonly healMs: number;
}

export const LARGE_DEFAULTS: Omit<LargeOptions, "seed"> = {
  peers: 1000,
  delivery: "complete",
  fragments: 1000,
  fragmentBytes: 16 * KIB,
  streamBytesPerS: 512 * KIB,
  windowBytes: 8 * 1024 * KIB,
  windowFragments: 8192,
  substreams: 8,
  maxLagMs: 10_000,
  fanOutMin: 4,
  fanOutMax: 6,
  uploadMin: 1.2,
  uploadMax: 3,
  sourceUpload: 4,
  download: 8,
  outboundOnly: 0.6,
  latencyMsMin: 5,
  latencyMsMax: 100,
  jitterMsMax: 10,
  joinMs: 5_000,
  churnPerMin: 0,
  lossPerMin: 0,
  silencePerMin: 0,
  stallsPerMin: 0,
  stallMsMax: 5_000,
  partitionsPerMin: 0,
  partitionMsMax: 5_000,
  massLeave: 0,
  massJoin: 0,
  healMs: 120_000,
};

/** What a fragment spends on header, declaration and record: the datum gets the rest. */
export const FRAGMENT_OVERHEAD_BYTES = 256;
export const SOURCE_ID = "sensor";

/** Time between two data. */
export function everyMs(options: LargeOptions): number {
  return ((options.fragmentBytes - FRAGMENT_OVERHEAD_BYTES) * 1000) / options.streamBytesPerS;
}
