/**
 * One link of R11 from either side: frames out with a watch on what the other side does not read,
 * PING and PONG, and when it was heard of last.
 */

import type { ErrorCode, RemoteProtocolError } from "../../base/errors.ts";
import { FRAME_TYPES, PING_TOKEN } from "../../base/layout.ts";
import {
  LINK_CONTROL_BYTES_MAX,
  LINK_DEAD_MS,
  PING_MS,
  PINGS_PER_SECOND_MAX,
} from "../../base/limits.ts";
import type { LinkId } from "../../base/machine.ts";
import type { MonoMs } from "../../base/units.ts";
import { ERROR, encodeFrame } from "../../protocol/r10.ts";
import { encodePing } from "../../protocol/r10-binary.ts";

const ZERO_TOKEN = new Uint8Array(8);
const PING_SPAN_MS = 1_000;
const DETAIL_CHARS_MAX = 80;

export interface FeedLinkOutlet {
  transmit(linkId: LinkId, bytes: Uint8Array): void;
  close(linkId: LinkId, abort: boolean): void;
}

export class FeedLink {
  readonly linkId: LinkId;
  readonly #outlet: FeedLinkOutlet;
  #heardMs: MonoMs;
  #pingedMs: MonoMs;
  #queuedBytes = 0;
  #sentBytes = 0;
  #pingsSinceMs: MonoMs;
  #pings = 0;
  /** Nothing is sent or read any more. */
  closed = false;

  constructor(linkId: LinkId, outlet: FeedLinkOutlet, nowMs: MonoMs) {
    this.linkId = linkId;
    this.#outlet = outlet;
    this.#heardMs = nowMs;
    this.#pingedMs = nowMs;
    this.#pingsSinceMs = nowMs;
  }

  /** Bytes handed out and not yet gone. */
  get unsentBytes(): number {
    return this.#queuedBytes - this.#sentBytes;
  }
  /** Whether it reads so little that control frames pile up. */
  get isSlow(): boolean {
    return this.unsentBytes > LINK_CONTROL_BYTES_MAX;
  }
  get heardMs(): MonoMs {
    return this.#heardMs;
  }
  /** When to look after its silence next. */
  get watchMs(): MonoMs {
    if (this.closed) return Number.POSITIVE_INFINITY;
    return Math.min(
      this.#heardMs + LINK_DEAD_MS,
      Math.max(this.#heardMs, this.#pingedMs) + PING_MS,
    );
  }

  transmit(bytes: Uint8Array): void {
    if (this.closed) return;
    this.#queuedBytes += bytes.length;
    this.#outlet.transmit(this.linkId, bytes);
  }

  sent(totalBytes: number): void {
    this.#sentBytes = totalBytes;
  }

  heard(nowMs: MonoMs): void {
    this.#heardMs = nowMs;
  }

  ping(nowMs: MonoMs): void {
    this.#pingedMs = nowMs;
    this.transmit(encodePing(FRAME_TYPES.PING, ZERO_TOKEN));
  }

  /** Sends what the silence asks for; false: the link is dead. */
  watch(nowMs: MonoMs): boolean {
    if (this.closed || nowMs < this.watchMs) return true;
    if (nowMs - this.#heardMs >= LINK_DEAD_MS) return false;
    this.ping(nowMs);
    return true;
  }

  /** Answers the PING at `offset`, as often as is civil. */
  pong(memory: Uint8Array, offset: number, nowMs: MonoMs): void {
    if (nowMs - this.#pingsSinceMs >= PING_SPAN_MS) {
      this.#pingsSinceMs = nowMs;
      this.#pings = 0;
    }
    if (++this.#pings > PINGS_PER_SECOND_MAX) return;
    const token = memory.slice(offset + PING_TOKEN, offset + PING_TOKEN + 8);
    this.transmit(encodePing(FRAME_TYPES.PONG, token));
  }

  /** ERROR, then the end of the link. */
  refuse(code: ErrorCode, detail: string): void {
    this.transmit(encodeFrame(ERROR, { code, detail: shortened(detail) }));
    this.close(false);
  }

  fail(error: RemoteProtocolError): void {
    this.refuse(error.code, error.detail ?? "");
  }

  close(abort: boolean): void {
    if (this.closed) return;
    this.closed = true;
    this.#outlet.close(this.linkId, abort);
  }
}

/** Details may hold ids of others: at most 256 bytes go into ERROR, whatever they are. */
function shortened(detail: string): string {
  return [...detail].slice(0, DETAIL_CHARS_MAX - 16).join("");
}
