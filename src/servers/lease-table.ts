/**
 * Leases: every registration that ends unless it is renewed. A lease is a duration on the grantor's
 * monotonic clock; it is never stored as a time, and starts at full length again after a restart.
 *
 * Renewing costs one map write: the heap keeps the old deadline and is corrected when it comes due.
 */

export class LeaseTable {
  readonly #endMs = new Map<string, number>();
  /** Binary min-heap of (deadline when pushed, key). */
  readonly #heap: { readonly atMs: number; readonly key: string }[] = [];
  /** The deadline of the one heap row that counts for a key; its other rows are discarded. */
  readonly #rowMs = new Map<string, number>();

  get size(): number {
    return this.#endMs.size;
  }

  /** Starts or renews the lease of `key`: it ends `durationMs` from now. */
  grant(key: string, durationMs: number, nowMs: number): void {
    const endMs = nowMs + durationMs;
    const rowMs = this.#rowMs.get(key);
    this.#endMs.set(key, endMs);
    // An end before the heap's row needs a row of its own; a later one is found when due.
    if (rowMs === undefined || endMs < rowMs) this.#push(endMs, key);
  }

  drop(key: string): void {
    this.#endMs.delete(key);
  }

  /** Whether `key` holds a lease that has not ended. */
  holds(key: string, nowMs: number): boolean {
    const endMs = this.#endMs.get(key);
    return endMs !== undefined && endMs > nowMs;
  }

  /** The next key whose lease has ended, which is dropped; undefined when there is none. */
  takeEnded(nowMs: number): string | undefined {
    for (;;) {
      this.#settle();
      const top = this.#heap[0];
      if (top === undefined || top.atMs > nowMs) return undefined;
      this.#pop();
      this.#endMs.delete(top.key);
      return top.key;
    }
  }

  /** When the earliest lease ends; Infinity when there is none. */
  earliestMs(): number {
    this.#settle();
    return this.#heap[0]?.atMs ?? Number.POSITIVE_INFINITY;
  }

  /** Brings the top of the heap up to date with renewals and drops. */
  #settle(): void {
    for (let top = this.#heap[0]; top !== undefined; top = this.#heap[0]) {
      const endMs = this.#endMs.get(top.key);
      const counts = this.#rowMs.get(top.key) === top.atMs;
      if (counts && endMs === top.atMs) return;
      this.#pop();
      if (counts && endMs !== undefined) this.#push(endMs, top.key);
    }
  }

  #push(atMs: number, key: string): void {
    const heap = this.#heap;
    this.#rowMs.set(key, atMs);
    let at = heap.length;
    const row = { atMs, key };
    heap.push(row);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || above.atMs <= atMs) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = row;
  }

  #pop(): void {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined) return;
    if (this.#rowMs.get(top.key) === top.atMs) this.#rowMs.delete(top.key);
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      const right = heap[child + 1];
      if (right !== undefined && right.atMs < (heap[child]?.atMs ?? 0)) child++;
      const below = heap[child];
      if (below === undefined || below.atMs >= last.atMs) break;
      heap[at] = below;
      at = child;
    }
    heap[at] = last;
  }
}
