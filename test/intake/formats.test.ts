import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DATUM_BYTES_MAX } from "../../src/base/limits.ts";
import { batchPayloads } from "../../src/intake/data-batch.ts";
import { contentTypeOf, DATA_FORMATS, dataFormat, parseData } from "../../src/intake/formats.ts";
import { bytesOf, cut, cuttings, join, parseAll } from "./cutting.ts";

const RUNS = { numRuns: 300 };

/** Bytes rich in newlines, so that lines of every length come up. */
const lineBytes = fc
  .array(
    fc.oneof(
      fc.constantFrom(bytesOf("\n"), bytesOf("\r\n"), bytesOf("\r"), bytesOf("\n\n")),
      fc.uint8Array({ maxLength: 120 }),
      fc.string({ unit: "binary", maxLength: 20 }).map(bytesOf),
    ),
    { maxLength: 20 },
  )
  .map(join);

/** Lines by the definition, without any of the code under test. */
function linesOf(bytes: Uint8Array): Uint8Array[] {
  const text = Buffer.from(bytes).toString("latin1");
  return (text.match(/[^\n]*\n|[^\n]+$/g) ?? []).map((line) =>
    Uint8Array.from(Buffer.from(line, "latin1")),
  );
}

function framed(payloads: readonly Uint8Array[]): Uint8Array {
  return join(
    payloads.flatMap((payload) => {
      const header = Buffer.alloc(4);
      header.writeUInt32LE(payload.length);
      return [header, payload];
    }),
  );
}

describe("every format", () => {
  it.each(DATA_FORMATS)("%s: empty input is no data", async (format) => {
    expect(await parseAll(format, [])).toEqual([]);
    expect(await parseAll(format, [new Uint8Array(0)])).toEqual([]);
  });

  it("knows its name and content type, and no other name", () => {
    expect(DATA_FORMATS.map((name) => contentTypeOf(dataFormat(name)))).toEqual([
      "text/plain",
      "application/json",
      "application/json",
      "application/octet-stream",
      "application/octet-stream",
    ]);
    expect(() => dataFormat("xml")).toThrow(expect.objectContaining({ code: "UNKNOWN_FORMAT" }));
  });

  it("reads a block only when the last batch was taken", async () => {
    let readCount = 0;
    async function* feed() {
      for (; readCount < 10; readCount++) yield bytesOf("a\n");
    }
    const data = parseData("lines", feed());
    await data.next();
    expect(readCount).toBe(0);
    await data.next();
    expect(readCount).toBe(1);
    await data.return(undefined);
  });

  it("hands a fault of the stream on", async () => {
    const fault = new Error("stream broke");
    async function* feed() {
      yield bytesOf("a\n");
      throw fault;
    }
    const data = parseData("lines", feed());
    expect((await data.next()).value?.count).toBe(1);
    await expect(data.next()).rejects.toBe(fault);
  });
});

describe("lines", () => {
  it("gives the same lines however the input is cut", async () => {
    await fc.assert(
      fc.asyncProperty(lineBytes, cuttings, async (bytes, sizes) => {
        const data = await parseAll("lines", cut(bytes, sizes));
        expect(data).toEqual(linesOf(bytes));
        expect(join(data)).toEqual(bytes);
      }),
      RUNS,
    );
  });

  it("keeps terminators, CR and empty lines, and a last line without terminator", async () => {
    const data = await parseAll("lines", [bytesOf("a\r\n\n\nü€😀\nlast")]);
    expect(data).toEqual(["a\r\n", "\n", "\n", "ü€😀\n", "last"].map(bytesOf));
  });

  it("takes more lines in one block than a batch holds", async () => {
    const data = await parseAll("lines", [bytesOf("x\n".repeat(20_001))]);
    expect(data.length).toBe(20_001);
  });

  it("takes a line of exactly 16 MiB, in one block and in many", async () => {
    const line = new Uint8Array(DATUM_BYTES_MAX).fill(0x61);
    line[DATUM_BYTES_MAX - 1] = 0x0a;
    const input = join([bytesOf("before\n"), line, bytesOf("after\n")]);
    for (const sizes of [[], [1 << 18]]) {
      const data = await parseAll("lines", cut(input, sizes));
      expect(data.map((datum) => datum.length)).toEqual([7, DATUM_BYTES_MAX, 6]);
    }
  });

  it.each([
    ["with a terminator, one block", true, []],
    ["without terminator, one block", false, []],
    ["without terminator, many blocks", false, [1 << 20]],
  ])("refuses a longer line by its number: %s", async (_name, terminated, sizes) => {
    const input = new Uint8Array(DATUM_BYTES_MAX + 5).fill(0x61);
    input.set(bytesOf("1\n2\n"), 0);
    const bytes = terminated ? join([input, bytesOf("\n")]) : input;
    await expect(parseAll("lines", cut(bytes, sizes))).rejects.toMatchObject({
      code: "DATUM_TOO_LARGE",
      detail: "line 3",
    });
  });
});

describe("ndjson", () => {
  const jsonLines = fc
    .array(
      fc.oneof(
        fc.json().map((text) => `${text}\n`),
        fc.constantFrom("\n", " \r\n", "\t\n"),
      ),
      { maxLength: 12 },
    )
    .map((lines) => bytesOf(lines.join("")));

  it("gives the lines unchanged however the input is cut", async () => {
    await fc.assert(
      fc.asyncProperty(jsonLines, cuttings, async (bytes, sizes) => {
        expect(await parseAll("ndjson", cut(bytes, sizes))).toEqual(linesOf(bytes));
      }),
      RUNS,
    );
  });

  it("takes a byte order mark before the first line", async () => {
    const input = bytesOf("\ufeff{}\n");
    expect(await parseAll("ndjson", [input])).toEqual([input]);
  });

  it.each([
    ["no JSON", bytesOf('{"a":1}\n\n{"a":\n'), "line 3: "],
    ["two texts in a line", bytesOf("1 2\n"), "line 1: "],
    [
      "no UTF-8",
      join([bytesOf("1\n"), Uint8Array.of(0x22, 0xff, 0x22, 0x0a)]),
      "line 2: not UTF-8",
    ],
    ["cut off at the end", bytesOf('1\n2\n{"a"'), "line 3: "],
  ])(
    "refuses %s by line number, however cut, once what was before is taken",
    async (_name, input, detail) => {
      for (const sizes of [[], [1], [3]]) {
        async function* blocks() {
          yield* cut(input, sizes);
        }
        const taken: Uint8Array[] = [];
        const parsing = (async () => {
          for await (const batch of parseData("ndjson", blocks()))
            taken.push(...batchPayloads(batch));
        })();
        await expect(parsing).rejects.toMatchObject({
          code: "INPUT_MALFORMED",
          detail: expect.stringContaining(detail),
        });
        const good = Number(/\d+/.exec(detail)?.[0]) - 1;
        const copies = taken.map((one) => Buffer.from(one).toString("latin1"));
        const lines = Buffer.from(input)
          .toString("latin1")
          .split(/(?<=\n)/);
        expect(copies).toEqual(lines.slice(0, good));
      }
    },
  );
});

describe("raw", () => {
  it("gives data of the size asked for, the last one shorter", async () => {
    const cases = [
      fc.uint8Array({ maxLength: 500 }),
      cuttings,
      fc.integer({ min: 1, max: 70 }),
    ] as const;
    await fc.assert(
      fc.asyncProperty(...cases, async (bytes, sizes, rawBytes) => {
        const data = await parseAll("raw", cut(bytes, sizes), { rawBytes });
        expect(join(data)).toEqual(bytes);
        expect(data.length).toBe(Math.ceil(bytes.length / rawBytes));
        for (const datum of data.slice(0, -1)) expect(datum.length).toBe(rawBytes);
      }),
      RUNS,
    );
  });

  it("takes more data in one block than a batch holds", async () => {
    expect((await parseAll("raw", [new Uint8Array(20_001)], { rawBytes: 1 })).length).toBe(20_001);
  });

  it.each([
    [0, "USAGE"],
    [1.5, "USAGE"],
    [Number.NaN, "USAGE"],
    [DATUM_BYTES_MAX + 1, "DATUM_TOO_LARGE"],
  ])("refuses data of %s bytes", async (rawBytes, code) => {
    await expect(parseAll("raw", [], { rawBytes })).rejects.toMatchObject({ code });
  });
});

describe("framed", () => {
  const payloadLists = fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 20 });

  it("gives the payloads back, empty ones too, however the input is cut", async () => {
    await fc.assert(
      fc.asyncProperty(payloadLists, cuttings, async (payloads, sizes) => {
        expect(await parseAll("framed", cut(framed(payloads), sizes))).toEqual(payloads);
      }),
      RUNS,
    );
  });

  it("takes more empty data in one block than a batch holds", async () => {
    expect((await parseAll("framed", [new Uint8Array(4 * 20_001)])).length).toBe(20_001);
  });

  it("takes data of 0 bytes to 16 MiB side by side", async () => {
    const sizes = [0, 3, DATUM_BYTES_MAX, 1, 300_000, 200_000, 0, 100_000];
    const payloads = sizes.map((size, i) => new Uint8Array(size).fill(i + 1));
    for (const blockBytes of [[], [65_536], [1_000_003]]) {
      const data = await parseAll("framed", cut(framed(payloads), blockBytes));
      expect(data.map((datum) => datum.length)).toEqual(sizes);
      expect(Buffer.compare(join(data), join(payloads))).toBe(0);
    }
  });

  it("says where a truncated input ends, at every byte", async () => {
    const input = framed([bytesOf("one"), bytesOf("three")]);
    const whole = new Set([0, 7, input.length]);
    for (let length = 0; length <= input.length; length++) {
      const parsing = parseAll("framed", [input.slice(0, length)]);
      if (whole.has(length)) await parsing;
      else {
        const detail = `the input ends within datum ${length < 7 ? 1 : 2}`;
        await expect(parsing, `cut at ${length}`).rejects.toMatchObject({
          code: "INPUT_MALFORMED",
          detail: expect.stringContaining(detail),
        });
      }
    }
  });

  it("refuses a length above 16 MiB before it keeps anything", async () => {
    const header = Buffer.alloc(4);
    header.writeUInt32LE(DATUM_BYTES_MAX + 1);
    await expect(parseAll("framed", [header])).rejects.toMatchObject({
      code: "DATUM_TOO_LARGE",
      detail: "datum 1 claims 16777217 bytes",
    });
  });
});
