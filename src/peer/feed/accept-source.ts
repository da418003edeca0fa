/**
 * One data source as the accepting side knows it, over all its links: how far it was accepted and
 * held, what waits for room, and what the present link was told of that.
 */

import { RemoteProtocolError } from "../../base/errors.ts";
import { DATUM_FRAME_ENTRY_BYTES, DATUM_FRAME_HEADER_BYTES } from "../../base/layout.ts";
import { FEED_DATUM_PARTS, FEED_PIECE_MS, FRAME_BYTES_MAX } from "../../base/limits.ts";
import { bytesEqual, type MonoMs, type SequenceNumber, toHex } from "../../base/units.ts";
import { encodeFrame } from "../../protocol/r10.ts";
import {
  ACCEPTED,
  type DatumFrame,
  HELD,
  numberingOf,
  REGISTERED,
  type Register,
  TERMINATE,
  TERMINATE_SCOPES,
  type Terminate,
  type TerminateScope,
} from "../../protocol/r11.ts";
import type { AcceptCounters, AcceptOptions, RemoteSourceReport } from "./accept-types.ts";
import type { AssemblyBudget } from "./assembly-budget.ts";
import type { FeedLink } from "./feed-link.ts";
import { endedText } from "./feed-types.ts";
import { IntakeQueue } from "./intake-queue.ts";

/** Runs whose place another took that are known again. */
const PAST_RUNS_MAX = 64;

/** Granted again when so much of the credit was used up, in shares of it. */
const GRANT_SHARE = 4;

export class AcceptSource {
  readonly sourceId: string;
  readonly queue: IntakeQueue;
  readonly #options: AcceptOptions;
  readonly #counters: AcceptCounters;
  readonly #budget: AssemblyBudget;
  #instance: Uint8Array;
  /** Of runs whose place another one took. */
  readonly #past = new Set<string>();
  /** Of its instance, while there was none with another one in this session; else 0. */
  #numbering: number;
  /** False until the source peer has registered it. */
  admitted = false;
  link: FeedLink | undefined;
  /** The order that the present link gave and that is to be answered. */
  terminate: Terminate | undefined;
  /** What was ordered over any link; from then on nothing new is taken. */
  readonly ordered = new Set<TerminateScope>();
  /** Its end lies in a fragment. */
  isOver = false;
  #accepted: SequenceNumber = 0;
  #held: SequenceNumber = 0;
  /** Bytes of the datum under way that came, and of all of it. */
  #partialBytes = 0;
  #partialTotal = 0;
  /** Since when the next piece of it could have come. */
  #awaitedMs: MonoMs | undefined;
  /** While others wait for memory: how much of which datum had come at what time. */
  #pace:
    | { readonly sequence: SequenceNumber; readonly bytes: number; readonly sinceMs: MonoMs }
    | undefined;
  /** What was accepted when it came. */
  #began: SequenceNumber = 0;
  /** Of DATUM frames on the present link. */
  #receivedBytes = 0;
  #grantedBytes = 0;
  #toldAccepted: SequenceNumber = 0;
  #toldHeld: SequenceNumber = 0;

  constructor(
    register: Register,
    options: AcceptOptions,
    budget: AssemblyBudget,
    counters: AcceptCounters,
  ) {
    this.sourceId = register.sourceId;
    this.#instance = register.instance;
    this.#numbering = numberingOf(register.instance);
    this.#options = options;
    this.#counters = counters;
    this.#budget = budget;
    this.queue = new IntakeQueue(register.sourceId, options.sink, budget);
  }

  get accepted(): SequenceNumber {
    return this.#accepted;
  }
  get held(): SequenceNumber {
    return this.#held;
  }

  get numbering(): number {
    return this.#numbering;
  }
  /** Of the run that registered last. */
  get instance(): Uint8Array {
    return this.#instance;
  }

  /**
   * Whether another run took the place of this one: what is kept there under the numbers that follow
   * is other data than what came of the other run.
   */
  isPast(instance: Uint8Array): boolean {
    return this.#past.has(toHex(instance));
  }

  /**
   * Another run, or another link of the same one, takes the place of the one before. Returns whether
   * its numbering is another: what one run made anew need not be what the other had sent.
   */
  takenBy(instance: Uint8Array): boolean {
    if (bytesEqual(instance, this.#instance)) return false;
    const [oldest] = this.#past;
    if (this.#past.size >= PAST_RUNS_MAX && oldest !== undefined) this.#past.delete(oldest);
    this.#past.add(toHex(this.#instance));
    this.#instance = instance;
    if (numberingOf(instance) === this.#numbering) return false;
    this.#numbering = 0;
    return true;
  }

  report(): RemoteSourceReport {
    return {
      sourceId: this.sourceId,
      linked: this.link !== undefined,
      ended: this.isOver,
      accepted: this.#accepted,
      held: this.#held,
      queuedBytes: this.queue.bytes,
    };
  }

  /** The source peer has registered it: everything below `next` lies behind it. */
  startAt(next: SequenceNumber): void {
    this.admitted = true;
    this.#accepted = next - 1;
    this.#held = next - 1;
    this.#began = next - 1;
  }

  /** Whether nothing is lost without it: its link is gone, and no datum and no order came of it. */
  get isIdle(): boolean {
    const isUsed = this.#accepted > this.#began || this.ordered.size > 0;
    return this.admitted && this.link === undefined && !isUsed;
  }

  heldUpTo(sequence: SequenceNumber): void {
    if (sequence > this.#held) this.#held = sequence;
  }

  /** Says on a new link where to go on. */
  welcome(creditBytes: number): void {
    this.terminate = undefined;
    this.#receivedBytes = 0;
    this.#grantedBytes = Math.max(0, creditBytes - this.queue.bytes);
    this.#toldAccepted = this.#accepted;
    this.#toldHeld = this.#held;
    this.link?.transmit(
      encodeFrame(REGISTERED, {
        next: this.#accepted + 1,
        held: this.#held,
        granted: this.#grantedBytes,
        overlayId: this.#options.overlayId,
        sessionEpoch: this.#options.sessionEpoch,
      }),
    );
  }

  /**
   * Takes a DATUM frame. What was accepted before is dropped. Throws CREDIT_EXCEEDED,
   * SEQUENCE_SKIPPED, SOURCE_ENDED or FRAME_UNEXPECTED.
   */
  take(memory: Uint8Array, frame: DatumFrame, frameBytes: number): void {
    this.#receivedBytes += frameBytes;
    if (this.#receivedBytes > this.#grantedBytes) {
      throw new RemoteProtocolError("CREDIT_EXCEEDED", {
        detail: `${this.#receivedBytes} of ${this.#grantedBytes} bytes`,
      });
    }
    const next = this.#accepted + 1;
    const skip = next - frame.first;
    if (skip >= frame.count) {
      this.#counters.duplicateData += frame.totalBytes === 0 ? frame.count : 0;
      return;
    }
    if (this.terminate !== undefined || this.ordered.size > 0) {
      throw new RemoteProtocolError("SOURCE_ENDED", { detail: endedText(this.#accepted) });
    }
    if (skip < 0) {
      throw new RemoteProtocolError("SEQUENCE_SKIPPED", {
        detail: `${frame.first} came, ${next} is next`,
      });
    }
    if (frame.totalBytes > 0) {
      this.#takePiece(frame, next);
    } else {
      if (this.#partialBytes > 0) {
        throw new RemoteProtocolError("FRAME_UNEXPECTED", { detail: `datum ${next} is not whole` });
      }
      this.#counters.duplicateData += skip;
      this.#counters.dataAccepted += frame.count - skip;
      this.#accepted += frame.count - skip;
    }
    this.queue.offer(memory, frame, skip, frameBytes);
  }

  #takePiece(frame: DatumFrame, next: SequenceNumber): void {
    const fits =
      frame.offset === this.#partialBytes &&
      (frame.offset === 0 || frame.totalBytes === this.#partialTotal);
    if (!fits) {
      throw new RemoteProtocolError("FRAME_UNEXPECTED", {
        detail: `datum ${next} goes on at ${this.#partialBytes}, not ${frame.offset}`,
      });
    }
    this.#partialTotal = frame.totalBytes;
    this.#awaitedMs = undefined;
    this.#partialBytes += frame.payloadBytes;
    if (this.#partialBytes < frame.totalBytes) return;
    this.#partialBytes = 0;
    this.#accepted++;
    this.#counters.dataAccepted++;
  }

  /** Whether the next piece may be sent, however large: its sender waits for nothing. */
  get #mayGoOn(): boolean {
    if (this.#partialBytes === 0) return false;
    const restBytes = this.#partialTotal - this.#partialBytes;
    const frameBytes = DATUM_FRAME_HEADER_BYTES + DATUM_FRAME_ENTRY_BYTES + restBytes;
    return this.#grantedBytes - this.#receivedBytes >= Math.min(frameBytes, FRAME_BYTES_MAX);
  }

  /**
   * Says so if it stopped amid a datum, or brings too little of it while others wait for the memory
   * that it takes. What it can not send for want of credit is not its fault.
   */
  stuckText(nowMs: MonoMs): string | undefined {
    if (this.#awaitedMs !== undefined && nowMs - this.#awaitedMs >= FEED_PIECE_MS) {
      return "a datum did not go on";
    }
    return this.#isTooSlow(nowMs) ? "a datum came too slowly, others waited for it" : undefined;
  }

  #isTooSlow(nowMs: MonoMs): boolean {
    const blocksOthers = this.#budget.isShort && !this.queue.waitsForMemory && this.#mayGoOn;
    const pace = this.#pace;
    const [sequence, bytes] = [this.#accepted + 1, this.#partialBytes];
    if (!blocksOthers) this.#pace = undefined;
    else if (pace?.sequence !== sequence) this.#pace = { sequence, bytes, sinceMs: nowMs };
    else if (nowMs - pace.sinceMs >= FEED_PIECE_MS) {
      this.#pace = { sequence, bytes, sinceMs: nowMs };
      return (bytes - pace.bytes) * FEED_DATUM_PARTS < this.#partialTotal;
    }
    return false;
  }

  /** The link is gone, or the source stops amid a datum. */
  unlinked(): void {
    this.link = undefined;
    this.#awaitedMs = undefined;
    this.#pace = undefined;
    if (this.#partialBytes === 0) return;
    this.#partialBytes = 0;
    this.queue.dropPartial(this.#accepted + 1);
  }

  /** Tells the link what it does not know yet; `creditBytes` as of now. */
  tell(creditBytes: number, nowMs: MonoMs): void {
    const { link } = this;
    if (link === undefined || !this.admitted) return;
    const limit = this.#receivedBytes - this.queue.bytes + creditBytes;
    // Whatever was waited for is over when the queue is empty: then the last byte counts, too.
    const step = this.queue.bytes === 0 ? 1 : creditBytes / GRANT_SHARE;
    if (this.#accepted !== this.#toldAccepted || limit - this.#grantedBytes >= step) {
      this.#toldAccepted = this.#accepted;
      this.#grantedBytes = Math.max(this.#grantedBytes, limit);
      const granted = this.#grantedBytes;
      link.transmit(encodeFrame(ACCEPTED, { sequence: this.#accepted, granted }));
    }
    if (this.#mayGoOn) this.#awaitedMs ??= nowMs;
    if (this.#held !== this.#toldHeld) {
      this.#toldHeld = this.#held;
      link.transmit(encodeFrame(HELD, { sequence: this.#held }));
    }
    const { terminate } = this;
    if (terminate !== undefined && this.isOver && this.#held >= terminate.last) {
      link.transmit(encodeFrame(TERMINATE, terminate));
      link.close(false);
    }
  }

  /** The session has ended: everything accepted is with the peers. */
  farewell(creditBytes: number, nowMs: MonoMs): void {
    this.#held = this.#accepted;
    this.tell(creditBytes, nowMs);
    const scope = TERMINATE_SCOPES.session;
    this.link?.transmit(encodeFrame(TERMINATE, { scope, last: this.#accepted }));
    this.link?.close(false);
  }
}
