/** The picker against a naive model, whatever is advertised, taken, stored, pushed and moved. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AssertionError } from "../../src/base/assert.ts";
import { type Rng, seededRng } from "../../src/base/rng.ts";
import { EngineMemory } from "../../src/kernel/engine-memory.ts";
import { Picker, type PickRequest } from "../../src/stream/picker.ts";
import { FragmentWindow, type WindowMap } from "../../src/stream/window.ts";
import { newJsKernel, newWasmKernel } from "../kernel/kernels.ts";

const SUBSTREAM_RUN = 16;
const KERNELS = { wasm: newWasmKernel, js: newJsKernel };

interface Neighbour {
  readonly map: WindowMap;
  readonly holds: Set<number>;
}

/** A window with a picker, and beside it plain sets that say what must be so. */
class World {
  readonly memory: EngineMemory;
  readonly window: FragmentWindow;
  readonly picker: Picker;
  readonly neighbours: Neighbour[] = [];
  readonly held = new Set<number>();
  readonly taken = new Set<number>();
  readonly pushedFrom: number[];
  readonly #frame: number;

  constructor(kernel: "wasm" | "js", start: number, fragments: number, substreams: number) {
    this.memory = new EngineMemory(KERNELS[kernel](), { segmentBytes: 65_536 });
    this.window = new FragmentWindow(this.memory, {
      start,
      fragments,
      bytes: 1 << 30,
      fragmentBytes: 1024,
    });
    this.picker = new Picker(this.window, substreams);
    this.pushedFrom = new Array(substreams).fill(Number.POSITIVE_INFINITY);
    const cursor = this.memory.open();
    if (!cursor.reserve(64)) throw new Error("no room");
    this.#frame = cursor.writeOffset;
    cursor.commit(64);
    this.memory.retain(this.#frame, 64);
    cursor.consume(64);
  }

  join(): void {
    this.neighbours.push({ map: this.window.createMap(), holds: new Set() });
  }

  inMap(index: number): boolean {
    return index >= this.window.origin && index < this.window.mapEnd;
  }

  advertise(neighbour: Neighbour, first: number, end: number): void {
    let fresh = 0;
    for (let index = first; index < end; index++) {
      if (!this.inMap(index) || neighbour.holds.has(index)) continue;
      neighbour.holds.add(index);
      fresh++;
    }
    expect(this.picker.advertised(neighbour.map, first, end)).toBe(fresh);
  }

  withdraw(neighbour: Neighbour, first: number, end: number): void {
    let gone = 0;
    for (let index = first; index < end; index++) if (neighbour.holds.delete(index)) gone++;
    expect(this.picker.withdrew(neighbour.map, first, end)).toBe(gone);
  }

  /** By a buffermap, from the engine's memory or from elsewhere. */
  replace(neighbour: Neighbour, rng: Rng, foreign: boolean): void {
    const start = Math.max(0, this.window.origin - 100 + rng.below(200));
    const run = rng.below(100);
    const bits = new Uint8Array(rng.below(60));
    const dense = rng.below(3);
    for (let i = 0; i < bits.length; i++) bits[i] = dense === 0 ? 255 : rng.below(256);
    const said = new Set<number>();
    for (let index = start; index < start + run; index++) said.add(index);
    for (let bit = 0; bit < 8 * bits.length; bit++) {
      const set = (bits[bit >> 3] as number) & (1 << (bit & 7));
      if (set !== 0) said.add(start + run + 1 + bit);
    }
    let memory = new Uint8Array(7 + bits.length);
    let bitsOffset = 7;
    let table = 0;
    if (!foreign) {
      table = this.memory.allocate(7 + bits.length);
      memory = this.memory.bytes as Uint8Array<ArrayBuffer>;
      bitsOffset = table + 7;
    }
    memory.set(bits, bitsOffset);
    const before = new Set(neighbour.holds);
    neighbour.holds.clear();
    for (const index of said) if (this.inMap(index)) neighbour.holds.add(index);
    const fresh = [...neighbour.holds].filter((index) => !before.has(index)).length;
    const header = { start, run, bitsOffset, bitsBytes: bits.length };
    expect(this.picker.replaceFromWire(neighbour.map, header, memory)).toBe(fresh);
    if (table !== 0) this.memory.free(table);
  }

  leave(neighbour: Neighbour): void {
    const count = neighbour.holds.size;
    expect(this.picker.lost(neighbour.map)).toBe(count);
    this.window.releaseMap(neighbour.map);
    this.neighbours.splice(this.neighbours.indexOf(neighbour), 1);
  }

  take(first: number, end: number): void {
    this.picker.take(first, end);
    for (let index = first; index < end; index++) if (this.inMap(index)) this.taken.add(index);
  }

  release(first: number, end: number): void {
    this.picker.release(first, end);
    for (let index = first; index < end; index++) this.taken.delete(index);
  }

  store(index: number): void {
    if (index < this.window.start || index >= this.window.limit || this.held.has(index)) return;
    this.memory.retain(this.#frame, 64);
    this.window.store(index, this.#frame, 64);
    this.held.add(index);
    this.taken.delete(index);
  }

  moved(): void {
    const forget = (set: Set<number>, below: number): void => {
      for (const index of set) if (index < below) set.delete(index);
    };
    forget(this.held, this.window.start);
    forget(this.taken, this.window.start);
    for (const { holds } of this.neighbours) forget(holds, this.window.origin);
  }

  rebase(start: number): void {
    if (this.held.size > 0) return;
    this.window.rebase(start);
    this.taken.clear();
    for (const { holds } of this.neighbours) holds.clear();
  }

  push(substream: number, bound: number): void {
    this.picker.pushedFrom(substream, bound);
    this.pushedFrom[substream] = bound;
  }

  availability(index: number): number {
    return this.neighbours.filter(({ holds }) => holds.has(index)).length;
  }

  isCandidate(index: number): boolean {
    const substream = Math.floor(index / SUBSTREAM_RUN) % this.pushedFrom.length;
    return (
      index >= this.window.start &&
      this.availability(index) > 0 &&
      !this.held.has(index) &&
      !this.taken.has(index) &&
      index < (this.pushedFrom[substream] as number)
    );
  }

  candidates(): number[] {
    const all: number[] = [];
    for (let index = this.window.start; index < this.window.mapEnd; index++) {
      if (this.isCandidate(index)) all.push(index);
    }
    return all;
  }

  classOf(index: number): number {
    const availability = this.availability(index);
    return [1, 2, 3, 4, 8, 16].findLastIndex((from) => from <= availability);
  }

  check(rng: Rng): void {
    const { window, picker } = this;
    picker.checkInvariants(this.neighbours.map(({ map }) => map));
    const candidates = this.candidates();
    expect(picker.candidates).toBe(candidates.length);
    const probe = window.start + rng.below(window.mapBits);
    expect(picker.availabilityOf(probe)).toBe(this.inMap(probe) ? this.availability(probe) : 0);
    const to = probe + rng.below(window.mapBits);
    const next = candidates.find((index) => index >= probe && index < to);
    expect(picker.nextCandidate(probe, to)).toBe(next ?? to);
    this.checkNextOther(rng, candidates, probe, to);
    this.checkPick(rng, candidates);
  }

  checkNextOther(rng: Rng, candidates: readonly number[], from: number, to: number): void {
    if (this.neighbours.length === 0) return;
    const [have, known, unless] = [0, 1, 2].map(
      () => this.neighbours[rng.below(this.neighbours.length)],
    ) as [Neighbour, Neighbour, Neighbour];
    const wanted = new Set(candidates);
    let other = from;
    while (other < to && !unless.holds.has(other)) {
      if (have.holds.has(other) && !wanted.has(other) && !known.holds.has(other)) break;
      other++;
    }
    expect(this.picker.nextOther(have.map, known.map, unless.map, from, to)).toBe(
      Math.max(from, Math.min(other, to)),
    );
  }

  checkPick(rng: Rng, candidates: readonly number[]): void {
    const { window } = this;
    const neighbour = this.neighbours[rng.below(2 * this.neighbours.length + 1)];
    const request: PickRequest = {
      max: rng.below(3) === 0 ? 1000 : rng.below(20),
      urgentEnd: window.start + rng.below(window.mapBits),
      end: window.start + rng.below(window.mapBits),
      random: rng.below(2 ** 32),
      have: neighbour?.map,
    };
    const out = new Float64Array(1000);
    const count = this.picker.pick(request, out);
    const picked = [...out.subarray(0, count)];
    const wanted = candidates.filter(
      (index) => index < request.end && (neighbour === undefined || neighbour.holds.has(index)),
    );
    expect(count).toBe(Math.min(request.max, wanted.length));
    expect(new Set(picked).size).toBe(count);
    const urgent = wanted.filter((index) => index < request.urgentEnd);
    expect(picked.slice(0, urgent.length)).toEqual(urgent.slice(0, count));
    const rest = picked.slice(urgent.length);
    for (const index of rest) expect(wanted.includes(index)).toBe(true);
    // No class before a rarer one is used up.
    const classes = wanted
      .filter((index) => index >= request.urgentEnd)
      .map((index) => this.classOf(index))
      .sort((a, b) => a - b);
    expect(rest.map((index) => this.classOf(index))).toEqual(classes.slice(0, rest.length));
  }
}

const STEPS = [
  ...["join", "join", "leave", "advertise", "advertise", "advertise", "withdraw", "replace"],
  ...["replace foreign", "take", "take", "release", "store", "store", "advance", "advance far"],
  ...["rebase", "push", "push"],
] as const;

function step(world: World, kind: (typeof STEPS)[number], rng: Rng): void {
  const { window } = world;
  const neighbour = world.neighbours[rng.below(Math.max(1, world.neighbours.length))];
  const first = Math.max(0, window.start - 40 + rng.below(window.mapBits));
  const end = first + (rng.below(4) === 0 ? rng.below(window.mapBits) : rng.below(40));
  if (kind === "join" && world.neighbours.length < 20) world.join();
  if (kind === "take") world.take(first, end);
  if (kind === "release") world.release(first, end);
  if (kind === "store") {
    for (let index = first; index < Math.min(end, first + 20); index++) world.store(index);
  }
  if (kind === "advance") window.advance(window.start + rng.below(30));
  if (kind === "advance far") window.advance(window.start + rng.below(2 * window.mapBits));
  if (kind === "rebase") world.rebase(rng.below(2) === 0 ? rng.below(10_000) : first);
  if (kind === "push") {
    const bound = rng.below(3) === 0 ? Number.POSITIVE_INFINITY : first;
    world.push(rng.below(world.pushedFrom.length), bound);
  }
  world.moved();
  if (neighbour === undefined) return;
  if (kind === "leave") world.leave(neighbour);
  if (kind === "advertise") world.advertise(neighbour, first, end);
  if (kind === "withdraw") world.withdraw(neighbour, first, end);
  if (kind === "replace") world.replace(neighbour, rng, false);
  if (kind === "replace foreign") world.replace(neighbour, rng, true);
}

describe("Picker", () => {
  it.each(["wasm", "js"] as const)("agrees with plain sets after every step (%s)", (kernel) => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.constantFrom(0, 1, 63, 1_000_003, 2 ** 40 + 5),
        fc.constantFrom(64, 130, 400),
        fc.constantFrom(1, 3, 8, 32),
        fc.array(fc.constantFrom(...STEPS), { minLength: 1, maxLength: 60 }),
        (seed, start, fragments, substreams, steps) => {
          const rng = seededRng(seed);
          const world = new World(kernel, start, fragments, substreams);
          for (const kind of ["join", "join", "advertise", "advertise", ...steps] as const) {
            step(world, kind, rng);
            world.check(rng);
          }
          world.picker.close();
          world.picker.close();
          world.window.close();
        },
      ),
      { numRuns: 60 },
    );
  });

  it("counts 256 neighbours exactly, up and down", () => {
    const world = new World("wasm", 0, 64, 1);
    for (let n = 0; n < 256; n++) {
      world.join();
      const neighbour = world.neighbours[n] as Neighbour;
      world.advertise(neighbour, 0, 1 + (n % 64));
    }
    expect(world.picker.availabilityOf(0)).toBe(256);
    expect(world.picker.availabilityOf(63)).toBe(4);
    world.check(seededRng(1));
    for (let n = 255; n >= 0; n--) {
      world.leave(world.neighbours[n] as Neighbour);
      expect(world.picker.availabilityOf(0)).toBe(n);
    }
    expect(world.picker.candidates).toBe(0);
  });

  it("gives back its memory, whichever of window and picker is closed first", () => {
    for (const first of ["picker", "window"] as const) {
      const memory = new EngineMemory(newJsKernel(), { segmentBytes: 65_536 });
      const before = memory.freeSegments;
      const window = new FragmentWindow(memory, {
        start: 5,
        fragments: 128,
        bytes: 1 << 20,
        fragmentBytes: 1024,
      });
      const picker = new Picker(window, 8);
      const have = window.createMap();
      const bits = Uint8Array.of(1);
      picker.replaceFromWire(have, { start: 5, run: 9, bitsOffset: 0, bitsBytes: 1 }, bits);
      expect(picker.candidates).toBe(10);
      if (first === "picker") picker.close();
      window.close();
      picker.close();
      expect(memory.freeSegments).toBe(before);
      memory.checkInvariants();
    }
  });

  it("notices when a map was changed behind its back, and refuses a second picker", () => {
    const world = new World("wasm", 0, 64, 2);
    world.join();
    const [neighbour] = world.neighbours as [Neighbour];
    world.advertise(neighbour, 3, 9);
    world.picker.checkInvariants([neighbour.map]);
    world.window.mark(neighbour.map, 9, 10);
    expect(() => world.picker.checkInvariants([neighbour.map])).toThrow(AssertionError);
    expect(() => new Picker(world.window)).toThrow(AssertionError);
    expect(() => world.picker.pushedFrom(2, 0)).toThrow(AssertionError);
    expect(() => new Picker(world.window, 0)).toThrow(AssertionError);
  });
});
