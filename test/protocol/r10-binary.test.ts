import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Mp2pError } from "../../src/base/errors.ts";
import { FRAME_TYPES, GET_FLAG_PATIENT } from "../../src/base/layout.ts";
import { INDEX_MAX, RANGES_PER_FRAME_MAX } from "../../src/base/limits.ts";
import { decodeFrame, NOTIFY } from "../../src/protocol/r10.ts";
import * as binary from "../../src/protocol/r10-binary.ts";
import { fill } from "./samples.ts";

const tag = fill(0x7a, 8);
const into = new Float64Array(2 * RANGES_PER_FRAME_MAX);

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof Mp2pError) return error.code;
    throw error;
  }
  return "nothing thrown";
}

/** The frame somewhere inside a larger memory. */
function within(frame: Uint8Array): [Uint8Array, number, number] {
  const memory = fill(0xee, frame.length + 31);
  memory.set(frame, 13);
  return [memory, 13, frame.length];
}
function patched(frame: Uint8Array, at: number, ...values: number[]): Uint8Array {
  const copy = Uint8Array.from(frame);
  copy.set(values, at);
  return copy;
}

describe("frame header", () => {
  const ping = binary.encodePing(FRAME_TYPES.PING, fill(1, 8));
  it("gives the type of a sound frame, also of an unknown type", () => {
    expect(binary.readFrameHeader(...within(ping))).toBe(FRAME_TYPES.PING);
    expect(binary.readFrameHeader(...within(patched(ping, 6, 0x1f)))).toBe(0x1f);
  });
  it.each([
    ["magic", patched(ping, 4, 0xb7), "FRAME_MALFORMED"],
    ["version 0", patched(ping, 5, 0), "VERSION_UNSUPPORTED"],
    ["a later version", patched(ping, 5, 2), "VERSION_UNSUPPORTED"],
    ["reserved flags", patched(ping, 7, 1), "FRAME_MALFORMED"],
    ["length", patched(ping, 0, 17), "FRAME_MALFORMED"],
    ["a huge length", patched(ping, 0, 255, 255, 255, 255), "FRAME_MALFORMED"],
    ["too short", ping.slice(0, 7), "FRAME_MALFORMED"],
  ])("refuses wrong %s", (_, frame, code) => {
    expect(codeOf(() => binary.readFrameHeader(...within(frame)))).toBe(code);
  });
  it("refuses a range outside memory", () => {
    expect(codeOf(() => binary.readFrameHeader(ping, 8, 16))).toBe("FRAME_MALFORMED");
    expect(codeOf(() => binary.readFrameHeader(ping, -1, 16))).toBe("FRAME_MALFORMED");
  });
});

describe("ranges", () => {
  /** Ascending, disjoint, not touching pairs. */
  const pairs = fc
    .array(fc.tuple(fc.integer({ min: 1, max: 1e12 }), fc.integer({ min: 1, max: 0xffff_ffff })), {
      minLength: 1,
      maxLength: 200,
    })
    .map((steps) => {
      let at = -1;
      return steps.flatMap(([gap, count]) => {
        const first = at + gap;
        at = first + count;
        return [first, count];
      });
    });

  it("round trip anywhere in memory", () => {
    fc.assert(
      fc.property(pairs, fc.nat(), (values, start) => {
        const frame = binary.encodeRanges(FRAME_TYPES.HAVE, tag, start, values);
        const [memory, offset, bytes] = within(frame);
        const count = binary.readRanges(memory, offset, bytes, into);
        expect([...into.subarray(0, 2 * count)]).toEqual(values);
        expect(binary.readHaveStart(memory, offset)).toBe(start);
        expect(binary.tagEquals(memory, offset + 8, tag)).toBe(true);
        expect(binary.tagEquals(memory, offset + 8, fill(0x7b, 8))).toBe(false);
      }),
    );
  });

  it("the last index there is", () => {
    const frame = binary.encodeRanges(FRAME_TYPES.GET, tag, 0, [INDEX_MAX, 1]);
    expect(binary.readRanges(...within(frame), into)).toBe(1);
    expect([into[0], into[1]]).toEqual([INDEX_MAX, 1]);
  });

  const get = binary.encodeRanges(FRAME_TYPES.GET, tag, 0, [4, 2, 10, 1]);
  const have = binary.encodeRanges(FRAME_TYPES.HAVE, tag, 4, [4, 2]);
  const gone = binary.encodeRanges(FRAME_TYPES.GONE, tag, 0, [4, 2]);

  it("GET says whether its asker is patient", () => {
    const patient = binary.encodeRanges(FRAME_TYPES.GET, tag, 0, [4, 2], 1, GET_FLAG_PATIENT);
    expect(patient).toEqual(patched(binary.encodeRanges(FRAME_TYPES.GET, tag, 0, [4, 2]), 28, 1));
    expect(binary.readRanges(...within(patient), into)).toBe(1);
    const [memory, offset] = within(patient);
    expect(binary.readRangesFlags(memory, offset)).toBe(GET_FLAG_PATIENT);
  });

  it.each([
    ["a count of 0", patched(get, 40, 0)],
    ["touching ranges", patched(get, 44, 6)],
    ["overlapping ranges", patched(get, 44, 5)],
    ["descending ranges", patched(get, 44, 1)],
    ["an index beyond 2^53", patched(get, 44 + 6, 0x20)],
    ["an index of 2^53 - 1", patched(get, 44, 255, 255, 255, 255, 255, 255, 0x1f, 0)],
    ["a last index beyond 2^53 - 2", patched(get, 44, 0xfe, 255, 255, 255, 255, 255, 0x1f, 0, 2)],
    ["fewer ranges than said", patched(get, 24, 3)],
    ["more ranges than said", patched(get, 24, 1)],
    ["an absurd number of ranges", patched(get, 24, 255, 255, 255, 255)],
    ["no range at all in GET", patched(get.slice(0, 32), 24, 0)],
    ["a start in GET", patched(get, 16, 1)],
    ["a reserved flag", patched(get, 28, 2)],
    ["a flag of HAVE and one of none", patched(have, 28, 3)],
    ["a flag where there is none", patched(gone, 28, 1)],
    ["a start beyond 2^53", patched(have, 23, 1)],
    ["a cut frame", get.slice(0, 31)],
  ])("refuses %s", (_, frame) => {
    expect(codeOf(() => binary.readRanges(...within(frame), into))).toBe("FRAME_MALFORMED");
  });

  it("readers survive any bytes", () => {
    const header = { start: 0, run: 0, bitsOffset: 0, bitsBytes: 0 };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.boolean(), (frame, small) => {
        if (small && frame.length > 32) frame.fill(0, 25, 32);
        for (const read of [
          () => binary.readRanges(...within(frame), into),
          () => binary.readCredit(...within(frame)),
          () => binary.readPing(...within(frame)),
          () => binary.readBuffermap(...within(frame), header),
          () => binary.readSeal(...within(frame)),
          () => binary.readFrameHeader(...within(frame)),
          () => decodeFrame(NOTIFY, ...within(frame)),
        ]) {
          expect(codeOf(read)).toMatch(/nothing|MALFORMED|UNSUPPORTED/);
        }
      }),
      { numRuns: 5_000 },
    );
  });
});

describe("CREDIT, PING, BUFFERMAP, SEAL", () => {
  it("CREDIT round trip and bounds", () => {
    const frame = binary.encodeCredit(tag, INDEX_MAX + 1);
    expect(binary.readCredit(...within(frame))).toBe(INDEX_MAX + 1);
    expect(codeOf(() => binary.readCredit(...within(patched(frame, 23, 1))))).toBe(
      "FRAME_MALFORMED",
    );
    expect(codeOf(() => binary.readCredit(...within(frame.slice(0, 23))))).toBe("FRAME_MALFORMED");
  });

  it("PING gives a copy of its token", () => {
    const [memory, offset, bytes] = within(binary.encodePing(FRAME_TYPES.PONG, fill(3, 8)));
    const token = binary.readPing(memory, offset, bytes);
    memory.fill(0);
    expect(token).toEqual(fill(3, 8));
    expect(codeOf(() => binary.readPing(memory, offset, bytes + 1))).toBe("FRAME_MALFORMED");
  });

  const map = binary.encodeBuffermap(tag, 100, 5, Uint8Array.of(0x81, 0x01));
  it("BUFFERMAP: where its parts are", () => {
    const header = { start: 0, run: 0, bitsOffset: 0, bitsBytes: 0 };
    binary.readBuffermap(...within(map), header);
    expect(header).toEqual({ start: 100, run: 5, bitsOffset: 13 + 32, bitsBytes: 2 });
  });
  it.each([
    ["a last byte of zero", patched(map, 33, 0)],
    ["a wrong length", patched(map, 28, 1)],
    ["more bits than a window", patched(map, 28, 0, 0, 1)],
    ["indices beyond 2^53", patched(map, 16, 0xfe, 255, 255, 255, 255, 255, 0x1f, 0)],
    ["a cut frame", map.slice(0, 20)],
  ])("refuses BUFFERMAP with %s", (_, frame) => {
    const header = { start: 0, run: 0, bitsOffset: 0, bitsBytes: 0 };
    expect(codeOf(() => binary.readBuffermap(...within(frame), header))).toBe("FRAME_MALFORMED");
  });

  const seal = binary.encodeSeal(tag, {
    firstIndex: 3,
    leaves: fill(1, 64),
    signature: fill(2, 64),
  });
  it("SEAL round trip", () => {
    expect(binary.readSeal(...within(seal))).toEqual({
      firstIndex: 3,
      leaves: fill(1, 64),
      signature: fill(2, 64),
    });
  });
  it.each([
    ["count 0", patched(seal, 24, 0)],
    ["count 65", patched(seal, 24, 65)],
    ["another leaf size", patched(seal, 26, 31)],
    ["a signature of 63 bytes", patched(seal, 27, 63)],
    ["reserved bytes", patched(seal, 31, 1)],
    ["a wrong length", seal.slice(0, -1)],
    ["an absurd index", patched(seal, 22, 0x20)],
    ["a cut frame", seal.slice(0, 30)],
  ])("refuses SEAL with %s", (_, frame) => {
    expect(codeOf(() => binary.readSeal(...within(frame)))).toBe("FRAME_MALFORMED");
  });
});
