/** The step of every iterator over a peer's session. */

/** What paces an iterator: a peer's session. */
export interface Pacer {
  /** Whether nothing comes any more; throws when that is a failure. */
  readonly isOver: boolean;
  /** Resolves when it is worth asking again. */
  woken(): Promise<void>;
  leave(): Promise<void>;
}

/** Steps at the consumer's pace: one that needs no waiting resolves at once. */
export abstract class PacedIterator<T, P extends Pacer> implements AsyncIterableIterator<T> {
  protected readonly peer: P;

  constructor(peer: P) {
    this.peer = peer;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<T>> {
    const value = this.now();
    return value === undefined ? this.#wait() : Promise.resolve({ done: false, value });
  }

  async return(): Promise<IteratorResult<T>> {
    await this.peer.leave();
    return { done: true, value: undefined };
  }

  async #wait(): Promise<IteratorResult<T>> {
    for (;;) {
      if (this.peer.isOver) return { done: true, value: undefined };
      const woken = this.peer.woken();
      // It may have come between the last try and now.
      const before = this.now();
      if (before !== undefined) return { done: false, value: before };
      if (this.peer.isOver) return { done: true, value: undefined };
      await woken;
      const value = this.now();
      if (value !== undefined) return { done: false, value };
    }
  }

  /** What is there now; undefined when there is nothing. */
  protected abstract now(): T | undefined;
}
