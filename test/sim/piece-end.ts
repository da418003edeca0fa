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

import type { EndFactory } from "../../src/sim/border.ts";
import { type InTransit, SocketEnd } from "../../src/sim/socket-end.ts";
import { between, chance } from "../../src/sim/world.ts";
import { FrameReader } from "../../src/transport/frame-reader.ts";

/** One departure: bounded, so that links that share an uplink take turns. */
const BURST_BYTES = 32 * 1024;
/** A reader without memory tries again after this. */
const STARVED_RETRY_MS = 5;

interface Queued {
  /** What was transmitted, kept aside. */
  readonly copy: Uint8Array;
  /** The machine's own bytes: of its memory, or the host's from then on; untouched either way. */
  readonly view: Uint8Array;
  taken: number;
}

interface Burst extends InTransit {
  readonly parts: readonly Uint8Array[];
}

export class PieceEnd extends SocketEnd<Burst> {
  declare other: PieceEnd | undefined;
  #queue: Queued[] = [];
  #queueHead = 0;
  #sentScheduled = false;
  #departureFreeMs = 0;
  #pumpScheduled = false;
  #inbox: Uint8Array[] = [];
  #inboxHead = 0;
  #inboxAt = 0;
  #reading = false;
  #retryScheduled = false;
  #reader: FrameReader | undefined;
  readonly #messageRange = new Uint32Array(2);

  protected override opened(): void {
    if (this.mode !== "stream") return;
    const arena = this.node.body?.arena;
    if (arena === undefined) throw new Error(`${this.node.name} has no arena for a stream link`);
    this.#reader = new FrameReader(arena.bytes, arena.open());
  }

  transmit(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const copy = Buffer.allocUnsafe(bytes.length);
    copy.set(bytes);
    this.#queue.push({ copy, view: bytes, taken: 0 });
    this.queuedBytes += bytes.length;
    this.markDirty();
  }

  /** Sends what the window has room for. */
  flush(): void {
    this.dirty = false;
    if (this.state === "opening" || this.state === "closed" || !this.current) return;
    while (this.queuedBytes > 0 && this.inFlightBytes < this.path.windowBytes) this.#depart();
    if (this.state === "closing" && this.queuedBytes === 0) {
      const departedMs = Math.max(this.#departureFreeMs, this.node.world.nowMs);
      this.send({ parts: [], bytes: 0, atMs: this.arrivalMs(departedMs), last: true });
      this.down("LINK_CLOSED", "closed by this end");
    }
  }

  /** Reads what has arrived, in pieces, until the inbox is empty or memory is. */
  read(): void {
    if (this.#reading) return;
    this.#reading = true;
    while (this.state === "open" && !this.node.paused && this.current) {
      if (this.#inboxHead === this.#inbox.length) {
        if (this.finReceived) this.break("LINK_CLOSED", "closed by the other end");
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
    const room = Math.min(BURST_BYTES, this.path.windowBytes - this.inFlightBytes);
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
    this.queuedBytes -= bytes;
    this.inFlightBytes += bytes;
    this.sentBytes += bytes;
    this.#reportSoon();
    const { node, path } = this;
    const startMs = Math.max(node.world.nowMs, this.#departureFreeMs, node.uplinkFreeMs);
    this.#departureFreeMs = startMs + bytes / path.bytesPerMs;
    node.uplinkFreeMs = startMs + bytes / node.uplinkBytesPerMs;
    const departedMs = Math.max(this.#departureFreeMs, node.uplinkFreeMs);
    this.send({ parts, bytes, atMs: this.arrivalMs(departedMs), last: false });
  }

  #compare(item: Queued): void {
    if (Buffer.compare(item.view.subarray(item.taken), item.copy.subarray(item.taken)) !== 0) {
      this.node.world.violate(
        "transmit-untouched",
        `${this.node.name} link ${this.linkId}: memory changed while its bytes were queued`,
      );
    }
  }

  protected override receive(burst: Burst): void {
    for (const part of burst.parts) this.#inbox.push(part);
    if (burst.last) this.finReceived = true;
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
    this.acknowledge(bytes);
    const failure = reader.received(bytes, this.#onFrames);
    if (failure !== undefined && this.state === "open") {
      this.resetOther();
      this.break(failure, "refused by the frame reader");
    }
    return true;
  }

  #readMessage(): boolean {
    const message = this.#inbox[this.#inboxHead++] as Uint8Array;
    this.acknowledge(message.length);
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

  /** The sender hears of it a latency later. */
  protected override acknowledge(bytes: number): void {
    const sender = this.other;
    if (sender === undefined) return;
    sender.inFlightBytes -= bytes;
    if (sender.queuedBytes === 0 || sender.#pumpScheduled) return;
    sender.#pumpScheduled = true;
    this.node.world.after(this.path.latencyMs, () => {
      sender.#pumpScheduled = false;
      sender.flush();
    });
  }

  #reportSoon(): void {
    if (this.#sentScheduled) return;
    this.#sentScheduled = true;
    const { node } = this;
    node.world.after(between(node.network.pathRng, 0, 0.2), () => {
      this.#sentScheduled = false;
      this.reportSent();
    });
  }

  protected override dropQueue(): void {
    this.#queue = [];
    this.#queueHead = 0;
    this.queuedBytes = 0;
  }

  protected override dropInbox(): void {
    this.#inbox = [];
    this.#inboxHead = 0;
    this.#inboxAt = 0;
  }

  protected override discard(): void {
    this.dropInbox();
    this.#reader?.close();
  }
}

export const pieceEnd: EndFactory = (node, linkId, options) => new PieceEnd(node, linkId, options);
