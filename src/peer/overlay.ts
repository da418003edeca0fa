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
import { type Accept, type Busy, BYE, encodeFrame, type Partner } from "../protocol/r10.ts";
import type { BuffermapHeader } from "../protocol/r10-binary.ts";
import type { Take, TakeFragment, Write } from "./commands.ts";
import type { ConsumerRole } from "./consumer-role.ts";
import type { PeerContext } from "./context.ts";
import { Finale } from "./finale.ts";
import { checkNeighbour } from "./invariants.ts";
import type { PeerLink } from "./link.ts";
import { Neighbour } from "./neighbour.ts";
import type { OverlayOptions } from "./overlay-options.ts";
import { OverlayParts } from "./overlay-parts.ts";
import { pump, reconsider } from "./push.ts";
import { knownTo } from "./reach.ts";
import type { SourceRole } from "./source-role.ts";
import { addTraffic, noTraffic, type Traffic } from "./traffic.ts";

const TICK_MS = 50;
/** Laggards, gaps and partners are looked after every so many ticks. */
const SLOW_TICKS = 2;
/** Members are asked for because of partners at most this often. */
const LACKS_AGAIN_MS = 4_000;

export class Overlay extends OverlayParts {
  readonly #deadlines = new Deadlines<"tick" | "flush" | "start">();
  readonly finale: Finale;
  /** Traffic with neighbours that are gone. */
  readonly #past = noTraffic();
  #hasLeft = false;
  #pumpAll = false;
  /** Something was written in this input. */
  #wrote = false;
  readonly #pumpSome = new Set<Neighbour>();
  #ticks = 0;
  #lackedMs: MonoMs = Number.NEGATIVE_INFINITY;

  constructor(context: PeerContext, options: OverlayOptions) {
    super(context, options);
    this.finale = new Finale(context, this, options);
    this.#deadlines.set("tick", context.now.monoMs + TICK_MS);
  }

  get role(): Role {
    return ROLES[this.options.role];
  }
  get hasLeft(): boolean {
    return this.#hasLeft;
  }
  get hasEnded(): boolean {
    return this.finale.hasEnded;
  }
  get endIndex(): FragmentIndex | undefined {
    return this.finale.endIndex;
  }
  get deadlineMs(): MonoMs {
    if (this.#hasLeft) return Number.POSITIVE_INFINITY;
    return Math.min(this.#deadlines.earliestMs(), this.advertiser.deadlineMs);
  }
  /** One past the highest index known to exist, as far as it is to be believed. */
  get known(): FragmentIndex {
    if (this.source !== undefined) return this.window.highest;
    return this.reach.confirmedTo(this.neighbours, this.window.highest);
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
    return this.times.ageMs(this.consumer.consumedTo, this.context.now.monoMs);
  }

  /** Complete: the neighbour whose pace this node keeps now, its window being full because of it. */
  get heldBackBy(): Neighbour | undefined {
    return this.retention.heldBackBy(this.neighbours);
  }

  // ------------------------------------------------------------------------------ neighbours

  addNeighbour(link: PeerLink, peerId: string, role: Role): Neighbour {
    const nowMs = this.context.now.monoMs;
    const picker = role === ROLES.source ? undefined : this.puller?.picker;
    const neighbour = new Neighbour(this, this.window, picker, link, peerId, role, nowMs);
    // A new link alone is no better standing.
    neighbour.lagging = this.retention.wasLagging(peerId);
    neighbour.isAtSource = this.source !== undefined;
    this.neighbours.push(neighbour);
    this.puller?.add(neighbour);
    this.finale.memberCame(neighbour);
    this.advertiser.cameUp(neighbour, this.#takes ? this.consumer?.hadFrom : undefined);
    this.event({
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
    this.options.dropped(neighbour);
    this.finale.memberWent(neighbour, this.#hasLeft);
    addTraffic(this.#past, neighbour);
    this.#pumpSome.delete(neighbour);
    this.puller?.remove(neighbour);
    this.partners.gone(neighbour, this.neighbours);
    neighbour.close();
    this.event({
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
    this.pace.arrived(bytes, this.context.now.monoMs);
    this.receiver.data(from, offset, bytes);
  }

  buffermap(from: Neighbour, memory: Uint8Array, header: BuffermapHeader): void {
    const { window } = this;
    if (this.consumer?.started === false && !this.neighbours.some((n) => n.mapKnown)) {
      // Nothing is known yet: look at the stream from where this neighbour stands.
      if (window.heldCount === 0) window.rebase(header.start);
    }
    from.buffermap(memory, header);
    this.puller?.heard(from);
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
    if (pairs > 0) from.advancedMs = this.context.now.monoMs;
    this.puller?.heard(from);
    if (from.toServe.length > 0 || pairs > 0) this.#pumpSome.add(from);
  }

  gone(from: Neighbour, ranges: Float64Array, pairs: number): void {
    for (let i = 0; i < pairs; i++) {
      const first = ranges[2 * i] as number;
      const count = ranges[2 * i + 1] as number;
      from.withdrew(first, count);
      this.puller?.lost(from, first, first + count);
    }
    this.#pumpSome.add(from);
  }

  busy(from: Neighbour, { first, count, retryAfterMs }: Busy): void {
    this.context.counters.busyReceived++;
    this.puller?.busy(from, first, first + count, retryAfterMs);
  }

  wants(from: Neighbour, ranges: Float64Array, pairs: number, isPatient: boolean): void {
    const isStrained = this.partners.isStrained(this.neighbours);
    const once = isPatient && this.source !== undefined;
    if (this.serving.asked(from, ranges, pairs, { isStrained, once })) this.#pumpSome.add(from);
  }

  credit(from: Neighbour, limit: FragmentIndex): void {
    if (limit <= from.creditLimit) return;
    from.creditLimit = limit;
    from.creditAdvancedMs = this.context.now.monoMs;
    this.#pumpSome.add(from);
  }

  partner(from: Neighbour, message: Partner): void {
    this.partners.wanted(from, message, this.neighbours);
    this.#pumpAll = true;
  }

  accept(from: Neighbour, message: Accept): void {
    this.partners.accepted(from, message, this.neighbours);
    this.#seek();
  }

  refresh(from: Neighbour): void {
    this.advertiser.buffermap(from);
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
    this.#wrote = true;
    return this.source.write(command) && !this.#wayOutIsIdle();
  }

  take(command: Take | TakeFragment): void {
    assert(this.consumer !== undefined, "only a consumer takes");
    for (const event of this.consumer.take(command)) this.event(event);
  }

  /** The session is over at the servers: who has nobody left to ask gives up. */
  sessionOver(startedOver: boolean, movesOn: boolean): void {
    this.finale.sessionOver(startedOver, movesOn);
  }

  leave(announced: boolean, movesOn = false): void {
    if (this.#hasLeft) return;
    this.#hasLeft = true;
    // Who has all and leaves says so first: a source that waits for it must not miss that.
    if (announced) this.advertiser.flush();
    for (const neighbour of [...this.neighbours]) {
      if (announced) {
        const bye = { tag: this.tag, code: "", detail: "" };
        neighbour.link.transmit(encodeFrame(BYE, bye));
      }
      this.removeNeighbour(neighbour, "left");
    }
    this.source?.close();
    this.consumer?.close();
    this.receiver.close();
    this.puller?.close();
    this.pace.close();
    this.window.close();
    if (!movesOn) this.event({ kind: "left", overlayId: this.settings.overlayId });
  }

  // ------------------------------------------------------------------------------ settling

  /** After each input that touched this overlay, and when its deadline passed. */
  settle(): void {
    if (this.#hasLeft) return;
    const nowMs = this.context.now.monoMs;
    this.receiver.flush();
    if (this.consumer !== undefined && this.#deadlines.take("start", nowMs)) this.#chooseStart();
    const tick = this.#deadlines.take("tick", nowMs);
    if (tick) {
      this.#deadlines.set("tick", nowMs + TICK_MS);
      this.#tick();
      if (this.hasLeft) return;
    }
    for (const event of this.consumer?.forward() ?? []) this.event(event);
    // END stays: who comes when all is over must learn that it is.
    const consumedTo = Math.min(this.#consumedTo(), this.endIndex ?? Number.POSITIVE_INFINITY);
    const expiredTo = this.#expiredTo(tick);
    this.retention.free(this.neighbours, consumedTo, this.known, tick, expiredTo);
    if (this.source !== undefined) this.#runSource();
    if (this.consumer?.wakes() === true) {
      this.event({ kind: "readable", overlayId: this.settings.overlayId });
    }
    if (this.#takes) this.pace.raise(nowMs);
    this.advertiser.run(this.#takes, tick);
    this.#pull(tick);
    for (const neighbour of this.#pumpAll ? this.neighbours : this.#pumpSome) this.turn(neighbour);
    this.#pumpAll = false;
    this.#pumpSome.clear();
  }

  /** The upload limit gives this neighbour its turn. */
  turn(neighbour: Neighbour): void {
    pump(this.context, this, neighbour);
  }

  /** After credit is told: nobody serves what it was not granted. */
  #pull(tick: boolean): void {
    const { window, consumer } = this;
    const puller = this.puller;
    if (puller === undefined || consumer?.started !== true) return;
    puller.forgetBelow(window.start);
    if (consumer.ended || !(tick || puller.due)) return;
    puller.run({
      neighbours: this.neighbours,
      partners: this.partners.partners,
      awaited: this.partners.awaited,
      head: consumer.consumedTo,
      to: Math.min(knownTo(window, this.neighbours), window.limit, this.advertiser.grantedTo),
      overdue: (s) => this.partners.overdue(s),
    });
  }

  /** Recomputes what is derived; throws AssertionError. */
  checkInvariants(): void {
    const { window, neighbours, settings } = this;
    window.checkInvariants();
    for (const neighbour of neighbours) checkNeighbour(window, settings.substreams, neighbour);
    this.partners.checkInvariants(neighbours);
    this.puller?.checkInvariants(neighbours);
  }

  #runSource(): void {
    const source = this.source as SourceRole;
    const nowMs = this.context.now.monoMs;
    source.run(this.#wayOutIsIdle());
    let { flushMs } = source;
    if (source.mayWakeWriter) {
      // Not in the input in which it was told to wait: it does not know of that yet.
      if (this.#wrote) flushMs = nowMs;
      else {
        source.writerWakes();
        this.event({ kind: "writable", overlayId: this.settings.overlayId });
      }
    }
    this.#wrote = false;
    if (flushMs < Number.POSITIVE_INFINITY) this.#deadlines.set("flush", Math.max(flushMs, nowMs));
    else this.#deadlines.clear("flush");
  }

  /** Whether what is open would leave at once. */
  #wayOutIsIdle(): boolean {
    if (this.context.upload.isSaturated) return false;
    let pushes = false;
    for (const neighbour of this.neighbours) {
      if (!neighbour.link.isIdle) return false;
      if (neighbour.pushMask !== 0) pushes = true;
    }
    return pushes;
  }

  #consumedTo(): FragmentIndex {
    if (this.consumer !== undefined) return this.consumer.started ? this.consumer.consumedTo : 0;
    // The source peer consumes nothing: what it made may go once members have it. What is still in
    // its checksum job is not made yet.
    const { window } = this;
    return this.finale.isAttended ? window.firstMissing(window.start, window.highest) : 0;
  }

  /** Undefined: nothing may be dropped yet, for its age or for want of room. */
  #expiredTo(tick: boolean): FragmentIndex | undefined {
    const { windowMs, delivery } = this.settings;
    if (delivery !== "live") return undefined;
    if (this.source === undefined ? !this.#takes : !this.finale.isAttended) return undefined;
    return tick ? this.times.expiredTo(windowMs, this.context.now.monoMs, this.endIndex) : 0;
  }

  /** Whether DATA is taken now: a consumer that knows where it starts. */
  get #takes(): boolean {
    return this.consumer?.started === true;
  }

  #tick(): void {
    this.#ticks++;
    // What a source keeps until its audience is there gets no older meanwhile.
    if (this.source === undefined ? this.#takes : this.finale.isAttended) {
      this.times.sample(this.known, this.context.now.monoMs);
    }
    if (this.consumer?.started === true && !this.consumer.ended) {
      this.puller?.sample(Math.min(this.known, this.window.limit, this.pace.limit));
      if (this.consumer.wakesForScan()) {
        this.event({ kind: "readable", overlayId: this.settings.overlayId });
      }
    }
    this.serving.watch(this.neighbours);
    if (this.#ticks % SLOW_TICKS !== 0) return;
    this.partners.watch(this.neighbours);
    this.#seek();
    this.#wantPartners();
    const confirmed = this.known;
    this.#watchStanding(confirmed);
    if (this.consumer !== undefined) {
      const { heard } = this;
      const reliable = this.puller?.withoutDoubtful(heard) ?? heard;
      const mayCome = { opening: this.isOpening, again: this.finale.sourceMayReturn };
      for (const event of this.consumer.repair(heard, reliable, confirmed, mayCome))
        this.event(event);
    }
    this.advertiser.refreshClipped(false);
    this.watchPlace();
    this.#end();
  }

  #seek(): void {
    if (this.consumer?.started !== true || this.consumer.ended) return;
    const to = Math.min(knownTo(this.window, this.neighbours), this.window.limit);
    this.partners.seek(this.neighbours, to);
  }

  /** Substreams that no neighbour would push are pulled, which is late and costs others more. */
  #wantPartners(): void {
    const nowMs = this.context.now.monoMs;
    if (!this.partners.lacks || nowMs - this.#lackedMs < LACKS_AGAIN_MS) return;
    this.#lackedMs = nowMs;
    const { overlayId } = this.settings;
    this.event({ kind: "needMembers", overlayId, holding: undefined });
  }

  #watchStanding(confirmed: FragmentIndex): void {
    const changed = this.retention.watch(this.neighbours, this.#consumedTo(), confirmed);
    this.advertiser.say(this.retention.isHeldBack, this.finale.readers);
    for (const neighbour of changed) {
      this.event({
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
    const edge = this.reach.confirmedTo(this.neighbours, 0);
    const start = consumer.chooseStart(this.neighbours, this.isOpening, edge);
    if (start === undefined) {
      this.#deadlines.set("start", this.context.now.monoMs + TICK_MS);
      return;
    }
    if (start === "gone") {
      this.#deadlines.clear("start");
      this.event({ kind: "failed", overlayId, code: "START_GONE", detail: "" });
      return;
    }
    const { window } = this;
    const from = consumer.wantedFrom(start, this.neighbours);
    if (from < window.start || from >= window.origin + 64) {
      // The maps stand elsewhere: they are asked for anew.
      window.rebase(from);
      for (const neighbour of this.neighbours) neighbour.clipped = true;
    } else {
      window.advance(from);
    }
    consumer.start(start);
    this.advertiser.refreshClipped(true);
    this.advertiser.start();
    this.event({ kind: "started", overlayId: this.settings.overlayId, index: start });
    this.#seek();
  }

  #end(): void {
    const step = this.finale.watch();
    if (step === undefined) return;
    const { overlayId } = this.settings;
    if (step.kind === "leave") this.leave(true);
    else if (step.kind !== "failed") this.event({ kind: step.kind, overlayId });
    else this.event({ kind: "failed", overlayId, code: step.code, detail: step.detail });
  }

  protected override stored(
    index: FragmentIndex,
    offset: MemoryOffset,
    bytes: number,
    from: Neighbour | undefined,
  ): void {
    this.window.store(index, offset, bytes);
    const flags = this.window.kernel.view.getUint16(offset + layout.DATA_FLAGS, true);
    const isEnd = (flags & layout.DATA_FLAG_END) !== 0;
    if (isEnd) {
      this.finale.endKnown(index);
      this.consumer?.endStored(index);
    }
    this.advertiser.stored(index, from, isEnd);
    // Whoever sent it may be gone since.
    for (const neighbour of this.neighbours) {
      if (neighbour === from) neighbour.sentUs(index);
      else reconsider(neighbour, index);
    }
    this.#pumpAll = true;
  }
}
