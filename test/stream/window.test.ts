/** The window against a plain Map, whatever is stored, freed, marked and moved. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AssertionError } from "../../src/base/assert.ts";
import { seededRng } from "../../src/base/rng.ts";
import { FragmentWindow, type WindowMap } from "../../src/stream/window.ts";
import { buildFragment } from "../kernel/fragment-builder.ts";
import { createMemory } from "./world.ts";

const FRAGMENT_BYTES = 1024;
const FRAGMENTS = 128;
const WINDOW_BYTES = 64 * 1024;

const offset = fc.nat(300);
const step = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(fc.constant("store"), offset, fc.nat(FRAGMENT_BYTES - 40)) },
  { weight: 3, arbitrary: fc.tuple(fc.constant("advance"), fc.nat(200), fc.nat(3)) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("mark"), offset, fc.nat(80)) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("unmark"), offset, fc.nat(80)) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("compact"), fc.constant(0), fc.constant(0)) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("rebase"), fc.nat(1_000_000), fc.constant(0)) },
);

describe("FragmentWindow", () => {
  it("agrees with a plain map after every step, and its limit never falls", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(0, 1, 63, 64, 1_000_003, 2 ** 40 + 5),
        fc.array(step, { minLength: 1, maxLength: 120 }),
        (start, steps) => {
          const memory = createMemory(2, 16_384);
          const before = memory.freeSegments;
          const window = new FragmentWindow(memory, {
            start,
            fragments: FRAGMENTS,
            bytes: WINDOW_BYTES,
            fragmentBytes: FRAGMENT_BYTES,
          });
          const map = window.createMap();
          const held = new Map<number, Uint8Array>();
          const marked = new Set<number>();
          const cursor = memory.open();
          let limit = window.limit;
          const inMap = (index: number): boolean => index >= window.origin && index < window.mapEnd;
          for (const [kind, a, b] of steps) {
            const index = window.start + a;
            if (kind === "store" && index < window.limit && !held.has(index)) {
              const frame = new Uint8Array(40 + b);
              frame.set(buildFragment([], index));
              new DataView(frame.buffer).setUint32(0, frame.length, true);
              frame.fill((index * 31) & 255, 40);
              if (!cursor.reserve(frame.length)) throw new Error("exhausted");
              const at = cursor.writeOffset;
              memory.bytes.set(frame, at);
              cursor.commit(frame.length);
              memory.retain(at, frame.length);
              cursor.consume(frame.length);
              window.store(index, at, frame.length);
              held.set(index, frame);
            } else if (kind === "advance") {
              const to = window.start + (b === 0 ? a : a % 8);
              window.advance(to);
              for (const key of held.keys()) if (key < to) held.delete(key);
            } else if (kind === "mark" || kind === "unmark") {
              if (kind === "mark") window.mark(map, index, index + b);
              else window.unmark(map, index, index + b);
              for (let i = index; i < index + b; i++) {
                if (kind === "unmark") marked.delete(i);
                else if (inMap(i)) marked.add(i);
              }
            } else if (kind === "compact") memory.compact();
            else if (kind === "rebase" && held.size === 0) {
              window.rebase(window.limit + a);
              marked.clear();
            }
            for (const key of marked) if (key < window.origin) marked.delete(key);
            check(window, map, held, marked);
            expect(window.limit).toBeGreaterThanOrEqual(limit);
            limit = window.limit;
          }
          cursor.close();
          window.close();
          window.close();
          expect(memory.freeSegments).toBe(before);
          memory.checkInvariants();
        },
      ),
      { numRuns: 300 },
    );
  });

  it("has a limit within the indices there are, wherever it starts", () => {
    for (const start of [2 ** 53 - 2, 2 ** 53 - 10, 2 ** 53 - 9_000]) {
      const window = new FragmentWindow(createMemory(), {
        start: 0,
        fragments: 8_192,
        bytes: 1 << 20,
        fragmentBytes: FRAGMENT_BYTES,
      });
      window.rebase(start);
      expect(window.limit).toBeLessThanOrEqual(2 ** 53 - 1);
      expect(window.firstMissing(start, window.limit)).toBe(start);
      window.checkInvariants();
    }
  });

  it("finds what one map has and two others lack", () => {
    const window = new FragmentWindow(createMemory(), {
      start: 100,
      fragments: FRAGMENTS,
      bytes: WINDOW_BYTES,
      fragmentBytes: FRAGMENT_BYTES,
    });
    const [a, b, c] = [window.createMap(), window.createMap(), window.createMap()];
    window.mark(a, 100, 140);
    window.mark(b, 100, 120);
    window.mark(c, 125, 130);
    expect(window.nextDifference(a, b, c, 100, 200)).toBe(120);
    expect(window.nextDifference(a, b, c, 125, 200)).toBe(130);
    expect(window.nextDifference(a, b, c, 140, 200)).toBe(200);
    expect(window.nextSet(b, 0, 90)).toBe(90);
    expect(window.nextClear(a, 100, 200)).toBe(140);
    window.releaseMap(a);
    window.releaseMap(a);
    // Somebody else may have its memory by now.
    expect(() => window.mark(a, 100, 101)).toThrow("given back");
    expect(() => window.unmark(a, 100, 101)).toThrow("given back");
  });

  it("reads a buffermap as far as the maps go, from its own memory and from others", () => {
    const rng = seededRng(5);
    for (let n = 0; n < 400; n++) {
      const memory = createMemory();
      const origin = 64 * (3 + rng.below(1000));
      const window = new FragmentWindow(memory, {
        start: origin + rng.below(64),
        fragments: FRAGMENTS,
        bytes: WINDOW_BYTES,
        fragmentBytes: FRAGMENT_BYTES,
      });
      const map = window.createMap();
      window.mark(map, 0, rng.below(2 * origin));
      const bits = Uint8Array.from({ length: rng.below(80) }, () => rng.below(256));
      const start = Math.max(0, origin - 300 + rng.below(700));
      const run = rng.below(4) === 0 ? rng.below(600) : rng.below(40);
      const bitsOffset = rng.below(9);
      const outside = new Uint8Array(bitsOffset + bits.length + 3).fill(0xff);
      outside.set(bits, bitsOffset);
      const table = memory.allocate(outside.length);
      memory.bytes.set(outside, table);
      const wire = { start, run, bitsOffset, bitsBytes: bits.length };
      // A view that does not begin where its buffer does.
      const inside = memory.bytes.subarray(table);
      window.replaceFromWire(map, wire, rng.below(2) === 0 ? outside : inside);
      for (let index = window.origin; index < window.mapEnd; index++) {
        const bit = index - (start + run + 1);
        const set = bit >= 0 && ((bits[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0;
        const said = set || (index >= start && index < start + run);
        if (window.test(map, index) !== said) throw new Error(`case ${n}: ${index}`);
      }
      window.close();
    }
  });

  it("refuses a fragment twice or below its start: bugs of ours", () => {
    const memory = createMemory();
    const window = new FragmentWindow(memory, {
      start: 10,
      fragments: FRAGMENTS,
      bytes: WINDOW_BYTES,
      fragmentBytes: FRAGMENT_BYTES,
    });
    expect(() => window.store(9, 0, 40)).toThrow(AssertionError);
    expect(() => window.store(window.mapEnd, 0, 40)).toThrow(AssertionError);
  });
});

function check(
  window: FragmentWindow,
  map: WindowMap,
  held: ReadonlyMap<number, Uint8Array>,
  marked: ReadonlySet<number>,
): void {
  window.checkInvariants();
  expect(window.heldCount).toBe(held.size);
  for (const [index, frame] of held) {
    expect(window.holds(index)).toBe(true);
    const at = window.offsetOf(index);
    const bytes = window.memory.bytes.subarray(at, at + window.lengthOf(index));
    expect(Buffer.compare(bytes, frame)).toBe(0);
  }
  const keys = [...held.keys()].sort((a, b) => a - b);
  for (const from of [0, window.start, window.start + 7, window.highest - 1, window.highest + 3]) {
    expect(window.countHeld(from)).toBe(keys.filter((index) => index >= from).length);
  }
  const highest = keys.at(-1);
  if (highest !== undefined) expect(window.highest).toBe(highest + 1);
  let missing = window.start;
  while (held.has(missing)) missing++;
  expect(window.firstMissing(window.start, window.limit)).toBe(Math.min(missing, window.limit));
  for (let index = window.origin - 3; index < window.mapEnd + 3; index++) {
    if (window.test(map, index) !== marked.has(index)) throw new Error(`mark of ${index}`);
  }
}
