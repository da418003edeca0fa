/**
 * Data sources on links of their own, wired to a session: the accepting machine with its own loop
 * and transports, its data to the source peer, what the source peer makes of them back.
 */

import { type ErrorCode, Mp2pError, OperationError } from "../base/errors.ts";
import type { Address } from "../base/machine.ts";
import type { PeerCommand, PeerEvent, Write } from "../peer/commands.ts";
import { AcceptMachine } from "../peer/feed/accept-machine.ts";
import type {
  AcceptCommand,
  AcceptCounters,
  AcceptEvent,
  RemoteSourceReport,
} from "../peer/feed/accept-types.ts";
import type { Overlay } from "../peer/overlay.ts";
import { TERMINATE_SCOPES } from "../protocol/r11.ts";
import type { Listening, Transport } from "../transport/transport.ts";
import { dataIdOf } from "./data-id.ts";
import type { AcceptSourcesOptions, IntakeEvents, RemoteIntake } from "./engine-feed-types.ts";
import { JobRunner } from "./job-runner.ts";
import { Listeners } from "./listeners.ts";
import { MachineHost } from "./machine-host.ts";
import { LISTEN_HOST } from "./plaintext.ts";

/** What the intake needs of its session. */
export interface IntakeSession {
  readonly sessionId: number;
  readonly overlayId: string;
  readonly title: string;
  command(command: PeerCommand): void;
  overlay(): Overlay | undefined;
  nowUs(): number;
  sleep(ms: number): Promise<void>;
  isLocal(sourceId: string): boolean;
  localCount(): number;
  /** Whether every data source of this process has ended. */
  localsEnded(): boolean;
  /** A bug of ours: the session can't go on. */
  crashed(error: unknown): void;
}

/**
 * A source peer that started over waits so long for data sources of the epoch before, which are on
 * their way back: the first that comes is not the last.
 */
const RETURN_MS = 10_000;

/** How long links may take to read their last words, and how often that is looked at. */
const FAREWELL_MS = 1_000;
const FAREWELL_LOOK_MS = 10;

interface Pending {
  readonly contentType: string;
  readonly held: number;
  readonly numbering: number;
}

export class FeedIntake implements RemoteIntake {
  readonly finished: Promise<"last" | "ordered">;
  #resolveFinished: (how: "last" | "ordered") => void = () => undefined;
  readonly #session: IntakeSession;
  readonly #options: AcceptSourcesOptions;
  readonly #machine: AcceptMachine;
  readonly #host: MachineHost<AcceptCommand, AcceptEvent>;
  readonly #transports: readonly Transport[];
  readonly #listening: Listening[] = [];
  readonly #listeners = new Listeners<IntakeEvents>();
  /** Registering at the servers. */
  readonly #pending = new Map<string, Pending>();
  readonly #remote = new Set<string>();
  readonly #over = new Set<string>();
  /** The session began anew in its overlay; those of before may come back still. */
  #returning: boolean;
  #drained: { resolve: () => void; reject: (error: Error) => void } | undefined;
  #stopping: Promise<void> | undefined;
  #isDrained = false;
  #isFinished = false;

  constructor(
    session: IntakeSession,
    sessionEpoch: number,
    options: AcceptSourcesOptions,
    transports: readonly Transport[],
  ) {
    this.#session = session;
    this.#options = options;
    this.#transports = transports;
    // Who is told how many there are need not guess.
    this.#returning = sessionEpoch > 1 && (options.waitSources ?? 1) <= 1;
    if (this.#returning) {
      void session.sleep(RETURN_MS).then(() => {
        this.#returning = false;
        this.#look();
      });
    }
    this.finished = new Promise((resolve) => {
      this.#resolveFinished = resolve;
    });
    this.#machine = new AcceptMachine({
      overlayId: session.overlayId,
      sessionEpoch,
      mayEndSession: options.end === "last",
      isLocal: (sourceId) => session.isLocal(sourceId),
      localCount: () => session.localCount(),
      sink: {
        write: (sourceId, payloads, lengths, timestampUs) =>
          this.#write(sourceId, payloads, lengths, timestampUs),
      },
    });
    this.#host = new MachineHost(this.#machine, {
      transports,
      jobs: new JobRunner({ signatures: { sign: undefined, verify: () => false } }),
      onEvent: (event) => this.#event(event),
      onCrash: (error) => session.crashed(error),
    });
  }

  get listening(): readonly Address[] {
    return this.#listening.map(({ address }) => address);
  }

  /** Begins to listen. Errors: ADDRESS_IN_USE, ADDRESS_UNAVAILABLE. */
  async listen(): Promise<void> {
    const { overlayId } = this.#session;
    const minHolders = this.#options.minHolders ?? 1;
    this.#session.command({ kind: "watchHeld", overlayId, minHolders });
    for (const { transport = "tcp", host = LISTEN_HOST, port = 0 } of this.#options.listen) {
      const one = this.#transports.find(({ name }) => name === transport);
      if (one === undefined) continue;
      this.#listening.push(await one.listen({ transport, host, port }));
    }
  }

  status(): { sources: readonly RemoteSourceReport[]; counters: AcceptCounters } {
    return { sources: this.#machine.reports(), counters: { ...this.#machine.counters } };
  }

  on<K extends keyof IntakeEvents>(
    event: K,
    listener: (value: IntakeEvents[K]) => void,
  ): () => void {
    return this.#listeners.on(event, listener);
  }

  /** Whether this id belongs to a data source on a link of its own. */
  has(sourceId: string): boolean {
    return this.#remote.has(sourceId);
  }

  // ------------------------------------------------------------------------------ from the session

  observe(event: PeerEvent): void {
    if (this.#isFinished) return;
    switch (event.kind) {
      case "writable":
        this.#host.command({ kind: "writable" });
        break;
      case "held":
        for (const sourceId of this.#remote) this.#tellHeld(sourceId);
        break;
      case "sourceEnded":
        this.#sourceEnded(event.sourceId);
        break;
      case "dataSourceAdded":
        this.#added(event.sourceId);
        break;
      case "dataSourceRefused":
        if (!this.#pending.delete(event.sourceId)) break;
        this.#remote.delete(event.sourceId);
        this.#refuse(event.sourceId, event.code, event.detail);
        this.#look();
        break;
      default:
        break;
    }
  }

  /** Takes nothing more; resolves when all that was accepted is written. */
  stop(): Promise<void> {
    if (this.#isFinished || this.#isDrained) return Promise.resolve();
    this.#stopping ??= new Promise<void>((resolve, reject) => {
      this.#drained = { resolve, reject };
      this.#host.command({ kind: "stop" });
    });
    return this.#stopping;
  }

  /** Ends every link: in order, or with why the session failed. Resolves when they are gone. */
  async finish(failure: { code: ErrorCode; detail: string } | undefined): Promise<void> {
    if (this.#isFinished) return;
    this.#isFinished = true;
    this.#host.command({ kind: "finish", failure });
    const { code, detail } = failure ?? { code: "CLOSED" as const, detail: "" };
    this.#drained?.reject(new OperationError(code, { detail }));
    for (let waitedMs = 0; waitedMs < FAREWELL_MS && this.#links > 0; ) {
      await this.#session.sleep(FAREWELL_LOOK_MS);
      waitedMs += FAREWELL_LOOK_MS;
    }
    this.#host.close();
    await Promise.allSettled(this.#transports.map((transport) => transport.shutdown()));
  }

  get #links(): number {
    return this.#transports.reduce((sum, transport) => sum + transport.stats().links, 0);
  }

  // ------------------------------------------------------------------------------ data in

  #write(
    sourceId: string,
    payloads: Uint8Array,
    lengths: Uint32Array,
    timestampUs: number,
  ): number {
    const command: Write = {
      kind: "write",
      overlayId: this.#session.overlayId,
      sourceId,
      payloads,
      lengths,
      timestampUs: timestampUs === 0 ? this.#session.nowUs() : timestampUs,
      contentType: undefined,
      accepted: 0,
      credit: 0,
    };
    try {
      this.#session.command(command);
    } catch (error) {
      // The overlay was left, or its session ended, by somebody else in this process.
      if (!(error instanceof Mp2pError)) throw error;
      void this.finish({ code: error.code, detail: error.detail ?? "" });
    }
    return command.accepted;
  }

  // ------------------------------------------------------------------------------ events

  #event(event: AcceptEvent): void {
    const { sessionId, overlayId } = this.#session;
    switch (event.kind) {
      case "register": {
        const { sourceId, contentType, description, held, numbering } = event;
        const ownId = this.#options.dataId ?? dataIdOf(this.#session.title);
        const dataId = event.dataId === "" ? ownId : event.dataId;
        this.#pending.set(sourceId, { contentType, held, numbering });
        this.#remote.add(sourceId);
        this.#session.command({
          kind: "addDataSource",
          sessionId,
          dataSource: { sourceId, dataId, contentType, description },
        });
        return;
      }
      case "forgotten":
        this.#forget(event.sourceId);
        return;
      case "otherRun": {
        const { sourceId } = event;
        const pending = this.#pending.get(sourceId);
        if (pending !== undefined) this.#pending.set(sourceId, { ...pending, numbering: 0 });
        else this.#session.command({ kind: "forgetNumbering", overlayId, sourceId });
        return;
      }
      case "sourceLink":
        this.#say(event.sourceId, event.state, event.detail);
        return;
      case "terminate":
        if (event.scope === TERMINATE_SCOPES.session) this.#resolveFinished("ordered");
        // A source that has ended may order the end of the session still.
        if (!this.#over.has(event.sourceId)) {
          this.#session.command({ kind: "endSource", overlayId, sourceId: event.sourceId });
        }
        return;
      case "drained":
        this.#isDrained = true;
        this.#drained?.resolve();
        return;
      case "linkRefused":
        this.#listeners.emit("refused", { code: event.code, detail: event.detail });
        return;
    }
  }

  /** The servers know the data source: it is registered here, and may send. */
  #added(sourceId: string): void {
    const pending = this.#pending.get(sourceId);
    if (pending === undefined) return;
    this.#pending.delete(sourceId);
    const { overlayId } = this.#session;
    const { contentType, held, numbering } = pending;
    const next = held + 1;
    try {
      this.#session.command({
        kind: "registerDataSource",
        overlayId,
        sourceId,
        contentType,
        firstSequence: next,
        numbering,
      });
    } catch (error) {
      if (!(error instanceof Mp2pError)) throw error;
      this.#forget(sourceId);
      this.#refuse(sourceId, error.code, error.detail ?? "");
      this.#look();
      return;
    }
    this.#say(sourceId, "registered", "");
    this.#host.command({ kind: "admit", sourceId, next });
  }

  /** Its place is free, here and at the servers. It neither came nor is awaited. */
  #forget(sourceId: string): void {
    const { sessionId, overlayId } = this.#session;
    this.#remote.delete(sourceId);
    this.#session.command({ kind: "removeDataSource", sessionId, sourceId });
    if (this.#session.overlay() === undefined) return;
    this.#session.command({ kind: "unregisterDataSource", overlayId, sourceId });
  }

  #refuse(sourceId: string, code: ErrorCode, detail: string): void {
    this.#host.command({ kind: "refuse", sourceId, code, detail });
  }

  #tellHeld(sourceId: string): void {
    const sequence = this.#session.overlay()?.source?.heldSequence(sourceId) ?? 0;
    this.#host.command({ kind: "heldUpTo", sourceId, sequence });
  }

  #sourceEnded(sourceId: string): void {
    if (this.#remote.has(sourceId)) {
      this.#over.add(sourceId);
      this.#host.command({ kind: "sourceIsOver", sourceId });
      this.#say(sourceId, "ended", "");
    }
    this.#look();
  }

  /** Whether the last that came has ended; also when one that was awaited is not to come. */
  #look(): void {
    if (this.#returning || this.#remote.size < (this.#options.waitSources ?? 1)) return;
    if (this.#over.size < this.#remote.size || !this.#session.localsEnded()) return;
    if (this.#options.end === "last") this.#resolveFinished("last");
  }

  #say(sourceId: string, state: IntakeEvents["source"]["state"], detail: string): void {
    this.#listeners.emit("source", { sourceId, state, detail });
  }
}
