/** A real peer machine with engine memory, links and jobs of its own. */

import { createHash } from "node:crypto";
import * as layout from "../../../src/base/layout.ts";
import type { Address, Input, Job, JobResult, LinkId, Output } from "../../../src/base/machine.ts";
import { seededEntropy, seededRng } from "../../../src/base/rng.ts";
import { EngineMemory } from "../../../src/kernel/engine-memory.ts";
import { createJsKernel } from "../../../src/kernel/js-kernel.ts";
import type { PeerCommand, PeerEvent, Take, Write } from "../../../src/peer/commands.ts";
import type { Overlay } from "../../../src/peer/overlay.ts";
import { PeerMachine } from "../../../src/peer/peer.ts";
import type { OverlaySettings } from "../../../src/peer/settings.ts";
import { FrameReader } from "../../../src/transport/frame-reader.ts";
import type { Messenger } from "../messages.ts";
import { Keys, LATENCY_MS, OVERLAY, START_US, sha256, verifies } from "./keys.ts";
import { type SeenFrame, splitFrames } from "./seen-frames.ts";
import type { End, Wire, World } from "./world.ts";

export interface TakenDatum {
  readonly sourceId: string;
  readonly sequence: number;
  readonly digest: string;
  readonly atMs: number;
}

export const digest = (bytes: Uint8Array): string =>
  `${bytes.length}:${createHash("md5").update(bytes).digest("hex").slice(0, 12)}`;

export interface NodeOptions {
  readonly memoryMiB?: number;
  readonly maxLinks?: number;
  readonly uploadLimitBytesPerSecond?: number;
  readonly downloadLimitBytesPerSecond?: number;
  readonly keys?: Keys;
}

export class Node implements Messenger {
  readonly keys: Keys;
  readonly memory: EngineMemory;
  readonly machine: PeerMachine;
  readonly events: PeerEvent[] = [];
  readonly taken: TakenDatum[] = [];
  /** All frames this node sent, with the peer they went to. */
  readonly sentFrames: (SeenFrame & { readonly to: LinkId; readonly atMs: number })[] = [];
  readonly index: number;
  /** Whether data are taken as soon as they are there, and of which overlays not. */
  takes = true;
  readonly untaken = new Set<string>();
  /** Jobs wait while true. */
  holdJobs = false;
  isAlive = true;
  /** How fast bytes leave on each link. */
  bytesPerSecond = Number.POSITIVE_INFINITY;
  /** How long what it sends takes. */
  latencyMs = LATENCY_MS;
  deadlineMs = Number.POSITIVE_INFINITY;
  onEvent: (event: PeerEvent) => void = () => undefined;
  readonly #world: World;
  readonly #ends = new Map<
    LinkId,
    { wire: Wire; other: () => End; totalBytes: number; stalled: boolean; freeMs: number }
  >();
  readonly #heldJobs: (() => void)[] = [];
  readonly #readers = new Map<LinkId, FrameReader>();
  #nextInbound = 2;

  constructor(world: World, seed: number, options: NodeOptions) {
    this.#world = world;
    this.keys = options.keys ?? new Keys();
    this.index = world.nodes.length;
    const kernel = createJsKernel({ memoryBytes: (options.memoryMiB ?? 16) << 20 });
    this.memory = new EngineMemory(kernel, { segmentBytes: 65_536 });
    const rng = seededRng(seed);
    this.machine = new PeerMachine({
      memory: this.memory,
      identity: this.keys,
      rng,
      entropy: seededEntropy(rng),
      sha256,
      ...(options.maxLinks === undefined ? {} : { maxLinks: options.maxLinks }),
      uploadLimitBytesPerSecond: options.uploadLimitBytesPerSecond,
      downloadLimitBytesPerSecond: options.downloadLimitBytesPerSecond,
    });
  }

  get address(): Address {
    return { transport: "memory", host: "node", port: this.index };
  }
  /** The overlay of the session, where a session chose it. */
  overlayId = OVERLAY;

  get overlay(): Overlay {
    return this.overlayOf(this.overlayId);
  }
  overlayOf(overlayId: string): Overlay {
    const overlay = this.machine.overlays.get(overlayId);
    if (overlay === undefined) throw new Error("the overlay is not open");
    return overlay;
  }
  get context(): PeerMachine["context"] {
    return this.machine.context;
  }
  get counters(): PeerMachine["context"]["counters"] {
    return this.machine.context.counters;
  }

  summary(): string {
    const overlay = this.machine.overlays.get(this.overlayId);
    const last = this.events.at(-1)?.kind;
    if (overlay === undefined) return `${this.index} closed, last ${last}`;
    const { start, highest } = overlay.window;
    return `${this.index} [${start},${highest}) head ${overlay.consumer?.consumedTo} last ${last} neighbours ${overlay.neighbours.length} gaps ${this.counters.gaps}`;
  }

  input(input: Input<PeerCommand>): void {
    if (!this.isAlive) return;
    const wallUs = START_US + Math.round(this.#world.nowMs * 1000);
    try {
      this.machine.handle(input, { monoMs: this.#world.nowMs, wallUs });
    } finally {
      for (let output = this.machine.poll(); output !== undefined; output = this.machine.poll()) {
        this.#output(output);
      }
      this.deadlineMs = this.machine.deadlineMs;
    }
  }

  command(command: PeerCommand): void {
    this.input({ kind: "command", command });
  }

  // ------------------------------------------------------------------------------ as a user

  open(
    role: "source" | "peer",
    settings: OverlaySettings,
    more: {
      readonly waitPeers?: number;
      readonly gatherMs?: number;
      readonly from?: "oldest" | "live" | "start";
      readonly consume?: boolean;
    } = {},
  ): this {
    this.command({ kind: "openOverlay", role, settings, ...more });
    if (role === "peer" && more.consume !== false)
      this.take(Number.POSITIVE_INFINITY, settings.overlayId);
    return this;
  }

  register(sourceId: string, contentType = "", overlayId = this.overlayId): this {
    this.command({ kind: "registerDataSource", overlayId, sourceId, contentType });
    return this;
  }

  /** With `peerId` as somebody whom a list of members named, else as an address alone. */
  dial(to: Node, overlayId = this.overlayId, peerId?: string): this {
    const { address } = to;
    this.command({
      kind: "dial",
      overlayId,
      address,
      ...(peerId === undefined ? {} : { peerId }),
    });
    return this;
  }

  write(sourceId: string, ...payloads: readonly Uint8Array[]): Write {
    return this.writeTo(this.overlayId, sourceId, payloads);
  }

  writeTo(overlayId: string, sourceId: string, payloads: readonly Uint8Array[]): Write {
    const command: Write = {
      kind: "write",
      overlayId,
      sourceId,
      payloads: Buffer.concat(payloads),
      lengths: Uint32Array.from(payloads, (payload) => payload.length),
      timestampUs: START_US,
      contentType: undefined,
      accepted: 0,
      credit: 0,
    };
    this.command(command);
    return command;
  }

  end(overlayId = this.overlayId, waitsForPeers = true): void {
    this.command({ kind: "endSession", overlayId, waitsForPeers });
  }

  leave(announced = true, overlayId = this.overlayId): void {
    this.command({ kind: "leaveOverlay", overlayId, announced });
  }

  /** Takes all there is now. */
  take(batches = Number.POSITIVE_INFINITY, overlayId = this.overlayId): void {
    const { view, f64 } = this.memory.kernel;
    for (let n = 0; n < batches && this.machine.overlays.has(overlayId); n++) {
      const take: Take = {
        kind: "take",
        overlayId,
        batch: undefined,
        sourceOf: undefined,
      };
      this.command(take);
      const { batch, sourceOf } = take;
      if (batch === undefined || sourceOf === undefined) return;
      for (let i = 0; i < batch.count; i++) {
        const entry = batch.entries + layout.ENTRY_BYTES * i;
        const at = view.getUint32(entry, true);
        this.taken.push({
          sourceId: sourceOf(view.getUint32(entry + 12, true)).id,
          sequence: f64[(entry + 16) >>> 3] as number,
          digest: digest(batch.memory.subarray(at, at + view.getUint32(entry + 4, true))),
          atMs: this.#world.nowMs,
        });
      }
    }
  }

  has(kind: PeerEvent["kind"]): boolean {
    return this.events.some((event) => event.kind === kind);
  }

  eventsOf<K extends PeerEvent["kind"]>(kind: K): Extract<PeerEvent, { kind: K }>[] {
    return this.events.filter(
      (event): event is Extract<PeerEvent, { kind: K }> => event.kind === kind,
    );
  }

  sentOf(type: number): SeenFrame[] {
    return this.sentFrames.filter((frame) => frame.type === type);
  }

  /** Links that are up, as the machine sees them. */
  get openLinks(): LinkId[] {
    return [...this.machine.links.rows()].filter((r) => r.link.isOpen).map((r) => r.link.id);
  }

  // ------------------------------------------------------------------------------ as a host

  /** The process is gone: nothing is said, links are reset. */
  crash(): void {
    this.isAlive = false;
    this.deadlineMs = Number.POSITIVE_INFINITY;
    this.#world.messages.reset(this);
    for (const [, { wire, other }] of this.#ends) {
      if (!wire.open) continue;
      wire.open = false;
      const end = other();
      this.#world.after(LATENCY_MS, () => end.down("LINK_RESET"));
    }
  }

  /** Its links are reset, and both ends live on. */
  loseLinks(): void {
    for (const linkId of this.openLinks) this.#close(linkId);
  }

  /** What this node transmits on a link stays in its queue (`stalled`), or flows again. */
  stall(linkId: LinkId, stalled: boolean): void {
    const end = this.#ends.get(linkId);
    if (end !== undefined) end.stalled = stalled;
  }

  releaseJobs(): void {
    this.holdJobs = false;
    for (const run of this.#heldJobs.splice(0)) run();
  }

  /** Frames that this node gets on a link in memory that is not its engine's. */
  inject(linkId: LinkId, frame: Uint8Array): void {
    const memory = new Uint8Array(frame.length + 32).fill(0xee);
    memory.set(frame, 16);
    this.input({
      kind: "frames",
      linkId,
      memory,
      ranges: Uint32Array.of(16, frame.length),
      count: 1,
    });
    memory.fill(0xdd);
  }

  acceptFrom(other: End, remote: Address): Wire {
    const linkId = this.#nextInbound;
    this.#nextInbound += 2;
    const wire = this.#world.connect(other, this.#end(linkId), this.address, remote);
    this.#ends.set(linkId, { wire, other: () => wire.a, totalBytes: 0, stalled: false, freeMs: 0 });
    return wire;
  }

  /** The inbound link given out last. */
  get lastInbound(): LinkId {
    return this.#nextInbound - 2;
  }

  #end(linkId: LinkId): End {
    const node = this;
    return {
      linkId,
      up: (direction, remote) => {
        this.#readers.set(linkId, new FrameReader(this.memory.bytes, this.memory.open()));
        this.input({ kind: "linkUp", linkId, direction, remote });
      },
      down: (code) => {
        this.#readers.get(linkId)?.close();
        this.#readers.delete(linkId);
        this.#ends.delete(linkId);
        this.input({ kind: "linkDown", linkId, code, detail: "" });
      },
      sent: (totalBytes) => this.input({ kind: "sent", linkId, totalBytes }),
      received(bytes) {
        let at = 0;
        while (at < bytes.length && node.isAlive) {
          const reader = node.#readers.get(linkId);
          if (reader === undefined) return;
          const space = reader.space();
          if (space === undefined) {
            node.memory.compact();
            node.#world.after(5, () => this.received(bytes.subarray(at)));
            return;
          }
          const count = Math.min(space.length, bytes.length - at);
          node.memory.bytes.set(bytes.subarray(at, at + count), space.offset);
          at += count;
          const failure = reader.received(count, (memory, ranges, frames) => {
            node.input({ kind: "frames", linkId, memory, ranges, count: frames });
          });
          if (failure !== undefined) {
            node.#close(linkId);
            return;
          }
        }
      },
    };
  }

  #close(linkId: LinkId): void {
    const end = this.#ends.get(linkId);
    if (end === undefined || !end.wire.open) return;
    end.wire.open = false;
    const other = end.other();
    // What was transmitted before still arrives.
    this.#world.after(LATENCY_MS, () => other.down("LINK_CLOSED"));
    const own = end.wire.a === other ? end.wire.b : end.wire.a;
    this.#world.after(LATENCY_MS, () => own.down("LINK_CLOSED"));
  }

  #output(output: Output<PeerEvent>): void {
    switch (output.kind) {
      case "transmit": {
        if (this.#world.messages.transmit(this, output.linkId, output.bytes)) return;
        const end = this.#ends.get(output.linkId);
        const bytes = output.bytes.slice();
        for (const frame of splitFrames(bytes)) {
          this.sentFrames.push({ ...frame, to: output.linkId, atMs: this.#world.nowMs });
        }
        if (end === undefined || !end.wire.open) return;
        const deliver = (): void => {
          if (end.stalled) {
            this.#world.after(10, deliver);
            return;
          }
          end.totalBytes += bytes.length;
          const own =
            end.wire.a.linkId === output.linkId && end.other() === end.wire.b
              ? end.wire.a
              : end.wire.b;
          own.sent(end.totalBytes);
          end.other().received(bytes);
        };
        end.freeMs =
          Math.max(this.#world.nowMs, end.freeMs) + (bytes.length * 1_000) / this.bytesPerSecond;
        this.#world.after(end.freeMs - this.#world.nowMs + this.latencyMs, deliver);
        return;
      }
      case "open": {
        if (output.address.transport === "ws") {
          this.#world.messages.open(this, output.linkId, output.address);
          return;
        }
        const to = this.#world.nodes[output.address.port];
        const own = this.#end(output.linkId);
        if (to === undefined || !to.isAlive) {
          this.#world.after(1, () => {
            this.input({
              kind: "linkDown",
              linkId: output.linkId,
              code: "UNREACHABLE",
              detail: "",
            });
          });
          return;
        }
        const wire = to.acceptFrom(own, this.address);
        this.#ends.set(output.linkId, {
          wire,
          other: () => wire.b,
          totalBytes: 0,
          stalled: false,
          freeMs: 0,
        });
        return;
      }
      case "close":
        if (!this.#world.messages.close(this, output.linkId)) this.#close(output.linkId);
        return;
      case "job": {
        const { jobId, job } = output;
        const run = (): void => {
          this.#world.after(0.1, () => {
            if (this.isAlive) this.input({ kind: "jobDone", jobId, result: this.#job(job) });
          });
        };
        if (this.holdJobs) this.#heldJobs.push(run);
        else run();
        return;
      }
      case "event":
        this.events.push(output.event);
        this.#world.after(0, () => this.#told(output.event));
        return;
      case "store":
        throw new Error("a peer stores nothing");
    }
  }

  #told(event: PeerEvent): void {
    if (!this.isAlive) return;
    if (event.kind === "readable" && this.takes && !this.untaken.has(event.overlayId)) {
      this.take(Number.POSITIVE_INFINITY, event.overlayId);
    }
    this.onEvent(event);
  }

  #job(job: Job): JobResult {
    if (job.kind === "sign") return { kind: "sign", signature: this.keys.sign(job.bytes) };
    if (job.kind === "verifySignature") {
      const valid = verifies(job.publicKey, job.bytes, job.signature);
      return { kind: "verifySignature", valid };
    }
    const { kernel } = this.memory;
    const count = job.ranges.length / 2;
    const table = this.memory.allocate(9 * count);
    kernel.u32.set(job.ranges, table >>> 2);
    const good = table + 8 * count;
    let result: JobResult = { kind: "checksumFragments" };
    if (job.kind === "checksumFragments") kernel.checksumFragments(table, count);
    else {
      kernel.verifyFragments(table, count, good);
      result = { kind: "verifyFragments", good: kernel.bytes.slice(good, good + count) };
    }
    this.memory.free(table);
    return result;
  }
}
