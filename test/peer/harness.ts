/**
 * Real peer machines in one process on a virtual clock: frames travel over links with a latency and
 * land in each node's own engine memory, jobs run with real keys and checksums. A `Stranger` is the
 * other end of a link that a test plays by hand.
 */

import { createHash, generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import * as layout from "../../src/base/layout.ts";
import type { Address, Input, Job, JobResult, LinkId, Output } from "../../src/base/machine.ts";
import { seededEntropy, seededRng } from "../../src/base/rng.ts";
import { toHex } from "../../src/base/units.ts";
import { EngineMemory } from "../../src/kernel/engine-memory.ts";
import { createJsKernel } from "../../src/kernel/js-kernel.ts";
import type { PeerCommand, PeerEvent, Take, Write } from "../../src/peer/commands.ts";
import type { Overlay } from "../../src/peer/overlay.ts";
import { overlayTag, PeerMachine } from "../../src/peer/peer.ts";
import { NODE_DEFAULTS, type OverlaySettings } from "../../src/peer/settings.ts";
import * as r10 from "../../src/protocol/r10.ts";
import { FrameReader } from "../../src/transport/frame-reader.ts";
import { type MsgpackValue, readMsgpack } from "../support/msgpack-reader.ts";
import { Messages, type Messenger } from "./messages.ts";

export const OVERLAY = "00112233445566778899aabbccddeeff";
export const LATENCY_MS = 2;
export const START_US = 1_700_000_000_000_000;

export function sha256(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(createHash("sha256").update(bytes).digest());
}

/** An Ed25519 key pair with its peer id. */
export class Keys {
  readonly publicKey: Uint8Array;
  readonly peerIdBytes: Uint8Array;
  readonly peerId: string;
  readonly #privateKey: KeyObject;
  constructor() {
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    this.publicKey = Uint8Array.from(
      publicKey.export({ type: "spki", format: "der" }).subarray(-32),
    );
    this.peerIdBytes = sha256(this.publicKey);
    this.peerId = toHex(this.peerIdBytes);
    this.#privateKey = privateKey;
  }
  sign(bytes: Uint8Array): Uint8Array {
    return Uint8Array.from(sign(null, bytes, this.#privateKey));
  }
}

const SPKI = Buffer.from("302a300506032b6570032100", "hex");
export function verifies(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  const key = { key: Buffer.concat([SPKI, publicKey]), format: "der", type: "spki" } as const;
  return signature.length === 64 && verify(null, bytes, key, signature);
}

/** One end of a link. */
interface End {
  readonly linkId: LinkId;
  received(bytes: Uint8Array): void;
  up(direction: "inbound" | "outbound", remote: Address): void;
  down(code: "LINK_CLOSED" | "LINK_RESET"): void;
  sent(totalBytes: number): void;
}

interface Wire {
  a: End;
  b: End;
  open: boolean;
}

/** Something with a deadline. */
interface Timed {
  readonly isAlive: boolean;
  readonly deadlineMs: number;
  input(input: { readonly kind: "timeout" }): void;
}

/** What happens at a link's other end can be delayed, but never overtakes. */
export class World {
  nowMs = 1_000;
  readonly nodes: Node[] = [];
  readonly servers: Timed[] = [];
  readonly messages = new Messages(this);
  readonly #events: { readonly atMs: number; readonly serial: number; readonly run: () => void }[] =
    [];
  readonly #wires = new Map<string, Wire>();
  #serial = 0;

  /** `keys`: those of a node that crashed, which starts over as this one. */
  node(options: NodeOptions = {}): Node {
    const node = new Node(this, this.nodes.length + 1, options);
    this.nodes.push(node);
    return node;
  }

  stranger(keys = new Keys()): Stranger {
    return new Stranger(this, keys);
  }

  after(delayMs: number, run: () => void): void {
    this.#events.push({ atMs: this.nowMs + delayMs, serial: this.#serial++, run });
  }

  connect(a: End, b: End, remoteOfA: Address, remoteOfB: Address): Wire {
    const wire = { a, b, open: true };
    this.#wires.set(`${this.#serial++}`, wire);
    this.after(1, () => {
      b.up("inbound", remoteOfB);
      a.up("outbound", remoteOfA);
    });
    return wire;
  }

  /** Runs until `done`, at most `maxMs` of virtual time; throws when that is over first. */
  run(done: () => boolean, maxMs = 60_000): void {
    const endMs = this.nowMs + maxMs;
    while (!done()) {
      if (!this.#step(endMs)) {
        throw new Error(
          `not done after ${maxMs} ms: ${this.nodes.map((n) => n.summary()).join("; ")}`,
        );
      }
    }
  }

  advance(ms: number): void {
    const endMs = this.nowMs + ms;
    while (this.#step(endMs));
    this.nowMs = endMs;
  }

  #step(endMs: number): boolean {
    let first = 0;
    for (let i = 1; i < this.#events.length; i++) {
      const [event, best] = [this.#events[i], this.#events[first]];
      if (event === undefined || best === undefined) continue;
      if (event.atMs < best.atMs || (event.atMs === best.atMs && event.serial < best.serial))
        first = i;
    }
    const event = this.#events[first];
    let node: Timed | undefined;
    for (const each of [...this.nodes, ...this.servers]) {
      if (each.isAlive && each.deadlineMs < (node?.deadlineMs ?? Number.POSITIVE_INFINITY))
        node = each;
    }
    const nodeMs = node?.deadlineMs ?? Number.POSITIVE_INFINITY;
    const eventMs = event?.atMs ?? Number.POSITIVE_INFINITY;
    if (Math.min(nodeMs, eventMs) > endMs) return false;
    this.nowMs = Math.max(this.nowMs, Math.min(nodeMs, eventMs));
    if (event !== undefined && eventMs <= nodeMs) {
      this.#events.splice(first, 1);
      event.run();
    } else node?.input({ kind: "timeout" });
    return true;
  }
}

/** Frames as the other side gets them: type and bytes. */
export interface SeenFrame {
  readonly type: number;
  readonly bytes: Uint8Array;
}

export function splitFrames(bytes: Uint8Array): SeenFrame[] {
  const frames: SeenFrame[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length; ) {
    const length = view.getUint32(at, true);
    frames.push({ type: bytes[at + 6] as number, bytes: bytes.slice(at, at + length) });
    at += length;
  }
  return frames;
}

/** [code, detail] of an ERROR frame, by independent code. */
export function errorOf(frame: SeenFrame | undefined): string {
  if (frame === undefined || frame.type !== layout.FRAME_TYPES.ERROR) return "no ERROR";
  return String((readMsgpack(frame.bytes.subarray(8)) as MsgpackValue[])[0]);
}

export interface TakenDatum {
  readonly sourceId: string;
  readonly sequence: number;
  readonly digest: string;
  readonly atMs: number;
}

const digest = (bytes: Uint8Array): string =>
  `${bytes.length}:${createHash("md5").update(bytes).digest("hex").slice(0, 12)}`;

interface NodeOptions {
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

  end(overlayId = this.overlayId): void {
    this.command({ kind: "endSession", overlayId });
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
        this.#world.after(end.freeMs - this.#world.nowMs + LATENCY_MS, deliver);
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

/** A link's other end that a test plays by hand. */
export class Stranger {
  readonly keys: Keys;
  readonly frames: SeenFrame[] = [];
  closed: string | undefined;
  isUp = false;
  /** Nonce sent in the HELLO that opened. */
  nonce = new Uint8Array(32).fill(7);
  tag = overlayTag(sha256, OVERLAY, 1);
  readonly #world: World;
  #wire: Wire | undefined;

  constructor(world: World, keys: Keys) {
    this.keys = keys;
    this.#world = world;
  }

  /** Opens a link to `node`; gives the node's id of it. */
  connect(node: Node): LinkId {
    const end: End = {
      linkId: 1,
      up: () => {
        this.isUp = true;
      },
      down: (code) => {
        this.closed = code;
      },
      sent: () => undefined,
      received: (bytes) => {
        this.frames.push(...splitFrames(bytes));
      },
    };
    this.#wire = node.acceptFrom(end, { transport: "memory", host: "stranger", port: 9 });
    this.#world.run(() => this.isUp);
    return node.lastInbound;
  }

  send(...frames: readonly Uint8Array[]): this {
    for (const frame of frames) {
      const bytes = frame.slice();
      this.#world.after(LATENCY_MS, () => {
        if (this.#wire?.open === true) this.#wire.b.received(bytes);
      });
    }
    return this;
  }

  hello(step: 0 | 1 | 2, more: Partial<r10.Hello> = {}): Uint8Array {
    return r10.encodeFrame(r10.HELLO, {
      step,
      versionMin: 1,
      version: 1,
      overlayId: OVERLAY,
      sessionEpoch: 1,
      role: 1,
      publicKey: this.keys.publicKey,
      nonce: this.nonce,
      ticket: new Uint8Array(0),
      binding: new Uint8Array(0),
      listen: [],
      agent: "stranger",
      signature: new Uint8Array(0),
      ...more,
    });
  }

  /** The answer the node gave to our HELLO. */
  answer(): r10.Hello {
    const frame = this.frames.find(({ type }) => type === layout.FRAME_TYPES.HELLO);
    if (frame === undefined) throw new Error("no HELLO came");
    return r10.decodeHello(frame.bytes, 0, frame.bytes.length);
  }

  /** Our proof for `step`, as opener. */
  proof(step: 1 | 2, answer: r10.Hello): Uint8Array {
    const side = { overlayId: OVERLAY, sessionEpoch: 1, binding: new Uint8Array(0) };
    return r10.helloProof(
      step,
      { ...side, nonce: this.nonce, peerId: this.keys.peerIdBytes },
      { ...side, nonce: answer.nonce, peerId: sha256(answer.publicKey) },
    );
  }

  /** Connects and proves its identity. */
  join(node: Node, role: 0 | 1 = 1): this {
    this.connect(node);
    this.send(this.hello(0, { role }));
    this.#world.run(() => this.seen(layout.FRAME_TYPES.HELLO));
    const signature = this.keys.sign(this.proof(2, this.answer()));
    this.send(this.hello(2, { role, signature }));
    this.#world.run(() => this.seen(layout.FRAME_TYPES.BUFFERMAP) || this.closed !== undefined);
    return this;
  }

  seen(type: number): boolean {
    return this.frames.some((frame) => frame.type === type);
  }

  of(type: number): SeenFrame[] {
    return this.frames.filter((frame) => frame.type === type);
  }

  /** Code of the ERROR it got, or why there is none. */
  get error(): string {
    return errorOf(this.frames.at(-1));
  }

  close(): void {
    const wire = this.#wire;
    if (wire === undefined || !wire.open) return;
    wire.open = false;
    this.#world.after(LATENCY_MS, () => wire.b.down("LINK_CLOSED"));
  }
}

export function settingsOf(
  sourcePeerId: string,
  more: Partial<OverlaySettings> = {},
): OverlaySettings {
  return {
    ...NODE_DEFAULTS,
    windowFragments: 256,
    windowBytes: 256 * 1024,
    overlayId: OVERLAY,
    sessionEpoch: 1,
    fragmentBytes: 4096,
    integrity: "checksum",
    delivery: "complete",
    substreams: 8,
    maxLagMs: 1_000,
    sourcePeerId,
    ...more,
  };
}

/** A source peer and `count` peers, each linked to the source and, if wanted, to each other. */
export function swarm(
  count: number,
  more: Partial<OverlaySettings> & {
    readonly waitPeers?: number;
    readonly gatherMs?: number;
    readonly links?: "all" | "source" | "chain";
  } = {},
): { readonly world: World; readonly source: Node; readonly peers: Node[] } {
  const { waitPeers = count, gatherMs = 0, links = "all", ...rest } = more;
  const world = new World();
  const source = world.node();
  const settings = settingsOf(source.keys.peerId, rest);
  source.open("source", settings, { waitPeers, gatherMs }).register("s");
  const peers = Array.from({ length: count }, () => world.node().open("peer", settings));
  peers.forEach((peer, i) => {
    const before = peers[i - 1];
    if (links !== "chain" || before === undefined) peer.dial(source);
    else peer.dial(before);
    if (links === "all") for (const other of peers.slice(0, i)) peer.dial(other);
  });
  return { world, source, peers };
}

/** Writes `count` data of `bytesOf(i)` bytes as fast as credit allows, then ends if wanted. */
export class Feed {
  readonly written: string[] = [];
  readonly #node: Node;
  readonly #count: number;
  readonly #bytesOf: (i: number) => number;
  readonly #ends: boolean;
  readonly #sourceId: string;
  readonly #overlayId: string;
  #ended = false;

  constructor(
    node: Node,
    count: number,
    bytesOf: (i: number) => number,
    options: {
      readonly ends?: boolean;
      readonly sourceId?: string;
      readonly overlayId?: string;
    } = {},
  ) {
    this.#overlayId = options.overlayId ?? node.overlayId;
    this.#node = node;
    this.#count = count;
    this.#bytesOf = bytesOf;
    this.#ends = options.ends ?? true;
    this.#sourceId = options.sourceId ?? "s";
    const before = node.onEvent;
    node.onEvent = (event) => {
      before(event);
      if (event.kind === "writable" && event.overlayId === this.#overlayId) this.go();
    };
    this.go();
  }

  get isWritten(): boolean {
    return this.written.length === this.#count;
  }

  go(): void {
    while (!this.isWritten) {
      const i = this.written.length;
      const payload = new Uint8Array(this.#bytesOf(i)).fill(i * 7 + 1);
      for (let k = 0; k < Math.min(payload.length, 8); k++) payload[k] = (i >> (k * 4)) & 255;
      if (this.#node.writeTo(this.#overlayId, this.#sourceId, [payload]).accepted === 0) return;
      this.written.push(`${this.#sourceId}/${i + 1}/${digest(payload)}`);
    }
    if (this.#ends && !this.#ended) {
      this.#ended = true;
      this.#node.end(this.#overlayId);
    }
  }
}

export const received = (node: Node, sourceId?: string): string[] =>
  node.taken
    .filter((datum) => sourceId === undefined || datum.sourceId === sourceId)
    .map((datum) => `${datum.sourceId}/${datum.sequence}/${datum.digest}`);
