/**
 * Frames of peer links: finds the neighbour that a frame's tag names and hands the frame's content
 * to its overlay. Keeps no state of its own but scratch space. What does not follow the protocol
 * becomes a RemoteProtocolError here and closes the link.
 */

import { type ErrorCode, isErrorCode, RemoteProtocolError } from "../base/errors.ts";
import * as layout from "../base/layout.ts";
import { FRAME_TYPES } from "../base/layout.ts";
import { RANGES_PER_FRAME_MAX } from "../base/limits.ts";
import type { Frames } from "../base/machine.ts";
import type { ReceiveCursor } from "../base/receive-arena.ts";
import { type OverlayId, toHex } from "../base/units.ts";
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
  readRangesFlags,
  readSeal,
  tagEquals,
} from "../protocol/r10-binary.ts";
import type { PeerContext } from "./context.ts";
import type { PeerLink } from "./link.ts";
import type { LinkRow, LinkTable } from "./link-table.ts";
import type { Neighbour } from "./neighbour.ts";
import type { Overlay } from "./overlay.ts";

export interface FrameOutlet {
  overlay(overlayId: OverlayId): Overlay | undefined;
  /** The overlay is to be settled after this input. */
  touched(overlay: Overlay): void;
  hello(row: LinkRow, hello: r10.Hello): void;
  /** BYE of an overlay whose handshake is under way; false: it is to wait for the end of that. */
  bye(row: LinkRow, tag: Uint8Array, code: string, detail: string): boolean;
  /** This side closes the link for what came over it. */
  fail(link: PeerLink, error: RemoteProtocolError): void;
  /** The other side said ERROR. */
  refused(row: LinkRow, code: ErrorCode, detail: string): void;
}

/** The overlay of a neighbour; undefined once it was left. */
export function openOverlay(neighbour: Neighbour): Overlay | undefined {
  const overlay = neighbour.overlay as Overlay;
  return overlay.hasLeft ? undefined : overlay;
}

/** Tags kept of overlays left: an engine may go through overlays, or epochs of one, for months. */
const LEFT_TAGS_MAX = 1_024;

export class FrameRouter {
  /** Tags of the overlays that this node left last: what still comes of them is no fault. */
  readonly #leftTags = new Set<string>();
  readonly #context: PeerContext;
  readonly #table: LinkTable;
  readonly #outlet: FrameOutlet;
  readonly #ranges = new Float64Array(2 * RANGES_PER_FRAME_MAX);
  readonly #buffermap: BuffermapHeader = { start: 0, run: 0, bitsOffset: 0, bitsBytes: 0 };
  readonly #copyCursor: ReceiveCursor;

  constructor(context: PeerContext, table: LinkTable, outlet: FrameOutlet) {
    this.#context = context;
    this.#table = table;
    this.#outlet = outlet;
    this.#copyCursor = context.memory.open();
  }

  /** This node is in the overlay of this tag, maybe again. */
  opened(tag: Uint8Array): void {
    this.#leftTags.delete(toHex(tag));
  }

  left(tag: Uint8Array): void {
    this.#leftTags.add(toHex(tag));
    const [oldest] = this.#leftTags;
    if (this.#leftTags.size > LEFT_TAGS_MAX && oldest !== undefined) this.#leftTags.delete(oldest);
  }

  /** Whole frames of one link. */
  frames(input: Frames): void {
    const row = this.#table.find(input.linkId);
    if (row === undefined) return;
    const { link } = row;
    link.heard(this.#context.now.monoMs);
    const { memory, ranges, count } = input;
    for (let i = 0; i < count && link.isOpen; i++) {
      this.frame(row, memory, ranges[2 * i] as number, ranges[2 * i + 1] as number);
    }
  }

  /** One frame; what breaks the protocol closes the link. */
  frame(row: LinkRow, memory: Uint8Array, offset: number, bytes: number): void {
    try {
      const type = readFrameHeader(memory, offset, bytes);
      if (type === FRAME_TYPES.DATA) this.#data(row, memory, offset, bytes);
      else this.#control(row, type, memory, offset, bytes);
    } catch (error) {
      if (!(error instanceof RemoteProtocolError)) throw error;
      this.#outlet.fail(row.link, error);
    }
  }

  #data(row: LinkRow, memory: Uint8Array, offset: number, bytes: number): void {
    if (bytes < layout.DATA_HEADER_BYTES) {
      throw new RemoteProtocolError("FRAME_MALFORMED", { detail: "DATA without its header" });
    }
    const neighbour = this.#neighbour(row, memory, offset + layout.DATA_TAG);
    if (neighbour === undefined) return;
    const overlay = openOverlay(neighbour);
    if (overlay === undefined) return;
    this.#outlet.touched(overlay);
    if (overlay.source !== undefined) throw new RemoteProtocolError("FRAGMENT_TO_SOURCE");
    if (memory.buffer === this.#context.memory.bytes.buffer) {
      overlay.data(neighbour, offset, bytes);
      return;
    }
    // It came another way than into the engine's memory (a message link): it is copied there.
    if (!this.#copyCursor.reserve(bytes)) {
      this.#context.counters.memoryStalls++;
      return;
    }
    const at = this.#copyCursor.writeOffset;
    this.#context.memory.bytes.set(memory.subarray(offset, offset + bytes), at);
    this.#copyCursor.commit(bytes);
    overlay.data(neighbour, at, bytes);
    this.#copyCursor.consume(bytes);
  }

  #control(row: LinkRow, type: number, memory: Uint8Array, offset: number, bytes: number): void {
    switch (type) {
      case FRAME_TYPES.HELLO:
        this.#outlet.hello(row, r10.decodeHello(memory, offset, bytes));
        return;
      case FRAME_TYPES.PING: {
        this.#metBefore(row, "PING");
        const token = readPing(memory, offset, bytes);
        if (row.link.mayAnswerPing(this.#context.now.monoMs)) {
          row.link.transmit(encodePing(FRAME_TYPES.PONG, token));
        } else {
          this.#context.counters.ignoredFrames++;
        }
        return;
      }
      case FRAME_TYPES.PONG:
        this.#metBefore(row, "PONG");
        readPing(memory, offset, bytes);
        return;
      case FRAME_TYPES.ERROR: {
        const error = r10.decodeError(memory, offset, bytes);
        const code = isErrorCode(error.code) ? error.code : "LINK_CLOSED";
        this.#outlet.refused(row, code, error.detail);
        return;
      }
      case FRAME_TYPES.HAVE:
      case FRAME_TYPES.GET:
      case FRAME_TYPES.GONE:
      case FRAME_TYPES.CANCEL:
      case FRAME_TYPES.CREDIT:
      case FRAME_TYPES.BUFFERMAP:
      case FRAME_TYPES.SEAL:
        this.#binary(row, type, memory, offset, bytes);
        return;
      case FRAME_TYPES.PARTNER:
      case FRAME_TYPES.ACCEPT:
      case FRAME_TYPES.NOTIFY:
      case FRAME_TYPES.REFRESH:
      case FRAME_TYPES.BUSY:
      case FRAME_TYPES.BYE:
        this.#message(row, type, memory, offset, bytes);
        return;
      default:
        throw new RemoteProtocolError("FRAME_UNEXPECTED", { detail: `type ${type}` });
    }
  }

  /** Before the first HELLO nothing has a place but HELLO and ERROR: a stranger costs no answer. */
  #metBefore(row: LinkRow, frame: string): void {
    if (row.neighbours.length === 0 && row.handshakes.size === 0) {
      throw new RemoteProtocolError("FRAME_UNEXPECTED", { detail: `${frame} before HELLO` });
    }
  }

  /** Frames of fixed layout: the tag stands right behind the header. */
  #binary(row: LinkRow, type: number, memory: Uint8Array, offset: number, bytes: number): void {
    if (bytes < layout.RANGES_TAG + layout.OVERLAY_TAG_BYTES) {
      throw new RemoteProtocolError("FRAME_MALFORMED", { detail: "no room for a tag" });
    }
    const tagAt = offset + layout.RANGES_TAG;
    const neighbour = this.#neighbour(row, memory, tagAt, () =>
      memory.slice(offset, offset + bytes),
    );
    const overlay = neighbour === undefined ? undefined : openOverlay(neighbour);
    if (neighbour === undefined || overlay === undefined) return;
    this.#outlet.touched(overlay);
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
      const flags = readRangesFlags(memory, offset);
      if (type === FRAME_TYPES.HAVE) {
        neighbour.heldBack = (flags & layout.HAVE_FLAG_HELD_BACK) !== 0;
        neighbour.readers = (flags & layout.HAVE_READERS_MASK) >>> layout.HAVE_READERS_SHIFT;
        overlay.have(neighbour, readHaveStart(memory, offset), this.#ranges, pairs);
      } else if (type === FRAME_TYPES.GET) {
        const isPatient = (flags & layout.GET_FLAG_PATIENT) !== 0;
        overlay.wants(neighbour, this.#ranges, pairs, isPatient);
      } else if (type === FRAME_TYPES.GONE) overlay.gone(neighbour, this.#ranges, pairs);
      else neighbour.cancelled(this.#ranges, pairs);
    }
  }

  #message(row: LinkRow, type: number, memory: Uint8Array, offset: number, bytes: number): void {
    const kept = (): Uint8Array => memory.slice(offset, offset + bytes);
    const to = (tag: Uint8Array): [Neighbour, Overlay] | undefined => {
      const neighbour = this.#neighbour(row, tag, 0, kept);
      const overlay = neighbour === undefined ? undefined : openOverlay(neighbour);
      if (neighbour === undefined || overlay === undefined) return undefined;
      this.#outlet.touched(overlay);
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
      found?.[1].busy(found[0], message);
    } else {
      const message = r10.decodeBye(memory, offset, bytes);
      if (this.#outlet.bye(row, message.tag, message.code, message.detail)) return;
      const found = to(message.tag);
      if (found !== undefined) this.#bye(found[0], found[1], message.detail);
    }
  }

  #bye(neighbour: Neighbour, overlay: Overlay, detail: string): void {
    const { link } = neighbour;
    overlay.finale.saidBye(neighbour);
    overlay.removeNeighbour(neighbour, detail === "" ? "BYE" : `BYE, ${detail}`);
    this.#table.closeIfUnused(link);
  }

  /**
   * The neighbour on the link whose overlay has the tag at memory[at]. Undefined when the frame is to
   * be let go: kept for later by its handshake, or of an overlay left. Else WRONG_OVERLAY.
   */
  #neighbour(
    row: LinkRow,
    memory: Uint8Array,
    at: number,
    copy?: () => Uint8Array,
  ): Neighbour | undefined {
    for (const neighbour of row.neighbours) {
      const overlay = openOverlay(neighbour);
      if (overlay !== undefined && tagEquals(memory, at, overlay.tag)) return neighbour;
    }
    for (const handshake of row.handshakes.values()) {
      const overlay = this.#outlet.overlay(handshake.overlay.overlayId);
      if (overlay === undefined || !tagEquals(memory, at, overlay.tag)) continue;
      // To an opener nothing may come before it confirms: this is of the overlay's time before.
      if (handshake.opener && row.closedTags.has(toHex(overlay.tag))) return undefined;
      if (copy === undefined) {
        throw new RemoteProtocolError("FRAME_UNEXPECTED", { detail: "DATA before HELLO is done" });
      }
      handshake.keep(copy());
      return undefined;
    }
    const tag = toHex(memory.subarray(at, at + layout.OVERLAY_TAG_BYTES));
    if (this.#leftTags.has(tag) || row.closedTags.has(tag)) return undefined;
    throw new RemoteProtocolError("WRONG_OVERLAY", { detail: `tag ${tag}` });
  }
}
