/**
 * Looking for where a session goes on: a source peer that was killed and starts over registers a
 * newer index file, which names the next epoch of the overlay, or another overlay. Asked soon when
 * the source peer went, then ever more seldom, and no more after a minute: then its overlay expires.
 * A file is believed only with its signature.
 */

import { bytesEqual, type MonoMs, type PeerId } from "../../base/units.ts";
import {
  decodeIndexFile,
  type IndexFile,
  type ReceivedIndexFile,
} from "../../protocol/index-file.ts";
import { type AssembledSource, standingOf, type TakenBefore } from "../../stream/source-book.ts";
import type { PeerContext } from "../context.ts";
import type { Overlay } from "../overlay.ts";
import { type NodeSettings, nodeSettings, type OverlaySettings } from "../settings.ts";
import type { EpochEnd } from "./session-types.ts";
import { verifyIndexFile } from "./verify-index.ts";

const FIRST_MS = 300;
const GROWTH = 1.5;
const LONGEST_MS = 3_000;
const UNTIL_MS = 60_000;

export interface SuccessorHost {
  /** The session as it stands. */
  readonly own: { readonly file: IndexFile; readonly sessionEpoch: number };
  /** Whether it is without END and without a source peer. */
  isOrphan(): boolean;
  /** Asks the IXS for files of `file`'s ids from that version on. */
  query(
    version: number,
    file: IndexFile,
    done: (files: readonly Uint8Array[]) => void,
    failed: () => void,
  ): void;
  after(delayMs: number, action: () => void): void;
  /** `sameKey`: by the source peer of before; else somebody else holds these ids by now. */
  found(file: IndexFile, sameKey: boolean): void;
  /** A minute is over. */
  gaveUp(): void;
}

export class Successor {
  readonly #context: PeerContext;
  readonly #host: SuccessorHost;
  #sinceMs: MonoMs = Number.NEGATIVE_INFINITY;
  readonly #taken = new Map<string, TakenBefore>();

  constructor(context: PeerContext, host: SuccessorHost) {
    this.#context = context;
    this.#host = host;
  }

  /** What was taken in the epochs that were left, by data source id. */
  get taken(): ReadonlyMap<string, TakenBefore> {
    return this.#taken;
  }

  /** `overlay` is about to be left for the next epoch: how far this peer came in it. */
  leaves(overlay: Overlay | undefined, sessionEpoch: number): EpochEnd {
    const before = epochEnd(overlay, sessionEpoch);
    for (const { id, next, numbering } of sourcesOf(overlay)) {
      this.#taken.set(id, { last: Math.max(0, next - 1), numbering });
    }
    return before;
  }

  /** Whether it was looked for within the last minute. */
  get isLooking(): boolean {
    return this.#context.now.monoMs - this.#sinceMs < UNTIL_MS;
  }

  /** Begins anew. */
  look(): void {
    this.#sinceMs = this.#context.now.monoMs;
    this.again(FIRST_MS);
  }

  /** Goes on looking, as long as the minute lasts. */
  again(delayMs = FIRST_MS): void {
    if (!this.isLooking) {
      this.#host.gaveUp();
      return;
    }
    this.#host.after(delayMs * (1 - 0.3 * this.#context.rng.next()), () => {
      if (this.#host.isOrphan()) this.#ask(delayMs);
    });
  }

  #ask(delayMs: number): void {
    const { file } = this.#host.own;
    const again = (): void => this.again(Math.min(LONGEST_MS, delayMs * GROWTH));
    const done = (files: readonly Uint8Array[]): void => {
      if (!this.#host.isOrphan()) return;
      const newer = files
        .map((encoded) => decodeIndexFile(encoded))
        .find((received) => this.#succeeds(received.file));
      if (newer === undefined) again();
      else this.#verify(newer, again);
    };
    this.#host.query(file.version + 1, file, done, again);
  }

  /** Whether the file is of the same data and newer: of another overlay, or of a later epoch. */
  #succeeds(file: IndexFile): boolean {
    const { file: own, sessionEpoch } = this.#host.own;
    return (
      file.dataSourceId === own.dataSourceId &&
      file.dataId === own.dataId &&
      file.version > own.version &&
      (file.overlayId !== own.overlayId || file.sessionEpoch > sessionEpoch)
    );
  }

  #verify(received: ReceivedIndexFile, again: () => void): void {
    verifyIndexFile(this.#context, received, (valid) => {
      if (!this.#host.isOrphan()) return;
      if (!valid) {
        again();
        return;
      }
      const sameKey = bytesEqual(
        received.file.sourcePublicKey,
        this.#host.own.file.sourcePublicKey,
      );
      this.#host.found(received.file, sameKey);
    });
  }
}

/** What an index file and the OMS say of an overlay, and what this node wants for itself. */
export function fileSettings(
  file: IndexFile,
  sessionEpoch: number,
  sourcePeerId: PeerId,
  node: NodeSettings,
): OverlaySettings {
  const { overlayId, fragmentBytes, integrity, delivery, substreams, maxLagMs } = file;
  const shared = { overlayId, fragmentBytes, integrity, delivery, substreams, maxLagMs };
  return { ...nodeSettings(node, maxLagMs), ...shared, sessionEpoch, sourcePeerId };
}

/** How far a peer came in an overlay that is about to be left for the next epoch. */
function epochEnd(overlay: Overlay | undefined, sessionEpoch: number): EpochEnd {
  return {
    sessionEpoch,
    fragmentsTo: overlay?.consumer?.consumedTo ?? 0,
    sources: sourcesOf(overlay).map(standingOf),
  };
}

function sourcesOf(overlay: Overlay | undefined): AssembledSource[] {
  return [...(overlay?.consumer?.assembler.sources.values() ?? [])];
}

/**
 * What to tell the user when the neighbour that is the source peer went down with `detail`. Its BYE
 * is the same whether it was stopped, or had ended the session and waited for this peer no more.
 */
export function lostText(detail: string): string {
  return detail.startsWith("BYE")
    ? "the source left before the end of the stream, or ended it while this peer lagged behind"
    : "the link to the source is lost: it may come back";
}
