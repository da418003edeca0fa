/** What both back ends of the WebSocket server and its users share: interfaces, limits, helpers. */

import { isIP } from "node:net";
import type { ErrorCode } from "../../base/errors.ts";
import { SIGNALLING_MESSAGE_BYTES_MAX } from "../../base/limits.ts";
import type { Address, LinkId } from "../../base/machine.ts";
import { KIB } from "../../base/units.ts";

export type WsBackend = "uws" | "ws";

export interface HttpRequest {
  readonly method: "GET" | "POST";
  /** Without the query. */
  readonly path: string;
  /** Lower case, without parameters; empty when not given. */
  readonly contentType: string;
  /** Lower case; empty when not given. */
  readonly accept: string;
  /** At most SIGNALLING_MESSAGE_BYTES_MAX; the handler's. */
  readonly body: Uint8Array;
  readonly remote: Address;
}

export interface HttpResponse {
  readonly status: number;
  readonly contentType: string;
  readonly body: Uint8Array | string;
  readonly retryAfterSeconds?: number;
}

export interface WsServerHandler {
  /** The id of a link that came up (even). */
  allocateLinkId(): LinkId;
  linkUp(linkId: LinkId, remote: Address): void;
  /** One message; lent until the call returns. */
  message(linkId: LinkId, bytes: Uint8Array): void;
  /** Once for each linkUp, also after a close from here; not after shutdown. */
  linkDown(linkId: LinkId, code: ErrorCode, detail: string): void;
  /** A rejection is answered with 500 and the code INTERNAL. */
  request(request: HttpRequest): Promise<HttpResponse>;
}

export interface WsServerOptions {
  readonly host: string;
  readonly port: number;
  readonly handler: WsServerHandler;
  /** Default: uws when it loads, else ws. Forced uws that does not load: MODULE_MISSING. */
  readonly backend?: WsBackend;
  /** Connections of any kind at a time. Default 20,480. */
  readonly maxConnections?: number;
  /** From the first byte of a request to its last. Default 10 s. */
  readonly requestTimeoutMs?: number;
  /** Bytes of a WebSocket message; more closes the link. Default SIGNALLING_MESSAGE_BYTES_MAX. */
  readonly maxMessageBytes?: number;
  /** Bytes queued for one client; more closes it with LINK_SLOW. Default 1 MiB. */
  readonly maxQueuedBytes?: number;
}

export interface WsServerStats {
  readonly links: number;
  readonly connections: number;
  /** Connections turned away at the limit. */
  readonly refused: number;
  readonly slowClosed: number;
  readonly httpRequests: number;
  /** Bodies too large, too slow or cut; methods that are not served. */
  readonly httpRefused: number;
}

export interface WsServer {
  readonly backend: WsBackend;
  readonly address: Address;
  /** The bytes are the server's from here on. A link that is gone: nothing happens. */
  send(linkId: LinkId, bytes: Uint8Array): void;
  /** `abort` drops what is queued. */
  close(linkId: LinkId, abort: boolean): void;
  stats(): WsServerStats;
  /**
   * Stops listening, closes every link with 1001 and cuts what is left after `graceMs` (1 s).
   * Resolves when nothing is open.
   */
  shutdown(graceMs?: number): Promise<void>;
}

/** What a back end gets: all options filled in. */
export type BackendOptions = Required<Omit<WsServerOptions, "backend">>;

/** RFC 6455 close codes. */
export const WS_CLOSE = {
  normal: 1000,
  goingAway: 1001,
  unsupported: 1003,
  overload: 1013,
} as const;
/** A client silent for so long, pings unanswered, is gone. */
export const IDLE_TIMEOUT_SECONDS = 60;
export const BODY_BYTES_MAX = SIGNALLING_MESSAGE_BYTES_MAX;
/** Headers of a request; the two back ends agree on what they take. */
export const HEADER_BYTES_MAX = 8 * KIB;

/** `text/plain; charset=x` without its parameters. */
export function mediaType(header: string | undefined): string {
  return (header ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

export function pathOf(url: string): string {
  const query = url.indexOf("?");
  return query < 0 ? url : url.slice(0, query);
}

export function failure(status: number, code: ErrorCode, detail: string): HttpResponse {
  return { status, contentType: "application/json", body: JSON.stringify({ code, detail }) };
}

/** Runs the handler; whatever it does, there is a response. */
export async function respond(
  handler: WsServerHandler,
  request: HttpRequest,
): Promise<HttpResponse> {
  try {
    return await handler.request(request);
  } catch (error) {
    return failure(500, "INTERNAL", error instanceof Error ? error.message : String(error));
  }
}

/** The address to report for a host that may be a name or empty. */
export function boundAddress(host: string, port: number): Address {
  return { transport: "ws", host: isIP(host) === 0 ? "127.0.0.1" : host, port };
}
