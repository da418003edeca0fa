/**
 * What the OMS knows from the PAMS when it makes a list of members (R1.d): who has upload to spare
 * and lags little, or who holds a fragment that somebody misses.
 *
 * The general ranking of an overlay is kept and asked for again when it is older than REFRESH_MS and
 * a list is made: lists never wait for it. Holders of one fragment are asked for each time, bounded
 * in number and time; whoever misses it waits for that answer. Without a PAMS, or without its
 * answer, lists are made of what the members themselves said.
 */

import type { Now } from "../base/machine.ts";
import { ACTIVITIES, type ActivePeer, PEER_ORDERS } from "../protocol/r1.ts";
import type { PamsRegistrar } from "./pams-registrar.ts";

const REFRESH_MS = 1_000;
/** A ranking that could not be renewed for so long is forgotten. */
const STALE_MS = 30_000;
const ANSWER_MS = 500;
/** Questions about holders under way for one overlay; more are answered without. */
const HOLDERS_MAX = 8;
/** Ranked peers of an overlay: several lists' worth, so that not all dial the same few. */
const RANKED_MAX = 64;
/** Further behind than this nobody is a good neighbour. */
const LAG_MS_MAX = 5_000;

interface Ranking {
  peerIds: readonly string[];
  atMs: number;
  askedMs: number;
  holders: number;
}

export class PeerRanking {
  readonly #registrar: PamsRegistrar | undefined;
  readonly #rankings = new Map<string, Ranking>();

  constructor(registrar: PamsRegistrar | undefined) {
    this.#registrar = registrar;
  }

  /** Peer ids to prefer, best first; at once, as far as known. */
  best(overlayId: string, sourceId: string, now: Now): readonly string[] {
    if (this.#registrar === undefined) return [];
    const ranking = this.#of(overlayId);
    if (now.monoMs - ranking.askedMs >= REFRESH_MS) this.#renew(overlayId, sourceId, ranking, now);
    return now.monoMs - ranking.atMs > STALE_MS ? [] : ranking.peerIds;
  }

  /** Peers that hold fragment `holding`, least behind first; `then` is called exactly once. */
  holders(
    wish: { readonly overlayId: string; readonly holding: number; readonly sourceId: string },
    now: Now,
    then: (peerIds: readonly string[], now: Now) => void,
  ): void {
    const { overlayId, holding, sourceId } = wish;
    const ranking = this.#registrar === undefined ? undefined : this.#of(overlayId);
    if (ranking === undefined || ranking.holders >= HOLDERS_MAX) {
      then([], now);
      return;
    }
    const request = {
      overlayId,
      activity: ACTIVITIES.any,
      maxPeers: RANKED_MAX,
      order: PEER_ORDERS.lag,
      holding,
      exclude: [sourceId],
    };
    const asked = this.#registrar?.peerList(request, ANSWER_MS, now, (peers, later) => {
      ranking.holders--;
      then(idsOf(peers), later);
    });
    if (asked === true) ranking.holders++;
    else then([], now);
  }

  /** The overlay ended. */
  forget(overlayId: string): void {
    this.#rankings.delete(overlayId);
  }

  #of(overlayId: string): Ranking {
    const known = this.#rankings.get(overlayId);
    if (known !== undefined) return known;
    const never = Number.NEGATIVE_INFINITY;
    const ranking = { peerIds: [], atMs: never, askedMs: never, holders: 0 };
    this.#rankings.set(overlayId, ranking);
    return ranking;
  }

  #renew(overlayId: string, sourceId: string, ranking: Ranking, now: Now): void {
    const request = {
      overlayId,
      activity: ACTIVITIES.active,
      maxPeers: RANKED_MAX,
      order: PEER_ORDERS.spare,
      maxLagMs: LAG_MS_MAX,
      exclude: [sourceId],
    };
    const asked = this.#registrar?.peerList(request, ANSWER_MS, now, (peers, later) => {
      if (peers === undefined) return;
      ranking.peerIds = idsOf(peers);
      ranking.atMs = later.monoMs;
    });
    if (asked === true) ranking.askedMs = now.monoMs;
  }
}

function idsOf(peers: readonly ActivePeer[] | undefined): string[] {
  return (peers ?? []).map(({ peerId }) => peerId);
}
