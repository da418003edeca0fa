/** A peer's session, as users of the library hold it: data and batches at the consumer's pace. */

import { LocalUsageError, OperationError } from "../base/errors.ts";
import * as layout from "../base/layout.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { PeerEvent, Take, TakeFragment } from "../peer/commands.ts";
import type { AssembledBatch } from "../stream/assembler.ts";
import type { LentFragment } from "../stream/fragment-cursor.ts";
import type { AssembledSource } from "../stream/source-book.ts";
import type { SessionOutlet } from "./engine-source.ts";
import type {
  Datum,
  DatumBatch,
  EnginePeer,
  Fragment,
  OverlayReport,
  PeerEvents,
} from "./engine-types.ts";
import { FragmentIterator } from "./fragment-iterator.ts";
import { Listeners } from "./listeners.ts";
import { PacedIterator } from "./paced-iterator.ts";
import { ReportKeeper } from "./report.ts";

type Failure = { readonly code: OperationError["code"]; readonly detail: string };

export class PeerHandle implements EnginePeer {
  /** Another one after the source peer started over in it. */
  overlayId: string;
  readonly title: string;
  readonly sessionId: number;
  readonly closed: Promise<void>;
  readonly #outlet: SessionOutlet;
  readonly #kernel: Kernel;
  readonly #listeners = new Listeners<PeerEvents>();
  #take: Take;
  #takeFragment: TakeFragment & { release: boolean };
  readonly #consume: boolean;
  readonly #debug: boolean;
  #resolveClosed: () => void = () => undefined;
  #wake: (() => void) | undefined;
  #iterating = false;
  #over = false;
  #failure: Failure | undefined;
  readonly #reports: ReportKeeper;
  #sessionClosed = false;

  constructor(
    outlet: SessionOutlet,
    kernel: Kernel,
    session: { readonly sessionId: number; readonly overlayId: string; readonly title: string },
    options: { readonly consume: boolean; readonly debug: boolean },
  ) {
    this.#consume = options.consume;
    this.#debug = options.debug;
    this.#outlet = outlet;
    this.#kernel = kernel;
    this.sessionId = session.sessionId;
    this.overlayId = session.overlayId;
    this.title = session.title;
    this.#reports = new ReportKeeper(outlet.overlay(session.overlayId));
    this.#take = {
      kind: "take",
      overlayId: session.overlayId,
      batch: undefined,
      sourceOf: undefined,
    };
    this.#takeFragment = {
      kind: "takeFragment",
      overlayId: session.overlayId,
      release: false,
      fragment: undefined,
    };
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
  }

  data(options: { readonly sources?: readonly string[] } = {}): AsyncIterableIterator<Datum> {
    this.#claim();
    const wanted = options.sources === undefined ? undefined : new Set(options.sources);
    return new DataIterator(this, this.#kernel, wanted);
  }

  batches(): AsyncIterableIterator<DatumBatch> {
    this.#claim();
    return new BatchIterator(this, this.#kernel);
  }

  fragments(): AsyncIterableIterator<Fragment> {
    this.#claim();
    return new FragmentIterator(this, this.#kernel.bytes, this.#debug);
  }

  toReadableStream(options: { readonly sources?: readonly string[] } = {}): ReadableStream<Datum> {
    const iterator = this.data(options);
    return new ReadableStream<Datum>({
      pull: async (controller) => {
        const step = await iterator.next();
        if (step.done === true) controller.close();
        else controller.enqueue(step.value);
      },
      cancel: async () => {
        await iterator.return?.();
      },
    });
  }

  status(): OverlayReport {
    return this.#reports.report();
  }

  on<K extends keyof PeerEvents>(event: K, listener: (value: PeerEvents[K]) => void): () => void {
    return this.#listeners.on(event, listener);
  }

  async leave(): Promise<void> {
    if (!this.#sessionClosed) {
      this.#outlet.command({ kind: "leaveSession", sessionId: this.sessionId });
    }
    await this.closed;
  }

  // ------------------------------------------------------------------------------ for iterators

  /** Next batch now, undefined when none is there now. */
  takeNow(): AssembledBatch | undefined {
    if (this.#over) return undefined;
    this.#take.batch = undefined;
    this.#outlet.command(this.#take);
    return this.#take.batch;
  }

  /** Next fragment now, undefined when none is there now. Takes back the one before. */
  takeFragmentNow(): LentFragment | undefined {
    if (this.#over) return undefined;
    this.#takeFragment.release = false;
    this.#outlet.command(this.#takeFragment);
    return this.#takeFragment.fragment;
  }

  releaseFragment(): void {
    if (this.#over) return;
    this.#takeFragment.release = true;
    this.#outlet.command(this.#takeFragment);
  }

  sourceOf(row: number): AssembledSource {
    return (this.#take.sourceOf as (row: number) => AssembledSource)(row);
  }

  /** Whether nothing comes any more; throws when that is a failure. */
  get isOver(): boolean {
    if (this.#failure !== undefined) {
      const { code, detail } = this.#failure;
      throw new OperationError(code, detail === "" ? {} : { detail });
    }
    return this.#over;
  }

  /** Resolves when it is worth asking again. */
  woken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  // ------------------------------------------------------------------------------ from the engine

  observe(event: PeerEvent): void {
    switch (event.kind) {
      case "readable":
        // The session may have opened its overlay anew.
        this.#reports.follow(this.#outlet.overlay(event.overlayId));
        this.#wakeUp();
        break;
      case "started":
        this.#listeners.emit("started", { index: event.index });
        this.#wakeUp();
        break;
      case "gap":
        this.#listeners.emit("gap", event.gap);
        break;
      case "neighbour":
        this.#listeners.emit("link", event);
        break;
      case "ended":
        this.#over = true;
        this.#listeners.emit("ended", { sources: event.sources ?? [] });
        this.#wakeUp();
        break;
      case "failed":
      case "sessionFailed":
        if (!this.#over) this.#failure ??= { code: event.code, detail: event.detail };
        this.#listeners.emit("failed", { code: event.code, detail: event.detail });
        this.#wakeUp();
        break;
      case "left":
        this.#over = true;
        this.#wakeUp();
        break;
      case "sessionRestarted": {
        const { overlayId, sessionEpoch, before } = event;
        this.overlayId = overlayId;
        this.#reports.follow(this.#outlet.overlay(overlayId));
        this.#take = { ...this.#take, overlayId, batch: undefined, sourceOf: undefined };
        this.#takeFragment = { ...this.#takeFragment, overlayId, fragment: undefined };
        this.#listeners.emit("restarted", { overlayId, sessionEpoch, before });
        this.#wakeUp();
        break;
      }
      case "sessionNote":
        this.#listeners.emit("note", event.text);
        break;
      case "sessionClosed":
        this.#over = true;
        this.#sessionClosed = true;
        this.#reports.close();
        this.#wakeUp();
        this.#resolveClosed();
        this.#outlet.released(this.sessionId);
        break;
      default:
        break;
    }
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  #claim(): void {
    if (!this.#consume) {
      throw new LocalUsageError("USAGE", {
        detail: "a peer joined with consume: false only forwards",
      });
    }
    if (this.#iterating) {
      throw new LocalUsageError("USAGE", {
        detail: "a peer has one data(), batches() or fragments() iterator",
      });
    }
    this.#iterating = true;
  }
}

/**
 * One copy a batch into ordinary memory; data are subarrays of it. Steps that need no waiting
 * resolve at once.
 */
class DataIterator extends PacedIterator<Datum, PeerHandle> {
  readonly #kernel: Kernel;
  readonly #wanted: ReadonlySet<string> | undefined;
  #batch: AssembledBatch | undefined;
  #copy: Uint8Array = new Uint8Array(0);
  #copiedFrom = 0;
  #at = 0;

  constructor(peer: PeerHandle, kernel: Kernel, wanted: ReadonlySet<string> | undefined) {
    super(peer);
    this.#kernel = kernel;
    this.#wanted = wanted;
  }

  protected override now(): Datum | undefined {
    for (;;) {
      const batch = this.#batch;
      if (batch === undefined) {
        this.#batch = this.peer.takeNow();
        if (this.#batch === undefined) return undefined;
        this.#at = 0;
        this.#copyOut(this.#batch);
        continue;
      }
      if (this.#at >= batch.count) {
        this.#batch = undefined;
        continue;
      }
      const datum = this.#datum(batch.entries + this.#at * layout.ENTRY_BYTES);
      this.#at++;
      if (datum !== undefined) return datum;
    }
  }

  #copyOut(batch: AssembledBatch): void {
    if (batch.memory !== this.#kernel.bytes) {
      // A sliced datum was put together in memory of its own, which nobody else keeps.
      this.#copy = batch.memory;
      this.#copiedFrom = 0;
      return;
    }
    const { view } = this.#kernel;
    const last = batch.entries + (batch.count - 1) * layout.ENTRY_BYTES;
    const from = view.getUint32(batch.entries + layout.ENTRY_OFFSET, true);
    const to =
      view.getUint32(last + layout.ENTRY_OFFSET, true) +
      view.getUint32(last + layout.ENTRY_LENGTH, true);
    this.#copy = new Uint8Array(to - from);
    this.#copy.set(this.#kernel.bytes.subarray(from, to));
    this.#copiedFrom = from;
  }

  #datum(entry: number): Datum | undefined {
    const { u32, f64 } = this.#kernel;
    const source = this.peer.sourceOf(u32[(entry + layout.ENTRY_DECLARATION) >>> 2] as number);
    if (this.#wanted !== undefined && !this.#wanted.has(source.id)) return undefined;
    const offset = (u32[(entry + layout.ENTRY_OFFSET) >>> 2] as number) - this.#copiedFrom;
    const length = u32[(entry + layout.ENTRY_LENGTH) >>> 2] as number;
    return {
      sourceId: source.id,
      sequence: f64[(entry + layout.ENTRY_SEQUENCE) >>> 3] as number,
      timestampUs: f64[(entry + layout.ENTRY_TIMESTAMP) >>> 3] as number,
      contentType: source.contentType,
      payload: this.#copy.subarray(offset, offset + length),
    };
  }
}

class BatchIterator extends PacedIterator<DatumBatch, PeerHandle> {
  readonly #view: BatchView;

  constructor(peer: PeerHandle, kernel: Kernel) {
    super(peer);
    this.#view = new BatchView(peer, kernel);
  }

  protected override now(): DatumBatch | undefined {
    const batch = this.peer.takeNow();
    if (batch === undefined) return undefined;
    this.#view.lend(batch);
    return this.#view;
  }
}

/** One object, used again for each batch. */
class BatchView implements DatumBatch {
  readonly #peer: PeerHandle;
  readonly #kernel: Kernel;
  #entries = 0;
  count = 0;
  index = 0;
  memory: Uint8Array;

  constructor(peer: PeerHandle, kernel: Kernel) {
    this.#peer = peer;
    this.#kernel = kernel;
    this.memory = kernel.bytes;
  }

  lend(batch: AssembledBatch): void {
    this.#entries = batch.entries;
    this.count = batch.count;
    this.index = batch.index;
    this.memory = batch.memory;
  }

  offsetOf(i: number): number {
    return this.#kernel.u32[(this.#entry(i) + layout.ENTRY_OFFSET) >>> 2] as number;
  }
  lengthOf(i: number): number {
    return this.#kernel.u32[(this.#entry(i) + layout.ENTRY_LENGTH) >>> 2] as number;
  }
  sequenceOf(i: number): number {
    return this.#kernel.f64[(this.#entry(i) + layout.ENTRY_SEQUENCE) >>> 3] as number;
  }
  timestampUsOf(i: number): number {
    return this.#kernel.f64[(this.#entry(i) + layout.ENTRY_TIMESTAMP) >>> 3] as number;
  }
  sourceIdOf(i: number): string {
    return this.#source(i).id;
  }
  contentTypeOf(i: number): string {
    return this.#source(i).contentType;
  }
  payloadOf(i: number): Uint8Array {
    const offset = this.offsetOf(i);
    return this.memory.subarray(offset, offset + this.lengthOf(i));
  }

  #source(i: number): AssembledSource {
    const at = (this.#entry(i) + layout.ENTRY_DECLARATION) >>> 2;
    return this.#peer.sourceOf(this.#kernel.u32[at] as number);
  }

  #entry(i: number): number {
    return this.#entries + i * layout.ENTRY_BYTES;
  }
}
