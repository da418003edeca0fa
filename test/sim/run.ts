/**
 * One run: options of a seed, members, faults, checkers, report.
 *
 *     faults happen until faultMs  ->  heal  ->  done when everybody in good standing has the end
 *
 * A run that is not done healMs after that is a violation like any other. The same options give
 * the same run, event for event: the trace hash says so.
 */

import { Network } from "../../src/sim/network.ts";
import type { SimNode } from "../../src/sim/node.ts";
import { type Driver, type Member, Swarm } from "../../src/sim/swarm.ts";
import { between, betweenLog, type Violation, World } from "../../src/sim/world.ts";
import { CompletenessChecker } from "./checkers/completeness.ts";
import { FragmentContents } from "./checkers/contents.ts";
import { CreditKeptChecker } from "./checkers/credit-kept.ts";
import { DeliveryChecker } from "./checkers/delivery.ts";
import { HonestMapsChecker } from "./checkers/honest-maps.ts";
import { IdenticalFragmentsChecker } from "./checkers/identical-fragments.ts";
import { InvariantsChecker } from "./checkers/invariants.ts";
import { LinkStateChecker } from "./checkers/link-state.ts";
import { MarksMonotoneChecker } from "./checkers/marks-monotone.ts";
import { QueuesBoundedChecker } from "./checkers/queues-bounded.ts";
import { SentOnceChecker } from "./checkers/sent-once.ts";
import { SourceReceivesNothingChecker } from "./checkers/source-receives-nothing.ts";
import { StandingChecker } from "./checkers/standing.ts";
import { Coverage } from "./coverage.ts";
import { Directory } from "./directory.ts";
import type { SwarmFacts } from "./facts.ts";
import { Faults } from "./faults.ts";
import { drawOptions, type SwarmOptions } from "./options.ts";
import { Payloads } from "./payloads.ts";
import { pieceEnd } from "./piece-end.ts";
import { makeRude } from "./rude.ts";
import { Traffic } from "./traffic.ts";

/** What a driver is made from. */
export interface DriverSetup {
  readonly member: Member;
  readonly swarm: Swarm;
  readonly world: World;
  readonly options: SwarmOptions;
  readonly payloads: Payloads;
  readonly sourceIds: readonly string[];
  readonly directory: Directory;
  readonly coverage: Coverage;
}

export type DriverFactory = (setup: DriverSetup) => Driver;

export interface SimulateOptions {
  readonly seed: number;
  readonly driver: DriverFactory;
  /** Set by hand, on top of what the seed draws. */
  readonly overrides?: Partial<SwarmOptions>;
  /**
   * Invariants are recomputed after so many steps, which costs as much as dozens of them; 149 when
   * absent. 1: after each.
   */
  readonly invariantsEverySteps?: number;
  /** The machine has no credit (toys): that checker stays out. */
  readonly withoutCredit?: boolean;
  readonly log?: (line: string) => void;
  /** Whether what was found is enough: the run ends there, and what is due by its end is not. */
  readonly isEnough?: (violations: readonly Violation[]) => boolean;
  /** Called when all is set up, before the first event. */
  readonly prepare?: (run: Run) => void;
}

export interface Run {
  readonly options: SwarmOptions;
  readonly world: World;
  readonly network: Network;
  readonly swarm: Swarm;
  readonly delivery: DeliveryChecker;
  readonly completeness: CompletenessChecker;
}

export interface Report {
  readonly ok: boolean;
  readonly seed: number;
  readonly options: SwarmOptions;
  readonly overrides: Partial<SwarmOptions>;
  readonly violations: readonly Violation[];
  readonly traceHash: string;
  readonly virtualMs: number;
  readonly wallMs: number;
  readonly events: number;
  readonly frames: number;
  readonly framesByType: Record<string, number>;
  readonly messages: number;
  readonly fragments: number;
  readonly delivered: number;
  readonly advertised: number;
  /** DATA frames that arrived for an index that had arrived before, of all. */
  readonly duplicateRatio: number;
  /** Bytes of DATA that the source sent, of the stream. */
  readonly sourceUploadRatio: number;
  /** Bytes that are not records, of all. */
  readonly controlRatio: number;
  readonly highestQueueBytes: number;
  readonly peers: number;
  readonly peersInGoodStanding: number;
  readonly excuses: Record<string, number>;
  readonly faultHits: Record<string, number>;
  /** Virtual time from the last fault, or the last datum if that was later, until all was done. */
  readonly healedMs: number;
  /** Everything that occurred: see coverage.ts. */
  readonly occurred: readonly string[];
}

export const PEER_PORT = 7901;
/** Control frames and one run that a step may hand over past a link's limit. */
const QUEUE_SLACK_BYTES = 600 * 1024;

export function simulate(request: SimulateOptions): Report {
  const startedMs = performance.now();
  const overrides = request.overrides ?? {};
  const options = drawOptions(request.seed, overrides);
  const world = new World(request.seed);
  world.log = request.log;
  const network = new Network(world, options.network, pieceEnd);
  const swarm = new Swarm(network);
  const payloads = new Payloads(request.seed, options.sizes);
  const sourceIds = Array.from({ length: options.dataSources }, (_, i) => `sensor-${i}`);
  const directory = new Directory(world.rng("directory"));
  const facts: SwarmFacts = {
    world,
    network,
    payloads,
    dataPerSource: new Map(sourceIds.map((id) => [id, options.dataPerSource])),
    fragmentBytes: options.fragmentBytes,
    delivery: options.delivery,
    swarm,
    directory,
  };
  const traffic = new Traffic(swarm);
  const delivery = new DeliveryChecker(facts);
  const contents = new FragmentContents();
  const completeness = new CompletenessChecker(facts, delivery, contents);
  const identical = new IdenticalFragmentsChecker(facts);
  const honest = new HonestMapsChecker(facts);
  const queues = new QueuesBoundedChecker(facts, QUEUE_SLACK_BYTES);
  const coverage = new Coverage();
  swarm.observe(traffic);
  swarm.observe(coverage);
  swarm.observe(identical);
  swarm.observe(new SourceReceivesNothingChecker(facts));
  swarm.observe(honest);
  swarm.observe(new MarksMonotoneChecker(facts));
  if (request.withoutCredit !== true) swarm.observe(new CreditKeptChecker(facts));
  if (request.withoutCredit !== true) swarm.observe(new SentOnceChecker(facts));
  const everySteps = request.invariantsEverySteps ?? 149;
  swarm.observe(new InvariantsChecker(facts, everySteps));
  if (request.withoutCredit !== true) swarm.observe(new LinkStateChecker(facts, everySteps));
  swarm.observe(queues);
  swarm.observe(contents);
  swarm.observe(delivery);
  swarm.observe(completeness);

  const rng = world.rng("members");
  const addMember = (name: string, fromStart: boolean): Member => {
    const node = network.addNode(name, {
      offsetMs: between(rng, 0, 1e7),
      driftPpm: between(rng, -options.driftPpmMax, options.driftPpmMax),
      wallOffsetMs: between(rng, -1000, 1000),
    });
    drawNode(node, options, rng);
    const role = swarm.members.length === 0 ? "source" : "peer";
    return swarm.add(node, role, fromStart, (member) => {
      directory.enter(member, network.listen(node, "tcp", PEER_PORT));
      const setup = { member, swarm, world, options, payloads, sourceIds, directory, coverage };
      return request.driver(setup);
    });
  };
  let joined = 0;
  const join = (): void => {
    const member = addMember(`late-${++joined}`, false);
    // What was there before a newcomer came is not owed to it.
    world.log?.(`${world.nowMs.toFixed(3)} ${member.name} joins`);
  };
  const faults = new Faults(swarm, options.faults, {
    join,
    restart: (member) => swarm.boot(member),
    crashServer: (untilMs) => directory.crash(untilMs),
  });
  request.prepare?.({ options, world, network, swarm, delivery, completeness });
  const rude = new Set<string>();
  const { wrap } = swarm;
  swarm.wrap = (member, machine) => {
    const wrapped = wrap?.(member, machine) ?? machine;
    return rude.has(member.name) ? makeRude(world, member, wrapped, options.stuckAtMs) : wrapped;
  };
  addMember("source", true);
  for (let i = 1; i <= options.peers; i++) {
    const kind = mannersOf(i, options);
    if (kind === "rude") rude.add(`peer-${i}`);
    const member = addMember(`peer-${i}`, true);
    if (kind === "slow") member.driver.consumerPauseMs = options.slowConsumerPauseMs;
    if (kind === "stuck" || kind === "standing") {
      world.at(options.stuckAtMs, () => {
        if (member.ended) return;
        if (kind === "stuck") member.excuses.add("stuck");
        else world.after(options.standsMs, () => standUp(member));
        member.driver.consumerPauseMs = Number.POSITIVE_INFINITY;
      });
    }
  }
  swarm.observe(new StandingChecker(facts, faults));
  faults.start();
  const isEnough = (): boolean => request.isEnough?.(world.violations) === true;
  if (!world.run(options.faults.faultMs, isEnough)) {
    world.run(options.faults.faultMs + options.healMs, () => completeness.done || isEnough());
  }
  network.observers.end();
  for (const { driver } of swarm.members) driver.finished?.();
  for (const kind of Object.keys(faults.hits)) coverage.fault(kind);

  const peers = swarm.members.filter(({ role }) => role === "peer");
  const excuses: Record<string, number> = {};
  for (const { excuses: why } of peers)
    for (const excuse of why) excuses[excuse] = (excuses[excuse] ?? 0) + 1;
  return {
    ok: world.violations.length === 0,
    seed: request.seed,
    options,
    overrides,
    violations: world.violations,
    traceHash: world.trace.hash,
    virtualMs: world.nowMs,
    wallMs: performance.now() - startedMs,
    events: world.eventCount,
    frames: traffic.frames,
    framesByType: traffic.framesByType,
    messages: traffic.messages,
    fragments: identical.fragmentCount,
    delivered: delivery.delivered,
    advertised: honest.advertised,
    duplicateRatio: traffic.duplicates / Math.max(1, traffic.dataFrames),
    sourceUploadRatio: traffic.dataBytesFromSource / Math.max(1, identical.streamBytes),
    controlRatio: traffic.controlBytes / Math.max(1, traffic.controlBytes + traffic.recordBytes),
    highestQueueBytes: queues.highestQueueBytes,
    peers: peers.length,
    peersInGoodStanding: peers.filter((peer) => peer.inGoodStanding).length,
    excuses,
    faultHits: faults.hits,
    healedMs: world.nowMs - Math.max(options.faults.faultMs, swarm.lastWriteMs),
    occurred: [...coverage.seen].sort(),
  };
}

/** What a person needs of a failed run: what is wrong, under which options, how to see it again. */
export function explain(report: Report): string {
  const overrides = JSON.stringify(report.overrides);
  const environment = overrides === "{}" ? "" : ` MP2P_SIM_OPTIONS='${overrides}'`;
  const lines = report.violations.map(
    ({ atMs, checker, message }) => `  ${atMs.toFixed(3)} ms  ${checker}: ${message}`,
  );
  return [
    `seed ${report.seed}: ${report.violations.length} violations`,
    ...lines,
    `options ${JSON.stringify(report.options)}`,
    `faults ${JSON.stringify(report.faultHits)} excuses ${JSON.stringify(report.excuses)}`,
    `replay: MP2P_SIM_SEED=${report.seed}${environment} npx vitest run test/sim/replay.test.ts`,
  ].join("\n");
}

type Manners = "good" | "slow" | "stuck" | "standing" | "rude";

/** What becomes of the i-th peer, from 1: the first few are those that are not as they should be. */
function mannersOf(i: number, options: SwarmOptions): Manners {
  const counts: [Manners, number][] = [
    ["slow", options.slowConsumers],
    ["stuck", options.stuckConsumers],
    ["standing", options.standingConsumers],
    ["rude", options.rudePeers],
  ];
  let first = 1;
  for (const [kind, count] of counts) {
    if (i < first + count) return kind;
    first += count;
  }
  return "good";
}

function standUp({ driver }: Member): void {
  driver.consumerPauseMs = 0;
}

function drawNode(
  node: SimNode,
  options: SwarmOptions,
  rng: { next(): number; below(n: number): number },
): void {
  node.timerLateMs = options.timerLateMsMax * rng.next();
  node.uplinkBytesPerMs = betweenLog(rng, options.uplinkBytesPerMsMin, options.uplinkBytesPerMsMax);
}
