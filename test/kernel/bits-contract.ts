/** What a kernel does with bit maps; part of the contract of every kernel. */

import { describe, expect, test } from "vitest";
import { seededRng } from "../../src/base/rng.ts";
import type { Kernel } from "../../src/kernel/kernel.ts";
import { A, B, C } from "./places.ts";

export function bitsContract(name: string, create: () => Kernel): void {
  describe(`${name}: bit maps`, () => {
    const kernel = create();
    const bitsOf = (words: number, count: number): string => {
      let found = "";
      for (let bit = 0; bit < count; bit++) found += kernel.bitTest(words, bit) ? "1" : "0";
      return found;
    };

    test("ranges are set and cleared, and nothing else", () => {
      for (const [from, to] of [
        [0, 0],
        [0, 1],
        [63, 65],
        [5, 64],
        [64, 128],
        [1, 511],
        [300, 40],
      ]) {
        kernel.bytes.fill(0, A, A + 72);
        kernel.bitsSet(A, from as number, to as number);
        const length = Math.max(0, (to as number) - (from as number));
        const set = "0".repeat(from as number) + "1".repeat(length);
        expect(bitsOf(A, 576)).toBe(set.padEnd(576, "0"));
        kernel.bytes.fill(0xff, A, A + 72);
        kernel.bitsClear(A, from as number, to as number);
        const cleared = "1".repeat(from as number) + "0".repeat(length);
        expect(bitsOf(A, 576)).toBe(cleared.padEnd(576, "1"));
      }
    });

    test("counting and searching agree with looking at each bit", () => {
      const rng = seededRng(3);
      for (let round = 0; round < 60; round++) {
        for (const words of [A, B, C]) {
          const density = rng.next() ** 3;
          for (let bit = 0; bit < 1024; bit++) {
            if (rng.next() < density) kernel.bitsSet(words, bit, bit + 1);
            else kernel.bitsClear(words, bit, bit + 1);
          }
        }
        const a = bitsOf(A, 1024);
        const b = bitsOf(B, 1024);
        const c = bitsOf(C, 1024);
        const from = rng.below(1025);
        const to = rng.below(1025);
        const bits = Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
        const first = (holds: (bit: number) => boolean): number => bits.find(holds) ?? to;
        expect(kernel.bitsCount(A, from, to)).toBe(bits.filter((i) => a[i] === "1").length);
        expect(kernel.bitsNextSet(A, from, to)).toBe(first((i) => a[i] === "1"));
        expect(kernel.bitsNextClear(A, from, to)).toBe(first((i) => a[i] === "0"));
        expect(kernel.bitsNextDifference(A, B, from, to)).toBe(
          first((i) => a[i] === "1" && b[i] === "0"),
        );
        expect(kernel.bitsNextDifference2(A, B, C, from, to)).toBe(
          first((i) => a[i] === "1" && b[i] === "0" && c[i] === "0"),
        );
      }
    });

    test("the largest window is counted whole", () => {
      kernel.bitsSet(A, 0, 65_536);
      kernel.bitsClear(B, 0, 65_536);
      expect(kernel.bitsCount(A, 0, 65_536)).toBe(65_536);
      expect(kernel.bitsNextClear(A, 0, 65_536)).toBe(65_536);
      expect(kernel.bitsNextSet(B, 0, 65_536)).toBe(65_536);
    });

    test("a map is shifted down by words", () => {
      kernel.bitsClear(A, 0, 640);
      kernel.bitsSet(A, 130, 140);
      kernel.bitsSet(A, 512, 640);
      kernel.bitsShiftDown(A, 8, 2);
      expect(bitsOf(A, 640)).toBe(`00${"1".repeat(10)}${"0".repeat(500)}${"1".repeat(128)}`);
      kernel.bitsShiftDown(A, 8, 9);
      expect(kernel.bitsCount(A, 0, 512)).toBe(0);
      expect(kernel.bitsCount(A, 512, 640)).toBe(128);
    });

    test("wire bits start at bit 0, lose zeros at the end, and come back", () => {
      kernel.bitsClear(A, 0, 1024);
      kernel.bitsSet(A, 70, 71);
      kernel.bitsSet(A, 79, 81);
      kernel.bytes.fill(0xee, B, B + 64);
      expect(kernel.bitsToWire(A, 70, 300, B)).toBe(2);
      expect([...kernel.bytes.subarray(B, B + 2)]).toEqual([0x01, 0x06]);
      expect(kernel.bytes[B + 29]).toBe(0xee);
      expect(kernel.bitsToWire(A, 81, 300, B)).toBe(0);
      expect(kernel.bitsToWire(A, 80, 80, B)).toBe(0);

      kernel.bitsClear(C, 0, 1024);
      kernel.bytes.set([0x01, 0x06, 0xff], B);
      kernel.bitsFromWire(B, 17, C, 70);
      expect(kernel.bitsNextSet(C, 0, 1024)).toBe(70);
      expect(kernel.bitsCount(C, 0, 1024)).toBe(4);
      expect(kernel.bitTest(C, 86)).toBe(true);
      expect(kernel.bitTest(C, 87)).toBe(false);
      kernel.bitsFromWire(B, 0, C, 70);
      expect(kernel.bitsCount(C, 0, 1024)).toBe(4);
    });
  });
}
