/**
 * What a seed draws: the shape of the swarm, its load, its network, its faults. Every fault rate
 * may be 0. The expanded options are printed when a run fails; any of them can be set by hand.
 */

import type { Rng } from "../../src/base/rng.ts";
import { seededRng } from "../../src/base/rng.ts";
import type { NetworkOptions } from "../../src/sim/network.ts";
import { between, betweenLog, chance } from "../../src/sim/world.ts";
import type { SignatureKind } from "./jobs.ts";
import type { PayloadSizes } from "./payloads.ts";

export interface FaultOptions {
  /** All rates are events a minute over the whole swarm, until faultMs. */
  readonly faultMs: number;
  readonly resetsPerMinute: number;
  /** Links that fall silent: half-open. */
  readonly silencesPerMinute: number;
  readonly stallsPerMinute: number;
  readonly stallMsMax: number;
  readonly partitionsPerMinute: number;
  readonly partitionMsMax: number;
  readonly pausesPerMinute: number;
  readonly pauseMsMax: number;
  readonly crashesPerMinute: number;
  /** Share of crashes that tell nobody. */
  readonly silentCrashRate: number;
  /** Share of crashed peers that come back. */
  readonly restartRate: number;
  readonly leavesPerMinute: number;
  readonly joinsPerMinute: number;
  readonly wallJumpsPerMinute: number;
  readonly wallJumpMsMax: number;
  readonly serverCrashesPerMinute: number;
  readonly serverDownMsMax: number;
}

export interface SwarmOptions {
  readonly seed: number;
  readonly peers: number;
  /** Each peer dials so many members when it starts. */
  readonly degree: number;
  /** Who dials whom, by number (0 = the source), instead of chance; wishes go unheard then. */
  readonly links?: readonly (readonly [number, number])[];
  readonly delivery: "complete" | "live";
  readonly integrity: "checksum" | "none";
  readonly signatures: SignatureKind;
  readonly dataSources: number;
  readonly dataPerSource: number;
  /** Each data source sends a datum after so long on average; 0 = as fast as the source takes. */
  readonly everyMs: number;
  readonly sizes: PayloadSizes;
  readonly fragmentBytes: number;
  readonly windowBytes: number;
  readonly windowFragments: number;
  readonly substreams: number;
  /** Links of one node at most. */
  readonly maxLinks: number;
  readonly memoryBytes: number;
  readonly segmentBytes: number;
  readonly network: NetworkOptions;
  /** Uplinks of the nodes, log-uniform between these. */
  readonly uplinkBytesPerMsMin: number;
  readonly uplinkBytesPerMsMax: number;
  /** The upload limit that each engine is given; undefined: none. */
  readonly uploadLimitBytesPerSecond: number | undefined;
  readonly slowConsumers: number;
  readonly slowConsumerPauseMs: number;
  /** Consumers that take nothing from stuckAtMs on. */
  readonly stuckConsumers: number;
  readonly stuckAtMs: number;
  /** Consumers that take nothing from stuckAtMs on for so long, then go on. */
  readonly standingConsumers: number;
  readonly standsMs: number;
  /** Members that are rude from stuckAtMs on: see rude.ts. */
  readonly rudePeers: number;
  /** The first so many peers take part as virtual peers; their consumers are judged all the same. */
  readonly virtualPeers: number;
  readonly driftPpmMax: number;
  readonly timerLateMsMax: number;
  readonly jobDelayMsMax: number;
  readonly lateJobRate: number;
  readonly diskDelayMsMax: number;
  readonly faults: FaultOptions;
  /** After faults stop everybody in good standing must be done within this. */
  readonly healMs: number;
}

export const NO_FAULTS: FaultOptions = {
  faultMs: 0,
  resetsPerMinute: 0,
  silencesPerMinute: 0,
  stallsPerMinute: 0,
  stallMsMax: 0,
  partitionsPerMinute: 0,
  partitionMsMax: 0,
  pausesPerMinute: 0,
  pauseMsMax: 0,
  crashesPerMinute: 0,
  silentCrashRate: 0,
  restartRate: 0,
  leavesPerMinute: 0,
  joinsPerMinute: 0,
  wallJumpsPerMinute: 0,
  wallJumpMsMax: 0,
  serverCrashesPerMinute: 0,
  serverDownMsMax: 0,
};

const KIB = 1024;
/** Share of data that are sliced, in swarms that slice. */
const BIG_RATE = 0.02;
/**
 * The bound of the heal phase. A silent link is noticed after 25 s (LINK_DEAD_MS), what hung on it is
 * given up, asked for and sent again after that.
 */
const HEAL_MS = 60_000;
/** Share of swarms whose stream is live: what is judged here is above all completeness. */
const LIVE_RATE = 0.2;
/** Share of swarms with hardly any upload, and how long one engine takes to send their stream. */
const SCARCE_RATE = 0.06;
const SCARCE_STREAM_S = 10;
/** Longer than repairMs: what only strangers hold is given up meanwhile. */
const SERVER_DOWN_MS_MAX = 15_000;
/** Share of swarms with virtual peers, and how many of them at most. */
const VIRTUAL_RATE = 0.2;
const VIRTUAL_MAX = 3;
/** Share of swarms that last long, and how much is sent in their time. */
const PATIENT_RATE = 0.05;
const PATIENT_DATA = 280;
/** Data times peers of one run: bounds its time. */
const DELIVERIES_MAX = 20_000;
/** Data that come one by one leave in fragments of their own. */
const PACED_DELIVERIES_MAX = 1_800;

/** The options that `seed` draws, `overrides` (one level deep) on top. */
export function drawOptions(seed: number, overrides: Partial<SwarmOptions> = {}): SwarmOptions {
  const rng = seededRng(seed ^ 0x6f707473);
  const fragmentBytes = [1 * KIB, 2 * KIB, 4 * KIB][rng.below(3)] ?? KIB;
  const windowFragments = [64, 64, 128, 512][rng.below(4)] ?? 64;
  const peers = 8 + rng.below(18);
  const sliced = chance(rng, 0.3);
  const faults = drawFaults(rng);
  const dataSources = 1 + rng.below(5);
  const bytesMax = Math.round(betweenLog(rng, 20, 2000));
  const bigBytes = Math.round(betweenLog(rng, 4 * KIB, 200 * KIB));
  // The stream: from less than a window to many of them.
  const streamBytes = betweenLog(rng, 20 * KIB, 1500 * KIB);
  const meanBytes = 24 + bytesMax / Math.log(bytesMax + 1) + (sliced ? BIG_RATE * bigBytes : 0);
  const paced = chance(rng, 0.7);
  const data = Math.min(
    (paced ? PACED_DELIVERIES_MAX : DELIVERIES_MAX) / peers,
    streamBytes / meanBytes,
  );
  const dataPerSource = Math.max(3, Math.round(data / dataSources));
  // As fast as it goes, or so that it lasts about as long as the faults do.
  const lastsMs = faults.faultMs === 0 ? between(rng, 0, 5_000) : faults.faultMs;
  const everyMs = paced ? (lastsMs * between(rng, 0.2, 1.2)) / dataPerSource : 0;
  const options: SwarmOptions = {
    seed,
    peers,
    degree: 3 + rng.below(4),
    delivery: chance(rng, LIVE_RATE) ? "live" : "complete",
    integrity: chance(rng, 0.8) ? "checksum" : "none",
    signatures: "stand-in",
    dataSources,
    dataPerSource,
    everyMs,
    sizes: {
      bytesMin: 1,
      bytesMax,
      emptyRate: maybe(rng, 0.3, 0.1),
      bigRate: sliced ? BIG_RATE : 0,
      bigBytes,
    },
    fragmentBytes,
    windowBytes: Math.round(betweenLog(rng, 64 * KIB, 256 * KIB)),
    windowFragments,
    substreams: [1, 2, 4, 8][rng.below(4)] ?? 8,
    maxLinks: chance(rng, 0.2) ? 6 + rng.below(5) : 64,
    memoryBytes: 2048 * KIB,
    segmentBytes: 16 * KIB,
    network: {
      latencyMsMin: 1,
      latencyMsMax: Math.round(betweenLog(rng, 2, 400)),
      jitterMsMax: maybe(rng, 0.5, 100),
      bytesPerMsMin: Math.round(betweenLog(rng, 50, 10_000)),
      bytesPerMsMax: 20_000,
      windowBytesMin: 8 * KIB,
      windowBytesMax: 256 * KIB,
      readBytesMax: 64 * KIB,
      crumblePathRate: maybe(rng, 0.7, 0.5),
      crumbleRate: betweenLog(rng, 0.01, 1),
      refuseRate: maybe(rng, 0.3, 0.2),
    },
    uplinkBytesPerMsMin: Math.round(betweenLog(rng, 100, 10_000)),
    uplinkBytesPerMsMax: 20_000,
    uploadLimitBytesPerSecond: undefined,
    slowConsumers: chance(rng, 0.3) ? rng.below(3) : 0,
    slowConsumerPauseMs: betweenLog(rng, 5, 200),
    stuckConsumers: chance(rng, 0.15) ? 1 : 0,
    stuckAtMs: betweenLog(rng, 500, 10_000),
    standingConsumers: 0,
    standsMs: 0,
    rudePeers: 0,
    virtualPeers: drawVirtualPeers(seed),
    driftPpmMax: maybe(rng, 0.7, 200),
    timerLateMsMax: maybe(rng, 0.5, 20),
    jobDelayMsMax: betweenLog(rng, 0.01, 20),
    lateJobRate: maybe(rng, 0.5, 0.1),
    diskDelayMsMax: betweenLog(rng, 0.1, 20),
    faults,
    healMs: HEAL_MS,
  };
  const meanDatumBytes = meanBytes + 12;
  return {
    ...options,
    ...drawScarcity(options, meanDatumBytes),
    ...drawPatience(options),
    ...overrides,
  };
}

function drawVirtualPeers(seed: number): number {
  const rng = seededRng(seed ^ 0x76697274);
  return chance(rng, VIRTUAL_RATE) ? 1 + rng.below(VIRTUAL_MAX) : 0;
}

/**
 * Some swarms are small, slow and last long, so that what takes half a minute to be noticed is: links
 * that fall silent, a member that stands still, another that does not read.
 */
function drawPatience({ seed, sizes, network }: SwarmOptions): Partial<SwarmOptions> {
  const rng = seededRng(seed ^ 0x70617469);
  if (!chance(rng, PATIENT_RATE)) return {};
  const faultMs = between(rng, 45_000, 55_000);
  return {
    virtualPeers: 0,
    peers: 8,
    degree: 4,
    maxLinks: 64,
    dataSources: 1,
    dataPerSource: PATIENT_DATA,
    everyMs: faultMs / PATIENT_DATA,
    sizes: { ...sizes, bytesMax: Math.min(sizes.bytesMax, 500), bigRate: 0 },
    // What a member does not read soon stays in the queue of who sent it.
    network: {
      ...network,
      latencyMsMax: Math.min(network.latencyMsMax, 100),
      windowBytesMin: 2 * KIB,
      windowBytesMax: 2 * KIB + 1,
    },
    windowFragments: 64,
    slowConsumers: 0,
    stuckConsumers: 0,
    stuckAtMs: between(rng, 2_000, 6_000),
    standingConsumers: 1,
    standsMs: between(rng, 28_000, 33_000),
    // Where all wait for one that reads nothing, nobody waits for the one that stands long enough.
    rudePeers: rng.below(2),
    faults: {
      ...NO_FAULTS,
      faultMs,
      silencesPerMinute: between(rng, 1, 4),
      stallsPerMinute: between(rng, 15, 40),
      stallMsMax: 20_000,
    },
  };
}

/**
 * Some swarms have hardly any upload, so that requests wait until they are declined (BUSY); their
 * streams are short. By a generator of its own: what others draw stays as it is.
 */
function drawScarcity(options: SwarmOptions, meanDatumBytes: number): Partial<SwarmOptions> {
  const rng = seededRng(options.seed ^ 0x62757379);
  if (!chance(rng, SCARCE_RATE)) return {};
  const uploadLimitBytesPerSecond = Math.round(options.fragmentBytes * between(rng, 2, 5));
  const data = (uploadLimitBytesPerSecond * SCARCE_STREAM_S) / meanDatumBytes;
  const dataPerSource = Math.max(3, Math.round(data / options.dataSources));
  return {
    uploadLimitBytesPerSecond,
    everyMs: 0,
    dataPerSource: Math.min(options.dataPerSource, dataPerSource),
  };
}

function drawFaults(rng: Rng): FaultOptions {
  // Some seeds see a calm network: what fails there is no fault's fault.
  const rate = (probability: number, max: number): number =>
    chance(rng, probability) ? betweenLog(rng, 0.5, max) : 0;
  if (chance(rng, 0.15)) return NO_FAULTS;
  return {
    faultMs: between(rng, 4_000, 25_000),
    resetsPerMinute: rate(0.4, 60),
    silencesPerMinute: rate(0.2, 6),
    stallsPerMinute: rate(0.4, 60),
    stallMsMax: between(rng, 100, 5_000),
    partitionsPerMinute: rate(0.25, 10),
    partitionMsMax: betweenLog(rng, 200, 20_000),
    pausesPerMinute: rate(0.25, 10),
    pauseMsMax: betweenLog(rng, 100, 30_000),
    crashesPerMinute: rate(0.3, 8),
    silentCrashRate: rng.next(),
    restartRate: rng.next(),
    leavesPerMinute: rate(0.3, 8),
    joinsPerMinute: rate(0.4, 12),
    wallJumpsPerMinute: rate(0.3, 6),
    wallJumpMsMax: 3_600_000,
    serverCrashesPerMinute: rate(0.4, 3),
    serverDownMsMax: SERVER_DOWN_MS_MAX,
  };
}

/** 0, or with `probability` uniform up to `max`. */
function maybe(rng: Rng, probability: number, max: number): number {
  return chance(rng, probability) ? rng.next() * max : 0;
}
