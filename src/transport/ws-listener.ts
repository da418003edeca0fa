/**
 * Links that others open over WebSocket, as a transport of frames: one binary message is one frame
 * with its header. Dials nobody. What a client does not read is bounded by the server underneath.
 */

import type { ErrorCode } from "../base/errors.ts";
import { FRAME_BYTES_MAX } from "../base/limits.ts";
import type { Address, LinkId } from "../base/machine.ts";
import type { Listening, Transport, TransportHandler, TransportStats } from "./transport.ts";
import { startWsServer } from "./ws-server/ws-server.ts";
import type { WsBackend, WsServer, WsServerHandler } from "./ws-server/ws-server-types.ts";

export interface WsListenerOptions {
  readonly backend?: WsBackend;
  readonly maxInboundLinks: number;
}

interface Link {
  readonly server: WsServer;
  sentBytes: number;
  /** Whether a report of what was sent is on its way. */
  reporting: boolean;
  closing: boolean;
}

export class WsListenerTransport implements Transport {
  readonly name = "ws";
  readonly #options: WsListenerOptions;
  readonly #servers = new Set<WsServer>();
  readonly #links = new Map<LinkId, Link>();
  readonly #range = new Uint32Array(2);
  #handler: TransportHandler | undefined;
  #accepted = 0;
  #receivedBytes = 0;
  #sentBytes = 0;

  constructor(options: WsListenerOptions) {
    this.#options = options;
  }

  attach(handler: TransportHandler): void {
    this.#handler = handler;
  }

  async listen(address: Address): Promise<Listening> {
    let server: WsServer | undefined;
    const handler: WsServerHandler = {
      allocateLinkId: () => this.#handler?.allocateLinkId() ?? 0,
      linkUp: (linkId, remote) => {
        if (server === undefined) return;
        this.#accepted++;
        this.#links.set(linkId, { server, sentBytes: 0, reporting: false, closing: false });
        this.#handler?.linkUp(linkId, "inbound", remote);
      },
      message: (linkId, bytes) => {
        if (this.#links.get(linkId)?.closing !== false) return;
        this.#receivedBytes += bytes.length;
        this.#range[0] = 0;
        this.#range[1] = bytes.length;
        this.#handler?.frames(linkId, bytes, this.#range, 1);
      },
      linkDown: (linkId, code, detail) => {
        if (this.#links.delete(linkId)) this.#handler?.linkDown(linkId, code, detail);
      },
      request: async () => ({
        status: 426,
        contentType: "text/plain",
        body: "Data sources link up here by WebSocket.\n",
      }),
    };
    const { backend, maxInboundLinks } = this.#options;
    server = await startWsServer({
      host: address.host,
      port: address.port,
      handler,
      maxConnections: maxInboundLinks,
      maxMessageBytes: FRAME_BYTES_MAX,
      ...(backend === undefined ? {} : { backend }),
    });
    const started = server;
    this.#servers.add(started);
    return { address: started.address, close: () => this.#close(started) };
  }

  open(linkId: LinkId, _address: Address): void {
    const code: ErrorCode = "UNREACHABLE";
    setImmediate(() => this.#handler?.linkDown(linkId, code, "this side only listens"));
  }

  send(linkId: LinkId, bytes: Uint8Array): void {
    const link = this.#links.get(linkId);
    if (link === undefined || link.closing) return;
    link.server.send(linkId, bytes);
    link.sentBytes += bytes.length;
    this.#sentBytes += bytes.length;
    if (link.reporting) return;
    link.reporting = true;
    setImmediate(() => {
      link.reporting = false;
      if (!link.closing && this.#links.has(linkId)) this.#handler?.sent(linkId, link.sentBytes);
    });
  }

  close(linkId: LinkId, abort: boolean): void {
    const link = this.#links.get(linkId);
    if (link === undefined || (link.closing && !abort)) return;
    link.closing = true;
    link.server.close(linkId, abort);
  }

  resume(): void {}

  stats(): TransportStats {
    let refused = 0;
    for (const server of this.#servers) refused += server.stats().refused;
    return {
      links: this.#links.size,
      accepted: this.#accepted,
      refused,
      receivedBytes: this.#receivedBytes,
      sentBytes: this.#sentBytes,
      pauses: 0,
    };
  }

  async shutdown(): Promise<void> {
    this.#handler = undefined;
    await Promise.all([...this.#servers].map((server) => this.#close(server)));
  }

  async #close(server: WsServer): Promise<void> {
    if (this.#servers.delete(server)) await server.shutdown();
  }
}
