/**
 * Runs `mp2p feed`: input -> data source on a link of its own -> source peer, until peers hold all.
 * SIGTERM ends the input early; SIGINT gives up what is not held.
 */

import { type ErrorCode, LocalUsageError, Mp2pError, OperationError } from "../base/errors.ts";
import type { DataFeed } from "../host/engine-feed-types.ts";
import { createFeed } from "../host/node-data-feed.ts";
import {
  assertReadable,
  contentTypeOf,
  isPipe,
  rawPieceBytes,
  skipData,
} from "../host/node-feed.ts";
import { fileNumbering } from "../host/node-file-numbering.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import type { FeedOptions } from "./feed-command.ts";
import { HeldWait, Outage } from "./feed-waits.ts";
import { requireText } from "./required.ts";
import { isAbort, type RunContext, runContext, sayingSo, sayOnce } from "./run-kit.ts";
import { type InputRun, Over, sendInput } from "./send-input.ts";
import type { Sent } from "./source-progress.ts";
import { bytesText, countText, dataText, secondsText } from "./units.ts";

/** What is heard, before there is a link, of who speaks another protocol. */
const NO_SOURCE_PEER: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "FRAME_MALFORMED",
  "FRAME_TOO_LARGE",
  "FRAME_UNEXPECTED",
  "MESSAGE_UNKNOWN",
  "VERSION_UNSUPPORTED",
]);

const INPUT_FAULTS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "INPUT_MALFORMED",
  "DATUM_TOO_LARGE",
  "FILE_NOT_FOUND",
]);

/** How often it is looked whether peers hold more. */
const LOOK_MS = 1_000;

export async function runFeed(options: FeedOptions): Promise<ExitCode> {
  const to = requireText(options.to, "--to", "e.g. --to 192.0.2.1:7950");
  const sourceId = requireText(options.sourceId, "--source-id", "e.g. --source-id pump-3");
  if (options.keepOpen && options.endSession) {
    throw new LocalUsageError("USAGE", {
      detail: "--keep-open and --end-session exclude each other",
    });
  }
  const context = await runContext("feed", options);
  const { signals } = context;
  const file = options.file === "-" ? undefined : options.file;
  if (file !== undefined) assertReadable(file);
  // A signal ends the waiting for a link; once there is one, what was read goes out over it first.
  const linking = new AbortController();
  let isLinked = false;
  signals.onFirst((name) => {
    if (!isLinked) linking.abort(name);
  });
  const link = async (numbering: number | undefined): Promise<DataFeed> => {
    isLinked = false;
    const source = await sayingSo(
      context,
      `waiting for the source peer at ${to}`,
      createFeed({
        to,
        sourceId,
        allowPlaintext: options.allowPlaintext,
        contentType: contentTypeOf(options.format),
        ...(numbering === undefined ? { passesLost: true } : { numbering }),
        keepMiB: options.keepMib,
        retryMs: options.waitMs,
        onNote: sayOnce(context),
        ...(options.dataId === undefined ? {} : { dataId: options.dataId }),
        ...(context.logger === undefined ? {} : { logger: context.logger }),
        signal: linking.signal,
      }),
    );
    isLinked = true;
    return source;
  };
  try {
    const numbering = await numberingOf(file, sourceId, options);
    for (;;) {
      const source = await link(numbering);
      try {
        return await send(source, file, options, context);
      } catch (error) {
        // An earlier run had brought it, and it was lost with the source peer: the file has it still.
        const isLost = error instanceof Mp2pError && error.code === "SEQUENCE_SKIPPED";
        if (!isLost || numbering === undefined || signals.received !== undefined) throw error;
        await source.close();
        const sentence = `${error.detail}: reading the file again`;
        context.reporter.warn("again", { detail: error.detail }, sentence);
      }
    }
  } catch (error) {
    if (signals.received !== undefined && isAbort(error)) {
      context.reporter.note("left", {}, "stopped before there was a link: nothing was sent");
      return signals.exitCode(EXIT.ok);
    }
    if (!isLinked && error instanceof Mp2pError && NO_SOURCE_PEER.has(error.code)) {
      const detail = `${to} is no port where a source peer accepts data sources (mp2p source --accept)`;
      throw new OperationError(error.code, { detail, cause: error });
    }
    throw error;
  }
}

/** The n-th datum of a file has number n in every run: peers that had it take it for the same. */
async function numberingOf(
  file: string | undefined,
  sourceId: string,
  { append, format }: FeedOptions,
): Promise<number | undefined> {
  if (file === undefined || append) return undefined;
  return fileNumbering(file, format, rawPieceBytes(sourceId, format));
}

async function send(
  source: DataFeed,
  file: string | undefined,
  options: FeedOptions,
  context: RunContext,
): Promise<ExitCode> {
  const { reporter, signals } = context;
  const { sourceId } = source;
  const written: Sent = { data: 0, bytes: 0 };
  // However quiet the input is, it is of no use any more.
  const over = new Over();
  source.on("failed", ({ code, detail }) => over.because(code, detail));
  source.on("ended", () => over.inOrder());
  const beganMs = performance.now();
  const had = source.next - 1;
  reporter.note(
    "registered",
    { sourceId, next: source.next },
    `registered as ${sourceId}, the next datum is number ${countText(source.next)}`,
  );
  source.on("lost", ({ from, to }) => {
    const which =
      from === to ? `number ${countText(from)}` : `${countText(from)} to ${countText(to)}`;
    const sentence = `lost with the source peer, which peers had not held: ${which} of an earlier run`;
    reporter.warn("lost", { from, to }, sentence);
  });
  const outage = new Outage();
  source.on("registered", ({ next, newSession }) => {
    outage.over();
    const where = newSession ? "the source peer was started anew" : "linked again";
    reporter.note("linked", { next, newSession }, `${where}, goes on with ${countText(next)}`);
  });
  source.on("linkLost", ({ code, detail, retryInMs }) => {
    const sentence = outage.sentence(`${code} ${detail}`, performance.now());
    // A program that reads along takes each.
    if (sentence === undefined && !reporter.json) return;
    reporter.warn("linkLost", { code, detail, retryInMs }, sentence ?? "");
  });
  const stopFollowing = reporter.follow(() => ({
    fields: { ...written, ...positionOf(source) },
    sentence: `${amount(written)} read, ${countText(source.accepted)} accepted, ${countText(
      source.held,
    )} held by peers`,
  }));
  const heldWait = new HeldWait();
  const looking = setInterval(() => {
    const { accepted, held } = source;
    const { linked } = source.status();
    const sentence = heldWait.sentence({ accepted, held, linked }, performance.now());
    if (sentence !== undefined) reporter.note("waiting", positionOf(source), sentence);
  }, LOOK_MS);
  try {
    const repeats = file !== undefined && !options.append && !isPipe(file);
    const skips = repeats ? had : 0;
    if (skips > 0) {
      const sentence = `skips ${dataText(skips)} that the source peer has`;
      reporter.note("skipped", { data: skips }, sentence);
    }
    const input: InputRun = {
      file,
      format: options.format,
      rawBytes: rawPieceBytes(sourceId, options.format),
      ratePerSecond: options.rate,
      sent: written,
      choose: (data) => (skips > 0 ? skipData(data, skips) : data),
    };
    const fault = await inputFault(sendInput(source, input, context, over));
    if (signals.received === "SIGINT") return leave(source, written, context);
    const stopped = signals.received === "SIGTERM";
    const reason = over.ended.aborted ? "the session has ended" : "the input has ended";
    const why = stopped || fault !== undefined ? "stopped reading" : reason;
    reporter.note("read", { ...written }, `${why} after ${amount(written)}`);
    const gaveUp = new Promise<"interrupted">((resolve) => {
      if (!stopped) signals.onFirst((name) => name === "SIGINT" && resolve("interrupted"));
    });
    const staysOpen = stopped || options.keepOpen || fault !== undefined;
    const held = staysOpen ? source.whenHeld() : source.end({ session: options.endSession });
    // Settled whoever wins: a rejection after an interrupt is no news.
    held.catch(() => undefined);
    if ((await Promise.race([held, gaveUp])) === "interrupted") {
      return leave(source, written, context);
    }
    await source.close();
    if (fault !== undefined) throw fault;
  } finally {
    clearInterval(looking);
    stopFollowing();
  }
  const elapsedMs = performance.now() - beganMs;
  reporter.note(
    "done",
    { ...written, ...positionOf(source), elapsedMs: Math.round(elapsedMs) },
    `done: ${amount(written)} in ${secondsText(elapsedMs)}, all held by peers`,
  );
  return signals.exitCode(EXIT.ok);
}

/** What is wrong with the input itself: the data before that are brought to the peers first. */
async function inputFault(sending: Promise<void>): Promise<LocalUsageError | undefined> {
  try {
    await sending;
    return undefined;
  } catch (error) {
    if (!(error instanceof LocalUsageError && INPUT_FAULTS.has(error.code))) throw error;
    return error;
  }
}

async function leave(source: DataFeed, written: Sent, { reporter }: RunContext): Promise<ExitCode> {
  const lost = source.next - 1 - source.held;
  await source.close();
  const sentence = `interrupted: ${dataText(lost)} not known to be held by peers`;
  reporter.warn("interrupted", { ...written, ...positionOf(source) }, sentence);
  return EXIT.interrupted;
}

function positionOf({ next, accepted, held }: DataFeed): Record<string, number> {
  return { next, accepted, held };
}

function amount({ data, bytes }: Sent): string {
  return `${dataText(data)}, ${bytesText(bytes)}`;
}
