/** What every kernel must do; run on each of them by a test file of its own. */

import { describe, expect, test } from "vitest";
import { seededRng } from "../../src/base/rng.ts";
import type { Kernel } from "../../src/kernel/kernel.ts";
import { bitsContract } from "./bits-contract.ts";
import { pickerContract } from "./picker-contract.ts";
import { A, B, C } from "./places.ts";
import { splitContract } from "./split-contract.ts";

const text = new TextEncoder();

export function kernelContract(name: string, create: () => Kernel): void {
  pickerContract(name, create);
  splitContract(name, create);
  bitsContract(name, create);

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
  });
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
