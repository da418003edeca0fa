/** What a feed says while it waits: of a link that is lost. */

import { secondsText } from "./units.ts";

/** An outage that goes on is told again after so long. */
const AGAIN_MS = 10_000;

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
