/**
 * startCacheServer: virtual peers that an OMS sends into overlays (R8).
 *
 * Each virtual peer is an engine of its own, with a key made from the cache server's; the machine
 * (servers/cs.ts) speaks with the OMS, and what it says is carried out here. A virtual peer only
 * forwards: it holds what its neighbours may want, and nothing is read from it.
 */

import { createHash } from "node:crypto";
import { LocalUsageError, OperationError } from "../base/errors.ts";
import {
  MEMORY_MIB_DEFAULT,
  OVERLAYS_PER_VIRTUAL_PEER_DEFAULT,
  RATE_LIMIT_MIN,
  VIRTUAL_PEERS_DEFAULT,
  WINDOW_BYTES_DEFAULT,
} from "../base/limits.ts";
import type { Address } from "../base/machine.ts";
import { seededRng } from "../base/rng.ts";
import { MIB } from "../base/units.ts";
import { ASSIGNMENTS_MAX } from "../protocol/r8.ts";
import { type CsCommand, type CsEvent, type CsSnapshot, createCs } from "../servers/cs.ts";
import type { ServerCommand, ServerEvent } from "../servers/server-types.ts";
import { serviceKeyFault } from "../servers/service-key.ts";
import { LoopbackOnly } from "../transport/loopback-only.ts";
import type { Transport } from "../transport/transport.ts";
import { WsClientTransport } from "../transport/ws-client.ts";
import { CACHE_OPTIONS } from "./engine-options.ts";
import { JobRunner } from "./job-runner.ts";
import { Listeners } from "./listeners.ts";
import { MachineHost } from "./machine-host.ts";
import type {
  CacheServerEvents,
  CacheServerOptions,
  CacheServerReport,
  RunningCacheServer,
} from "./node-cache-types.ts";
import { createEngine } from "./node-engine.ts";
import {
  NodeIdentity,
  SEED_BYTES,
  sha256,
  systemEntropy,
  verifySignature,
} from "./node-identity.ts";
import { checkOptions } from "./options.ts";
import { checkPlaintext } from "./plaintext.ts";
import { serverAddresses } from "./server-urls.ts";
import { VirtualPeer } from "./virtual-peer.ts";

export type * from "./node-cache-types.ts";

const LABEL_DEFAULT = "cache server";
/** A window, tables, and segments for the links of one overlay. */
const OVERLAY_MIB = Math.ceil(WINDOW_BYTES_DEFAULT / MIB) + 2;
/** Overlays that end take their room for a while, beside those that a virtual peer may be in. */
const LEAVING_MAX = 2;
/** Keys of virtual peers are made from the cache server's by this. */
const SEED_DOMAIN = "mp2p-virtual-peer-1";

/**
 * Starts a cache server: its virtual peers listen when this resolves; `registered` says when the OMS
 * has its offer. Errors: USAGE, PLAINTEXT_REFUSED, ADDRESS_IN_USE, ADDRESS_UNAVAILABLE, ABORTED.
 */
export async function startCacheServer(options: CacheServerOptions): Promise<RunningCacheServer> {
  checkOptions("startCacheServer", options, CACHE_OPTIONS);
  checkTogether(options);
  const { oms } = serverAddresses(options);
  checkPlaintext(options.allowPlaintext, [["the server at", oms.host]]);
  const server = new NodeCacheServer(options, oms);
  try {
    await server.start();
  } catch (error) {
    await server.close();
    throw error;
  }
  return server;
}

/** What is well by itself and does not go together. */
function checkTogether(options: CacheServerOptions): void {
  const { virtualPeers = VIRTUAL_PEERS_DEFAULT, serviceKey } = options;
  const { overlaysPerPeer = OVERLAYS_PER_VIRTUAL_PEER_DEFAULT, memoryMiB = MEMORY_MIB_DEFAULT } =
    options;
  const usage = (detail: string) => new LocalUsageError("USAGE", { detail });
  if (virtualPeers * overlaysPerPeer > ASSIGNMENTS_MAX) {
    throw usage(
      `virtual peers times overlays of each are at most ${ASSIGNMENTS_MAX}, not ${virtualPeers * overlaysPerPeer}`,
    );
  }
  const needMiB = (overlaysPerPeer + LEAVING_MAX) * OVERLAY_MIB;
  if (needMiB > memoryMiB) {
    throw usage(
      `${overlaysPerPeer} overlays of a virtual peer, and ${LEAVING_MAX} that end, need memoryMiB (--memory-mib) ${needMiB}, not ${memoryMiB}`,
    );
  }
  for (const limit of ["uploadLimitBytesPerSecond", "downloadLimitBytesPerSecond"] as const) {
    const share = Math.floor((options[limit] ?? Number.POSITIVE_INFINITY) / virtualPeers);
    if (share < RATE_LIMIT_MIN) {
      throw usage(
        `${limit} gives each of ${virtualPeers} virtual peers ${share} bytes a second; at least ${RATE_LIMIT_MIN}`,
      );
    }
  }
  const keyFault = serviceKeyFault(serviceKey);
  if (keyFault !== undefined) throw usage(keyFault);
  const last = (options.listen?.port ?? 0) + virtualPeers - 1;
  if (last > 65_535) throw usage(`virtual peers would listen up to port ${last}`);
}

class NodeCacheServer implements RunningCacheServer {
  readonly cacheServerId: string;
  readonly #options: CacheServerOptions;
  readonly #oms: Address;
  readonly #seed: Uint8Array;
  readonly #peers = new Map<string, VirtualPeer>();
  readonly #listeners = new Listeners<CacheServerEvents>();
  readonly #transport: Transport;
  readonly #abort: () => void;
  #host: MachineHost<ServerCommand | CsCommand, ServerEvent<CsSnapshot> | CsEvent> | undefined;
  #registered = false;
  #withdrawn: () => void = () => undefined;
  #closing: Promise<void> | undefined;

  constructor(options: CacheServerOptions, oms: Address) {
    this.#options = options;
    this.#oms = oms;
    this.#seed = options.identitySeed ?? systemEntropy.bytes(SEED_BYTES);
    this.cacheServerId = new NodeIdentity(this.#seed).peerId;
    const transport = new WsClientTransport();
    this.#transport = options.allowPlaintext ? transport : new LoopbackOnly(transport);
    this.#abort = () => void this.close();
    options.signal?.addEventListener("abort", this.#abort, { once: true });
    if (options.signal?.aborted === true) this.#abort();
  }

  get virtualPeers(): RunningCacheServer["virtualPeers"] {
    return [...this.#peers.values()].map(({ engine }) => ({
      peerId: engine.peerId,
      listening: engine.listening,
    }));
  }

  async start(): Promise<void> {
    const { virtualPeers = VIRTUAL_PEERS_DEFAULT } = this.#options;
    for (let i = 0; i < virtualPeers; i++) await this.#startPeer(i, virtualPeers);
    const { serviceKey, label = LABEL_DEFAULT } = this.#options;
    const { overlaysPerPeer = OVERLAYS_PER_VIRTUAL_PEER_DEFAULT } = this.#options;
    const machine = createCs({
      rng: seededRng(new DataView(systemEntropy.bytes(4).buffer).getUint32(0)),
      entropy: systemEntropy,
      sha256,
      oms: this.#oms,
      serviceKey,
      label,
      cacheServerId: this.cacheServerId,
      virtualPeers: [...this.#peers.keys()],
      overlaysPerPeer,
      leavingMax: LEAVING_MAX,
    });
    const host = new MachineHost<ServerCommand | CsCommand, ServerEvent<CsSnapshot> | CsEvent>(
      machine,
      {
        transports: [this.#transport],
        jobs: new JobRunner({ signatures: { sign: undefined, verify: verifySignature } }),
        onEvent: (event) => this.#event(event),
        onCrash: (error) => this.#crashed(error),
      },
    );
    this.#host = host;
    host.command({ type: "start" });
  }

  async #startPeer(i: number, count: number): Promise<void> {
    const { listen, advertise, memoryMiB, workers, allowPlaintext, maxLinks } = this.#options;
    const { uploadLimitBytesPerSecond: upload, logger } = this.#options;
    const { downloadLimitBytesPerSecond: download } = this.#options;
    const next = (port: number) => (port === 0 ? 0 : port + i);
    const engine = await createEngine({
      listen: { ...listen, port: next(listen?.port ?? 0) },
      identitySeed: this.#seedOf(i),
      ...(advertise === undefined
        ? {}
        : { advertise: advertise.map(({ host, port }) => ({ host, port: next(port) })) }),
      ...(memoryMiB === undefined ? {} : { memoryMiB }),
      ...(workers === undefined ? {} : { workers }),
      ...(allowPlaintext === undefined ? {} : { allowPlaintext }),
      ...(maxLinks === undefined ? {} : { maxLinks }),
      ...(upload === undefined ? {} : { uploadLimitBytesPerSecond: Math.floor(upload / count) }),
      ...(download === undefined
        ? {}
        : { downloadLimitBytesPerSecond: Math.floor(download / count) }),
      ...(logger === undefined ? {} : { logger }),
    });
    if (this.#closing !== undefined) {
      await engine.close();
      throw new OperationError("ABORTED", { detail: "the cache server was closed" });
    }
    const { server, oms, ixs, node } = this.#options;
    const servers = {
      ...(node === undefined ? {} : { node }),
      ...(server === undefined ? {} : { server }),
      ...(oms === undefined ? {} : { oms }),
      ...(ixs === undefined ? {} : { ixs }),
    };
    const peer = new VirtualPeer(
      engine,
      servers,
      (place) => this.#listeners.emit("joined", place),
      (place, code, detail) => {
        this.#listeners.emit("left", { ...place, code, detail });
        const { overlayId, peerId } = place;
        if (this.#closing === undefined) {
          this.#host?.command({ type: "out", overlayId, peerId, code, detail });
        }
      },
    );
    this.#peers.set(engine.peerId, peer);
  }

  /** P0.5: each virtual peer has a key of its own, the same over restarts with the same identity. */
  #seedOf(i: number): Uint8Array {
    const hash = createHash("sha256").update(SEED_DOMAIN).update(this.#seed);
    return new Uint8Array(hash.update(Uint8Array.of(i)).digest());
  }

  status(): CacheServerReport {
    const { label = LABEL_DEFAULT, overlaysPerPeer = OVERLAYS_PER_VIRTUAL_PEER_DEFAULT } =
      this.#options;
    return {
      cacheServerId: this.cacheServerId,
      label,
      registered: this.#registered,
      places: this.#peers.size * overlaysPerPeer,
      virtualPeers: [...this.#peers.values()].map((peer) => peer.report()),
    };
  }

  on<K extends keyof CacheServerEvents>(
    event: K,
    listener: (value: CacheServerEvents[K]) => void,
  ): () => void {
    return this.#listeners.on(event, listener);
  }

  #event(event: ServerEvent<CsSnapshot> | CsEvent): void {
    switch (event.type) {
      case "registered":
        this.#registered = true;
        this.#listeners.emit("registered", { leaseMs: event.leaseMs });
        break;
      case "unregistered":
        this.#registered = false;
        this.#listeners.emit("unregistered", { code: event.code, detail: event.detail });
        break;
      case "omsAway":
        this.#registered = false;
        this.#listeners.emit("omsAway", undefined);
        break;
      case "enter": {
        const { overlayId, peerId, title, priority, pamsUrl } = event.order;
        this.#listeners.emit("ordered", { overlayId, peerId, title, priority, pamsUrl });
        void this.#peers.get(peerId)?.enter(overlayId, title);
        break;
      }
      case "leave":
        this.#peers.get(event.order.peerId)?.leave(event.order.overlayId, event.order.reason);
        break;
      case "withdrawn":
        this.#withdrawn();
        break;
      default:
        break;
    }
    this.#options.logger?.debug({ ...event }, event.type);
  }

  #crashed(error: unknown): void {
    this.#registered = false;
    // It takes no command any more.
    this.#host = undefined;
    this.#options.logger?.error({ err: error }, "cache server failed");
    this.#withdrawn();
    this.#listeners.emit("crashed", { detail: String(error) });
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#options.signal?.removeEventListener("abort", this.#abort);
    const host = this.#host;
    if (host !== undefined) {
      const withdrawn = new Promise<void>((resolve) => {
        this.#withdrawn = resolve;
      });
      // The OMS hears of it first, so that it sends others while these still serve.
      host.command({ type: "withdraw" });
      await withdrawn;
      host.close();
    }
    await Promise.all([...this.#peers.values()].map((peer) => peer.close()));
    await this.#transport.shutdown();
  }
}
