/**
 * Runs the real peer machine as a member of a swarm: identity and chance from the seed, memory of
 * its own, a consumer or data sources, and a directory in place of the servers.
 */

import { createHash } from "node:crypto";
import { type Rng, seededEntropy } from "../../src/base/rng.ts";
import { toHex } from "../../src/base/units.ts";
import { EngineMemory } from "../../src/kernel/engine-memory.ts";
import { createJsKernel } from "../../src/kernel/js-kernel.ts";
import type { PeerCommand, PeerEvent } from "../../src/peer/commands.ts";
import { PeerMachine } from "../../src/peer/peer.ts";
import { NODE_DEFAULTS, type OverlaySettings } from "../../src/peer/settings.ts";
import type { Body } from "../../src/sim/border.ts";
import { Consumer } from "../../src/sim/consumer.ts";
import { identityOf, inspectionOf, tellSwarm } from "../../src/sim/peer-member.ts";
import type { Beliefs, Driver, Inspection } from "../../src/sim/swarm.ts";
import { JobRunner, nodeKeys } from "./jobs.ts";
import { Producer } from "./producer.ts";
import type { DriverFactory, DriverSetup } from "./run.ts";

/** Fragments of one job that the kernel is called with at once. */
const SCRATCH_FRAGMENTS = 64;
/** A wish for members is answered after this. */
const DIRECTORY_MS = 30;
/** A link that was lost or did not come about is made up for after this; so is no answer. */
const AGAIN_MS = 500;

export const peerDriver: DriverFactory = (setup) => new PeerDriver(setup);

export function sha256(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash("sha256").update(bytes).digest());
}

export function overlayIdOf(seed: number): string {
  return toHex(sha256(new TextEncoder().encode(`overlay ${seed}`)).subarray(0, 16));
}

export class PeerDriver implements Driver {
  machine: PeerMachine | undefined;
  readonly peerId: string;
  readonly #setup: DriverSetup;
  readonly #overlayId: string;
  readonly #consumer: Consumer;
  readonly #producer: Producer | undefined;
  readonly #rng: Rng;
  #boots = 0;
  #wishing = false;
  /** A fragment that no neighbour holds: members are asked for that do. */
  #holding: number | undefined;

  constructor(setup: DriverSetup) {
    this.#setup = setup;
    const { swarm, member, options } = setup;
    const { publicKey } = nodeKeys(options.signatures, options.seed, member.name);
    this.peerId = identityOf(publicKey, sha256).peerId;
    this.#overlayId = overlayIdOf(setup.options.seed);
    this.#rng = setup.world.rng(`driver ${member.name}`);
    this.#consumer = new Consumer(swarm, member, this.#overlayId);
    this.#producer =
      member.role === "source" ? new Producer(swarm, member, this.#overlayId, setup) : undefined;
  }

  get consumerPauseMs(): number {
    return this.#consumer.pauseMs;
  }
  set consumerPauseMs(pauseMs: number) {
    const stood = this.#consumer.pauseMs === Number.POSITIVE_INFINITY;
    this.#consumer.pauseMs = pauseMs;
    if (stood) this.#consumer.wake(0);
  }

  body(): Body {
    const { world, member, options, coverage } = this.#setup;
    const label = `${member.name} boot ${++this.#boots}`;
    const kernel = createJsKernel({ memoryBytes: options.memoryBytes });
    const memory = new EngineMemory(kernel, { segmentBytes: options.segmentBytes });
    const keys = nodeKeys(options.signatures, options.seed, member.name);
    this.machine = new PeerMachine({
      memory,
      identity: identityOf(keys.publicKey, sha256),
      rng: world.rng(`rng ${label}`),
      entropy: seededEntropy(world.rng(`entropy ${label}`)),
      sha256,
      maxLinks: options.maxLinks,
      uploadLimitBytesPerSecond: options.uploadLimitBytesPerSecond,
    });
    const jobs = new JobRunner(world, label, {
      signatures: options.signatures,
      keys,
      kernel,
      delayMsMax: options.jobDelayMsMax,
      lateRate: options.lateJobRate,
      onLate: () => coverage.branch("late job"),
      scratch: {
        pairs: memory.allocate(8 * SCRATCH_FRAGMENTS),
        good: memory.allocate(SCRATCH_FRAGMENTS),
        fragments: SCRATCH_FRAGMENTS,
      },
    });
    return { machine: this.machine, arena: memory, jobs };
  }

  started(): void {
    const { member, options, directory } = this.#setup;
    const address = directory.addressOf(member);
    if (address !== undefined) this.#command({ kind: "setListen", addresses: [address] });
    this.#command({
      kind: "openOverlay",
      settings: this.#settings(),
      role: this.#isVirtual() ? "virtual" : member.role,
      waitPeers: 1,
    });
    if (this.#producer !== undefined) {
      this.#producer.start();
      return;
    }
    this.#consumer.start();
    if (options.links === undefined) this.#dial(options.degree);
    else this.#dialOnly(options.links);
  }

  #isVirtual(): boolean {
    const { member, options } = this.#setup;
    const number = /^peer-(\d+)$/.exec(member.name)?.[1];
    return number !== undefined && Number(number) <= options.virtualPeers;
  }

  event(event: unknown): void {
    const { swarm, member, world } = this.#setup;
    const told = event as PeerEvent;
    switch (told.kind) {
      case "writable":
        this.#producer?.writable();
        return;
      case "neighbour":
        world.log?.(
          `${world.nowMs.toFixed(3)} ${member.name} neighbour ${this.#nameOf(told.peerId)} ${told.state} ${told.detail}`,
        );
        if (told.state === "lagging") this.#lagging(told.peerId);
        if (told.state === "down") this.#wish(AGAIN_MS);
        return;
      case "needMembers":
        this.#holding = told.holding;
        this.#wish(DIRECTORY_MS);
        return;
      case "linkFailed":
        world.log?.(
          `${world.nowMs.toFixed(3)} ${member.name} link failed ${told.code} ${told.detail}`,
        );
        this.#wish(AGAIN_MS);
        return;
      default:
        tellSwarm(swarm, member, this.#consumer, told);
    }
  }

  stopped(): void {
    this.finished();
    this.machine = undefined;
    this.#wishing = false;
    this.#consumer.stop();
  }

  finished(): void {
    if (this.machine !== undefined)
      this.#setup.coverage.counters({ ...this.machine.context.counters });
  }

  checkInvariants(): void {
    this.machine?.overlays.get(this.#overlayId)?.checkInvariants();
  }

  beliefs(): Beliefs | undefined {
    const overlay = this.machine?.overlays.get(this.#overlayId);
    if (overlay === undefined) return undefined;
    const { window } = overlay;
    const links = overlay.neighbours.map((neighbour) => ({
      linkId: neighbour.link.id,
      granted: neighbour.grantedLimit,
      credit: neighbour.creditLimit,
      sent: (index: number) => window.test(neighbour.sent, index),
      advertised: (index: number) => neighbour.holds(index),
    }));
    let highest = window.highest;
    for (const { remoteHighest } of overlay.neighbours) highest = Math.max(highest, remoteHighest);
    const { origin, mapEnd } = window;
    const started = overlay.consumer?.started !== false;
    return { origin, mapEnd, to: Math.min(mapEnd, highest + 1), started, links };
  }

  inspect(): Inspection | undefined {
    const overlay = this.machine?.overlays.get(this.#overlayId);
    return overlay === undefined ? undefined : inspectionOf(overlay);
  }

  leave(): void {
    if (this.machine?.overlays.has(this.#overlayId) !== true) return;
    this.#consumer.stop();
    this.#command({ kind: "leaveOverlay", overlayId: this.#overlayId, announced: true });
  }

  #settings(): OverlaySettings {
    const { options } = this.#setup;
    const source = nodeKeys(options.signatures, options.seed, "source").publicKey;
    return {
      ...NODE_DEFAULTS,
      overlayId: this.#overlayId,
      sessionEpoch: 1,
      fragmentBytes: options.fragmentBytes,
      integrity: options.integrity,
      delivery: options.delivery,
      substreams: options.substreams,
      maxLagMs: 10_000,
      sourcePeerId: identityOf(source, sha256).peerId,
      windowBytes: options.windowBytes,
      windowFragments: options.windowFragments,
    };
  }

  #command(command: PeerCommand): void {
    this.#setup.member.node.command(command);
  }

  #dial(count: number): void {
    const { directory, member, swarm, world } = this.#setup;
    const overlay = this.machine?.overlays.get(this.#overlayId);
    if (overlay === undefined) return;
    if (directory.goneUntilMs > world.nowMs) {
      this.#wish(AGAIN_MS);
      return;
    }
    const linked = new Set(overlay.neighbours.map(({ peerId }) => peerId));
    // Mostly others than those linked already: two may dial each other at the same time.
    const twice = this.#rng.below(16) === 0;
    const known = twice
      ? []
      : swarm.members.filter(({ driver }) => linked.has((driver as PeerDriver).peerId));
    const addresses = directory.suggest(member, count, known, this.#holding);
    this.#holding = undefined;
    for (const address of addresses) {
      this.#command({ kind: "dial", overlayId: this.#overlayId, address });
    }
  }

  #dialOnly(links: NonNullable<DriverSetup["options"]["links"]>): void {
    const { directory, member, swarm } = this.#setup;
    for (const [from, to] of links) {
      const target = swarm.members[to];
      const address = target === undefined ? undefined : directory.addressOf(target);
      if (swarm.members[from] !== member || address === undefined) continue;
      this.#command({ kind: "dial", overlayId: this.#overlayId, address });
    }
  }

  /** Asks the directory for members, as many as are lacking and one at least. */
  #wish(afterMs: number): void {
    if (this.#wishing || this.#producer !== undefined) return;
    if (this.#setup.options.links !== undefined) return;
    this.#wishing = true;
    const { world, member, options } = this.#setup;
    const { generation } = member.node;
    world.after(afterMs, () => {
      if (generation !== member.node.generation) return;
      this.#wishing = false;
      const linked = this.machine?.overlays.get(this.#overlayId)?.neighbours.length ?? 0;
      if (!member.ended) this.#dial(Math.max(1, options.degree - linked));
    });
  }

  #lagging(peerId: string): void {
    const { swarm, member } = this.#setup;
    const named = swarm.members.find(({ driver }) => (driver as PeerDriver).peerId === peerId);
    if (named !== undefined) swarm.lagging(member, named);
  }

  #nameOf(peerId: string): string {
    const { members } = this.#setup.swarm;
    return members.find(({ driver }) => (driver as PeerDriver).peerId === peerId)?.name ?? peerId;
  }
}
