import fc from "fast-check";
import { Packr } from "msgpackr";
import { describe, expect, it } from "vitest";
import { MSGPACK_DEPTH_MAX, MSGPACK_ELEMENTS_MAX } from "../../src/base/limits.ts";
import { unpack } from "../../src/protocol/codec.ts";
import { prescan } from "../../src/protocol/prescan.ts";
import { readMsgpack } from "../support/msgpack-reader.ts";

const hex = (text: string): Uint8Array =>
  Uint8Array.from(Buffer.from(text.replace(/ /g, ""), "hex"));
const scan = (bytes: Uint8Array): string | undefined => prescan(bytes, 0, bytes.length);
const RUNS = 10_000;

/** Arrays of what messages hold, nested within the limit. */
const leaf = fc.oneof(
  fc.nat(),
  fc.boolean(),
  fc.constant(null),
  fc.string({ unit: "grapheme", maxLength: 40 }),
  fc.uint8Array({ maxLength: 300 }),
);
const { tree } = fc.letrec((tie) => ({
  tree: fc.array(fc.oneof({ maxDepth: 6 }, leaf, tie("tree")), { maxLength: 8 }),
}));
const packr = new Packr({ useRecords: false });

describe("prescan accepts", () => {
  it("what any encoder makes of positional arrays, and the reader agrees", () => {
    fc.assert(
      fc.property(tree, (value) => {
        const bytes = Uint8Array.from(packr.pack(value));
        expect(scan(bytes)).toBeUndefined();
        const mine = unpack(bytes, 0, bytes.length);
        expect(JSON.stringify(mine)).toBe(JSON.stringify(packr.unpack(bytes)));
      }),
      { numRuns: 1_000 },
    );
  });

  it("the range of a larger memory and nothing around it", () => {
    const memory = hex("ff ff 92 01 02 ff");
    expect(prescan(memory, 2, 5)).toBeUndefined();
    expect(prescan(memory, 2, 6)).toBe("bytes after the end");
    expect(prescan(memory, 2, 4)).toBe("more elements than bytes");
    expect(prescan(memory, 3, 9)).toBe("no bytes");
  });

  it("the deepest and the largest it may", () => {
    const deep = new Uint8Array(MSGPACK_DEPTH_MAX).fill(0x91);
    deep[MSGPACK_DEPTH_MAX - 1] = 0x90;
    expect(scan(deep)).toBeUndefined();
    const wide = new Uint8Array(3 + MSGPACK_ELEMENTS_MAX);
    wide.set([0xdc, MSGPACK_ELEMENTS_MAX >> 8, MSGPACK_ELEMENTS_MAX & 0xff]);
    expect(scan(wide)).toBeUndefined();
    expect(scan(hex("91 cf 001fffffffffffff"))).toBeUndefined();
    expect(scan(hex("91 d3 001fffffffffffff"))).toBeUndefined();
  });
});

describe("prescan refuses", () => {
  const refused: [string, string, string][] = [
    ["nothing", "", "no bytes"],
    ["a bare value", "01", "not an array"],
    ["one level too many", `${"91".repeat(MSGPACK_DEPTH_MAX)}90`, "nested too deep"],
    ["a claim of 2^32 - 1 elements", "dd ffffffff", "more elements than bytes"],
    ["a claim of 65,535 elements", "dc ffff 00", "more elements than bytes"],
    ["text beyond the end", "91 db ffffffff 61", "a length beyond the end"],
    ["bytes beyond the end", "91 c6 ffffffff 61", "a length beyond the end"],
    ["a cut number", "91 cd 01", "a length beyond the end"],
    ["a cut 64-bit number", "91 cf 0000", "truncated"],
    ["a cut length", "91 da 00", "truncated"],
    ["bytes after the end", "90 00", "bytes after the end"],
    ["a fixmap", "91 81 a1 61 01", "a map"],
    ["a map16", "91 de 0001 a1 61 01", "a map"],
    ["a map32", "91 df 00000001 a1 61 01", "a map"],
    ["a record definition (0xd4 0x72)", "91 d4 72 40 91 a1 61 01", "an extension or reserved type"],
    ["an id extension (0xd6 0x69)", "91 d6 69 00000001", "an extension or reserved type"],
    ["a pointer extension (0xd6 0x70)", "91 d6 70 00000001", "an extension or reserved type"],
    ["a timestamp", "91 d6 ff 00000001", "an extension or reserved type"],
    ["ext8", "91 c7 01 05 00", "an extension or reserved type"],
    ["the reserved 0xc1", "91 c1", "an extension or reserved type"],
    ["a float32", "91 ca 3f800000", "a float"],
    ["a float64", "91 cb 3ff0000000000000", "a float"],
    ["2^53", "91 cf 0020000000000000", "a number beyond 2^53 - 1"],
    [
      "a negative 64-bit number",
      "91 d3 ffffffffffffffff",
      "a number beyond 2^53 - 1 or below zero",
    ],
    ["an overlong slash", "91 a2 c0af", "text that is not UTF-8"],
    ["a surrogate", "91 a3 eda080", "text that is not UTF-8"],
    ["a cut character", "91 a1 c3", "text that is not UTF-8"],
    ["beyond U+10FFFF", "91 a4 f4908080", "text that is not UTF-8"],
  ];
  it.each(refused)("%s", (_, bytes, reason) => {
    expect(scan(hex(bytes))).toBe(reason);
  });

  it("one element too many", () => {
    const wide = new Uint8Array(4 + MSGPACK_ELEMENTS_MAX);
    wide.set([0xdc, (MSGPACK_ELEMENTS_MAX + 1) >> 8, (MSGPACK_ELEMENTS_MAX + 1) & 0xff]);
    expect(scan(wide)).toBe("too many elements");
  });
});

describe("prescan bounds", () => {
  it("the work and memory of 64 KiB bombs", () => {
    const size = 65_536;
    const bombs = [
      new Uint8Array(size).fill(0x91),
      new Uint8Array(size).fill(0x9f),
      new Uint8Array(size).fill(0xdd),
      new Uint8Array(size).fill(0xdf),
      new Uint8Array(size).fill(0xdb),
    ];
    // Nested array16 headers that each claim as many elements as bytes are left.
    const nested = new Uint8Array(size);
    for (let i = 0; i + 3 <= size; i += 3) nested.set([0xdc, 0x10, 0x00], i);
    bombs.push(nested);
    const heapBefore = process.memoryUsage().heapUsed;
    const from = performance.now();
    for (let round = 0; round < 100; round++) {
      for (const bomb of bombs) expect(() => unpack(bomb, 0, bomb.length)).toThrow(/MALFORMED/);
    }
    const elapsedMs = (performance.now() - from) / (100 * bombs.length);
    expect(elapsedMs).toBeLessThan(2);
    expect(process.memoryUsage().heapUsed - heapBefore).toBeLessThan(64 * 1024 * 1024);
  });

  it("what random bytes can do: every accepted input decodes, and as the reader reads it", () => {
    const mutated = fc
      .tuple(tree, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }), fc.nat(400))
      .map(([value, changes, keep]) => {
        const bytes = Uint8Array.from(packr.pack(value));
        for (const [at, byte] of changes) if (bytes.length > 0) bytes[at % bytes.length] = byte;
        return bytes.slice(0, Math.max(1, keep));
      });
    let accepted = 0;
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 64 }), mutated), (bytes) => {
        if (scan(bytes) !== undefined) return;
        accepted++;
        const mine = unpack(bytes, 0, bytes.length);
        const theirs = readMsgpack(bytes);
        expect(plain(mine)).toEqual(plain(theirs));
      }),
      { numRuns: RUNS },
    );
    expect(accepted).toBeGreaterThan(RUNS / 100);
    expect(Object.keys(Object.prototype)).toEqual([]);
  });
});

/** Byte strings as hex, so that Buffer and Uint8Array compare by content. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  return Array.isArray(value) ? value.map(plain) : value;
}
