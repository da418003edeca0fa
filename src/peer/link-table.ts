/**
 * The links of a peer machine and what runs over each: neighbours (one per overlay shared) and
 * handshakes under way. Knows links under way, too. Decides nothing about overlays.
 */

import type { Address, LinkId } from "../base/machine.ts";
import { type MonoMs, type OverlayId, type PeerId, toHex } from "../base/units.ts";
import type { Handshake } from "./handshake.ts";
import type { PeerLink } from "./link.ts";
import type { Neighbour } from "./neighbour.ts";

export interface LinkRow {
  readonly link: PeerLink;
  readonly neighbours: Neighbour[];
  readonly handshakes: Map<OverlayId, Handshake>;
  /** Who proved an identity on it; the same in all overlays. */
  peerId: PeerId | undefined;
  /** Whom it was dialled to meet, where that is known. */
  readonly expected: PeerId | undefined;
  /** Overlays to be opened on it once the first one is. */
  readonly waiting: Set<OverlayId>;
  /** When a HELLO on it was given up; nothing heard since: it may be dead. */
  unansweredMs: MonoMs;
  /** Tags of overlays that were open or under way on it: what still comes of them is no fault. */
  readonly closedTags: Set<string>;
}

/** A link that was asked for and is not up yet. */
export interface Dialling {
  readonly address: Address;
  readonly peerId: PeerId | undefined;
  /** The first is opened on it at once, the others after that. */
  readonly overlayIds: Set<OverlayId>;
}

export class LinkTable {
  readonly #rows = new Map<LinkId, LinkRow>();
  readonly #dialling = new Map<LinkId, Dialling>();
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

  dial(dialling: Dialling): LinkId {
    const linkId = this.takeLinkId();
    this.#dialling.set(linkId, dialling);
    return linkId;
  }

  /** Whether a link that this node opens for the overlay has not come to anything yet. */
  isOpening(overlayId: OverlayId): boolean {
    for (const dialling of this.#dialling.values()) {
      if (dialling.overlayIds.has(overlayId)) return true;
    }
    for (const { link, handshakes } of this.#rows.values()) {
      if (link.outbound && handshakes.has(overlayId)) return true;
    }
    return false;
  }

  /** What the link was dialled for, once. */
  takeDialled(linkId: LinkId): Dialling | undefined {
    const dialled = this.#dialling.get(linkId);
    this.#dialling.delete(linkId);
    return dialled;
  }

  /** A link under way to that peer; without an id, to that address. */
  diallingTo(address: Address, peerId: PeerId | undefined): Dialling | undefined {
    for (const dialling of this.#dialling.values()) {
      if (leadsTo(address, peerId, dialling.address, dialling.peerId)) return dialling;
    }
    return undefined;
  }

  /**
   * An open link to that peer, unless it left a HELLO unanswered. Without an id only a link that this node itself dialled at that
   * address: what others say of their addresses proves nothing.
   */
  linkTo(address: Address, peerId: PeerId | undefined): LinkRow | undefined {
    for (const row of this.#rows.values()) {
      const { link } = row;
      if (!link.isOpen || link.heardMs <= row.unansweredMs) continue;
      const at = link.outbound ? link.remote : undefined;
      if (leadsTo(address, peerId, at, row.peerId ?? row.expected)) return row;
    }
    return undefined;
  }

  /** Peers with a proven link, `except` not counted. */
  provenPeers(except?: PeerId): number {
    const peers = new Set<PeerId>();
    for (const { peerId, neighbours } of this.#rows.values()) {
      if (neighbours.length > 0 && peerId !== undefined && peerId !== except) peers.add(peerId);
    }
    return peers.size;
  }

  add(link: PeerLink, dialled: Dialling | undefined): LinkRow {
    const row: LinkRow = {
      link,
      neighbours: [],
      handshakes: new Map(),
      peerId: undefined,
      expected: dialled?.peerId,
      waiting: new Set(dialled?.overlayIds),
      unansweredMs: Number.NEGATIVE_INFINITY,
      closedTags: new Set(),
    };
    this.#rows.set(link.id, row);
    return row;
  }

  remove(linkId: LinkId): void {
    this.#rows.delete(linkId);
  }

  /** A neighbour is none any more; `tag` is that of its overlay. */
  drop(neighbour: Neighbour, tag: Uint8Array): void {
    const row = this.of(neighbour.link);
    const at = row?.neighbours.indexOf(neighbour) ?? -1;
    if (row === undefined || at < 0) return;
    row.neighbours.splice(at, 1);
    row.closedTags.add(toHex(tag));
  }

  /** Closes a link that nothing runs over any more. */
  closeIfUnused(link: PeerLink): void {
    const row = this.of(link);
    if (row !== undefined && row.neighbours.length === 0 && row.handshakes.size === 0) {
      link.close(false);
    }
  }
}

/** Ids tell peers apart where both are known; else the address does. */
function leadsTo(
  address: Address,
  peerId: PeerId | undefined,
  toAddress: Address | undefined,
  toPeerId: PeerId | undefined,
): boolean {
  if (peerId !== undefined && toPeerId !== undefined) return peerId === toPeerId;
  return (
    toAddress !== undefined &&
    address.transport === toAddress.transport &&
    address.host === toAddress.host &&
    address.port === toAddress.port
  );
}
