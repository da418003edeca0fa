/** What a joining peer counts: data, bytes, gaps, and per source with which datum it began. */

import type { DatumBatch } from "../host/engine-types.ts";
import { bytesText, dataText } from "./units.ts";

export interface MissedBefore {
  readonly sourceId: string;
  /** Data 1 to this one were sent before this peer started. */
  readonly upTo: number;
}

export class Received {
  startedAt = 0;
  gaps = 0;
  restarts = 0;
  #data = 0;
  #bytes = 0;
  readonly #begun = new Set<string>();
  #ratedMs = performance.now();
  #ratedData = 0;
  #ratedBytes = 0;

  get totals(): { readonly data: number; readonly bytes: number } {
    return { data: this.#data, bytes: this.#bytes };
  }

  /** A new epoch: sequence numbers begin anew. */
  restarted(): void {
    this.restarts++;
    this.startedAt = 0;
    this.#begun.clear();
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
      if (upTo > 0 && this.startedAt > 0) missed.push({ sourceId, upTo });
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
