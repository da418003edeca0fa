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
import * as layout from "../base/layout.ts";
import type { FragmentIndex, MemoryOffset, MonoMs } from "../base/units.ts";
import { ROLES, type Role } from "../protocol/common.ts";
import { type Accept, BYE, encodeFrame, type Partner } from "../protocol/r10.ts";
import type { BuffermapHeader } from "../protocol/r10-binary.ts";
import { FragmentWindow } from "../stream/window.ts";
import { Advertiser } from "./advertiser.ts";
import type { PeerEvent, Take, Write } from "./commands.ts";
import { ConsumerRole } from "./consumer-role.ts";
import type { PeerContext } from "./context.ts";
import { Finale } from "./finale.ts";
import { KnownTimes } from "./known-times.ts";
import type { PeerLink } from "./link.ts";
import { Neighbour } from "./neighbour.ts";
import type { OverlayOptions } from "./overlay-options.ts";
import { Partners } from "./partners.ts";
import { Puller } from "./pull.ts";
import { pump, reconsider } from "./push.ts";
import { confirmedTo, knownTo } from "./reach.ts";
import { FragmentReceiver } from "./receiver.ts";
import { Retention } from "./retention.ts";
import { checkMemory, checkSettings, type OverlaySettings } from "./settings.ts";
import { SourceRole } from "./source-role.ts";
import { addTraffic, noTraffic, type Traffic } from "./traffic.ts";

const TICK_MS = 50;
/** Laggards, gaps and partners are looked after every so many ticks. */
const SLOW_TICKS = 2;
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
  readonly #deadlines = new Deadlines<"tick" | "flush" | "start">();
  readonly #advertiser: Advertiser;
  readonly #finale: Finale;
  readonly #times: KnownTimes;
  /** Traffic with neighbours that are gone. */
  readonly #past = noTraffic();
  #hasLeft = false;
  #pumpAll = false;
  readonly #pumpSome = new Set<Neighbour>();
  #ticks = 0;

  constructor(context: PeerContext, options: OverlayOptions) {
    checkSettings(options.settings);
    checkMemory(options.settings, context.memory);
    this.#context = context;
    this.settings = options.settings;
    this.tag = options.tag;
    this.#options = options;
    const { settings, tag } = this;
    this.window = new FragmentWindow(context.memory, {
      start: 0,
      fragments: settings.windowFragments,
      bytes: settings.windowBytes,
      fragmentBytes: settings.fragmentBytes,
    });
    this.#times = new KnownTimes(Math.max(settings.windowMs, settings.maxLagMs));
    const isSource = options.role === "source";
    this.#receiver = new FragmentReceiver(context, this.window, settings.integrity, {
      stored: (index, offset, bytes, from) => this.#stored(index, offset, bytes, from),
      corrupt: (from, error) => options.blame(from.link, error),
    });
    this.#partners = new Partners(context, this.window, tag, settings.substreams, isSource);
    this.#puller = new Puller(context, this.window, tag, settings.substreams);
    this.#retention = new Retention(context, this.window, settings, tag);
    this.#advertiser = new Advertiser(context, this.window, tag, this.neighbours, isSource);
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
      this.consumer = new ConsumerRole(context, this.window, settings, options.from, this.#times);
    }
    this.#finale = new Finale(context, this, options);
    this.#deadlines.set("tick", context.now.monoMs + TICK_MS);
  }

  get role(): Role {
    return this.source === undefined ? ROLES.peer : ROLES.source;
  }
  get hasLeft(): boolean {
    return this.#hasLeft;
  }
  get hasEnded(): boolean {
    return this.#finale.hasEnded;
  }
  get endIndex(): FragmentIndex | undefined {
    return this.#finale.endIndex;
  }
  get deadlineMs(): MonoMs {
    if (this.#hasLeft) return Number.POSITIVE_INFINITY;
    return Math.min(this.#deadlines.earliestMs(), this.#advertiser.deadlineMs);
  }
  /** One past the highest index known to exist, as far as it is to be believed. */
  get known(): FragmentIndex {
    if (this.source !== undefined) return this.window.highest;
    return confirmedTo(this.window, this.neighbours);
  }

  /** Bytes of fragments so far, by where they came from and went to. */
  traffic(): Traffic {
    const sum = { ...this.#past };
    for (const neighbour of this.neighbours) addTraffic(sum, neighbour);
    return sum;
  }

  /** How far the consumer is behind what is known, in time; 0 when it has all. */
  lagMs(): number {
    if (this.consumer?.started !== true) return 0;
    return this.#times.ageMs(this.consumer.consumedTo, this.#context.now.monoMs);
  }

  /** Complete: the neighbour whose pace this node keeps now, its window being full because of it. */
  get heldBackBy(): Neighbour | undefined {
    return this.#retention.heldBackBy(this.neighbours);
  }

  // ------------------------------------------------------------------------------ neighbours

  addNeighbour(link: PeerLink, peerId: string, role: Role): Neighbour {
    const nowMs = this.#context.now.monoMs;
    const neighbour = new Neighbour(this, this.window, link, peerId, role, nowMs);
    // A new link alone is no better standing.
    neighbour.lagging = this.#retention.wasLagging(peerId);
    // What it has is told as a whole; what is still queued for others must not be told twice.
    this.#advertiser.flush();
    this.neighbours.push(neighbour);
    this.#finale.memberCame(neighbour);
    this.#advertiser.buffermap(neighbour);
    if (this.#takes) this.#advertiser.grant(neighbour, true);
    const { overlayId } = this.settings;
    this.#event({ kind: "neighbour", overlayId, peerId, state: "up", detail: "" });
    return neighbour;
  }

  removeNeighbour(neighbour: Neighbour, detail: string): void {
    const at = this.neighbours.indexOf(neighbour);
    if (at < 0) return;
    this.neighbours.splice(at, 1);
    this.#options.dropped(neighbour);
    this.#finale.memberWent(neighbour);
    addTraffic(this.#past, neighbour);
    this.#pumpSome.delete(neighbour);
    this.#puller.lost(neighbour);
    this.#partners.gone(neighbour, this.neighbours);
    neighbour.close();
    const { overlayId } = this.settings;
    this.#event({ kind: "neighbour", overlayId, peerId: neighbour.peerId, state: "down", detail });
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
    from.buffermap(memory, header);
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
    from.wants(ranges, pairs);
    this.#pumpSome.add(from);
  }

  cancelled(from: Neighbour, ranges: Float64Array, pairs: number): void {
    from.cancelled(ranges, pairs);
  }

  credit(from: Neighbour, limit: FragmentIndex): void {
    if (limit <= from.creditLimit) return;
    from.creditLimit = limit;
    from.creditAdvancedMs = this.#context.now.monoMs;
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
    this.#advertiser.flush();
    this.#advertiser.buffermap(from);
  }

  notify(from: Neighbour, index: FragmentIndex): void {
    if (index + 1 > from.remoteHighest) from.remoteHighest = index + 1;
  }

  sent(neighbour: Neighbour): void {
    this.#pumpSome.add(neighbour);
  }

  // ------------------------------------------------------------------------------ commands

  /** Returns whether there is nothing to settle for it. */
  write(command: Write): boolean {
    assert(this.source !== undefined, "only a source peer writes");
    return this.source.write(command) && !this.#wayOutIsIdle();
  }

  take(command: Take): void {
    assert(this.consumer !== undefined, "only a consumer takes");
    for (const event of this.consumer.take(command)) this.#event(event);
  }

  /** The session is over at the servers: who has nobody left to ask gives up. */
  sessionOver(startedOver: boolean, movesOn: boolean): void {
    this.#finale.sessionOver(startedOver, movesOn);
  }

  leave(announced: boolean, movesOn = false): void {
    if (this.#hasLeft) return;
    this.#hasLeft = true;
    // Who has all and leaves says so first: a source that waits for it must not miss that.
    if (announced) this.#advertiser.flush();
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
    if (!movesOn) this.#event({ kind: "left", overlayId: this.settings.overlayId });
  }

  // ------------------------------------------------------------------------------ settling

  /** After each input that touched this overlay, and when its deadline passed. */
  settle(): void {
    if (this.#hasLeft) return;
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
    const expiredTo = this.#expiredTo(tick);
    this.#retention.free(this.neighbours, consumedTo, this.known, tick, expiredTo);
    if (this.source !== undefined) this.#runSource();
    if (this.consumer?.wakes() === true) {
      this.#event({ kind: "readable", overlayId: this.settings.overlayId });
    }
    this.#advertiser.run(this.#takes, tick);
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
    if (source.run(this.#wayOutIsIdle())) {
      this.#event({ kind: "writable", overlayId: this.settings.overlayId });
    }
    const flushMs = source.flushMs;
    if (flushMs < Number.POSITIVE_INFINITY) this.#deadlines.set("flush", Math.max(flushMs, nowMs));
    else this.#deadlines.clear("flush");
  }

  /** Whether what is open would leave at once. */
  #wayOutIsIdle(): boolean {
    let pushes = false;
    for (const neighbour of this.neighbours) {
      if (!neighbour.link.isIdle) return false;
      if (neighbour.pushMask !== 0) pushes = true;
    }
    return pushes;
  }

  #consumedTo(): FragmentIndex {
    if (this.consumer !== undefined) return this.consumer.started ? this.consumer.consumedTo : 0;
    // The source peer consumes nothing: what it made may go once members have it.
    return this.#finale.isAttended ? this.window.highest : 0;
  }

  /** Live: what has left the window; undefined: nothing may be dropped yet. Looked after at ticks. */
  #expiredTo(tick: boolean): FragmentIndex | undefined {
    if (this.settings.delivery !== "live" || !this.#counts) return undefined;
    const { windowMs } = this.settings;
    return tick ? this.#times.expiredTo(windowMs, this.#context.now.monoMs, this.endIndex) : 0;
  }

  /** Whether what is known gets older: what a source keeps until its audience is there does not. */
  get #counts(): boolean {
    return this.source === undefined ? this.#takes : this.#finale.isAttended;
  }

  /** Whether DATA is taken now: a consumer that knows where it starts. */
  get #takes(): boolean {
    return this.consumer?.started === true;
  }

  #tick(): void {
    this.#ticks++;
    if (this.#counts) this.#times.sample(this.known, this.#context.now.monoMs);
    const reachable = Math.min(knownTo(this.window, this.neighbours), this.window.limit);
    if (this.consumer?.started === true && !this.consumer.ended) {
      this.#puller.sample(Math.min(this.known, this.window.limit));
      this.#puller.run(this.neighbours, this.#partners.partners, this.#receiver.pending, reachable);
      if (this.consumer.wakesForScan()) {
        this.#event({ kind: "readable", overlayId: this.settings.overlayId });
      }
    }
    if (this.#ticks % SLOW_TICKS !== 0) return;
    this.#partners.reshare(this.neighbours);
    this.#seek();
    const confirmed = this.known;
    this.#watchStanding(confirmed);
    if (this.consumer !== undefined) {
      for (const event of this.consumer.repair(this.neighbours, confirmed)) this.#event(event);
    }
    this.#advertiser.refreshClipped(false);
    this.#end();
  }

  #seek(): void {
    if (this.consumer?.started !== true || this.consumer.ended) return;
    this.#partners.seek(
      this.neighbours,
      Math.min(knownTo(this.window, this.neighbours), this.window.limit),
    );
  }

  #watchStanding(confirmed: FragmentIndex): void {
    const changed = this.#retention.watch(this.neighbours, this.#consumedTo(), confirmed);
    this.#advertiser.heldBack = this.#retention.isHeldBack;
    for (const neighbour of changed) {
      this.#event({
        kind: "neighbour",
        overlayId: this.settings.overlayId,
        peerId: neighbour.peerId,
        state: neighbour.lagging ? "lagging" : "recovered",
        detail: "",
      });
    }
  }

  #chooseStart(): void {
    const consumer = this.consumer as ConsumerRole;
    const { overlayId } = this.settings;
    if (consumer.started) return;
    const start = consumer.chooseStart(this.neighbours);
    if (start === undefined) {
      this.#deadlines.set("start", this.#context.now.monoMs + TICK_MS);
      return;
    }
    if (start === "gone") {
      this.#deadlines.clear("start");
      this.#event({ kind: "failed", overlayId, code: "START_GONE", detail: "" });
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
    this.#advertiser.refreshClipped(true);
    this.#advertiser.start();
    this.#event({ kind: "started", overlayId: this.settings.overlayId, index: start });
    this.#seek();
  }

  #end(): void {
    const step = this.#finale.watch();
    if (step === undefined) return;
    const { overlayId } = this.settings;
    if (step.kind === "leave") this.leave(true);
    else if (step.kind !== "failed") this.#event({ kind: step.kind, overlayId });
    else this.#event({ kind: "failed", overlayId, code: step.code, detail: step.detail });
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
    if ((flags & layout.DATA_FLAG_END) !== 0) this.#finale.endKnown(index);
    this.#advertiser.stored(index);
    for (const neighbour of this.neighbours) {
      if (neighbour !== from) reconsider(neighbour, index);
    }
    this.#pumpAll = true;
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
