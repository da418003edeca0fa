/**
 * Tells an IXS of another process which overlays ended, so that it buries their index files.
 *
 * Every end is told until the IXS has acknowledged it, which it does after its write: over a link
 * that is opened when there is something to say, in batches, one at a time. What ended before this
 * start is told again, as the acknowledgement may have been lost with the process; telling twice
 * does no harm. An IXS that refuses (KEY_REQUIRED) is told again after a while; why it refused is
 * told once a link and code. Nothing else of the OMS waits for any of it.
 */

import type { ErrorCode } from "../base/errors.ts";
import type { LinkId, Now } from "../base/machine.ts";
import { OVERLAY_GONE, OVERLAYS_GONE_MAX } from "../protocol/r6.ts";
import { failureError } from "../protocol/signalling.ts";
import type { RequestRouter } from "./request-router.ts";
import type { Uplink } from "./uplink.ts";

const ANSWER_TIMEOUT_MS = 5_000;
const AGAIN_MS = 10_000;

export interface NotifierOptions {
  readonly uplink: Uplink;
  readonly router: RequestRouter;
  readonly serviceKey: Uint8Array | undefined;
  /** Ends kept for an IXS that is away: as many as the OMS keeps tombstones. */
  readonly pendingMax: number;
  /** The IXS answered with a failure; once a link and code. */
  readonly refused: (code: ErrorCode, detail: string) => void;
}

export class IxsNotifier {
  readonly #options: NotifierOptions;
  /** Oldest first. */
  readonly #pending = new Set<string>();
  readonly #told = new Set<ErrorCode>();
  #isAsking = false;
  #againMs = 0;

  constructor(options: NotifierOptions) {
    this.#options = options;
  }

  /** Ends that the IXS has not acknowledged. */
  get pending(): number {
    return this.#pending.size;
  }

  ended(overlayId: string): void {
    const [oldest] = this.#pending.size >= this.#options.pendingMax ? this.#pending : [];
    if (oldest !== undefined) this.#pending.delete(oldest);
    this.#pending.add(overlayId);
  }

  linkUp(linkId: LinkId): void {
    if (!this.#options.uplink.linkUp(linkId)) return;
    this.#told.clear();
    this.#againMs = 0;
  }

  linkDown(linkId: LinkId, now: Now): void {
    this.#options.uplink.linkDown(linkId, now);
  }

  onTime(now: Now): void {
    if (this.#pending.size === 0) return;
    const { uplink } = this.#options;
    uplink.want(now);
    if (uplink.linkId === undefined || this.#isAsking || now.monoMs < this.#againMs) return;
    this.#tell(uplink.linkId, now);
  }

  earliestMs(): number {
    if (this.#pending.size === 0 || this.#isAsking) return Number.POSITIVE_INFINITY;
    const { uplink } = this.#options;
    return uplink.linkId === undefined ? uplink.earliestMs() : this.#againMs;
  }

  #tell(linkId: LinkId, now: Now): void {
    const { router, serviceKey } = this.#options;
    const overlayIds = [...this.#pending].slice(0, OVERLAYS_GONE_MAX);
    const key = serviceKey === undefined ? {} : { serviceKey };
    this.#isAsking = true;
    router.ask(
      linkId,
      OVERLAY_GONE,
      { overlayIds, ...key },
      ANSWER_TIMEOUT_MS,
      now,
      (outcome, later) => {
        this.#isAsking = false;
        if (outcome.kind === "answer") {
          for (const overlayId of overlayIds) this.#pending.delete(overlayId);
          return;
        }
        this.#againMs = later.monoMs + AGAIN_MS;
        if (outcome.kind === "lost") return;
        const { code, detail } = failureError(outcome.failure);
        if (this.#told.has(code)) return;
        this.#told.add(code);
        this.#options.refused(code, detail ?? "");
      },
    );
  }
}
