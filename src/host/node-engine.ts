/**
 * createEngine: one peer machine with its memory, kernel, key and transports, behind promises.
 *
 * Installs no signal handler, writes to no console and never ends the process. Several engines may
 * live in one process; each has its own memory.
 */

import { readFile } from "node:fs/promises";
import { LocalUsageError, OperationError } from "../base/errors.ts";
import * as limits from "../base/limits.ts";
import { type Address, formatAddress } from "../base/machine.ts";
import { seededRng } from "../base/rng.ts";
import { MIB } from "../base/units.ts";
import { EngineMemory } from "../kernel/engine-memory.ts";
import { createJsKernel } from "../kernel/js-kernel.ts";
import type { Kernel } from "../kernel/kernel.ts";
import {
  compileKernel,
  createKernelMemory,
  createWasmKernel,
  wasmSupported,
} from "../kernel/wasm-kernel.ts";
import type { PeerCommand, PeerEvent } from "../peer/commands.ts";
import { DISTANCE_MAX, type DistanceTo } from "../peer/context.ts";
import { PeerMachine } from "../peer/peer.ts";
import type { KernelPool } from "../pool/kernel-pool.ts";
import { HeapArena } from "../transport/heap-arena.ts";
import { LoopbackOnly } from "../transport/loopback-only.ts";
import { TcpTransport } from "../transport/tcp.ts";
import type { Listening, Transport } from "../transport/transport.ts";
import { WsClientTransport } from "../transport/ws-client.ts";
import { WsListenerTransport } from "../transport/ws-listener.ts";
import { systemClock } from "./clock.ts";
import { dataIdOf } from "./data-id.ts";
import { ENGINE_OPTIONS, JOIN_OPTIONS, SOURCE_OPTIONS } from "./engine-options.ts";
import { PeerHandle } from "./engine-peer.ts";
import { type SessionOutlet, SourceHandle } from "./engine-source.ts";
import type {
  Engine,
  EngineOptions,
  EnginePeer,
  EngineReport,
  EngineSource,
  JoinOptions,
  Logger,
  ServerUrls,
  SourceOptions,
} from "./engine-types.ts";
import { JobRunner } from "./job-runner.ts";
import { MachineHost } from "./machine-host.ts";
import { anyFamily, candidatesOf } from "./node-candidates.ts";
import { NodeIdentity, sha256, systemEntropy, verifySignature } from "./node-identity.ts";
import { checkOptions } from "./options.ts";
import { checkPlaintext, LISTEN_HOST } from "./plaintext.ts";
import { linksReport, overlayReport } from "./report.ts";
import { serverAddresses } from "./server-urls.ts";

const WASM_URL = new URL("../../build/kernel.wasm", import.meta.url);
const CLOSE_GRACE_MS = 5_000;
/** A link for every data source, and as many strangers as may wait. */
const FEED_LINKS_MAX = limits.SOURCES_MAX + limits.LINKS_PENDING_MAX;

/**
 * Starts an engine: it listens when this resolves. Errors: USAGE, PLAINTEXT_REFUSED,
 * ADDRESS_IN_USE, ADDRESS_UNAVAILABLE, ENGINE_MEMORY, ABORTED.
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  checkOptions("createEngine", options, ENGINE_OPTIONS);
  throwIfAborted(options.signal);
  const { listen, allowPlaintext } = options;
  checkPlaintext(allowPlaintext, [["listen on", listen?.host ?? LISTEN_HOST]]);
  const { kernel, pool } = await createKernel(options);
  const engine = new NodeEngine(options, kernel, pool);
  try {
    await engine.listen(listen?.host ?? LISTEN_HOST, listen?.port ?? 0);
  } catch (error) {
    await engine.close();
    throw error;
  }
  return engine;
}

async function createKernel(
  options: EngineOptions,
): Promise<{ kernel: Kernel; pool: KernelPool | undefined }> {
  const memoryMiB = options.memoryMiB ?? limits.MEMORY_MIB_DEFAULT;
  const workers = options.workers ?? 0;
  if (!wasmSupported()) {
    return { kernel: createJsKernel({ memoryBytes: memoryMiB * MIB }), pool: undefined };
  }
  const module = compileKernel(new Uint8Array(await readFile(WASM_URL)));
  const memory = createKernelMemory(memoryMiB);
  const kernel = createWasmKernel({ wasm: module, memory });
  if (workers === 0) return { kernel, pool: undefined };
  const { createKernelPool } = await import("../pool/kernel-pool.ts");
  return { kernel, pool: createKernelPool({ module, memory, workers }) };
}

interface Opening {
  readonly open: (overlayId: string, title: string) => void;
  readonly fail: (error: Error) => void;
  readonly note: NonNullable<SourceOptions["onNote"]>;
}

class NodeEngine implements Engine {
  readonly peerId: string;
  readonly #identity: NodeIdentity;
  readonly #memory: EngineMemory;
  readonly #machine: PeerMachine;
  readonly #host: MachineHost<PeerCommand, PeerEvent>;
  readonly #transports: readonly Transport[];
  readonly #tcp: TcpTransport;
  readonly #jobs: JobRunner;
  readonly #pool: KernelPool | undefined;
  readonly #logger: Logger | undefined;
  readonly #options: EngineOptions;
  readonly #opening = new Map<number, Opening>();
  readonly #handles = new Map<number, SourceHandle | PeerHandle>();
  /** Events of sessions whose handle does not exist yet. */
  readonly #early: PeerEvent[] = [];
  readonly #abort: () => void;
  #listening: Listening | undefined;
  #nextSession = 1;
  /** Sessions that are open and whose handle is about to be made. */
  #adopting = 0;
  #closing: Promise<void> | undefined;

  constructor(options: EngineOptions, kernel: Kernel, pool: KernelPool | undefined) {
    this.#options = options;
    this.#logger = options.logger;
    this.#identity = new NodeIdentity(options.identitySeed);
    this.peerId = this.#identity.peerId;
    this.#memory = new EngineMemory(kernel);
    this.#pool = pool;
    const seed = systemEntropy.bytes(4);
    this.#machine = new PeerMachine({
      memory: this.#memory,
      identity: this.#identity,
      rng: seededRng(new DataView(seed.buffer, seed.byteOffset).getUint32(0)),
      entropy: systemEntropy,
      sha256,
      ...(options.maxLinks === undefined ? {} : { maxLinks: options.maxLinks }),
      uploadLimitBytesPerSecond: options.uploadLimitBytesPerSecond,
      downloadLimitBytesPerSecond: options.downloadLimitBytesPerSecond,
      distanceTo: distanceBy(options.networkDistance),
    });
    // A place for each proven link, and for as many strangers as the machine lets wait.
    const maxInboundLinks =
      (options.maxLinks ?? limits.LINKS_MAX_DEFAULT) + limits.LINKS_PENDING_MAX;
    this.#tcp = new TcpTransport(this.#memory, { maxInboundLinks });
    const transports = [this.#tcp, new WsClientTransport()];
    this.#transports =
      options.allowPlaintext === true
        ? transports
        : transports.map((transport) => new LoopbackOnly(transport));
    this.#jobs = new JobRunner({
      signatures: {
        sign: (bytes) => this.#identity.sign(bytes),
        verify: verifySignature,
      },
      memory: this.#memory,
      pool,
    });
    this.#host = new MachineHost(this.#machine, {
      transports: this.#transports,
      jobs: this.#jobs,
      memory: this.#memory,
      onEvent: (event) => this.#event(event),
      onCrash: (error) => this.#crashed(error),
    });
    this.#abort = () => void this.close();
    options.signal?.addEventListener("abort", this.#abort, { once: true });
  }

  get listening(): readonly Address[] {
    return this.#listening === undefined ? [] : [this.#listening.address];
  }

  async listen(host: string, port: number): Promise<void> {
    this.#listening = await anyFamily(host, (each) =>
      this.#tcp.listen({ transport: "tcp", host: each, port }),
    );
    const { advertise } = this.#options;
    const addresses = candidatesOf(this.#listening.address, advertise);
    this.#host.command({ kind: "setListen", addresses });
    const at = this.#listening.address;
    this.#logger?.info({ peerId: this.peerId, address: formatAddress(at) }, "engine listens");
  }

  async createSource(options: SourceOptions): Promise<EngineSource> {
    checkOptions("createSource", options, SOURCE_OPTIONS);
    const { oms, ixs } = this.#servers(options);
    const delivery = options.delivery ?? "complete";
    const integrity = options.integrity ?? "checksum";
    if (integrity === "signed") throw new LocalUsageError("INTEGRITY_UNSUPPORTED");
    const sessionId = this.#nextSession++;
    const opened = this.#opened(sessionId, options.signal, options.onNote);
    this.#host.command({
      kind: "createSession",
      sessionId,
      oms,
      ixs,
      title: options.title,
      dataSources: options.dataSources.map((source) => ({
        sourceId: source.sourceId,
        dataId: source.dataId ?? dataIdOf(options.title),
        contentType: source.contentType ?? "",
        description: source.description ?? "",
      })),
      fragmentBytes: options.fragmentBytes ?? limits.FRAGMENT_BYTES_DEFAULT,
      integrity,
      delivery,
      substreams: options.substreams ?? limits.SUBSTREAMS_DEFAULT,
      maxLagMs: options.maxLagMs ?? limits.MAX_LAG_MS_DEFAULT,
      gatherMs: options.gatherMs ?? 0,
      waitMs: options.waitMs ?? 0,
      resumes: this.#options.identitySeed !== undefined,
      waitPeers: options.waitPeers ?? (delivery === "complete" ? 1 : 0),
      ...(options.virtualPeers === undefined ? {} : { virtualPeers: options.virtualPeers }),
      node: options.node ?? {},
    });
    const session = await opened;
    const handle = new SourceHandle(this.#outlet(), { sessionId, ...session });
    this.#adopt(sessionId, handle);
    for (const source of options.dataSources) {
      handle.registerDataSource(
        source.sourceId,
        source.contentType === undefined ? {} : { contentType: source.contentType },
      );
    }
    return handle;
  }

  async join(options: JoinOptions): Promise<EnginePeer> {
    checkOptions("join", options, JOIN_OPTIONS);
    const { ixs } = this.#servers(options);
    const title = options.title ?? "";
    const sourceId = options.sourceId ?? "";
    const dataId = options.dataId ?? "";
    const { virtualIn } = options;
    if (title === "" && sourceId === "" && dataId === "" && virtualIn === undefined) {
      throw new LocalUsageError("USAGE", { detail: "name a title, a source id or a data id" });
    }
    const sessionId = this.#nextSession++;
    const opened = this.#opened(sessionId, options.signal, options.onNote);
    this.#host.command({
      kind: "joinSession",
      sessionId,
      ixs,
      title,
      dataSourceId: sourceId,
      dataId,
      from: options.from,
      consume: options.consume ?? true,
      waitMs: options.waitMs ?? 60_000,
      followsRestarts: options.followRestarts ?? true,
      ...(options.dial === undefined ? {} : { dial: options.dial }),
      ...(virtualIn === undefined ? {} : { virtualIn }),
      node: options.node ?? {},
    });
    const session = await opened;
    const handle = new PeerHandle(
      this.#outlet(),
      this.#memory.kernel,
      { sessionId, ...session },
      { consume: options.consume ?? true, debug: this.#options.debug ?? false },
    );
    this.#adopt(sessionId, handle);
    return handle;
  }

  #servers(urls: ServerUrls): { oms: Address; ixs: Address } {
    const { oms, ixs } = serverAddresses(urls);
    checkPlaintext(this.#options.allowPlaintext, [
      ["the server at", oms.host],
      ["the server at", ixs.host],
    ]);
    return { oms, ixs };
  }

  status(): EngineReport {
    const { inline, pooled } = this.#jobs.counters;
    return {
      peerId: this.peerId,
      listening: this.listening,
      memory: {
        segments: this.#memory.segmentCount,
        freeSegments: this.#memory.freeSegments,
      },
      kernel: this.#memory.kernel.name,
      ...linksReport(this.#machine),
      counters: { ...this.#machine.context.counters },
      jobs: { inline, pooled },
      overlays: [...this.#machine.overlays.values()].map(overlayReport),
    };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#options.signal?.removeEventListener("abort", this.#abort);
    const aborted = new OperationError("ABORTED", { detail: "the engine was closed" });
    for (const opening of this.#opening.values()) opening.fail(aborted);
    const leaving = [...this.#handles.values()].map((handle) =>
      handle instanceof SourceHandle ? handle.close() : handle.leave(),
    );
    await Promise.race([Promise.allSettled(leaving), this.#sleep(CLOSE_GRACE_MS)]);
    // Servers that did not answer in time: whoever still waits for a session hears of its end.
    for (const [sessionId, handle] of [...this.#handles]) {
      handle.observe({ kind: "sessionClosed", sessionId });
    }
    this.#host.close();
    await Promise.allSettled(this.#transports.map((transport) => transport.shutdown()));
    await this.#pool?.close();
    this.#logger?.info({ peerId: this.peerId }, "engine closed");
  }

  #outlet(): SessionOutlet {
    return {
      command: (command) => this.#host.command(command),
      overlay: (overlayId) => this.#machine.overlays.get(overlayId),
      sleep: (ms) => this.#sleep(ms),
      nowUs: () => systemClock.now().wallUs,
      nowMs: () => systemClock.now().monoMs,
      allowPlaintext: this.#options.allowPlaintext === true,
      feedTransports: () => [
        new TcpTransport(new HeapArena(FEED_LINKS_MAX), { maxInboundLinks: FEED_LINKS_MAX }),
        new WsListenerTransport({ maxInboundLinks: FEED_LINKS_MAX }),
      ],
      crashed: (error) => this.#crashed(error),
      released: (sessionId) => this.#handles.delete(sessionId),
    };
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      setTimeout(resolve, ms).unref();
    });
  }

  #opened(
    sessionId: number,
    signal: AbortSignal | undefined,
    onNote: NonNullable<SourceOptions["onNote"]> = () => undefined,
  ): Promise<{ overlayId: string; title: string }> {
    throwIfAborted(signal);
    if (this.#closing !== undefined) throw new LocalUsageError("CLOSED");
    return new Promise((resolve, reject) => {
      const aborted = (): void => {
        this.#opening.delete(sessionId);
        this.#host.command({ kind: "leaveSession", sessionId });
        reject(abortError(signal));
      };
      signal?.addEventListener("abort", aborted, { once: true });
      const settle = (): void => {
        this.#opening.delete(sessionId);
        signal?.removeEventListener("abort", aborted);
      };
      this.#opening.set(sessionId, {
        open: (overlayId, title) => {
          settle();
          this.#adopting++;
          resolve({ overlayId, title });
        },
        fail: (error) => {
          settle();
          reject(error);
        },
        note: onNote,
      });
    });
  }

  #adopt(sessionId: number, handle: SourceHandle | PeerHandle): void {
    this.#handles.set(sessionId, handle);
    this.#adopting--;
    for (const event of this.#early.splice(0)) this.#keepEarly(event);
  }

  /** What comes between the opening of a session and its handle waits for the handle. */
  #keepEarly(event: PeerEvent): void {
    if (!this.#deliver(event) && this.#adopting > 0) this.#early.push(event);
  }

  #event(event: PeerEvent): void {
    if (event.kind === "sessionOpen") {
      this.#opening.get(event.sessionId)?.open(event.overlayId, event.title);
      return;
    }
    if (event.kind === "sessionFailed") {
      const opening = this.#opening.get(event.sessionId);
      if (opening !== undefined) {
        const { code, detail } = event;
        opening.fail(new OperationError(code, detail === "" ? {} : { detail }));
        return;
      }
    }
    if (event.kind === "sessionNote") {
      this.#logger?.info({ sessionId: event.sessionId }, event.text);
      this.#opening.get(event.sessionId)?.note(event.text, event.failure);
    } else if (event.kind === "linkFailed") {
      const { code, detail } = event;
      this.#logger?.debug({ code, detail, address: formatAddress(event.address) }, "link failed");
    }
    this.#keepEarly(event);
  }

  #deliver(event: PeerEvent): boolean {
    for (const handle of this.#handles.values()) {
      const mine =
        "sessionId" in event
          ? event.sessionId === handle.sessionId
          : event.overlayId === handle.overlayId;
      if (!mine) continue;
      handle.observe(event);
      return true;
    }
    return false;
  }

  #crashed(error: unknown): void {
    this.#logger?.error({ err: error }, "engine failed");
    const failure = new OperationError("INTERNAL", { cause: error, detail: String(error) });
    for (const opening of this.#opening.values()) opening.fail(failure);
    for (const handle of this.#handles.values()) {
      handle.observe({
        kind: "failed",
        overlayId: handle.overlayId,
        code: "INTERNAL",
        detail: String(error),
      });
    }
  }
}

/** What a user's function says, within the bounds of a distance. */
function distanceBy(given: EngineOptions["networkDistance"]): DistanceTo | undefined {
  if (given === undefined) return undefined;
  return (peerId) => {
    const distance = Number(given(peerId));
    return Number.isNaN(distance) ? 0 : Math.min(DISTANCE_MAX, Math.max(0, distance));
  };
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw abortError(signal);
}

function abortError(signal: AbortSignal | undefined): Error {
  const error = new DOMException("The call was aborted by its signal.", "AbortError");
  if (signal?.reason !== undefined) error.cause = signal.reason;
  return error;
}
