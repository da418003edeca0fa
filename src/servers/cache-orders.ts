/**
 * R8 orders to cache servers: the difference between what is assigned on the disk and what a cache
 * server is known to hold. So whatever was lost on the way, at either end, is made good at its next
 * registration. Decides nothing.
 */

import type { LinkId, Now } from "../base/machine.ts";
import type { OverlayId } from "../base/units.ts";
import { ALLOCATE, type Assignment, RELEASE, RELEASE_REASONS } from "../protocol/r8.ts";
import { type CacheRow, placeKey } from "./cache-table.ts";
import type { OverlayRow } from "./overlay-table.ts";
import type { RequestRouter } from "./request-router.ts";

const ORDER_TIMEOUT_MS = 5_000;

export interface OrdersHost {
  readonly router: RequestRouter;
  /** R8.c: as the source peer asked, within what the OMS allows. */
  priorityOf(row: OverlayRow): number;
  /** Goes with each order. */
  term(): number;
  /** The overlay, if it stands. */
  overlay(overlayId: OverlayId): OverlayRow | undefined;
  /** R8.b; empty: the overlay has none. */
  pamsUrlOf(row: OverlayRow): string;
}

export interface OrderFailure {
  readonly code: string;
  readonly detail: string;
}

export class CacheOrders {
  readonly #host: OrdersHost;
  readonly #refused: (
    row: CacheRow,
    assignment: Assignment,
    failure: OrderFailure,
    now: Now,
  ) => void;

  /** `refused`: the cache server does not take this virtual peer into this overlay. */
  constructor(
    host: OrdersHost,
    refused: (row: CacheRow, assignment: Assignment, failure: OrderFailure, now: Now) => void,
  ) {
    this.#host = host;
    this.#refused = refused;
  }

  /** What is to be left first: it makes room. Not what the cache server could not do just now. */
  give(row: CacheRow, now: Now): void {
    const { linkId } = row;
    if (linkId === undefined) return;
    for (const [place, assignment] of row.holds) {
      const isWanted = row.durable.has(place) || row.assigned.has(place);
      if (!isWanted && !row.asking.has(place)) this.#release(row, linkId, assignment, now);
    }
    for (const [place, assignment] of row.durable) {
      const notBeforeMs = row.notBeforeMs.get(assignment.overlayId) ?? 0;
      const isWanted =
        row.assigned.has(place) && !row.holds.has(place) && notBeforeMs <= now.monoMs;
      if (isWanted && !row.asking.has(place)) this.#allocate(row, linkId, assignment, now);
    }
  }

  /** P0.4, R8.a to R8.c. */
  #allocate(row: CacheRow, linkId: LinkId, assignment: Assignment, now: Now): void {
    const overlay = this.#host.overlay(assignment.overlayId);
    if (overlay === undefined) return;
    const place = placeKey(assignment);
    const pamsUrl = this.#host.pamsUrlOf(overlay);
    const priority = this.#host.priorityOf(overlay);
    const { title } = overlay.record;
    const order = { term: this.#host.term(), ...assignment, title, pamsUrl, priority };
    row.asking.add(place);
    const { router } = this.#host;
    router.ask(linkId, ALLOCATE, order, ORDER_TIMEOUT_MS, now, (outcome, later) => {
      row.asking.delete(place);
      // Lost: what became of it is told by its next registration.
      if (outcome.kind === "lost") return;
      if (outcome.kind === "answer") row.holds.set(place, assignment);
      else this.#refused(row, assignment, outcome.failure, later);
      // What was decided meanwhile.
      this.give(row, later);
    });
  }

  #release(row: CacheRow, linkId: LinkId, assignment: Assignment, now: Now): void {
    const place = placeKey(assignment);
    const stands = this.#host.overlay(assignment.overlayId) !== undefined;
    const reason = stands ? RELEASE_REASONS.withdrawn : RELEASE_REASONS.ended;
    const order = { term: this.#host.term(), ...assignment, reason };
    row.asking.add(place);
    const { router } = this.#host;
    router.ask(linkId, RELEASE, order, ORDER_TIMEOUT_MS, now, (outcome, later) => {
      row.asking.delete(place);
      // Refused for good (TERM_PASSED): to be asked again is no use on this link.
      if (outcome.kind !== "lost") row.holds.delete(place);
      if (outcome.kind === "answer") this.give(row, later);
    });
  }
}
