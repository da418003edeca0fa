/**
 * One TCP link: a socket between the arena and the handler.
 *
 * Reading. Node asks for a buffer after every read and reads into it next time, so the view handed
 * out is always the place for the coming read. Once handed out it can't be taken back; a link that
 * runs out of memory therefore gets a small spare buffer shared by all links, pauses, and what the
 * first read after the pause leaves there is copied into the arena. The spare buffer also takes what
 * arrives after this side closed: it is read (an unread byte would turn our close into a reset that
 * may destroy what we sent last) and dropped.
 *
 * A link that has sent nothing yet, or only part of its first frame, reads into a small buffer of its
 * own: who connects and stays silent costs no segment of the engine's memory.
 *
 * Writing. send() queues; the end of the turn writes all of it, corked. One callback a flush reports
 * the progress.
 */

import net from "node:net";
import type { ErrorCode } from "../base/errors.ts";
import { LINK_SLOW_MS } from "../base/limits.ts";
import type { Address, LinkId } from "../base/machine.ts";
import type { ReceiveArena } from "../base/receive-arena.ts";
import { KIB, MIB } from "../base/units.ts";
import { FrameReader, type FrameReaderOptions } from "./frame-reader.ts";
import type { TransportHandler } from "./transport.ts";

/** What all links of one transport share. */
export interface TcpShared {
  readonly arena: ReceiveArena;
  readonly readerOptions: FrameReaderOptions;
  readonly closeTimeoutMs: number;
  handler: TransportHandler;
  readonly links: Map<LinkId, TcpLink>;
  /** Paused for want of memory. */
  readonly starved: Set<TcpLink>;
  /** Links with unwritten bytes of this turn. */
  readonly dirty: TcpLink[];
  flushScheduled: boolean;
  receivedBytes: number;
  sentBytes: number;
  pauses: number;
}

/** Of one read; larger ones gain nothing and let one link hold the loop longer. */
const READ_BYTES_MAX = 256 * KIB;
/** A link that read so much in one turn lets the others have theirs first. */
const TURN_BYTES_MAX = 1 * MIB;
/** Back-to-back views become one write up to here. */
const WRITE_BYTES_MAX = 1 * MIB;

/** A first frame is a HELLO of some 300 bytes; a larger one moves on once its header says so. */
const FIRST_FRAME_BYTES = 4 * KIB;

const spare = new Uint8Array(16 * KIB);

export class TcpLink {
  readonly #shared: TcpShared;
  readonly #linkId: LinkId;
  readonly #reader: FrameReader;
  #socket: net.Socket | undefined;
  #up = false;
  #closing = false;
  #down = false;
  /** Why the link goes down, when known before the socket says so. */
  #reason: { readonly code: ErrorCode; readonly detail: string } | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** Takes the first frame, of which `#firstBytes` are there; undefined once it was whole. */
  #first: Uint8Array | undefined = new Uint8Array(FIRST_FRAME_BYTES);
  #firstBytes = 0;
  /** The view that the coming read writes to is `spare`. */
  #spareOut = false;
  /** Came into the spare buffer when there was no memory. */
  #held: Uint8Array | undefined;
  #retryScheduled = false;
  #turnBytes = 0;
  #turnScheduled = false;

  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #writtenBytes = 0;
  /** Total at each flush whose callback has not come. */
  readonly #flushedTotals: number[] = [];

  readonly #onFrames = (memory: Uint8Array, ranges: Uint32Array, count: number): void => {
    this.#shared.handler.frames(this.#linkId, memory, ranges, count);
  };

  constructor(shared: TcpShared, linkId: LinkId) {
    this.#shared = shared;
    this.#linkId = linkId;
    this.#reader = new FrameReader(shared.arena.bytes, shared.arena.open(), shared.readerOptions);
  }

  /** For the socket's constructor. */
  onread(): net.OnReadOpts {
    return {
      // Node calls a function here before the first and after every read.
      buffer: (() => this.#nextView()) as unknown as Uint8Array,
      callback: (bytes: number) => this.#onRead(bytes),
    };
  }

  connect(socket: net.Socket, timeoutMs: number): void {
    this.#hold(socket);
    this.#arm(timeoutMs, () => {
      this.#fail("UNREACHABLE", `no connection within ${timeoutMs} ms`);
    });
    socket.once("connect", () => {
      clearTimeout(this.#timer);
      if (this.#down || this.#closing) return;
      this.#up = true;
      const host = socket.remoteAddress ?? "";
      const port = socket.remotePort ?? 0;
      this.#shared.handler.linkUp(this.#linkId, "outbound", { transport: "tcp", host, port });
    });
  }

  /** The other side opened the link; reading starts when the handler knows of it. */
  accepted(socket: net.Socket, remote: Address): void {
    this.#hold(socket);
    this.#up = true;
    this.#shared.handler.linkUp(this.#linkId, "inbound", remote);
    if (!this.#down) socket.resume();
  }

  send(bytes: Uint8Array): void {
    if (this.#closing || this.#down || bytes.length === 0) return;
    const queue = this.#queue;
    const last = queue.at(-1);
    this.#queuedBytes += bytes.length;
    if (last === undefined) {
      this.#shared.dirty.push(this);
      scheduleFlush(this.#shared);
    } else if (
      last.buffer === bytes.buffer &&
      last.byteOffset + last.length === bytes.byteOffset &&
      last.length + bytes.length <= WRITE_BYTES_MAX
    ) {
      queue[queue.length - 1] = new Uint8Array(
        bytes.buffer,
        last.byteOffset,
        last.length + bytes.length,
      );
      return;
    }
    queue.push(bytes);
  }

  /** Writes what send() gathered. */
  flush(): void {
    const socket = this.#socket;
    const queue = this.#queue;
    if (socket === undefined || this.#down || queue.length === 0) return;
    this.#queue = [];
    this.#flushedTotals.push(this.#queuedBytes);
    const last = queue.length - 1;
    if (last === 0) {
      socket.write(queue[0] as Uint8Array, this.#onWritten);
      return;
    }
    socket.cork();
    for (let i = 0; i < last; i++) socket.write(queue[i] as Uint8Array);
    socket.write(queue[last] as Uint8Array, this.#onWritten);
    socket.uncork();
  }

  close(abort: boolean): void {
    if (this.#down) return;
    if (abort || !this.#up) {
      this.#fail("LINK_CLOSED", "closed here");
      return;
    }
    if (this.#closing) return;
    this.flush();
    this.#closing = true;
    this.#reason = { code: "LINK_CLOSED", detail: "closed here" };
    this.#shared.starved.delete(this);
    this.#held = undefined;
    this.#socket?.end();
    this.#socket?.resume();
    this.#watchClosing(this.#writtenBytes, 0);
  }

  /** Tries to go on after a pause for want of memory. */
  resume(): void {
    if (this.#retryScheduled || this.#reader.space() === undefined) return;
    // No callback may come from within resume(): the host is in the middle of a turn.
    this.#retryScheduled = true;
    setImmediate(this.#onRetry);
  }

  /** Ends the link without a word; resolves when the socket is gone. */
  destroyed(): Promise<void> {
    const socket = this.#socket;
    if (socket === undefined || socket.closed) return Promise.resolve();
    return new Promise((resolve) => {
      socket.once("close", () => resolve());
      this.#fail("LINK_CLOSED", "closed here");
    });
  }

  release(): void {
    clearTimeout(this.#timer);
    this.#reader.close();
    this.#shared.starved.delete(this);
    this.#held = undefined;
    this.#queue = [];
  }

  // ---------------------------------------------------------------------------------- reading

  #nextView(): Uint8Array {
    const ends = this.#closing || this.#down;
    if (!ends && this.#first !== undefined) {
      this.#spareOut = false;
      return this.#first.subarray(this.#firstBytes);
    }
    const space = ends ? undefined : this.#reader.space();
    this.#spareOut = space === undefined;
    if (space === undefined) return spare;
    const { bytes } = this.#shared.arena;
    return bytes.subarray(space.offset, space.offset + Math.min(space.length, READ_BYTES_MAX));
  }

  /** False: stop reading. */
  #onRead(bytes: number): boolean {
    this.#shared.receivedBytes += bytes;
    if (this.#down || this.#closing) return true;
    if (this.#spareOut) {
      if (!this.#take(spare.subarray(0, bytes))) return false;
    } else if (this.#first !== undefined) {
      const first = this.#first;
      this.#firstBytes += bytes;
      const came = first.subarray(0, this.#firstBytes);
      const state = this.#reader.first(came, first.length);
      if (state === "wait") return true;
      this.#first = undefined;
      if (state !== "ready") return this.#judge(state);
      if (!this.#take(came)) return false;
    } else if (!this.#judge(this.#reader.received(bytes, this.#onFrames))) {
      return false;
    }
    if (this.#closing) return true;
    if (this.#reader.space() === undefined) return this.#starve();
    this.#turnBytes += bytes;
    if (!this.#turnScheduled) {
      this.#turnScheduled = true;
      setImmediate(this.#onNextTurn);
    }
    return this.#turnBytes < TURN_BYTES_MAX;
  }

  readonly #onNextTurn = (): void => {
    this.#turnScheduled = false;
    const paused = this.#turnBytes >= TURN_BYTES_MAX;
    this.#turnBytes = 0;
    if (paused && !this.#down && !this.#shared.starved.has(this)) this.#socket?.resume();
  };

  /** Copies `bytes` into the arena piece by piece. False: the link ended or has to wait. */
  #take(bytes: Uint8Array): boolean {
    let at = 0;
    while (at < bytes.length) {
      const space = this.#reader.space();
      if (space === undefined) {
        this.#held = bytes.slice(at);
        return this.#starve();
      }
      const count = Math.min(space.length, bytes.length - at);
      this.#shared.arena.bytes.set(bytes.subarray(at, at + count), space.offset);
      at += count;
      if (!this.#judge(this.#reader.received(count, this.#onFrames)) || this.#closing) return false;
    }
    return true;
  }

  #judge(failure: ErrorCode | undefined): boolean {
    if (this.#down) return false;
    if (failure === undefined) return true;
    this.#fail(failure, "in what the other side sent");
    return false;
  }

  #starve(): false {
    this.#shared.starved.add(this);
    this.#shared.pauses++;
    return false;
  }

  readonly #onRetry = (): void => {
    this.#retryScheduled = false;
    if (this.#down || this.#closing) return;
    const held = this.#held;
    this.#held = undefined;
    this.#shared.starved.delete(this);
    if (held === undefined || this.#take(held)) this.#socket?.resume();
  };

  // ---------------------------------------------------------------------------------- writing

  readonly #onWritten = (error?: Error | null): void => {
    const total = this.#flushedTotals.shift();
    if (error || total === undefined || this.#down) return;
    this.#shared.sentBytes += total - this.#writtenBytes;
    this.#writtenBytes = total;
    if (!this.#closing) this.#shared.handler.sent(this.#linkId, total);
  };

  // ---------------------------------------------------------------------------------- the end

  #hold(socket: net.Socket): void {
    this.#socket = socket;
    socket.on("error", (error: NodeJS.ErrnoException) => {
      this.#reason ??= { code: this.#up ? lossOf(error) : "UNREACHABLE", detail: error.message };
    });
    // The other side sends nothing more. All it sent was handed over; what we still have for it
    // would not be looked at, and a link that is half closed would only wait for its other half.
    socket.on("end", () => {
      const cut = this.#first === undefined ? this.#reader.pendingBytes : this.#firstBytes;
      const detail = cut === 0 ? "closed by the other side" : `closed inside a frame, ${cut} bytes`;
      this.#reason ??= { code: "LINK_CLOSED", detail };
      socket.destroy();
    });
    socket.once("close", () => this.#onClose());
  }

  /** Ends the link now. linkDown follows when the socket is closed. */
  #fail(code: ErrorCode, detail: string): void {
    if (this.#down) return;
    this.#reason = { code, detail };
    this.#down = true;
    this.#queue = [];
    const socket = this.#socket;
    // The socket is closed in this very call, before its memory is given back.
    // Node can't reset a socket that has sent its FIN.
    if (this.#up && !this.#closing) socket?.resetAndDestroy();
    else socket?.destroy();
    this.release();
  }

  #onClose(): void {
    this.#down = true;
    this.release();
    this.#shared.links.delete(this.#linkId);
    const { code, detail } = this.#reason ?? { code: "LINK_CLOSED", detail: "closed" };
    this.#shared.handler.linkDown(this.#linkId, code, detail);
  }

  /** While closing: ends a link that stopped taking bytes, or never answers our FIN. */
  #watchClosing(writtenBytes: number, stillMs: number): void {
    this.#arm(this.#shared.closeTimeoutMs, () => {
      const moved = this.#writtenBytes > writtenBytes;
      const still = moved ? 0 : stillMs + this.#shared.closeTimeoutMs;
      const finished = this.#socket?.writableFinished === true;
      if (finished && !moved) this.#fail("LINK_HALF_OPEN", "our close was not answered");
      else if (still >= LINK_SLOW_MS) this.#fail("LINK_SLOW", "does not read what is left");
      else this.#watchClosing(this.#writtenBytes, still);
    });
  }

  #arm(delayMs: number, onTimeout: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(onTimeout, delayMs);
    this.#timer.unref();
  }
}

function scheduleFlush(shared: TcpShared): void {
  if (shared.flushScheduled) return;
  shared.flushScheduled = true;
  process.nextTick(() => {
    shared.flushScheduled = false;
    for (const link of shared.dirty.splice(0)) link.flush();
  });
}

/** What the failure of a link that was up means. */
function lossOf(error: NodeJS.ErrnoException): ErrorCode {
  if (error.code === "ETIMEDOUT" || error.code === "EHOSTUNREACH") return "LINK_HALF_OPEN";
  return "LINK_RESET";
}

/** The parts of a socket that Node has no public way to reach. */
interface SocketInside {
  _handle: object | null;
  _server?: net.Server | null;
  server?: net.Server | null;
}

/**
 * net.Server has no `onread` for the sockets it accepts, so a new socket takes over the handle of
 * the accepted one (which was created paused: nothing was read yet), and its place in the server's
 * count of connections.
 */
export function adoptAccepted(
  server: net.Server,
  accepted: net.Socket,
  onread: net.OnReadOpts,
): net.Socket {
  const from = accepted as unknown as SocketInside;
  const handle = from._handle;
  from._handle = null;
  from._server = null;
  from.server = null;
  const options: object = { handle, onread, manualStart: true, noDelay: true };
  const socket = new net.Socket(options as net.SocketConstructorOpts);
  const to = socket as unknown as SocketInside;
  to._server = server;
  to.server = server;
  accepted.destroy();
  return socket;
}
