/**
 * One write at a time per key: what concerns a key with a write under way waits for it, so that a
 * decision is always made on durable state. Waiting work is bounded by the limits on requests.
 */

import { assert } from "../base/assert.ts";
import type { Now } from "../base/machine.ts";

type Work = (now: Now) => void;

export class KeyQueue {
  readonly #waiting = new Map<string, Work[]>();

  /** Runs `work` now, or when the work before it on the same key has called `done`. */
  run(key: string, work: Work, now: Now): void {
    const queue = this.#waiting.get(key);
    if (queue !== undefined) {
      queue.push(work);
      return;
    }
    this.#waiting.set(key, []);
    work(now);
  }

  /** Ends the present work of `key` and starts the next. Called exactly once for each. */
  done(key: string, now: Now): void {
    const queue = this.#waiting.get(key);
    assert(queue !== undefined, "done() for a key at work");
    const next = queue.shift();
    if (next === undefined) this.#waiting.delete(key);
    else next(now);
  }

  get busy(): number {
    return this.#waiting.size;
  }
}
