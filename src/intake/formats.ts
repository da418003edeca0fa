/**
 * The formats in which data get in: one table from name to parser, and the one function that turns
 * a stream of bytes into data. Formats know nothing of sources, overlays or fragments.
 */

import { LocalUsageError } from "../base/errors.ts";
import { FRAGMENT_BYTES_DEFAULT } from "../base/limits.ts";
import { CSV_CONTENT_TYPE, parseCsv } from "./csv-parser.ts";
import type { DataBatch, DataParser } from "./data-batch.ts";
import { FramedParser } from "./framed-parser.ts";
import { LinesParser } from "./lines-parser.ts";
import { NdjsonParser } from "./ndjson-parser.ts";
import { RawParser } from "./raw-parser.ts";

export const DATA_FORMATS = ["lines", "ndjson", "csv", "raw", "framed"] as const;
export type DataFormat = (typeof DATA_FORMATS)[number];

export interface ParseOptions {
  /** Bytes of a datum in `raw`, 1 to 16 MiB; default 16 KiB. */
  readonly rawBytes?: number;
}

/** Throws UNKNOWN_FORMAT. */
export function dataFormat(name: string): DataFormat {
  const format = DATA_FORMATS.find((known) => known === name);
  if (format === undefined) throw new LocalUsageError("UNKNOWN_FORMAT", { detail: name });
  return format;
}

export function contentTypeOf(format: DataFormat): string {
  return format === "csv" ? CSV_CONTENT_TYPE : newParser(format).contentType;
}

/** A push parser; csv has none, its library works on streams (see parseData). */
export function newParser(
  format: Exclude<DataFormat, "csv">,
  { rawBytes = FRAGMENT_BYTES_DEFAULT }: ParseOptions = {},
): DataParser {
  switch (format) {
    case "lines":
      return new LinesParser();
    case "ndjson":
      return new NdjsonParser();
    case "raw":
      return new RawParser(rawBytes);
    case "framed":
      return new FramedParser();
  }
}

/**
 * The data of a stream of bytes, in order, as soon as they are complete. Reads a block only when the
 * last batch was taken: back pressure reaches the stream. Each batch is lent until the next step.
 *
 * Errors: DATUM_TOO_LARGE, INPUT_MALFORMED (both name line, record or datum), MODULE_MISSING (csv),
 * USAGE (rawBytes), and what `blocks` throws. Data before the fault were handed out.
 */
export async function* parseData(
  format: DataFormat,
  blocks: AsyncIterable<Uint8Array>,
  options: ParseOptions = {},
): AsyncGenerator<DataBatch> {
  if (format === "csv") {
    yield* parseCsv(blocks);
    return;
  }
  const parser = newParser(format, options);
  for await (const block of blocks) yield* parser.push(block);
  yield* parser.end();
}
