/** What a feed says while it waits: of a link that is lost, and of peers that hold nothing more. */

import { countText, secondsText } from "./units.ts";

/** An outage that goes on is told again after so long. */
const AGAIN_MS = 10_000;
/** Peers that are there hold within much less what was accepted. */
const HELD_MS = 5_000;

/** A link is tried for again and again: that there is none is said once, then now and then. */
export class Outage {
  #sinceMs: number | undefined;
  #toldMs = 0;

  /** An attempt failed. Undefined: that there is no link was said a moment ago. */
  sentence(what: string, nowMs: number): string | undefined {
    const sinceMs = this.#sinceMs;
    if (sinceMs !== undefined && nowMs - this.#toldMs < AGAIN_MS) return undefined;
    this.#sinceMs ??= nowMs;
    this.#toldMs = nowMs;
    return sinceMs === undefined
      ? `no link: ${what}`
      : `no link for ${secondsText(nowMs - sinceMs)}: ${what}`;
  }

  /** There is a link again. */
  over(): void {
    this.#sinceMs = undefined;
  }
}

/** Peers hold nothing more of what was accepted: it may be that none is there. Said once each time. */
export class HeldWait {
  #held = 0;
  #sinceMs: number | undefined;

  /** Looked at now and then. Without a link nothing is known of what peers hold. */
  sentence(
    {
      accepted,
      held,
      linked,
    }: { readonly accepted: number; readonly held: number; readonly linked: boolean },
    nowMs: number,
  ): string | undefined {
    const waits = linked && accepted > held;
    if (!waits || held > this.#held) this.#sinceMs = undefined;
    this.#held = held;
    if (!waits) return undefined;
    this.#sinceMs ??= nowMs;
    if (nowMs - this.#sinceMs < HELD_MS) return undefined;
    this.#sinceMs = Number.POSITIVE_INFINITY;
    return held === 0
      ? "waits for peers: none holds anything yet, so it may be that none has joined the session"
      : `waits for peers: none holds more than up to ${countText(held)}, so they may be gone`;
  }
}
