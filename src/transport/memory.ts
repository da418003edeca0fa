/**
 * Links within one process: byte streams without sockets, with the asynchrony and the cutting into
 * pieces of real ones. Transports that share a MemoryNetwork reach each other; an address is
 * `memory://<any host>:<port>`.
 *
 * Bytes move on later turns of the event loop, at most one piece a link and turn, straight from
 * where the sender's bytes lie to where the receiver's arena says. A receiver without memory stops
 * the sender. It never loses, reorders or delays beyond that: faults are the simulator's business.
 */

import { type ErrorCode, OperationError } from "../base/errors.ts";
import type { Address, LinkId } from "../base/machine.ts";
import type { ReceiveArena } from "../base/receive-arena.ts";
import { KIB } from "../base/units.ts";
import { FrameReader, type FrameReaderOptions } from "./frame-reader.ts";
import type { Listening, Transport, TransportHandler, TransportStats } from "./transport.ts";

export interface MemoryOptions extends FrameReaderOptions {
  /** Bytes that move at once, drawn anew for each piece. Default: always 64 KiB. */
  readonly pieceBytes?: () => number;
}

const PIECE_BYTES = 64 * KIB;
const FIRST_PORT = 1024;

interface Listener {
  readonly accept: (other: MemoryLink, remote: Address) => MemoryLink;
}

/** The ports of one little world. */
export class MemoryNetwork {
  readonly listeners = new Map<number, Listener>();
  #nextPort = FIRST_PORT;

  freePort(): number {
    while (this.listeners.has(this.#nextPort)) this.#nextPort++;
    return this.#nextPort++;
  }
}

export class MemoryTransport implements Transport {
  readonly name = "memory";
  readonly #network: MemoryNetwork;
  readonly #arena: ReceiveArena;
  readonly #options: MemoryOptions;
  readonly #links = new Map<LinkId, MemoryLink>();
  readonly #ports = new Set<number>();
  #handler: TransportHandler | undefined;
  #accepted = 0;
  readonly #counters = { receivedBytes: 0, sentBytes: 0, pauses: 0 };

  constructor(network: MemoryNetwork, arena: ReceiveArena, options: MemoryOptions = {}) {
    this.#network = network;
    this.#arena = arena;
    this.#options = options;
  }

  attach(handler: TransportHandler): void {
    this.#handler = handler;
  }

  async listen(address: Address): Promise<Listening> {
    const port = address.port === 0 ? this.#network.freePort() : address.port;
    if (this.#network.listeners.has(port)) {
      throw new OperationError("ADDRESS_IN_USE", { detail: `memory port ${port}` });
    }
    this.#network.listeners.set(port, {
      accept: (other, remote) => {
        const link = this.#newLink(this.#handler?.allocateLinkId() ?? 0);
        this.#accepted++;
        link.comeUp(other, "inbound", remote);
        return link;
      },
    });
    this.#ports.add(port);
    return {
      address: { transport: "memory", host: address.host, port },
      close: async () => this.#unlisten(port),
    };
  }

  open(linkId: LinkId, address: Address): void {
    const link = this.#newLink(linkId);
    setImmediate(() => {
      if (link.isClosed) return;
      const listener = this.#network.listeners.get(address.port);
      if (listener === undefined) {
        link.end("UNREACHABLE", `nothing listens on memory port ${address.port}`);
        return;
      }
      const other = listener.accept(link, { transport: "memory", host: "memory", port: 0 });
      link.comeUp(other, "outbound", address);
    });
  }

  send(linkId: LinkId, bytes: Uint8Array): void {
    this.#links.get(linkId)?.send(bytes);
  }

  close(linkId: LinkId, abort: boolean): void {
    this.#links.get(linkId)?.close(abort);
  }

  resume(): void {
    for (const link of this.#links.values()) if (link.isStarved) link.wakeSender();
  }

  stats(): TransportStats {
    return { links: this.#links.size, accepted: this.#accepted, refused: 0, ...this.#counters };
  }

  async shutdown(): Promise<void> {
    this.#handler = undefined;
    for (const port of this.#ports) this.#unlisten(port);
    for (const link of this.#links.values()) link.close(true);
    while (this.#links.size > 0) await new Promise((resolve) => setImmediate(resolve));
  }

  #unlisten(port: number): void {
    if (this.#ports.delete(port)) this.#network.listeners.delete(port);
  }

  #newLink(linkId: LinkId): MemoryLink {
    const reader = new FrameReader(this.#arena.bytes, this.#arena.open(), this.#options);
    const link: MemoryLink = new MemoryLink(
      this.#arena.bytes,
      reader,
      this.#counters,
      this.#options.pieceBytes ?? (() => PIECE_BYTES),
      {
        up: (direction, remote) => this.#handler?.linkUp(linkId, direction, remote),
        frames: (memory, ranges, count) => this.#handler?.frames(linkId, memory, ranges, count),
        sent: (totalBytes) => this.#handler?.sent(linkId, totalBytes),
        down: (code, detail) => {
          this.#links.delete(linkId);
          this.#handler?.linkDown(linkId, code, detail);
        },
      },
    );
    this.#links.set(linkId, link);
    return link;
  }
}

interface LinkCallbacks {
  readonly up: (direction: "inbound" | "outbound", remote: Address) => void;
  readonly frames: (memory: Uint8Array, ranges: Uint32Array, count: number) => void;
  readonly sent: (totalBytes: number) => void;
  readonly down: (code: ErrorCode, detail: string) => void;
}

interface Counters {
  receivedBytes: number;
  sentBytes: number;
  pauses: number;
}

/** One end of a link; it pushes what it has queued into its other end. */
class MemoryLink {
  readonly #memory: Uint8Array;
  readonly #reader: FrameReader;
  readonly #counters: Counters;
  readonly #pieceBytes: () => number;
  readonly #callbacks: LinkCallbacks;
  #other: MemoryLink | undefined;
  #queue: Uint8Array[] = [];
  #headBytes = 0;
  #sentBytes = 0;
  #scheduled = false;
  #closing = false;
  #aborted = false;
  isDown = false;
  /** Has no memory for what the other end wants to deliver. */
  isStarved = false;

  constructor(
    memory: Uint8Array,
    reader: FrameReader,
    counters: Counters,
    pieceBytes: () => number,
    callbacks: LinkCallbacks,
  ) {
    this.#memory = memory;
    this.#reader = reader;
    this.#counters = counters;
    this.#pieceBytes = pieceBytes;
    this.#callbacks = callbacks;
  }

  /** Down, or about to be. */
  get isClosed(): boolean {
    return this.isDown || this.#closing;
  }

  comeUp(other: MemoryLink, direction: "inbound" | "outbound", remote: Address): void {
    this.#other = other;
    this.#callbacks.up(direction, remote);
    this.#schedule();
  }

  send(bytes: Uint8Array): void {
    if (this.#closing || this.isDown || bytes.length === 0) return;
    this.#queue.push(bytes);
    this.#schedule();
  }

  close(abort: boolean): void {
    if (this.isDown || this.#aborted || (this.#closing && !abort)) return;
    this.#closing = true;
    if (abort || this.#other === undefined) {
      this.#aborted = true;
      const other = this.#other;
      this.#queue = [];
      setImmediate(() => {
        other?.end("LINK_RESET", "reset by the other side");
        this.end("LINK_CLOSED", "closed here");
      });
      return;
    }
    // What the other end still wants to deliver is dropped; it must not wait for memory here.
    this.wakeSender();
    this.#schedule();
  }

  /** The link is over, from a turn of its own. */
  end(code: ErrorCode, detail: string): void {
    if (this.isDown) return;
    this.isDown = true;
    this.isStarved = false;
    this.#queue = [];
    this.#reader.close();
    this.#callbacks.down(code, detail);
  }

  wakeSender(): void {
    this.isStarved = false;
    this.#other?.schedule();
  }

  schedule(): void {
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.isDown || this.#other === undefined) return;
    if (this.#queue.length === 0 && !this.#closing) return;
    this.#scheduled = true;
    setImmediate(this.#pump);
  }

  readonly #pump = (): void => {
    this.#scheduled = false;
    const other = this.#other;
    if (this.isDown || this.#aborted || other === undefined) return;
    const chunk = this.#queue[0];
    if (chunk === undefined) {
      if (!this.#closing) return;
      other.end("LINK_CLOSED", "closed by the other side");
      this.end("LINK_CLOSED", "closed here");
      return;
    }
    const want = Math.max(1, Math.min(this.#pieceBytes(), chunk.length - this.#headBytes));
    const piece = chunk.subarray(this.#headBytes, this.#headBytes + want);
    const taken = other.take(piece);
    if (taken === 0) return;
    this.#headBytes += taken;
    if (this.#headBytes === chunk.length) {
      this.#queue.shift();
      this.#headBytes = 0;
    }
    this.#sentBytes += taken;
    this.#counters.sentBytes += taken;
    if (!this.#closing && !this.isDown) this.#callbacks.sent(this.#sentBytes);
    this.#schedule();
  };

  /** How many of `piece` were taken; 0 = no memory. */
  take(piece: Uint8Array): number {
    if (this.#closing || this.isDown) return piece.length;
    const space = this.#reader.space();
    if (space === undefined) {
      this.isStarved = true;
      this.#counters.pauses++;
      return 0;
    }
    const bytes = Math.min(space.length, piece.length);
    this.#memory.set(piece.subarray(0, bytes), space.offset);
    this.#counters.receivedBytes += bytes;
    const failure = this.#reader.received(bytes, this.#callbacks.frames);
    if (failure !== undefined && !this.isDown) {
      const other = this.#other;
      this.end(failure, "in what the other side sent");
      setImmediate(() => other?.end("LINK_RESET", "reset by the other side"));
    }
    return bytes;
  }
}
