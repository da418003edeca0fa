/** Hex and byte comparison. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesEqual, fromHex, toHex } from "../../src/base/units.ts";

describe("hex", () => {
  test("goes both ways", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const text = toHex(bytes);
        expect(text).toBe(Buffer.from(bytes).toString("hex"));
        expect(fromHex(text)).toEqual(bytes);
      }),
    );
  });

  test.each(["0", "abc", "0g", "AB", "0x12", " 12", "12 "])("%j is no hex", (text) => {
    expect(fromHex(text)).toBeUndefined();
  });
});

describe("bytesEqual", () => {
  test("is equality of content", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 9 }), fc.uint8Array({ maxLength: 9 }), (a, b) => {
        expect(bytesEqual(a, b)).toBe(Buffer.compare(a, b) === 0);
        expect(bytesEqual(a, a.slice())).toBe(true);
      }),
    );
    expect(bytesEqual(new Uint8Array([1, 2]), new Uint8Array([1, 2, 0]))).toBe(false);
  });
});
