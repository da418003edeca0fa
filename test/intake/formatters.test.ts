import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  Formatter,
  type OutputDatum,
  type OutputLine,
  outputFormat,
} from "../../src/intake/formatters.ts";
import { bytesOf, cut, cuttings, join, parseAll } from "./cutting.ts";

const datum = (payload: Uint8Array, sequence = 1): OutputDatum => ({
  sourceId: "sensor/ü",
  sequence,
  timestampUs: 1_700_000_000_000_001,
  contentType: "text/plain",
  payload,
});

/** Everything that comes out, taken after every `takeEvery` data. */
function format(name: string, payloads: readonly Uint8Array[], takeEvery = 3): Uint8Array {
  const formatter = new Formatter(outputFormat(name));
  const blocks: Uint8Array[] = [];
  for (const [i, payload] of payloads.entries()) {
    const lent = payload.slice();
    formatter.add(datum(lent, i + 1));
    lent.fill(0xee);
    if (i % takeEvery === 0) blocks.push(formatter.take() ?? new Uint8Array(0));
  }
  blocks.push(formatter.take() ?? new Uint8Array(0));
  return join(blocks);
}

const payloadLists = fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 20 });

describe("Formatter", () => {
  it("payload gives the bytes back to back", () => {
    fc.assert(
      fc.property(payloadLists, (payloads) => {
        expect(format("payload", payloads)).toEqual(join(payloads));
      }),
    );
  });

  it("framed and the framed parser are inverse, however cut", async () => {
    await fc.assert(
      fc.asyncProperty(payloadLists, cuttings, async (payloads, sizes) => {
        expect(await parseAll("framed", cut(format("framed", payloads), sizes))).toEqual(payloads);
      }),
      { numRuns: 300 },
    );
  });

  it("framed has its golden bytes: u32 little-endian, then the bytes", () => {
    expect(format("framed", [Uint8Array.of(7), new Uint8Array(0), new Uint8Array(258)])).toEqual(
      join([Uint8Array.of(1, 0, 0, 0, 7, 0, 0, 0, 0, 2, 1, 0, 0), new Uint8Array(258)]),
    );
  });

  it("ndjson carries any payload: text as text, other bytes as base64", () => {
    const payload = fc.oneof(fc.uint8Array({ maxLength: 60 }), fc.string().map(bytesOf));
    fc.assert(
      fc.property(fc.array(payload, { maxLength: 10 }), (payloads) => {
        const lines = new TextDecoder().decode(format("ndjson", payloads)).split("\n");
        expect(lines.pop()).toBe("");
        expect(lines.length).toBe(payloads.length);
        for (const [i, text] of lines.entries()) {
          const line = JSON.parse(text) as OutputLine;
          const encoding = line.encoding === "base64" ? "base64" : "utf8";
          expect(new Uint8Array(Buffer.from(line.payload, encoding))).toEqual(payloads[i]);
          expect(line).toMatchObject({ sequence: i + 1, sourceId: "sensor/ü" });
        }
      }),
    );
  });

  it("ndjson writes text readably and flags what is not UTF-8", () => {
    expect(new TextDecoder().decode(format("ndjson", [bytesOf("ü\n"), Uint8Array.of(0xff)]))).toBe(
      '{"sourceId":"sensor/ü","sequence":1,"timestampUs":1700000000000001,' +
        '"contentType":"text/plain","payload":"ü\\n","encoding":"utf8"}\n' +
        '{"sourceId":"sensor/ü","sequence":2,"timestampUs":1700000000000001,' +
        '"contentType":"text/plain","payload":"/w==","encoding":"base64"}\n',
    );
  });

  it("says how much is pending, takes nothing from nothing, and hands blocks over for good", () => {
    const formatter = new Formatter("payload");
    expect(formatter.take()).toBeUndefined();
    formatter.add(datum(bytesOf("first")));
    expect(formatter.pendingBytes).toBe(5);
    const first = formatter.take();
    formatter.add(datum(new Uint8Array(1_000_000).fill(1)));
    expect(formatter.pendingBytes).toBe(1_000_000);
    expect(first).toEqual(bytesOf("first"));
    expect(formatter.take()?.length).toBe(1_000_000);
  });

  it("refuses an unknown format", () => {
    expect(() => outputFormat("xml")).toThrow(expect.objectContaining({ code: "USAGE" }));
  });
});
