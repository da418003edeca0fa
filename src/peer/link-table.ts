/**
 * The links of a peer machine and what runs over each: neighbours (one per overlay shared) and
 * handshakes under way. Opens and closes links; decides nothing about overlays.
 */

import type { Address, LinkId } from "../base/machine.ts";
import type { OverlayId } from "../base/units.ts";
import type { Handshake } from "./handshake.ts";
import type { PeerLink } from "./link.ts";
import type { Neighbour } from "./neighbour.ts";

export interface LinkRow {
  readonly link: PeerLink;
  readonly neighbours: Neighbour[];
  readonly handshakes: Map<OverlayId, Handshake>;
}

export class LinkTable {
  readonly #rows = new Map<LinkId, LinkRow>();
  readonly #dialling = new Map<LinkId, { overlayId: OverlayId; address: Address }>();
  #nextLink = 1;

  get size(): number {
    return this.#rows.size;
  }

  rows(): IterableIterator<LinkRow> {
    return this.#rows.values();
  }

  find(linkId: LinkId): LinkRow | undefined {
    return this.#rows.get(linkId);
  }

  /** The row of an open link. */
  of(link: PeerLink): LinkRow | undefined {
    return this.#rows.get(link.id);
  }

  /** An id for a link that this machine opens: odd. */
  takeLinkId(): LinkId {
    const linkId = this.#nextLink;
    this.#nextLink += 2;
    return linkId;
  }

  dial(overlayId: OverlayId, address: Address): LinkId {
    const linkId = this.takeLinkId();
    this.#dialling.set(linkId, { overlayId, address });
    return linkId;
  }

  /** What the link was dialled for, once. */
  takeDialled(linkId: LinkId): { overlayId: OverlayId; address: Address } | undefined {
    const dialled = this.#dialling.get(linkId);
    this.#dialling.delete(linkId);
    return dialled;
  }

  add(link: PeerLink): LinkRow {
    const row = { link, neighbours: [], handshakes: new Map() };
    this.#rows.set(link.id, row);
    return row;
  }

  remove(linkId: LinkId): void {
    this.#rows.delete(linkId);
  }

  /** A neighbour is none any more. */
  drop(neighbour: Neighbour): void {
    const neighbours = this.of(neighbour.link)?.neighbours ?? [];
    const at = neighbours.indexOf(neighbour);
    if (at >= 0) neighbours.splice(at, 1);
  }

  /** Closes a link that nothing runs over any more. */
  closeIfUnused(link: PeerLink): void {
    const row = this.of(link);
    if (row !== undefined && row.neighbours.length === 0 && row.handshakes.size === 0) {
      link.close(false);
    }
  }
}
