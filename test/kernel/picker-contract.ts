/** What the picker's kernels must do; part of the contract of every kernel. */

import { describe, expect, test } from "vitest";
import {
  PICKER_CANDIDATES,
  PICKER_CELL_PLANES,
  PICKER_UPPER_PLANES,
} from "../../src/base/layout.ts";
import { seededRng } from "../../src/base/rng.ts";
import type { Kernel } from "../../src/kernel/kernel.ts";
import { HELD, haveAt, OUT, setUpTable, TABLE } from "./picker-table.ts";

export function pickerContract(name: string, create: () => Kernel): void {
  describe(`${name}: picker`, () => {
    const kernel = create();
    const candidates = (): number => kernel.view.getUint32(TABLE + PICKER_CANDIDATES, true);
    const setUp = (words: number): void => setUpTable(kernel, words);
    const advertise = (n: number, from: number, to: number): number =>
      kernel.pickerAdvertise(TABLE, haveAt(n), from, to);
    const withdraw = (n: number, from: number, to: number): number =>
      kernel.pickerWithdraw(TABLE, haveAt(n), from, to);
    const pick = (
      from: number,
      urgentEnd: number,
      to: number,
      max: number,
      random = 1,
      have = 0,
    ): number[] => {
      const count = kernel.pickerPick(TABLE, have, from, urgentEnd, to, max, random, OUT);
      return [...kernel.u32.subarray(OUT / 4, OUT / 4 + count)];
    };
    const range = (from: number, to: number): number[] =>
      Array.from({ length: to - from }, (_, i) => from + i);

    test("availability is what is advertised and not withdrawn, each bit of a map once", () => {
      setUp(4);
      expect(advertise(0, 10, 200)).toBe(190);
      expect(advertise(0, 10, 200)).toBe(0);
      expect(advertise(0, 0, 20)).toBe(10);
      expect(advertise(1, 64, 128)).toBe(64);
      expect(kernel.bitsCount(haveAt(0), 0, 256)).toBe(200);
      expect(
        [0, 63, 64, 127, 128, 199, 200].map((i) => kernel.pickerAvailability(TABLE, i)),
      ).toEqual([1, 1, 2, 2, 1, 1, 0]);
      expect(withdraw(0, 100, 300 - 44)).toBe(100);
      expect(withdraw(0, 100, 256)).toBe(0);
      expect(kernel.pickerAvailability(TABLE, 127)).toBe(1);
      expect(kernel.pickerAvailability(TABLE, 128)).toBe(0);
      expect(candidates()).toBe(128);
      expect(advertise(0, 7, 7)).toBe(0);
      expect(withdraw(0, 9, 3)).toBe(0);
    });

    test("availability goes up to all the planes hold, and down again", () => {
      setUp(1);
      const most = 2 ** (PICKER_CELL_PLANES + PICKER_UPPER_PLANES) - 1;
      for (let n = 0; n < most; n++) {
        kernel.bitsClear(haveAt(0), 0, 64);
        advertise(0, 3, 6);
      }
      expect([2, 3, 5, 6].map((i) => kernel.pickerAvailability(TABLE, i))).toEqual([
        0,
        most,
        most,
        0,
      ]);
      expect(pick(0, 0, 64, 9).sort()).toEqual([3, 4, 5]);
      for (let n = 0; n < most; n++) {
        kernel.bitsSet(haveAt(0), 0, 64);
        kernel.bitsClear(haveAt(0), 6, 64);
        kernel.bitsClear(haveAt(0), 0, 3);
        withdraw(0, 0, 64);
      }
      expect(kernel.pickerAvailability(TABLE, 3)).toBe(0);
      expect(candidates()).toBe(0);
    });

    test("a whole map in place of another counts only what differs", () => {
      setUp(4);
      advertise(0, 0, 100);
      advertise(1, 50, 100);
      const fresh = haveAt(9);
      kernel.bitsSet(fresh, 90, 256);
      expect(kernel.pickerReplace(TABLE, haveAt(0), fresh)).toBe(156);
      expect(kernel.bitsCount(haveAt(0), 90, 256)).toBe(166);
      expect(kernel.bitsCount(haveAt(0), 0, 256)).toBe(166);
      expect(
        [0, 49, 50, 89, 90, 99, 100, 255].map((i) => kernel.pickerAvailability(TABLE, i)),
      ).toEqual([0, 0, 1, 1, 2, 2, 1, 1]);
      expect(kernel.pickerReplace(TABLE, haveAt(0), fresh)).toBe(0);
      expect(candidates()).toBe(206);
    });

    test("what is taken, held or reserved is no candidate", () => {
      setUp(4);
      advertise(0, 0, 256);
      kernel.pickerTake(TABLE, 10, 20);
      kernel.bitsSet(HELD, 20, 21);
      kernel.pickerStored(TABLE, 20);
      kernel.pickerReserve(TABLE, 32, 64, 40, 200, 1);
      // Runs at 32, 96, 160: of the first what lies from 40 on.
      const gone = [...range(10, 21), ...range(40, 48), ...range(96, 112), ...range(160, 176)];
      const left = range(0, 256).filter((i) => !gone.includes(i));
      expect(pick(0, 256, 256, 300)).toEqual(left);
      expect(candidates()).toBe(left.length);
      // A new holder does not change that.
      advertise(1, 0, 64);
      expect(pick(0, 256, 256, 300)).toEqual(left);
      kernel.pickerRelease(TABLE, 15, 21);
      kernel.pickerReserve(TABLE, 32, 64, 40, 200, 0);
      expect(pick(0, 256, 256, 300)).toEqual([
        ...range(0, 10),
        ...range(15, 20),
        ...range(21, 256),
      ]);
      // Stored ends taken: when it is lost again, it is a candidate.
      kernel.pickerTake(TABLE, 30, 31);
      kernel.pickerStored(TABLE, 30);
      kernel.pickerRelease(TABLE, 0, 256);
      expect(pick(30, 31, 31, 1)).toEqual([30]);
    });

    test("the next candidate is found across any gap", () => {
      setUp(1281);
      const end = 1281 * 64;
      expect(kernel.pickerNext(TABLE, 0, end)).toBe(end);
      for (const at of [5, 4095, 4096, 70_000, end - 1]) advertise(0, at, at + 1);
      const found: number[] = [];
      for (let at = kernel.pickerNext(TABLE, 0, end); at < end; ) {
        found.push(at);
        at = kernel.pickerNext(TABLE, at + 1, end);
      }
      expect(found).toEqual([5, 4095, 4096, 70_000, end - 1]);
      expect(kernel.pickerNext(TABLE, 6, 4095)).toBe(4095);
      expect(kernel.pickerNext(TABLE, 6, 4000)).toBe(4000);
      expect(kernel.pickerNext(TABLE, 9, 9)).toBe(9);
      expect(kernel.pickerNext(TABLE, 9, 3)).toBe(3);
    });

    test("urgent ones come in order, the rest rarest first", () => {
      setUp(16);
      // Availability of i is 1 + i % 20.
      for (let n = 0; n < 20; n++) {
        for (let i = 0; i < 1024; i++) if (i % 20 >= n) advertise(n, i, i + 1);
      }
      const order = pick(100, 200, 900, 2000);
      expect(order.slice(0, 100)).toEqual(range(100, 200));
      const rest = order.slice(100);
      expect([...rest].sort((a, b) => a - b)).toEqual(range(200, 900));
      const classes = rest.map((i) => {
        const availability = 1 + (i % 20);
        return [1, 2, 3, 4, 8, 16].findLastIndex((from) => from <= availability);
      });
      expect(classes).toEqual([...classes].sort((a, b) => a - b));
      // Around: each class goes up, with one step down at most.
      for (let kind = 0; kind < 6; kind++) {
        const of = rest.filter((_, i) => classes[i] === kind);
        expect(of.filter((at, i) => i > 0 && at < (of[i - 1] as number)).length).toBeLessThan(2);
      }
      expect(pick(100, 200, 900, 7)).toEqual(range(100, 107));
      expect(pick(100, 50, 900, 35).every((i) => i % 20 === 0)).toBe(true);
      expect(pick(100, 2000, 110, 99)).toEqual(range(100, 110));
      expect(pick(110, 2000, 110, 99)).toEqual([]);
      expect(pick(100, 200, 900, 0)).toEqual([]);
    });

    test("for one neighbour, only what it holds", () => {
      setUp(1281);
      advertise(0, 0, 80_000);
      advertise(1, 1000, 1010);
      advertise(1, 79_990, 80_000);
      const own = [...range(1000, 1010), ...range(79_990, 80_000)];
      expect(pick(0, 1005, 81_000, 99, 5, haveAt(1)).slice(0, 5)).toEqual(range(1000, 1005));
      for (const random of [0, 1, 2 ** 31, 2 ** 32 - 1]) {
        const order = pick(0, 0, 81_000, 99, random, haveAt(1));
        expect(order.sort((a, b) => a - b)).toEqual(own);
      }
      expect(pick(1010, 1010, 79_990, 99, 5, haveAt(1))).toEqual([]);
    });

    test("what one neighbour holds is found behind any gap, among many candidates and few", () => {
      const places = [0, 63, 64, 130, 577, 700, 4095, 4096, 4097, 8191, 8192, 12_799];
      setUp(200);
      advertise(0, 0, 12_800);
      const found = (): number[] =>
        places.flatMap((at) => {
          advertise(1, at, at + 1);
          const urgent = pick(0, 12_800, 12_800, 9, 1, haveAt(1));
          const rarest = [0, 2 ** 31, 2 ** 32 - 1].map((random) =>
            pick(0, 0, 12_800, 9, random, haveAt(1)),
          );
          const outside = [
            ...pick(at + 1, at + 1, 12_800, 9, 1, haveAt(1)),
            ...pick(0, 0, at, 9, 1, haveAt(1)),
          ];
          withdraw(1, at, at + 1);
          expect([urgent, ...rarest, outside], `${at}`).toEqual([[at], [at], [at], [at], []]);
          return urgent;
        });
      expect(found()).toEqual(places);
      kernel.pickerTake(TABLE, 0, 12_800);
      for (const at of places) kernel.pickerRelease(TABLE, at, at + 1);
      expect(found()).toEqual(places);
    });

    test("what lies far between others of its class is found, if not all of it at once", () => {
      const own = [7, 4_095, 9_000, 12_799];
      setUp(200);
      for (const [n, at] of own.entries()) {
        advertise(0, n === 0 ? 0 : (own[n - 1] as number) + 1, at);
        advertise(1, at, at + 1);
      }
      const rng = seededRng(3);
      const found = new Map<number, number>();
      for (let n = 0; n < 400; n++) {
        const picked = pick(0, 0, 12_800, 9, rng.below(2 ** 32), haveAt(1));
        expect(picked.length).toBeGreaterThan(0);
        for (const at of picked) found.set(at, (found.get(at) ?? 0) + 1);
      }
      // Those that follow a long gap more often than others.
      expect([...found.keys()].sort((a, b) => a - b)).toEqual(own);
      for (const [at, count] of found) expect(count, `${at}`).toBeGreaterThan(20);
      for (const at of own) {
        kernel.pickerTake(TABLE, at, at + 1);
        expect(pick(0, 0, 12_800, 9, 1, haveAt(1))).not.toContain(at);
      }
      expect(pick(0, 0, 12_800, 9, 1, haveAt(1))).toEqual([]);
    });

    test("the place to begin in a class is drawn evenly", () => {
      const rng = seededRng(11);
      const layouts: Record<string, number[]> = {
        "a run of 16": range(5000, 5016),
        "a dense part": range(300, 1300),
        "few far apart": [3, 900, 1000, 1001, 7777, 20_000, 40_404, 65_535],
      };
      for (const [what, indices] of Object.entries(layouts)) {
        setUp(1281);
        for (const at of indices) advertise(0, at, at + 1);
        const drawn = new Map<number, number>(indices.map((at) => [at, 0]));
        const draws = 60 * indices.length;
        for (let n = 0; n < draws; n++) {
          const [first] = pick(0, 0, 70_000, 1, rng.below(2 ** 32));
          drawn.set(first as number, (drawn.get(first as number) ?? 0) + 1);
        }
        expect(drawn.size, what).toBe(indices.length);
        // Words are drawn alike, then bits: coarse where words are not filled alike.
        const counts = [...drawn.values()];
        expect(Math.min(...counts), what).toBeGreaterThan(60 / 8);
        expect(Math.max(...counts), what).toBeLessThan(60 * 4);
      }
    });

    test("everything moves down with the window", () => {
      setUp(200);
      advertise(0, 0, 12_800);
      advertise(1, 6400, 12_800);
      kernel.pickerTake(TABLE, 6400, 6500);
      kernel.pickerReserve(TABLE, 6512, 3200, 0, 12_800, 1);
      kernel.bitsShiftDown(haveAt(0), 200, 100);
      kernel.bitsShiftDown(haveAt(1), 200, 100);
      kernel.pickerShift(TABLE, 100);
      expect([0, 6399, 6400].map((i) => kernel.pickerAvailability(TABLE, i))).toEqual([2, 2, 0]);
      const runs = [112, 3312].flatMap((at) => range(at, at + 16));
      const left = range(100, 6400).filter((i) => !runs.includes(i));
      expect(pick(0, 12_800, 12_800, 7000)).toEqual(left);
      expect(candidates()).toBe(left.length);
      expect(withdraw(0, 0, 12_800)).toBe(6400);
      expect(withdraw(1, 0, 12_800)).toBe(6400);
      expect(candidates()).toBe(0);
      kernel.pickerShift(TABLE, 300);
      advertise(0, 0, 12_800);
      expect(candidates()).toBe(12_800);
    });
  });
}
