/**
 * The source peer's side of an overlay: registered data sources, merging and slicing, END.
 *
 * It receives no fragment from anybody (P0.1). Data leave at once when the way out is idle and are
 * merged under load (P0.7). When the window is full a write is not accepted: so back-pressure
 * reaches the producer. Without a member in good standing it holds, at most `holdMs`.
 */

import { LocalUsageError } from "../base/errors.ts";
import { DATUM_BYTES_MAX } from "../base/limits.ts";
import type { FragmentIndex, MemoryOffset, MonoMs, SequenceNumber } from "../base/units.ts";
import { FragmentMerger } from "../stream/merger.ts";
import { type DataSourceEntry, SourceTable } from "../stream/source-table.ts";
import type { FragmentWindow } from "../stream/window.ts";
import type { RegisterDataSource, Write } from "./commands.ts";
import type { PeerContext } from "./context.ts";
import { HeldWatch } from "./held.ts";
import type { Neighbour } from "./neighbour.ts";
import type { OverlaySettings } from "./settings.ts";

export interface SourceOutlet {
  /** Own fragments are ready to be pushed; the reference passes to the callee. */
  produced(index: FragmentIndex, offset: MemoryOffset, bytes: number): void;
  sourceEnded(source: DataSourceEntry): void;
}

export class SourceRole {
  readonly #context: PeerContext;
  readonly #window: FragmentWindow;
  readonly #settings: OverlaySettings;
  readonly #outlet: SourceOutlet;
  readonly #sources = new SourceTable();
  readonly #merger: FragmentMerger;
  /** How far others hold what was made here, when somebody asked. */
  #held: HeldWatch | undefined;
  /** Sealed and not yet checksummed: triples (index, offset, bytes). */
  #sealed: number[] = [];
  readonly #ending: DataSourceEntry[] = [];
  #sessionEnding = false;
  #endIndex: FragmentIndex | undefined;
  #dataTo: FragmentIndex = 0;
  /** Registered, and named in no fragment. */
  readonly #unused = new Set<DataSourceEntry>();
  #starved = false;
  #closed = false;

  constructor(
    context: PeerContext,
    window: FragmentWindow,
    settings: OverlaySettings,
    tag: Uint8Array,
    outlet: SourceOutlet,
  ) {
    this.#context = context;
    this.#window = window;
    this.#settings = settings;
    this.#outlet = outlet;
    this.#merger = new FragmentMerger(context.memory, tag, settings.fragmentBytes, {
      mayOpen: (index) => index < window.limit,
      sealed: (index, offset, bytes) => {
        this.#sealed.push(index, offset, bytes);
        this.#held?.sealed(index);
      },
    });
  }

  /** One past the last index that was sealed. */
  get produced(): FragmentIndex {
    return this.#merger.nextIndex;
  }
  /** Index of END once it is sealed. */
  get endIndex(): FragmentIndex | undefined {
    return this.#endIndex;
  }
  get sources(): SourceTable {
    return this.#sources;
  }
  /** Whether a datum was ever written. */
  get hasData(): boolean {
    return this.#dataTo > 0;
  }
  /** One past the fragment that the last datum taken is in, or its next part; 0 without data. */
  get dataTo(): FragmentIndex {
    return this.#dataTo;
  }
  /** Whether a write was refused and "writable" is owed. */
  get isStarved(): boolean {
    return this.#starved;
  }
  /** Whether END is asked for and everything before it is in. */
  get isEnding(): boolean {
    return this.#sessionEnding;
  }
  /** When the open fragment must leave at the latest; Infinity when none is open. */
  get flushMs(): MonoMs {
    if (!this.#merger.hasOpenData) return Number.POSITIVE_INFINITY;
    return this.#merger.openedMs + this.#settings.maxDelayMs;
  }

  register(command: RegisterDataSource): void {
    if (this.#sessionEnding) throw new LocalUsageError("SOURCE_ENDED", { detail: "the session" });
    const source = this.#sources.register(command.sourceId, command.contentType);
    if (command.firstSequence !== undefined) source.nextSequence = command.firstSequence;
    source.numbering = command.numbering ?? 0;
    this.#held?.add(source);
    this.#unused.add(source);
  }

  /** Takes a registration back; one that a fragment may name stays. */
  unregister(sourceId: string): void {
    const source = this.#sources.find(sourceId);
    if (source === undefined || !this.#unused.delete(source)) return;
    this.#sources.remove(source);
    this.#held?.remove(source);
  }

  /** Another run goes on with a data source: its numbers need not stand for the same. */
  forgetNumbering(sourceId: string): void {
    const source = this.#sources.find(sourceId);
    if (source !== undefined) source.numbering = 0;
  }

  /**
   * Tells with the event "held", from now on, how far at least `minHolders` of `neighbours` (the
   * overlay's own list) hold what was made here.
   */
  watchHeld(neighbours: readonly Neighbour[], minHolders: number): void {
    this.#held ??= new HeldWatch(this.#window, neighbours, minHolders, this.#sources.entries());
  }

  /**
   * Up to which sequence number others hold all of a source. Only after watchHeld(); 0 for a source
   * that is not registered.
   */
  heldSequence(sourceId: string): SequenceNumber {
    const source = this.#sources.find(sourceId);
    return source === undefined ? 0 : (this.#held?.sequenceOf(source) ?? 0);
  }

  /**
   * Fills in command.accepted and command.credit. Returns whether run() has nothing to do for it:
   * the data joined an open fragment, which waits for a busy way out or its time. Errors:
   * SOURCE_UNREGISTERED, SOURCE_ENDED.
   */
  write(command: Write): boolean {
    const source = this.#registered(command.sourceId);
    if (this.#sessionEnding || source.ended || this.#ending.includes(source)) {
      throw new LocalUsageError("SOURCE_ENDED", { detail: source.id });
    }
    checkWrite(command);
    const { contentType, contentTypeBytes } = source;
    if (command.contentType !== undefined) {
      this.#sources.setContentType(source, command.contentType);
    }
    this.#tick();
    const open = this.#merger.hasOpenData ? this.#merger.nextIndex : -1;
    const { payloads, lengths } = command;
    const timestampUs = Math.floor(command.timestampUs);
    command.accepted =
      lengths.length === 1
        ? Number(this.#merger.write(source, payloads.subarray(0, lengths[0]), timestampUs))
        : this.#merger.writeBatch(source, payloads, lengths, timestampUs);
    if (command.accepted > 0) {
      this.#dataTo = this.#merger.nextIndex + 1;
      this.#unused.delete(source);
    } else {
      // What was not taken leaves no trace; the rest of a datum under way keeps its type.
      source.contentType = contentType;
      source.contentTypeBytes = contentTypeBytes;
    }
    command.credit = this.#credit();
    if (command.accepted < command.lengths.length || command.credit === 0) this.#starved = true;
    const joined = this.#merger.nextIndex === open && !this.#merger.isSlicing;
    return joined && !this.#starved && this.#sealed.length === 0;
  }

  endSource(sourceId: string): void {
    const source = this.#registered(sourceId);
    this.#unused.delete(source);
    if (!source.ended && !this.#ending.includes(source)) this.#ending.push(source);
  }

  endSession(): void {
    this.#sessionEnding = true;
    this.#unused.clear();
    for (const source of this.#sources.entries()) {
      if (!source.ended && !this.#ending.includes(source)) this.#ending.push(source);
    }
  }

  /**
   * Goes on with what waits: a datum under way, ends, the open fragment (at once when `idle`).
   */
  run(idle: boolean): void {
    this.#tick();
    const merger = this.#merger;
    const isSlicing = merger.isSlicing;
    const isThrough = merger.pump();
    if (isSlicing) this.#dataTo = merger.nextIndex + 1;
    if (isThrough) this.#runEnds();
    if (merger.hasOpenData && !merger.isSlicing) {
      const due = this.#context.now.monoMs >= this.flushMs;
      if (idle || due || this.#ending.length > 0) merger.flush();
    }
    this.#finishSealed();
    if (this.#held?.look(this.#context.now.monoMs) === true) {
      this.#context.event({ kind: "held", overlayId: this.#settings.overlayId });
    }
  }

  /** Whether "writable" is owed and due. */
  get mayWakeWriter(): boolean {
    return this.#starved && this.#credit() > 0;
  }

  /** "writable" is told now: the writer that was refused may write again. */
  writerWakes(): void {
    this.#starved = false;
  }

  close(): void {
    this.#closed = true;
    for (let i = 0; i < this.#sealed.length; i += 3) {
      this.#context.memory.release(this.#sealed[i + 1] as number, this.#sealed[i + 2] as number);
    }
    this.#sealed = [];
    this.#merger.close();
  }

  #runEnds(): void {
    while (this.#ending.length > 0) {
      const source = this.#ending[0] as DataSourceEntry;
      if (!this.#merger.endSource(source)) return;
      this.#ending.shift();
      this.#outlet.sourceEnded(source);
    }
    if (!this.#sessionEnding || this.#endIndex !== undefined) return;
    if (this.#merger.finish(this.#sources.entries())) this.#endIndex = this.#merger.nextIndex - 1;
  }

  /** Hands sealed fragments on, by way of the checksum job where integrity asks for one. */
  #finishSealed(): void {
    const sealed = this.#sealed;
    if (sealed.length === 0) return;
    this.#sealed = [];
    if (this.#settings.integrity !== "checksum") {
      this.#hand(sealed);
      return;
    }
    const ranges = new Uint32Array((sealed.length / 3) * 2);
    for (let i = 0, r = 0; i < sealed.length; i += 3) {
      ranges[r++] = sealed[i + 1] as number;
      ranges[r++] = sealed[i + 2] as number;
    }
    const compute = (): void => {
      this.#context.job({ kind: "checksumFragments", ranges }, (result) => {
        // A pool that failed says so; nothing is lost by computing it again.
        if (result.kind === "checksumFragments" || this.#closed) this.#hand(sealed);
        else compute();
      });
    };
    compute();
  }

  #hand(sealed: number[]): void {
    for (let i = 0; i < sealed.length; i += 3) {
      const index = sealed[i] as number;
      const offset = sealed[i + 1] as number;
      const bytes = sealed[i + 2] as number;
      const isLate = !this.#closed && index < this.#window.start;
      // Live: the window moved on meanwhile, for others were done first. Neighbours heard GONE then.
      if (isLate) this.#context.counters.lateFragments++;
      if (isLate || this.#closed) this.#context.memory.release(offset, bytes);
      else this.#outlet.produced(index, offset, bytes);
    }
  }

  #credit(): number {
    if (this.#merger.isSlicing) return 0;
    return Math.max(0, this.#window.limit - this.#merger.nextIndex);
  }

  #tick(): void {
    this.#merger.setTime(this.#context.now.monoMs, this.#context.now.wallUs);
  }

  #registered(sourceId: string): DataSourceEntry {
    const source = this.#sources.find(sourceId);
    if (source === undefined) {
      throw new LocalUsageError("SOURCE_UNREGISTERED", { detail: sourceId });
    }
    return source;
  }
}

/** Throws USAGE or DATUM_TOO_LARGE for what can not be written, before any of it is taken. */
function checkWrite(command: Write): void {
  const { lengths, payloads, timestampUs } = command;
  let bytes = 0;
  for (let i = 0; i < lengths.length; i++) {
    const length = lengths[i] as number;
    if (length > DATUM_BYTES_MAX) {
      throw new LocalUsageError("DATUM_TOO_LARGE", { detail: `${length} bytes` });
    }
    bytes += length;
  }
  if (bytes > payloads.length) {
    throw new LocalUsageError("USAGE", {
      detail: `lengths add up to ${bytes} bytes, payloads have ${payloads.length}`,
    });
  }
  if (!(timestampUs >= 0 && timestampUs <= Number.MAX_SAFE_INTEGER)) {
    throw new LocalUsageError("USAGE", { detail: `timestampUs ${timestampUs}` });
  }
}
