/**
 * One overlay as this node takes part in it: window, neighbours, and the role (source or consumer).
 *
 * Data flow: DATA frames -> receiver (verify) -> window -> HAVE to all, push to subscribers,
 * consumer. Own data (source): merger -> checksum -> window -> push. Two things flow back and are
 * read, not called: what neighbours advertised, and credit.
 *
 * Everything is settled once per input: what came in is verified, what may go is freed, credit and
 * HAVE are told, links are filled. A tick every TICK_MS looks after what only time shows: partners,
 * pulls, laggards, gaps.
 */

import { assert } from "../base/assert.ts";
import { Deadlines } from "../base/deadlines.ts";
import type { RemoteProtocolError } from "../base/errors.ts";
import * as layout from "../base/layout.ts";
import { FRAME_TYPES } from "../base/layout.ts";
import { HAVE_BATCH_FRAGMENTS, HAVE_DELAY_MS, RANGES_PER_FRAME_MAX } from "../base/limits.ts";
import type { FragmentIndex, MemoryOffset, MonoMs } from "../base/units.ts";
import { ROLES, type Role } from "../protocol/common.ts";
import { type Accept, BYE, encodeFrame, type Partner, REFRESH } from "../protocol/r10.ts";
import {
  type BuffermapHeader,
  encodeBuffermap,
  encodeCredit,
  encodeRanges,
} from "../protocol/r10-binary.ts";
import { FragmentWindow } from "../stream/window.ts";
import type { PeerEvent, Take, Write } from "./commands.ts";
import { ConsumerRole } from "./consumer-role.ts";
import type { PeerContext } from "./context.ts";
import type { PeerLink } from "./link.ts";
import { Neighbour } from "./neighbour.ts";
import { Partners } from "./partners.ts";
import { Puller } from "./pull.ts";
import { pump, reconsider } from "./push.ts";
import { FragmentReceiver } from "./receiver.ts";
import { Retention, STEP_SHIFT } from "./retention.ts";
import { checkSettings, type OverlaySettings, type StartFrom } from "./settings.ts";
import { SourceRole } from "./source-role.ts";

const TICK_MS = 50;
/** Laggards, gaps and partners are looked after every so many ticks. */
const SLOW_TICKS = 2;
const REFRESH_AGAIN_MS = 500;
/** A limit that grew by less than a step is told after this. */
const CREDIT_DELAY_MS = 5;

export interface OverlayOptions {
  readonly settings: OverlaySettings;
  readonly tag: Uint8Array;
  readonly role: "source" | "peer";
  readonly waitPeers: number;
  readonly from: StartFrom;
  /** Closes a link for what came over it. */
  readonly blame: (link: PeerLink, error: RemoteProtocolError) => void;
  /** A neighbour is none any more. */
  readonly dropped: (neighbour: Neighbour) => void;
}

type Phase = "running" | "lingering" | "left";

/** Bytes of whole DATA frames. */
export interface Traffic {
  bytesFromSource: number;
  bytesFromPeers: number;
  bytesToPeers: number;
  fragmentsFromSource: number;
  fragmentsFromPeers: number;
  fragmentsToPeers: number;
}

export class Overlay {
  readonly settings: OverlaySettings;
  readonly tag: Uint8Array;
  readonly window: FragmentWindow;
  readonly neighbours: Neighbour[] = [];
  readonly source: SourceRole | undefined;
  readonly consumer: ConsumerRole | undefined;
  readonly #context: PeerContext;
  readonly #options: OverlayOptions;
  readonly #receiver: FragmentReceiver;
  readonly #partners: Partners;
  readonly #puller: Puller;
  readonly #retention: Retention;
  readonly #deadlines = new Deadlines<"have" | "tick" | "flush" | "start" | "credit">();
  readonly #waitPeers: number;
  /** Traffic with neighbours that are gone. */
  readonly #past: Traffic = {
    bytesFromSource: 0,
    bytesFromPeers: 0,
    bytesToPeers: 0,
    fragmentsFromSource: 0,
    fragmentsFromPeers: 0,
    fragmentsToPeers: 0,
  };
  #phase: Phase = "running";
  #endIndex: FragmentIndex | undefined;
  /** Indices stored and not yet advertised, in order of arrival. */
  #haveQueue: number[] = [];
  #pumpAll = false;
  readonly #pumpSome = new Set<Neighbour>();
  #membersSeen = 0;
  #membersCompleted = 0;
  #holdSinceMs: MonoMs | undefined;
  #lingerMs: MonoMs = 0;
  #lingerMark = "";
  #refreshedMs: MonoMs = Number.NEGATIVE_INFINITY;
  #ticks = 0;
  #failed = false;
  #ended = false;
  #sessionOver = false;
  #lostMs: MonoMs | undefined;

  constructor(context: PeerContext, options: OverlayOptions) {
    checkSettings(options.settings);
    this.#context = context;
    this.settings = options.settings;
    this.tag = options.tag;
    this.#options = options;
    this.#waitPeers = options.waitPeers;
    const { settings, tag } = this;
    this.window = new FragmentWindow(context.memory, {
      start: 0,
      fragments: settings.windowFragments,
      bytes: settings.windowBytes,
      fragmentBytes: settings.fragmentBytes,
    });
    const isSource = options.role === "source";
    this.#receiver = new FragmentReceiver(context, this.window, settings.integrity, {
      stored: (index, offset, bytes, from) => this.#stored(index, offset, bytes, from),
      corrupt: (from, error) => options.blame(from.link, error),
    });
    this.#partners = new Partners(context, this.window, tag, settings.substreams, isSource);
    this.#puller = new Puller(context, this.window, tag, settings.substreams);
    this.#retention = new Retention(context, this.window, settings, tag);
    if (isSource) {
      this.source = new SourceRole(context, this.window, settings, tag, {
        produced: (index, offset, bytes) => this.#stored(index, offset, bytes, undefined),
        sourceEnded: (source) =>
          this.#event({
            kind: "sourceEnded",
            overlayId: settings.overlayId,
            sourceId: source.id,
            lastSequence: source.nextSequence - 1,
          }),
      });
      this.consumer = undefined;
    } else {
      this.source = undefined;
      this.consumer = new ConsumerRole(context, this.window, settings, options.from);
    }
    this.#deadlines.set("tick", context.now.monoMs + TICK_MS);
  }

  get role(): Role {
    return this.source === undefined ? ROLES.peer : ROLES.source;
  }
  get hasLeft(): boolean {
    return this.#phase === "left";
  }
  get hasEnded(): boolean {
    return this.#ended;
  }
  get endIndex(): FragmentIndex | undefined {
    return this.#endIndex;
  }
  get deadlineMs(): MonoMs {
    return this.#phase === "left" ? Number.POSITIVE_INFINITY : this.#deadlines.earliestMs();
  }
  /** One past the highest index known to exist. */
  get known(): FragmentIndex {
    let known = this.window.highest;
    for (const neighbour of this.neighbours) {
      if (neighbour.mapKnown && neighbour.remoteHighest > known) known = neighbour.remoteHighest;
    }
    return known;
  }

  /** Bytes of fragments so far, by where they came from and went to. */
  traffic(): Traffic {
    const sum = { ...this.#past };
    for (const neighbour of this.neighbours) addTraffic(sum, neighbour);
    return sum;
  }

  /** How far the consumer is behind what is known, in time; 0 when it has all. */
  lagMs(): number {
    return this.consumer?.started === true ? this.#puller.lagMs(this.consumer.consumedTo) : 0;
  }

  // ------------------------------------------------------------------------------ neighbours

  addNeighbour(link: PeerLink, peerId: string, role: Role): Neighbour {
    const nowMs = this.#context.now.monoMs;
    const neighbour = new Neighbour(this, this.window, link, peerId, role, nowMs);
    // What it has is told as a whole; what is still queued for others must not be told twice.
    this.#flushHave();
    this.neighbours.push(neighbour);
    if (role !== ROLES.source) this.#membersSeen++;
    this.#sendBuffermap(neighbour);
    this.#grantCredit(neighbour, true);
    this.#event({
      kind: "neighbour",
      overlayId: this.settings.overlayId,
      peerId,
      state: "up",
      detail: "",
    });
    return neighbour;
  }

  removeNeighbour(neighbour: Neighbour, detail: string): void {
    const at = this.neighbours.indexOf(neighbour);
    if (at < 0) return;
    this.neighbours.splice(at, 1);
    this.#options.dropped(neighbour);
    if (
      this.#endIndex !== undefined &&
      neighbour.updateAcked(this.#context.now.monoMs) > this.#endIndex
    ) {
      this.#membersCompleted++;
    }
    addTraffic(this.#past, neighbour);
    this.#pumpSome.delete(neighbour);
    this.#puller.lost(neighbour);
    this.#partners.gone(neighbour, this.neighbours);
    neighbour.close();
    this.#event({
      kind: "neighbour",
      overlayId: this.settings.overlayId,
      peerId: neighbour.peerId,
      state: "down",
      detail,
    });
    this.#pumpAll = true;
  }

  // ------------------------------------------------------------------------------ frames in

  /** DATA: throws RemoteProtocolError when the link is to be closed for it. */
  data(from: Neighbour, offset: MemoryOffset, bytes: number): void {
    this.#receiver.data(from, offset, bytes);
  }

  buffermap(from: Neighbour, memory: Uint8Array, header: BuffermapHeader): void {
    const { window } = this;
    if (this.consumer?.started === false && !this.neighbours.some((n) => n.mapKnown)) {
      // Nothing is known yet: look at the stream from where this neighbour stands.
      if (window.heldCount === 0) window.rebase(header.start);
    }
    window.unmark(from.have, window.origin, window.mapEnd);
    from.clipped = header.start + header.run > window.mapEnd;
    from.startMoved(header.start);
    if (header.run > 0) from.advertised(header.start, header.run);
    const first = header.start + header.run + 1;
    let runFrom = -1;
    const bits = header.bitsBytes * 8;
    for (let bit = 0; bit <= bits; bit++) {
      const byte = bit < bits ? (memory[header.bitsOffset + (bit >> 3)] as number) : 0;
      const set = (byte & (1 << (bit & 7))) !== 0;
      if (set && runFrom < 0) runFrom = bit;
      if (!set && runFrom >= 0) {
        from.advertised(first + runFrom, bit - runFrom);
        runFrom = -1;
      }
    }
    from.mapKnown = true;
    this.consumer?.mapArrived();
    if (this.consumer !== undefined) this.#deadlines.set("start", this.consumer.startMs);
    reconsider(from, window.start);
    this.#pumpSome.add(from);
  }

  /** HAVE: `pairs` (first, count) in `ranges`. */
  have(from: Neighbour, start: FragmentIndex, ranges: Float64Array, pairs: number): void {
    from.startMoved(start);
    for (let i = 0; i < pairs; i++) {
      from.advertised(ranges[2 * i] as number, ranges[2 * i + 1] as number);
    }
    if (from.toServe.length > 0 || pairs > 0) this.#pumpSome.add(from);
  }

  gone(from: Neighbour, ranges: Float64Array, pairs: number): void {
    for (let i = 0; i < pairs; i++) {
      const first = ranges[2 * i] as number;
      const count = ranges[2 * i + 1] as number;
      from.withdrew(first, count);
      this.#puller.lost(from, first, count);
    }
  }

  wants(from: Neighbour, ranges: Float64Array, pairs: number): void {
    for (let i = 0; i < pairs; i++) {
      from.toServe.push(ranges[2 * i] as number, ranges[2 * i + 1] as number);
    }
    // Who asks for more than the limit has lost count: the oldest requests are dropped.
    while (from.toServe.length > 2 * RANGES_PER_FRAME_MAX) from.toServe.splice(0, 2);
    this.#pumpSome.add(from);
  }

  cancelled(from: Neighbour, ranges: Float64Array, pairs: number): void {
    for (let i = 0; i < pairs; i++) {
      const first = ranges[2 * i] as number;
      const end = first + (ranges[2 * i + 1] as number);
      for (let j = from.toServe.length - 2; j >= 0; j -= 2) {
        const low = from.toServe[j] as number;
        if (low >= first && low + (from.toServe[j + 1] as number) <= end) from.toServe.splice(j, 2);
      }
    }
  }

  credit(from: Neighbour, limit: FragmentIndex): void {
    if (limit <= from.creditLimit) return;
    from.creditLimit = limit;
    this.#pumpSome.add(from);
  }

  partner(from: Neighbour, message: Partner): void {
    this.#partners.wanted(from, message.mask, message.from, this.neighbours);
    this.#pumpAll = true;
  }

  accept(from: Neighbour, message: Accept): void {
    this.#partners.accepted(from, message, this.neighbours);
    this.#seek();
  }

  refresh(from: Neighbour): void {
    this.#flushHave();
    this.#sendBuffermap(from);
  }

  notify(from: Neighbour, index: FragmentIndex): void {
    if (index + 1 > from.remoteHighest) from.remoteHighest = index + 1;
  }

  sent(neighbour: Neighbour): void {
    this.#pumpSome.add(neighbour);
  }

  // ------------------------------------------------------------------------------ commands

  write(command: Write): void {
    assert(this.source !== undefined, "only a source peer writes");
    this.source.write(command);
  }

  take(command: Take): void {
    assert(this.consumer !== undefined, "only a consumer takes");
    for (const event of this.consumer.take(command)) this.#event(event);
  }

  /** The session is over at the servers: who has nobody left to ask gives up. */
  sessionOver(): void {
    this.#sessionOver = true;
  }

  leave(announced: boolean): void {
    if (this.#phase === "left") return;
    this.#phase = "left";
    for (const neighbour of [...this.neighbours]) {
      if (announced) {
        const bye = { tag: this.tag, code: "", detail: "" };
        neighbour.link.transmit(encodeFrame(BYE, bye));
      }
      this.removeNeighbour(neighbour, "left");
    }
    this.source?.close();
    this.consumer?.close();
    this.#receiver.close();
    this.#puller.close();
    this.window.close();
    this.#event({ kind: "left", overlayId: this.settings.overlayId });
  }

  // ------------------------------------------------------------------------------ settling

  /** After each input that touched this overlay, and when its deadline passed. */
  settle(): void {
    if (this.#phase === "left") return;
    const nowMs = this.#context.now.monoMs;
    this.#receiver.flush();
    if (this.consumer !== undefined && this.#deadlines.take("start", nowMs)) this.#chooseStart();
    const tick = this.#deadlines.take("tick", nowMs);
    if (tick) {
      this.#deadlines.set("tick", nowMs + TICK_MS);
      this.#tick();
      if (this.hasLeft) return;
    }
    const consumedTo = this.#consumedTo();
    this.#retention.free(this.neighbours, consumedTo, this.known, tick);
    if (this.source !== undefined) this.#runSource();
    if (this.consumer?.wakes() === true) {
      this.#event({ kind: "readable", overlayId: this.settings.overlayId });
    }
    if (this.#haveQueue.length >= HAVE_BATCH_FRAGMENTS || this.#deadlines.take("have", nowMs)) {
      this.#flushHave();
    }
    const due = tick || this.#deadlines.take("credit", nowMs);
    for (const neighbour of this.neighbours) this.#grantCredit(neighbour, due);
    this.#pump();
  }

  checkInvariants(): void {
    this.window.checkInvariants();
    for (const neighbour of this.neighbours) {
      assert(neighbour.requestsInFlight >= 0, "requests in flight");
      assert(neighbour.grantedLimit <= this.window.limit, "credit within the window");
    }
  }

  #runSource(): void {
    const source = this.source as SourceRole;
    const nowMs = this.#context.now.monoMs;
    const idle =
      this.neighbours.some((n) => n.pushMask !== 0) &&
      this.neighbours.every((neighbour) => neighbour.link.isIdle);
    if (source.run(idle)) {
      this.#event({ kind: "writable", overlayId: this.settings.overlayId });
    }
    const flushMs = source.flushMs;
    if (flushMs < Number.POSITIVE_INFINITY) this.#deadlines.set("flush", Math.max(flushMs, nowMs));
    else this.#deadlines.clear("flush");
  }

  #consumedTo(): FragmentIndex {
    if (this.consumer !== undefined) return this.consumer.started ? this.consumer.consumedTo : 0;
    // The source peer consumes nothing: what it made may go once members have it.
    if (this.#membersSeen < this.#waitPeers || !this.#hasMember()) return 0;
    return this.window.highest;
  }

  #hasMember(): boolean {
    if (this.settings.delivery === "live") return true;
    return this.neighbours.some((neighbour) => !neighbour.lagging);
  }

  #tick(): void {
    this.#ticks++;
    const known = this.known;
    const reachable = Math.min(known, this.window.limit);
    if (this.consumer?.started === true && !this.consumer.ended) {
      this.#puller.sample(reachable);
      this.#puller.run(this.neighbours, this.#partners.partners, this.#receiver.pending, reachable);
      if (this.consumer.wakesForScan()) {
        this.#event({ kind: "readable", overlayId: this.settings.overlayId });
      }
    }
    if (this.#ticks % SLOW_TICKS !== 0) return;
    this.#seek();
    this.#watchStanding(known);
    if (this.consumer !== undefined) {
      for (const event of this.consumer.repair(this.neighbours, known)) this.#event(event);
    }
    this.#refreshClipped();
    this.#watchEnd();
  }

  #seek(): void {
    if (this.consumer?.started !== true || this.consumer.ended) return;
    this.#partners.seek(this.neighbours, Math.min(this.known, this.window.limit));
  }

  #watchStanding(known: FragmentIndex): void {
    const changed = this.#retention.watch(this.neighbours, this.#consumedTo(), known);
    for (const neighbour of changed) {
      this.#event({
        kind: "neighbour",
        overlayId: this.settings.overlayId,
        peerId: neighbour.peerId,
        state: neighbour.lagging ? "lagging" : "recovered",
        detail: "",
      });
    }
    if (this.source !== undefined) this.#watchHold();
  }

  /** Rule (e): a source with nobody in good standing holds for holdMs. */
  #watchHold(): void {
    const nowMs = this.#context.now.monoMs;
    const waiting = this.window.highest > this.window.start || this.source?.isStarved === true;
    const alone =
      this.settings.delivery === "complete" &&
      !this.neighbours.some((neighbour) => !neighbour.lagging) &&
      this.#membersCompleted === 0;
    if (!alone || !waiting || this.#ended) {
      this.#holdSinceMs = undefined;
      return;
    }
    this.#holdSinceMs ??= nowMs;
    if (nowMs - this.#holdSinceMs < this.settings.holdMs || this.#failed) return;
    this.#fail("NO_PEERS", `held for ${this.settings.holdMs} ms`);
  }

  #refreshClipped(): void {
    const nowMs = this.#context.now.monoMs;
    if (nowMs - this.#refreshedMs < REFRESH_AGAIN_MS) return;
    for (const neighbour of this.neighbours) {
      if (!neighbour.clipped) continue;
      this.#refreshedMs = nowMs;
      neighbour.clipped = false;
      neighbour.link.transmit(encodeFrame(REFRESH, { tag: this.tag }));
    }
  }

  #chooseStart(): void {
    const consumer = this.consumer as ConsumerRole;
    if (consumer.started) return;
    const start = consumer.chooseStart(this.neighbours);
    if (start === undefined) {
      this.#deadlines.set("start", this.#context.now.monoMs + TICK_MS);
      return;
    }
    if (start === "gone") {
      this.#fail("START_GONE", "");
      return;
    }
    const { window } = this;
    if (start < window.start || start >= window.origin + 64) {
      // The maps stand elsewhere: they are asked for anew.
      window.rebase(start);
      for (const neighbour of this.neighbours) neighbour.clipped = true;
    } else {
      window.advance(start);
    }
    consumer.start(start);
    this.#refreshedMs = Number.NEGATIVE_INFINITY;
    this.#refreshClipped();
    const have = encodeRanges(FRAME_TYPES.HAVE, this.tag, start, []);
    for (const neighbour of this.neighbours) neighbour.link.transmit(have.slice());
    this.#event({ kind: "started", overlayId: this.settings.overlayId, index: start });
    this.#seek();
  }

  /** END: who has all waits for its neighbours, then leaves. */
  #watchEnd(): void {
    const nowMs = this.#context.now.monoMs;
    const end = this.#endIndex;
    if (this.consumer !== undefined && !this.consumer.ended) {
      this.#watchLost();
      return;
    }
    if (end === undefined) return;
    const waitingFor = this.neighbours.filter((n) => !n.lagging && n.updateAcked(nowMs) <= end);
    const mark = waitingFor.map((n) => `${n.peerId}:${n.ackedTo}`).join(" ");
    if (mark !== this.#lingerMark || this.#phase === "running") {
      this.#lingerMark = mark;
      this.#lingerMs = nowMs;
    }
    this.#phase = "lingering";
    if (this.source !== undefined) {
      const served = this.#membersSeen >= this.#waitPeers;
      const someone = this.#membersCompleted > 0 || this.neighbours.some((n) => n.ackedTo > end);
      const idle = this.settings.delivery === "live" || (served && someone);
      const over = waitingFor.length === 0 || nowMs - this.#lingerMs >= this.settings.lingerMs;
      if (idle && over && !this.#ended) {
        this.#ended = true;
        this.#event({ kind: "ended", overlayId: this.settings.overlayId });
      }
      return;
    }
    this.#ended = true;
    if (waitingFor.length === 0 || nowMs - this.#lingerMs >= this.settings.lingerMs) {
      this.leave(true);
    }
  }

  /** No END, no neighbours and no session any more: what is held was all. */
  #watchLost(): void {
    const nowMs = this.#context.now.monoMs;
    const stuck =
      this.#sessionOver &&
      !this.neighbours.some((n) => n.isSource || n.remoteHighest > this.window.highest) &&
      !this.window.holds(this.consumer?.consumedTo ?? 0);
    if (!stuck) {
      this.#lostMs = undefined;
      return;
    }
    this.#lostMs ??= nowMs;
    if (nowMs - this.#lostMs >= this.settings.repairMs && !this.#failed) {
      this.#fail("SESSION_LOST", `no END up to fragment ${this.window.highest}`);
    }
  }

  #fail(code: "NO_PEERS" | "START_GONE" | "SESSION_LOST", detail: string): void {
    this.#failed = true;
    this.#event({ kind: "failed", overlayId: this.settings.overlayId, code, detail });
  }

  #stored(
    index: FragmentIndex,
    offset: MemoryOffset,
    bytes: number,
    from: Neighbour | undefined,
  ): void {
    const { window } = this;
    window.store(index, offset, bytes);
    this.#puller.arrived(index);
    const flags = window.kernel.view.getUint16(offset + layout.DATA_FLAGS, true);
    if ((flags & layout.DATA_FLAG_END) !== 0) this.#endIndex = index;
    if (this.#haveQueue.length === 0) {
      this.#deadlines.set("have", this.#context.now.monoMs + HAVE_DELAY_MS);
    }
    this.#haveQueue.push(index);
    for (const neighbour of this.neighbours) {
      if (neighbour !== from) reconsider(neighbour, index);
    }
    this.#pumpAll = true;
  }

  #flushHave(): void {
    this.#deadlines.clear("have");
    const queue = this.#haveQueue;
    if (queue.length === 0) return;
    this.#haveQueue = [];
    const { start } = this.window;
    const indices = queue.filter((index) => index >= start).sort((a, b) => a - b);
    const ranges: number[] = [];
    for (const index of indices) {
      const last = ranges.length - 2;
      if (last >= 0 && (ranges[last] as number) + (ranges[last + 1] as number) === index) {
        ranges[last + 1] = (ranges[last + 1] as number) + 1;
      } else {
        ranges.push(index, 1);
      }
    }
    for (let at = 0; at < ranges.length; at += 2 * RANGES_PER_FRAME_MAX) {
      const part = ranges.slice(at, at + 2 * RANGES_PER_FRAME_MAX);
      for (const neighbour of this.neighbours) {
        neighbour.link.transmit(encodeRanges(FRAME_TYPES.HAVE, this.tag, start, part));
      }
    }
  }

  #sendBuffermap(neighbour: Neighbour): void {
    const { window } = this;
    const { kernel } = window;
    const runEnd = window.firstMissing(window.start, window.highest);
    const run = runEnd - window.start;
    let bits = new Uint8Array(0);
    if (runEnd + 1 < window.highest) {
      const from = runEnd + 1 - window.origin;
      const to = window.highest - window.origin;
      const scratch = window.memory.allocate(((to - from) >> 3) + 16);
      const bytes = kernel.bitsToWire(window.heldMap.words, from, to, scratch);
      bits = kernel.bytes.slice(scratch, scratch + bytes);
      window.memory.free(scratch);
    }
    neighbour.link.transmit(encodeBuffermap(this.tag, window.start, run, bits));
  }

  /** Tells a new limit when it grew by a step, or (soon) when it may be waited for. */
  #grantCredit(neighbour: Neighbour, due: boolean): void {
    if (this.consumer?.started !== true) return;
    const { limit } = this.window;
    const grown = limit - neighbour.grantedLimit;
    if (grown <= 0) return;
    if (!due && grown < (limit - this.window.start) >> STEP_SHIFT) {
      this.#deadlines.setIfEarlier("credit", this.#context.now.monoMs + CREDIT_DELAY_MS);
      return;
    }
    neighbour.grantedLimit = limit;
    neighbour.link.transmit(encodeCredit(this.tag, limit));
  }

  #pump(): void {
    const options = { tag: this.tag, substreams: this.settings.substreams };
    if (this.#pumpAll) {
      this.#pumpAll = false;
      this.#pumpSome.clear();
      for (const neighbour of this.neighbours) pump(this.#context, this.window, options, neighbour);
      return;
    }
    for (const neighbour of this.#pumpSome) pump(this.#context, this.window, options, neighbour);
    this.#pumpSome.clear();
  }

  #event(event: PeerEvent): void {
    this.#context.event(event);
  }
}

function addTraffic(sum: Traffic, neighbour: Neighbour): void {
  if (neighbour.isSource) {
    sum.bytesFromSource += neighbour.bytesFrom;
    sum.fragmentsFromSource += neighbour.fragmentsFrom;
  } else {
    sum.bytesFromPeers += neighbour.bytesFrom;
    sum.fragmentsFromPeers += neighbour.fragmentsFrom;
  }
  sum.bytesToPeers += neighbour.bytesTo;
  sum.fragmentsToPeers += neighbour.fragmentsTo;
}
