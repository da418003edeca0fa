/**
 * Both machines of R11 in one process on a virtual clock: bytes travel cut into random pieces
 * through the transport's own frame reader, links break with bytes on their way, processes on both
 * sides are killed and start over. The overlay behind the accepting side is a model: it takes what
 * it has room for and holds it a while later. All chance comes from one seed.
 */

import type { Input, LinkId, Output } from "../../../src/base/machine.ts";
import { type Rng, seededEntropy, seededRng } from "../../../src/base/rng.ts";
import { AcceptMachine } from "../../../src/peer/feed/accept-machine.ts";
import type { AcceptCommand, AcceptEvent } from "../../../src/peer/feed/accept-types.ts";
import { FeedMachine } from "../../../src/peer/feed/feed-machine.ts";
import type { FeedCommand, FeedEvent, FeedWrite } from "../../../src/peer/feed/feed-types.ts";
import { FrameReader } from "../../../src/transport/frame-reader.ts";
import { HeapArena } from "../../../src/transport/heap-arena.ts";

type AnyMachine = AcceptMachine | FeedMachine;

/** One end of a link. */
interface End {
  readonly owner: Process;
  readonly linkId: LinkId;
  readonly reader: FrameReader;
  other: End | undefined;
  isDown: boolean;
  /** When what was sent last arrives: nothing overtakes. */
  busyMs: number;
  sentBytes: number;
}

export class World {
  nowMs = 1_000;
  readonly rng: Rng;
  readonly processes = new Set<Process>();
  readonly arena = new HeapArena(64);
  readonly ends: End[] = [];
  /** Who listens. */
  listener: Process | undefined;
  /** All frames that were sent, as they went. */
  readonly frames: { readonly from: Process; readonly bytes: Uint8Array }[] = [];
  recordsFrames = false;
  readonly #events: { readonly atMs: number; readonly serial: number; readonly run: () => void }[] =
    [];
  #serial = 0;

  constructor(seed: number) {
    this.rng = seededRng(seed);
  }

  after(delayMs: number, run: () => void): void {
    const event = { atMs: this.nowMs + delayMs, serial: this.#serial++, run };
    let at = this.#events.length;
    while (at > 0 && (this.#events[at - 1] as typeof event).atMs > event.atMs) at--;
    this.#events.splice(at, 0, event);
  }

  /** Runs until `done`; throws when `maxMs` of virtual time are over first. */
  run(done: () => boolean, maxMs = 120_000): void {
    const endMs = this.nowMs + maxMs;
    while (!done()) {
      if (!this.#step(endMs)) throw new Error(`not done after ${maxMs} ms`);
    }
  }

  advance(ms: number): void {
    const endMs = this.nowMs + ms;
    while (this.#step(endMs));
    this.nowMs = endMs;
  }

  #step(endMs: number): boolean {
    let next: Process | undefined;
    for (const process of this.processes) {
      if (process.deadlineMs < (next?.deadlineMs ?? Number.POSITIVE_INFINITY)) next = process;
    }
    const event = this.#events[0];
    const eventMs = event?.atMs ?? Number.POSITIVE_INFINITY;
    const dueMs = next?.deadlineMs ?? Number.POSITIVE_INFINITY;
    const atMs = Math.min(eventMs, dueMs);
    if (atMs > endMs) return false;
    this.nowMs = Math.max(this.nowMs, atMs);
    if (event !== undefined && eventMs <= dueMs) {
      this.#events.shift();
      event.run();
    } else next?.input({ kind: "timeout" });
    return true;
  }

  // ------------------------------------------------------------------------------ links

  open(from: Process, linkId: LinkId): void {
    const end = this.#end(from, linkId);
    this.after(1, () => {
      const listener = this.listener;
      if (end.isDown) return;
      if (listener === undefined || !listener.isAlive) {
        this.#down(end, "UNREACHABLE");
        return;
      }
      const other = this.#end(listener, listener.takeLinkId());
      end.other = other;
      other.other = end;
      const remote = { transport: "memory", host: "x", port: 1 } as const;
      listener.input({ kind: "linkUp", linkId: other.linkId, direction: "inbound", remote });
      from.input({ kind: "linkUp", linkId, direction: "outbound", remote });
    });
  }

  send(from: Process, linkId: LinkId, bytes: Uint8Array): void {
    const end = from.ends.get(linkId);
    if (end?.other === undefined || end.isDown) return;
    if (this.recordsFrames) this.frames.push({ from, bytes: bytes.slice() });
    end.sentBytes += bytes.length;
    const total = end.sentBytes;
    let at = 0;
    while (at < bytes.length) {
      const piece = bytes.slice(at, at + 1 + this.rng.below(bytes.length < 600 ? 40 : 40_000));
      at += piece.length;
      end.busyMs = Math.max(end.busyMs, this.nowMs + 1) + this.rng.next() * 0.2;
      this.after(end.busyMs - this.nowMs, () => this.#arrive(end, piece));
    }
    this.after(end.busyMs - this.nowMs, () => {
      if (!end.isDown) from.input({ kind: "sent", linkId, totalBytes: total });
    });
  }

  close(from: Process, linkId: LinkId, abort: boolean): void {
    const end = from.ends.get(linkId);
    if (end === undefined || end.isDown) return;
    const other = end.other;
    const delayMs = abort ? 1 : Math.max(1, end.busyMs - this.nowMs);
    if (abort) end.isDown = true;
    this.after(delayMs, () => {
      if (other !== undefined) this.#down(other, abort ? "LINK_RESET" : "LINK_CLOSED");
      end.isDown = false;
      this.#down(end, "LINK_CLOSED");
    });
  }

  /** A link breaks: what is on its way is lost. */
  cut(end: End): void {
    const { other } = end;
    this.#down(end, "LINK_RESET");
    if (other !== undefined) this.#down(other, "LINK_RESET");
  }

  #end(owner: Process, linkId: LinkId): End {
    const reader = new FrameReader(this.arena.bytes, this.arena.open());
    const end: End = {
      owner,
      linkId,
      reader,
      other: undefined,
      isDown: false,
      busyMs: 0,
      sentBytes: 0,
    };
    owner.ends.set(linkId, end);
    return end;
  }

  #arrive(from: End, piece: Uint8Array): void {
    const to = from.other;
    if (to === undefined || to.isDown || from.isDown || !to.owner.isAlive) return;
    for (let at = 0; at < piece.length && !to.isDown; ) {
      const space = to.reader.space();
      if (space === undefined) return;
      const count = Math.min(space.length, piece.length - at);
      this.arena.bytes.set(piece.subarray(at, at + count), space.offset);
      at += count;
      const failure = to.reader.received(count, (memory, ranges, frames) => {
        to.owner.input({ kind: "frames", linkId: to.linkId, memory, ranges, count: frames });
      });
      if (failure !== undefined) this.cut(to);
    }
  }

  #down(end: End, code: "LINK_CLOSED" | "LINK_RESET" | "UNREACHABLE"): void {
    if (end.isDown) return;
    end.isDown = true;
    end.reader.close();
    end.owner.ends.delete(end.linkId);
    end.owner.input({ kind: "linkDown", linkId: end.linkId, code, detail: "" });
  }
}

/** A machine with its host in miniature. */
export abstract class Process {
  readonly world: World;
  readonly ends = new Map<LinkId, End>();
  isAlive = true;
  deadlineMs = Number.POSITIVE_INFINITY;
  #nextInbound = 2;
  #running = false;
  readonly #queue: Input<never>[] = [];
  protected abstract readonly machine: AnyMachine;

  constructor(world: World) {
    this.world = world;
    world.processes.add(this);
  }

  takeLinkId(): LinkId {
    this.#nextInbound += 2;
    return this.#nextInbound;
  }

  input(input: Input<AcceptCommand> | Input<FeedCommand>): void {
    if (!this.isAlive) return;
    this.#queue.push(input as Input<never>);
    if (this.#running) return;
    this.#running = true;
    const events: (AcceptEvent | FeedEvent)[] = [];
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        try {
          this.machine.handle(next, {
            monoMs: this.world.nowMs,
            wallUs: 1_700_000_000_000_000 + Math.round(this.world.nowMs * 1000),
          });
        } finally {
          this.#drain(events);
        }
      }
    } finally {
      this.#running = false;
    }
    this.deadlineMs = this.machine.deadlineMs;
    for (const event of events) this.event(event);
  }

  #drain(events: (AcceptEvent | FeedEvent)[]): void {
    let output: Output<AcceptEvent | FeedEvent> | undefined;
    for (output = this.machine.poll(); output !== undefined; output = this.machine.poll()) {
      if (output.kind === "event") events.push(output.event);
      else if (output.kind === "transmit") this.world.send(this, output.linkId, output.bytes);
      else if (output.kind === "open") this.world.open(this, output.linkId);
      else if (output.kind === "close") this.world.close(this, output.linkId, output.abort);
    }
  }

  protected abstract event(event: AcceptEvent | FeedEvent): void;

  /** kill -9. */
  kill(): void {
    this.isAlive = false;
    this.deadlineMs = Number.POSITIVE_INFINITY;
    this.world.processes.delete(this);
    for (const end of [...this.ends.values()]) this.world.cut(end);
  }
}

export interface Delivered {
  readonly sequence: number;
  readonly digest: string;
}

/** The accepting side with a model of an overlay behind it: one session. */
export class SourcePeer extends Process {
  protected readonly machine: AcceptMachine;
  readonly events: AcceptEvent[] = [];
  /** What its overlay took, in order, of each source. */
  readonly taken = new Map<string, Delivered[]>();
  /** Of those, how many its peers hold: they are there whatever happens to the source peer. */
  readonly held = new Map<string, number>();
  /** Data that the overlay takes at once before it is full. */
  roomData = 200;
  /** Answers REGISTER with this failure. */
  refusal: "NOT_OWNER" | undefined;
  #used = 0;
  #starved = false;
  readonly #next = new Map<string, number>();

  constructor(world: World, overlayId: string, mayEndSession = true) {
    super(world);
    this.machine = new AcceptMachine({
      overlayId,
      sessionEpoch: 1,
      mayEndSession,
      isLocal: (sourceId) => sourceId === "local",
      sink: { write: (...args) => this.#write(...args) },
    });
    world.listener = this;
  }

  get counters(): AcceptMachine["counters"] {
    return this.machine.counters;
  }
  reports(): ReturnType<AcceptMachine["reports"]> {
    return this.machine.reports();
  }
  command(command: AcceptCommand): void {
    this.input({ kind: "command", command });
  }

  #write(
    sourceId: string,
    payloads: Uint8Array,
    lengths: Uint32Array,
    _timestampUs: number,
  ): number {
    const mine = this.taken.get(sourceId);
    if (mine === undefined) throw new Error(`${sourceId} is not registered`);
    const count = Math.min(lengths.length, Math.max(0, this.roomData - this.#used));
    let at = 0;
    for (let i = 0; i < count; i++) {
      const end = at + (lengths[i] as number);
      const sequence = this.#next.get(sourceId) as number;
      this.#next.set(sourceId, sequence + 1);
      mine.push({ sequence, digest: digestOf(payloads.subarray(at, end)) });
      at = end;
    }
    this.#used += count;
    if (count < lengths.length) this.#starved = true;
    if (count > 0) this.#holdLater(sourceId, mine.length, count);
    return count;
  }

  #holdLater(sourceId: string, length: number, count: number): void {
    this.world.after(5 + this.world.rng.next() * 30, () => {
      if (!this.isAlive) return;
      this.#used -= count;
      if (length > (this.held.get(sourceId) ?? 0)) {
        this.held.set(sourceId, length);
        const sequence = this.taken.get(sourceId)?.[length - 1]?.sequence ?? 0;
        this.command({ kind: "heldUpTo", sourceId, sequence });
      }
      if (!this.#starved) return;
      this.#starved = false;
      this.command({ kind: "writable" });
    });
  }

  protected override event(event: AcceptEvent): void {
    this.events.push(event);
    if (event.kind === "register") {
      const { sourceId } = event;
      this.world.after(2 + this.world.rng.next() * 20, () => {
        if (this.refusal !== undefined) {
          this.command({ kind: "refuse", sourceId, code: this.refusal, detail: "" });
          return;
        }
        this.taken.set(sourceId, []);
        this.#next.set(sourceId, event.held + 1);
        this.command({ kind: "admit", sourceId, next: event.held + 1 });
      });
    } else if (event.kind === "terminate") {
      const { sourceId } = event;
      this.world.after(5, () => this.command({ kind: "sourceIsOver", sourceId }));
    }
  }
}

/** A data source that makes datum n from n: it can make it again. */
export class Producer extends Process {
  protected readonly machine: FeedMachine;
  readonly events: FeedEvent[] = [];
  readonly sourceId: string;
  readonly #count: number;
  readonly #payload: (n: number) => Uint8Array;
  readonly #ends: boolean;
  #ended = false;

  constructor(
    world: World,
    sourceId: string,
    count: number,
    payload: (n: number) => Uint8Array,
    options: {
      readonly keepBytes?: number;
      readonly retryMs?: number;
      readonly ends?: boolean;
      readonly held?: number;
      readonly numbering?: number;
      readonly passesLost?: boolean;
    } = {},
  ) {
    super(world);
    this.sourceId = sourceId;
    this.#count = count;
    this.#payload = payload;
    this.#ends = options.ends ?? true;
    this.machine = new FeedMachine({
      to: { transport: "memory", host: "x", port: 1 },
      sourceId,
      dataId: "",
      contentType: "text/plain",
      description: "",
      held: options.held ?? 0,
      numbering: options.numbering ?? 0,
      passesLost: options.passesLost ?? false,
      keepBytes: options.keepBytes ?? 400_000,
      maxDelayMs: 5,
      retryMs: options.retryMs ?? 60_000,
      rng: seededRng(world.rng.below(2 ** 31)),
      entropy: seededEntropy(seededRng(world.rng.below(2 ** 31))),
    });
    this.input({ kind: "command", command: { kind: "start" } });
  }

  get position(): { accepted: number; held: number; next: number; keptBytes: number } {
    const { accepted, held, next, keptBytes } = this.machine;
    return { accepted, held, next, keptBytes };
  }
  get isOver(): boolean {
    return this.events.some(({ kind }) => kind === "ended" || kind === "failed");
  }
  failure(): string | undefined {
    const failed = this.events.find((event) => event.kind === "failed");
    return failed?.kind === "failed" ? failed.code : undefined;
  }
  command(command: FeedCommand): void {
    this.input({ kind: "command", command });
  }

  protected override event(event: FeedEvent): void {
    this.events.push(event);
    if (event.kind === "registered" || event.kind === "writable") this.#produce();
  }

  #produce(): void {
    if (this.#ended || this.isOver) return;
    while (this.machine.next <= this.#count) {
      const some = 1 + this.world.rng.below(40);
      const from = this.machine.next;
      const data: Uint8Array[] = [];
      for (let n = from; n < from + some && n <= this.#count; n++) data.push(this.#payload(n));
      const command: FeedWrite = {
        kind: "write",
        payloads: Buffer.concat(data),
        lengths: Uint32Array.from(data, (one) => one.length),
        timestampUs: undefined,
        accepted: 0,
      };
      this.command(command);
      if (command.accepted < data.length) return;
      if (this.world.rng.below(4) === 0) {
        this.world.after(this.world.rng.next() * 10, () => this.#produce());
        return;
      }
    }
    if (!this.#ends) return;
    this.#ended = true;
    this.command({ kind: "end", scope: 0 });
  }
}

export function digestOf(bytes: Uint8Array): string {
  let hash = 2166136261;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 16777619);
  return `${bytes.length}:${hash >>> 0}`;
}

/** Datum n of source `salt`: mostly small, some empty, a few that need several frames. */
export function payloadOf(salt: number): (n: number) => Uint8Array {
  return (n) => {
    const draw = seededRng(n * 7 + salt).below(1_000);
    const bytes = draw < 20 ? 0 : draw < 985 ? draw % 300 : 70_000 + draw * 150;
    return new Uint8Array(bytes).fill((n + salt) & 0xff);
  };
}
