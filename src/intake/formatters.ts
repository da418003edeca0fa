/**
 * The way out: data become bytes of a stream. `payload` gives the bytes as they are (so `lines` in,
 * `payload` out is the input), `framed` keeps the borders of any data, `ndjson` adds whose datum it
 * is and when.
 *
 * A formatter gathers and never writes: the caller takes a block when enough is pending or nothing
 * more is under way, and so decides about system calls and delay.
 */

import { isUtf8 } from "node:buffer";
import { LocalUsageError } from "../base/errors.ts";
import { KIB } from "../base/units.ts";
import { FRAMED_HEADER_BYTES } from "./framed-parser.ts";

export const OUTPUT_FORMATS = ["payload", "ndjson", "framed"] as const;
export type OutputFormat = (typeof OUTPUT_FORMATS)[number];

export interface OutputDatum {
  readonly sourceId: string;
  readonly sequence: number;
  readonly timestampUs: number;
  readonly contentType: string;
  /** Copied before `add` returns. */
  readonly payload: Uint8Array;
}

/** One line of `ndjson`: `payload` is text, or base64 when the bytes are not UTF-8. */
export interface OutputLine extends Omit<OutputDatum, "payload"> {
  readonly payload: string;
  readonly encoding: "utf8" | "base64";
}

const BLOCK_BYTES_MIN = 1 * KIB;
const BLOCK_BYTES_MAX = 256 * KIB;
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const encoder = new TextEncoder();

/** Throws USAGE. */
export function outputFormat(name: string): OutputFormat {
  const format = OUTPUT_FORMATS.find((known) => known === name);
  if (format === undefined) {
    throw new LocalUsageError("USAGE", {
      detail: `output format ${name}: use payload, ndjson or framed`,
    });
  }
  return format;
}

export class Formatter {
  readonly format: OutputFormat;
  #block = new Uint8Array(BLOCK_BYTES_MIN);
  #length = 0;

  constructor(format: OutputFormat) {
    this.format = format;
  }

  get pendingBytes(): number {
    return this.#length;
  }

  /** Appends one datum in this format. */
  add(datum: OutputDatum): void {
    switch (this.format) {
      case "payload":
        this.#append(datum.payload);
        return;
      case "framed":
        this.#appendLength(datum.payload.length);
        this.#append(datum.payload);
        return;
      case "ndjson":
        this.#append(encoder.encode(outputLine(datum)));
        return;
    }
  }

  /** All that was added since the last take, the caller's from now on; undefined when nothing. */
  take(): Uint8Array | undefined {
    if (this.#length === 0) return undefined;
    const taken = this.#block.subarray(0, this.#length);
    // As large as the last one: a quiet stream makes small blocks, a busy one seldom grows them.
    const nextBytes = Math.min(Math.max(taken.length, BLOCK_BYTES_MIN), BLOCK_BYTES_MAX);
    this.#block = new Uint8Array(nextBytes);
    this.#length = 0;
    return taken;
  }

  #append(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#block.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #appendLength(length: number): void {
    this.#reserve(FRAMED_HEADER_BYTES);
    for (let i = 0; i < FRAMED_HEADER_BYTES; i++) {
      this.#block[this.#length++] = (length >>> (8 * i)) & 0xff;
    }
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#block.length) return;
    const grown = new Uint8Array(Math.max(needed, 2 * this.#block.length));
    grown.set(this.#block.subarray(0, this.#length));
    this.#block = grown;
  }
}

function outputLine({ payload, ...about }: OutputDatum): string {
  const text = isUtf8(payload);
  const line: OutputLine = {
    sourceId: about.sourceId,
    sequence: about.sequence,
    timestampUs: about.timestampUs,
    contentType: about.contentType,
    payload: text ? decoder.decode(payload) : toBase64(payload),
    encoding: text ? "utf8" : "base64",
  };
  return `${JSON.stringify(line)}\n`;
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}
