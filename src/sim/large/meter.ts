/**
 * Measures a large run from outside: what crosses the links by type, who got each fragment from
 * whom and over how many hops, how long it took, what consumers took and what they missed.
 */

import {
  DATA_HEADER_BYTES,
  DATA_INDEX,
  FRAME_LENGTH,
  FRAME_TYPE,
  FRAME_TYPES,
} from "../../base/layout.ts";
import type { LinkEnd, NodePort } from "../border.ts";
import type { GapSeen, Member, Swarm, SwarmObserver } from "../swarm.ts";
import { type LargeOptions, SOURCE_ID } from "./options.ts";
import type { Stream } from "./stream.ts";

/** Not there. */
const NOWHERE = 255;
/** Index END has, at most: data may have met in a fragment, never split over more. */
const INDEX_SLACK = 64;

/** What one process of a member has of the stream. */
export class Progress {
  readonly member: Member;
  /** Hops over which each fragment came first; NOWHERE. */
  readonly hops: Uint8Array;
  readonly bootMs: number;
  /** First fragment index owed. */
  startIndex: number | undefined;
  firstSequence: number | undefined;
  nextSequence = 0;
  /** Reported lost, as ranges of fragment indices [from, to]. */
  readonly gaps: { readonly from: number; readonly to: number }[] = [];
  /** Data reported lost and not passed yet. */
  readonly dataGaps: { readonly from: number; readonly to: number }[] = [];
  delivered = 0;
  firstFragmentMs: number | undefined;
  ended = false;

  constructor(member: Member, fragments: number, bootMs: number) {
    this.member = member;
    this.hops = new Uint8Array(fragments + INDEX_SLACK).fill(NOWHERE);
    this.bootMs = bootMs;
    if (member.role === "source") this.hops.fill(0);
  }

  has(index: number): boolean {
    return this.hops[index] !== NOWHERE;
  }
}

export class Samples {
  #values = new Float32Array(4096);
  count = 0;

  add(value: number): void {
    if (this.count === this.#values.length) {
      const wider = new Float32Array(2 * this.count);
      wider.set(this.#values);
      this.#values = wider;
    }
    this.#values[this.count++] = value;
  }

  /** Values at these shares of the ordered samples; undefined when there are none. */
  quantiles(shares: readonly number[]): (number | undefined)[] {
    const sorted = this.#values.slice(0, this.count).sort();
    return shares.map((share) => sorted[Math.min(this.count - 1, Math.floor(share * this.count))]);
  }
}

export class Meter implements SwarmObserver {
  readonly framesByType = new Float64Array(256);
  readonly bytesByType = new Float64Array(256);
  dataFrames = 0;
  duplicates = 0;
  recordBytes = 0;
  controlBytes = 0;
  sourceDataFrames = 0;
  sourceBytes = 0;
  /** Bytes of all fragments of the stream, each once. */
  streamBytes = 0;
  streamFragments = 0;
  readonly hopCounts = new Float64Array(256);
  /** Milliseconds from the write of a datum to its delivery, at members that were there by then. */
  readonly delaysMs = new Samples();
  readonly firstFragmentMs = new Samples();
  readonly startMs = new Samples();
  lagging = 0;
  readonly #swarm: Swarm;
  readonly #options: LargeOptions;
  readonly #stream: Stream;
  readonly #progress = new Map<NodePort, Progress>();
  /** Fragments that the source peer sent once. */
  readonly #seen = new Set<number>();
  /** Called when a process of a member is over, with what it had. */
  closed: ((progress: Progress) => void) | undefined;

  constructor(swarm: Swarm, options: LargeOptions, stream: Stream) {
    this.#swarm = swarm;
    this.#options = options;
    this.#stream = stream;
  }

  of(node: NodePort): Progress | undefined {
    return this.#progress.get(node);
  }
  get running(): IterableIterator<Progress> {
    return this.#progress.values();
  }

  onBoot(node: NodePort): void {
    const member = this.#swarm.memberOf(node);
    if (member === undefined) return;
    this.#progress.set(node, new Progress(member, this.#options.fragments, node.world.nowMs));
  }

  onCrash(node: NodePort): void {
    const progress = this.#progress.get(node);
    if (progress === undefined) return;
    this.#progress.delete(node);
    this.closed?.(progress);
  }

  onTransmit(node: NodePort, _end: LinkEnd, bytes: Uint8Array): void {
    if (node !== this.#swarm.source.node) return;
    this.sourceBytes += bytes.length;
    if (bytes[FRAME_TYPE] !== FRAME_TYPES.DATA) return;
    for (let at = 0; at < bytes.length; ) {
      const frameBytes = u32(bytes, at + FRAME_LENGTH);
      const index = u32(bytes, at + DATA_INDEX);
      if (!this.#seen.has(index)) {
        this.#seen.add(index);
        this.streamFragments = Math.max(this.streamFragments, index + 1);
        this.streamBytes += frameBytes;
      }
      this.sourceDataFrames++;
      at += frameBytes;
    }
  }

  onFrames(
    node: NodePort,
    end: LinkEnd,
    memory: Uint8Array,
    ranges: Uint32Array,
    count: number,
  ): void {
    for (let i = 0; i < count; i++) {
      const offset = ranges[2 * i] as number;
      const frameBytes = ranges[2 * i + 1] as number;
      const type = memory[offset + FRAME_TYPE] as number;
      this.framesByType[type] = (this.framesByType[type] as number) + 1;
      this.bytesByType[type] = (this.bytesByType[type] as number) + frameBytes;
      if (type === FRAME_TYPES.DATA) {
        this.#data(node, end, u32(memory, offset + DATA_INDEX), frameBytes);
      } else this.controlBytes += frameBytes;
    }
  }

  onStarted(member: Member, index: number): void {
    const progress = this.#progress.get(member.node);
    if (progress === undefined) return;
    progress.startIndex = index;
    this.startMs.add(member.node.world.nowMs - progress.bootMs);
  }

  onDatum(member: Member, sourceId: string, sequence: number, payload: Uint8Array): void {
    const { world } = this.#swarm;
    const progress = this.#progress.get(member.node);
    if (progress === undefined) return;
    if (sourceId !== SOURCE_ID || !this.#stream.payload.matches(sequence, payload)) {
      world.violate("delivery", `${member.name}: datum ${sequence} of ${sourceId} is not as sent`);
    }
    if (progress.firstSequence === undefined) {
      progress.firstSequence = sequence;
      progress.nextSequence = sequence;
    }
    this.#passGaps(progress);
    if (sequence !== progress.nextSequence) {
      const what =
        sequence < progress.nextSequence ? "again" : `instead of ${progress.nextSequence}`;
      world.violate("delivery", `${member.name}: datum ${sequence} delivered ${what}`);
    }
    progress.nextSequence = sequence + 1;
    progress.delivered++;
    const writtenMs = this.#stream.writtenMs[sequence] as number;
    if (writtenMs >= progress.bootMs) this.delaysMs.add(world.nowMs - writtenMs);
  }

  onGap(member: Member, gap: GapSeen): void {
    const progress = this.#progress.get(member.node);
    if (progress === undefined) return;
    (gap.kind === "fragments" ? progress.gaps : progress.dataGaps).push(gap);
  }

  onEnded(member: Member): void {
    const progress = this.#progress.get(member.node);
    if (progress !== undefined) progress.ended = true;
  }

  onLagging(): void {
    this.lagging++;
  }

  #data(node: NodePort, end: LinkEnd, index: number, frameBytes: number): void {
    this.dataFrames++;
    this.controlBytes += DATA_HEADER_BYTES;
    this.recordBytes += frameBytes - DATA_HEADER_BYTES;
    const progress = this.#progress.get(node);
    if (progress === undefined || index >= progress.hops.length) return;
    if (progress.has(index)) {
      this.duplicates++;
      return;
    }
    const from = end.other === undefined ? undefined : this.#progress.get(end.other.node);
    // The sender's process may be gone since: it is one hop behind whoever it had it from.
    const before = from?.has(index) === true ? (from.hops[index] as number) : 0;
    const hops = Math.min(before + 1, NOWHERE - 1);
    progress.hops[index] = hops;
    this.hopCounts[hops] = (this.hopCounts[hops] as number) + 1;
    if (progress.firstFragmentMs === undefined) {
      progress.firstFragmentMs = node.world.nowMs - progress.bootMs;
      if (progress.bootMs >= (this.#stream.startedMs ?? Number.POSITIVE_INFINITY)) {
        this.firstFragmentMs.add(progress.firstFragmentMs);
      }
    }
  }

  #passGaps(progress: Progress): void {
    const { dataGaps } = progress;
    while (dataGaps[0] !== undefined && dataGaps[0].from <= progress.nextSequence) {
      progress.nextSequence = Math.max(progress.nextSequence, dataGaps[0].to + 1);
      dataGaps.shift();
    }
  }
}

/** An index or length of less than 2^32: runs are shorter than that. */
function u32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  );
}
