// A puller with its neighbours, as a peer has them: what is missing is asked for, and what comes is
// stored. What neighbours hold is that of the picker's world.
//
// dense   all is missing here      sparse  some are, wherever they lie
//
// It goes on and on: for what comes something else is missing again, and is asked for in its place. So
// each fragment of a sample is one that came and one that was asked for, in every setting.
import { FRAME_TYPES } from "../../dist/base/layout.js";
import { RANGES_PER_FRAME_MAX } from "../../dist/base/limits.js";
import { seededRng } from "../../dist/base/rng.js";
import { zeroCounters } from "../../dist/peer/context.js";
import { Neighbour } from "../../dist/peer/neighbour.js";
import { Puller } from "../../dist/peer/pull.js";
import { ROLES } from "../../dist/protocol/common.js";
import { readFrameHeader, readRanges } from "../../dist/protocol/r10-binary.js";
import { FRAGMENT_BYTES, halfOf, PICKED, someOf, windowOf } from "./picker-world.mjs";

const SUBSTREAMS = 8;
/** One fragment comes in so many: as are asked for in 800 ms, 200; and four of each of 64 at least. */
const INTERVAL_MS = 4;
/** More than that: suppliers have as many requests as they answer well, and answers make room. */
const MISSING = 512;
/** Less than that: nearly all suppliers have room, and there is nothing for them. */
export const LITTLE = 96;
/** What came is missing again after so many others. */
const HELD = 64;
/** Until suppliers are known for what they are. */
const WARM_UP = 8_192;

export class PullWorld {
  /** Neighbours that have something to answer, in turn. */
  #ready = new Turns();
  #ranges = new Float64Array(2 * RANGES_PER_FRAME_MAX);
  /** What came and is held. */
  #held = new Turns();

  /**
   * With `hasSource` the source peer is one more neighbour, and holds all. `missing` fragments are,
   * when it is sparse. With `isOneAhead` all but one neighbour hold nothing.
   */
  constructor(
    kernel,
    neighbours,
    fragments,
    density,
    { hasSource = false, missing = MISSING, isOneAhead = false } = {},
  ) {
    const rng = seededRng(neighbours * fragments);
    const window = windowOf(kernel, fragments);
    const { memory } = window;
    this.kernel = kernel;
    this.window = window;
    this.isOneAhead = isOneAhead;
    this.context = { memory, rng, counters: zeroCounters(), now: { monoMs: 0, wallMs: 0 } };
    this.puller = new Puller(this.context, window, new Uint8Array(8), SUBSTREAMS, 3_000);
    if (density === "sparse") {
      const lacks = someOf(fragments - 1, rng, missing);
      for (let index = 0; index < fragments; index++) {
        if (lacks.has(index)) continue;
        this.puller.arriving(index);
        window.store(index, 0, FRAGMENT_BYTES);
      }
    }
    this.neighbours = Array.from({ length: neighbours }, () => this.#createNeighbour(ROLES.peer));
    if (hasSource) this.neighbours.push(this.#createNeighbour(ROLES.source));
    for (const [n, neighbour] of this.neighbours.entries()) {
      const isEmpty = isOneAhead && n > 0;
      const isFull = n === 0 || neighbour.isSource;
      const held = isFull ? [[0, fragments]] : isEmpty ? [] : halfOf(fragments, rng);
      for (const [from, end] of held) neighbour.advertised(from, end - from);
      neighbour.mapKnown = true;
      neighbour.grantedLimit = fragments;
      this.puller.add(neighbour);
    }
    this.puller.sample(fragments);
    this.view = {
      neighbours: this.neighbours,
      partners: new Array(SUBSTREAMS).fill(undefined),
      awaited: [],
      head: 0,
      to: fragments,
      overdue: () => {},
    };
    this.puller.run(this.view);
    for (let n = 0; n < WARM_UP; n++) this.#next();
  }

  /** PICKED fragments come, each from whom it was asked of. A checksum of them. */
  drain() {
    let sum = 0;
    for (let left = PICKED; left > 0; left--) sum = (Math.imul(sum, 31) + this.#next()) | 0;
    return sum;
  }

  /** The neighbour whose turn it is answers the oldest request. */
  #next() {
    const { puller, context } = this;
    context.now = { monoMs: context.now.monoMs + INTERVAL_MS, wallMs: 0 };
    const queue = this.#ready.shift();
    const index = queue.indices.shift();
    if (queue.indices.length > 0) this.#ready.push(queue);
    puller.came(index, queue.neighbour);
    puller.arriving(index);
    this.#mark(index);
    puller.picker.stored(index);
    if (this.#held.push(index) > HELD) this.#miss(this.#held.shift());
    puller.run(this.view);
    return index;
  }

  #mark(index) {
    this.kernel.bitsSet(this.window.heldMap.words, index, index + 1);
  }

  #miss(index) {
    this.kernel.bitsClear(this.window.heldMap.words, index, index + 1);
    this.puller.picker.take(index, index + 1);
    // As if it were a new one, which the one that is ahead tells of.
    const [first] = this.neighbours;
    if (this.isOneAhead) first.withdrew(index, 1);
    this.puller.failed(index);
    if (!this.isOneAhead) return;
    first.advertised(index, 1);
    this.puller.heard(first);
  }

  #createNeighbour(role) {
    const link = { openLane: () => ({}), transmit: (frame) => this.#transmitted(queue, frame) };
    const picker = role === ROLES.source ? undefined : this.puller.picker;
    const neighbour = new Neighbour(this, this.window, picker, link, "peer", role, 0);
    const queue = { neighbour, indices: [] };
    return neighbour;
  }

  #transmitted(queue, frame) {
    const type = readFrameHeader(frame, 0, frame.length);
    const pairs = readRanges(frame, 0, frame.length, this.#ranges);
    const { indices } = queue;
    const wasReady = indices.length > 0;
    for (let i = 0; i < pairs; i++) {
      const first = this.#ranges[2 * i];
      const end = first + this.#ranges[2 * i + 1];
      for (let index = first; index < end; index++) {
        if (type === FRAME_TYPES.GET) indices.push(index);
        else if (indices.includes(index)) indices.splice(indices.indexOf(index), 1);
      }
    }
    if (!wasReady && indices.length > 0) this.#ready.push(queue);
    else if (wasReady && indices.length === 0) this.#ready.remove(queue);
  }
}

/** First in, first out, at the same cost however many there are. */
class Turns {
  #items = [];
  #first = 0;

  /** Returns how many there are. */
  push(item) {
    this.#items.push(item);
    return this.#items.length - this.#first;
  }

  shift() {
    const item = this.#items[this.#first++];
    if (this.#first === 1_024) this.#items.splice(0, this.#first);
    this.#first %= 1_024;
    return item;
  }

  remove(item) {
    const at = this.#items.indexOf(item, this.#first);
    if (at >= 0) this.#items.splice(at, 1);
  }
}
