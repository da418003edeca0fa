/**
 * What a data source has written and no peer is known to hold, as the frames it was or will be sent
 * in: small data merged, a big datum in pieces. A frame is sent again over a new link as it is.
 */

import { assert } from "../../base/assert.ts";
import { DATUM_FRAME_ENTRY_BYTES } from "../../base/layout.ts";
import { FEED_FRAME_BYTES, FEED_FRAME_DATA_MAX } from "../../base/limits.ts";
import type { MonoMs, SequenceNumber, TimestampUs } from "../../base/units.ts";
import { encodeDatumFrame } from "../../protocol/r11.ts";

/** Data that find room in one frame; a larger datum goes in pieces of this size. */
const GATHER_BYTES = FEED_FRAME_BYTES;
const DELTA_US_MAX = 0x7fff_ffff;

interface Kept {
  readonly bytes: Uint8Array;
  /** Highest sequence number in it. */
  readonly last: SequenceNumber;
}

export class FrameStore {
  #frames: Kept[] = [];
  #head = 0;
  /** Position in #frames of the next one to be sent. */
  #cursor = 0;
  #bytes = 0;
  #next: SequenceNumber = 1;
  #first: SequenceNumber = 1;

  readonly #payloads = new Uint8Array(GATHER_BYTES);
  readonly #lengths = new Uint32Array(FEED_FRAME_DATA_MAX);
  readonly #deltasUs = new Int32Array(FEED_FRAME_DATA_MAX);
  #openCount = 0;
  #openBytes = 0;
  #openFirst: SequenceNumber = 0;
  #openUs: TimestampUs = 0;
  #openedMs: MonoMs = 0;

  /** Sequence number of the next datum. */
  get next(): SequenceNumber {
    return this.#next;
  }
  /** Bytes of frames that are kept, and of data that will be one. */
  get bytes(): number {
    return this.#bytes + this.#openBytes + this.#openCount * DATUM_FRAME_ENTRY_BYTES;
  }
  get hasOpen(): boolean {
    return this.#openCount > 0;
  }
  get openedMs(): MonoMs {
    return this.#openedMs;
  }
  /** Lowest sequence number that is kept; `next` when none is. */
  get first(): SequenceNumber {
    return this.#first;
  }

  /** Before anything was written: where numbers begin. */
  startAt(next: SequenceNumber): void {
    assert(this.bytes === 0 && this.#head === this.#frames.length, "numbers begin before data");
    this.#next = next;
    this.#first = next;
  }

  /** The next frame to be sent; undefined: none is sealed. It stays kept. */
  get pending(): Uint8Array | undefined {
    return this.#frames[this.#cursor]?.bytes;
  }
  /** `pending` was sent. */
  advance(): void {
    this.#cursor++;
  }

  /** A new link: what is to be sent begins with the frame that holds `next`. */
  resumeAt(next: SequenceNumber): void {
    this.#cursor = this.#head;
    while (this.#cursor < this.#frames.length) {
      if ((this.#frames[this.#cursor] as Kept).last >= next) return;
      this.#cursor++;
    }
  }

  /** Everything up to `held` need not be kept. */
  release(held: SequenceNumber): void {
    if (held >= this.#first) this.#first = Math.min(held + 1, this.#next);
    while (this.#head < this.#frames.length) {
      const frame = this.#frames[this.#head] as Kept;
      if (frame.last > held) break;
      this.#bytes -= frame.bytes.length;
      this.#head++;
    }
    if (this.#cursor < this.#head) this.#cursor = this.#head;
    if (this.#head > 256 && this.#head * 2 > this.#frames.length) {
      this.#frames = this.#frames.slice(this.#head);
      this.#cursor -= this.#head;
      this.#head = 0;
    }
  }

  /**
   * Takes as many data as fit `keepBytes`; one always when nothing is kept. Returns how many. Those
   * without a timestamp of their own get that of the frame they join.
   */
  write(
    payloads: Uint8Array,
    lengths: Uint32Array,
    timestampUs: TimestampUs | undefined,
    now: { readonly monoMs: MonoMs; readonly wallUs: TimestampUs },
    keepBytes: number,
  ): number {
    let at = 0;
    let taken = 0;
    while (taken < lengths.length) {
      const length = lengths[taken] as number;
      if (this.bytes > 0 && this.bytes + length > keepBytes) return taken;
      if (length > GATHER_BYTES) {
        this.#pieces(payloads.subarray(at, at + length), timestampUs ?? now.wallUs);
        at += length;
        taken++;
        continue;
      }
      if (!this.#fits(length, timestampUs)) this.seal();
      if (this.#openCount === 0) this.#open(timestampUs ?? now.wallUs, now.monoMs);
      const deltaUs = timestampUs === undefined ? 0 : timestampUs - this.#openUs;
      // As many as fit, copied at once.
      let run = 0;
      let runBytes = 0;
      const roomBytes = Math.min(GATHER_BYTES - this.#openBytes, keepBytes - this.bytes);
      const roomCount = FEED_FRAME_DATA_MAX - this.#openCount;
      while (taken + run < lengths.length && run < roomCount) {
        const more = lengths[taken + run] as number;
        if (run > 0 && runBytes + more > roomBytes) break;
        this.#lengths[this.#openCount + run] = more;
        this.#deltasUs[this.#openCount + run] = deltaUs;
        runBytes += more;
        run++;
      }
      this.#payloads.set(payloads.subarray(at, at + runBytes), this.#openBytes);
      this.#openBytes += runBytes;
      this.#openCount += run;
      this.#next += run;
      at += runBytes;
      taken += run;
    }
    return taken;
  }

  /** What is open becomes a frame. */
  seal(): void {
    const count = this.#openCount;
    if (count === 0) return;
    const head = { first: this.#openFirst, timestampUs: this.#openUs, totalBytes: 0, offset: 0 };
    const payloads = this.#payloads.subarray(0, this.#openBytes);
    this.#push(encodeDatumFrame(head, payloads, this.#lengths, this.#deltasUs, count));
    this.#openCount = 0;
    this.#openBytes = 0;
  }

  #fits(length: number, timestampUs: TimestampUs | undefined): boolean {
    if (this.#openCount === 0) return true;
    if (this.#openCount === FEED_FRAME_DATA_MAX || this.#openBytes + length > GATHER_BYTES) {
      return false;
    }
    return timestampUs === undefined || Math.abs(timestampUs - this.#openUs) <= DELTA_US_MAX;
  }

  #open(timestampUs: TimestampUs, nowMs: MonoMs): void {
    this.#openFirst = this.#next;
    this.#openUs = timestampUs;
    this.#openedMs = nowMs;
  }

  #pieces(payload: Uint8Array, timestampUs: TimestampUs): void {
    this.seal();
    const first = this.#next++;
    const totalBytes = payload.length;
    for (let offset = 0; offset < totalBytes; offset += GATHER_BYTES) {
      const piece = payload.subarray(offset, offset + GATHER_BYTES);
      const head = { first, timestampUs, totalBytes, offset };
      this.#push(encodeDatumFrame(head, piece, [piece.length], [0], 1));
    }
  }

  #push(bytes: Uint8Array): void {
    this.#frames.push({ bytes, last: this.#next - 1 });
    this.#bytes += bytes.length;
  }
}
