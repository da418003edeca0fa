/**
 * One large run: a source peer and many peers on one virtual clock and in one memory.
 *
 *     members join -> data flow, churn happens -> END -> all in good standing have it, or healMs
 */

import { KIB, MIB, toHex } from "../../base/units.ts";
import { EngineMemory } from "../../kernel/engine-memory.ts";
import { createJsKernel } from "../../kernel/js-kernel.ts";
import { type PeerCounters, zeroCounters } from "../../peer/context.ts";
import { frameEnds } from "../frame-end.ts";
import { Network } from "../network.ts";
import { type Member, Swarm } from "../swarm.ts";
import { between, chance, World } from "../world.ts";
import { Churn } from "./churn.ts";
import { Deliverable } from "./deliverable.ts";
import { identityOfMember, LargeDriver, type LargeSetup } from "./driver.ts";
import { Meter } from "./meter.ts";
import { everyMs, LARGE_DEFAULTS, type LargeOptions } from "./options.ts";
import { CheckedFragments, type Sha256 } from "./quick-jobs.ts";
import { type LargeReport, makeReport } from "./report.ts";
import { Roster } from "./roster.ts";
import { Stream } from "./stream.ts";

export interface LargeRequest {
  readonly options: Partial<LargeOptions> & { readonly seed: number };
  readonly sha256: Sha256;
  /** Readable history for a person. */
  readonly log?: (line: string) => void;
  /** Called about every second of virtual time. */
  readonly progress?: (virtualMs: number, run: LargeRun) => void;
}

export interface LargeRun {
  readonly world: World;
  readonly network: Network;
  readonly swarm: Swarm;
  readonly memory: EngineMemory;
  readonly meter: Meter;
}

const PORT = 7901;
/** Tables of one peer: its maps, what it takes fragments apart with, and those of its neighbours. */
const MEMORY_PER_PEER = 640 * KIB;
const MEMORY_BASE = 128 * MIB;
/** Offsets stay small integers below this. */
const MEMORY_MAX = 2047 * MIB;
/** Nothing is on its way for longer after the last process ended. */
const AFTERMATH_MS = 60_000;
const CHECKED_A_SECOND = 50;
const SOCKET_BYTES = 256 * KIB;

export function runLarge(request: LargeRequest): LargeReport {
  const options: LargeOptions = { ...LARGE_DEFAULTS, ...request.options };
  const { seed } = options;
  const world = new World(seed);
  world.log = request.log;
  const members = options.peers + options.massJoin;
  const memoryBytes = Math.min(MEMORY_MAX, MEMORY_BASE + members * MEMORY_PER_PEER);
  const kernel = createJsKernel({ memoryBytes: memoryBytes - (memoryBytes % MIB) });
  const memory = new EngineMemory(kernel);
  const network = new Network(world, networkOf(options), frameEnds(memory));
  const swarm = new Swarm(network);
  const overlayId = toHex(
    request.sha256(new TextEncoder().encode(`overlay ${seed}`)).subarray(0, 16),
  );
  const roster = new Roster(world.rng("roster"));
  const stream = new Stream(swarm, options, overlayId);
  const meter = new Meter(swarm, options, stream);
  const deliverable = new Deliverable(swarm, network, meter);
  meter.closed = (progress) => deliverable.close(progress);
  swarm.observe(meter);
  const counters = zeroCounters();
  const setup: LargeSetup = {
    swarm,
    world,
    options,
    roster,
    stream,
    fragments: new CheckedFragments(memory),
    sha256: request.sha256,
    overlayId,
    buried: (more) => addCounters(counters, more),
  };
  const rng = world.rng("members");
  const streamBytesPerMs = options.streamBytesPerS / 1000;
  const add = (name: string, fromStart: boolean): Member => {
    const isSource = swarm.members.length === 0;
    const node = network.addNode(name, { offsetMs: between(rng, 0, 1e7) });
    const upload = isSource
      ? options.sourceUpload
      : between(rng, options.uploadMin, options.uploadMax);
    node.uplinkBytesPerMs = upload * streamBytesPerMs;
    node.downlinkBytesPerMs = options.download * streamBytesPerMs;
    const canBeDialled = isSource || !chance(rng, options.outboundOnly);
    const fanOut = options.fanOutMin + rng.below(options.fanOutMax - options.fanOutMin + 1);
    const { peerId } = identityOfMember({ seed, sha256: request.sha256 }, name);
    return swarm.add(node, isSource ? "source" : "peer", fromStart, (member) => {
      const address = canBeDialled ? network.listen(node, "tcp", PORT) : undefined;
      roster.enter(member, peerId, address);
      return new LargeDriver(setup, member, fanOut);
    });
  };
  let joined = 0;
  const churn = new Churn({ swarm, network, options, stream, roster }, () => {
    // Nobody joins what is over.
    if (stream.endedMs === undefined) add(`late-${++joined}`, false);
  });

  const freeBefore = memory.freeSegments;
  add("source", true);
  for (let i = 1; i <= options.peers; i++) {
    world.at((options.joinMs * i) / options.peers, () => add(`peer-${i}`, true));
  }
  const lastsMs = options.fragments * everyMs(options);
  const watch = (): void => {
    request.progress?.(world.nowMs, { world, network, swarm, memory, meter });
    checkSome(swarm, options.peers);
    world.after(1_000, watch);
  };
  const begin = (): void => {
    if (stream.startedMs === undefined) {
      world.after(10, begin);
      return;
    }
    churn.start(lastsMs);
    if (options.delivery === "live") deliverable.start();
  };
  world.after(10, begin);
  world.after(1_000, watch);
  world.run(options.joinMs + 60_000 + 4 * lastsMs, () => stream.endedMs !== undefined);
  world.run(world.nowMs + options.healMs, () => world.eventCount % 64 === 0 && done(swarm));
  deliverable.stop();
  for (const progress of meter.running) deliverable.close(progress);
  network.observers.end();
  const alive = swarm.members.filter(({ node }) => node.alive);
  for (const { driver } of alive) {
    const machine = (driver as LargeDriver).machine;
    if (machine !== undefined) addCounters(counters, machine.context.counters);
  }
  const report = makeReport({
    options,
    world,
    network,
    swarm,
    stream,
    meter,
    deliverable,
    churn,
    // What those that are ended below had is in it already.
    counters: { ...counters },
  });
  closeDown(swarm);
  if (memory.freeSegments !== freeBefore) {
    const lost = freeBefore - memory.freeSegments;
    world.violate("memory", `${lost} segments were not given back by processes that are gone`);
  }
  return {
    ...report,
    violations: world.violations,
    ok: report.ok && world.violations.length === 0,
  };
}

/** Ends every process and lets what is on its way arrive at nobody. */
function closeDown(swarm: Swarm): void {
  for (const member of swarm.members) {
    if (member.node.alive) swarm.crash(member, false);
  }
  swarm.world.run(swarm.world.nowMs + AFTERMATH_MS);
}

/** Recomputes what some machines derived: a few each second, all of them over a run. */
function checkSome({ world, members }: Swarm, peers: number): void {
  const second = Math.round(world.nowMs / 1000);
  const every = Math.ceil(peers / CHECKED_A_SECOND);
  for (const { name, node, driver } of members) {
    if (!node.alive || node.index % every !== second % every) continue;
    try {
      for (const overlay of (driver as LargeDriver).machine?.overlays.values() ?? []) {
        overlay.checkInvariants();
      }
    } catch (error) {
      world.violate("invariants", `${name}: ${error instanceof Error ? error.message : error}`);
    }
  }
}

/** Whether everybody in good standing has taken END. */
function done(swarm: Swarm): boolean {
  return swarm.members.every((member) => !member.inGoodStanding || member.ended);
}

function networkOf(options: LargeOptions): Network["options"] {
  // A link is as fast as the ends are: their capacity is what its bytes wait for.
  return {
    latencyMsMin: 2 * options.latencyMsMin,
    latencyMsMax: 2 * options.latencyMsMax,
    jitterMsMax: options.jitterMsMax,
    bytesPerMsMin: 1,
    bytesPerMsMax: 1,
    windowBytesMin: SOCKET_BYTES,
    windowBytesMax: SOCKET_BYTES,
    readBytesMax: SOCKET_BYTES,
    crumblePathRate: 0,
    crumbleRate: 0,
    refuseRate: 0,
  };
}

function addCounters(sum: PeerCounters, more: PeerCounters): void {
  for (const key of Object.keys(sum) as (keyof PeerCounters)[]) sum[key] += more[key];
}
