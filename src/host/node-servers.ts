/**
 * startServers: OMS, IXS and PAMS on one port, any subset of them, over one store.
 *
 * The machines decide; this file gives them sockets, a store, a key to verify with and a clock, and
 * shows what they say: /healthz (the process answers), /readyz (every role has loaded its state and
 * the store takes writes), /stats.json, /metrics. The last two are on the admin port only.
 */

import { existsSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { Registry } from "prom-client";
import { LocalUsageError } from "../base/errors.ts";
import { type Address, formatAddress, parseAddress } from "../base/machine.ts";
import type { ServerName } from "../servers/multiplexer.ts";
import type { ServerCommand, ServerEvent } from "../servers/server-types.ts";
import { openLmdbStore } from "../store/lmdb-store.ts";
import { MemoryStore } from "../store/memory-store.ts";
import type { Store } from "../store/store.ts";
import { LoopbackOnly } from "../transport/loopback-only.ts";
import { TcpProbeTransport } from "../transport/tcp-probe.ts";
import {
  type HttpResponse,
  startWsServer,
  type WsBackend,
  type WsServer,
  type WsServerHandler,
} from "../transport/ws-server/ws-server.ts";
import type { Logger } from "./engine-types.ts";
import { JobRunner } from "./job-runner.ts";
import { MachineHost } from "./machine-host.ts";
import { anyFamily } from "./node-candidates.ts";
import { verifySignature } from "./node-identity.ts";
import { json, type RoleTransport, ServerEndpoint } from "./server-endpoint.ts";
import { serverMachines } from "./server-machines.ts";
import { registerMetrics } from "./server-metrics.ts";
import {
  checkedOptions,
  SERVER_HOST,
  type ServersOptions,
  serviceKeyFor,
} from "./server-options.ts";

export type { ServersOptions } from "./server-options.ts";

export interface RunningServers {
  /** Per role; the same for all roles of this process. */
  readonly urls: Readonly<Partial<Record<ServerName, string>>>;
  readonly adminUrl: string;
  readonly backend: WsBackend;
  /** Snapshots of all roles, as in /stats.json. */
  stats(): Promise<Record<string, unknown>>;
  isReady(): boolean;
  /** Stops accepting, closes links with 1001, flushes the store. Idempotent. */
  close(): Promise<void>;
}

const SNAPSHOT_TIMEOUT_MS = 2_000;
/** Events between servers that an operator should see. */
const WARNINGS: Readonly<Record<string, string>> = {
  ixsRefused: "the IXS does not take which overlays ended; it is told again",
  pamsRefused: "the PAMS refused R1; the overlay goes on without it and is offered again",
  cacheFailed: "a cache server could not serve an overlay; others are asked first",
};

/**
 * Errors: USAGE, PLAINTEXT_REFUSED, ADDRESS_IN_USE, ADDRESS_UNAVAILABLE, DATA_DIR_IN_USE, DATA_DIR_UNUSABLE,
 * STORE_CORRUPT, MODULE_MISSING, KEY_FILE_UNUSABLE.
 */
export async function startServers(options: ServersOptions = {}): Promise<RunningServers> {
  const { roles } = checkedOptions(options);
  const { dataDir } = options;
  if (dataDir !== undefined && !existsSync(dataDir)) await assertListenable(options);
  const store = dataDir === undefined ? new MemoryStore() : await openLmdbStore(dataDir);
  try {
    // The store holds the directory: nobody else makes a key there now.
    return await NodeServers.start({ ...options, ...serviceKeyFor(options) }, roles, store);
  } catch (error) {
    await store.close();
    throw error;
  }
}

function listen(options: ServersOptions, handler: WsServerHandler): Promise<WsServer> {
  const { port = 7900, backend } = options;
  return anyFamily(options.host ?? SERVER_HOST, (host) =>
    startWsServer({ host, port, handler, ...(backend === undefined ? {} : { backend }) }),
  );
}

function listenAdmin(options: ServersOptions, handler: WsServerHandler): Promise<WsServer> {
  const { adminPort: port = 0, backend } = options;
  const host = "127.0.0.1";
  return startWsServer({ host, port, handler, ...(backend === undefined ? {} : { backend }) });
}

/**
 * Tries the ports and lets go of them: a start that must fail at them makes no data directory. They
 * are not kept until the store is open, as nobody would answer there meanwhile.
 */
async function assertListenable(options: ServersOptions): Promise<void> {
  for (const open of [listen, listenAdmin]) {
    const server = await open(options, new ServerEndpoint(() => Promise.resolve(undefined)));
    await server.shutdown();
  }
}

/** A fresh directory for servers of a demonstration. */
export function temporaryDataDir(parent: string): Promise<string> {
  return mkdtemp(join(parent, "mp2p-"));
}

interface Role {
  readonly name: ServerName;
  readonly transport: RoleTransport;
  readonly host: MachineHost<ServerCommand, ServerEvent<unknown>>;
  ready: boolean;
}

class NodeServers implements RunningServers {
  readonly urls: Partial<Record<ServerName, string>> = {};
  readonly #store: Store;
  readonly #logger: Logger | undefined;
  readonly #roles: Role[] = [];
  readonly #snapshots = new Map<number, (snapshot: unknown) => void>();
  readonly #registry = new Registry();
  readonly #endpoint: ServerEndpoint;
  /** Dials members of an OMS back. */
  readonly #probe = new TcpProbeTransport();
  #server: WsServer | undefined;
  #admin: WsServer | undefined;
  #nextToken = 1;
  #draining = false;
  #closing: Promise<void> | undefined;
  #storeTrouble: string | undefined;

  static async start(
    options: ServersOptions,
    roles: readonly ServerName[],
    store: Store,
  ): Promise<NodeServers> {
    const servers = new NodeServers(options, store);
    try {
      await servers.#listen(options);
      servers.#run(options, roles);
      await servers.#listenAdmin(options);
      await servers.#untilReady();
    } catch (error) {
      await servers.#shutdown();
      throw error;
    }
    return servers;
  }

  private constructor(options: ServersOptions, store: Store) {
    this.#store = store;
    this.#logger = options.logger;
    this.#endpoint = new ServerEndpoint((path) => this.#page(path, false));
  }

  get adminUrl(): string {
    const address = this.#admin?.address;
    return address === undefined ? "" : `http://${formatAddress(address).slice("ws://".length)}`;
  }

  get backend(): WsBackend {
    return (this.#server as WsServer).backend;
  }

  isReady(): boolean {
    return (
      !this.#draining && this.#roles.every((role) => role.ready) && this.#storeTrouble === undefined
    );
  }

  async stats(): Promise<Record<string, unknown>> {
    const stats: Record<string, unknown> = {
      ready: this.isReady(),
      backend: this.backend,
      signalling: this.#server?.stats(),
    };
    await Promise.all(
      this.#roles.map(async (role) => {
        stats[role.name] = await this.#snapshot(role);
      }),
    );
    return stats;
  }

  close(): Promise<void> {
    this.#closing ??= this.#shutdown().then(() => this.#store.close());
    return this.#closing;
  }

  async #listen(options: ServersOptions): Promise<void> {
    this.#server = await listen(options, this.#endpoint);
    this.#endpoint.serve(this.#server);
    this.#logger?.info({ backend: this.#server.backend }, "signalling back end");
  }

  async #listenAdmin(options: ServersOptions): Promise<void> {
    registerMetrics(this.#registry, {
      isReady: () => this.isReady(),
      signalling: () => this.#server?.stats(),
      httpOverloaded: () => this.#endpoint.httpOverloaded,
      snapshots: () =>
        Promise.all(
          this.#roles.map(async (role) => [role.name, await this.#snapshot(role)] as const),
        ),
    });
    const pages = new ServerEndpoint((path) => this.#page(path, true));
    this.#admin = await listenAdmin(options, pages);
    pages.serve(this.#admin);
  }

  #run(options: ServersOptions, roles: readonly ServerName[]): void {
    const url = formatAddress((this.#server as WsServer).address);
    const machines = serverMachines(options, roles, url);
    const jobs = new JobRunner({ signatures: { sign: undefined, verify: verifySignature } });
    const probe = options.allowPlaintext ? this.#probe : new LoopbackOnly(this.#probe);
    for (const name of roles) {
      const transport = this.#endpoint.role(name);
      const role: Role = {
        name,
        transport,
        ready: false,
        host: new MachineHost(machines[name](), {
          transports: name === "oms" ? [transport, probe] : [transport],
          jobs,
          store: this.#store,
          onEvent: (event) => this.#event(role, event),
          onCrash: (error) => this.#crashed(role, error),
        }),
      };
      this.#roles.push(role);
      this.urls[name] = url;
    }
    for (const role of this.#roles) role.host.command({ type: "start" });
  }

  #ready: (() => void) | undefined;
  #unready: ((error: Error) => void) | undefined;

  async #untilReady(): Promise<void> {
    if (this.isReady()) return;
    await new Promise<void>((resolve, reject) => {
      this.#ready = resolve;
      this.#unready = reject;
    });
  }

  #event(role: Role, event: ServerEvent<unknown>): void {
    // Servers tell more than the shared events; those are for the log, and between servers.
    const told = event as { readonly type: string; readonly overlayId?: string };
    switch (event.type) {
      case "ready":
        role.ready = true;
        if (this.#roles.every((each) => each.ready)) this.#ready?.();
        break;
      case "snapshot":
        this.#snapshots.get(event.token)?.(event.snapshot);
        this.#snapshots.delete(event.token);
        return;
      case "failed":
        this.#logger?.error({ role: role.name, code: event.code }, event.detail);
        if (event.fatal) {
          role.ready = false;
          this.#unready?.(new LocalUsageError(event.code, { detail: event.detail }));
        }
        return;
      case "drained":
      case "refused":
        break;
      default:
        if (WARNINGS[told.type] !== undefined) {
          this.#logger?.warn({ role: role.name, ...told }, WARNINGS[told.type] ?? "");
          return;
        }
        this.#betweenServers(told);
    }
    this.#logger?.debug({ role: role.name, ...event }, told.type);
  }

  /** An OMS that ended an overlay lets the index server of this process know. */
  #betweenServers(event: { readonly type: string }): void {
    const ixs = this.#roles.find((role) => role.name === "ixs");
    if (ixs === undefined) return;
    const tell = (overlayId: string): void => {
      const command = { type: "overlayGone", overlayId } as unknown as ServerCommand;
      ixs.host.command(command);
    };
    if (event.type === "overlayEnded") tell((event as unknown as { overlayId: string }).overlayId);
    if (event.type === "endedBefore") {
      const { overlayIds } = event as unknown as { overlayIds: readonly string[] };
      for (const overlayId of overlayIds) tell(overlayId);
    }
  }

  #crashed(role: Role, error: unknown): void {
    role.ready = false;
    this.#storeTrouble = String(error);
    this.#logger?.error({ role: role.name, err: error }, "server failed");
    this.#unready?.(error instanceof Error ? error : new Error(String(error)));
  }

  #snapshot(role: Role): Promise<unknown> {
    const token = this.#nextToken++;
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#snapshots.delete(token);
        resolve({ ready: false });
      }, SNAPSHOT_TIMEOUT_MS);
      this.#snapshots.set(token, (snapshot) => {
        clearTimeout(timer);
        resolve(snapshot);
      });
      role.host.command({ type: "snapshot", token });
    });
  }

  async #page(path: string, admin: boolean): Promise<HttpResponse | undefined> {
    if (path === "/healthz") return json(200, { alive: true });
    if (path === "/readyz") {
      const trouble = await this.#trouble();
      return trouble === undefined
        ? json(200, { ready: true })
        : json(503, { ready: false, trouble });
    }
    if (!admin) return undefined;
    if (path === "/stats.json") return json(200, await this.stats());
    if (path === "/metrics") {
      const body = await this.#registry.metrics();
      return { status: 200, contentType: this.#registry.contentType, body };
    }
    return undefined;
  }

  /** Why this process is not ready; undefined when it is. */
  async #trouble(): Promise<string | undefined> {
    if (this.#draining) return "draining";
    const waiting = this.#roles.filter((role) => !role.ready).map((role) => role.name);
    if (waiting.length > 0) return `loading ${waiting.join(", ")}`;
    if (this.#storeTrouble !== undefined) return this.#storeTrouble;
    return this.#store.writeFailure;
  }

  async #shutdown(): Promise<void> {
    this.#draining = true;
    await Promise.allSettled([this.#server?.shutdown(), this.#admin?.shutdown()]);
    for (const role of this.#roles) {
      role.host.close();
      await role.transport.shutdown();
    }
    await this.#probe.shutdown();
    this.#registry.clear();
  }
}

/** Reads a server URL; undefined when it is none. */
export function serverAddress(url: string): Address | undefined {
  const address = parseAddress(url.replace(/^http:/, "ws:"));
  return address?.transport === "ws" ? address : undefined;
}
