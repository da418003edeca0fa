/**
 * Links over TCP (R10.c). Reads land where the arena says: every read is given a fresh view of the
 * link's segment, so a fragment is never copied on its way in. Writes leave from where the bytes
 * lie; what one turn of the event loop sends on a link goes out in one writev, and views that lie
 * back to back in memory become one.
 *
 * What it never does: it keeps no frame, decides on no link, bounds no queue (the machine does, by
 * `sent`) and never reads for a link that has no memory to read into.
 */

import net from "node:net";
import type { ErrorCode } from "../base/errors.ts";
import { OperationError } from "../base/errors.ts";
import { LINKS_MAX_DEFAULT, LINKS_PENDING_MAX } from "../base/limits.ts";
import type { Address, LinkId } from "../base/machine.ts";
import type { ReceiveArena } from "../base/receive-arena.ts";
import type { FrameReaderOptions } from "./frame-reader.ts";
import { adoptAccepted, TcpLink, type TcpShared } from "./tcp-link.ts";
import type { Listening, Transport, TransportHandler, TransportStats } from "./transport.ts";

export interface TcpOptions extends FrameReaderOptions {
  /** Inbound links at a time; more are refused before they cost memory. */
  readonly maxInboundLinks?: number;
  readonly connectTimeoutMs?: number;
  /** How long the other side may take to answer our FIN. */
  readonly closeTimeoutMs?: number;
}

/** Long enough for a SYN to be sent three times over a lossy path. */
const CONNECT_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 5_000;
/** One address of several is given so long before the next is tried beside it. */
const ATTEMPT_TIMEOUT_MS = 1_000;
const BACKLOG = 511;

export class TcpTransport implements Transport {
  readonly name = "tcp";
  readonly #shared: TcpShared;
  readonly #maxInboundLinks: number;
  readonly #connectTimeoutMs: number;
  readonly #servers = new Set<net.Server>();
  #accepted = 0;
  #refused = 0;

  constructor(arena: ReceiveArena, options: TcpOptions = {}) {
    this.#maxInboundLinks = options.maxInboundLinks ?? LINKS_MAX_DEFAULT + LINKS_PENDING_MAX;
    this.#connectTimeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    this.#shared = {
      arena,
      readerOptions: options,
      closeTimeoutMs: options.closeTimeoutMs ?? CLOSE_TIMEOUT_MS,
      handler: unattached,
      links: new Map(),
      starved: new Set(),
      dirty: [],
      flushScheduled: false,
      receivedBytes: 0,
      sentBytes: 0,
      pauses: 0,
    };
  }

  attach(handler: TransportHandler): void {
    this.#shared.handler = handler;
  }

  listen(address: Address): Promise<Listening> {
    const server = net.createServer({ noDelay: true, pauseOnConnect: true });
    server.maxConnections = this.#maxInboundLinks;
    server.on("connection", (socket) => this.#accept(server, socket));
    server.on("drop", () => {
      this.#refused++;
    });
    return new Promise((resolve, reject) => {
      server.once("error", (cause) => reject(listenError(cause, address)));
      server.listen({ host: address.host, port: address.port, backlog: BACKLOG }, () => {
        server.removeAllListeners("error");
        // A failed accept (out of file descriptors) costs that one connection, not the server.
        server.on("error", () => {
          this.#refused++;
        });
        this.#servers.add(server);
        const bound = server.address() as net.AddressInfo;
        resolve({
          address: { transport: "tcp", host: bound.address, port: bound.port },
          close: () => this.#closeServer(server),
        });
      });
    });
  }

  open(linkId: LinkId, address: Address): void {
    const link = new TcpLink(this.#shared, linkId);
    this.#shared.links.set(linkId, link);
    const socket = net.connect({
      host: address.host,
      port: address.port,
      noDelay: true,
      autoSelectFamilyAttemptTimeout: ATTEMPT_TIMEOUT_MS,
      onread: link.onread(),
    });
    link.connect(socket, this.#connectTimeoutMs);
  }

  send(linkId: LinkId, bytes: Uint8Array): void {
    this.#shared.links.get(linkId)?.send(bytes);
  }

  close(linkId: LinkId, abort: boolean): void {
    this.#shared.links.get(linkId)?.close(abort);
  }

  resume(): void {
    if (this.#shared.starved.size === 0) return;
    for (const link of [...this.#shared.starved]) link.resume();
  }

  stats(): TransportStats {
    return {
      links: this.#shared.links.size,
      accepted: this.#accepted,
      refused: this.#refused,
      receivedBytes: this.#shared.receivedBytes,
      sentBytes: this.#shared.sentBytes,
      pauses: this.#shared.pauses,
    };
  }

  async shutdown(): Promise<void> {
    this.#shared.handler = unattached;
    const servers = [...this.#servers].map((server) => this.#closeServer(server));
    const links = [...this.#shared.links.values()].map((link) => link.destroyed());
    await Promise.all([...servers, ...links]);
  }

  #accept(server: net.Server, accepted: net.Socket): void {
    const linkId = this.#shared.handler.allocateLinkId();
    const link = new TcpLink(this.#shared, linkId);
    const socket = adoptAccepted(server, accepted, link.onread());
    const { remoteAddress, remotePort } = socket;
    if (remoteAddress === undefined || remotePort === undefined) {
      // Reset between the kernel's accept and ours: never was a link.
      socket.on("error", () => undefined);
      socket.destroy();
      link.release();
      return;
    }
    this.#accepted++;
    this.#shared.links.set(linkId, link);
    link.accepted(socket, { transport: "tcp", host: plainHost(remoteAddress), port: remotePort });
  }

  #closeServer(server: net.Server): Promise<void> {
    if (!this.#servers.delete(server)) return Promise.resolve();
    // The callback of close() waits for the connections, which may stay; the port is free at once.
    server.close();
    return new Promise((resolve) => setImmediate(resolve));
  }
}

const unattached: TransportHandler = {
  allocateLinkId: () => 0,
  linkUp: () => undefined,
  linkDown: () => undefined,
  frames: () => undefined,
  sent: () => undefined,
};

/** `::ffff:192.0.2.1`, as a dual-stack socket sees IPv4, without its prefix. */
export function plainHost(host: string): string {
  return /^::ffff:\d+\.\d+\.\d+\.\d+$/i.test(host) ? host.slice(7) : host;
}

/** What a failed listen means. */
export function listenError(
  cause: unknown,
  address: { host: string; port: number },
): OperationError {
  const systemCode = (cause as NodeJS.ErrnoException).code ?? "";
  const detail = `${address.host}:${address.port}, ${systemCode}`;
  const code: ErrorCode = systemCode === "EADDRINUSE" ? "ADDRESS_IN_USE" : "ADDRESS_UNAVAILABLE";
  return new OperationError(code, { detail, cause });
}
