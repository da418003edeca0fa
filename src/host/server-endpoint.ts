/**
 * One WebSocket and HTTP port shared by several server machines. A message goes to the machine its
 * type belongs to; a machine hears of a link when the first message for it comes. HTTP requests are
 * links of one message each; what one host may ask in this way is limited by a bucket of its own.
 *
 * Per machine this is a Transport: what it opens itself (an OMS to its PAMS) leaves by a client.
 */

import type { ErrorCode } from "../base/errors.ts";
import { RemoteProtocolError } from "../base/errors.ts";
import type { Address, LinkId } from "../base/machine.ts";
import { replyToJson, requestFromJson } from "../protocol/operations.ts";
import { routeOf, type ServerName } from "../servers/multiplexer.ts";
import type {
  Listening,
  Transport,
  TransportHandler,
  TransportStats,
} from "../transport/transport.ts";
import { WsClientTransport } from "../transport/ws-client.ts";
import type {
  HttpRequest,
  HttpResponse,
  WsServer,
  WsServerHandler,
} from "../transport/ws-server/ws-server.ts";
import { HostBuckets } from "./host-buckets.ts";

const ONE_SHOT_TIMEOUT_MS = 10_000;
/** HTTP requests of one host; twice those of a link, as several programs may share it. */
const HTTP_LIMITS = { perSecond: 100, burst: 200, hosts: 10_000 } as const;
/** Codes that HTTP says by a status of its own; all others are 400. */
const HTTP_STATUS: Partial<Record<ErrorCode, number>> = {
  UNKNOWN_OVERLAY: 404,
  UNKNOWN_INDEX: 404,
  UNKNOWN_PEER: 404,
  OVERLAY_GONE: 410,
  INDEX_GONE: 410,
  MESSAGE_UNKNOWN: 404,
  NOT_OWNER: 403,
  NOT_ADMITTED: 403,
  KEY_REQUIRED: 403,
  TERM_PASSED: 409,
  VERSION_NOT_RISING: 409,
  OVERLOADED: 503,
  TOO_MANY_LINKS: 503,
  STORE_CONFLICT: 409,
  INTERNAL: 500,
  STORE_FULL: 503,
  TIMEOUT: 504,
};

interface SharedLink {
  readonly remote: Address;
  readonly known: Set<RoleTransport>;
  /** A machine closed it: what was received already goes to nobody. */
  closing: boolean;
}

interface OneShot {
  answered(bytes: Uint8Array): void;
  closed(): void;
}

/** The shared port, before and after machines are attached to it. */
export class ServerEndpoint implements WsServerHandler {
  readonly #roles = new Map<ServerName, RoleTransport>();
  /** The machines that know a link, and where its other end is. */
  readonly #links = new Map<LinkId, SharedLink>();
  readonly #buckets = new HostBuckets(HTTP_LIMITS);
  readonly oneShots = new Map<LinkId, OneShot>();
  readonly #pages: (path: string) => Promise<HttpResponse | undefined>;
  #server: WsServer | undefined;
  #nextLink = 2;
  #httpOverloaded = 0;

  /** `pages` answers GET requests; undefined = 404. */
  constructor(pages: (path: string) => Promise<HttpResponse | undefined>) {
    this.#pages = pages;
  }

  serve(server: WsServer): void {
    this.#server = server;
  }

  /** The transport for one machine; once per role. */
  role(name: ServerName): RoleTransport {
    const transport = new RoleTransport(this);
    this.#roles.set(name, transport);
    return transport;
  }

  get server(): WsServer | undefined {
    return this.#server;
  }

  /** HTTP requests refused because their host asks too often. */
  get httpOverloaded(): number {
    return this.#httpOverloaded;
  }

  allocateLinkId(): LinkId {
    const linkId = this.#nextLink;
    this.#nextLink += 2;
    return linkId;
  }

  linkUp(linkId: LinkId, remote: Address): void {
    this.#links.set(linkId, { remote, known: new Set(), closing: false });
  }

  message(linkId: LinkId, bytes: Uint8Array): void {
    const link = this.#links.get(linkId);
    if (link === undefined || link.closing) return;
    const name = routeOf(bytes, 0, bytes.length);
    const role = (name === undefined ? undefined : this.#roles.get(name)) ?? this.#any();
    if (role === undefined) return;
    if (!link.known.has(role)) {
      link.known.add(role);
      role.handler?.linkUp(linkId, "inbound", link.remote);
    }
    role.deliver(linkId, bytes);
  }

  close(linkId: LinkId, abort: boolean): void {
    const link = this.#links.get(linkId);
    if (link !== undefined) link.closing = true;
    this.#server?.close(linkId, abort);
  }

  linkDown(linkId: LinkId, code: ErrorCode, detail: string): void {
    const link = this.#links.get(linkId);
    this.#links.delete(linkId);
    for (const role of link?.known ?? []) role.handler?.linkDown(linkId, code, detail);
  }

  async request(request: HttpRequest): Promise<HttpResponse> {
    if (request.method === "GET") {
      const page = await this.#pages(request.path);
      return page ?? json(404, { code: "MESSAGE_UNKNOWN", detail: `no page ${request.path}` });
    }
    const waitMs = this.#buckets.take(request.remote.host, performance.now());
    if (waitMs > 0) {
      this.#httpOverloaded++;
      const retryAfterMs = Math.ceil(waitMs);
      const body = { code: "OVERLOADED", detail: "requests a second", retryAfterMs };
      return { ...json(503, body), retryAfterSeconds: Math.ceil(retryAfterMs / 1_000) };
    }
    const asMsgpack = request.contentType.endsWith("msgpack");
    try {
      if (asMsgpack) {
        const reply = await this.#ask(request.body, request.remote);
        return { status: 200, contentType: "application/msgpack", body: reply };
      }
      const text = new TextDecoder("utf-8", { fatal: true }).decode(request.body);
      const fields: unknown = text.trim() === "" ? {} : JSON.parse(text);
      const message = requestFromJson(request.path.slice(1), 1, fields);
      const reply = replyToJson(await this.#ask(message, request.remote));
      if (reply.ok) return json(200, reply.body);
      const status = HTTP_STATUS[String(reply.body.code) as ErrorCode] ?? 400;
      const retryAfterMs = Number(reply.body.retryAfterMs ?? 0);
      const response = json(status, reply.body);
      if (!(retryAfterMs > 0)) return response;
      return { ...response, retryAfterSeconds: Math.ceil(retryAfterMs / 1000) };
    } catch (error) {
      return refused(error);
    }
  }

  /** One request, one answer, as a link of its own. */
  #ask(message: Uint8Array, remote: Address): Promise<Uint8Array> {
    const linkId = this.allocateLinkId();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        done();
        reject(new RemoteProtocolError("TIMEOUT"));
      }, ONE_SHOT_TIMEOUT_MS);
      const done = (): void => {
        clearTimeout(timer);
        this.oneShots.delete(linkId);
        this.linkDown(linkId, "LINK_CLOSED", "");
      };
      this.oneShots.set(linkId, {
        answered: (bytes) => {
          done();
          resolve(bytes);
        },
        closed: () => {
          done();
          reject(new RemoteProtocolError("MESSAGE_MALFORMED"));
        },
      });
      this.linkUp(linkId, remote);
      this.message(linkId, message);
    });
  }

  #any(): RoleTransport | undefined {
    for (const role of this.#roles.values()) return role;
    return undefined;
  }
}

/** One machine's view of the shared port. */
export class RoleTransport implements Transport {
  readonly name = "ws";
  handler: TransportHandler | undefined;
  readonly #endpoint: ServerEndpoint;
  readonly #client = new WsClientTransport();
  readonly #outbound = new Set<LinkId>();
  readonly #range = new Uint32Array(2);

  constructor(endpoint: ServerEndpoint) {
    this.#endpoint = endpoint;
  }

  attach(handler: TransportHandler): void {
    this.handler = handler;
    this.#client.attach({
      ...handler,
      linkDown: (linkId, code, detail) => {
        this.#outbound.delete(linkId);
        handler.linkDown(linkId, code, detail);
      },
    });
  }

  deliver(linkId: LinkId, bytes: Uint8Array): void {
    this.#range[0] = 0;
    this.#range[1] = bytes.length;
    this.handler?.frames(linkId, bytes, this.#range, 1);
  }

  listen(): Promise<Listening> {
    return Promise.reject(new Error("the shared port listens"));
  }

  open(linkId: LinkId, address: Address): void {
    this.#outbound.add(linkId);
    this.#client.open(linkId, address);
  }

  send(linkId: LinkId, bytes: Uint8Array): void {
    if (this.#outbound.has(linkId)) {
      this.#client.send(linkId, bytes);
      return;
    }
    const oneShot = this.#endpoint.oneShots.get(linkId);
    // Not from within this call: the machine is still being drained.
    if (oneShot !== undefined) queueMicrotask(() => oneShot.answered(bytes));
    else this.#endpoint.server?.send(linkId, bytes);
  }

  close(linkId: LinkId, abort: boolean): void {
    if (this.#outbound.has(linkId)) {
      this.#client.close(linkId, abort);
      return;
    }
    const oneShot = this.#endpoint.oneShots.get(linkId);
    if (oneShot !== undefined) queueMicrotask(() => oneShot.closed());
    else this.#endpoint.close(linkId, abort);
  }

  resume(): void {}

  stats(): TransportStats {
    return this.#client.stats();
  }

  shutdown(): Promise<void> {
    return this.#client.shutdown();
  }
}

export function json(status: number, body: unknown): HttpResponse {
  return { status, contentType: "application/json", body: `${JSON.stringify(body)}\n` };
}

function refused(error: unknown): HttpResponse {
  if (error instanceof RemoteProtocolError) {
    const body = { code: error.code, detail: error.detail ?? "" };
    return json(HTTP_STATUS[error.code] ?? 400, body);
  }
  if (error instanceof SyntaxError || error instanceof TypeError) {
    return json(400, { code: "MESSAGE_MALFORMED", detail: `no JSON: ${error.message}` });
  }
  throw error;
}
