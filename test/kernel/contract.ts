/** What every kernel must do; run on each of them by a test file of its own. */

import { describe, expect, test } from "vitest";
import { seededRng } from "../../src/base/rng.ts";
import type { Kernel } from "../../src/kernel/kernel.ts";
import { buildFragment, expectedEntries, type RecordPlan, soundPlan } from "./fragment-builder.ts";
import { HEAP } from "./kernels.ts";
import { pickerContract } from "./picker-contract.ts";

const text = new TextEncoder();
/** Apart from each other by more than any test needs. */
const A = HEAP;
const B = HEAP + 0x40000;
const C = HEAP + 0x80000;
const D = HEAP + 0xc0000;

const TRUNCATED = -1;
const KIND_UNKNOWN = -2;
const SOURCE_UNDECLARED = -3;
const RESERVED_BITS = -4;
const COUNT_WRONG = -5;
const LENGTH_WRONG = -6;
const NUMBER_RANGE = -7;

export function kernelContract(name: string, create: () => Kernel): void {
  pickerContract(name, create);

  describe(`${name}: checksums`, () => {
    const kernel = create();
    const crcOf = (bytes: Uint8Array): number => {
      kernel.bytes.set(bytes, A + 3);
      return kernel.crc32c(A + 3, bytes.length);
    };

    test("CRC32C gives the published values (RFC 3720, appendix B.4)", () => {
      expect(crcOf(new Uint8Array(0))).toBe(0);
      expect(crcOf(text.encode("123456789"))).toBe(0xe3069283);
      expect(crcOf(new Uint8Array(32))).toBe(0x8a9136aa);
      expect(crcOf(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
      expect(crcOf(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
      expect(crcOf(Uint8Array.from({ length: 32 }, (_, i) => 31 - i))).toBe(0x113fdb5c);
      // An iSCSI SCSI read (10) command.
      const read = new Uint8Array(48);
      read.set([0x01, 0xc0], 0);
      read[16] = 0x14;
      read.set([0x04, 0x00], 22);
      read[27] = 0x14;
      read[31] = 0x18;
      read.set([0x28], 32);
      read[40] = 0x02;
      expect(crcOf(read)).toBe(0xd9963a56);
    });

    test("checksums of fragments are filled in and verified", () => {
      const rng = seededRng(7);
      const frames = [40, 41, 55, 200, 16_384].map((bytes) => {
        const frame = new Uint8Array(bytes);
        for (let i = 0; i < bytes; i++) frame[i] = rng.below(256);
        return frame;
      });
      let at = A + 5;
      const offsets = frames.map((frame, i) => {
        kernel.bytes.set(frame, at);
        kernel.view.setUint32(B + 8 * i, at, true);
        kernel.view.setUint32(B + 8 * i + 4, frame.length, true);
        at += frame.length;
        return at - frame.length;
      });
      kernel.checksumFragments(B, frames.length);
      offsets.forEach((offset, i) => {
        const frame = frames[i] as Uint8Array;
        const expected = kernel.crc32c(offset + 12, frame.length - 12);
        expect(kernel.view.getUint32(offset + 8, true)).toBe(expected);
        // Nothing but the checksum changed.
        expect(kernel.bytes.slice(offset, offset + 8)).toEqual(frame.slice(0, 8));
        expect(kernel.bytes.slice(offset + 12, offset + frame.length)).toEqual(frame.slice(12));
      });
      expect(kernel.verifyFragments(B, frames.length, C)).toBe(5);
      const spoilt = (offsets[3] as number) + 100;
      kernel.bytes[spoilt] = (kernel.bytes[spoilt] as number) ^ 1;
      expect(kernel.verifyFragments(B, frames.length, C)).toBe(4);
      expect([...kernel.bytes.subarray(C, C + 5)]).toEqual([1, 1, 1, 0, 1]);
    });
  });

  describe(`${name}: fragments`, () => {
    const kernel = create();

    test("a DATA frame has these very bytes", () => {
      // One source "th" of "a/b", two merged data, a first slice.
      // biome-ignore format: one row per field
      const golden = Uint8Array.from([
        0x76, 0, 0, 0,                                  // frame bytes: 118
        0xb6, 0x01, 0x01, 0x00,                         // magic, version, DATA, frame flags
        0x00, 0x00, 0x00, 0x00,                         // checksum, none yet
        0x01, 0x00,                                     // END
        0x04, 0x00,                                     // four records
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, // overlay tag
        0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0x00, // index: 2^53 - 2
        0x00, 0x40, 0x1e, 0x18, 0x24, 0x0a, 0x06, 0x00, // created: 1.7e15 us
        1, 9, 2, 3, 0, 0, 0, 0,                         // SOURCE number 9
        0x05, 0, 0, 0, 0, 0, 0, 0,                      // base sequence 5
        0xe8, 0x03, 0, 0, 0, 0, 0, 0,                   // base timestamp 1000
        0x74, 0x68, 0x61, 0x2f, 0x62,                   // "th", "a/b"
        2, 9, 0, 0, 3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, // DATUM of 3 bytes, one us before
        0x78, 0x79, 0x7a,                               // "xyz"
        2, 9, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, // DATUM without payload
        3, 9, 1, 0, 2, 0, 0, 0, 0x02, 0, 0, 0,          // SLICE, first, 2 bytes, two us after
        0, 0, 0, 0, 0, 0, 0, 0x01,                      // offset 0 of 16 MiB
        0x70, 0x71,                                     // "pq"
      ]);
      const frameBytes = 118;
      kernel.bytes.fill(0xee, A, A + 256);
      kernel.bytes.set([0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7], B);
      kernel.writeDataHeader(A, frameBytes, 1, 4, B, 2 ** 53 - 2, 1_700_000_000_000_000);
      kernel.bytes.set(golden.subarray(40, 69), A + 40);
      kernel.bytes.set(text.encode("xyz"), B + 8);
      kernel.view.setUint32(B + 16, 3, true);
      kernel.view.setUint32(B + 20, 0, true);
      expect(kernel.mergeData(A + 69, A + 96, B + 8, B + 16, 2, 9, -1)).toBe(2);
      kernel.bytes.set(text.encode("pq"), B + 32);
      expect(kernel.writeSlice(A + 96, B + 32, 2, 9, 1, 2, 0, 16 * 1024 * 1024)).toBe(A + 118);
      expect(hex(kernel.bytes.slice(A, A + frameBytes))).toBe(hex(golden));
      expect(kernel.bytes[A + frameBytes]).toBe(0xee);
    });

    test("bytes are copied, also across themselves", () => {
      const bytes = Uint8Array.from({ length: 700 }, (_, i) => (i * 31) & 255);
      for (const [from, to] of [
        [0, 1000],
        [9, 2],
        [2, 9],
        [5, 5],
      ] as const) {
        kernel.bytes.fill(0xee, A, A + 2048);
        kernel.bytes.set(bytes, A + from);
        kernel.copyBytes(A + to, A + from, 700);
        expect(hex(kernel.bytes.slice(A + to, A + to + 700))).toBe(hex(bytes));
        expect(kernel.bytes[A + to + 700]).toBe(to === 2 ? bytes[693] : 0xee);
      }
      kernel.copyBytes(A, A + 1, 0);
    });

    test("a record is written from a payload that lies across it", () => {
      const payload = Uint8Array.from({ length: 900 }, (_, i) => (i * 31) & 255);
      for (const bytes of [0, 1, 7, 40, 900]) {
        for (let below = 0; below < 12; below++) {
          kernel.bytes.fill(0xee, A, A + 1024);
          kernel.bytes.set(payload.subarray(0, bytes), A + 20 - below);
          expect(kernel.writeSlice(A, A + 20 - below, bytes, 9, 2, -5, 77, 7000)).toBe(
            A + 20 + bytes,
          );
          expect(hex(kernel.bytes.slice(A + 20, A + 20 + bytes))).toBe(
            hex(payload.subarray(0, bytes)),
          );
          expect(kernel.view.getUint32(A, true)).toBe(3 | (9 << 8) | (2 << 16));
          expect(kernel.view.getUint32(A + 4, true)).toBe(bytes);
          expect(kernel.view.getInt32(A + 8, true)).toBe(-5);
          expect(kernel.view.getUint32(A + 12, true)).toBe(77);
          expect(kernel.view.getUint32(A + 16, true)).toBe(7000);

          kernel.bytes.set(payload.subarray(0, bytes), A + 12 - below);
          expect(kernel.writeDatum(A, A + 12 - below, bytes, 8, 6)).toBe(A + 12 + bytes);
          expect(hex(kernel.bytes.slice(A + 12, A + 12 + bytes))).toBe(
            hex(payload.subarray(0, bytes)),
          );
          expect(kernel.view.getUint32(A, true)).toBe(2 | (8 << 8));
          expect(kernel.view.getUint32(A + 4, true)).toBe(bytes);
          expect(kernel.view.getInt32(A + 8, true)).toBe(6);
          expect([...kernel.bytes.subarray(A + 20 + bytes, A + 30 + bytes)]).toEqual(
            new Array(10).fill(0xee),
          );
        }
      }
    });

    test("data are merged until the next does not fit", () => {
      const lengths = [0, 1, 3, 7, 8, 15, 16, 17, 100, 511, 512, 600, 5];
      const total = lengths.reduce((sum, length) => sum + length, 0);
      const payloads = Uint8Array.from({ length: total }, (_, i) => (i * 31) & 255);
      kernel.bytes.set(payloads, B + 1);
      for (const [i, length] of lengths.entries()) kernel.view.setUint32(C + 4 * i, length, true);
      let fits = 0;
      for (let merged = 0; merged <= lengths.length; merged++) {
        kernel.bytes.fill(0xee, A, A + 4096);
        const write = A + 7;
        expect(kernel.mergeData(write, write + fits, B + 1, C, lengths.length, 200, 1)).toBe(
          merged,
        );
        if (fits > 0) {
          expect(
            kernel.mergeData(write, write + fits - 1, B + 1, C, lengths.length, 200, 1),
          ).toBeLessThan(merged);
        }
        let at = write;
        let payload = 0;
        for (const length of lengths.slice(0, merged)) {
          expect([...kernel.bytes.subarray(at, at + 4)]).toEqual([2, 200, 0, 0]);
          expect(kernel.view.getUint32(at + 4, true)).toBe(length);
          expect(kernel.view.getInt32(at + 8, true)).toBe(1);
          expect(hex(kernel.bytes.slice(at + 12, at + 12 + length))).toBe(
            hex(payloads.slice(payload, payload + length)),
          );
          at += 12 + length;
          payload += length;
        }
        expect(kernel.bytes[at]).toBe(0xee);
        expect(kernel.bytes[A + 6]).toBe(0xee);
        fits += 12 + (lengths[merged] ?? 0);
      }
      expect(kernel.mergeData(A, A + 5, B, C, 1, 0, 0)).toBe(0);
    });

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

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
