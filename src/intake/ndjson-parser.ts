/**
 * Format `ndjson`: lines, each of which is blank or one JSON text in UTF-8. Checked, not changed:
 * the payloads put back to back are the input.
 */

import { isUtf8 } from "node:buffer";
import { LocalUsageError } from "../base/errors.ts";
import type { DataBatch } from "./data-batch.ts";
import { type LineFault, LinesParser } from "./lines-parser.ts";

const decoder = new TextDecoder();

export class NdjsonParser extends LinesParser {
  override readonly contentType: string = "application/json";

  /** INPUT_MALFORMED naming the line. */
  protected override check(batch: DataBatch, firstLine: number): LineFault | undefined {
    let at = 0;
    for (let i = 0; i < batch.count; i++) {
      const end = at + (batch.lengths[i] ?? 0);
      const fault = lineFault(batch.payloads.subarray(at, end), firstLine + i);
      if (fault !== undefined) return { good: i, fault };
      at = end;
    }
    return undefined;
  }
}

function lineFault(line: Uint8Array, lineNumber: number): LocalUsageError | undefined {
  if (!isUtf8(line)) {
    return new LocalUsageError("INPUT_MALFORMED", { detail: `line ${lineNumber}: not UTF-8` });
  }
  // The decoder drops a byte order mark, which some programs put before the first line.
  const text = decoder.decode(line);
  if (/^[ \t\r\n]*$/.test(text)) return undefined;
  try {
    JSON.parse(text);
    return undefined;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new LocalUsageError("INPUT_MALFORMED", {
      detail: `line ${lineNumber}: ${reason}`,
      cause,
    });
  }
}
