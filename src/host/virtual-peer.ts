/** One virtual peer of a cache server: an engine with a key of its own, in the overlays ordered. */

import type { ErrorCode } from "../base/errors.ts";
import { Mp2pError } from "../base/errors.ts";
import { RELEASE_REASONS, type ReleaseReason } from "../protocol/r8.ts";
import type { Engine, EnginePeer, JoinOptions, ServerUrls } from "./engine-types.ts";
import type { VirtualPeerPlace, VirtualPeerReport } from "./node-cache-types.ts";

/** An index file that names the overlay is waited for: the source peer registers it last. */
const INDEX_WAIT_MS = 30_000;
/** A session that ended is left at the latest after this: neighbours may still want something. */
const ENDED_MS = 60_000;

/** `code` empty: the session ended as sessions do, or it was left by order. */
export type Out = (place: VirtualPeerPlace, code: ErrorCode | "", detail: string) => void;

interface Stay {
  readonly place: VirtualPeerPlace;
  readonly abort: AbortController;
  peer: EnginePeer | undefined;
  /** Ordered out, and so how its session ends is no news ... */
  isOrdered: boolean;
  /** ... or leaving at once. */
  isLeaving: boolean;
  timer: ReturnType<typeof setTimeout> | undefined;
}

export class VirtualPeer {
  readonly engine: Engine;
  readonly #options: ServerUrls & Pick<JoinOptions, "node">;
  readonly #joined: (place: VirtualPeerPlace) => void;
  readonly #out: Out;
  readonly #stays = new Map<string, Stay>();

  constructor(
    engine: Engine,
    options: ServerUrls & Pick<JoinOptions, "node">,
    joined: (place: VirtualPeerPlace) => void,
    out: Out,
  ) {
    this.engine = engine;
    this.#options = options;
    this.#joined = joined;
    this.#out = out;
  }

  report(): VirtualPeerReport {
    const { peerId, listening, overlays, upload } = this.engine.status();
    return { peerId, listening, overlays, uploadBytesPerSecond: upload.rateBytesPerSecond };
  }

  /** Joins the overlay and stays in it until its session ends or leave(). Never rejects. */
  async enter(overlayId: string, title: string): Promise<void> {
    const place = { peerId: this.engine.peerId, overlayId, title };
    const abort = new AbortController();
    const stay: Stay = {
      place,
      abort,
      peer: undefined,
      isOrdered: false,
      isLeaving: false,
      timer: undefined,
    };
    this.#stays.set(overlayId, stay);
    let failure: { code: ErrorCode; detail: string } | undefined;
    try {
      const peer = await this.engine.join({
        ...this.#options,
        title,
        virtualIn: overlayId,
        consume: false,
        waitMs: INDEX_WAIT_MS,
        signal: abort.signal,
      });
      stay.peer = peer;
      peer.on("failed", (failed) => {
        failure ??= failed;
        void peer.leave();
      });
      this.#joined(place);
      if (stay.isLeaving) void peer.leave();
      await peer.closed;
    } catch (error) {
      failure = failureOf(error);
    }
    if (stay.isOrdered) failure = undefined;
    clearTimeout(stay.timer);
    this.#stays.delete(overlayId);
    this.#out(place, failure?.code ?? "", failure?.detail ?? "");
  }

  /** Ordered out: at once, or as the session ends, which gives neighbours what they lack. */
  leave(overlayId: string, reason: ReleaseReason): void {
    const stay = this.#stays.get(overlayId);
    if (stay === undefined) return;
    clearTimeout(stay.timer);
    stay.isOrdered = true;
    const go = (): void => {
      stay.isLeaving = true;
      if (stay.peer === undefined) stay.abort.abort();
      else void stay.peer.leave();
    };
    if (reason === RELEASE_REASONS.withdrawn || stay.peer === undefined) go();
    else stay.timer = setTimeout(go, ENDED_MS);
  }

  async close(): Promise<void> {
    for (const stay of this.#stays.values()) {
      clearTimeout(stay.timer);
      stay.isOrdered = true;
      if (stay.peer === undefined) stay.abort.abort();
    }
    await this.engine.close();
  }
}

function failureOf(error: unknown): { code: ErrorCode; detail: string } {
  if (error instanceof Mp2pError) return { code: error.code, detail: error.detail ?? "" };
  return { code: "INTERNAL", detail: String(error) };
}
