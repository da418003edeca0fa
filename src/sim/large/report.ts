/** What one large run was like, as numbers and against the goals of the algorithm. */

import { FRAME_TYPES } from "../../base/layout.ts";
import type { PeerCounters } from "../../peer/context.ts";
import type { Network } from "../network.ts";
import type { Member, Swarm } from "../swarm.ts";
import type { Violation, World } from "../world.ts";
import type { Churn } from "./churn.ts";
import type { Deliverable } from "./deliverable.ts";
import type { Meter, Progress } from "./meter.ts";
import type { LargeOptions } from "./options.ts";
import type { Stream } from "./stream.ts";

/** One goal: what was asked, what was measured. */
export interface Goal {
  readonly name: string;
  readonly measured: number;
  /** The bound, inclusive. */
  readonly bound: number;
  readonly atMost: boolean;
  readonly unit: "share" | "times" | "hops" | "count";
  readonly met: boolean;
}

/** Milliseconds at these shares of all samples. */
export interface Spread {
  readonly samples: number;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p99: number | null;
  readonly max: number | null;
}

export interface LargeReport {
  readonly seed: number;
  readonly options: LargeOptions;
  /** All goals met and nothing violated. */
  readonly ok: boolean;
  readonly goals: readonly Goal[];
  readonly violations: readonly Violation[];
  readonly traceHash: string;
  readonly virtualMs: number;
  readonly streamMs: number;
  readonly events: number;
  readonly fragments: number;
  readonly streamBytes: number;
  readonly peers: {
    readonly ever: number;
    readonly atEnd: number;
    readonly inGoodStanding: number;
    readonly toldLagging: number;
    readonly excuses: Readonly<Record<string, number>>;
  };
  readonly churn: Readonly<Record<string, number>>;
  readonly delivery: {
    /** Data delivered of those owed, over all peers in good standing (complete). */
    readonly complete: number;
    /** Fragments had of those deliverable (live). */
    readonly live: number;
    /** Fragments had of all from each peer's start on (live). */
    readonly liveOfAll: number;
    readonly incompletePeers: number;
    /** Peers in good standing that came into the stream nowhere. */
    readonly neverStarted: number;
    readonly gaps: number;
  };
  /** DATA frames for what was there or on the way already, of all fragments received. */
  readonly duplicates: number;
  readonly control: number;
  readonly hops: { readonly median: number; readonly p99: number; readonly max: number };
  readonly delayMs: Spread;
  readonly startMs: Spread;
  readonly joinToFirstFragmentMs: Spread;
  readonly source: {
    /** DATA frames sent, of the fragments of the stream. */
    readonly frames: number;
    /** All bytes sent, of those of the stream. */
    readonly bytes: number;
    readonly neighbours: number;
  };
  readonly links: { readonly open: number; readonly perPeer: number };
  readonly frames: Readonly<Record<string, { readonly frames: number; readonly bytes: number }>>;
  readonly counters: PeerCounters;
}

export interface ReportParts {
  readonly options: LargeOptions;
  readonly world: World;
  readonly network: Network;
  readonly swarm: Swarm;
  readonly stream: Stream;
  readonly meter: Meter;
  readonly deliverable: Deliverable;
  readonly churn: Churn;
  readonly counters: PeerCounters;
}

const NAMES = new Map(Object.entries(FRAME_TYPES).map(([name, type]) => [type as number, name]));

export function makeReport(parts: ReportParts): LargeReport {
  const { options, world, network, swarm, stream, meter, deliverable, counters } = parts;
  const peers = swarm.members.filter(({ role }) => role === "peer");
  const good = peers.filter((peer) => peer.inGoodStanding);
  const { owed, delivered, incomplete } = completeness(good, meter, options);
  const links = network.links();
  const hops = hopQuantiles(meter.hopCounts);
  const received = meter.dataFrames - meter.duplicates;
  const body = {
    seed: options.seed,
    options,
    violations: world.violations,
    traceHash: world.trace.hash,
    virtualMs: Math.round(world.nowMs),
    streamMs: Math.round((stream.endedMs ?? world.nowMs) - (stream.startedMs ?? 0)),
    events: world.eventCount,
    fragments: meter.streamFragments,
    streamBytes: meter.streamBytes,
    peers: {
      ever: peers.length,
      atEnd: peers.filter(({ node }) => node.alive).length,
      inGoodStanding: good.length,
      toldLagging: peers.filter(({ excuses }) => excuses.has("lagging")).length,
      excuses: excusesOf(peers),
    },
    churn: parts.churn.hits,
    delivery: {
      complete: ratio(delivered, owed),
      live: ratio(deliverable.delivered, deliverable.delivered + deliverable.missed),
      liveOfAll: ratio(deliverable.delivered, deliverable.delivered + deliverable.absent),
      incompletePeers: incomplete,
      neverStarted: good.filter(({ started }) => !started).length,
      gaps: counters.gaps,
    },
    duplicates: meter.duplicates / Math.max(1, received),
    control: meter.controlBytes / Math.max(1, meter.controlBytes + meter.recordBytes),
    hops,
    delayMs: spread(meter.delaysMs),
    startMs: spread(meter.startMs),
    joinToFirstFragmentMs: spread(meter.firstFragmentMs),
    source: {
      frames: meter.sourceDataFrames / Math.max(1, meter.streamFragments),
      bytes: meter.sourceBytes / Math.max(1, meter.streamBytes),
      neighbours: swarm.source.node.ends.size,
    },
    links: {
      open: links.length,
      perPeer: (2 * links.length) / Math.max(1, peers.filter(({ node }) => node.alive).length),
    },
    frames: framesOf(meter),
    counters,
  };
  const goals = goalsOf(body);
  return {
    ...body,
    goals,
    ok: world.violations.length === 0 && goals.every(({ met }) => met),
  };
}

function goalsOf(report: Omit<LargeReport, "goals" | "ok">): Goal[] {
  const goals: Goal[] = [];
  const atLeast = (name: string, measured: number, bound: number, unit: Goal["unit"]): void => {
    goals.push({ name, measured, bound, atMost: false, unit, met: measured >= bound });
  };
  const atMost = (name: string, measured: number, bound: number, unit: Goal["unit"]): void => {
    goals.push({ name, measured, bound, atMost: true, unit, met: measured <= bound });
  };
  const { options } = report;
  // What nobody was there for is nobody's success.
  atLeast("peers in good standing", report.peers.inGoodStanding, 1, "count");
  atMost("peers in good standing that never started", report.delivery.neverStarted, 0, "count");
  if (options.delivery === "complete") {
    atLeast(
      "complete: data delivered to peers in good standing",
      report.delivery.complete,
      1,
      "share",
    );
    const waits = options.silencePerMin + options.stallsPerMin + options.partitionsPerMin;
    if (waits === 0)
      atMost("peers told lagging without a fault", report.peers.toldLagging, 0, "count");
  } else atLeast("live: delivered of what was deliverable", report.delivery.live, 0.999, "share");
  atMost("duplicates", report.duplicates, 0.02, "share");
  // Stated for fragments of 16 KiB: smaller ones spend more on each.
  if (options.fragmentBytes >= 16 * 1024)
    atMost("control bytes of all", report.control, 0.02, "share");
  atMost("median hops", report.hops.median, 6, "hops");
  atMost("source upload, frames of the stream", report.source.frames, 3, "times");
  return goals;
}

/** What peers in good standing were owed and got, in data. */
function completeness(
  good: readonly Member[],
  meter: Meter,
  options: LargeOptions,
): { owed: number; delivered: number; incomplete: number } {
  let owed = 0;
  let delivered = 0;
  let incomplete = 0;
  for (const member of good) {
    const progress = meter.of(member.node);
    const first = firstOwed(member, progress);
    const share = Math.max(0, options.fragments - first + 1);
    const got = Math.min(share, progress?.delivered ?? 0);
    owed += share;
    delivered += got;
    if (got < share || progress?.ended !== true) incomplete++;
  }
  return { owed, delivered, incomplete };
}

/** First sequence number owed: the very first to those who were there, else that of the start. */
function firstOwed(member: Member, progress: Progress | undefined): number {
  if (member.fromStart) return 1;
  return progress?.firstSequence ?? (progress?.startIndex ?? 0) + 1;
}

function excusesOf(peers: readonly Member[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { excuses } of peers) {
    for (const excuse of excuses) counts[excuse] = (counts[excuse] ?? 0) + 1;
  }
  return counts;
}

function hopQuantiles(counts: Float64Array): LargeReport["hops"] {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const at = (share: number): number => {
    let left = share * total;
    for (let hops = 0; hops < counts.length; hops++) {
      left -= counts[hops] as number;
      if (left < 0) return hops;
    }
    return counts.findLastIndex((count) => count > 0);
  };
  return { median: at(0.5), p99: at(0.99), max: counts.findLastIndex((count) => count > 0) };
}

function spread(samples: Meter["delaysMs"]): Spread {
  const [p50, p90, p99, max] = samples
    .quantiles([0.5, 0.9, 0.99, 1])
    .map((value) => (value === undefined ? null : Math.round(value * 10) / 10));
  return {
    samples: samples.count,
    p50: p50 ?? null,
    p90: p90 ?? null,
    p99: p99 ?? null,
    max: max ?? null,
  };
}

function framesOf(meter: Meter): Record<string, { frames: number; bytes: number }> {
  const found: Record<string, { frames: number; bytes: number }> = {};
  meter.framesByType.forEach((frames, type) => {
    if (frames === 0) return;
    const name = NAMES.get(type) ?? `type ${type}`;
    found[name] = { frames, bytes: meter.bytesByType[type] as number };
  });
  return found;
}

function ratio(part: number, whole: number): number {
  return whole === 0 ? 1 : part / whole;
}
