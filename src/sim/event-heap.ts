/**
 * What happens next: a binary heap ordered by (time, sequence of scheduling), so that two events of
 * one instant run in the order in which they were scheduled and every run of a seed is the same.
 */

export type Action = () => void;

export class EventHeap {
  #atMs = new Float64Array(1024);
  #sequence = new Float64Array(1024);
  readonly #actions: Action[] = [];
  #nextSequence = 0;

  get size(): number {
    return this.#actions.length;
  }

  /** Time of the earliest event; Infinity when there is none. */
  get earliestMs(): number {
    return this.#actions.length === 0 ? Number.POSITIVE_INFINITY : (this.#atMs[0] as number);
  }

  push(atMs: number, action: Action): void {
    let at = this.#actions.length;
    if (at === this.#atMs.length) this.#grow();
    this.#actions.push(action);
    const sequence = this.#nextSequence++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((this.#atMs[parent] as number) <= atMs) break;
      this.#move(parent, at);
      at = parent;
    }
    this.#put(at, atMs, sequence, action);
  }

  /** Removes and returns the earliest event; the heap must not be empty. */
  pop(): Action {
    const first = this.#actions[0] as Action;
    const last = this.#actions.length - 1;
    const action = this.#actions.pop() as Action;
    if (last === 0) return first;
    const atMs = this.#atMs[last] as number;
    const sequence = this.#sequence[last] as number;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= last) break;
      if (child + 1 < last && this.#before(child + 1, child)) child++;
      const childMs = this.#atMs[child] as number;
      if (atMs < childMs) break;
      if (atMs === childMs && sequence < (this.#sequence[child] as number)) break;
      this.#move(child, at);
      at = child;
    }
    this.#put(at, atMs, sequence, action);
    return first;
  }

  #before(a: number, b: number): boolean {
    const aMs = this.#atMs[a] as number;
    const bMs = this.#atMs[b] as number;
    return (
      aMs < bMs || (aMs === bMs && (this.#sequence[a] as number) < (this.#sequence[b] as number))
    );
  }

  #move(from: number, to: number): void {
    this.#put(
      to,
      this.#atMs[from] as number,
      this.#sequence[from] as number,
      this.#actions[from] as Action,
    );
  }

  #put(at: number, atMs: number, sequence: number, action: Action): void {
    this.#atMs[at] = atMs;
    this.#sequence[at] = sequence;
    this.#actions[at] = action;
  }

  #grow(): void {
    const wider = 2 * this.#atMs.length;
    const atMs = new Float64Array(wider);
    const sequence = new Float64Array(wider);
    atMs.set(this.#atMs);
    sequence.set(this.#sequence);
    this.#atMs = atMs;
    this.#sequence = sequence;
  }
}
