/**
 * A data source's side of R11: registers, sends as much as it is granted, keeps what no peer is
 * known to hold, and after a lost link or a source peer started anew goes on where it is told to.
 *
 * Sequence numbers are given here, from where the first REGISTERED says. So who can make its data
 * again (a file) skips what the source peer has; who can not goes on counting.
 *
 * Small data are merged as on the way from a source peer: at once when the link is idle, else until
 * a frame is full or the oldest has waited maxDelayMs. Nothing is lost or doubled here as long as
 * this machine lives; what a killed one had not brought to ACCEPTED is for its user to bring again.
 */

import { Deadlines } from "../../base/deadlines.ts";
import {
  ERRORS,
  type ErrorCode,
  isErrorCode,
  LocalUsageError,
  RemoteProtocolError,
} from "../../base/errors.ts";
import { FRAME_TYPES, FRAME_VERSION, FRAME_VERSION_MIN, PING_BYTES } from "../../base/layout.ts";
import { DATUM_BYTES_MAX, HANDSHAKE_TIMEOUT_MS, LINK_QUEUE_BYTES_MAX } from "../../base/limits.ts";
import { type Frames, type Input, type LinkId, MachineBase, type Now } from "../../base/machine.ts";
import type { MonoMs, SequenceNumber } from "../../base/units.ts";
import { decodeFrame, ERROR, encodeFrame } from "../../protocol/r10.ts";
import { readFrameHeader } from "../../protocol/r10-binary.ts";
import {
  ACCEPTED,
  HELD,
  INSTANCE_BYTES,
  putNumbering,
  REGISTER,
  REGISTERED,
  type Registered,
  TERMINATE,
  TERMINATE_SCOPES,
  type TerminateScope,
} from "../../protocol/r11.ts";
import { FeedLink } from "./feed-link.ts";
import {
  endedText,
  type FeedCommand,
  type FeedEvent,
  type FeedMachineOptions,
  type FeedWrite,
} from "./feed-types.ts";
import { FrameStore } from "./frame-store.ts";

const BACKOFF_MIN_MS = 50;
const BACKOFF_MAX_MS = 5_000;

type Phase = "idle" | "opening" | "registering" | "up" | "waiting" | "over";

export class FeedMachine extends MachineBase<FeedCommand, FeedEvent> {
  readonly #options: FeedMachineOptions;
  readonly #instance: Uint8Array;
  readonly #store = new FrameStore();
  readonly #deadlines = new Deadlines<"retry" | "flush" | "watch">();
  #now: Now = { monoMs: 0, wallUs: 0 };
  #phase: Phase = "idle";
  #link: FeedLink | undefined;
  #nextLinkId: LinkId = 1;
  #attempts = 0;
  #lostSinceMs: MonoMs = 0;
  /** Whether numbers are known: it was registered once. */
  #numbered = false;
  /** Overlay and epoch in which it was registered last. */
  #session: string | undefined;
  #accepted: SequenceNumber = 0;
  #held: SequenceNumber;
  /** Of DATUM frames on the present link. */
  #sentBytes = 0;
  #grantedBytes = 0;
  #starved = false;
  #wantedBytes = 0;
  #end: TerminateScope | undefined;
  #endSent = false;

  constructor(options: FeedMachineOptions) {
    super();
    this.#options = options;
    this.#instance = instanceOf(options);
    this.#held = options.held;
    // Throws USAGE for what no REGISTER can say, now and not when the link is up.
    this.#register();
  }

  get next(): SequenceNumber {
    return this.#store.next;
  }
  get accepted(): SequenceNumber {
    return this.#accepted;
  }
  get held(): SequenceNumber {
    return this.#held;
  }
  get keptBytes(): number {
    return this.#store.bytes;
  }
  get isUp(): boolean {
    return this.#phase === "up";
  }

  protected override nextDeadlineMs(): MonoMs {
    return this.#deadlines.earliestMs();
  }

  protected override step(input: Input<FeedCommand>, now: Now): void {
    this.#now = now;
    switch (input.kind) {
      case "command":
        this.#command(input.command);
        break;
      case "linkUp":
        if (input.linkId === this.#link?.linkId) this.#linkUp();
        break;
      case "linkDown":
        if (input.linkId === this.#link?.linkId) this.#lost(input.code, input.detail);
        break;
      case "frames":
        if (input.linkId === this.#link?.linkId) this.#frames(input, this.#link);
        break;
      case "sent":
        if (input.linkId === this.#link?.linkId) this.#link.sent(input.totalBytes);
        break;
      default:
        break;
    }
    if (this.#deadlines.take("retry", now.monoMs)) this.#open();
    if (this.#deadlines.take("watch", now.monoMs)) this.#watch();
    this.#send();
    if (this.#starved && this.#numbered && this.#hasRoom) {
      this.#starved = false;
      this.#event({ kind: "writable" });
    }
  }

  // ------------------------------------------------------------------------------ commands

  #command(command: FeedCommand): void {
    switch (command.kind) {
      case "start":
        if (this.#phase !== "idle") return;
        this.#lostSinceMs = this.#now.monoMs;
        this.#open();
        return;
      case "write":
        this.#write(command);
        return;
      case "end":
        if (this.#end === undefined) this.#end = command.scope;
        return;
      case "close":
        this.#over();
        this.#link?.close(false);
        return;
    }
  }

  #write(command: FeedWrite): void {
    if (this.#phase === "over" || this.#end !== undefined) {
      throw new LocalUsageError("SOURCE_ENDED", { detail: this.#options.sourceId });
    }
    let bytes = 0;
    for (const length of command.lengths) {
      if (length > DATUM_BYTES_MAX) {
        throw new LocalUsageError("DATUM_TOO_LARGE", { detail: `${length} bytes` });
      }
      bytes += length;
    }
    if (bytes > command.payloads.length) {
      throw new LocalUsageError("USAGE", {
        detail: `lengths add up to ${bytes} bytes, payloads have ${command.payloads.length}`,
      });
    }
    const { timestampUs } = command;
    if (
      timestampUs !== undefined &&
      !(timestampUs >= 1 && timestampUs <= Number.MAX_SAFE_INTEGER)
    ) {
      throw new LocalUsageError("USAGE", { detail: `timestampUs ${timestampUs}` });
    }
    const { payloads, lengths } = command;
    const { keepBytes } = this.#options;
    command.accepted = this.#numbered
      ? this.#store.write(payloads, lengths, timestampUs, this.#now, keepBytes)
      : 0;
    if (command.accepted === lengths.length) return;
    this.#starved = true;
    this.#wantedBytes = lengths[command.accepted] as number;
  }

  /** For the datum that was refused; in steps, so that a writer who waits gets more than that. */
  get #hasRoom(): boolean {
    const { bytes } = this.#store;
    const { keepBytes } = this.#options;
    if (bytes === 0) return true;
    return bytes <= keepBytes * 0.75 && bytes + this.#wantedBytes <= keepBytes;
  }

  // ------------------------------------------------------------------------------ the link

  #open(): void {
    const linkId = this.#nextLinkId;
    this.#nextLinkId += 2;
    this.#phase = "opening";
    this.#link = new FeedLink(
      linkId,
      {
        transmit: (to, bytes) => this.emit({ kind: "transmit", linkId: to, bytes }),
        close: (to, abort) => this.emit({ kind: "close", linkId: to, abort }),
      },
      this.#now.monoMs,
    );
    this.emit({ kind: "open", linkId, address: this.#options.to });
  }

  #linkUp(): void {
    this.#phase = "registering";
    this.#link?.heard(this.#now.monoMs);
    this.#link?.transmit(this.#register());
    this.#deadlines.set("watch", this.#now.monoMs + HANDSHAKE_TIMEOUT_MS);
  }

  #register(): Uint8Array {
    const { sourceId, dataId, contentType, description } = this.#options;
    return encodeFrame(REGISTER, {
      versionMin: FRAME_VERSION_MIN,
      version: FRAME_VERSION,
      sourceId,
      dataId,
      contentType,
      instance: this.#instance,
      held: this.#goesOnBehind,
      description,
      agent: "mp2p-engine",
    });
  }

  /** All up to here will not come of this run: it is held, or was an earlier run's. */
  get #goesOnBehind(): SequenceNumber {
    if (!this.#numbered || !this.#options.passesLost) return this.#held;
    return Math.max(this.#held, this.#store.first - 1);
  }

  #watch(): void {
    const link = this.#link;
    if (link === undefined || this.#phase === "over" || this.#phase === "waiting") return;
    if (!link.watch(this.#now.monoMs)) {
      link.close(true);
      this.#lost("LINK_HALF_OPEN", "the source peer does not answer");
      return;
    }
    this.#deadlines.set("watch", Math.max(link.watchMs, this.#now.monoMs + 1));
  }

  /** The link is gone, or of no use: another one is tried, for as long as was asked for. */
  #lost(code: ErrorCode, detail: string): void {
    const { monoMs } = this.#now;
    this.#link = undefined;
    if (this.#phase === "over") return;
    if (this.#phase === "up") {
      this.#lostSinceMs = monoMs;
      this.#attempts = 0;
    }
    this.#phase = "waiting";
    this.#deadlines.clear("watch");
    const leftMs = this.#lostSinceMs + this.#options.retryMs - monoMs;
    if (leftMs <= 0) {
      this.#failed(code, detail);
      return;
    }
    const ceilingMs = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** this.#attempts);
    this.#attempts = Math.min(this.#attempts + 1, 16);
    const retryInMs = Math.min(leftMs, 10 + ceilingMs * this.#options.rng.next());
    this.#deadlines.set("retry", monoMs + retryInMs);
    this.#event({ kind: "linkLost", code, detail, retryInMs });
  }

  #failed(code: ErrorCode, detail: string): void {
    if (this.#phase === "over") return;
    this.#over();
    this.#event({ kind: "failed", code, detail });
  }

  #over(): void {
    this.#phase = "over";
    for (const name of ["retry", "flush", "watch"] as const) this.#deadlines.clear(name);
  }

  // ------------------------------------------------------------------------------ frames

  #frames(input: Frames, link: FeedLink): void {
    link.heard(this.#now.monoMs);
    for (let i = 0; i < input.count && !link.closed; i++) {
      const offset = input.ranges[2 * i] as number;
      const bytes = input.ranges[2 * i + 1] as number;
      try {
        this.#frameIn(link, input.memory, offset, bytes);
      } catch (error) {
        if (!(error instanceof RemoteProtocolError)) throw error;
        link.fail(error);
        this.#failed(error.code, error.detail ?? "");
      }
    }
  }

  #frameIn(link: FeedLink, memory: Uint8Array, offset: number, bytes: number): void {
    const type = readFrameHeader(memory, offset, bytes);
    if (this.#phase === "over") return;
    switch (type) {
      case FRAME_TYPES.REGISTERED:
        if (this.#phase !== "registering") break;
        this.#registered(decodeFrame(REGISTERED, memory, offset, bytes));
        return;
      case FRAME_TYPES.ACCEPTED: {
        if (this.#phase !== "up") break;
        const { sequence, granted } = decodeFrame(ACCEPTED, memory, offset, bytes);
        if (sequence >= this.#store.next) this.#lied(`ACCEPTED ${sequence}`);
        if (granted > this.#grantedBytes) this.#grantedBytes = granted;
        if (sequence > this.#accepted) {
          this.#accepted = sequence;
          this.#event({ kind: "accepted", sequence });
        }
        return;
      }
      case FRAME_TYPES.HELD: {
        if (this.#phase !== "up") break;
        const { sequence } = decodeFrame(HELD, memory, offset, bytes);
        if (sequence >= this.#store.next) this.#lied(`HELD ${sequence}`);
        this.#heldUpTo(sequence);
        return;
      }
      case FRAME_TYPES.TERMINATE: {
        if (this.#phase !== "up") break;
        const { scope, last } = decodeFrame(TERMINATE, memory, offset, bytes);
        this.#terminated(link, scope, last);
        return;
      }
      case FRAME_TYPES.ERROR: {
        const { code, detail } = decodeFrame(ERROR, memory, offset, bytes);
        this.#refused(link, isErrorCode(code) ? code : "INTERNAL", detail);
        return;
      }
      case FRAME_TYPES.PING:
      case FRAME_TYPES.PONG:
        if (bytes !== PING_BYTES) {
          throw new RemoteProtocolError("FRAME_MALFORMED", { detail: "PING or PONG" });
        }
        if (type === FRAME_TYPES.PING) link.pong(memory, offset, this.#now.monoMs);
        return;
      default:
        break;
    }
    throw new RemoteProtocolError("FRAME_UNEXPECTED", { detail: `type ${type}` });
  }

  #lied(detail: string): never {
    throw new RemoteProtocolError("FRAME_UNEXPECTED", { detail: `${detail} was never sent` });
  }

  #registered({ next, held, granted, overlayId, sessionEpoch }: Registered): void {
    const store = this.#store;
    if (next < 1 || held >= next) {
      throw new RemoteProtocolError("MESSAGE_MALFORMED", { detail: "REGISTERED.next" });
    }
    if (!this.#numbered) {
      this.#numbered = true;
      store.startAt(next);
      this.#accepted = next - 1;
    } else if (next > store.next) {
      throw new RemoteProtocolError("SOURCE_REGISTERED", {
        detail: `number ${next} is next, but this run wrote up to ${store.next - 1} only`,
      });
    } else if (next < store.first) {
      throw new RemoteProtocolError("SEQUENCE_SKIPPED", {
        detail: `number ${next} is asked for, what is kept begins with ${store.first}`,
      });
    }
    const session = `${overlayId} ${sessionEpoch}`;
    const newSession = this.#session !== undefined && this.#session !== session;
    this.#session = session;
    this.#phase = "up";
    this.#attempts = 0;
    this.#sentBytes = 0;
    this.#grantedBytes = granted;
    this.#endSent = false;
    store.resumeAt(next);
    this.#event({ kind: "registered", next, held, overlayId, newSession });
    if (newSession && next > this.#held + 1 && next === store.first) {
      this.#event({ kind: "lost", from: this.#held + 1, to: next - 1 });
    }
    // What came while there was no link is accepted, too.
    if (next - 1 > this.#accepted) {
      this.#accepted = next - 1;
      this.#event({ kind: "accepted", sequence: this.#accepted });
    }
    this.#heldUpTo(held);
    this.#deadlines.setIfEarlier("watch", this.#now.monoMs + HANDSHAKE_TIMEOUT_MS);
  }

  #heldUpTo(sequence: SequenceNumber): void {
    if (sequence <= this.#held) return;
    this.#held = sequence;
    this.#store.release(sequence);
    this.#event({ kind: "held", sequence });
  }

  /** The source peer takes no more: as ordered, or its session has ended. */
  #terminated(link: FeedLink, scope: TerminateScope, last: SequenceNumber): void {
    if (last >= this.#store.next) this.#lied(`TERMINATE ${last}`);
    this.#heldUpTo(last);
    link.close(false);
    const left = this.#store.next - 1 - last;
    if (left > 0) {
      const notTaken = `${left} ${left === 1 ? "datum was" : "data were"} not taken`;
      const source = scope === TERMINATE_SCOPES.source;
      if (source) this.#failed("SOURCE_ENDED", `${endedText(last)}; ${notTaken}`);
      else this.#failed("SESSION_LOST", `the session ended, ${notTaken}`);
      return;
    }
    this.#over();
    this.#event({ kind: "ended", last, scope });
  }

  #refused(link: FeedLink, code: ErrorCode, detail: string): void {
    link.close(false);
    // What another link took over, or a server that is busy, may be better in a while.
    if (ERRORS[code].retryable) this.#lost(code, detail);
    else this.#failed(code, detail);
  }

  // ------------------------------------------------------------------------------ frames out

  #send(): void {
    const store = this.#store;
    const link = this.#link;
    const { monoMs } = this.#now;
    const up = this.#phase === "up" && link !== undefined && !link.closed;
    if (store.hasOpen) {
      const dueMs = store.openedMs + this.#options.maxDelayMs;
      const idle = up && link.unsentBytes === 0 && store.pending === undefined;
      if (idle || monoMs >= dueMs || this.#end !== undefined) {
        store.seal();
        this.#deadlines.clear("flush");
      } else this.#deadlines.set("flush", dueMs);
    }
    if (!up) return;
    for (let frame = store.pending; frame !== undefined; frame = store.pending) {
      if (this.#sentBytes + frame.length > this.#grantedBytes) return;
      if (link.unsentBytes > 0 && link.unsentBytes + frame.length > LINK_QUEUE_BYTES_MAX) return;
      link.transmit(frame);
      this.#sentBytes += frame.length;
      store.advance();
    }
    if (this.#end === undefined || this.#endSent) return;
    this.#endSent = true;
    link.transmit(encodeFrame(TERMINATE, { scope: this.#end, last: store.next - 1 }));
  }

  #event(event: FeedEvent): void {
    this.emit({ kind: "event", event });
  }
}

/** Another of each run, but for a numbering that goes beyond it. */
function instanceOf({ entropy, numbering }: FeedMachineOptions): Uint8Array {
  if (!Number.isInteger(numbering) || numbering < 0 || numbering >= 2 ** 32) {
    throw new LocalUsageError("USAGE", { detail: `numbering ${numbering}` });
  }
  const instance = entropy.bytes(INSTANCE_BYTES);
  if (numbering > 0) putNumbering(instance, numbering);
  return instance;
}
