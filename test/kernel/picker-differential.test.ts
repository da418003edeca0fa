/**
 * Both kernels leave the same picker tables and maps and pick the same, on generated sequences: at
 * least CASES_MIN calls of each operation. Each sequence runs on one table, so that every call meets
 * what all before it left.
 */

import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { type Rng, seededRng } from "../../src/base/rng.ts";
import type { Kernel } from "../../src/kernel/kernel.ts";
import { HEAP, newJsKernel, newWasmKernel } from "./kernels.ts";
import { HAVES_END, HELD, haveAt, OUT, setUpTable, TABLE } from "./picker-table.ts";

const CASES_MIN = 10_000;
const NEIGHBOURS = 20;
const SEQUENCES = 300;
const STEPS = 400;
const kernels = [newWasmKernel(), newJsKernel()] as const;

type Operation = (
  rng: Rng,
  bits: number,
) => { readonly call: (kernel: Kernel) => number | undefined; readonly name: string };

/** Mostly short, sometimes everything; empty ones too. */
function rangeOf(rng: Rng, bits: number): [number, number] {
  const from = rng.below(bits + 1);
  const kind = rng.below(8);
  if (kind === 0) return [from, rng.below(bits + 1)];
  if (kind === 1) return [0, bits];
  return [from, Math.min(bits, from + rng.below(40))];
}

const OPERATIONS: Operation[] = [
  (rng, bits) => {
    const have = haveAt(rng.below(NEIGHBOURS));
    const [from, to] = rangeOf(rng, bits);
    const call = (kernel: Kernel): number => kernel.pickerAdvertise(TABLE, have, from, to);
    return { name: "pickerAdvertise", call };
  },
  (rng, bits) => {
    const have = haveAt(rng.below(NEIGHBOURS));
    const [from, to] = rangeOf(rng, bits);
    const call = (kernel: Kernel): number => kernel.pickerWithdraw(TABLE, have, from, to);
    return { name: "pickerWithdraw", call };
  },
  (rng, bits) => {
    const have = haveAt(rng.below(NEIGHBOURS));
    const fresh = haveAt(NEIGHBOURS);
    const runs = [1, 2, 3].map(() => rangeOf(rng, bits));
    const call = (kernel: Kernel): number => {
      kernel.bitsClear(fresh, 0, bits);
      for (const [from, to] of runs) kernel.bitsSet(fresh, from, to);
      return kernel.pickerReplace(TABLE, have, fresh);
    };
    return { name: "pickerReplace", call };
  },
  (rng, bits) => {
    const [from, to] = rangeOf(rng, bits);
    const call = (kernel: Kernel): undefined => kernel.pickerTake(TABLE, from, to) as undefined;
    return { name: "pickerTake", call };
  },
  (rng, bits) => {
    const [from, to] = rangeOf(rng, bits);
    const call = (kernel: Kernel): undefined => kernel.pickerRelease(TABLE, from, to) as undefined;
    return { name: "pickerRelease", call };
  },
  (rng, bits) => {
    const bit = rng.below(bits);
    const lost = rng.below(3) === 0;
    const call = (kernel: Kernel): undefined => {
      if (lost) {
        kernel.bitsClear(HELD, bit, bit + 1);
        kernel.pickerTake(TABLE, bit, bit + 1);
        kernel.pickerRelease(TABLE, bit, bit + 1);
      } else kernel.bitsSet(HELD, bit, bit + 1);
      kernel.pickerStored(TABLE, bit);
      return undefined;
    };
    return { name: "pickerStored", call };
  },
  (rng, bits) => {
    const [from, to] = rangeOf(rng, bits);
    const substreams = 1 + rng.below(32);
    const run = 16 * rng.below(substreams);
    const on = rng.below(3) === 0 ? 1 : 0;
    const call = (kernel: Kernel): undefined =>
      kernel.pickerReserve(TABLE, run, 16 * substreams, from, to, on) as undefined;
    return { name: "pickerReserve", call };
  },
  (rng, bits) => {
    const bit = rng.below(bits);
    return { name: "pickerAvailability", call: (kernel) => kernel.pickerAvailability(TABLE, bit) };
  },
  (rng, bits) => {
    const [from, to] = rangeOf(rng, bits);
    return { name: "pickerNext", call: (kernel) => kernel.pickerNext(TABLE, from, to) };
  },
  (rng, bits) => {
    const have = rng.below(2) === 0 ? 0 : haveAt(rng.below(NEIGHBOURS));
    const [from, to] = rangeOf(rng, bits);
    const urgentEnd = rng.below(3) === 0 ? rng.below(bits) : from + rng.below(20);
    const most = rng.below(4) === 0 ? 2000 : rng.below(20);
    const random = rng.below(2 ** 32);
    const call = (kernel: Kernel): number =>
      kernel.pickerPick(TABLE, have, from, urgentEnd, to, most, random, OUT);
    return { name: "pickerPick", call };
  },
  (rng, bits) => {
    const words = bits / 64;
    const shift = rng.below(12) === 0 ? rng.below(words + 3) : rng.below(2);
    const call = (kernel: Kernel): undefined => {
      for (let n = 0; n < NEIGHBOURS; n++) kernel.bitsShiftDown(haveAt(n), words, shift);
      kernel.bitsShiftDown(HELD, words, shift);
      return kernel.pickerShift(TABLE, shift) as undefined;
    };
    return { name: "pickerShift", call };
  },
];

const counts = new Map<string, number>();
afterAll(() => {
  expect(counts.size).toBe(OPERATIONS.length);
  for (const [name, count] of counts) expect(count, name).toBeGreaterThanOrEqual(CASES_MIN);
});

function expectSameMemory(after: string): void {
  const [wasm, js] = kernels.map((kernel) =>
    Buffer.from(kernel.bytes.buffer, HEAP, HAVES_END - HEAP),
  ) as [Buffer, Buffer];
  if (wasm.equals(js)) return;
  let at = 0;
  while (wasm[at] === js[at]) at++;
  throw new Error(`memory differs at ${at} after ${after}: wasm ${wasm[at]}, js ${js[at]}`);
}

test("both kernels pick alike and leave the same bytes", () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const rng = seededRng(seed);
      const words = [1, 3, 17, 65, 140][rng.below(5)] as number;
      for (const kernel of kernels) setUpTable(kernel, words);
      for (let step = 0; step < STEPS; step++) {
        // Every operation as often as any other, in an order by chance.
        const next = OPERATIONS[rng.below(OPERATIONS.length)] as Operation;
        const { name, call } = next(rng, 64 * words);
        const answers = kernels.map(call);
        expect(answers[0], `${name} at step ${step}`).toBe(answers[1]);
        counts.set(name, (counts.get(name) ?? 0) + 1);
        if (step % 20 === 19) expectSameMemory(`step ${step}`);
      }
    }),
    { numRuns: SEQUENCES },
  );
}, 120_000);

test("both kernels pick alike where a class has more words than are searched", () => {
  const words = 200;
  const rng = seededRng(7);
  for (const kernel of kernels) setUpTable(kernel, words);
  const own = Array.from({ length: 12 }, () => rng.below(64 * words));
  for (const kernel of kernels) {
    kernel.pickerAdvertise(TABLE, haveAt(0), 0, 64 * words);
    for (const at of own) {
      kernel.pickerAdvertise(TABLE, haveAt(1), at, at + 1);
      kernel.pickerWithdraw(TABLE, haveAt(0), at, at + 1);
    }
  }
  let fewer = 0;
  for (let n = 0; n < 1_000; n++) {
    const from = rng.below(2_000);
    const most = 1 + rng.below(20);
    const random = rng.below(2 ** 32);
    const answers = kernels.map((kernel) =>
      kernel.pickerPick(TABLE, haveAt(1), from, from, 64 * words, most, random, OUT),
    );
    expect(answers[0]).toBe(answers[1]);
    if ((answers[0] as number) < Math.min(most, own.length - 2)) fewer++;
    expectSameMemory(`pick ${n}`);
  }
  expect(fewer).toBeGreaterThan(100);
});
