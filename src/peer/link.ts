/**
 * One link to another node, as the peer machine sees it: what was handed to the transport and what
 * of it has left, which memory is pinned meanwhile, when something was heard last.
 *
 * A link knows bytes, not overlays: neighbours (one per overlay shared on the link) write to it.
 * Every byte handed over counts against the queue until `sent` covers it, so a neighbour that does
 * not read holds at most LINK_QUEUE_BYTES_MAX of data and LINK_CONTROL_BYTES_MAX of control frames
 * and costs no one else anything. At the second limit the link is clogged: it takes nothing more,
 * and watch() tells its keeper to close it.
 *
 * Overlays that share the link have a lane each. Whoever is alone may fill the queue; among those
 * that have something there or wait, a lane takes no more than its equal part.
 */

import { FRAME_TYPES, PING_BYTES, PING_TOKEN } from "../base/layout.ts";
import {
  LINK_CONTROL_BYTES_MAX,
  LINK_DEAD_MS,
  LINK_QUEUE_BYTES_MAX,
  LINK_QUEUE_BYTES_MIN,
  LINK_QUEUE_MS,
  LINK_SLOW_MS,
  PING_MS,
  PINGS_PER_SECOND_MAX,
} from "../base/limits.ts";
import type { Address, LinkId } from "../base/machine.ts";
import type { MemoryOffset, MonoMs, OverlayId } from "../base/units.ts";
import { encodePing } from "../protocol/r10-binary.ts";
import type { EngineMemory } from "../stream/memory.ts";

/** The speed of a link is averaged over so much time in which bytes waited. */
const RATE_SPAN_MS = 50;
/** There is room when this part of the queue is free. */
const ROOM_PART = 4;
/** Grows by this each time the queue runs empty. */
const RATE_GROWTH = 1.1;

/** A link on which nothing left for so long stands still. */
const DRAINS_MS = 1_000;

export interface LinkOutlet {
  transmit(linkId: LinkId, bytes: Uint8Array): void;
  close(linkId: LinkId, abort: boolean): void;
  /** A link became clogged: watch() is to be asked as soon as the present input is handled. */
  clogged(): void;
}

/** One overlay's part of a link. */
export class Lane {
  /** DATA of it that was handed over and has not left. */
  queuedBytes = 0;
  /** Whether it had DATA to send and found no room. */
  waits = false;
}

export class PeerLink {
  readonly id: LinkId;
  readonly outbound: boolean;
  readonly remote: Address;
  /** The overlay it was dialled for; undefined for links accepted. */
  readonly dialledFor: OverlayId | undefined;
  readonly upMs: MonoMs;
  readonly #memory: EngineMemory;
  readonly #outlet: LinkOutlet;
  #transmitted = 0;
  #sent = 0;
  #sentMs: MonoMs;
  #heardMs: MonoMs;
  #pingedMs: MonoMs = 0;
  /** How fast bytes leave while some wait, and what the next sample of it has so far. */
  #bytesPerMs = Number.POSITIVE_INFINITY;
  #busyMs = 0;
  #busyBytes = 0;
  /** Whether bytes were left when some left last. */
  #wasBusy = false;
  /** Pinned ranges, in order: triples (transmitted total at their end, offset, bytes). */
  #pins: number[] = [];
  /** The lane of each triple. */
  #pinLanes: Lane[] = [];
  readonly #lanes = new Set<Lane>();
  #pinHead = 0;
  /** Bytes of all pinned ranges, whole until their last byte has left. */
  #pinnedBytes = 0;
  #open = true;
  #aborted = false;
  #clogged = false;
  /** PINGs answered since then. */
  #pongs = 0;
  #pongsSinceMs: MonoMs = 0;

  constructor(
    memory: EngineMemory,
    outlet: LinkOutlet,
    options: {
      readonly id: LinkId;
      readonly outbound: boolean;
      readonly remote: Address;
      readonly dialledFor: OverlayId | undefined;
      readonly nowMs: MonoMs;
    },
  ) {
    this.#memory = memory;
    this.#outlet = outlet;
    this.id = options.id;
    this.outbound = options.outbound;
    this.remote = options.remote;
    this.dialledFor = options.dialledFor;
    this.upMs = options.nowMs;
    this.#heardMs = options.nowMs;
    this.#sentMs = options.nowMs;
  }

  get isOpen(): boolean {
    return this.#open;
  }
  /** Closed without waiting for the other side: its end is on its way. */
  get isAborted(): boolean {
    return this.#aborted;
  }
  /** When something came over it last. */
  get heardMs(): MonoMs {
    return this.#heardMs;
  }
  /** Bytes handed over that have not left this process yet. */
  get queuedBytes(): number {
    return this.#transmitted - this.#sent;
  }
  openLane(): Lane {
    const lane = new Lane();
    this.#lanes.add(lane);
    return lane;
  }
  closeLane(lane: Lane): void {
    this.#lanes.delete(lane);
  }

  /**
   * How many bytes of DATA of this lane may be handed over now, one fragment at least; 0: none, and
   * it is noted that it wanted to.
   */
  room(lane: Lane): number {
    const bytes = this.#room(lane);
    lane.waits = bytes === 0;
    return bytes;
  }
  #room(lane: Lane): number {
    const most = this.#queueBytesMax();
    let active = 1;
    for (const other of this.#lanes) {
      if (other !== lane && (other.waits || other.queuedBytes > 0)) active++;
    }
    const part = most / active;
    const left = Math.min(most - this.queuedBytes, part - (active > 1 ? lane.queuedBytes : 0));
    // A little room is waited with: it would be filled in many small writes.
    return left * ROOM_PART < part ? 0 : left;
  }

  /** What leaves within LINK_QUEUE_MS, as far as this link has shown; more would only wait here. */
  #queueBytesMax(): number {
    const bytes = this.#bytesPerMs * LINK_QUEUE_MS;
    return Math.max(LINK_QUEUE_BYTES_MIN, Math.min(LINK_QUEUE_BYTES_MAX, bytes));
  }

  /** Learns from `bytes` that left since the last time how fast the link is. */
  #measure(bytes: number, nowMs: MonoMs): void {
    if (this.#wasBusy) {
      this.#busyMs += nowMs - this.#sentMs;
      this.#busyBytes += bytes;
      if (this.#busyMs >= RATE_SPAN_MS) {
        const sample = this.#busyBytes / this.#busyMs;
        const known = this.#bytesPerMs < Number.POSITIVE_INFINITY;
        this.#bytesPerMs = known ? (this.#bytesPerMs + sample) / 2 : sample;
        this.#busyMs = 0;
        this.#busyBytes = 0;
      }
    }
    this.#wasBusy = this.queuedBytes > 0;
    // All had left before anything more was there: it may be faster than it had to show.
    if (!this.#wasBusy) this.#bytesPerMs *= RATE_GROWTH;
  }

  /** Whether something of what waits has left of late: a link that stands still is no measure. */
  drains(nowMs: MonoMs): boolean {
    return nowMs - this.#sentMs < DRAINS_MS;
  }

  get isIdle(): boolean {
    return this.#transmitted === this.#sent;
  }
  get pinnedRanges(): number {
    return (this.#pins.length - this.#pinHead) / 3;
  }

  /** A control frame; the bytes are the host's from here on. */
  transmit(frame: Uint8Array): void {
    if (!this.#open || this.#clogged) return;
    if (this.queuedBytes - this.#pinnedBytes + frame.length > LINK_CONTROL_BYTES_MAX) {
      this.#clogged = true;
      this.#outlet.clogged();
      return;
    }
    this.#transmitted += frame.length;
    this.#outlet.transmit(this.id, frame);
  }

  /** A run of whole DATA frames in the engine's memory, pinned until it has left. */
  transmitPinned(lane: Lane, offset: MemoryOffset, bytes: number): void {
    if (!this.#open || this.#clogged) return;
    lane.queuedBytes += bytes;
    this.#memory.retain(offset, bytes);
    this.#pinnedBytes += bytes;
    this.#transmitted += bytes;
    this.#pins.push(this.#transmitted, offset, bytes);
    this.#pinLanes.push(lane);
    this.#outlet.transmit(this.id, this.#memory.bytes.subarray(offset, offset + bytes));
  }

  /** `totalBytes` of all that was handed over have left. */
  sent(totalBytes: number, nowMs: MonoMs): void {
    if (totalBytes <= this.#sent) return;
    const bytes = totalBytes - this.#sent;
    this.#sent = totalBytes;
    this.#measure(bytes, nowMs);
    this.#sentMs = nowMs;
    const pins = this.#pins;
    while (this.#pinHead < pins.length && (pins[this.#pinHead] as number) <= totalBytes) {
      const pinned = pins[this.#pinHead + 2] as number;
      this.#memory.release(pins[this.#pinHead + 1] as number, pinned);
      this.#pinnedBytes -= pinned;
      (this.#pinLanes[this.#pinHead / 3] as Lane).queuedBytes -= pinned;
      this.#pinHead += 3;
    }
    if (this.#pinHead === pins.length) {
      pins.length = 0;
      this.#pinLanes.length = 0;
      this.#pinHead = 0;
    } else if (this.#pinHead > 3 * 1024) {
      pins.splice(0, this.#pinHead);
      this.#pinLanes.splice(0, this.#pinHead / 3);
      this.#pinHead = 0;
    }
  }

  heard(nowMs: MonoMs): void {
    this.#heardMs = nowMs;
  }

  /** Whether one more PING is to be answered now. */
  mayAnswerPing(nowMs: MonoMs): boolean {
    if (nowMs - this.#pongsSinceMs >= 1_000) {
      this.#pongsSinceMs = nowMs;
      this.#pongs = 0;
    }
    if (this.#pongs >= PINGS_PER_SECOND_MAX) return false;
    this.#pongs++;
    return true;
  }

  /** Keeps the link alive and notices when it is not: says why it is to be closed. */
  watch(nowMs: MonoMs): "LINK_HALF_OPEN" | "LINK_SLOW" | undefined {
    if (this.#clogged) return "LINK_SLOW";
    if (this.queuedBytes === 0) this.#sentMs = nowMs;
    else if (nowMs - this.#sentMs > LINK_SLOW_MS) return "LINK_SLOW";
    if (nowMs - this.#heardMs > LINK_DEAD_MS) return "LINK_HALF_OPEN";
    if (nowMs - this.#heardMs > PING_MS && nowMs - this.#pingedMs > PING_MS) {
      this.#pingedMs = nowMs;
      this.transmit(encodePing(FRAME_TYPES.PING, new Uint8Array(PING_BYTES - PING_TOKEN)));
    }
    return undefined;
  }

  /** Asks the transport to close; nothing is transmitted after that. `abort` may follow a close. */
  close(abort: boolean): void {
    if (this.#aborted || (!this.#open && !abort)) return;
    this.#open = false;
    this.#aborted = abort;
    this.#outlet.close(this.id, abort);
  }

  /** The transport is done with the link: what it had pinned is free again. */
  down(): void {
    this.#open = false;
    for (let i = this.#pinHead; i < this.#pins.length; i += 3) {
      this.#memory.release(this.#pins[i + 1] as number, this.#pins[i + 2] as number);
    }
    this.#pins = [];
    this.#pinLanes = [];
    this.#pinHead = 0;
    this.#pinnedBytes = 0;
  }
}
