/**
 * The peer machine: links, handshakes, overlays, and the sessions that lead to them. One per
 * engine; several overlays may share it, and a link.
 *
 * It routes: a frame to the neighbour its tag names, a job's result to who asked, a command to its
 * overlay. What is decided is decided in the parts. A link that breaks the protocol gets ERROR and
 * is closed; other links do not notice.
 */

import { Deadlines } from "../base/deadlines.ts";
import { isErrorCode, LocalUsageError, RemoteProtocolError } from "../base/errors.ts";
import * as layout from "../base/layout.ts";
import { FRAME_TYPES } from "../base/layout.ts";
import { HANDSHAKE_TIMEOUT_MS, LINKS_MAX_DEFAULT, RANGES_PER_FRAME_MAX } from "../base/limits.ts";
import type {
  Address,
  Frames,
  Input,
  Job,
  JobResult,
  LinkDown,
  LinkId,
  LinkUp,
  Now,
} from "../base/machine.ts";
import { MachineBase } from "../base/machine.ts";
import type { ReceiveCursor } from "../base/receive-arena.ts";
import type { Entropy, Rng } from "../base/rng.ts";
import { fromHex, type OverlayId, toHex } from "../base/units.ts";
import type { EngineMemory } from "../kernel/engine-memory.ts";
import { ROLES } from "../protocol/common.ts";
import * as r10 from "../protocol/r10.ts";
import {
  type BuffermapHeader,
  encodePing,
  readBuffermap,
  readCredit,
  readFrameHeader,
  readHaveStart,
  readPing,
  readRanges,
  readSeal,
  tagEquals,
} from "../protocol/r10-binary.ts";
import type { PeerCommand, PeerEvent } from "./commands.ts";
import { type PeerContext, type PeerIdentity, zeroCounters } from "./context.ts";
import { Handshake } from "./handshake.ts";
import { PeerLink } from "./link.ts";
import type { Neighbour } from "./neighbour.ts";
import { Overlay } from "./overlay.ts";
import { Sessions } from "./session/sessions.ts";

const WATCH_MS = 1_000;

export interface PeerOptions {
  readonly memory: EngineMemory;
  readonly identity: PeerIdentity;
  readonly rng: Rng;
  readonly entropy: Entropy;
  readonly sha256: (bytes: Uint8Array) => Uint8Array;
  /** Links of this engine at most; LINKS_MAX_DEFAULT. */
  readonly maxLinks?: number;
}

/** 8 bytes of SHA-256(overlay id, session epoch as u32 little-endian). */
export function overlayTag(
  sha256: (bytes: Uint8Array) => Uint8Array,
  overlayId: OverlayId,
  sessionEpoch: number,
): Uint8Array {
  const id = fromHex(overlayId);
  if (id === undefined || id.length !== 16) {
    throw new LocalUsageError("USAGE", { detail: "an overlay id has 32 hex digits" });
  }
  const bytes = new Uint8Array(20);
  bytes.set(id);
  new DataView(bytes.buffer).setUint32(16, sessionEpoch, true);
  return sha256(bytes).slice(0, layout.OVERLAY_TAG_BYTES);
}

export class PeerMachine extends MachineBase<PeerCommand, PeerEvent> {
  readonly context: PeerContext;
  readonly #maxLinks: number;
  readonly #links = new Map<LinkId, PeerLink>();
  readonly #dialling = new Map<LinkId, { overlayId: OverlayId; address: Address }>();
  readonly #overlays = new Map<OverlayId, Overlay>();
  readonly #dirty = new Set<Overlay>();
  readonly #jobs = new Map<number, (result: JobResult) => void>();
  readonly #deadlines = new Deadlines<"watch">();
  readonly #sessions: Sessions;
  readonly #ranges = new Float64Array(2 * RANGES_PER_FRAME_MAX);
  readonly #buffermap: BuffermapHeader = { start: 0, run: 0, bitsOffset: 0, bitsBytes: 0 };
  readonly #copyCursor: ReceiveCursor;
  /** Tags of overlays this node has left: what still comes of them is no fault. */
  readonly #leftTags = new Set<string>();
  #listen: readonly Address[] = [];
  #nextLink = 1;
  #nextJob = 1;

  constructor(options: PeerOptions) {
    super();
    this.#maxLinks = options.maxLinks ?? LINKS_MAX_DEFAULT;
    this.#copyCursor = options.memory.open();
    this.context = {
      memory: options.memory,
      identity: options.identity,
      rng: options.rng,
      entropy: options.entropy,
      sha256: options.sha256,
      counters: zeroCounters(),
      now: { monoMs: 0, wallUs: 0 },
      job: (job, done) => this.#job(job, done),
      event: (event) => this.#event(event),
    };
    this.#sessions = new Sessions(this.context, {
      openLink: (address) => {
        const linkId = this.#takeLinkId();
        this.emit({ kind: "open", linkId, address });
        return linkId;
      },
      transmit: (linkId, bytes) => this.emit({ kind: "transmit", linkId, bytes }),
      closeLink: (linkId) => this.emit({ kind: "close", linkId, abort: false }),
      command: (command) => this.#command(command),
      overlay: (overlayId) => this.#overlays.get(overlayId),
      event: (event) => this.emit({ kind: "event", event }),
      listen: () => this.#listen,
    });
  }

  /** For checks and reports: never changed from outside. */
  get overlays(): ReadonlyMap<OverlayId, Overlay> {
    return this.#overlays;
  }
  get links(): ReadonlyMap<LinkId, PeerLink> {
    return this.#links;
  }

  protected override nextDeadlineMs(): number {
    let earliest = Math.min(this.#deadlines.earliestMs(), this.#sessions.deadlineMs);
    for (const overlay of this.#overlays.values()) {
      if (overlay.deadlineMs < earliest) earliest = overlay.deadlineMs;
    }
    return earliest;
  }

  protected override step(input: Input<PeerCommand>, now: Now): void {
    this.context.now = now;
    switch (input.kind) {
      case "frames":
        this.#frames(input);
        break;
      case "sent":
        this.#sent(input.linkId, input.totalBytes);
        break;
      case "command":
        this.#command(input.command);
        break;
      case "jobDone": {
        const done = this.#jobs.get(input.jobId);
        this.#jobs.delete(input.jobId);
        done?.(input.result);
        break;
      }
      case "linkUp":
        this.#linkUp(input);
        break;
      case "linkDown":
        this.#linkDown(input);
        break;
      case "timeout":
      case "storeDone":
        break;
    }
    if (this.#deadlines.take("watch", now.monoMs)) this.#watch();
    this.#sessions.settle();
    for (const overlay of this.#overlays.values()) {
      if (this.#dirty.has(overlay) || overlay.deadlineMs <= now.monoMs) {
        overlay.settle();
        if (overlay.hasLeft) this.#forget(overlay);
      }
    }
    this.#dirty.clear();
  }

  // ------------------------------------------------------------------------------ links

  #takeLinkId(): LinkId {
    const linkId = this.#nextLink;
    this.#nextLink += 2;
    return linkId;
  }

  #linkUp(input: LinkUp): void {
    if (this.#sessions.linkUp(input.linkId)) return;
    const dialled = this.#dialling.get(input.linkId);
    this.#dialling.delete(input.linkId);
    const link = new PeerLink(
      this.context.memory,
      {
        transmit: (linkId, bytes) => this.emit({ kind: "transmit", linkId, bytes }),
        close: (linkId, abort) => this.emit({ kind: "close", linkId, abort }),
      },
      {
        id: input.linkId,
        outbound: input.direction === "outbound",
        remote: input.remote,
        dialledFor: dialled?.overlayId,
        nowMs: this.context.now.monoMs,
      },
    );
    this.#links.set(link.id, link);
    this.#deadlines.setIfEarlier("watch", this.context.now.monoMs + WATCH_MS);
    const overlay = dialled === undefined ? undefined : this.#overlays.get(dialled.overlayId);
    if (input.direction === "inbound" && this.#links.size > this.#maxLinks) {
      this.#fail(link, new RemoteProtocolError("TOO_MANY_LINKS"));
    } else if (overlay !== undefined) {
      this.#openHandshake(link, overlay, true);
    } else if (input.direction === "outbound") {
      link.close(false);
    }
  }

  #linkDown(input: LinkDown): void {
    if (this.#sessions.linkDown(input.linkId, input.code, input.detail)) return;
    const dialled = this.#dialling.get(input.linkId);
    if (dialled !== undefined) {
      this.#dialling.delete(input.linkId);
      this.#linkFailed(dialled.overlayId, dialled.address, input.code, input.detail);
      return;
    }
    const link = this.#links.get(input.linkId);
    if (link === undefined) return;
    this.#links.delete(input.linkId);
    const unfinished = link.isOpen && link.neighbours.length === 0 && link.dialledFor !== undefined;
    this.#detach(link, input.detail === "" ? input.code : `${input.code}, ${input.detail}`);
    link.down();
    if (unfinished) this.#linkFailed(link.dialledFor, link.remote, input.code, input.detail);
  }

  #sent(linkId: LinkId, totalBytes: number): void {
    const link = this.#links.get(linkId);
    if (link === undefined) return;
    link.sent(totalBytes, this.context.now.monoMs);
    for (const neighbour of link.neighbours) {
      const overlay = this.#overlayOf(neighbour);
      if (overlay === undefined) continue;
      overlay.sent(neighbour);
      this.#dirty.add(overlay);
    }
  }

  /** Pings, dead and slow links, handshakes that do not come to an end. */
  #watch(): void {
    const nowMs = this.context.now.monoMs;
    for (const link of this.#links.values()) {
      if (!link.isOpen) continue;
      const late = link.neighbours.length === 0 && nowMs - link.upMs > HANDSHAKE_TIMEOUT_MS;
      const fault = late ? "TIMEOUT" : link.watch(nowMs);
      if (fault === undefined) continue;
      if (fault === "LINK_SLOW") this.context.counters.slowLinks++;
      this.#linkFailed(link.dialledFor, link.remote, fault, late ? "no HELLO" : "");
      this.#detach(link, fault);
      link.close(true);
    }
    if (this.#links.size > 0) this.#deadlines.set("watch", nowMs + WATCH_MS);
  }

  /** Takes all neighbours and handshakes off a link. */
  #detach(link: PeerLink, detail: string): void {
    for (const handshake of link.handshakes.values()) handshake.abandon();
    link.handshakes.clear();
    for (const neighbour of [...link.neighbours]) {
      const overlay = this.#overlayOf(neighbour);
      if (overlay === undefined) continue;
      overlay.removeNeighbour(neighbour, detail);
      this.#dirty.add(overlay);
    }
  }

  /** The other side broke the protocol: it is told, and the link closed. */
  #fail(link: PeerLink, error: RemoteProtocolError): void {
    if (!link.isOpen) return;
    const { code } = error;
    if (code === "FRAME_MALFORMED" || code === "MESSAGE_MALFORMED" || code === "FRAME_TOO_LARGE") {
      this.context.counters.malformedFrames++;
    }
    this.context.counters.refusedLinks++;
    link.transmit(r10.encodeFrame(r10.ERROR, { code, detail: error.detail ?? "" }));
    this.#linkFailed(link.dialledFor, link.remote, code, error.detail ?? "");
    this.#detach(link, code);
    link.close(false);
  }

  #linkFailed(
    overlayId: OverlayId | undefined,
    address: Address,
    code: LinkDown["code"],
    detail: string,
  ): void {
    this.#event({ kind: "linkFailed", overlayId, address, code, detail });
  }

  // ------------------------------------------------------------------------------ handshakes

  #openHandshake(link: PeerLink, overlay: Overlay, opener: boolean): Handshake {
    const handshake = new Handshake(
      this.context,
      link,
      {
        overlayId: overlay.settings.overlayId,
        sessionEpoch: overlay.settings.sessionEpoch,
        role: overlay.role,
      },
      this.#listen,
      opener,
      {
        accepted: (done) => this.#accepted(done),
        refused: (done, error) => {
          done.link.handshakes.delete(done.overlay.overlayId);
          this.#fail(done.link, error);
        },
      },
    );
    link.handshakes.set(overlay.settings.overlayId, handshake);
    return handshake;
  }

  #accepted(handshake: Handshake): void {
    const { link } = handshake;
    link.handshakes.delete(handshake.overlay.overlayId);
    const overlay = this.#overlays.get(handshake.overlay.overlayId);
    if (overlay === undefined || !link.isOpen) return;
    const { peerId, role } = handshake;
    const claimsSource = role === ROLES.source;
    if (claimsSource !== (peerId === overlay.settings.sourcePeerId)) {
      this.#fail(link, new RemoteProtocolError("IDENTITY_UNPROVEN", { detail: "source peer" }));
      return;
    }
    const twin = overlay.neighbours.find((neighbour) => neighbour.peerId === peerId);
    if (twin !== undefined && !this.#prefers(link, twin.link, peerId)) {
      this.#fail(link, new RemoteProtocolError("DUPLICATE_LINK"));
      return;
    }
    if (twin !== undefined) {
      overlay.removeNeighbour(twin, "DUPLICATE_LINK");
      if (twin.link.neighbours.length === 0) twin.link.close(false);
    }
    overlay.addNeighbour(link, peerId, role);
    this.#dirty.add(overlay);
    for (const frame of handshake.takeKept()) this.#frame(link, frame, 0, frame.length);
  }

  /**
   * Which of two links to one peer stays, decided alike on both sides: the newer of two opened by
   * the same side, else that opened by the lower peer id.
   */
  #prefers(link: PeerLink, old: PeerLink, peerId: string): boolean {
    if (link.outbound === old.outbound) return true;
    return link.outbound === this.context.identity.peerId < peerId;
  }

  // ------------------------------------------------------------------------------ frames

  #frames(input: Frames): void {
    if (this.#sessions.frames(input)) return;
    const link = this.#links.get(input.linkId);
    if (link === undefined) return;
    link.heard(this.context.now.monoMs);
    const { memory, ranges, count } = input;
    for (let i = 0; i < count && link.isOpen; i++) {
      this.#frame(link, memory, ranges[2 * i] as number, ranges[2 * i + 1] as number);
    }
  }

  #frame(link: PeerLink, memory: Uint8Array, offset: number, bytes: number): void {
    try {
      const type = readFrameHeader(memory, offset, bytes);
      if (type === FRAME_TYPES.DATA) this.#data(link, memory, offset, bytes);
      else this.#control(link, type, memory, offset, bytes);
    } catch (error) {
      if (!(error instanceof RemoteProtocolError)) throw error;
      this.#fail(link, error);
    }
  }

  #data(link: PeerLink, memory: Uint8Array, offset: number, bytes: number): void {
    if (bytes < layout.DATA_HEADER_BYTES) {
      throw new RemoteProtocolError("FRAME_MALFORMED", { detail: "DATA without its header" });
    }
    const neighbour = this.#neighbour(link, memory, offset + layout.DATA_TAG);
    if (neighbour === undefined) return;
    const overlay = this.#overlayOf(neighbour);
    if (overlay === undefined) return;
    this.#dirty.add(overlay);
    if (overlay.source !== undefined) throw new RemoteProtocolError("FRAGMENT_TO_SOURCE");
    if (memory.buffer === this.context.memory.bytes.buffer) {
      overlay.data(neighbour, offset, bytes);
      return;
    }
    // It came another way than into the engine's memory (a message link): it is copied there.
    if (!this.#copyCursor.reserve(bytes)) {
      this.context.counters.memoryStalls++;
      return;
    }
    const at = this.#copyCursor.writeOffset;
    this.context.memory.bytes.set(memory.subarray(offset, offset + bytes), at);
    this.#copyCursor.commit(bytes);
    overlay.data(neighbour, at, bytes);
    this.#copyCursor.consume(bytes);
  }

  #control(link: PeerLink, type: number, memory: Uint8Array, offset: number, bytes: number): void {
    switch (type) {
      case FRAME_TYPES.HELLO:
        this.#hello(link, r10.decodeHello(memory, offset, bytes));
        return;
      case FRAME_TYPES.PING:
        link.transmit(encodePing(FRAME_TYPES.PONG, readPing(memory, offset, bytes)));
        return;
      case FRAME_TYPES.PONG:
        readPing(memory, offset, bytes);
        return;
      case FRAME_TYPES.ERROR: {
        const error = r10.decodeError(memory, offset, bytes);
        const code = isErrorCode(error.code) ? error.code : "LINK_CLOSED";
        this.#linkFailed(link.dialledFor, link.remote, code, error.detail);
        this.#detach(link, error.code);
        link.close(false);
        return;
      }
      case FRAME_TYPES.HAVE:
      case FRAME_TYPES.GET:
      case FRAME_TYPES.GONE:
      case FRAME_TYPES.CANCEL:
      case FRAME_TYPES.CREDIT:
      case FRAME_TYPES.BUFFERMAP:
      case FRAME_TYPES.SEAL:
        this.#binary(link, type, memory, offset, bytes);
        return;
      case FRAME_TYPES.PARTNER:
      case FRAME_TYPES.ACCEPT:
      case FRAME_TYPES.NOTIFY:
      case FRAME_TYPES.REFRESH:
      case FRAME_TYPES.BUSY:
      case FRAME_TYPES.BYE:
        this.#message(link, type, memory, offset, bytes);
        return;
      default:
        throw new RemoteProtocolError("FRAME_UNEXPECTED", { detail: `type ${type}` });
    }
  }

  /** Frames of fixed layout: the tag stands right behind the header. */
  #binary(link: PeerLink, type: number, memory: Uint8Array, offset: number, bytes: number): void {
    if (bytes < layout.RANGES_TAG + layout.OVERLAY_TAG_BYTES) {
      throw new RemoteProtocolError("FRAME_MALFORMED", { detail: "no room for a tag" });
    }
    const tagAt = offset + layout.RANGES_TAG;
    const neighbour = this.#neighbour(link, memory, tagAt, () =>
      memory.slice(offset, offset + bytes),
    );
    const overlay = neighbour === undefined ? undefined : this.#overlayOf(neighbour);
    if (neighbour === undefined || overlay === undefined) return;
    this.#dirty.add(overlay);
    if (type === FRAME_TYPES.CREDIT) {
      overlay.credit(neighbour, readCredit(memory, offset, bytes));
    } else if (type === FRAME_TYPES.BUFFERMAP) {
      readBuffermap(memory, offset, bytes, this.#buffermap);
      overlay.buffermap(neighbour, memory, this.#buffermap);
    } else if (type === FRAME_TYPES.SEAL) {
      // Integrity 'signed' has no overlay yet that would use it; a well-formed SEAL is no fault.
      readSeal(memory, offset, bytes);
    } else {
      const pairs = readRanges(memory, offset, bytes, this.#ranges);
      if (type === FRAME_TYPES.HAVE) {
        overlay.have(neighbour, readHaveStart(memory, offset), this.#ranges, pairs);
      } else if (type === FRAME_TYPES.GET) overlay.wants(neighbour, this.#ranges, pairs);
      else if (type === FRAME_TYPES.GONE) overlay.gone(neighbour, this.#ranges, pairs);
      else overlay.cancelled(neighbour, this.#ranges, pairs);
    }
  }

  #message(link: PeerLink, type: number, memory: Uint8Array, offset: number, bytes: number): void {
    const kept = (): Uint8Array => memory.slice(offset, offset + bytes);
    const to = (tag: Uint8Array): [Neighbour, Overlay] | undefined => {
      const neighbour = this.#neighbour(link, tag, 0, kept);
      const overlay = neighbour === undefined ? undefined : this.#overlayOf(neighbour);
      if (neighbour === undefined || overlay === undefined) return undefined;
      this.#dirty.add(overlay);
      return [neighbour, overlay];
    };
    if (type === FRAME_TYPES.PARTNER) {
      const message = r10.decodePartner(memory, offset, bytes);
      const found = to(message.tag);
      found?.[1].partner(found[0], message);
    } else if (type === FRAME_TYPES.ACCEPT) {
      const message = r10.decodeAccept(memory, offset, bytes);
      const found = to(message.tag);
      found?.[1].accept(found[0], message);
    } else if (type === FRAME_TYPES.NOTIFY) {
      const message = r10.decodeNotify(memory, offset, bytes);
      const found = to(message.tag);
      found?.[1].notify(found[0], message.index);
    } else if (type === FRAME_TYPES.REFRESH) {
      const found = to(r10.decodeRefresh(memory, offset, bytes).tag);
      found?.[1].refresh(found[0]);
    } else if (type === FRAME_TYPES.BUSY) {
      const message = r10.decodeBusy(memory, offset, bytes);
      const found = to(message.tag);
      if (found !== undefined) {
        found[1].gone(found[0], Float64Array.of(message.first, message.count), 1);
      }
    } else {
      const message = r10.decodeBye(memory, offset, bytes);
      const found = to(message.tag);
      if (found !== undefined) this.#bye(found[0], found[1], message.detail);
    }
  }

  #bye(neighbour: Neighbour, overlay: Overlay, detail: string): void {
    const { link } = neighbour;
    overlay.removeNeighbour(neighbour, detail === "" ? "BYE" : `BYE, ${detail}`);
    if (link.neighbours.length === 0 && link.handshakes.size === 0) link.close(false);
  }

  #hello(link: PeerLink, hello: r10.Hello): void {
    const overlay = this.#overlays.get(hello.overlayId);
    if (overlay === undefined) {
      throw new RemoteProtocolError("WRONG_OVERLAY", { detail: hello.overlayId });
    }
    let handshake = link.handshakes.get(hello.overlayId);
    if (handshake === undefined) {
      const done = link.neighbours.some((neighbour) => this.#overlayOf(neighbour) === overlay);
      if (done || hello.step !== r10.HELLO_STEPS.open) {
        throw new RemoteProtocolError("FRAME_UNEXPECTED", { detail: `HELLO step ${hello.step}` });
      }
      handshake = this.#openHandshake(link, overlay, false);
    }
    handshake.hello(hello);
  }

  /**
   * The neighbour on `link` whose overlay has the tag at memory[at]. Undefined when the frame is to
   * be let go: kept for later by its handshake, or of an overlay left. Else WRONG_OVERLAY.
   */
  #neighbour(
    link: PeerLink,
    memory: Uint8Array,
    at: number,
    copy?: () => Uint8Array,
  ): Neighbour | undefined {
    for (const neighbour of link.neighbours) {
      const overlay = this.#overlayOf(neighbour);
      if (overlay !== undefined && tagEquals(memory, at, overlay.tag)) return neighbour;
    }
    for (const handshake of link.handshakes.values()) {
      const overlay = this.#overlays.get(handshake.overlay.overlayId);
      if (overlay === undefined || !tagEquals(memory, at, overlay.tag)) continue;
      if (copy === undefined) {
        throw new RemoteProtocolError("FRAME_UNEXPECTED", { detail: "DATA before HELLO is done" });
      }
      handshake.keep(copy());
      return undefined;
    }
    const tag = toHex(memory.subarray(at, at + layout.OVERLAY_TAG_BYTES));
    if (this.#leftTags.has(tag)) return undefined;
    throw new RemoteProtocolError("WRONG_OVERLAY", { detail: `tag ${tag}` });
  }

  /** Undefined once the overlay was left. */
  #overlayOf(neighbour: Neighbour): Overlay | undefined {
    const overlay = neighbour.overlay as Overlay;
    return overlay.hasLeft ? undefined : overlay;
  }

  // ------------------------------------------------------------------------------ commands

  #command(command: PeerCommand): void {
    switch (command.kind) {
      case "createSession":
      case "joinSession":
      case "leaveSession":
        this.#sessions.command(command);
        return;
      case "setListen":
        this.#listen = command.addresses;
        return;
      case "openOverlay":
        this.#openOverlay(command);
        return;
    }
    const overlay = this.#overlays.get(command.overlayId);
    if (overlay === undefined) {
      throw new LocalUsageError("UNKNOWN_OVERLAY", { detail: command.overlayId });
    }
    this.#dirty.add(overlay);
    switch (command.kind) {
      case "write":
        overlay.write(command);
        return;
      case "take":
        overlay.take(command);
        return;
      case "dial": {
        const linkId = this.#takeLinkId();
        this.#dialling.set(linkId, { overlayId: command.overlayId, address: command.address });
        this.emit({ kind: "open", linkId, address: command.address });
        return;
      }
      case "registerDataSource":
        this.#sourceOf(overlay).register(command);
        return;
      case "endSource":
        this.#sourceOf(overlay).endSource(command.sourceId);
        return;
      case "endSession":
        this.#sourceOf(overlay).endSession();
        return;
      case "overlayEnded":
        overlay.sessionOver();
        return;
      case "leaveOverlay":
        overlay.leave(command.announced);
        this.#forget(overlay);
        return;
    }
  }

  #openOverlay(command: Extract<PeerCommand, { kind: "openOverlay" }>): void {
    const { overlayId, sessionEpoch } = command.settings;
    if (this.#overlays.has(overlayId)) {
      throw new LocalUsageError("USAGE", { detail: `overlay ${overlayId} is open already` });
    }
    const tag = overlayTag(this.context.sha256, overlayId, sessionEpoch);
    const overlay = new Overlay(this.context, {
      settings: command.settings,
      tag,
      role: command.role,
      waitPeers: command.waitPeers ?? 0,
      from: command.from ?? "oldest",
      blame: (link, error) => this.#fail(link, error),
    });
    this.#overlays.set(overlayId, overlay);
    this.#leftTags.delete(toHex(tag));
    this.#dirty.add(overlay);
  }

  #sourceOf(overlay: Overlay): NonNullable<Overlay["source"]> {
    if (overlay.source !== undefined) return overlay.source;
    throw new LocalUsageError("USAGE", { detail: "only a source peer has data sources" });
  }

  #forget(overlay: Overlay): void {
    if (!this.#overlays.delete(overlay.settings.overlayId)) return;
    this.#leftTags.add(toHex(overlay.tag));
    for (const link of this.#links.values()) {
      link.handshakes.get(overlay.settings.overlayId)?.abandon();
      link.handshakes.delete(overlay.settings.overlayId);
      if (link.neighbours.length === 0 && link.handshakes.size === 0) link.close(false);
    }
  }

  #job(job: Job, done: (result: JobResult) => void): void {
    const jobId = this.#nextJob++;
    this.#jobs.set(jobId, done);
    this.emit({ kind: "job", jobId, job });
  }

  #event(event: PeerEvent): void {
    this.#sessions.observe(event);
    this.emit({ kind: "event", event });
  }
}
