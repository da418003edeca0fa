// A puller with its neighbours, as a peer has them: what is missing is asked for, and what comes is
// stored. Densities and what neighbours hold are those of the picker's world.
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
/** Longer than requests wait: what was asked for before a sample is over. */
const PAUSE_MS = 10_000;

export class PullWorld {
  /** Asked for and not answered, in order: pairs (neighbour, index). */
  #asked = [];
  #ranges = new Float64Array(2 * RANGES_PER_FRAME_MAX);
  #drained = [];

  /** With `hasSource` the source peer is one more neighbour, and holds all. */
  constructor(kernel, neighbours, fragments, density, hasSource = false) {
    const rng = seededRng(neighbours * fragments);
    const window = windowOf(kernel, fragments);
    const { memory } = window;
    this.kernel = kernel;
    this.window = window;
    this.context = { memory, rng, counters: zeroCounters(), now: { monoMs: 0, wallMs: 0 } };
    this.puller = new Puller(this.context, window, new Uint8Array(8), SUBSTREAMS, 3_000);
    if (density === "sparse") {
      const missing = someOf(fragments - 1, rng);
      for (let index = 0; index < fragments; index++) {
        if (!missing.has(index)) window.store(index, 0, FRAGMENT_BYTES);
      }
    }
    this.neighbours = Array.from({ length: neighbours }, () => this.#createNeighbour(ROLES.peer));
    if (hasSource) this.neighbours.push(this.#createNeighbour(ROLES.source));
    for (const [n, neighbour] of this.neighbours.entries()) {
      const held = n === 0 || neighbour.isSource ? [[0, fragments]] : halfOf(fragments, rng);
      for (const [from, end] of held) neighbour.advertised(from, end - from);
      neighbour.mapKnown = true;
      neighbour.grantedLimit = fragments;
      this.puller.add(neighbour);
    }
    this.puller.sample(fragments);
    this.view = {
      neighbours: this.neighbours,
      partners: new Array(SUBSTREAMS).fill(undefined),
      head: 0,
      to: fragments,
      overdue: () => {},
    };
  }

  /** PICKED fragments come, one a millisecond, each from whom it was asked of. A checksum of them. */
  drain() {
    const { puller, window, kernel, view } = this;
    const { words } = window.heldMap;
    this.#pass(PAUSE_MS);
    puller.run(view);
    let sum = 0;
    for (let at = 0; this.#drained.length < PICKED; at++) {
      const [from, index] = this.#asked[at];
      if (kernel.bitTest(words, index)) continue;
      this.#pass(1);
      puller.came(index, from);
      puller.arriving(index);
      kernel.bitsSet(words, index, index + 1);
      puller.picker.stored(index);
      this.#drained.push(index);
      sum = (Math.imul(sum, 31) + index) | 0;
      puller.run(view);
    }
    return sum;
  }

  /** What was drained is missing again, and nothing is asked for. */
  restore() {
    const { puller, window, kernel } = this;
    for (const neighbour of this.neighbours) puller.lost(neighbour, 0, Number.POSITIVE_INFINITY);
    for (const index of this.#drained) {
      kernel.bitsClear(window.heldMap.words, index, index + 1);
      puller.picker.take(index, index + 1);
      puller.failed(index);
    }
    this.#drained.length = 0;
    this.#asked.length = 0;
  }

  #createNeighbour(role) {
    const link = {
      openLane: () => ({}),
      transmit: (frame) => {
        if (readFrameHeader(frame, 0, frame.length) !== FRAME_TYPES.GET) return;
        const pairs = readRanges(frame, 0, frame.length, this.#ranges);
        for (let i = 0; i < pairs; i++) {
          const [first, count] = this.#ranges.subarray(2 * i, 2 * i + 2);
          for (let n = 0; n < count; n++) this.#asked.push([neighbour, first + n]);
        }
      },
    };
    const picker = role === ROLES.source ? undefined : this.puller.picker;
    const neighbour = new Neighbour(this, this.window, picker, link, "peer", role, 0);
    return neighbour;
  }

  #pass(ms) {
    this.context.now = { monoMs: this.context.now.monoMs + ms, wallMs: 0 };
  }
}
