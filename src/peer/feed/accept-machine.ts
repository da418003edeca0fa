/**
 * The source peer's side of R11: data sources on links of their own register, send, and are told
 * what was accepted and what peers hold.
 *
 * A link says REGISTER within HANDSHAKE_TIMEOUT_MS or is closed. A data source outlives its links:
 * what was accepted over one is not lost with it, and the next one is told where to go on. Of two
 * links for one id the one of the same run (`instance`) replaces the other at once; a stranger is
 * let in only when the first does not answer a PING within FEED_PROBE_MS, and from then on the first
 * is no more: it would take what came of the other for its own.
 *
 * Back-pressure: data that the overlay does not take wait here, and nothing more is granted than
 * there is room for. Whoever breaks the protocol gets ERROR and is closed; no other link notices.
 */

import { Deadlines } from "../../base/deadlines.ts";
import { type ErrorCode, RemoteProtocolError } from "../../base/errors.ts";
import { FRAME_TYPES, FRAME_VERSION, FRAME_VERSION_MIN, PING_BYTES } from "../../base/layout.ts";
import {
  FEED_CREDIT_BYTES,
  FEED_CREDIT_BYTES_MIN,
  FEED_CREDIT_TOTAL_BYTES,
  FEED_FORGET_MS,
  FEED_PROBE_MS,
  HANDSHAKE_TIMEOUT_MS,
  SOURCES_MAX,
} from "../../base/limits.ts";
import { type Frames, type Input, type LinkId, MachineBase, type Now } from "../../base/machine.ts";
import { bytesEqual, type MonoMs } from "../../base/units.ts";
import { decodeFrame } from "../../protocol/r10.ts";
import { readFrameHeader } from "../../protocol/r10-binary.ts";
import {
  DatumFrame,
  REGISTER,
  type Register,
  readDatumFrame,
  TERMINATE,
  TERMINATE_SCOPES,
  type Terminate,
} from "../../protocol/r11.ts";
import { AcceptSource } from "./accept-source.ts";
import {
  type AcceptCommand,
  type AcceptCounters,
  type AcceptEvent,
  type AcceptOptions,
  type RemoteSourceReport,
  zeroAcceptCounters,
} from "./accept-types.ts";
import { AssemblyBudget } from "./assembly-budget.ts";
import { FeedLink } from "./feed-link.ts";

/** Of one source at a time: then the others', and local ones' turn comes. */
const DRAIN_BYTES = FEED_CREDIT_BYTES_MIN;
/** What waits is looked at again after this, whoever said nothing. */
const DRAIN_AGAIN_MS = 50;
const WATCH_MS = 500;
const SESSION_OVER = "the session is over; wait for the next one";

interface Row {
  readonly link: FeedLink;
  readonly sinceMs: MonoMs;
  source: AcceptSource | undefined;
  /** Asked to be this source's while another link may live. */
  waiting: { readonly register: Register; readonly untilMs: MonoMs } | undefined;
}

export class AcceptMachine extends MachineBase<AcceptCommand, AcceptEvent> {
  readonly counters: AcceptCounters = zeroAcceptCounters();
  readonly #options: AcceptOptions;
  readonly #rows = new Map<LinkId, Row>();
  readonly #sources = new Map<string, AcceptSource>();
  readonly #budget = new AssemblyBudget();
  readonly #frame = new DatumFrame();
  readonly #deadlines = new Deadlines<"drain" | "watch">();
  /** Sources to be told something at the end of this input. */
  readonly #touched = new Set<AcceptSource>();
  #nowMs: MonoMs = 0;
  /** Who comes first when there is room moves on, or the last would never get any. */
  #turn = 0;
  /** When the next source may be forgotten. */
  #forgetMs: MonoMs = 0;
  #stopped = false;
  #saidDrained = false;
  #finished = false;

  constructor(options: AcceptOptions) {
    super();
    this.#options = options;
  }

  reports(): RemoteSourceReport[] {
    return [...this.#sources.values()].map((source) => source.report());
  }

  protected override nextDeadlineMs(): MonoMs {
    return this.#deadlines.earliestMs();
  }

  protected override step(input: Input<AcceptCommand>, now: Now): void {
    this.#nowMs = now.monoMs;
    switch (input.kind) {
      case "frames":
        this.#frames(input);
        break;
      case "sent":
        this.#rows.get(input.linkId)?.link.sent(input.totalBytes);
        break;
      case "linkUp":
        this.#linkUp(input.linkId);
        break;
      case "linkDown":
        this.#linkDown(input.linkId, input.code);
        break;
      case "command":
        this.#command(input.command);
        break;
      default:
        break;
    }
    if (this.#deadlines.take("drain", this.#nowMs)) this.#drain();
    if (this.#deadlines.take("watch", this.#nowMs)) this.#watch();
    this.#settle();
  }

  // ------------------------------------------------------------------------------ links

  #linkUp(linkId: LinkId): void {
    const link = new FeedLink(
      linkId,
      {
        transmit: (to, bytes) => this.emit({ kind: "transmit", linkId: to, bytes }),
        close: (to, abort) => this.emit({ kind: "close", linkId: to, abort }),
      },
      this.#nowMs,
    );
    this.#rows.set(linkId, { link, sinceMs: this.#nowMs, source: undefined, waiting: undefined });
    this.#deadlines.setIfEarlier("watch", this.#nowMs + WATCH_MS);
    if (this.#finished) link.refuse("SOURCE_ENDED", SESSION_OVER);
  }

  #linkDown(linkId: LinkId, code: ErrorCode): void {
    const row = this.#rows.get(linkId);
    if (row === undefined) return;
    this.#rows.delete(linkId);
    row.link.closed = true;
    if (code === "FRAME_MALFORMED" || code === "FRAME_TOO_LARGE") this.counters.malformedFrames++;
    this.#detach(row, code);
  }

  #detach(row: Row, detail: string): void {
    const { source } = row;
    row.source = undefined;
    row.waiting = undefined;
    if (source === undefined || source.link !== row.link) return;
    source.unlinked();
    if (source.admitted) this.#sourceLink(source, "down", detail);
  }

  #fail(row: Row, code: ErrorCode, detail: string): void {
    row.link.refuse(code, detail);
    this.emit({ kind: "event", event: { kind: "linkRefused", code, detail } });
    this.#detach(row, code);
  }

  #watch(): void {
    const nowMs = this.#nowMs;
    for (const row of this.#rows.values()) {
      const { link, source } = row;
      if (link.closed) continue;
      if (!link.watch(nowMs)) {
        this.counters.deadLinks++;
        this.#fail(row, "LINK_HALF_OPEN", "does not answer");
      } else if (link.isSlow) {
        this.counters.slowLinks++;
        link.close(true);
        this.#detach(row, "LINK_SLOW");
      } else if (row.waiting !== undefined) {
        this.#probe(row, row.waiting);
      } else if (source === undefined) {
        if (nowMs - row.sinceMs >= HANDSHAKE_TIMEOUT_MS) {
          this.counters.refusedLinks++;
          this.#fail(row, "TIMEOUT", "REGISTER did not come");
        }
      } else {
        const detail = source.stuckText(nowMs);
        if (detail === undefined) continue;
        this.counters.stuckData++;
        this.#fail(row, "TIMEOUT", detail);
      }
    }
    if (this.#rows.size > 0) this.#deadlines.set("watch", nowMs + WATCH_MS);
  }

  // ------------------------------------------------------------------------------ frames

  #frames(input: Frames): void {
    const row = this.#rows.get(input.linkId);
    if (row === undefined || row.link.closed) return;
    row.link.heard(this.#nowMs);
    for (let i = 0; i < input.count && !row.link.closed; i++) {
      const offset = input.ranges[2 * i] as number;
      const bytes = input.ranges[2 * i + 1] as number;
      this.#guarded(row, () => this.#frameIn(row, input.memory, offset, bytes));
    }
  }

  /** What a link does wrong ends that link. */
  #guarded(row: Row, act: () => void): void {
    try {
      act();
    } catch (error) {
      if (!(error instanceof RemoteProtocolError)) throw error;
      this.#count(error.code);
      this.#fail(row, error.code, error.detail ?? "");
    }
  }

  #count(code: ErrorCode): void {
    const { counters } = this;
    if (code === "CREDIT_EXCEEDED") counters.creditExceeded++;
    else if (code === "SEQUENCE_SKIPPED") counters.sequenceErrors++;
    else if (code === "FRAME_MALFORMED" || code === "MESSAGE_MALFORMED") counters.malformedFrames++;
    else counters.refusedLinks++;
  }

  #frameIn(row: Row, memory: Uint8Array, offset: number, bytes: number): void {
    const type = readFrameHeader(memory, offset, bytes);
    const { source } = row;
    if (type === FRAME_TYPES.DATUM) {
      if (source?.admitted !== true) {
        throw new RemoteProtocolError("SOURCE_UNREGISTERED", { detail: "DATUM before REGISTERED" });
      }
      if (this.#stopped) {
        this.counters.ignoredFrames++;
        return;
      }
      readDatumFrame(memory, offset, bytes, this.#frame);
      source.take(memory, this.#frame, bytes);
      this.#touched.add(source);
      return;
    }
    switch (type) {
      case FRAME_TYPES.REGISTER:
        if (source !== undefined || row.waiting !== undefined) {
          throw new RemoteProtocolError("FRAME_UNEXPECTED", { detail: "REGISTER twice" });
        }
        this.#register(row, decodeFrame(REGISTER, memory, offset, bytes));
        return;
      case FRAME_TYPES.TERMINATE:
        if (source?.admitted !== true) {
          throw new RemoteProtocolError("SOURCE_UNREGISTERED", { detail: "TERMINATE" });
        }
        this.#terminate(source, decodeFrame(TERMINATE, memory, offset, bytes));
        return;
      case FRAME_TYPES.PING:
      case FRAME_TYPES.PONG:
        if (bytes !== PING_BYTES) {
          throw new RemoteProtocolError("FRAME_MALFORMED", { detail: "PING or PONG" });
        }
        if (type === FRAME_TYPES.PING) row.link.pong(memory, offset, this.#nowMs);
        return;
      case FRAME_TYPES.ERROR:
        row.link.close(false);
        this.#detach(row, "ERROR of the data source");
        return;
      default:
        throw new RemoteProtocolError("FRAME_UNEXPECTED", { detail: `type ${type}` });
    }
  }

  // ------------------------------------------------------------------------------ REGISTER

  #register(row: Row, register: Register): void {
    if (register.versionMin > FRAME_VERSION || register.version < FRAME_VERSION_MIN) {
      const detail = `${register.versionMin} to ${register.version}`;
      throw new RemoteProtocolError("VERSION_UNSUPPORTED", { detail });
    }
    const { sourceId } = register;
    if (this.#options.isLocal(sourceId)) {
      throw new RemoteProtocolError("SOURCE_REGISTERED", { detail: sourceId });
    }
    const source = this.#sources.get(sourceId);
    if (source === undefined) {
      this.#registerNew(row, register);
      return;
    }
    if (source.isPast(register.instance)) {
      const detail = `another run goes on with ${sourceId} in place of this one`;
      throw new RemoteProtocolError("SOURCE_REGISTERED", { detail });
    }
    const present = source.link;
    if (present === undefined || bytesEqual(source.instance, register.instance)) {
      this.#replace(source, row, register);
      return;
    }
    if ([...this.#rows.values()].some(({ waiting }) => waiting?.register.sourceId === sourceId)) {
      throw new RemoteProtocolError("SOURCE_REGISTERED", { detail: sourceId });
    }
    present.ping(this.#nowMs);
    row.waiting = { register, untilMs: this.#nowMs + FEED_PROBE_MS };
  }

  #registerNew(row: Row, register: Register): void {
    const { sourceId, dataId, contentType, description, held } = register;
    if (this.#stopped) throw new RemoteProtocolError("SOURCE_ENDED", { detail: SESSION_OVER });
    this.#makeRoom();
    const source = new AcceptSource(register, this.#options, this.#budget, this.counters);
    this.#sources.set(sourceId, source);
    source.link = row.link;
    row.source = source;
    const { numbering } = source;
    const asked = { sourceId, dataId, contentType, description, held, numbering };
    this.emit({ kind: "event", event: { kind: "register", ...asked } });
  }

  /**
   * Of as many sources as there may be one that never sent anything and is gone makes room; not
   * faster than FEED_FORGET_MS, for each leaves a trace at the index server.
   */
  #makeRoom(): void {
    const count = this.#sources.size + (this.#options.localCount?.() ?? 0);
    if (count < SOURCES_MAX) return;
    const idle = [...this.#sources.values()].find(({ isIdle }) => isIdle);
    if (idle === undefined || this.#nowMs < this.#forgetMs) {
      const detail = `there are ${SOURCES_MAX} data sources`;
      throw new RemoteProtocolError("OVERLOADED", { detail });
    }
    this.#forgetMs = this.#nowMs + FEED_FORGET_MS;
    this.#sources.delete(idle.sourceId);
    this.emit({ kind: "event", event: { kind: "forgotten", sourceId: idle.sourceId } });
  }

  /** Whether the link that stands in the way of this one has shown that it lives, or has not. */
  #probe(row: Row, { register, untilMs }: NonNullable<Row["waiting"]>): void {
    const source = this.#sources.get(register.sourceId);
    const present = source?.link;
    if (source === undefined || present === undefined) {
      row.waiting = undefined;
      this.#guarded(row, () => this.#register(row, register));
      return;
    }
    if (present.heardMs > untilMs - FEED_PROBE_MS) {
      this.counters.refusedLinks++;
      this.#fail(row, "SOURCE_REGISTERED", "a data source with this id is linked");
    } else if (this.#nowMs >= untilMs) {
      row.waiting = undefined;
      this.#guarded(row, () => this.#replace(source, row, register));
    }
  }

  #replace(source: AcceptSource, row: Row, register: Register): void {
    const before = source.link;
    if (before !== undefined) {
      const old = this.#rows.get(before.linkId);
      before.refuse("DUPLICATE_LINK", source.sourceId);
      if (old !== undefined) this.#detach(old, "DUPLICATE_LINK");
    }
    source.link = row.link;
    if (source.takenBy(register.instance)) {
      this.emit({ kind: "event", event: { kind: "otherRun", sourceId: source.sourceId } });
    }
    row.source = source;
    if (source.admitted) this.#welcome(source);
  }

  #welcome(source: AcceptSource): void {
    if (source.link === undefined) return;
    source.welcome(this.#creditBytes());
    this.#sourceLink(source, "up", "");
  }

  #sourceLink(source: AcceptSource, state: "up" | "down", detail: string): void {
    const { sourceId } = source;
    this.emit({ kind: "event", event: { kind: "sourceLink", sourceId, state, detail } });
  }

  #creditBytes(): number {
    const share = Math.floor(FEED_CREDIT_TOTAL_BYTES / Math.max(1, this.#sources.size));
    return Math.max(FEED_CREDIT_BYTES_MIN, Math.min(FEED_CREDIT_BYTES, share));
  }

  // ------------------------------------------------------------------------------ TERMINATE

  #terminate(source: AcceptSource, order: Terminate): void {
    if (order.last !== source.accepted && !this.#stopped) {
      throw new RemoteProtocolError("SEQUENCE_SKIPPED", {
        detail: `ended with ${order.last}, ${source.accepted} is the last that came`,
      });
    }
    if (order.scope === TERMINATE_SCOPES.session && !this.#options.mayEndSession) {
      throw new RemoteProtocolError("NOT_OWNER", { detail: "the session ends with its owner" });
    }
    // After "stop" the session ends anyway: it is told like the others.
    if (this.#stopped && order.last !== source.accepted) return;
    source.terminate = order;
    this.#touched.add(source);
  }

  // ------------------------------------------------------------------------------ commands

  #command(command: AcceptCommand): void {
    switch (command.kind) {
      case "admit": {
        const source = this.#sources.get(command.sourceId);
        if (source === undefined || source.admitted) return;
        source.startAt(command.next);
        this.#welcome(source);
        return;
      }
      case "refuse": {
        const source = this.#sources.get(command.sourceId);
        if (source === undefined || source.admitted) return;
        this.#sources.delete(command.sourceId);
        const row = source.link === undefined ? undefined : this.#rows.get(source.link.linkId);
        if (row === undefined) return;
        this.counters.refusedLinks++;
        this.#fail(row, command.code, command.detail);
        return;
      }
      case "writable":
        this.#drain();
        return;
      case "heldUpTo": {
        const source = this.#sources.get(command.sourceId);
        source?.heldUpTo(command.sequence);
        if (source !== undefined) this.#touched.add(source);
        return;
      }
      case "sourceIsOver": {
        const source = this.#sources.get(command.sourceId);
        if (source === undefined) return;
        source.isOver = true;
        this.#touched.add(source);
        return;
      }
      case "stop":
        this.#stopped = true;
        return;
      case "finish":
        this.#finish(command.failure);
        return;
    }
  }

  #finish(failure: { readonly code: ErrorCode; readonly detail: string } | undefined): void {
    this.#stopped = true;
    this.#finished = true;
    for (const row of this.#rows.values()) {
      const { source, link } = row;
      if (failure !== undefined) link.refuse(failure.code, failure.detail);
      else if (source?.admitted === true) source.farewell(this.#creditBytes(), this.#nowMs);
      else link.refuse("SOURCE_ENDED", SESSION_OVER);
    }
  }

  // ------------------------------------------------------------------------------ data on

  /** Some of each source's, in turn; the rest in a turn of its own, so that others get theirs. */
  #drain(): void {
    let more = false;
    let waits = false;
    const sources = [...this.#sources.values()];
    this.#turn++;
    for (let i = 0; i < sources.length; i++) {
      const source = sources[(this.#turn + i) % sources.length] as AcceptSource;
      if (source.queue.isEmpty) continue;
      if (source.queue.drain(DRAIN_BYTES)) more = true;
      if (!source.queue.isEmpty) waits = true;
      this.#touched.add(source);
    }
    if (more) this.#deadlines.set("drain", this.#nowMs);
    else if (waits) this.#deadlines.setIfEarlier("drain", this.#nowMs + DRAIN_AGAIN_MS);
  }

  #settle(): void {
    if (this.#touched.size > 0) {
      const creditBytes = this.#creditBytes();
      for (const source of this.#touched) {
        if (source.queue.isEmpty) this.#carryOut(source);
        else this.#deadlines.setIfEarlier("drain", this.#nowMs + DRAIN_AGAIN_MS);
        source.tell(creditBytes, this.#nowMs);
      }
      this.#touched.clear();
    }
    if (!this.#stopped || this.#saidDrained) return;
    for (const source of this.#sources.values()) if (!source.queue.isEmpty) return;
    this.#saidDrained = true;
    this.emit({ kind: "event", event: { kind: "drained" } });
  }

  #carryOut(source: AcceptSource): void {
    const { terminate, sourceId } = source;
    if (terminate === undefined || source.ordered.has(terminate.scope)) return;
    const { scope } = terminate;
    source.ordered.add(scope);
    this.emit({ kind: "event", event: { kind: "terminate", sourceId, scope } });
  }
}
