/** Percentiles of the latest lags, a bounded number of them. */

const KEPT = 4_096;

export class Lags {
  readonly #values = new Float64Array(KEPT);
  #count = 0;

  add(lagMs: number): void {
    this.#values[this.#count % KEPT] = lagMs;
    this.#count++;
  }

  /** The p-th percentile (0 to 1) of what is kept; 0 when nothing is. */
  percentile(p: number): number {
    const sorted = this.#values.slice(0, Math.min(this.#count, KEPT)).sort();
    return sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? 0;
  }
}
