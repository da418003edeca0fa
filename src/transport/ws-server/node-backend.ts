/**
 * The back end on node:http and `ws`: runs wherever Node runs.
 */

import http from "node:http";
import type net from "node:net";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { ErrorCode } from "../../base/errors.ts";
import type { Address, LinkId } from "../../base/machine.ts";
import { listenError, plainHost } from "../tcp.ts";
import {
  type BackendOptions,
  BODY_BYTES_MAX,
  boundAddress,
  failure,
  HEADER_BYTES_MAX,
  type HttpResponse,
  IDLE_TIMEOUT_SECONDS,
  mediaType,
  pathOf,
  respond,
  WS_CLOSE,
  type WsServer,
} from "./ws-server-types.ts";

interface Link {
  readonly socket: WebSocket;
  alive: boolean;
  reason: { readonly code: ErrorCode; readonly detail: string } | undefined;
}

export async function startNodeBackend(options: BackendOptions): Promise<WsServer> {
  const { handler } = options;
  const links = new Map<LinkId, Link>();
  const stats = { refused: 0, slowClosed: 0, httpRequests: 0, httpRefused: 0 };
  let connections = 0;
  let shut = false;
  let onIdle: (() => void) | undefined;

  const server = http.createServer({
    maxHeaderSize: HEADER_BYTES_MAX,
    headersTimeout: options.requestTimeoutMs,
    requestTimeout: options.requestTimeoutMs,
    connectionsCheckingInterval: Math.max(50, Math.floor(options.requestTimeoutMs / 10)),
    noDelay: true,
  });
  server.maxConnections = options.maxConnections;
  server.on("drop", () => {
    stats.refused++;
  });
  server.on("connection", (socket: net.Socket) => {
    connections++;
    socket.once("close", () => {
      connections--;
    });
  });
  server.on("clientError", (_error: Error, socket: Duplex) => {
    stats.httpRefused++;
    socket.destroy();
  });
  server.on("request", (request, response) => {
    void serve(request, response);
  });

  const serve = async (request: http.IncomingMessage, response: http.ServerResponse) => {
    request.on("error", () => undefined);
    response.on("error", () => undefined);
    const { method } = request;
    if (method !== "GET" && method !== "POST") {
      stats.httpRefused++;
      write(response, failure(405, "MESSAGE_UNKNOWN", `${method} is not served`), true);
      return;
    }
    const body = await readBody(request);
    if (body === "cut") {
      stats.httpRefused++;
      return;
    }
    if (body === "large") {
      stats.httpRefused++;
      write(response, failure(413, "FRAME_TOO_LARGE", `at most ${BODY_BYTES_MAX} bytes`), true);
      return;
    }
    stats.httpRequests++;
    const answer = await respond(handler, {
      method,
      path: pathOf(request.url ?? "/"),
      contentType: mediaType(request.headers["content-type"]),
      accept: mediaType(request.headers.accept),
      body,
      remote: remoteOf(request.socket),
    });
    write(response, answer, shut);
  };

  const sockets = new WebSocketServer({
    server,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: options.maxMessageBytes,
    skipUTF8Validation: false,
    // Messages in thousands of one-byte pieces cost memory far beyond their bytes.
    maxFragments: 64,
  });
  sockets.on("error", () => undefined);
  sockets.on("connection", (socket, request) => {
    const linkId = handler.allocateLinkId();
    const link: Link = { socket, alive: true, reason: undefined };
    links.set(linkId, link);
    socket.on("error", (error: Error) => {
      link.reason ??= { code: errorCodeOf(error), detail: error.message };
    });
    socket.on("pong", () => {
      link.alive = true;
    });
    socket.on("message", (data: Buffer, isBinary: boolean) => {
      link.alive = true;
      if (socket.readyState !== socket.OPEN) return;
      if (isBinary) handler.message(linkId, data);
      else socket.close(WS_CLOSE.unsupported, "binary messages only");
    });
    socket.once("close", (code: number) => {
      links.delete(linkId);
      if (shut) {
        if (links.size === 0) onIdle?.();
        return;
      }
      const reset = code === 1006;
      const { code: why, detail } = link.reason ?? {
        code: reset ? ("LINK_RESET" as const) : ("LINK_CLOSED" as const),
        detail: `close code ${code}`,
      };
      handler.linkDown(linkId, why, detail);
    });
    handler.linkUp(linkId, remoteOf(request.socket));
  });

  const heartbeat = setInterval(
    () => {
      for (const link of links.values()) {
        if (!link.alive) {
          link.reason = { code: "LINK_HALF_OPEN", detail: "pings are not answered" };
          link.socket.terminate();
          continue;
        }
        link.alive = false;
        link.socket.ping();
      }
    },
    (IDLE_TIMEOUT_SECONDS * 1000) / 2,
  );
  heartbeat.unref();

  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => {
      clearInterval(heartbeat);
      reject(listenError(cause, options));
    });
    server.listen({ host: options.host, port: options.port, backlog: 511 }, resolve);
  });
  server.removeAllListeners("error");
  server.on("error", () => {
    stats.refused++;
  });
  const bound = server.address() as net.AddressInfo;

  const close = (link: Link, abort: boolean): void => {
    link.reason ??= { code: "LINK_CLOSED", detail: "closed here" };
    if (abort) link.socket.terminate();
    else link.socket.close(WS_CLOSE.normal);
  };

  return {
    backend: "ws",
    address: boundAddress(bound.address, bound.port),
    send(linkId, bytes) {
      const link = links.get(linkId);
      if (link === undefined || link.socket.readyState !== link.socket.OPEN) return;
      if (link.socket.bufferedAmount + bytes.length > options.maxQueuedBytes) {
        stats.slowClosed++;
        link.reason = { code: "LINK_SLOW", detail: "does not read its answers" };
        link.socket.terminate();
        return;
      }
      link.socket.send(bytes, { binary: true }, () => undefined);
    },
    close(linkId, abort) {
      const link = links.get(linkId);
      if (link !== undefined) close(link, abort);
    },
    stats: () => ({ links: links.size, connections, ...stats }),
    async shutdown(graceMs = 1_000) {
      if (shut) return;
      shut = true;
      clearInterval(heartbeat);
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      for (const link of links.values()) link.socket.close(WS_CLOSE.goingAway, "server stops");
      const cut = setTimeout(() => {
        for (const link of links.values()) link.socket.terminate();
        server.closeAllConnections();
      }, graceMs);
      await closed;
      if (links.size > 0) {
        await new Promise<void>((resolve) => {
          onIdle = resolve;
        });
      }
      clearTimeout(cut);
      sockets.close();
    },
  };
}

/** The whole body; "large" past the limit, "cut" when it did not come to its end. */
function readBody(request: http.IncomingMessage): Promise<Uint8Array | "large" | "cut"> {
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    let bytes = 0;
    request.on("data", (part: Buffer) => {
      bytes += part.length;
      if (bytes <= BODY_BYTES_MAX) parts.push(part);
      else {
        request.pause();
        resolve("large");
      }
    });
    request.once("end", () => resolve(Buffer.concat(parts)));
    request.once("close", () => resolve("cut"));
  });
}

function write(response: http.ServerResponse, answer: HttpResponse, last: boolean): void {
  const headers: http.OutgoingHttpHeaders = {
    "content-type": answer.contentType,
    "content-length": Buffer.byteLength(answer.body),
  };
  if (answer.retryAfterSeconds !== undefined)
    headers["retry-after"] = String(answer.retryAfterSeconds);
  if (last) headers.connection = "close";
  response.writeHead(answer.status, headers);
  response.end(answer.body);
}

function remoteOf(socket: net.Socket): Address {
  const host = plainHost(socket.remoteAddress ?? "");
  return { transport: "ws", host, port: socket.remotePort ?? 0 };
}

function errorCodeOf(error: Error): ErrorCode {
  const code = (error as NodeJS.ErrnoException).code ?? "";
  if (code === "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH") return "FRAME_TOO_LARGE";
  return code.startsWith("WS_ERR_") ? "FRAME_MALFORMED" : "LINK_RESET";
}
