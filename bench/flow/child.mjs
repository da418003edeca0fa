// What the processes of a flow have in common: talk with the parent, and account for themselves.

/** Resolves with the next message of this kind from the parent. */
export function told(kind) {
  return new Promise((resolve) => {
    const onMessage = (message) => {
      if (message.kind !== kind) return;
      process.off("message", onMessage);
      resolve(message);
    };
    process.on("message", onMessage);
  });
}

/** Sends the result and ends once it has left. */
export function finish(result) {
  const { user, system } = process.cpuUsage();
  const usage = {
    cpuSeconds: (user + system) / 1e6,
    rssMiB: process.resourceUsage().maxRSS / 1024,
  };
  process.send({ kind: "result", ...result, ...usage }, () => process.exit(0));
}

/**
 * A flow from the end of the warm-up on: what passed, in what time, at what cost. Who sends goes on
 * until it is over, so something always passes after the warm-up, however long that took.
 */
export class Meter {
  #warmMs;
  #measureMs;
  #firstMs = 0;
  #startMs = 0;
  #startCount = 0;
  #startCpu = undefined;

  constructor({ warmSeconds, seconds }) {
    this.#warmMs = warmSeconds * 1000;
    this.#measureMs = seconds * 1000;
  }

  get isWarm() {
    return this.#startCpu !== undefined;
  }

  /** Whether the measured time has passed, by performance.now(). */
  isOver(nowMs) {
    return this.isWarm && nowMs - this.#startMs >= this.#measureMs;
  }

  /** `count` data have passed by now, ms by performance.now(). */
  passed(count, nowMs) {
    if (this.isWarm) return;
    if (this.#firstMs === 0) this.#firstMs = nowMs;
    if (nowMs - this.#firstMs < this.#warmMs) return;
    this.#startMs = nowMs;
    this.#startCount = count;
    this.#startCpu = process.cpuUsage();
  }

  /** The figures up to `count` data at `endMs`. */
  report(count, endMs) {
    if (!this.isWarm) return { measured: 0, seconds: 0, measuredCpuSeconds: 0 };
    const { user, system } = process.cpuUsage(this.#startCpu);
    return {
      measured: count - this.#startCount,
      seconds: (endMs - this.#startMs) / 1000,
      measuredCpuSeconds: (user + system) / 1e6,
    };
  }
}
