/**
 * One end of a link of the small swarms, as a socket sees it. Two models behind one class:
 *
 *     stream   TCP: ordered bytes, cut anywhere; they land in the node's arena through the
 *              transport's own frame reader
 *     message  WebSocket: one message = one frame, in order
 *
 *     transmit -> queue -> (window has room: "taken", counted by `sent`) -> in transit -> inbox
 *              -> read in pieces -> the other machine
 *
 * The window bounds what was taken and not yet read, so a reader that stops stops the sender.
 * A view of the engine's memory must stay untouched until it is taken: its bytes are kept aside at
 * transmit and compared then.
 */

import type { ErrorCode } from "../../src/base/errors.ts";
import type { Address, LinkId } from "../../src/base/machine.ts";
import type {
  EndFactory,
  EndOptions,
  LinkEnd,
  LinkMode,
  NodePort,
  PathQuality,
} from "../../src/sim/border.ts";

import { between, chance } from "../../src/sim/world.ts";
import { FrameReader } from "../../src/transport/frame-reader.ts";

/** One departure: bounded, so that links that share an uplink take turns. */
const BURST_BYTES = 32 * 1024;
/** A close that can't send what is queued ends as a reset after this. */
const CLOSE_TIMEOUT_MS = 30_000;
/** A reader without memory tries again after this. */
const STARVED_RETRY_MS = 5;

interface Queued {
  /** What was transmitted, kept aside. */
  readonly copy: Uint8Array;
  /** The machine's own bytes: of its memory, or the host's from then on; untouched either way. */
  readonly view: Uint8Array;
  taken: number;
}

interface Burst {
  readonly parts: readonly Uint8Array[];
  readonly bytes: number;
  readonly atMs: number;
  /** The sender closed after this. */
  readonly last: boolean;
}

type State = "opening" | "open" | "closing" | "closed";

export class PieceEnd implements LinkEnd {
  readonly node: NodePort;
  readonly linkId: LinkId;
  readonly mode: LinkMode;
  readonly path: PathQuality;
  readonly remote: Address;
  readonly outbound: boolean;
  readonly upSinceMs: number;
  other: PieceEnd | undefined;
  /** Nothing passes either way any more and nobody is told. */
  silent = false;
  /** What this end sends is held back until then. */
  stalledUntilMs = 0;
  #state: State = "opening";
  readonly #generation: number;
  #queue: Queued[] = [];
  #queueHead = 0;
  #queuedBytes = 0;
  #transmittedBytes = 0;
  #sentBytes = 0;
  #sentReported = 0;
  #sentScheduled = false;
  #inFlightBytes = 0;
  #departureFreeMs = 0;
  #lastArrivalMs = 0;
  #inTransit: Burst[] = [];
  #inTransitHead = 0;
  #dirty = false;
  #pumpScheduled = false;
  #inbox: Uint8Array[] = [];
  #inboxHead = 0;
  #inboxAt = 0;
  #finReceived = false;
  #reading = false;
  #retryScheduled = false;
  #reader: FrameReader | undefined;
  readonly #messageRange = new Uint32Array(2);

  constructor(node: NodePort, linkId: LinkId, options: EndOptions) {
    this.node = node;
    this.linkId = linkId;
    this.mode = options.mode;
    this.path = options.path;
    this.remote = options.remote;
    this.outbound = options.outbound;
    this.upSinceMs = node.world.nowMs;
    this.#generation = node.generation;
  }

  get accepts(): boolean {
    return this.#state === "opening" || this.#state === "open";
  }
  get isOpen(): boolean {
    return this.#state === "open";
  }
  /** Bytes transmitted and not yet taken by the network. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }
  /** Whether this end belongs to the process that runs on its node now. */
  get current(): boolean {
    return this.node.generation === this.#generation;
  }

  /** The link is up; the machine is told. `notBeforeMs`: nothing of it may arrive earlier. */
  up(notBeforeMs: number): void {
    if (this.#state !== "opening" || !this.current) return;
    this.#state = "open";
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, notBeforeMs);
    const arena = this.node.body?.arena;
    if (this.mode === "stream") {
      if (arena === undefined) throw new Error(`${this.node.name} has no arena for a stream link`);
      this.#reader = new FrameReader(arena.bytes, arena.open());
    }
    this.node.network.observers.linkUp(this.node, this);
    this.node.input({
      kind: "linkUp",
      linkId: this.linkId,
      direction: this.outbound ? "outbound" : "inbound",
      remote: this.remote,
    });
    this.flush();
  }

  transmit(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const copy = Buffer.allocUnsafe(bytes.length);
    copy.set(bytes);
    this.#queue.push({ copy, view: bytes, taken: 0 });
    this.#queuedBytes += bytes.length;
    this.#transmittedBytes += bytes.length;
    if (!this.#dirty) {
      this.#dirty = true;
      this.node.markDirty(this);
    }
  }

  /** Close by this end's machine. */
  close(abort: boolean): void {
    if (this.#state === "closed" || this.#state === "closing") return;
    if (abort || this.#state === "opening") {
      this.#dropQueue();
      const other = this.other;
      if (other !== undefined && !this.silent) this.#resetOther(other);
      this.#down("LINK_CLOSED", "closed by this end");
      return;
    }
    this.#state = "closing";
    this.#inbox = [];
    if (!this.#dirty) {
      this.#dirty = true;
      this.node.markDirty(this);
    }
    this.node.world.after(CLOSE_TIMEOUT_MS, () => {
      if (this.#state !== "closing") return;
      this.#dropQueue();
      if (this.other !== undefined && !this.silent) this.#resetOther(this.other);
      this.#down("LINK_CLOSED", "closed by this end, not all was sent");
    });
  }

  /** The link breaks: this end is told with `code`. What it had queued is lost. */
  break(code: ErrorCode, detail: string): void {
    if (this.#state === "closed") return;
    this.#dropQueue();
    this.#down(code, detail);
  }

  /** The process of this end is gone. */
  vanish(silent: boolean): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#dropQueue();
    this.#reader?.close();
    this.node.network.observers.linkDown(this.node, this);
    const other = this.other;
    if (other === undefined) return;
    if (silent) {
      this.silent = true;
      other.silent = true;
      this.node.network.timeOutSilent(other);
    } else if (!this.silent) this.#resetOther(other);
  }

  /** Sends what the window has room for. */
  flush(): void {
    this.#dirty = false;
    if (this.#state === "opening" || this.#state === "closed" || !this.current) return;
    while (this.#queuedBytes > 0 && this.#inFlightBytes < this.path.windowBytes) this.#depart();
    if (this.#state === "closing" && this.#queuedBytes === 0) {
      this.#send({ parts: [], bytes: 0, atMs: this.#arrivalMs(), last: true });
      this.#down("LINK_CLOSED", "closed by this end");
    }
  }

  /** Reads what has arrived, in pieces, until the inbox is empty or memory is. */
  read(): void {
    if (this.#reading) return;
    this.#reading = true;
    while (this.#state === "open" && !this.node.paused && this.current) {
      if (this.#inboxHead === this.#inbox.length) {
        if (this.#finReceived) this.break("LINK_CLOSED", "closed by the other end");
        break;
      }
      if (!(this.mode === "stream" ? this.#readPiece() : this.#readMessage())) break;
    }
    this.#reading = false;
    if (this.#inboxHead === this.#inbox.length || this.#inboxHead > 256) {
      this.#inbox.splice(0, this.#inboxHead);
      this.#inboxHead = 0;
    }
  }

  /** Takes one burst out of the queue. */
  #depart(): void {
    const parts: Uint8Array[] = [];
    let bytes = 0;
    const room = Math.min(BURST_BYTES, this.path.windowBytes - this.#inFlightBytes);
    while (bytes < room && this.#queueHead < this.#queue.length) {
      const item = this.#queue[this.#queueHead] as Queued;
      const rest = item.copy.length - item.taken;
      const take = this.mode === "message" ? rest : Math.min(rest, room - bytes);
      this.#compare(item);
      parts.push(
        take === item.copy.length ? item.copy : item.copy.subarray(item.taken, item.taken + take),
      );
      item.taken += take;
      bytes += take;
      if (item.taken === item.copy.length) this.#queueHead++;
    }
    if (this.#queueHead === this.#queue.length || this.#queueHead > 256) {
      this.#queue.splice(0, this.#queueHead);
      this.#queueHead = 0;
    }
    this.#queuedBytes -= bytes;
    this.#inFlightBytes += bytes;
    this.#sentBytes += bytes;
    this.#reportSent();
    const { node, path } = this;
    const startMs = Math.max(node.world.nowMs, this.#departureFreeMs, node.uplinkFreeMs);
    this.#departureFreeMs = startMs + bytes / path.bytesPerMs;
    node.uplinkFreeMs = startMs + bytes / node.uplinkBytesPerMs;
    const departedMs = Math.max(this.#departureFreeMs, node.uplinkFreeMs);
    this.#send({ parts, bytes, atMs: this.#arrivalMs(departedMs), last: false });
  }

  #compare(item: Queued): void {
    if (Buffer.compare(item.view.subarray(item.taken), item.copy.subarray(item.taken)) !== 0) {
      this.node.world.violate(
        "transmit-untouched",
        `${this.node.name} link ${this.linkId}: memory changed while its bytes were queued`,
      );
    }
  }

  #arrivalMs(departedMs = this.#departureFreeMs): number {
    const { latencyMs, jitterMs } = this.path;
    const jitter = jitterMs === 0 ? 0 : jitterMs * this.node.network.pathRng.next();
    const nowMs = this.node.world.nowMs;
    const atMs = Math.max(departedMs, nowMs) + latencyMs + jitter;
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, atMs);
    return this.#lastArrivalMs;
  }

  #send(burst: Burst): void {
    this.#inTransit.push(burst);
    this.node.world.at(burst.atMs, () => this.#arrive());
  }

  /** The burst at the head of the way reaches the other end, unless something holds it. */
  #arrive(): void {
    const other = this.other;
    if (other === undefined) return;
    if (this.silent) {
      // A host that came back knows nothing of this link and says so.
      if (!other.current && other.node.alive) this.break("LINK_RESET", "reset by the host");
      return;
    }
    const world = this.node.world;
    const heldUntilMs = Math.max(
      this.stalledUntilMs,
      this.node.network.blockedUntilMs(this.node, other.node),
    );
    if (heldUntilMs > world.nowMs) {
      world.at(heldUntilMs, () => this.#arrive());
      return;
    }
    const burst = this.#inTransit[this.#inTransitHead++] as Burst;
    if (this.#inTransitHead === this.#inTransit.length || this.#inTransitHead > 256) {
      this.#inTransit.splice(0, this.#inTransitHead);
      this.#inTransitHead = 0;
    }
    other.#accept(burst);
  }

  #accept(burst: Burst): void {
    if (this.#state === "closed" || this.#state === "closing") {
      this.#acknowledge(burst.bytes);
      // Nobody is there any more: a host answers with a reset.
      const sender = this.other;
      const node = this.node;
      if (!this.current && node.alive && !burst.last && sender !== undefined) {
        node.world.after(this.path.latencyMs, () =>
          sender.break("LINK_RESET", "reset by the host"),
        );
      }
      return;
    }
    for (const part of burst.parts) this.#inbox.push(part);
    if (burst.last) this.#finReceived = true;
    this.read();
  }

  /** One read of a stream: 1 byte up to what the space and the inbox hold. False: no memory. */
  #readPiece(): boolean {
    const reader = this.#reader as FrameReader;
    const space = reader.space();
    if (space === undefined) {
      this.#retryLater();
      return false;
    }
    const rng = this.node.network.pieceRng;
    const { crumbleRate, readBytesMax } = this.path;
    const crumb = crumbleRate > 0 && chance(rng, crumbleRate);
    const limit = Math.min(space.length, crumb ? 1 + rng.below(32) : 1 + rng.below(readBytesMax));
    const memory = this.node.body?.arena?.bytes as Uint8Array;
    let bytes = 0;
    while (bytes < limit && this.#inboxHead < this.#inbox.length) {
      const part = this.#inbox[this.#inboxHead] as Uint8Array;
      const take = Math.min(part.length - this.#inboxAt, limit - bytes);
      memory.set(
        take === part.length ? part : part.subarray(this.#inboxAt, this.#inboxAt + take),
        space.offset + bytes,
      );
      bytes += take;
      this.#inboxAt += take;
      if (this.#inboxAt === part.length) {
        this.#inboxHead++;
        this.#inboxAt = 0;
      }
    }
    this.#acknowledge(bytes);
    const failure = reader.received(bytes, this.#onFrames);
    if (failure !== undefined && this.#state === "open") {
      if (this.other !== undefined && !this.silent) this.#resetOther(this.other);
      this.break(failure, "refused by the frame reader");
    }
    return true;
  }

  #readMessage(): boolean {
    const message = this.#inbox[this.#inboxHead++] as Uint8Array;
    this.#acknowledge(message.length);
    this.#messageRange[0] = 0;
    this.#messageRange[1] = message.length;
    this.#onFrames(message, this.#messageRange, 1);
    return true;
  }

  readonly #onFrames = (memory: Uint8Array, ranges: Uint32Array, count: number): void => {
    const { node, linkId } = this;
    node.network.observers.frames(node, this, memory, ranges, count);
    node.input({ kind: "frames", linkId, memory, ranges, count });
  };

  #retryLater(): void {
    if (this.#retryScheduled) return;
    this.#retryScheduled = true;
    this.node.world.after(STARVED_RETRY_MS, () => {
      this.#retryScheduled = false;
      this.read();
    });
  }

  /** `bytes` left this end's inbox: the sender's window opens, a latency later. */
  #acknowledge(bytes: number): void {
    const sender = this.other;
    if (sender === undefined) return;
    sender.#inFlightBytes -= bytes;
    if (sender.#queuedBytes === 0 || sender.#pumpScheduled) return;
    sender.#pumpScheduled = true;
    this.node.world.after(this.path.latencyMs, () => {
      sender.#pumpScheduled = false;
      sender.flush();
    });
  }

  #reportSent(): void {
    if (this.#sentScheduled) return;
    this.#sentScheduled = true;
    const { node } = this;
    node.world.after(between(node.network.pathRng, 0, 0.2), () => {
      this.#sentScheduled = false;
      if (!this.current || this.#state === "closed" || this.#sentReported === this.#sentBytes)
        return;
      this.#sentReported = this.#sentBytes;
      node.input({ kind: "sent", linkId: this.linkId, totalBytes: this.#sentBytes });
    });
  }

  #resetOther(other: PieceEnd): void {
    this.node.world.after(this.path.latencyMs, () => {
      if (!other.silent) other.break("LINK_RESET", "reset by the other end");
    });
  }

  #dropQueue(): void {
    this.#queue = [];
    this.#queueHead = 0;
    this.#queuedBytes = 0;
  }

  /** Ends this end; its machine is told in an event of its own. */
  #down(code: ErrorCode, detail: string): void {
    const { node, linkId } = this;
    this.#state = "closed";
    this.#inbox = [];
    this.#inboxHead = 0;
    this.#inboxAt = 0;
    this.#reader?.close();
    if (!this.current) return;
    node.network.observers.linkDown(node, this);
    node.world.after(0, () => {
      if (!this.current) return;
      node.ends.delete(linkId);
      node.input({ kind: "linkDown", linkId, code, detail });
    });
  }
}

export const pieceEnd: EndFactory = (node, linkId, options) => new PieceEnd(node, linkId, options);
