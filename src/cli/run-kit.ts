/**
 * What the commands that run something share: reporter, signals, log, key file, engine. Engine and
 * log are loaded by who asks for them: most of what a command costs at its start is loading.
 */

import { readFileSync } from "node:fs";
import { type ErrorCode, isOfTheLink, LocalUsageError, OperationError } from "../base/errors.ts";
import type { Engine, EngineOptions, Logger, ServerUrls } from "../host/engine-types.ts";
import type { CommonOptions, PeerOptions } from "./command-kit.ts";
import { printableLines } from "./printable.ts";
import { Reporter } from "./reporter.ts";
import { Signals } from "./signals.ts";

/** What takes longer than this is said. */
const WAITING_MS = 1_000;
const SEED_DIGITS = 64;

export interface RunContext {
  readonly reporter: Reporter;
  readonly signals: Signals;
  readonly logger: Logger | undefined;
}

export async function runContext(command: string, options: CommonOptions): Promise<RunContext> {
  const { json, quiet, logLevel } = options;
  const context = { reporter: new Reporter({ command, json, quiet }), signals: new Signals() };
  if (logLevel === "silent") return { ...context, logger: undefined };
  const { destination, pino } = await import("pino");
  const error = destination({ fd: 2, sync: true });
  const to = { write: (line: string) => error.write(printableLines(line)) };
  return { ...context, logger: pino({ level: logLevel, base: { command } }, to) };
}

/** Throws USAGE when no server is named. */
export function serverUrls(options: PeerOptions): ServerUrls {
  const { server, oms, ixs } = options;
  if (server === undefined && (ixs === undefined || oms === undefined)) {
    throw new LocalUsageError("USAGE", {
      detail: "--server is missing: name the servers, e.g. --server ws://127.0.0.1:7900",
    });
  }
  return {
    ...(server === undefined ? {} : { server }),
    ...(oms === undefined ? {} : { oms }),
    ...(ixs === undefined ? {} : { ixs }),
  };
}

export async function openEngine(options: PeerOptions, context: RunContext): Promise<Engine> {
  const { createEngine } = await import("../host/node-engine.ts");
  return createEngine(engineOptions(options, context));
}

/** What the flags of a command that runs an engine say to it. Reads the key file. */
export function engineOptions(options: PeerOptions, context: RunContext): EngineOptions {
  const { listen, advertise, maxLinks, uploadLimit, downloadLimit, memoryMib, workers } = options;
  const { identity, allowPlaintext } = options;
  return {
    listen,
    workers,
    allowPlaintext,
    ...(advertise === undefined ? {} : { advertise }),
    ...(maxLinks === undefined ? {} : { maxLinks }),
    ...(uploadLimit === undefined ? {} : { uploadLimitBytesPerSecond: uploadLimit }),
    ...(downloadLimit === undefined ? {} : { downloadLimitBytesPerSecond: downloadLimit }),
    ...(memoryMib === undefined ? {} : { memoryMiB: memoryMib }),
    ...(identity === undefined ? {} : { identitySeed: readIdentity(identity) }),
    ...(context.logger === undefined ? {} : { logger: context.logger }),
  };
}

function readIdentity(path: string): Uint8Array {
  let text: string;
  try {
    text = readFileSync(path, "utf8").trim();
  } catch (cause) {
    const detail = `${path}, the key of --identity: mp2p key ${path} makes one`;
    throw new LocalUsageError("FILE_NOT_FOUND", { detail, cause });
  }
  if (text.length !== SEED_DIGITS || !/^[0-9a-f]+$/.test(text)) {
    throw new LocalUsageError("USAGE", { detail: `${path} holds no key; mp2p key makes one` });
  }
  return new Uint8Array(Buffer.from(text, "hex"));
}

/** Awaits `work`; when it takes long, says `sentence` once. */
export async function sayingSo<T>(
  context: RunContext,
  sentence: string,
  work: Promise<T>,
): Promise<T> {
  const timer = setTimeout(() => context.reporter.note("waiting", {}, sentence), WAITING_MS);
  try {
    return await work;
  } finally {
    clearTimeout(timer);
  }
}

/** Says each thing once, however often it is tried. */
export function sayOnce({ reporter }: Pick<RunContext, "reporter">): (text: string) => void {
  const said = new Set<string>();
  return (text) => {
    if (said.has(text)) return;
    said.add(text);
    reporter.note("waiting", { why: text }, text);
  };
}

/** What a wait for servers came to when it was over: their last refusal, or that none was there. */
export class WaitedFor {
  readonly #where: string;
  #refusal: { readonly code: ErrorCode; readonly detail: string } | undefined;

  constructor(where: string) {
    this.#where = where;
  }

  /** It is tried again. */
  failed(failure: { readonly code: ErrorCode; readonly detail: string }): void {
    if (!isOfTheLink(failure.code)) this.#refusal = failure;
  }

  error(cause: unknown): OperationError {
    const { code = "UNREACHABLE", detail = "no server" } = this.#refusal ?? {};
    const what = detail === "" ? "refused" : detail;
    return new OperationError(code, { detail: `${what} ${this.#where}`, cause });
  }
}

/** Runs `body`; its error is what counts when closing fails too. */
export async function usingEngine<T>(engine: Engine, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } finally {
    await engine.close();
  }
}

/** Whether an error only says that somebody asked for the end. */
export function isAbort(error: unknown): boolean {
  return (
    (error instanceof OperationError && error.code === "ABORTED") ||
    (error instanceof Error && error.name === "AbortError")
  );
}
