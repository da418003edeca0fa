/** What a joining peer counts: data, bytes, gaps, and per source with which datum it began. */

import type { DatumBatch, PeerEvents } from "../host/engine-types.ts";
import { bytesText, dataText } from "./units.ts";

export interface MissedBefore {
  readonly sourceId: string;
  /** Data 1 to this one were sent before this peer started. */
  readonly upTo: number;
}

/** How far the peer came before its source started over. */
type Before = PeerEvents["restarted"]["before"];

export class Received {
  startedAt = 0;
  gaps = 0;
  restarts = 0;
  /** Whether data may be missing although no gap says so: what a source had sent before it was killed. */
  #mayLack = false;
  /** Whether it was to begin with the first datum of each data source, and did not. */
  #lacksBeginning = false;
  readonly #fromStart: boolean;
  /** Last sequence numbers of those data sources that have not gone on since the last restart. */
  readonly #awaited = new Map<string, number>();
  #data = 0;
  #bytes = 0;
  readonly #begun = new Set<string>();
  #ratedMs = performance.now();
  #ratedData = 0;
  #ratedBytes = 0;

  constructor({ fromStart = false }: { readonly fromStart?: boolean } = {}) {
    this.#fromStart = fromStart;
  }

  get totals(): { readonly data: number; readonly bytes: number } {
    return { data: this.#data, bytes: this.#bytes };
  }

  /** Whether everything from the start on is known to have come. */
  get isWhole(): boolean {
    const isShort = this.#mayLack || this.#lacksBeginning;
    return this.gaps === 0 && !isShort && this.#awaited.size === 0;
  }

  /** A new epoch: sequence numbers begin anew, but for data sources on links of their own. */
  restarted({ sources }: Pick<Before, "sources">, wanted?: ReadonlySet<string>): void {
    this.restarts++;
    this.startedAt = 0;
    this.#begun.clear();
    const open = sources.filter(({ sourceId }) => wanted?.has(sourceId) !== false);
    // Of whom nothing came it is not known whether there was something; nor of who began anew before.
    if (open.length === 0 || this.#awaited.size > 0) this.#mayLack = true;
    this.#awaited.clear();
    for (const { sourceId, last, ended } of open) {
      if (!ended) this.#awaited.set(sourceId, last);
    }
  }

  /** END came: who brought nothing but what came before, and ended there, has nothing missing. */
  ended(sources: Before["sources"]): void {
    for (const { sourceId, last, ended } of sources) {
      const goesOn = ended && !this.#begun.has(sourceId) && this.#awaited.get(sourceId) === last;
      if (goesOn) this.#awaited.delete(sourceId);
    }
  }

  /** Counts the data of a batch of the wanted sources; tells sources that did not begin with 1. */
  take(batch: DatumBatch, wanted?: ReadonlySet<string>): MissedBefore[] {
    const missed: MissedBefore[] = [];
    let last = "";
    for (let i = 0; i < batch.count; i++) {
      const sourceId = batch.sourceIdOf(i);
      if (wanted?.has(sourceId) === false) continue;
      this.#data++;
      this.#bytes += batch.lengthOf(i);
      if (sourceId === last) continue;
      last = sourceId;
      if (this.#begun.has(sourceId)) continue;
      this.#begun.add(sourceId);
      const upTo = batch.sequenceOf(i) - 1;
      // It begins behind what came: nothing lies between.
      if (upTo > 0 && this.#awaited.get(sourceId) === upTo) this.#awaited.delete(sourceId);
      // With the first fragment, too: in the epoch of a source peer that started over data sources on
      // links of their own go on where they were.
      const isFirst = this.restarts === 0 && this.gaps === 0;
      if (upTo === 0 || (this.startedAt === 0 && !isFirst)) continue;
      missed.push({ sourceId, upTo });
      if (this.#fromStart) this.#lacksBeginning = true;
    }
    return missed;
  }

  /** Per second, since the last call. */
  rates(): { readonly rate: number; readonly byteRate: number } {
    const nowMs = performance.now();
    const seconds = Math.max(0.001, (nowMs - this.#ratedMs) / 1000);
    const rate = (this.#data - this.#ratedData) / seconds;
    const byteRate = (this.#bytes - this.#ratedBytes) / seconds;
    this.#ratedMs = nowMs;
    this.#ratedData = this.#data;
    this.#ratedBytes = this.#bytes;
    return { rate, byteRate };
  }

  toString(): string {
    return `${dataText(this.#data)}, ${bytesText(this.#bytes)}`;
  }
}
