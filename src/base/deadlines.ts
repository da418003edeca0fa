/**
 * Timers as data: a table of named deadlines on the monotonic clock. A machine sets and clears
 * rows; its host asks for the earliest. Firing late is normal, firing spuriously is harmless.
 */

export class Deadlines<Name extends string> {
  readonly #rows = new Map<Name, number>();
  #earliestMs = Number.POSITIVE_INFINITY;
  #stale = false;

  /** Sets row `name` to `atMs` (monotonic), replacing what it held. */
  set(name: Name, atMs: number): void {
    const before = this.#rows.get(name);
    this.#rows.set(name, atMs);
    if (atMs <= this.#earliestMs) this.#earliestMs = atMs;
    else if (before === this.#earliestMs) this.#stale = true;
  }

  /** Sets row `name` unless it holds an earlier deadline already. */
  setIfEarlier(name: Name, atMs: number): void {
    const before = this.#rows.get(name);
    if (before === undefined || atMs < before) this.set(name, atMs);
  }

  clear(name: Name): void {
    if (this.#rows.delete(name)) this.#stale = true;
  }

  get(name: Name): number | undefined {
    return this.#rows.get(name);
  }

  /** Whether `name` is due at `nowMs`; a due row is cleared. */
  take(name: Name, nowMs: number): boolean {
    const atMs = this.#rows.get(name);
    if (atMs === undefined || atMs > nowMs) return false;
    this.clear(name);
    return true;
  }

  /** Earliest deadline, Infinity when there is none. */
  earliestMs(): number {
    if (this.#stale) {
      this.#stale = false;
      this.#earliestMs = Number.POSITIVE_INFINITY;
      for (const atMs of this.#rows.values()) if (atMs < this.#earliestMs) this.#earliestMs = atMs;
    }
    return this.#earliestMs;
  }
}
