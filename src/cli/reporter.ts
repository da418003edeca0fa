/**
 * What a command says while it works. On standard error, so that standard output stays free for
 * data: sentences for people, or with --json one object a line. A terminal gets one live line;
 * elsewhere progress is a plain line every few seconds; --quiet leaves warnings and errors.
 */

import { ERRORS, type ErrorCode, Mp2pError } from "../base/errors.ts";
import { printable, printableLines } from "./printable.ts";

const LIVE_MS = 250;
const PLAIN_MS = 5_000;

export interface ReporterOptions {
  readonly command: string;
  readonly json: boolean;
  readonly quiet: boolean;
}

export interface TextStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface Progress {
  readonly fields: Readonly<Record<string, unknown>>;
  readonly sentence: string;
}

type Fields = Readonly<Record<string, unknown>>;

export class Reporter {
  readonly json: boolean;
  readonly #options: ReporterOptions;
  readonly #out: TextStream;
  readonly #error: TextStream;
  #liveShown = false;

  constructor(
    options: ReporterOptions,
    out: TextStream = process.stdout,
    error: TextStream = process.stderr,
  ) {
    this.json = options.json;
    this.#options = options;
    this.#out = out;
    this.#error = error;
  }

  /**
   * The result of a command that writes no data: on standard output. `sentence` may be lines, of
   * which none has text of others that is not printable.
   */
  result(event: string, fields: Fields, sentence: string): void {
    this.#clear();
    this.#out.write(this.json ? jsonLine(event, fields) : `${printableLines(sentence)}\n`);
  }

  /** What is worth knowing; not with --quiet. */
  note(event: string, fields: Fields, sentence: string): void {
    if (!this.#options.quiet) this.#say(event, fields, sentence);
  }

  /** What somebody should see. */
  warn(event: string, fields: Fields, sentence: string): void {
    this.#say(event, fields, sentence);
  }

  error(error: unknown): void {
    const code: ErrorCode | "INTERNAL" = error instanceof Mp2pError ? error.code : "INTERNAL";
    const known = error instanceof Mp2pError;
    const message = known ? sentenceOf(error) : `a bug of this program: ${stackOf(error)}`;
    const detail = known ? error.detail : undefined;
    // The lines of a stack are this program's.
    const shown = known ? printable(message) : printableLines(message);
    this.#write("error", { code, message, detail }, `error: ${code}: ${shown}`);
  }

  /** Tells `progress` again and again until the returned function is called. */
  follow(progress: () => Progress | undefined): () => void {
    if (this.#options.quiet) return () => undefined;
    const live = !this.json && this.#error.isTTY === true;
    const timer = setInterval(
      () => {
        const now = progress();
        if (now === undefined) return;
        if (live) this.#live(now.sentence);
        else this.#say("progress", now.fields, now.sentence);
      },
      live ? LIVE_MS : PLAIN_MS,
    );
    timer.unref();
    return () => {
      clearInterval(timer);
      this.#clear();
    };
  }

  /**
   * For whoever keeps this thread busy, so that no timer runs: to be called often with what it is to
   * tell, of which it tells some. `plainMs`: how often where there is no live line.
   */
  paced(plainMs: number, nowMs: () => number): (progress: () => Progress) => void {
    if (this.#options.quiet) return () => undefined;
    const live = !this.json && this.#error.isTTY === true;
    const everyMs = live ? LIVE_MS : plainMs;
    let toldMs = nowMs();
    return (progress) => {
      if (nowMs() - toldMs < everyMs) return;
      toldMs = nowMs();
      const { fields, sentence } = progress();
      if (live) this.#live(sentence);
      else this.#say("progress", fields, sentence);
    };
  }

  #say(event: string, fields: Fields, sentence: string): void {
    this.#write(event, fields, printable(sentence));
  }

  #write(event: string, fields: Fields, shown: string): void {
    this.#clear();
    this.#error.write(
      this.json ? jsonLine(event, fields) : `mp2p ${this.#options.command}: ${shown}\n`,
    );
  }

  #live(sentence: string): void {
    const text = printable(sentence).slice(0, (this.#error.columns ?? 80) - 1);
    this.#error.write(`\r\x1b[K${text}`);
    this.#liveShown = true;
  }

  #clear(): void {
    if (!this.#liveShown) return;
    this.#liveShown = false;
    this.#error.write("\r\x1b[K");
  }
}

/** One event as a line of JSON; undefined fields are left out. */
export function jsonLine(event: string, fields: Fields): string {
  return `${printable(JSON.stringify({ event, ...fields }))}\n`;
}

/** The table's sentence, and what exactly; of wrong usage what exactly says it all. */
export function sentenceOf(error: Mp2pError): string {
  if (error.code === "USAGE" && error.detail !== undefined) return error.detail;
  const { sentence } = ERRORS[error.code];
  return error.detail === undefined || error.detail === ""
    ? sentence
    : `${sentence} (${error.detail})`;
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
