/**
 * How the source peer shares its substreams out: each to one neighbour, evenly among those who ask.
 * So each fragment leaves it once before any second copy, and its upload stays flat (P0.7).
 */

import { SUBSTREAM_RUN } from "../../base/limits.ts";
import type { FragmentWindow } from "../../stream/window.ts";
import type { PeerContext } from "../context.ts";
import type { Neighbour } from "../neighbour.ts";

/** Who lacks no more than this is near enough to the newest fragment to hand it on. */
const CAUGHT_UP_FRAGMENTS = 8 * SUBSTREAM_RUN;

export class Shares {
  readonly #context: PeerContext;
  readonly #window: FragmentWindow;
  readonly #substreams: number;
  /** Whom the substreams were shared out among last. */
  #among: readonly Neighbour[] = [];

  constructor(context: PeerContext, window: FragmentWindow, substreams: number) {
    this.#context = context;
    this.#window = window;
    this.#substreams = substreams;
  }

  /** Whether somebody has caught up since who is to have a share now. */
  isStale(all: readonly Neighbour[]): boolean {
    return all.some(
      (neighbour) =>
        neighbour.wantedMask !== 0 &&
        !this.#among.includes(neighbour) &&
        this.#hasCaughtUp(neighbour),
    );
  }

  /** The substreams of each neighbour; who is not in it gets none. */
  share(all: readonly Neighbour[]): ReadonlyMap<Neighbour, number> {
    const asking = all.filter((neighbour) => neighbour.wantedMask !== 0);
    // A newcomer that still catches up would hand on late what others wait for.
    const caughtUp = asking.filter((neighbour) => this.#hasCaughtUp(neighbour));
    const wanting = caughtUp.length > 0 ? caughtUp : asking;
    this.#among = wanting;
    const masks = new Map<Neighbour, number>();
    const counts = new Map<Neighbour, number>();
    for (const neighbour of wanting) {
      masks.set(neighbour, 0);
      counts.set(neighbour, 0);
    }
    const quota = Math.ceil(this.#substreams / Math.max(1, wanting.length));
    const give = (neighbour: Neighbour, s: number): void => {
      masks.set(neighbour, ((masks.get(neighbour) as number) | (1 << s)) >>> 0);
      counts.set(neighbour, (counts.get(neighbour) as number) + 1);
    };
    // Who has a substream keeps it up to its quota; the rest goes to who has the fewest.
    const open: number[] = [];
    for (let s = 0; s < this.#substreams; s++) {
      const holder = wanting.find(
        (n) => (n.pushMask & (1 << s)) !== 0 && (n.wantedMask & (1 << s)) !== 0,
      );
      if (holder !== undefined && (counts.get(holder) as number) < quota) give(holder, s);
      else open.push(s);
    }
    for (const s of open) {
      let best: Neighbour | undefined;
      for (const neighbour of wanting) {
        if ((neighbour.wantedMask & (1 << s)) === 0) continue;
        const fewer =
          best === undefined || (counts.get(neighbour) as number) < (counts.get(best) as number);
        if (fewer) best = neighbour;
      }
      if (best !== undefined) give(best, s);
    }
    return masks;
  }

  #hasCaughtUp(neighbour: Neighbour): boolean {
    if (neighbour.pushMask !== 0) return true;
    const acked = neighbour.updateAcked(this.#context.now.monoMs);
    return this.#window.highest - acked <= CAUGHT_UP_FRAGMENTS;
  }
}
