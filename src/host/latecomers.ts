/**
 * How long a source stays for members after the end: for who may still come, and for who came and
 * reads. Both are bounded: whoever links again and again would keep it for ever.
 */

import type { FragmentIndex, MonoMs, PeerId } from "../base/units.ts";
import { GATHERINGS_MAX, LINGERS_MOST } from "../peer/finale-types.ts";

export interface LateReader {
  readonly peerId: PeerId;
  readonly lagging: boolean;
  readonly ackedTo: FragmentIndex;
}

export class Latecomers {
  readonly #lateJoinMs: number;
  readonly #lingerMs: number;
  readonly #beganMs: MonoMs;
  /** When somebody new came, or one of those went on. */
  #stillSinceMs: MonoMs;
  /** Who is waited for, by peer id, and how far each came: a new link is nothing new. */
  readonly #to = new Map<PeerId, FragmentIndex>();

  constructor(lateJoinMs: number, lingerMs: number, nowMs: MonoMs) {
    this.#lateJoinMs = lateJoinMs;
    this.#lingerMs = lingerMs;
    this.#beganMs = nowMs;
    this.#stillSinceMs = nowMs;
  }

  /** Whether it stays longer, with these neighbours. */
  stays(neighbours: readonly LateReader[], end: FragmentIndex, nowMs: MonoMs): boolean {
    const stayedMs = nowMs - this.#beganMs;
    const mayCome = stayedMs < GATHERINGS_MAX * this.#lateJoinMs;
    let isRead = false;
    for (const { peerId, lagging, ackedTo } of neighbours) {
      const to = this.#to.get(peerId);
      if (to === undefined && !mayCome && stayedMs > 0) continue;
      if (to === undefined || (!lagging && ackedTo > to)) {
        this.#to.set(peerId, ackedTo);
        this.#stillSinceMs = nowMs;
      }
      if (!lagging && ackedTo <= end) isRead = true;
    }
    if (isRead ? stayedMs >= LINGERS_MOST * this.#lingerMs : !mayCome) return false;
    return nowMs - this.#stillSinceMs < (isRead ? this.#lingerMs : this.#lateJoinMs);
  }
}
