/** A data source on a link of its own, as users of the library hold it. */

import { LocalUsageError, OperationError } from "../base/errors.ts";
import type { SequenceNumber } from "../base/units.ts";
import type { FeedMachine } from "../peer/feed/feed-machine.ts";
import {
  endedText,
  type FeedCommand,
  type FeedEvent,
  type FeedWrite,
} from "../peer/feed/feed-types.ts";
import { TERMINATE_SCOPES } from "../protocol/r11.ts";
import type { DataFeed, FeedEvents, FeedMeta } from "./engine-feed-types.ts";
import type { BatchWrite } from "./engine-types.ts";
import { Listeners } from "./listeners.ts";
import { checkLengths, checkPayload } from "./options.ts";

export interface FeedHandleOutlet {
  command(command: FeedCommand): void;
  /** Releases loop and sockets. */
  shutdown(): Promise<void>;
}

interface Waiting {
  resolve(): void;
  reject(error: Error): void;
}

interface HeldWaiting extends Waiting {
  readonly sequence: SequenceNumber;
}

export class FeedHandle implements DataFeed {
  readonly sourceId: string;
  readonly #machine: FeedMachine;
  readonly #outlet: FeedHandleOutlet;
  readonly #listeners = new Listeners<FeedEvents>();
  readonly #one = new Uint32Array(1);
  #waiting: Waiting[] = [];
  #waitingHeld: HeldWaiting[] = [];
  #ending: Waiting | undefined;
  /** Something was not taken, and "writable" has not come since. */
  #isStarved = false;
  #ended = false;
  #closed = false;
  #failure: OperationError | undefined;

  constructor(sourceId: string, machine: FeedMachine, outlet: FeedHandleOutlet) {
    this.sourceId = sourceId;
    this.#machine = machine;
    this.#outlet = outlet;
  }

  get next(): SequenceNumber {
    return this.#machine.next;
  }
  get accepted(): SequenceNumber {
    return this.#machine.accepted;
  }
  get held(): SequenceNumber {
    return this.#machine.held;
  }

  write(payload: Uint8Array, meta?: FeedMeta): { readonly accepted: number } {
    checkPayload("payload", payload);
    this.#one[0] = payload.length;
    return this.#write(payload, this.#one, meta);
  }

  writeBatch(batch: BatchWrite, meta?: FeedMeta): { readonly accepted: number } {
    checkPayload("payloads", batch?.payloads);
    checkLengths(batch.lengths);
    return this.#write(batch.payloads, batch.lengths, meta);
  }

  #write(payloads: Uint8Array, lengths: Uint32Array, meta: FeedMeta | undefined): FeedWrite {
    this.#throwIfOver();
    const command: FeedWrite = {
      kind: "write",
      payloads,
      lengths,
      timestampUs: meta?.timestampUs,
      accepted: 0,
    };
    this.#outlet.command(command);
    if (command.accepted < lengths.length) this.#isStarved = true;
    return command;
  }

  writable(): Promise<void> {
    return this.#until(() => !this.#isStarved, this.#waiting);
  }

  async push(payload: Uint8Array, meta?: FeedMeta): Promise<SequenceNumber> {
    while (this.write(payload, meta).accepted === 0) await this.writable();
    return this.next - 1;
  }

  whenHeld(sequence: SequenceNumber = this.next - 1): Promise<void> {
    if (this.held >= sequence) return Promise.resolve();
    if (this.#over !== undefined) return Promise.reject(this.#over);
    return new Promise((resolve, reject) => {
      this.#waitingHeld.push({ sequence, resolve, reject });
    });
  }

  async end({ session = false }: { readonly session?: boolean } = {}): Promise<void> {
    if (this.#ended) return;
    this.#throwIfOver();
    const ended = new Promise<void>((resolve, reject) => {
      this.#ending = { resolve, reject };
    });
    const scope = session ? TERMINATE_SCOPES.session : TERMINATE_SCOPES.source;
    this.#outlet.command({ kind: "end", scope });
    await ended;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#outlet.command({ kind: "close" });
    this.#giveUp(new OperationError("ABORTED", { detail: "the feed was closed" }));
    await this.#outlet.shutdown();
  }

  on<K extends keyof FeedEvents>(event: K, listener: (value: FeedEvents[K]) => void): () => void {
    return this.#listeners.on(event, listener);
  }

  status(): { readonly linked: boolean; readonly keptBytes: number } {
    return { linked: this.#machine.isUp, keptBytes: this.#machine.keptBytes };
  }

  // ------------------------------------------------------------------------------ from the machine

  observe(event: FeedEvent): void {
    switch (event.kind) {
      case "registered":
        this.#listeners.emit("registered", event);
        break;
      case "lost":
        this.#listeners.emit("lost", event);
        break;
      case "accepted":
        this.#listeners.emit("accepted", event.sequence);
        break;
      case "held":
        this.#heldUpTo(event.sequence);
        this.#listeners.emit("held", event.sequence);
        break;
      case "writable":
        this.#isStarved = false;
        for (const { resolve } of this.#waiting.splice(0)) resolve();
        break;
      case "linkLost":
        this.#listeners.emit("linkLost", event);
        break;
      case "ended":
        this.#ended = true;
        this.#ending?.resolve();
        this.#ending = undefined;
        this.#giveUp(new OperationError("SOURCE_ENDED", { detail: endedDetail(event) }));
        this.#listeners.emit("ended", undefined);
        break;
      case "failed":
        this.fail(new OperationError(event.code, { detail: event.detail }));
        break;
    }
  }

  /** Nothing more comes of it: who waits hears why. */
  fail(error: OperationError): void {
    if (this.#failure !== undefined || this.#closed) return;
    this.#failure = error;
    this.#giveUp(error);
    this.#listeners.emit("failed", { code: error.code, detail: error.detail ?? "" });
  }

  #heldUpTo(sequence: SequenceNumber): void {
    if (this.#waitingHeld.length === 0) return;
    const still: HeldWaiting[] = [];
    for (const one of this.#waitingHeld) {
      if (one.sequence <= sequence) one.resolve();
      else still.push(one);
    }
    this.#waitingHeld = still;
  }

  #giveUp(error: Error): void {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    for (const { reject } of this.#waitingHeld.splice(0)) reject(error);
    this.#ending?.reject(error);
    this.#ending = undefined;
  }

  #until(holds: () => boolean, waiting: Waiting[]): Promise<void> {
    if (this.#over !== undefined) return Promise.reject(this.#over);
    if (holds()) return Promise.resolve();
    return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
  }

  /** Why nothing can be written any more. */
  get #over(): Error | undefined {
    if (this.#failure !== undefined) return this.#failure;
    if (this.#ended) return new OperationError("SOURCE_ENDED", { detail: this.sourceId });
    return this.#closed ? new LocalUsageError("CLOSED") : undefined;
  }

  #throwIfOver(): void {
    const over = this.#over;
    if (over !== undefined) throw over;
  }
}

function endedDetail({ last, scope }: Extract<FeedEvent, { kind: "ended" }>): string {
  return scope === TERMINATE_SCOPES.source ? endedText(last) : "the session is over";
}
