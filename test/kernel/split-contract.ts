/** How a kernel splits fragments; part of the contract of every kernel. */

import { describe, expect, test } from "vitest";
import { seededRng } from "../../src/base/rng.ts";
import type { Kernel } from "../../src/kernel/kernel.ts";
import { buildFragment, expectedEntries, type RecordPlan, soundPlan } from "./fragment-builder.ts";
import { A, B, C, D } from "./places.ts";

const TRUNCATED = -1;
const KIND_UNKNOWN = -2;
const SOURCE_UNDECLARED = -3;
const RESERVED_BITS = -4;
const COUNT_WRONG = -5;
const LENGTH_WRONG = -6;
const NUMBER_RANGE = -7;

export function splitContract(name: string, create: () => Kernel): void {
  describe(`${name}: fragments`, () => {
    const kernel = create();
    const split = (bytes: Uint8Array, capacity = 1000, frameBytes = bytes.length): number => {
      kernel.bytes.set(bytes, A + 3);
      return kernel.splitFragment(A + 3, frameBytes, B, capacity, C);
    };
    const entryAt = (i: number) => {
      const at = B + 32 * i;
      return {
        offset: kernel.view.getUint32(at, true) - (A + 3),
        length: kernel.view.getUint32(at + 4, true),
        kind: kernel.view.getUint8(at + 8),
        number: kernel.view.getUint8(at + 9),
        flags: kernel.view.getUint16(at + 10, true),
        declaration: kernel.view.getUint32(at + 12, true),
        sequence: kernel.view.getFloat64(at + 16, true),
        timestamp: kernel.view.getFloat64(at + 24, true),
      };
    };

    test("splitting gives back what was planned", () => {
      const rng = seededRng(11);
      for (let round = 0; round < 500; round++) {
        const plan = soundPlan(rng.below);
        const expected = expectedEntries(plan);
        const sources = plan.filter((record) => record.kind === "source");
        const capacity = expected.length + (round % 2);
        expect(split(buildFragment(plan), capacity)).toBe(sources.length * 65536 + expected.length);
        expect(expected.map((_, i) => entryAt(i))).toEqual(expected);
        sources.forEach((source, row) => {
          const at = C + 32 * row;
          const id = kernel.view.getUint32(at, true);
          const ofRow = expected.filter((entry) => entry.declaration === row);
          expect(String.fromCharCode(...kernel.bytes.slice(id, id + source.id.length))).toBe(
            source.id,
          );
          expect(kernel.view.getUint16(at + 4, true)).toBe(source.id.length);
          expect(kernel.view.getUint16(at + 6, true)).toBe(source.contentType.length);
          expect(kernel.view.getUint32(at + 8, true)).toBe(source.number);
          expect(kernel.view.getUint32(at + 12, true)).toBe(ofRow.length);
          expect(kernel.view.getFloat64(at + 16, true)).toBe(source.base);
          expect(kernel.view.getFloat64(at + 24, true)).toBe(
            Math.max(source.base - 1, ...ofRow.filter((e) => e.kind !== 4).map((e) => e.sequence)),
          );
        });
      }
    });

    const source: RecordPlan = {
      kind: "source",
      number: 5,
      id: "ab",
      contentType: "c",
      base: 3,
      timestamp: 1000,
    };
    const datum: RecordPlan = { kind: "datum", number: 5, bytes: 4, delta: 0 };
    const slice = { kind: "slice", number: 5, bytes: 4, delta: 0 } as const;
    const sound = buildFragment([source, datum]);
    const spoil = (change: (view: DataView, bytes: Uint8Array) => void, plan = [source, datum]) => {
      const bytes = buildFragment(plan);
      change(new DataView(bytes.buffer), bytes);
      return split(bytes);
    };

    test("a sound fragment of one datum, and one without records", () => {
      expect(split(sound)).toBe(65536 + 1);
      expect(split(buildFragment([]))).toBe(0);
    });

    test("what is cut short is refused", () => {
      for (let bytes = 0; bytes < 40; bytes++) expect(split(sound, 10, bytes)).toBe(TRUNCATED);
      for (let bytes = 41; bytes < sound.length; bytes++) {
        const cut = sound.slice(0, bytes);
        // Cut right behind the first record: the count tells.
        new DataView(cut.buffer).setUint32(0, bytes, true);
        expect(split(cut)).toBe(bytes === 67 ? COUNT_WRONG : TRUNCATED);
      }
      expect(split(sound.slice(0, 50), 10)).toBe(LENGTH_WRONG);
    });

    test("kinds, reserved bits and counts are checked", () => {
      expect(spoil((_, bytes) => bytes.set([0xb7], 4))).toBe(KIND_UNKNOWN);
      expect(spoil((_, bytes) => bytes.set([2], 6))).toBe(KIND_UNKNOWN);
      expect(spoil((_, bytes) => bytes.set([1], 7))).toBe(RESERVED_BITS);
      expect(spoil((_, bytes) => bytes.set([2], 12))).toBe(RESERVED_BITS);
      for (const kind of [0, 5, 255]) {
        expect(spoil((_, bytes) => bytes.set([kind], 67))).toBe(KIND_UNKNOWN);
      }
      expect(spoil((view) => view.setUint16(69, 1, true))).toBe(RESERVED_BITS);
      expect(spoil((view) => view.setUint16(14, 1, true))).toBe(COUNT_WRONG);
      expect(spoil((view) => view.setUint16(14, 3, true))).toBe(COUNT_WRONG);
      expect(split(buildFragment([source, datum, datum]), 1)).toBe(COUNT_WRONG);
      const ends = buildFragment([source, { kind: "end", number: 5, last: 2 }]);
      ends[67 + 2] = 1;
      expect(split(ends)).toBe(RESERVED_BITS);
      ends[67 + 2] = 0;
      ends[67 + 7] = 1;
      expect(split(ends)).toBe(RESERVED_BITS);
    });

    test("256 declarations fit, 257 do not", () => {
      const many = Array.from({ length: 256 }, (_, number) => ({ ...source, number }));
      expect(split(buildFragment(many))).toBe(256 * 65536);
      expect(split(buildFragment([...many, source]))).toBe(COUNT_WRONG);
    });

    test("a source must be declared before its data, whatever the tables held", () => {
      kernel.bytes.fill(0, C, C + 8192);
      expect(split(buildFragment([datum]))).toBe(SOURCE_UNDECLARED);
      expect(split(buildFragment([source, { ...datum, number: 6 }]))).toBe(SOURCE_UNDECLARED);
      expect(split(buildFragment([datum, source]))).toBe(SOURCE_UNDECLARED);
      kernel.bytes.fill(5, C, C + 8192);
      expect(split(buildFragment([source, { ...datum, number: 0 }]))).toBe(SOURCE_UNDECLARED);
    });

    test("lengths are checked", () => {
      expect(spoil((_, bytes) => bytes.set([0], 42))).toBe(LENGTH_WRONG);
      expect(spoil((_, bytes) => bytes.set([129], 42))).toBe(LENGTH_WRONG);
      expect(spoil((_, bytes) => bytes.set([129], 43))).toBe(LENGTH_WRONG);
      expect(spoil((_, bytes) => bytes.set([128], 42))).toBe(TRUNCATED);
      expect(spoil((view) => view.setUint32(71, 5, true))).toBe(TRUNCATED);
      expect(spoil((view) => view.setUint32(71, 0xffffffff, true))).toBe(TRUNCATED);
    });

    test("numbers are checked", () => {
      expect(spoil((view) => view.setBigUint64(24, 2n ** 53n - 2n, true))).toBe(65537);
      expect(spoil((view) => view.setBigUint64(24, 2n ** 53n - 1n, true))).toBe(NUMBER_RANGE);
      expect(spoil((view) => view.setBigUint64(32, 2n ** 53n, true))).toBe(NUMBER_RANGE);
      expect(spoil((view) => view.setBigUint64(48, 0n, true))).toBe(NUMBER_RANGE);
      expect(spoil((view) => view.setBigUint64(48, 2n ** 53n - 1n, true))).toBe(65537);
      expect(spoil((view) => view.setBigUint64(48, 2n ** 64n - 1n, true))).toBe(NUMBER_RANGE);
      const plans = [source, datum, datum];
      expect(spoil((v) => v.setBigUint64(48, 2n ** 53n - 1n, true), plans)).toBe(NUMBER_RANGE);
      expect(spoil((view) => view.setBigUint64(56, 2n ** 53n, true))).toBe(NUMBER_RANGE);
      expect(spoil((view) => view.setInt32(75, -1000, true))).toBe(65537);
      expect(spoil((view) => view.setInt32(75, -1001, true))).toBe(NUMBER_RANGE);
      const late = (view: DataView): void => view.setBigUint64(56, 2n ** 53n - 1n, true);
      expect(spoil(late)).toBe(65537);
      expect(spoil(late, [source, { ...datum, delta: 1 }])).toBe(NUMBER_RANGE);
      expect(split(buildFragment([source, { kind: "end", number: 5, last: 1 }]))).toBe(
        NUMBER_RANGE,
      );
      const last = buildFragment([source, { kind: "end", number: 5, last: 2 }]);
      expect(split(last)).toBe(65537);
      new DataView(last.buffer).setBigUint64(75, 2n ** 53n, true);
      expect(split(last)).toBe(NUMBER_RANGE);
    });

    test("chains of slices are checked as far as one fragment shows them", () => {
      const first = { ...slice, flags: 1, offset: 0, total: 8 };
      const last = { ...slice, flags: 2, offset: 4, total: 8 };
      const other: RecordPlan = { ...source, number: 6 };
      const chains = (...plans: RecordPlan[]) => split(buildFragment([source, ...plans]));
      expect(chains(first, last)).toBe(65536 + 2);
      expect(chains(last, datum, first)).toBe(65536 + 3);
      expect(chains(first, source, last)).toBe(2 * 65536 + 2);
      expect(chains({ ...slice, flags: 3, offset: 0, total: 4 })).toBe(65536 + 1);
      for (const plans of [
        [{ ...first, flags: 0 }],
        [{ ...first, flags: 3 }],
        [{ ...last, flags: 3 }],
        [{ ...last, flags: 0 }],
        [{ ...last, total: 7 }],
        [{ ...first, total: 16 * 1024 * 1024 + 1 }],
        [{ ...first, bytes: 0 }],
        [{ ...last, offset: 0xffff_fffe, total: 8 }],
        [first, datum],
        [first, first],
        [first, { ...last, total: 9, flags: 0 }],
        [first, { ...last, offset: 5, total: 9 }],
        [first, other, { ...last, number: 6 }],
        [datum, last],
      ]) {
        expect(chains(...plans)).toBe(LENGTH_WRONG);
      }
      expect(chains({ ...first, flags: 5 })).toBe(RESERVED_BITS);
    });

    test("any change of any byte leaves it whole: an answer, and no write outside the tables", () => {
      const plan = soundPlan(seededRng(5).below);
      const bytes = buildFragment(plan);
      kernel.bytes.fill(0x77, D, D + 1000);
      for (let at = 0; at < bytes.length; at++) {
        for (const flip of [1, 0x80, 0xff]) {
          const spoilt = bytes.slice();
          spoilt[at] = (spoilt[at] as number) ^ flip;
          const result = split(spoilt, 64);
          expect(result).toBeGreaterThanOrEqual(-7);
        }
      }
      expect(kernel.bytes.subarray(D, D + 1000).every((byte) => byte === 0x77)).toBe(true);
    });
  });
}
