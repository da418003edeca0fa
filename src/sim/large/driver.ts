/**
 * Runs the real peer machine as a member of a large run. All members share one memory; when a
 * process dies, what its machine held is given back as if it had left in silence.
 */

import type { Input } from "../../base/machine.ts";
import { type Rng, seededEntropy } from "../../base/rng.ts";
import type { PeerCommand, PeerEvent } from "../../peer/commands.ts";
import type { PeerCounters, PeerIdentity } from "../../peer/context.ts";
import { PeerMachine } from "../../peer/peer.ts";
import { NODE_DEFAULTS, type OverlaySettings } from "../../peer/settings.ts";
import type { Body } from "../border.ts";
import { Consumer } from "../consumer.ts";
import { identityOf, inspectionOf, tellSwarm } from "../peer-member.ts";
import type { Driver, Inspection, Member, Swarm } from "../swarm.ts";
import type { World } from "../world.ts";
import type { LargeOptions } from "./options.ts";
import { type CheckedFragments, QuickJobs, type Sha256 } from "./quick-jobs.ts";
import type { Roster } from "./roster.ts";
import type { Stream } from "./stream.ts";

/** A wish for members is answered after this: the way to the OMS and back. */
const ROSTER_MS = 100;
/** Too few links: asked for more this often. */
const MEMBERS_AGAIN_MS = 2_000;
/** A link that was lost or did not come about is made up for after this. */
const AGAIN_MS = 500;

export interface LargeSetup {
  readonly swarm: Swarm;
  readonly world: World;
  readonly options: LargeOptions;
  readonly roster: Roster;
  readonly stream: Stream;
  readonly fragments: CheckedFragments;
  readonly sha256: Sha256;
  readonly overlayId: string;
  /** The counters of a process that is gone. */
  readonly buried: (counters: PeerCounters) => void;
}

export function identityOfMember(
  { seed, sha256 }: { seed: number; sha256: Sha256 },
  name: string,
): PeerIdentity {
  return identityOf(sha256(new TextEncoder().encode(`key ${seed} ${name}`)), sha256);
}

export class LargeDriver implements Driver {
  machine: PeerMachine | undefined;
  consumerPauseMs = 0;
  readonly identity: PeerIdentity;
  readonly #setup: LargeSetup;
  readonly #member: Member;
  readonly #fanOut: number;
  readonly #consumer: Consumer;
  readonly #rng: Rng;
  #jobs: QuickJobs | undefined;
  #wishing = false;

  constructor(setup: LargeSetup, member: Member, fanOut: number) {
    this.#setup = setup;
    this.#member = member;
    this.#fanOut = fanOut;
    const { seed } = setup.options;
    this.identity = identityOfMember({ seed, sha256: setup.sha256 }, member.name);
    this.#rng = setup.world.rng(`driver ${member.name}`);
    this.#consumer = new Consumer(setup.swarm, member, setup.overlayId);
  }

  body(): Body {
    const { world, fragments, sha256 } = this.#setup;
    const { name } = this.#member;
    this.machine = new PeerMachine({
      memory: fragments.memory,
      identity: this.identity,
      rng: world.rng(`rng ${name}`),
      entropy: seededEntropy(world.rng(`entropy ${name}`)),
      sha256,
    });
    this.#jobs = new QuickJobs(world, fragments, this.identity.publicKey, sha256);
    return { machine: this.machine, arena: fragments.memory, jobs: this.#jobs };
  }

  started(): void {
    const { roster, stream } = this.#setup;
    const address = roster.addressOf(this.#member);
    if (address !== undefined) this.#command({ kind: "setListen", addresses: [address] });
    const { role } = this.#member;
    this.#command({
      kind: "openOverlay",
      settings: this.#settings(),
      role,
      waitPeers: 1,
      from: this.#setup.options.delivery === "live" ? "live" : "oldest",
    });
    if (role === "source") {
      stream.start(this.#member);
      return;
    }
    this.#consumer.start();
    this.#dial(this.#fanOut);
    this.#watchLinks(this.#member.node.generation);
  }

  /** Like a session: who has too few links asks for members again. */
  #watchLinks(generation: number): void {
    this.#setup.world.after(MEMBERS_AGAIN_MS, () => {
      if (generation !== this.#member.node.generation || this.#member.ended) return;
      const overlay = this.machine?.overlays.get(this.#setup.overlayId);
      if (overlay !== undefined && overlay.neighbours.length < this.#fanOut) this.#wish(0);
      this.#watchLinks(generation);
    });
  }

  event(event: unknown): void {
    const { swarm, world, stream, roster } = this.#setup;
    const member = this.#member;
    const told = event as PeerEvent;
    switch (told.kind) {
      case "writable":
        stream.writable();
        return;
      case "neighbour": {
        if (told.state === "lagging") {
          const named = roster.memberOf(told.peerId);
          // Whose process is gone stands still for good, and rightly so.
          if (named?.node.alive === true) swarm.lagging(member, named);
        }
        if (told.state === "down") this.#wish(AGAIN_MS);
        world.log?.(
          `${world.nowMs.toFixed(3)} ${member.name} neighbour ${roster.memberOf(told.peerId)?.name} ${told.state} ${told.detail}`,
        );
        return;
      }
      case "needMembers":
        this.#wish(ROSTER_MS);
        return;
      case "linkFailed":
        this.#wish(AGAIN_MS);
        return;
      default:
        tellSwarm(swarm, member, this.#consumer, told);
    }
  }

  /** The process is gone: what its machine holds of the common memory goes back. */
  stopped(): void {
    this.#consumer.stop();
    this.#wishing = false;
    const { machine } = this;
    this.machine = undefined;
    if (machine === undefined) return;
    const now = this.#member.node.now();
    const bury = (input: Input<PeerCommand>): void => {
      machine.handle(input, now);
      while (machine.poll() !== undefined);
    };
    const { overlayId } = this.#setup;
    if (machine.overlays.has(overlayId)) {
      bury({ kind: "command", command: { kind: "leaveOverlay", overlayId, announced: false } });
    }
    for (const { link } of [...machine.links.rows()]) {
      bury({ kind: "linkDown", linkId: link.id, code: "LINK_CLOSED", detail: "gone" });
    }
    for (const jobId of this.#jobs?.pending ?? []) {
      const result = { kind: "error", code: "LINK_CLOSED", detail: "gone" } as const;
      bury({ kind: "jobDone", jobId, result });
    }
    this.#jobs?.pending.clear();
    this.#setup.buried(machine.context.counters);
  }

  inspect(): Inspection | undefined {
    const overlay = this.machine?.overlays.get(this.#setup.overlayId);
    return overlay === undefined ? undefined : inspectionOf(overlay);
  }

  leave(): void {
    const { overlayId } = this.#setup;
    this.#consumer.stop();
    if (this.machine?.overlays.has(overlayId) !== true) return;
    this.#command({ kind: "leaveOverlay", overlayId, announced: true });
  }

  #settings(): OverlaySettings {
    const { options, overlayId, sha256 } = this.#setup;
    return {
      ...NODE_DEFAULTS,
      overlayId,
      sessionEpoch: 1,
      fragmentBytes: options.fragmentBytes,
      integrity: "checksum",
      delivery: options.delivery,
      substreams: options.substreams,
      maxLagMs: options.maxLagMs,
      sourcePeerId: identityOfMember({ seed: options.seed, sha256 }, "source").peerId,
      windowBytes: options.windowBytes,
      windowFragments: options.windowFragments,
    };
  }

  #command(command: PeerCommand): void {
    this.#member.node.command(command);
  }

  #dial(count: number): void {
    const { roster, overlayId } = this.#setup;
    const overlay = this.machine?.overlays.get(overlayId);
    if (overlay === undefined) return;
    const known = new Set<Member>();
    for (const { peerId } of overlay.neighbours) {
      const member = roster.memberOf(peerId);
      if (member !== undefined) known.add(member);
    }
    for (const address of roster.suggest(this.#member, count, known)) {
      this.#command({ kind: "dial", overlayId, address });
    }
  }

  /** Asks for members, as many as are lacking and one at least; a little later, once. */
  #wish(afterMs: number): void {
    if (this.#wishing || this.#member.role === "source") return;
    this.#wishing = true;
    const { node } = this.#member;
    const { generation } = node;
    this.#setup.world.after(afterMs * (1 + this.#rng.next()), () => {
      if (generation !== node.generation) return;
      this.#wishing = false;
      const { overlayId } = this.#setup;
      const linked = this.machine?.overlays.get(overlayId)?.neighbours.length ?? 0;
      if (!this.#member.ended && linked < 2 * this.#fanOut) {
        this.#dial(Math.max(1, this.#fanOut - linked));
      }
    });
  }
}
