/**
 * The client side of signalling: links to servers over WebSocket. One message is one frame, without
 * a frame header. Opens links only; a server listens through ws-server.
 */

import { WebSocket } from "ws";
import { type ErrorCode, LocalUsageError } from "../base/errors.ts";
import { SIGNALLING_MESSAGE_BYTES_MAX } from "../base/limits.ts";
import { type Address, formatAddress, type LinkId } from "../base/machine.ts";
import type { Listening, Transport, TransportHandler, TransportStats } from "./transport.ts";

export interface WsClientOptions {
  readonly connectTimeoutMs?: number;
  /** How long the server may take to answer our close. */
  readonly closeTimeoutMs?: number;
}

interface Link {
  readonly socket: WebSocket;
  queuedBytes: number;
  sentBytes: number;
  up: boolean;
  closing: boolean;
  reason: { readonly code: ErrorCode; readonly detail: string } | undefined;
  timer: NodeJS.Timeout | undefined;
}

export class WsClientTransport implements Transport {
  readonly name = "ws";
  readonly #links = new Map<LinkId, Link>();
  readonly #connectTimeoutMs: number;
  readonly #closeTimeoutMs: number;
  readonly #range = new Uint32Array(2);
  #handler: TransportHandler | undefined;
  #receivedBytes = 0;
  #sentBytes = 0;

  constructor(options: WsClientOptions = {}) {
    this.#connectTimeoutMs = options.connectTimeoutMs ?? 10_000;
    this.#closeTimeoutMs = options.closeTimeoutMs ?? 5_000;
  }

  attach(handler: TransportHandler): void {
    this.#handler = handler;
  }

  listen(): Promise<Listening> {
    return Promise.reject(
      new LocalUsageError("USAGE", { detail: "a WebSocket client does not listen" }),
    );
  }

  open(linkId: LinkId, address: Address): void {
    const socket = new WebSocket(formatAddress(address), {
      perMessageDeflate: false,
      maxPayload: SIGNALLING_MESSAGE_BYTES_MAX,
      handshakeTimeout: this.#connectTimeoutMs,
      followRedirects: false,
    });
    const link: Link = {
      socket,
      queuedBytes: 0,
      sentBytes: 0,
      up: false,
      closing: false,
      reason: undefined,
      timer: undefined,
    };
    this.#links.set(linkId, link);
    socket.on("error", (error: Error) => {
      const code = link.up ? codeOf(error) : "UNREACHABLE";
      link.reason ??= { code, detail: error.message };
    });
    socket.once("open", () => {
      if (link.closing) return;
      link.up = true;
      this.#handler?.linkUp(linkId, "outbound", address);
    });
    socket.on("message", (data: Buffer, isBinary: boolean) => {
      if (link.closing) return;
      if (!isBinary) {
        link.reason = { code: "FRAME_MALFORMED", detail: "a text message" };
        link.closing = true;
        socket.terminate();
        return;
      }
      this.#receivedBytes += data.length;
      this.#range[0] = 0;
      this.#range[1] = data.length;
      this.#handler?.frames(linkId, data, this.#range, 1);
    });
    socket.once("close", (code: number) => {
      clearTimeout(link.timer);
      this.#links.delete(linkId);
      const { code: why, detail } = link.reason ?? {
        code: code === 1006 ? ("LINK_RESET" as const) : ("LINK_CLOSED" as const),
        detail: `close code ${code}`,
      };
      this.#handler?.linkDown(linkId, why, detail);
    });
  }

  send(linkId: LinkId, bytes: Uint8Array): void {
    const link = this.#links.get(linkId);
    if (link === undefined || !link.up || link.closing) return;
    link.queuedBytes += bytes.length;
    const total = link.queuedBytes;
    link.socket.send(bytes, { binary: true }, (error) => {
      if (error || link.closing || !this.#links.has(linkId)) return;
      this.#sentBytes += total - link.sentBytes;
      link.sentBytes = total;
      // `ws` may call back from within send(); ours never does.
      setImmediate(() => {
        if (!link.closing && this.#links.has(linkId)) this.#handler?.sent(linkId, total);
      });
    });
  }

  close(linkId: LinkId, abort: boolean): void {
    const link = this.#links.get(linkId);
    if (link === undefined || (link.closing && !abort)) return;
    link.closing = true;
    link.reason ??= { code: "LINK_CLOSED", detail: "closed here" };
    if (abort || !link.up) {
      link.socket.terminate();
      return;
    }
    link.socket.close(1000);
    clearTimeout(link.timer);
    link.timer = setTimeout(() => link.socket.terminate(), this.#closeTimeoutMs);
    link.timer.unref();
  }

  resume(): void {}

  stats(): TransportStats {
    return {
      links: this.#links.size,
      accepted: 0,
      refused: 0,
      receivedBytes: this.#receivedBytes,
      sentBytes: this.#sentBytes,
      pauses: 0,
    };
  }

  async shutdown(): Promise<void> {
    this.#handler = undefined;
    const closed = [...this.#links.values()].map(
      ({ socket }) =>
        new Promise<void>((resolve) => {
          socket.once("close", () => resolve());
          socket.terminate();
        }),
    );
    await Promise.all(closed);
  }
}

function codeOf(error: Error): ErrorCode {
  const code = (error as NodeJS.ErrnoException).code ?? "";
  if (code === "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH") return "FRAME_TOO_LARGE";
  return code.startsWith("WS_ERR_") ? "FRAME_MALFORMED" : "LINK_RESET";
}
