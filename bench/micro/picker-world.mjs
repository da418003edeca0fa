// A picker with its window and what neighbours hold, for the picker's cases and floors.
//
// dense   every index of the window is missing here      sparse  256 are, wherever they lie
//
// The first neighbour holds all, the others half, in runs. The first eighth of the window is urgent,
// the rest goes rarest first.
import { seededRng } from "../../dist/base/rng.js";
import { EngineMemory } from "../../dist/kernel/engine-memory.js";
import { Picker } from "../../dist/stream/picker.js";
import { FragmentWindow } from "../../dist/stream/window.js";

export const FRAGMENT_BYTES = 16_384;
/** Fragments that one sample is about. */
export const PICKED = 256;
const HAVE_RUN = 16;
/** Runs of one HAVE sample: all of the smallest window. */
const HAVE_RUNS = 64;
export const ADVERTISED = HAVE_RUN * HAVE_RUNS;

/** So many indices below `fragments`. */
export function someOf(fragments, rng, count = PICKED) {
  const some = new Set();
  while (some.size < count) some.add(rng.below(fragments));
  return some;
}

/** Runs [from, end) of indices, half of those below `fragments`. */
export function* halfOf(fragments, rng) {
  const longest = fragments / 32;
  for (let at = rng.below(longest); at < fragments; at += rng.below(longest)) {
    const end = Math.min(fragments, at + 1 + rng.below(longest));
    yield [at, end];
    at = end + 1;
  }
}

/** A window of that many full fragments, in a memory of its own. */
export function windowOf(kernel, fragments) {
  const memory = new EngineMemory(kernel, { segmentBytes: 262_144 });
  return new FragmentWindow(memory, {
    start: 0,
    fragments,
    bytes: 2 ** 40,
    fragmentBytes: FRAGMENT_BYTES,
  });
}

export class PickerWorld {
  #drained = [];
  #out = new Float64Array(16);
  #turn = 0;

  constructor(kernel, neighbours, fragments, density) {
    const rng = seededRng(neighbours * fragments);
    const window = windowOf(kernel, fragments);
    if (density === "sparse") {
      const { words } = window.heldMap;
      kernel.bitsSet(words, 0, fragments);
      for (const index of someOf(fragments, rng)) kernel.bitsClear(words, index, index + 1);
    }
    this.kernel = kernel;
    this.window = window;
    this.picker = new Picker(window, 8);
    this.haves = Array.from({ length: neighbours }, () => window.createMap());
    this.picker.advertised(this.haves[0], 0, fragments);
    for (const have of this.haves.slice(1)) {
      for (const [from, end] of halfOf(fragments, rng)) this.picker.advertised(have, from, end);
    }
    this.request = { max: 1, urgentEnd: fragments >> 3, end: fragments, random: 0 };
    this.rewind();
  }

  /** The same chances and the same turns from here on. */
  rewind() {
    this.restore();
    this.rng = seededRng(this.request.end);
    this.#turn = 0;
  }

  /**
   * Picks `max` at a time of what a neighbour holds, takes and stores it, until PICKED are stored. The
   * neighbour is the one that holds all, or each `inTurn`. Returns a checksum of what was picked.
   */
  drain(max, inTurn) {
    const { kernel, window, picker, haves, request, rng } = this;
    const { words } = window.heldMap;
    const drained = this.#drained;
    const out = this.#out;
    request.max = max;
    request.have = haves[0];
    let sum = 0;
    for (let left = PICKED; left > 0; ) {
      request.random = rng.below(2 ** 32);
      if (inTurn) request.have = haves[this.#turn++ % haves.length];
      const count = picker.pick(request, out);
      for (let i = 0; i < count; i++) {
        const index = out[i];
        picker.take(index, index + 1);
        kernel.bitsSet(words, index, index + 1);
        picker.stored(index);
        drained.push(index);
        sum = (Math.imul(sum, 31) + index) | 0;
      }
      left -= count;
    }
    return sum;
  }

  /** A pick for a neighbour that holds nothing: the whole search. */
  pickInVain() {
    this.none ??= this.window.createMap();
    this.request.have = this.none;
    return this.picker.pick(this.request, this.#out);
  }

  /** HAVE of one neighbour for runs that no other announced there since: what each copy costs. */
  advertise() {
    const { picker, haves } = this;
    const have = haves[haves.length - 1];
    let fresh = 0;
    for (let n = 0; n < HAVE_RUNS; n++) {
      const at = (n * 37 * HAVE_RUN) % this.request.end;
      fresh += picker.advertised(have, at, at + HAVE_RUN);
    }
    return fresh;
  }

  forgetLast() {
    return this.picker.lost(this.haves[this.haves.length - 1]);
  }

  /** What was drained is missing again. */
  restore() {
    const { kernel, window, picker } = this;
    for (const index of this.#drained) {
      kernel.bitsClear(window.heldMap.words, index, index + 1);
      picker.take(index, index + 1);
      picker.release(index, index + 1);
    }
    this.#drained.length = 0;
  }
}
