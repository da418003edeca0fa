/**
 * Links of a peer machine over their life: coming up, the handshake of each overlay, being watched,
 * going down. Whoever breaks the protocol is told and closed; other links do not notice.
 */

import { Deadlines } from "../base/deadlines.ts";
import { RemoteProtocolError } from "../base/errors.ts";
import { HANDSHAKE_TIMEOUT_MS, LINKS_PENDING_MAX } from "../base/limits.ts";
import type { Address, LinkDown, LinkId, LinkUp } from "../base/machine.ts";
import type { MonoMs, OverlayId } from "../base/units.ts";
import { ROLES } from "../protocol/common.ts";
import * as r10 from "../protocol/r10.ts";
import type { PeerContext } from "./context.ts";
import { openOverlay } from "./frame-router.ts";
import { Handshake } from "./handshake.ts";
import { PeerLink } from "./link.ts";
import type { LinkRow, LinkTable } from "./link-table.ts";
import type { Overlay } from "./overlay.ts";

const WATCH_MS = 1_000;

export interface LinkKeeperOutlet {
  overlay(overlayId: OverlayId): Overlay | undefined;
  touched(overlay: Overlay): void;
  transmit(linkId: LinkId, bytes: Uint8Array): void;
  close(linkId: LinkId, abort: boolean): void;
  /** A frame that was kept until its handshake was done. */
  frame(row: LinkRow, frame: Uint8Array): void;
}

export class LinkKeeper {
  /** Where this node accepts links, told in HELLO. */
  listen: readonly Address[] = [];
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
  }

  get deadlineMs(): MonoMs {
    return this.#deadlines.earliestMs();
  }

  /** When time has passed. */
  watch(): void {
    if (this.#deadlines.take("watch", this.#context.now.monoMs)) this.#watchAll();
  }

  linkUp(input: LinkUp): void {
    const dialled = this.#table.takeDialled(input.linkId);
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
        dialledFor: dialled?.overlayId,
        nowMs: this.#context.now.monoMs,
      },
    );
    const row = this.#table.add(link);
    this.#deadlines.setIfEarlier("watch", this.#context.now.monoMs + WATCH_MS);
    const overlay = dialled === undefined ? undefined : this.#outlet.overlay(dialled.overlayId);
    if (input.direction === "inbound" && this.#proven() >= this.#maxLinks) {
      this.fail(link, new RemoteProtocolError("TOO_MANY_LINKS"));
    } else if (input.direction === "inbound") {
      this.#makeRoom(row);
    } else if (overlay !== undefined) {
      this.#openHandshake(row, overlay, true);
    } else {
      link.close(false);
    }
  }

  /** Links that somebody has proven an identity on: only these count against maxLinks. */
  #proven(): number {
    let proven = 0;
    for (const row of this.#table.rows()) if (row.neighbours.length > 0) proven++;
    return proven;
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
      this.linkFailed(dialled.overlayId, dialled.address, input.code, input.detail);
      return;
    }
    const row = this.#table.find(input.linkId);
    if (row === undefined) return;
    const { link } = row;
    const unfinished = link.isOpen && row.neighbours.length === 0 && link.dialledFor !== undefined;
    this.detach(row, input.detail === "" ? input.code : `${input.code}, ${input.detail}`);
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
      if (fault === undefined) continue;
      if (fault === "LINK_SLOW") this.#context.counters.slowLinks++;
      this.linkFailed(link.dialledFor, link.remote, fault, late ? "no HELLO" : "");
      this.detach(row, fault);
      link.close(true);
    }
    // Not later than that: what was transmitted here may have clogged a link.
    if (this.#table.size > 0) this.#deadlines.setIfEarlier("watch", nowMs + WATCH_MS);
  }

  /** Takes all neighbours and handshakes off a link. */
  detach(row: LinkRow, detail: string): void {
    for (const handshake of row.handshakes.values()) handshake.abandon();
    row.handshakes.clear();
    for (const neighbour of [...row.neighbours]) {
      const overlay = openOverlay(neighbour);
      if (overlay === undefined) continue;
      overlay.removeNeighbour(neighbour, detail);
      this.#outlet.touched(overlay);
    }
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

  // ------------------------------------------------------------------------------ handshakes

  #openHandshake(row: LinkRow, overlay: Overlay, opener: boolean): Handshake {
    const handshake = new Handshake(
      this.#context,
      row.link,
      {
        overlayId: overlay.settings.overlayId,
        sessionEpoch: overlay.settings.sessionEpoch,
        role: overlay.role,
      },
      this.listen,
      opener,
      {
        accepted: (done) => this.#accepted(row, done),
        refused: (done, error) => {
          row.handshakes.delete(done.overlay.overlayId);
          this.fail(done.link, error);
        },
      },
    );
    row.handshakes.set(overlay.settings.overlayId, handshake);
    return handshake;
  }

  #accepted(row: LinkRow, handshake: Handshake): void {
    const { link } = row;
    row.handshakes.delete(handshake.overlay.overlayId);
    const overlay = this.#outlet.overlay(handshake.overlay.overlayId);
    if (overlay === undefined || !link.isOpen) return;
    const { peerId, role } = handshake;
    if (!link.outbound && row.neighbours.length === 0 && this.#proven() >= this.#maxLinks) {
      this.fail(link, new RemoteProtocolError("TOO_MANY_LINKS"));
      return;
    }
    const claimsSource = role === ROLES.source;
    if (claimsSource !== (peerId === overlay.settings.sourcePeerId)) {
      this.fail(link, new RemoteProtocolError("IDENTITY_UNPROVEN", { detail: "source peer" }));
      return;
    }
    const twin = overlay.neighbours.find((neighbour) => neighbour.peerId === peerId);
    if (twin !== undefined && !this.#prefers(link, twin.link, peerId)) {
      this.fail(link, new RemoteProtocolError("DUPLICATE_LINK"));
      return;
    }
    if (twin !== undefined) {
      overlay.removeNeighbour(twin, "DUPLICATE_LINK");
      this.#table.closeIfUnused(twin.link);
    }
    row.neighbours.push(overlay.addNeighbour(link, peerId, role));
    this.#outlet.touched(overlay);
    for (const frame of handshake.takeKept()) this.#outlet.frame(row, frame);
  }

  /**
   * Which of two links to one peer stays, decided alike on both sides: the newer of two opened by
   * the same side, else that opened by the lower peer id.
   */
  #prefers(link: PeerLink, old: PeerLink, peerId: string): boolean {
    if (link.outbound === old.outbound) return true;
    return link.outbound === this.#context.identity.peerId < peerId;
  }

  /** A HELLO arrived. Throws RemoteProtocolError when it has no place. */
  hello(row: LinkRow, hello: r10.Hello): void {
    const overlay = this.#outlet.overlay(hello.overlayId);
    if (overlay === undefined) {
      throw new RemoteProtocolError("WRONG_OVERLAY", { detail: hello.overlayId });
    }
    let handshake = row.handshakes.get(hello.overlayId);
    if (handshake === undefined) {
      const done = row.neighbours.some((neighbour) => openOverlay(neighbour) === overlay);
      if (done || hello.step !== r10.HELLO_STEPS.open) {
        throw new RemoteProtocolError("FRAME_UNEXPECTED", { detail: `HELLO step ${hello.step}` });
      }
      handshake = this.#openHandshake(row, overlay, false);
    }
    handshake.hello(hello);
  }
}
