/**
 * HELLO of each overlay on each link: who is opened where, who becomes a neighbour, and which of two
 * links between the same two peers stays.
 *
 * The first overlay of a link stands for it: what is refused there closes the link. Once something
 * runs over the link, an overlay that can't be shared (not open here, another epoch, a twin on
 * another link) is answered with BYE, and the rest goes on.
 *
 * Two peers need one link. Where each dialled the other for another overlay, the overlays move to
 * the link that stays: the peer with the lower id opens them there, and their neighbours on the link
 * that goes make way once that is done.
 */

import { type ErrorCode, isErrorCode, RemoteProtocolError } from "../base/errors.ts";
import { HANDSHAKE_TIMEOUT_MS } from "../base/limits.ts";
import type { Address } from "../base/machine.ts";
import { type OverlayId, type PeerId, toHex } from "../base/units.ts";
import { ROLES } from "../protocol/common.ts";
import * as r10 from "../protocol/r10.ts";
import type { PeerContext } from "./context.ts";
import { openOverlay } from "./frame-router.ts";
import { Handshake } from "./handshake.ts";
import type { PeerLink } from "./link.ts";
import type { LinkRow, LinkTable } from "./link-table.ts";
import type { Overlay } from "./overlay.ts";
import { overlayTag } from "./overlay-tag.ts";

export interface IntroductionsOutlet {
  overlay(overlayId: OverlayId): Overlay | undefined;
  touched(overlay: Overlay): void;
  /** A frame that was kept until its handshake was done. */
  frame(row: LinkRow, frame: Uint8Array): void;
  /** The other side broke the protocol: it is told, and the link closed. */
  fail(link: PeerLink, error: RemoteProtocolError): void;
  linkFailed(overlayId: OverlayId, address: Address, code: ErrorCode, detail: string): void;
}

export class Introductions {
  /** Where this node accepts links, told in HELLO. */
  listen: readonly Address[] = [];
  readonly #context: PeerContext;
  readonly #table: LinkTable;
  readonly #maxLinks: number;
  readonly #outlet: IntroductionsOutlet;

  constructor(
    context: PeerContext,
    table: LinkTable,
    maxLinks: number,
    outlet: IntroductionsOutlet,
  ) {
    this.#context = context;
    this.#table = table;
    this.#maxLinks = maxLinks;
    this.#outlet = outlet;
  }

  /** Opens the overlay on the link, unless it is open there or under way. */
  open(row: LinkRow, overlay: Overlay): void {
    const { overlayId } = overlay.settings;
    if (row.handshakes.has(overlayId) || this.#neighbourIn(row, overlay)) return;
    this.#begin(row, overlay, true);
  }

  /** A HELLO arrived. Throws RemoteProtocolError when it has no place. */
  hello(row: LinkRow, hello: r10.Hello): void {
    const overlay = this.#outlet.overlay(hello.overlayId);
    const opens = hello.step === r10.HELLO_STEPS.open;
    let handshake = row.handshakes.get(hello.overlayId);
    if (overlay === undefined || (opens && overlay.settings.sessionEpoch !== hello.sessionEpoch)) {
      this.#refuseUnknown(row, hello);
      return;
    }
    if (opens && handshake?.outbids(hello) === true) return;
    if (opens && handshake?.mayYield === true) {
      handshake.abandon();
      row.handshakes.delete(hello.overlayId);
      handshake = undefined;
    }
    if (handshake === undefined) {
      if (!opens && row.closedTags.has(toHex(overlay.tag))) return;
      if (!opens || this.#neighbourIn(row, overlay)) {
        throw new RemoteProtocolError("FRAME_UNEXPECTED", { detail: `HELLO step ${hello.step}` });
      }
      handshake = this.#begin(row, overlay, false);
    }
    handshake.hello(hello);
  }

  /** BYE of an overlay that is not open yet. False: it is to be kept until the handshake is done. */
  bye(row: LinkRow, tag: Uint8Array, code: string, detail: string): boolean {
    const name = toHex(tag);
    for (const handshake of row.handshakes.values()) {
      if (toHex(handshake.overlay.tag) !== name) continue;
      if (handshake.isConfirmed) return false;
      this.#end(row, handshake, isErrorCode(code) ? code : "LINK_CLOSED", detail);
      this.#table.closeIfUnused(row.link);
      return true;
    }
    return false;
  }

  /** The overlay is left: whom it was about to be shared with hears so. */
  left(overlayId: OverlayId): void {
    for (const row of this.#table.rows()) {
      row.waiting.delete(overlayId);
      const handshake = row.handshakes.get(overlayId);
      if (handshake !== undefined) {
        handshake.abandon();
        row.handshakes.delete(overlayId);
        if (row.neighbours.length > 0) this.#sayBye(row, handshake.overlay.tag, "", "");
      }
      this.#table.closeIfUnused(row.link);
    }
  }

  /** Handshakes that do not come to an end on links that others use. */
  watch(row: LinkRow): void {
    if (row.neighbours.length === 0) return;
    for (const handshake of [...row.handshakes.values()]) {
      if (this.#context.now.monoMs - handshake.sinceMs <= HANDSHAKE_TIMEOUT_MS) continue;
      row.unansweredMs = this.#context.now.monoMs;
      this.#sayBye(row, handshake.overlay.tag, "TIMEOUT", "no HELLO");
      this.#end(row, handshake, "TIMEOUT", "no HELLO");
    }
  }

  // ------------------------------------------------------------------------------ handshakes

  #neighbourIn(row: LinkRow, overlay: Overlay): boolean {
    return row.neighbours.some((neighbour) => openOverlay(neighbour) === overlay);
  }

  #begin(row: LinkRow, overlay: Overlay, opener: boolean): Handshake {
    const { overlayId, sessionEpoch } = overlay.settings;
    // What the other side sent of it before this comes no more once it answers or opens.
    if (!opener) row.closedTags.delete(toHex(overlay.tag));
    const handshake = new Handshake(
      this.#context,
      row.link,
      { overlayId, sessionEpoch, tag: overlay.tag, role: overlay.role },
      this.listen,
      opener,
      {
        accepted: (done) => this.#accepted(row, done),
        // It stays in the row until then: whoever wanted the overlay hears that it came to nothing.
        refused: (done, error) => this.#outlet.fail(done.link, error),
      },
    );
    row.handshakes.set(overlayId, handshake);
    return handshake;
  }

  #accepted(row: LinkRow, handshake: Handshake): void {
    const { link } = row;
    const { peerId, role } = handshake;
    const overlay = this.#outlet.overlay(handshake.overlay.overlayId);
    if (overlay === undefined || !link.isOpen) return;
    const fault = this.#fault(row, overlay, handshake);
    if (fault !== undefined) {
      this.#outlet.fail(link, fault);
      return;
    }
    row.handshakes.delete(handshake.overlay.overlayId);
    const twin = overlay.neighbours.find((neighbour) => neighbour.peerId === peerId);
    if (twin !== undefined && !this.#prefers(link, twin.link, peerId)) {
      this.#refuse(row, handshake, new RemoteProtocolError("DUPLICATE_LINK"));
      return;
    }
    if (twin !== undefined) {
      overlay.removeNeighbour(twin, "DUPLICATE_LINK");
      // The opener is here first: closed by it, the old link would be missed on the other side.
      if (!handshake.opener) this.#table.closeIfUnused(twin.link);
    }
    row.closedTags.delete(toHex(overlay.tag));
    row.peerId = peerId;
    row.neighbours.push(overlay.addNeighbour(link, peerId, role));
    this.#outlet.touched(overlay);
    for (const frame of handshake.takeKept()) this.#outlet.frame(row, frame);
    if (!link.isOpen) return;
    this.#openWaiting(row);
    this.#join(row, peerId);
  }

  /** Why who proved an identity is no neighbour all the same. */
  #fault(
    row: LinkRow,
    overlay: Overlay,
    { peerId, role }: Handshake,
  ): RemoteProtocolError | undefined {
    if (row.peerId !== undefined && row.peerId !== peerId) {
      return new RemoteProtocolError("IDENTITY_UNPROVEN", { detail: "another key on this link" });
    }
    if (row.expected !== undefined && row.expected !== peerId) {
      return new RemoteProtocolError("IDENTITY_UNPROVEN", { detail: "another peer answered" });
    }
    if (this.#table.provenPeers(peerId) >= this.#maxLinks) {
      return new RemoteProtocolError("TOO_MANY_LINKS");
    }
    if ((role === ROLES.source) !== (peerId === overlay.settings.sourcePeerId)) {
      return new RemoteProtocolError("IDENTITY_UNPROVEN", { detail: "source peer" });
    }
    return undefined;
  }

  #openWaiting(row: LinkRow): void {
    for (const overlayId of [...row.waiting]) {
      row.waiting.delete(overlayId);
      const overlay = this.#outlet.overlay(overlayId);
      if (overlay !== undefined) this.open(row, overlay);
    }
  }

  // ------------------------------------------------------------------------------ one link

  /**
   * Which of two links to one peer stays, decided alike on both sides: the newer of two opened by
   * the same side, else that opened by the lower peer id.
   */
  #prefers(link: PeerLink, old: PeerLink, peerId: PeerId): boolean {
    if (link.outbound === old.outbound) return true;
    return link.outbound === this.#context.identity.peerId < peerId;
  }

  /** Another link to the same peer carries other overlays: they move to the one that stays. */
  #join(row: LinkRow, peerId: PeerId): void {
    if (peerId < this.#context.identity.peerId) return;
    for (const other of this.#table.rows()) {
      if (other === row || other.peerId !== peerId || !other.link.isOpen) continue;
      const rowStays = this.#prefers(row.link, other.link, peerId);
      const [stays, goes] = rowStays ? [row, other] : [other, row];
      for (const neighbour of goes.neighbours) {
        const overlay = openOverlay(neighbour);
        if (overlay !== undefined) this.open(stays, overlay);
      }
    }
  }

  // ------------------------------------------------------------------------------ refusing

  #refuseUnknown(row: LinkRow, hello: r10.Hello): void {
    const epoch = this.#outlet.overlay(hello.overlayId)?.settings.sessionEpoch;
    const detail = epoch === undefined ? hello.overlayId : `epoch ${hello.sessionEpoch}`;
    if (row.neighbours.length === 0 && row.handshakes.size === 0) {
      throw new RemoteProtocolError("WRONG_OVERLAY", { detail });
    }
    // Step 1 or 2 of an overlay that was left meanwhile was answered with BYE when it was.
    if (hello.step !== r10.HELLO_STEPS.open) return;
    const tag = overlayTag(this.#context.sha256, hello.overlayId, hello.sessionEpoch);
    row.link.transmit(r10.encodeFrame(r10.BYE, { tag, code: "WRONG_OVERLAY", detail }));
  }

  /** The overlay does not come to be on this link; the link goes with it when it has no other. */
  #refuse(row: LinkRow, handshake: Handshake, error: RemoteProtocolError): void {
    if (row.neighbours.length === 0 && row.handshakes.size === 0) {
      this.#outlet.fail(row.link, error);
      return;
    }
    this.#sayBye(row, handshake.overlay.tag, error.code, error.detail ?? "");
    this.#end(row, handshake, error.code, error.detail ?? "");
  }

  #sayBye(row: LinkRow, tag: Uint8Array, code: string, detail: string): void {
    row.closedTags.add(toHex(tag));
    row.link.transmit(r10.encodeFrame(r10.BYE, { tag, code, detail }));
  }

  #end(row: LinkRow, handshake: Handshake, code: ErrorCode, detail: string): void {
    handshake.abandon();
    row.handshakes.delete(handshake.overlay.overlayId);
    row.closedTags.add(toHex(handshake.overlay.tag));
    if (!handshake.opener) return;
    this.#outlet.linkFailed(handshake.overlay.overlayId, row.link.remote, code, detail);
  }
}
