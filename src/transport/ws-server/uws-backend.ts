/**
 * The back end on uWebSockets.js. What must be kept in mind with it: a message is lent until the
 * callback returns; any use of a closed socket throws; a response may be used only until it was
 * aborted; what send() drops at its own limit is a hole in the stream, so our limit comes first and
 * closes the link.
 */

import type * as Uws from "uWebSockets.js";
import { STATUS_CODES } from "node:http";
import net from "node:net";
import { type ErrorCode, OperationError } from "../../base/errors.ts";
import { SIGNALLING_MESSAGE_BYTES_MAX } from "../../base/limits.ts";
import type { LinkId } from "../../base/machine.ts";
import { listenError, plainHost } from "../tcp.ts";
import {
  type BackendOptions,
  BODY_BYTES_MAX,
  boundAddress,
  failure,
  type HttpResponse,
  IDLE_TIMEOUT_SECONDS,
  mediaType,
  respond,
  WS_CLOSE,
  type WsServer,
} from "./ws-server-types.ts";

/** LIBUS_LISTEN_EXCLUSIVE_PORT of the module, which its types leave out. */
const EXCLUSIVE_PORT = 1;
/** A port that was free may be taken before uWS listens on it. */
const LISTEN_ATTEMPTS = 5;

export type UwsModule = typeof Uws;

/** The module, or why it does not load: not installed, or no binary for this Node. */
export async function loadUws(): Promise<UwsModule | Error> {
  try {
    return await import("uWebSockets.js");
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

interface UserData {
  linkId: LinkId;
}

interface Link {
  readonly socket: Uws.WebSocket<UserData>;
  reason: { readonly code: ErrorCode; readonly detail: string } | undefined;
}

export async function startUwsBackend(uws: UwsModule, options: BackendOptions): Promise<WsServer> {
  const { handler } = options;
  const links = new Map<LinkId, Link>();
  const pending = new Set<Uws.HttpResponse>();
  const stats = { refused: 0, slowClosed: 0, httpRequests: 0, httpRefused: 0 };
  let connections = 0;
  let shut = false;
  let onIdle: (() => void) | undefined;

  const app = uws.App();
  // biome-ignore lint/suspicious/useIterableCallbackReturn: this filter is not an array's
  app.filter((response, change) => {
    connections += change;
    if (change > 0 && connections > options.maxConnections) {
      stats.refused++;
      response.close();
    }
  });

  app.ws<UserData>("/*", {
    maxPayloadLength: options.maxMessageBytes,
    // Above our own limit, which closes the link: uWS must never drop a message silently.
    maxBackpressure: options.maxQueuedBytes + SIGNALLING_MESSAGE_BYTES_MAX,
    idleTimeout: IDLE_TIMEOUT_SECONDS,
    sendPingsAutomatically: true,
    upgrade: (response, request, context) => {
      response.upgrade<UserData>(
        { linkId: handler.allocateLinkId() },
        request.getHeader("sec-websocket-key"),
        request.getHeader("sec-websocket-protocol"),
        request.getHeader("sec-websocket-extensions"),
        context,
      );
    },
    open: (socket) => {
      const { linkId } = socket.getUserData();
      links.set(linkId, { socket, reason: undefined });
      const host = plainHost(textOf(socket.getRemoteAddressAsText()));
      handler.linkUp(linkId, { transport: "ws", host: shortIpv6(host), port: 0 });
    },
    message: (socket, message, isBinary) => {
      if (isBinary) handler.message(socket.getUserData().linkId, new Uint8Array(message));
      else socket.end(WS_CLOSE.unsupported, "binary messages only");
    },
    close: (socket, code, message) => {
      // The filter hears of every connection's start, and of the end of those not upgraded.
      connections--;
      const { linkId } = socket.getUserData();
      const reason = links.get(linkId)?.reason;
      links.delete(linkId);
      if (shut) {
        if (links.size === 0) onIdle?.();
        return;
      }
      const { code: why, detail } = reason ?? reasonOf(code, textOf(message));
      handler.linkDown(linkId, why, detail);
    },
  });

  app.any("/*", (response, request) => {
    const method = request.getMethod().toUpperCase();
    const path = request.getUrl();
    const contentType = mediaType(request.getHeader("content-type"));
    const accept = mediaType(request.getHeader("accept"));
    const announced = Number(request.getHeader("content-length") || "0");
    const remote = {
      transport: "ws" as const,
      host: shortIpv6(plainHost(textOf(response.getRemoteAddressAsText()))),
      port: 0,
    };
    let open = true;
    pending.add(response);
    const finish = (answer: HttpResponse, last: boolean): void => {
      clearTimeout(deadline);
      if (!open) return;
      open = false;
      pending.delete(response);
      write(response, answer, last || shut);
    };
    const refuse = (answer: HttpResponse): void => {
      stats.httpRefused++;
      finish(answer, true);
    };
    // uWS starts its own time anew with every byte; this one is for the whole body.
    const deadline = setTimeout(
      () => refuse(failure(408, "TIMEOUT", "the request took too long to arrive")),
      options.requestTimeoutMs,
    );
    deadline.unref();
    response.onAborted(() => {
      clearTimeout(deadline);
      open = false;
      pending.delete(response);
    });
    const serve = async (body: Uint8Array, verb: "GET" | "POST"): Promise<void> => {
      clearTimeout(deadline);
      stats.httpRequests++;
      const answer = await respond(handler, {
        method: verb,
        path,
        contentType,
        accept,
        body,
        remote,
      });
      finish(answer, false);
    };
    if (method !== "GET" && method !== "POST") {
      refuse(failure(405, "MESSAGE_UNKNOWN", `${method} is not served`));
    } else if (announced > BODY_BYTES_MAX) {
      refuse(failure(413, "FRAME_TOO_LARGE", `at most ${BODY_BYTES_MAX} bytes`));
    } else if (method === "GET") {
      void serve(new Uint8Array(0), "GET");
    } else {
      const parts: Uint8Array[] = [];
      let bytes = 0;
      response.onData((chunk, isLast) => {
        if (!open) return;
        bytes += chunk.byteLength;
        if (bytes > BODY_BYTES_MAX) {
          refuse(failure(413, "FRAME_TOO_LARGE", `at most ${BODY_BYTES_MAX} bytes`));
          return;
        }
        parts.push(new Uint8Array(chunk.slice(0)));
        if (isLast) void serve(Buffer.concat(parts), "POST");
      });
    }
  });

  const token = await listen(app, options);
  const port = uws.us_socket_local_port(token);

  return {
    backend: "uws",
    address: boundAddress(options.host, port),
    send(linkId, bytes) {
      const link = links.get(linkId);
      if (link === undefined) return;
      if (link.socket.getBufferedAmount() + bytes.length > options.maxQueuedBytes) {
        stats.slowClosed++;
        link.reason = { code: "LINK_SLOW", detail: "does not read its answers" };
        setImmediate(() => links.get(linkId)?.socket.close());
        return;
      }
      link.socket.send(bytes as Uint8Array<ArrayBuffer>, true, false);
    },
    close(linkId, abort) {
      const link = links.get(linkId);
      if (link === undefined) return;
      link.reason ??= { code: "LINK_CLOSED", detail: "closed here" };
      // uWS calls back from within its close; ours never does.
      setImmediate(() => {
        const socket = links.get(linkId)?.socket;
        if (abort) socket?.close();
        else socket?.end(WS_CLOSE.normal);
      });
    },
    stats: () => ({ links: links.size, connections, ...stats }),
    async shutdown(graceMs = 1_000) {
      if (shut) return;
      shut = true;
      uws.us_listen_socket_close(token);
      for (const link of [...links.values()]) link.socket.end(WS_CLOSE.goingAway, "server stops");
      if (links.size > 0) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, graceMs);
          onIdle = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      for (const link of [...links.values()]) link.socket.close();
      for (const response of [...pending]) response.close();
      // Idle keep-alive connections, which no callback of ours knows.
      app.close();
    },
  };
}

/** `app.listen` with all it takes; the package's types leave one form out. */
type Listen = (
  host: string,
  port: number,
  options: number,
  done: (token: Uws.us_listen_socket | false) => void,
) => void;

/**
 * Left to itself uWS lets a second process listen on the same port and takes half its connections;
 * told port 0, it listens so that a restart on that port fails for a minute.
 */
async function listen(
  app: Uws.TemplatedApp,
  options: BackendOptions,
): Promise<Uws.us_listen_socket> {
  for (let attempt = 1; ; attempt++) {
    const port = options.port === 0 ? await portOf(options) : options.port;
    const token = await new Promise<Uws.us_listen_socket | false>((resolve) => {
      (app.listen as unknown as Listen)(options.host, port, EXCLUSIVE_PORT, resolve);
    });
    if (token !== false) return token;
    if (options.port !== 0 || attempt === LISTEN_ATTEMPTS) {
      await portOf({ ...options, port });
      const detail = `${options.host}:${port}`;
      throw new OperationError("ADDRESS_UNAVAILABLE", { detail });
    }
  }
}

/** Has Node listen there for a moment: gives a free port for 0, or says why it can't be had. */
function portOf(options: BackendOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = net.createServer();
    probe.once("error", (cause) => reject(listenError(cause, options)));
    probe.listen({ host: options.host, port: options.port }, () => {
      const { port } = probe.address() as net.AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}

function write(response: Uws.HttpResponse, answer: HttpResponse, last: boolean): void {
  response.cork(() => {
    response.writeStatus(`${answer.status} ${STATUS_CODES[answer.status] ?? ""}`);
    response.writeHeader("content-type", answer.contentType);
    if (answer.retryAfterSeconds !== undefined) {
      response.writeHeader("retry-after", String(answer.retryAfterSeconds));
    }
    response.end(answer.body as string | Uint8Array<ArrayBuffer>, last);
  });
}

function reasonOf(code: number, detail: string): { code: ErrorCode; detail: string } {
  // 1006 is what uWS says for every end without a close frame, its own refusals included.
  if (code !== 1006) return { code: "LINK_CLOSED", detail: `close code ${code}` };
  if (/too big/i.test(detail)) return { code: "FRAME_TOO_LARGE", detail };
  if (/timeout|timed out/i.test(detail)) return { code: "LINK_HALF_OPEN", detail };
  if (detail === "") return { code: "LINK_RESET", detail: "closed without a close frame" };
  return { code: "FRAME_MALFORMED", detail };
}

function textOf(bytes: ArrayBuffer): string {
  return Buffer.from(bytes).toString("utf8");
}

/** uWS writes all eight groups: `0000:0000:...:0001`. */
function shortIpv6(host: string): string {
  if (!host.includes(":")) return host;
  const mapped = /^(?:0000:){5}ffff:([0-9a-f]{2})([0-9a-f]{2}):([0-9a-f]{2})([0-9a-f]{2})$/i.exec(
    host,
  );
  if (mapped !== null) {
    return mapped
      .slice(1, 5)
      .map((octet) => Number.parseInt(octet, 16))
      .join(".");
  }
  return new URL(`ws://[${host}]`).hostname.slice(1, -1);
}
