/**
 * Format `csv` (RFC 4180, by csv-parse): the first record names the columns, each further record
 * becomes one datum: a JSON object of its columns and "\n". Values stay the text they are: whether
 * "007" is a number is not decided here. Empty lines are skipped.
 *
 * What would lose data silently is refused: a column name given twice, a record with more or fewer
 * values than columns, a quote that never closes.
 */

import type { Parser } from "csv-parse";
import { LocalUsageError, OperationError } from "../base/errors.ts";
import { DATUM_BYTES_MAX } from "../base/limits.ts";
import { BATCH_DATA_MAX, type DataBatch } from "./data-batch.ts";

export const CSV_CONTENT_TYPE = "application/json";

const QUOTE = 0x22;
const NEWLINE = 0x0a;
/**
 * The library looks up to three bytes ahead before it ends a record, which would hold the last record
 * of a live stream back until the next one comes. Empty lines, which it skips, push it out. They are
 * sent only where a block ends with a line outside of quotes.
 */
const FLUSH = new Uint8Array(3).fill(NEWLINE);

type CsvModule = Pick<typeof import("csv-parse"), "parse">;

/** Throws MODULE_MISSING naming the package. */
export async function loadCsvParse(
  load: () => Promise<CsvModule> = () => import("csv-parse"),
): Promise<CsvModule> {
  try {
    return await load();
  } catch (cause) {
    throw new OperationError("MODULE_MISSING", { detail: "format csv needs csv-parse", cause });
  }
}

/**
 * The data of a CSV stream, a batch for each block that completes a record. Errors: MODULE_MISSING,
 * INPUT_MALFORMED and DATUM_TOO_LARGE, both naming the record.
 */
export async function* parseCsv(blocks: AsyncIterable<Uint8Array>): AsyncGenerator<DataBatch> {
  const { parse } = await loadCsvParse();
  const parser: Parser = parse({
    bom: true,
    skip_empty_lines: true,
    record_delimiter: ["\r\n", "\n", "\r"],
    max_record_size: DATUM_BYTES_MAX,
  });
  // Errors are read from `parser.errored`; without a listener they would end the process.
  parser.on("error", () => undefined);
  const writer = new RecordWriter();
  let quoted = false;
  try {
    for await (const block of blocks) {
      quoted = quoted !== oddQuotes(block);
      const flush = !quoted && block.at(-1) === NEWLINE;
      // A copy: the library keeps a view of what it could not end yet, and blocks are only lent.
      parser.write(flush ? Buffer.concat([block, FLUSH]) : Buffer.from(block));
      yield* drain(parser, writer);
    }
    const finished = new Promise<void>((resolve) => {
      parser
        .once("readable", resolve)
        .once("end", resolve)
        .once("error", () => resolve());
    });
    parser.end();
    await finished;
    yield* drain(parser, writer);
  } finally {
    parser.destroy();
  }
}

/** Takes every record the parser has; its transform runs within write, so none is left behind. */
function* drain(parser: Parser, writer: RecordWriter): Generator<DataBatch> {
  for (let record = parser.read(); record !== null; record = parser.read()) {
    writer.add(record as string[]);
    if (writer.count === BATCH_DATA_MAX) yield writer.take();
  }
  if (writer.count > 0) yield writer.take();
  if (parser.errored !== null) throw csvError(parser.errored, writer.nextRecord);
}

/** The library's words, with the number of the record (the header is 1) instead of a line. */
function csvError(error: Error, recordNumber: number): LocalUsageError {
  const code = "code" in error ? error.code : undefined;
  const reason = error.message.replace(/ (at|on) line \d+/, "");
  return new LocalUsageError(
    code === "CSV_MAX_RECORD_SIZE" ? "DATUM_TOO_LARGE" : "INPUT_MALFORMED",
    { detail: `record ${recordNumber}: ${reason}`, cause: error },
  );
}

function oddQuotes(block: Uint8Array): boolean {
  let odd = false;
  for (let at = block.indexOf(QUOTE); at >= 0; at = block.indexOf(QUOTE, at + 1)) odd = !odd;
  return odd;
}

/** Turns records into JSON texts, gathered in a batch. */
class RecordWriter {
  readonly #encoder = new TextEncoder();
  #prefixes: string[] | undefined;
  #texts: Uint8Array[] = [];
  #recordCount = 0;

  get count(): number {
    return this.#texts.length;
  }

  get nextRecord(): number {
    return this.#recordCount + 1;
  }

  add(record: readonly string[]): void {
    this.#recordCount++;
    if (this.#prefixes === undefined) {
      this.#prefixes = columnPrefixes(record);
      return;
    }
    let text = "";
    for (const [i, prefix] of this.#prefixes.entries()) text += prefix + JSON.stringify(record[i]);
    const bytes = this.#encoder.encode(`${text}}\n`);
    if (bytes.length > DATUM_BYTES_MAX) {
      throw new LocalUsageError("DATUM_TOO_LARGE", { detail: `record ${this.#recordCount}` });
    }
    this.#texts.push(bytes);
  }

  take(): DataBatch {
    const texts = this.#texts;
    const lengths = Uint32Array.from(texts, (text) => text.length);
    const payloads = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
    let at = 0;
    for (const text of texts) {
      payloads.set(text, at);
      at += text.length;
    }
    this.#texts = [];
    return { payloads, lengths, count: texts.length };
  }
}

/** What stands before each value: `{"first":`, `,"second":` ... */
function columnPrefixes(header: readonly string[]): string[] {
  const seen = new Set<string>();
  return header.map((name, i) => {
    if (seen.has(name)) {
      throw new LocalUsageError("INPUT_MALFORMED", { detail: `column ${name} stands twice` });
    }
    seen.add(name);
    return `${i === 0 ? "{" : ","}${JSON.stringify(name)}:`;
  });
}
