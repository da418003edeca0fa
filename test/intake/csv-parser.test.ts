import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DATUM_BYTES_MAX } from "../../src/base/limits.ts";
import { loadCsvParse } from "../../src/intake/csv-parser.ts";
import { parseData } from "../../src/intake/formats.ts";
import { bytesOf, cut, cuttings, parseAll } from "./cutting.ts";

async function objects(text: string, sizes: readonly number[] = []): Promise<unknown[]> {
  const data = await parseAll("csv", cut(bytesOf(text), sizes));
  return data.map((datum) => JSON.parse(new TextDecoder().decode(datum)));
}

const quoted = (value: string): string => `"${value.replaceAll('"', '""')}"`;

describe("csv", () => {
  it("makes each record one line of JSON with the names of the header", async () => {
    const data = await parseAll("csv", [bytesOf('time,value\n1,"a, ""b"""\r\n\n2,\n3,last')]);
    expect(data.map((datum) => new TextDecoder().decode(datum))).toEqual([
      '{"time":"1","value":"a, \\"b\\""}\n',
      '{"time":"2","value":""}\n',
      '{"time":"3","value":"last"}\n',
    ]);
  });

  it("gives the same records however the input is cut", async () => {
    const value = fc.string({ unit: "grapheme", maxLength: 12 });
    const rows = fc.array(fc.tuple(value, value), { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(
        rows,
        cuttings,
        fc.constantFrom("\n", "\r\n"),
        async (records, sizes, eol) => {
          const lines = ["naïve,b", ...records.map((record) => record.map(quoted).join(","))];
          expect(await objects(lines.join(eol) + eol, sizes)).toEqual(
            records.map(([first, second]) => ({ naïve: first, b: second })),
          );
        },
      ),
      { numRuns: 150 },
    );
  });

  it("keeps a column called __proto__, drops a byte order mark", async () => {
    const data = await parseAll("csv", [bytesOf("\ufeff__proto__,b\n1,2\n")]);
    expect(new TextDecoder().decode(data[0])).toBe('{"__proto__":"1","b":"2"}\n');
  });

  it("takes many records in one block", async () => {
    expect((await objects(`n\n${"7\n".repeat(20_000)}`)).length).toBe(20_000);
  });

  it("hands the records of a block out before the next block is read", async () => {
    let readCount = 0;
    async function* feed() {
      yield bytesOf("a,b\n");
      for (; readCount < 3; readCount++) yield bytesOf('1,"2"\n');
    }
    const data = parseData("csv", feed());
    for (let i = 0; i < 3; i++) {
      expect((await data.next()).value?.count).toBe(1);
      expect(readCount).toBe(i);
    }
    await data.return(undefined);
  });

  it.each([
    ["a record with too many values", "a,b\n1,2\n1,2,3\n", "record 3"],
    ["a record with too few values", 'a,b\n1,"\n"\n1\n', "record 3"],
    ["a quote that never closes", 'a,b\n1,"2\n', "record 2"],
    ["a quote within a value", 'a,b\n1,2\n1,x"2"\n', "record 3"],
    ["a column that stands twice", "a,a\n1,2\n", "column a stands twice"],
  ])("refuses %s, however cut", async (_name, text, detail) => {
    for (const sizes of [[], [1], [7], [3, 5]]) {
      await expect(objects(text, sizes)).rejects.toMatchObject({
        code: "INPUT_MALFORMED",
        detail: expect.stringContaining(detail),
      });
    }
  });

  it("hands out what stood before a fault", async () => {
    async function* feed() {
      yield bytesOf("a,b\n1,2\n3,4,5\n");
    }
    const data = parseData("csv", feed());
    expect((await data.next()).value?.count).toBe(1);
    await expect(data.next()).rejects.toMatchObject({ code: "INPUT_MALFORMED" });
  });

  it("refuses a record above 16 MiB, read or written", async () => {
    const read = bytesOf(`a\n"${"x".repeat(DATUM_BYTES_MAX + 1)}"\n`);
    await expect(parseAll("csv", cut(read, [1 << 20]))).rejects.toMatchObject({
      code: "DATUM_TOO_LARGE",
    });
    const written = bytesOf(`a\n${"\u0001".repeat(DATUM_BYTES_MAX / 4)}\n`);
    await expect(parseAll("csv", [written])).rejects.toMatchObject({ code: "DATUM_TOO_LARGE" });
  });

  it("names the package when it is not installed", async () => {
    const missing = loadCsvParse(() => Promise.reject(new Error("Cannot find package")));
    await expect(missing).rejects.toMatchObject({
      code: "MODULE_MISSING",
      detail: "format csv needs csv-parse",
    });
  });
});
