/** A source peer's session, as users of the library hold it. */

import { LocalUsageError, OperationError } from "../base/errors.ts";
import type { PeerCommand, PeerEvent, Write } from "../peer/commands.ts";
import type { Overlay } from "../peer/overlay.ts";
import type { Transport } from "../transport/transport.ts";
import type { AcceptSourcesOptions, RemoteIntake } from "./engine-feed-types.ts";
import { FeedIntake } from "./engine-intake.ts";
import { ACCEPT_OPTIONS, END_OPTIONS } from "./engine-options.ts";
import type {
  BatchWrite,
  DataSource,
  EndOptions,
  EngineSource,
  OverlayReport,
  SourceEvents,
  WriteMeta,
  WriteResult,
} from "./engine-types.ts";
import { Latecomers } from "./latecomers.ts";
import { Listeners } from "./listeners.ts";
import { checkLengths, checkOptions, checkPayload, checkText } from "./options.ts";
import { checkAccept } from "./plaintext.ts";
import { ReportKeeper } from "./report.ts";

export interface SessionOutlet {
  command(command: PeerCommand): void;
  overlay(overlayId: string): Overlay | undefined;
  /** Milliseconds from now, monotonic. */
  sleep(ms: number): Promise<void>;
  nowUs(): number;
  /** Monotonic. */
  nowMs(): number;
  /** Whether links off loopback are allowed, which nothing encrypts. */
  readonly allowPlaintext: boolean;
  /** Fresh transports for data sources on links of their own. */
  feedTransports(): Transport[];
  crashed(error: unknown): void;
  released(sessionId: number): void;
}

/** How often a source that stays for latecomers looks who is there. */
const LATE_LOOK_MS = 50;

type Failure = { readonly code: OperationError["code"]; readonly detail: string };

export class SourceHandle implements EngineSource {
  readonly overlayId: string;
  readonly title: string;
  readonly sessionId: number;
  readonly #outlet: SessionOutlet;
  readonly #sources = new Map<string, SourceWriter>();
  readonly #listeners = new Listeners<SourceEvents>();
  #waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];
  #failure: Failure | undefined;
  /** Waits for the event "ended", whoever asked for it first. */
  #ended: (() => void)[] = [];
  #hasEnded = false;
  #hurries = false;
  #closed = false;
  #intake: FeedIntake | undefined;
  /** Data sources of this process that have ended. */
  readonly #localsOver = new Set<string>();
  readonly #closedPromise: Promise<void>;
  #resolveClosed: () => void = () => undefined;
  readonly #reports: ReportKeeper;

  constructor(
    outlet: SessionOutlet,
    session: { readonly sessionId: number; readonly overlayId: string; readonly title: string },
  ) {
    this.#outlet = outlet;
    this.sessionId = session.sessionId;
    this.overlayId = session.overlayId;
    this.title = session.title;
    this.#reports = new ReportKeeper(outlet.overlay(session.overlayId));
    this.#closedPromise = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
  }

  registerDataSource(
    sourceId: string,
    options: { readonly contentType?: string } = {},
  ): DataSource {
    this.#assertOpen();
    checkText("sourceId", sourceId);
    this.#outlet.command({
      kind: "registerDataSource",
      overlayId: this.overlayId,
      sourceId,
      contentType: options.contentType ?? "",
    });
    const writer = new SourceWriter(this, sourceId);
    this.#sources.set(sourceId, writer);
    return writer;
  }

  dataSource(sourceId: string): DataSource {
    const source = this.#sources.get(sourceId);
    if (source === undefined) {
      throw new LocalUsageError("SOURCE_UNREGISTERED", { detail: sourceId });
    }
    return source;
  }

  async acceptDataSources(options: AcceptSourcesOptions): Promise<RemoteIntake> {
    checkOptions("acceptDataSources", options, ACCEPT_OPTIONS);
    this.#assertOpen();
    this.#throwIfFailed();
    if (this.#intake !== undefined) {
      throw new LocalUsageError("USAGE", { detail: "data sources are accepted already" });
    }
    if (options.listen.length === 0) {
      throw new LocalUsageError("USAGE", { detail: "name an address to accept data sources at" });
    }
    checkAccept(this.#outlet.allowPlaintext, options.listen);
    const overlay = (): Overlay | undefined => this.#outlet.overlay(this.overlayId);
    const intake = new FeedIntake(
      {
        sessionId: this.sessionId,
        overlayId: this.overlayId,
        title: this.title,
        command: (command) => this.#outlet.command(command),
        overlay,
        nowUs: () => this.#outlet.nowUs(),
        sleep: (ms) => this.#outlet.sleep(ms),
        isLocal: (sourceId) => this.#sources.has(sourceId),
        localCount: () => this.#sources.size,
        localsEnded: () => this.#localsOver.size === this.#sources.size,
        crashed: (error) => this.#outlet.crashed(error),
      },
      overlay()?.settings.sessionEpoch ?? 0,
      options,
      this.#outlet.feedTransports(),
    );
    this.#intake = intake;
    try {
      await intake.listen();
    } catch (error) {
      this.#intake = undefined;
      await intake.finish({ code: "CLOSED", detail: "" });
      throw error;
    }
    return intake;
  }

  status(): OverlayReport {
    return this.#reports.report();
  }

  on<K extends keyof SourceEvents>(
    event: K,
    listener: (value: SourceEvents[K]) => void,
  ): () => void {
    return this.#listeners.on(event, listener);
  }

  async end(options: EndOptions = {}): Promise<void> {
    checkOptions("end", options, END_OPTIONS);
    const { lateJoinMs = 0, waitForPeers = true } = options;
    if (this.#closed) return;
    this.#throwIfFailed();
    if (!waitForPeers) this.#hurries = true;
    await this.#intake?.stop();
    if (!this.#hasEnded) {
      const ended = new Promise<void>((resolve, reject) => {
        this.#ended.push(resolve);
        this.#waiting.push({ resolve: () => undefined, reject });
      });
      const { overlayId } = this;
      this.#outlet.command({ kind: "endSession", overlayId, waitsForPeers: !this.#hurries });
      await ended;
    }
    await this.#latecomers(lateJoinMs);
    await this.#intake?.finish(undefined);
    await this.#leave();
  }

  /** Stays for members that come after END, and until those have everything or stand still. */
  async #latecomers(lateJoinMs: number): Promise<void> {
    let late: Latecomers | undefined;
    for (;;) {
      const overlay = this.#outlet.overlay(this.overlayId);
      const end = overlay?.endIndex;
      if (overlay === undefined || end === undefined || this.#closed) return;
      if (this.#hurries && overlay.source?.hasData === false) return;
      const nowMs = this.#outlet.nowMs();
      late ??= new Latecomers(lateJoinMs, overlay.settings.lingerMs, nowMs);
      if (!late.stays(overlay.neighbours, end, nowMs)) return;
      await this.#outlet.sleep(LATE_LOOK_MS);
    }
  }

  async close(): Promise<void> {
    await this.#intake?.finish({ code: "SESSION_LOST", detail: "the source peer left" });
    await this.#leave();
  }

  // ------------------------------------------------------------------------------ for writers

  write(
    sourceId: string,
    payloads: Uint8Array,
    lengths: Uint32Array,
    meta: WriteMeta | undefined,
  ): WriteResult {
    if (meta?.contentType !== undefined) checkText("contentType", meta.contentType);
    this.#throwIfFailed();
    this.#assertOpen();
    const command: Write = {
      kind: "write",
      overlayId: this.overlayId,
      sourceId,
      payloads,
      lengths,
      timestampUs: meta?.timestampUs ?? this.#outlet.nowUs(),
      contentType: meta?.contentType,
      accepted: 0,
      credit: 0,
    };
    this.#outlet.command(command);
    return command;
  }

  endSource(sourceId: string): void {
    this.#assertOpen();
    this.#outlet.command({ kind: "endSource", overlayId: this.overlayId, sourceId });
  }

  /** Resolves with the next "writable". */
  writable(): Promise<void> {
    try {
      this.#throwIfFailed();
      this.#assertOpen();
    } catch (error) {
      return Promise.reject(error);
    }
    const source = this.#outlet.overlay(this.overlayId)?.source;
    if (source?.isStarved !== true) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  // ------------------------------------------------------------------------------ from the engine

  observe(event: PeerEvent): void {
    if (event.kind === "sourceEnded" && this.#sources.has(event.sourceId)) {
      this.#localsOver.add(event.sourceId);
    }
    this.#intake?.observe(event);
    switch (event.kind) {
      case "writable":
        for (const { resolve } of this.#waiting.splice(0)) resolve();
        break;
      case "ended":
        this.#hasEnded = true;
        for (const resolve of this.#ended.splice(0)) resolve();
        break;
      case "neighbour":
        this.#listeners.emit("link", event);
        break;
      case "failed":
      case "sessionFailed":
        this.#fail({ code: event.code, detail: event.detail });
        break;
      case "sessionNote":
        this.#listeners.emit("note", event.text);
        break;
      case "sessionClosed":
        this.#closed = true;
        this.#reports.close();
        this.#fail({ code: "CLOSED", detail: "" });
        this.#resolveClosed();
        this.#outlet.released(this.sessionId);
        break;
      default:
        break;
    }
  }

  #fail(failure: Failure): void {
    const error = new OperationError(failure.code, { detail: failure.detail });
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    if (this.#failure !== undefined || failure.code === "CLOSED") return;
    this.#failure = failure;
    void this.#intake?.finish(failure);
    this.#listeners.emit("failed", failure);
  }

  async #leave(): Promise<void> {
    if (this.#closed) return;
    this.#outlet.command({ kind: "leaveSession", sessionId: this.sessionId });
    await this.#closedPromise;
  }

  #assertOpen(): void {
    if (this.#closed) throw new LocalUsageError("CLOSED");
  }

  #throwIfFailed(): void {
    if (this.#failure === undefined) return;
    throw new OperationError(this.#failure.code, { detail: this.#failure.detail });
  }
}

class SourceWriter implements DataSource {
  readonly id: string;
  readonly #handle: SourceHandle;
  readonly #one = new Uint32Array(1);

  constructor(handle: SourceHandle, id: string) {
    this.#handle = handle;
    this.id = id;
  }

  write(payload: Uint8Array, meta?: WriteMeta): WriteResult {
    checkPayload("payload", payload);
    this.#one[0] = payload.length;
    return this.#handle.write(this.id, payload, this.#one, meta);
  }

  writeBatch(batch: BatchWrite, meta?: WriteMeta): WriteResult {
    checkPayload("payloads", batch?.payloads);
    checkLengths(batch.lengths);
    let bytes = 0;
    for (const length of batch.lengths) bytes += length;
    if (bytes > batch.payloads.length) {
      throw new LocalUsageError("USAGE", {
        detail: `lengths add up to ${bytes} bytes, payloads have ${batch.payloads.length}`,
      });
    }
    return this.#handle.write(this.id, batch.payloads, batch.lengths, meta);
  }

  writable(): Promise<void> {
    return this.#handle.writable();
  }

  async push(payload: Uint8Array, meta?: WriteMeta): Promise<void> {
    while (this.write(payload, meta).accepted === 0) await this.writable();
  }

  end(): void {
    this.#handle.endSource(this.id);
  }

  toWritableStream(): WritableStream<Uint8Array> {
    return new WritableStream<Uint8Array>({
      write: (payload) => this.push(payload),
      close: () => this.end(),
    });
  }
}
