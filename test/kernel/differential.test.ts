/**
 * Both kernels do the same to the same memory, on generated cases: at least CASES_MIN for each
 * operation. fast-check draws the shape of a batch and a seed; contents come from the seed, so that
 * one run holds many cases and still shrinks to one seed.
 */

import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { type Rng, seededRng } from "../../src/base/rng.ts";
import { buildFragment, soundPlan } from "./fragment-builder.ts";
import { HEAP, newJsKernel, newWasmKernel } from "./kernels.ts";

const CASES_MIN = 10_000;
const wasm = newWasmKernel();
const js = newJsKernel();
const kernels = [wasm, js] as const;

const A = HEAP;
const B = HEAP + 0x10000;
const C = HEAP + 0x20000;
const D = HEAP + 0x30000;
const END = HEAP + 0x40000;

const counts = new Map<string, number>();
function counted(operation: string): void {
  counts.set(operation, (counts.get(operation) ?? 0) + 1);
}

const OPERATIONS = [
  ...["crc32c", "checksumFragments", "verifyFragments", "mergeData"],
  ...["copyBytes", "writeDatum", "writeSlice"],
  ...["writeDataHeader", "splitFragment sound", "splitFragment spoilt", "splitFragment truncated"],
  ...["bitTest", "bitsSet", "bitsClear", "bitsCount", "bitsNextSet", "bitsNextClear"],
  ...["bitsNextDifference", "bitsNextDifference2", "bitsShiftDown"],
  ...["bitsToWire", "bitsFromWire"],
];

afterAll(() => {
  for (const operation of OPERATIONS) {
    expect(counts.get(operation) ?? 0, operation).toBeGreaterThanOrEqual(CASES_MIN);
  }
  expect([...counts.keys()].sort()).toEqual([...OPERATIONS].sort());
});

/** Runs `batch` with `runs` seeds. */
function check(runs: number, batch: (rng: Rng) => void): void {
  fc.assert(
    fc.property(fc.integer(), (seed) => batch(seededRng(seed))),
    { numRuns: runs },
  );
}

/** The same random bytes in both. */
function fillRandom(rng: Rng, from: number, to: number): void {
  for (let at = from; at < to; at += 4) {
    const word = rng.below(2 ** 32);
    for (const kernel of kernels) kernel.view.setUint32(at, word, true);
  }
}

function put(at: number, bytes: Uint8Array): void {
  for (const kernel of kernels) kernel.bytes.set(bytes, at);
}

function expectSameMemory(from: number, to: number): void {
  const left = Buffer.from(wasm.bytes.buffer, from, to - from);
  const right = Buffer.from(js.bytes.buffer, from, to - from);
  if (left.equals(right)) return;
  let at = 0;
  while (left[at] === right[at]) at++;
  throw new Error(`memory differs at ${from + at}: wasm ${left[at]}, js ${right[at]}`);
}

/** Lengths around every boundary of the kernels, and some large ones. */
function lengthOf(rng: Rng): number {
  const kind = rng.below(20);
  if (kind === 0) return rng.below(3000);
  return kind < 4 ? 500 + rng.below(40) : rng.below(100);
}

describe("both kernels", () => {
  test("checksum alike", () => {
    check(100, (rng) => {
      fillRandom(rng, A, A + 8192);
      for (let i = 0; i < 100; i++) {
        const offset = A + rng.below(64);
        const length = lengthOf(rng);
        expect(wasm.crc32c(offset, length)).toBe(js.crc32c(offset, length));
        counted("crc32c");
      }
      for (let i = 0; i < 100; i++) {
        const count = 1 + rng.below(4);
        let at = A + rng.below(16);
        for (let pair = 0; pair < count; pair++) {
          const bytes = 40 + (lengthOf(rng) >> 1);
          put(C + 8 * pair, Uint8Array.from(new Uint8Array(new Uint32Array([at, bytes]).buffer)));
          at += bytes;
        }
        for (const kernel of kernels) kernel.checksumFragments(C, count);
        counted("checksumFragments");
        const flip = A + rng.below(8192);
        for (const kernel of kernels) {
          kernel.bytes[flip] = (kernel.bytes[flip] as number) ^ (1 << (i & 7));
        }
        expect(wasm.verifyFragments(C, count, D)).toBe(js.verifyFragments(C, count, D));
        counted("verifyFragments");
      }
      expectSameMemory(A, END);
    });
  });

  test("merge and slice alike", () => {
    check(100, (rng) => {
      fillRandom(rng, A, A + 8192);
      fillRandom(rng, B, B + 4096);
      for (let i = 0; i < 100; i++) {
        const count = rng.below(8);
        for (let datum = 0; datum < count; datum++) {
          const length = rng.below(50) === 0 ? rng.below(2 ** 32) : lengthOf(rng);
          for (const kernel of kernels) kernel.view.setUint32(C + 4 * datum, length, true);
        }
        const write = A + rng.below(64);
        const limit = write + rng.below(1500);
        const payloads = B + rng.below(64);
        const number = rng.below(256);
        const delta = rng.below(2 ** 32) | 0;
        const merged = kernels.map((kernel) =>
          kernel.mergeData(write, limit, payloads, C, count, number, delta),
        );
        expect(merged[0]).toBe(merged[1]);
        counted("mergeData");
        const bytes = lengthOf(rng);
        const offset = rng.below(2 ** 24);
        const flags = rng.below(4);
        // Elsewhere, or across the record that is written.
        const payload = rng.below(2) === 0 ? payloads : write + rng.below(40);
        const ends = kernels.map((kernel) =>
          kernel.writeSlice(write, payload, bytes, number, flags, delta, offset, 2 ** 24),
        );
        expect(ends[0]).toBe(ends[1]);
        counted("writeSlice");
        expectSameMemory(A, A + 8192);
        for (const kernel of kernels) kernel.copyBytes(write + 20, payload, bytes);
        counted("copyBytes");
        expectSameMemory(A, A + 8192);
        const datumEnds = kernels.map((kernel) =>
          kernel.writeDatum(write, payload, bytes, number, delta),
        );
        expect(datumEnds[0]).toBe(datumEnds[1]);
        counted("writeDatum");
        const frameBytes = rng.below(2 ** 18);
        const index = Math.floor(rng.next() * (2 ** 53 - 1));
        const createdUs = Math.floor(rng.next() * 2 ** 53);
        const records = rng.below(65_536);
        for (const kernel of kernels) {
          kernel.writeDataHeader(write, frameBytes, i & 1, records, C, index, createdUs);
        }
        counted("writeDataHeader");
        expectSameMemory(A, A + 8192);
      }
      expectSameMemory(A, END);
    });
  });

  /** Splits the frame in both; the answer must not depend on what surrounds the frame. */
  function expectSameSplit(frame: Uint8Array, at: number, capacity: number): number {
    const answers = [0x00, 0xff].flatMap((around) => {
      for (const kernel of kernels) {
        kernel.bytes.fill(around, at - 64, at);
        kernel.bytes.set(frame, at);
        kernel.bytes.fill(around, at + frame.length, at + frame.length + 64);
      }
      return kernels.map((kernel) => kernel.splitFragment(at, frame.length, B, capacity, C));
    });
    const answer = answers[0] as number;
    expect(answers).toEqual([answer, answer, answer, answer]);
    if (answer >= 0) {
      expectSameMemory(B, B + 32 * (answer & 0xffff));
      expectSameMemory(C, C + 32 * (answer >> 16));
    }
    return answer;
  }

  test("split alike, sound, spoilt and truncated", () => {
    const refused = new Map<number, number>();
    check(350, (rng) => {
      fillRandom(rng, C, C + 8192);
      for (let i = 0; i < 30; i++) {
        const at = A + 64 + rng.below(16);
        const frame = buildFragment(soundPlan(rng.below), rng.below(1000), rng.below(1000));
        const records = new DataView(frame.buffer).getUint16(14, true);
        expect(expectSameSplit(frame, at, records)).toBeGreaterThanOrEqual(0);
        counted("splitFragment sound");

        const spoilt = frame.slice();
        for (let change = rng.below(3); change >= 0; change--) {
          // Mostly small values: they go further into the records.
          const value = rng.below(rng.below(2) === 0 ? 6 : 256);
          spoilt[rng.below(spoilt.length)] = value;
        }
        const answer = expectSameSplit(spoilt, at, rng.below(4) === 0 ? 2 : records);
        if (answer < 0) refused.set(answer, (refused.get(answer) ?? 0) + 1);
        counted("splitFragment spoilt");

        const cut = frame.slice(0, rng.below(frame.length));
        if (cut.length >= 4 && rng.below(4) > 0) {
          new DataView(cut.buffer).setUint32(0, cut.length, true);
        }
        expect(expectSameSplit(cut, at, records)).toBeLessThan(0);
        counted("splitFragment truncated");
      }
    });
    // The cases reach every reason there is.
    expect([...refused.keys()].sort((a, b) => b - a)).toEqual([-1, -2, -3, -4, -5, -6, -7]);
  });

  const MAP_BITS = 1024;
  const MAP_BYTES = MAP_BITS / 8;

  /** A map of single bits, runs, noise or all of one kind. */
  function fillMap(rng: Rng, at: number): void {
    const kind = rng.below(4);
    const bytes = new Uint8Array(MAP_BYTES).fill(rng.below(2) === 0 ? 0 : 0xff);
    if (kind === 0) for (let i = 0; i < MAP_BYTES; i++) bytes[i] = rng.below(256);
    if (kind === 1) for (let i = 0; i < 4; i++) bytes[rng.below(MAP_BYTES)] = 1 << rng.below(8);
    if (kind === 2) bytes.fill(rng.below(256), rng.below(MAP_BYTES), rng.below(MAP_BYTES));
    put(at, bytes);
  }

  test("count and search bits alike", () => {
    check(250, (rng) => {
      for (const map of [A, B, C]) fillMap(rng, map);
      for (let i = 0; i < 41; i++) {
        const from = rng.below(MAP_BITS + 1);
        const to =
          rng.below(4) === 0 ? rng.below(MAP_BITS + 1) : from + rng.below(MAP_BITS + 1 - from);
        const same = (operation: string, answers: (number | boolean)[]): void => {
          expect(answers[0], `${operation} [${from}, ${to})`).toBe(answers[1]);
          counted(operation);
        };
        const bit = Math.min(from, MAP_BITS - 1);
        same(
          "bitTest",
          kernels.map((k) => k.bitTest(A, bit)),
        );
        same(
          "bitsCount",
          kernels.map((k) => k.bitsCount(A, from, to)),
        );
        same(
          "bitsNextSet",
          kernels.map((k) => k.bitsNextSet(A, from, to)),
        );
        same(
          "bitsNextClear",
          kernels.map((k) => k.bitsNextClear(A, from, to)),
        );
        same(
          "bitsNextDifference",
          kernels.map((k) => k.bitsNextDifference(A, B, from, to)),
        );
        same(
          "bitsNextDifference2",
          kernels.map((k) => k.bitsNextDifference2(A, B, C, from, to)),
        );
      }
    });
  });

  test("change bits alike", () => {
    check(250, (rng) => {
      for (const map of [A, B, C]) fillMap(rng, map);
      put(A + MAP_BYTES, new Uint8Array(64).fill(0x55));
      for (let i = 0; i < 41; i++) {
        const from = rng.below(MAP_BITS + 1);
        const to =
          rng.below(8) === 0 ? rng.below(MAP_BITS + 1) : from + rng.below(MAP_BITS + 1 - from);
        for (const kernel of kernels) kernel.bitsSet(A, from, to);
        counted("bitsSet");
        expectSameMemory(A, A + MAP_BYTES + 64);
        const clearFrom = rng.below(MAP_BITS);
        const clearTo = clearFrom + rng.below(MAP_BITS + 1 - clearFrom);
        for (const kernel of kernels) kernel.bitsClear(A, clearFrom, clearTo);
        counted("bitsClear");
        expectSameMemory(A, A + MAP_BYTES + 64);

        const wire = D + rng.below(8);
        const sizes = kernels.map((kernel) => kernel.bitsToWire(B, from, to, wire));
        expect(sizes[0], `[${from}, ${to})`).toBe(sizes[1]);
        if ((sizes[0] as number) > 0) {
          expect(wasm.bytes[wire + (sizes[0] as number) - 1]).not.toBe(0);
        }
        counted("bitsToWire");
        expectSameMemory(D, D + 256);
        const count = Math.max(0, to - from);
        for (const kernel of kernels) kernel.bitsFromWire(wire, count, A, from);
        counted("bitsFromWire");
        expectSameMemory(A, A + MAP_BYTES + 64);
        // What came by wire is there.
        if (count > 0) expect(wasm.bitsNextDifference(B, A, from, to)).toBe(to);

        if (i % 8 === 0) fillMap(rng, C);
        const words = rng.below(MAP_BITS / 64 + 1);
        const shift = rng.below(MAP_BITS / 64 + 4);
        for (const kernel of kernels) kernel.bitsShiftDown(C, words, shift);
        counted("bitsShiftDown");
        expectSameMemory(C, C + MAP_BYTES);
      }
    });
  });
});
