/**
 * Small machines that prove the harness itself: a flood that measures links, an echo, and a relay
 * that spreads DATA frames over static neighbours the simplest way there is. None of them is meant
 * as an example of a peer.
 */

import {
  type Address,
  type Input,
  type LinkId,
  MachineBase,
  type Now,
} from "../../src/base/machine.ts";
import { dataIndex, isEnd, putU32, putU64, TYPE, u64 } from "./wire.ts";

/** A frame of `bytes` with a valid header. */
export function toyFrame(type: number, bytes: number, fill = 0): Uint8Array {
  const frame = new Uint8Array(bytes).fill(fill);
  putU32(frame, 0, bytes);
  frame.set([0xb6, 1, type, 0], 4);
  return frame;
}

export interface FloodOptions {
  readonly target: Address | undefined;
  readonly frames: number;
  readonly frameBytes: number;
  /** Bytes transmitted and not yet sent, at most. */
  readonly queueBytes: number;
}

/** Opens a link, keeps its queue full until all frames are out, counts what it gets. */
export class FloodMachine extends MachineBase<unknown, string> {
  received = 0;
  receivedBytes = 0;
  readonly downs: string[] = [];
  sentTotals: number[] = [];
  readonly #options: FloodOptions;
  readonly #frame: Uint8Array;
  #left: number;
  #transmitted = 0;
  #started = false;

  constructor(options: FloodOptions) {
    super();
    this.#options = options;
    this.#left = options.target === undefined ? 0 : options.frames;
    this.#frame = toyFrame(TYPE.PING, options.frameBytes, 7);
  }

  protected override step(input: Input<unknown>, _now: Now): void {
    switch (input.kind) {
      case "command":
        if (input.command === "close") this.emit({ kind: "close", linkId: 1, abort: false });
        else if (input.command === "abort") this.emit({ kind: "close", linkId: 1, abort: true });
        else if (this.#options.target !== undefined && !this.#started) {
          this.#started = true;
          this.emit({ kind: "open", linkId: 1, address: this.#options.target });
        }
        return;
      case "linkUp":
        this.emit({ kind: "event", event: `up ${input.direction}` });
        if (input.linkId === 1) this.#fill(0);
        return;
      case "linkDown":
        this.downs.push(input.code);
        return;
      case "frames":
        this.received += input.count;
        for (let i = 0; i < input.count; i++) {
          this.receivedBytes += input.ranges[2 * i + 1] as number;
        }
        return;
      case "sent":
        this.sentTotals.push(input.totalBytes);
        this.#fill(input.totalBytes);
        return;
    }
  }

  #fill(sentBytes: number): void {
    const { frameBytes, queueBytes } = this.#options;
    while (this.#left > 0 && this.#transmitted - sentBytes < queueBytes) {
      const run = Math.min(16, this.#left);
      const bytes = new Uint8Array(run * frameBytes);
      for (let i = 0; i < run; i++) bytes.set(this.#frame, i * frameBytes);
      this.emit({ kind: "transmit", linkId: 1, bytes });
      this.#left -= run;
      this.#transmitted += bytes.length;
    }
  }

  protected override nextDeadlineMs(): number {
    return Number.POSITIVE_INFINITY;
  }
}

export interface ToyRelayOptions {
  readonly isSource: boolean;
  /** Whom to dial. A relay's first one is the source; the source dials nobody. */
  readonly neighbours: readonly Address[];
  /** The source makes so many fragments of one datum each, one per `everyMs`. */
  readonly fragments: number;
  readonly everyMs: number;
  /** Payload of fragment i: one datum of source "toy" with sequence i + 1. */
  readonly payload: (sequence: number) => Uint8Array;
  /** Monotonic time of the start. */
  readonly startMs: number;
}

export interface ToyDelivery {
  readonly kind: "datum";
  readonly sequence: number;
  readonly payload: Uint8Array;
  readonly last: boolean;
}

/**
 * Stores what it gets, tells HAVE to all links, sends to each new or hungry link what that did not
 * say it has. Knows no window: everything is kept.
 */
export class ToyRelay extends MachineBase<unknown, ToyDelivery> {
  readonly #options: ToyRelayOptions;
  readonly #held = new Map<number, Uint8Array>();
  readonly #links = new Map<LinkId, { up: boolean; told: Set<number> }>();
  readonly #redial = new Map<number, number>();
  readonly #neighbourOf = new Map<LinkId, number>();
  #next = 0;
  #nextLinkId = 1;
  #made = 0;
  #madeMs = Number.POSITIVE_INFINITY;
  constructor(options: ToyRelayOptions) {
    super();
    this.#options = options;
    options.neighbours.forEach((_, i) => {
      this.#redial.set(i, options.startMs);
    });
    if (options.isSource) this.#madeMs = options.startMs;
  }

  held(index: number): boolean {
    return this.#held.has(index);
  }
  get delivered(): number {
    return this.#next;
  }

  protected override step(input: Input<unknown>, now: Now): void {
    switch (input.kind) {
      case "timeout":
        this.#dial(now);
        this.#make(now);
        return;
      case "linkUp":
        this.#links.set(input.linkId, { up: true, told: new Set() });
        this.#offer(input.linkId);
        return;
      case "linkDown": {
        this.#links.delete(input.linkId);
        const neighbour = this.#neighbourOf.get(input.linkId);
        if (neighbour !== undefined) this.#redial.set(neighbour, now.monoMs + 200);
        return;
      }
      case "frames":
        for (let i = 0; i < input.count; i++) {
          const offset = input.ranges[2 * i] as number;
          const bytes = input.ranges[2 * i + 1] as number;
          this.#frame(input.linkId, input.memory.subarray(offset, offset + bytes));
        }
        return;
    }
  }

  #dial(now: Now): void {
    for (const [neighbour, atMs] of this.#redial) {
      if (atMs > now.monoMs) continue;
      this.#redial.delete(neighbour);
      const linkId = this.#nextLinkId;
      this.#nextLinkId += 2;
      this.#neighbourOf.set(linkId, neighbour);
      this.#links.set(linkId, { up: false, told: new Set() });
      const address = this.#options.neighbours[neighbour] as Address;
      this.emit({ kind: "open", linkId, address });
    }
  }

  #make(now: Now): void {
    if (this.#madeMs > now.monoMs) return;
    while (this.#made < this.#options.fragments && this.#madeMs <= now.monoMs) {
      const index = this.#made++;
      this.#madeMs += this.#options.everyMs;
      const payload = this.#options.payload(index + 1);
      this.#store(toyData(index, payload, index === this.#options.fragments - 1));
    }
    if (this.#made === this.#options.fragments) this.#madeMs = Number.POSITIVE_INFINITY;
  }

  #frame(linkId: LinkId, frame: Uint8Array): void {
    const link = this.#links.get(linkId);
    if (link === undefined) return;
    if (frame[6] === TYPE.HAVE) link.told.add(u64(frame, 32));
    else if (frame[6] === TYPE.DATA) {
      const index = dataIndex(frame, 0);
      link.told.add(index);
      if (!this.#held.has(index)) this.#store(frame.slice());
    }
  }

  #store(frame: Uint8Array): void {
    const index = dataIndex(frame, 0);
    this.#held.set(index, frame);
    for (const linkId of this.#links.keys()) this.#push(linkId, index, frame);
    for (;;) {
      const next = this.#held.get(this.#next);
      if (next === undefined) return;
      this.#next++;
      if (this.#options.isSource) continue;
      this.emit({
        kind: "event",
        event: {
          kind: "datum",
          sequence: this.#next,
          payload: next.subarray(40 + 27 + 12),
          last: isEnd(next, 0),
        },
      });
    }
  }

  #offer(linkId: LinkId): void {
    for (const [index, frame] of this.#held) this.#push(linkId, index, frame);
  }

  #push(linkId: LinkId, index: number, frame: Uint8Array): void {
    const link = this.#links.get(linkId);
    if (link === undefined || !link.up) return;
    const have = toyFrame(TYPE.HAVE, 44);
    putU32(have, 24, 1);
    putU64(have, 32, index);
    putU32(have, 40, 1);
    this.emit({ kind: "transmit", linkId, bytes: have });
    if (link.told.has(index) || this.#leadsToSource(linkId)) return;
    link.told.add(index);
    this.emit({ kind: "transmit", linkId, bytes: frame.slice() });
  }

  /** The source dials nobody, and is everybody's first neighbour. */
  #leadsToSource(linkId: LinkId): boolean {
    return !this.#options.isSource && this.#neighbourOf.get(linkId) === 0;
  }

  protected override nextDeadlineMs(): number {
    let atMs = this.#madeMs;
    for (const redialMs of this.#redial.values()) atMs = Math.min(atMs, redialMs);
    return atMs;
  }
}

/** A DATA frame with one declaration (source "toy") and one datum, checksum zero. */
export function toyData(index: number, payload: Uint8Array, end: boolean): Uint8Array {
  const frame = toyFrame(TYPE.DATA, 40 + 27 + 12 + payload.length);
  frame[12] = end ? 1 : 0;
  frame[14] = 2;
  putU64(frame, 24, index);
  frame[40] = 1;
  frame[42] = 3;
  putU64(frame, 48, index + 1);
  frame.set([0x74, 0x6f, 0x79], 64);
  frame[67] = 2;
  putU32(frame, 71, payload.length);
  frame.set(payload, 79);
  return frame;
}
