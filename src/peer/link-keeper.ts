/**
 * Links of a peer machine over their life: dialled or accepted, coming up, being watched, going
 * down. Whoever breaks the protocol is told and closed; other links do not notice. Which overlays
 * run over a link is settled in introductions.ts.
 *
 * A member is dialled once: an overlay that is shared with a peer that a link leads to already, or
 * is being dialled to, is opened on that link.
 */

import { Deadlines } from "../base/deadlines.ts";
import { type ErrorCode, LocalUsageError, RemoteProtocolError } from "../base/errors.ts";
import { HANDSHAKE_TIMEOUT_MS, LINKS_PENDING_MAX } from "../base/limits.ts";
import type { Address, LinkDown, LinkId, LinkUp } from "../base/machine.ts";
import type { MonoMs, OverlayId, PeerId } from "../base/units.ts";
import * as r10 from "../protocol/r10.ts";
import type { Dial } from "./commands.ts";
import type { PeerContext } from "./context.ts";
import { openOverlay } from "./frame-router.ts";
import { Introductions } from "./introductions.ts";
import { PeerLink } from "./link.ts";
import type { LinkRow, LinkTable } from "./link-table.ts";
import type { Overlay } from "./overlay.ts";

const WATCH_MS = 1_000;

export interface LinkKeeperOutlet {
  overlay(overlayId: OverlayId): Overlay | undefined;
  touched(overlay: Overlay): void;
  open(linkId: LinkId, address: Address): void;
  transmit(linkId: LinkId, bytes: Uint8Array): void;
  close(linkId: LinkId, abort: boolean): void;
  /** A frame that was kept until its handshake was done. */
  frame(row: LinkRow, frame: Uint8Array): void;
}

export class LinkKeeper {
  readonly introductions: Introductions;
  readonly #context: PeerContext;
  readonly #table: LinkTable;
  readonly #outlet: LinkKeeperOutlet;
  readonly #maxLinks: number;
  /** Inbound links without a proven identity, those being closed included. */
  readonly #maxPending: number;
  readonly #deadlines = new Deadlines<"watch">();

  constructor(context: PeerContext, table: LinkTable, maxLinks: number, outlet: LinkKeeperOutlet) {
    this.#context = context;
    this.#table = table;
    this.#maxLinks = maxLinks;
    const { memory } = context;
    const segments = Math.floor(memory.bytes.length / memory.segmentBytes);
    // Each may come to hold a segment: together no more than an eighth of the memory.
    this.#maxPending = Math.max(2, Math.min(LINKS_PENDING_MAX, segments >> 3));
    this.#outlet = outlet;
    this.introductions = new Introductions(context, table, maxLinks, {
      overlay: (overlayId) => outlet.overlay(overlayId),
      touched: (overlay) => outlet.touched(overlay),
      frame: (row, frame) => outlet.frame(row, frame),
      fail: (link, error) => this.fail(link, error),
      linkFailed: (overlayId, address, code, detail) => {
        this.linkFailed(overlayId, address, code, detail);
      },
    });
  }

  /** Where this node accepts links, told in HELLO. */
  get listen(): readonly Address[] {
    return this.introductions.listen;
  }
  set listen(addresses: readonly Address[]) {
    this.introductions.listen = addresses;
  }

  get deadlineMs(): MonoMs {
    return this.#deadlines.earliestMs();
  }

  /** When time has passed. */
  watch(): void {
    if (this.#deadlines.take("watch", this.#context.now.monoMs)) this.#watchAll();
  }

  /** Throws LocalUsageError UNKNOWN_OVERLAY. */
  dial({ overlayId, address, peerId }: Dial): void {
    const overlay = this.#outlet.overlay(overlayId);
    if (overlay === undefined) {
      throw new LocalUsageError("UNKNOWN_OVERLAY", { detail: overlayId });
    }
    if (peerId !== undefined && overlay.neighbours.some((each) => each.peerId === peerId)) return;
    const row = this.#table.linkTo(address, peerId);
    if (row !== undefined && row.neighbours.length > 0) this.introductions.open(row, overlay);
    else if (row?.link.outbound === true) {
      if (!row.handshakes.has(overlayId)) row.waiting.add(overlayId);
    } else {
      const dialling = this.#table.diallingTo(address, peerId);
      if (dialling !== undefined) dialling.overlayIds.add(overlayId);
      else this.#dialNew([overlayId], address, peerId);
    }
  }

  #dialNew(overlayIds: readonly OverlayId[], address: Address, peerId: PeerId | undefined): void {
    // Links under way do not count: most that are dialled may come to nothing, and one has to be.
    if (this.#table.provenPeers(peerId) >= this.#maxLinks) {
      this.#context.counters.unopenedLinks++;
      for (const overlayId of overlayIds) {
        this.linkFailed(overlayId, address, "TOO_MANY_LINKS", "own limit");
      }
      return;
    }
    const linkId = this.#table.dial({ address, peerId, overlayIds: new Set(overlayIds) });
    this.#outlet.open(linkId, address);
  }

  linkUp(input: LinkUp): void {
    const dialled = this.#table.takeDialled(input.linkId);
    const wanted = [...(dialled?.overlayIds ?? [])].filter(
      (overlayId) => this.#outlet.overlay(overlayId) !== undefined,
    );
    const link = new PeerLink(
      this.#context.memory,
      {
        transmit: (linkId, bytes) => this.#outlet.transmit(linkId, bytes),
        close: (linkId, abort) => this.#outlet.close(linkId, abort),
        clogged: () => this.#deadlines.set("watch", this.#context.now.monoMs),
      },
      {
        id: input.linkId,
        outbound: input.direction === "outbound",
        remote: input.remote,
        dialledFor: wanted[0],
        nowMs: this.#context.now.monoMs,
      },
    );
    const row = this.#table.add(link, dialled);
    this.#deadlines.setIfEarlier("watch", this.#context.now.monoMs + WATCH_MS);
    const overlay = wanted[0] === undefined ? undefined : this.#outlet.overlay(wanted[0]);
    if (input.direction === "inbound" && this.#table.provenPeers() >= this.#maxLinks) {
      this.fail(link, new RemoteProtocolError("TOO_MANY_LINKS"));
    } else if (input.direction === "inbound") {
      this.#makeRoom(row);
    } else if (overlay !== undefined) {
      row.waiting.delete(overlay.settings.overlayId);
      this.introductions.open(row, overlay);
    } else {
      link.close(false);
    }
  }

  /**
   * Strangers never keep a newcomer out: over the limit one that came earlier goes, without a word
   * that would cost more than it did. Of the host that has the most of them it is one that is being
   * closed and does not answer, else the oldest: who proves itself at once is not among them by then.
   * Silence says nothing: whoever just came was silent so far.
   */
  #makeRoom(newcomer: LinkRow): void {
    const pending: LinkRow[] = [];
    const perHost = new Map<string, number>();
    for (const row of this.#table.rows()) {
      const { link } = row;
      if (link.outbound || link.isAborted || row.neighbours.length > 0) continue;
      perHost.set(link.remote.host, (perHost.get(link.remote.host) ?? 0) + 1);
      if (row !== newcomer) pending.push(row);
    }
    if (pending.length < this.#maxPending) return;
    const rank = ({ link }: LinkRow): number =>
      (perHost.get(link.remote.host) as number) * 2 + Number(!link.isOpen);
    // Rows stand in the order in which they came up: the first of equals is the oldest.
    let victim = pending[0] as LinkRow;
    for (const row of pending) if (rank(row) > rank(victim)) victim = row;
    this.#context.counters.evictedLinks++;
    this.detach(victim, "TOO_MANY_LINKS");
    victim.link.close(true);
  }

  linkDown(input: LinkDown): void {
    const dialled = this.#table.takeDialled(input.linkId);
    if (dialled !== undefined) {
      for (const overlayId of dialled.overlayIds) {
        this.linkFailed(overlayId, dialled.address, input.code, input.detail);
      }
      return;
    }
    const row = this.#table.find(input.linkId);
    if (row === undefined) return;
    const { link } = row;
    const unfinished = link.isOpen && row.neighbours.length === 0 && link.dialledFor !== undefined;
    this.detach(row, input.code, input.detail);
    this.#table.remove(input.linkId);
    link.down();
    if (unfinished) this.linkFailed(link.dialledFor, link.remote, input.code, input.detail);
  }

  sent(linkId: LinkId, totalBytes: number): void {
    const row = this.#table.find(linkId);
    if (row === undefined) return;
    row.link.sent(totalBytes, this.#context.now.monoMs);
    for (const neighbour of row.neighbours) {
      const overlay = openOverlay(neighbour);
      if (overlay === undefined) continue;
      overlay.sent(neighbour);
      this.#outlet.touched(overlay);
    }
  }

  /** Pings, dead and slow links, handshakes that do not come to an end. */
  #watchAll(): void {
    const nowMs = this.#context.now.monoMs;
    for (const row of this.#table.rows()) {
      const { link } = row;
      if (!link.isOpen) continue;
      const late = row.neighbours.length === 0 && nowMs - link.upMs > HANDSHAKE_TIMEOUT_MS;
      const fault = late ? "TIMEOUT" : link.watch(nowMs);
      if (fault === undefined) {
        this.introductions.watch(row);
        continue;
      }
      if (fault === "LINK_SLOW") this.#context.counters.slowLinks++;
      this.linkFailed(link.dialledFor, link.remote, fault, late ? "no HELLO" : "");
      this.detach(row, fault);
      link.close(true);
    }
    // Not later than that: what was transmitted here may have clogged a link.
    if (this.#table.size > 0) this.#deadlines.setIfEarlier("watch", nowMs + WATCH_MS);
  }

  /** Takes all neighbours and handshakes off a link; what else was wanted on it is told, or dialled. */
  detach(row: LinkRow, code: ErrorCode, detail = ""): void {
    const { link } = row;
    for (const { opener, overlay } of row.handshakes.values()) {
      if (!opener || overlay.overlayId === link.dialledFor) continue;
      this.linkFailed(overlay.overlayId, link.remote, code, detail);
    }
    for (const handshake of row.handshakes.values()) handshake.abandon();
    row.handshakes.clear();
    for (const neighbour of [...row.neighbours]) {
      const overlay = openOverlay(neighbour);
      if (overlay === undefined) continue;
      overlay.removeNeighbour(neighbour, detail === "" ? code : `${code}, ${detail}`);
      this.#outlet.touched(overlay);
    }
    const waiting = [...row.waiting];
    row.waiting.clear();
    // What was wrong with the first overlay need not be wrong with these.
    if (waiting.length > 0) this.#dialNew(waiting, link.remote, row.expected);
  }

  /** The other side broke the protocol: it is told, and the link closed. */
  fail(link: PeerLink, error: RemoteProtocolError): void {
    const row = this.#table.of(link);
    if (!link.isOpen || row === undefined) return;
    const { code } = error;
    if (code === "FRAME_MALFORMED" || code === "MESSAGE_MALFORMED" || code === "FRAME_TOO_LARGE") {
      this.#context.counters.malformedFrames++;
    }
    this.#context.counters.refusedLinks++;
    link.transmit(r10.encodeFrame(r10.ERROR, { code, detail: error.detail ?? "" }));
    this.linkFailed(link.dialledFor, link.remote, code, error.detail ?? "");
    this.detach(row, code);
    link.close(false);
  }

  linkFailed(
    overlayId: OverlayId | undefined,
    address: Address,
    code: LinkDown["code"],
    detail: string,
  ): void {
    this.#context.event({ kind: "linkFailed", overlayId, address, code, detail });
  }
}
