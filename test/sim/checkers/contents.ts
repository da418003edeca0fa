/** Which fragments carry which datum, read off the DATA that members transmit. */

import type { LinkEnd } from "../../../src/sim/border.ts";
import type { SimNode } from "../../../src/sim/node.ts";
import type { SwarmObserver } from "../../../src/sim/swarm.ts";
import { dataIndex, eachFrame, records, TYPE, u16, u64 } from "../wire.ts";

/** Fragments [from, to] carry it; a slice before or after them was in none that was transmitted. */
export interface Place {
  from: number;
  to: number;
  begins: boolean;
  ends: boolean;
}

const KIND_SOURCE = 1;
const KIND_DATUM = 2;
const KIND_SLICE = 3;
const SOURCE_HEADER = 24;

export class FragmentContents implements SwarmObserver {
  readonly #seen = new Set<number>();
  readonly #places = new Map<string, Map<number, Place>>();

  onTransmit(_node: SimNode, end: LinkEnd, bytes: Uint8Array): void {
    if (end.mode !== "stream") return;
    eachFrame(bytes, (type, offset, frameBytes) => {
      if (type !== TYPE.DATA) return;
      const index = dataIndex(bytes, offset);
      if (this.#seen.has(index)) return;
      this.#seen.add(index);
      this.#read(index, bytes, offset, frameBytes);
    });
  }

  wasSent(index: number): boolean {
    return this.#seen.has(index);
  }

  /** Undefined: no fragment that was transmitted carries any of it. */
  placeOf(sourceId: string, sequence: number): Place | undefined {
    return this.#places.get(sourceId)?.get(sequence);
  }

  #read(index: number, bytes: Uint8Array, offset: number, frameBytes: number): void {
    /** By local number: the data source, and the sequence number of its next datum or slice. */
    const declared = new Map<number, { sourceId: string; next: number }>();
    for (const record of records(bytes, offset, frameBytes) ?? []) {
      const at = record.offset;
      const number = bytes[at + 1] as number;
      if (record.kind === KIND_SOURCE) {
        const id = bytes.subarray(
          at + SOURCE_HEADER,
          at + SOURCE_HEADER + (bytes[at + 2] as number),
        );
        declared.set(number, { sourceId: Buffer.from(id).toString(), next: u64(bytes, at + 8) });
        continue;
      }
      const source = declared.get(number);
      if (source === undefined) continue;
      const flags = record.kind === KIND_SLICE ? u16(bytes, at + 2) : 3;
      if (record.kind !== KIND_SLICE && record.kind !== KIND_DATUM) continue;
      const ends = (flags & 2) !== 0;
      this.#note(source.sourceId, source.next, index, (flags & 1) !== 0, ends);
      if (ends) source.next++;
    }
  }

  #note(sourceId: string, sequence: number, index: number, begins: boolean, ends: boolean): void {
    const places = this.#places.get(sourceId) ?? new Map<number, Place>();
    this.#places.set(sourceId, places);
    const place = places.get(sequence);
    if (place === undefined) {
      places.set(sequence, { from: index, to: index, begins, ends });
      return;
    }
    place.from = Math.min(place.from, index);
    place.to = Math.max(place.to, index);
    place.begins ||= begins;
    place.ends ||= ends;
  }
}
