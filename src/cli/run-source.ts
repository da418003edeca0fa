/**
 * Runs `mp2p source`: input -> data source -> session, until the input ends and every peer in good
 * standing has all. SIGTERM ends the input early and the session in order. SIGINT breaks the session
 * off: an END after half of the input would tell peers that they have all.
 */

import { LocalUsageError, OperationError } from "../base/errors.ts";
import { LINKS_MAX_DEFAULT } from "../base/limits.ts";
import { formatAddress } from "../base/machine.ts";
import type { EngineSource, RemoteIntake } from "../host/engine-types.ts";
import { assertFree } from "../host/node-accept.ts";
import { assertReadable, contentTypeOf, rawPieceBytes } from "../host/node-feed.ts";
import { checkAccept } from "../host/plaintext.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import { requireText } from "./required.ts";
import {
  isAbort,
  openEngine,
  type RunContext,
  runContext,
  sayingSo,
  sayOnce,
  serverUrls,
  usingEngine,
  WaitedFor,
} from "./run-kit.ts";
import { Over, sendInput } from "./send-input.ts";
import type { SourceOptions } from "./source-command.ts";
import {
  AwaitedPeers,
  amount,
  broughtSentence,
  membersSentence,
  type Sent,
  sourceProgress,
} from "./source-progress.ts";
import { bytesText, secondsText } from "./units.ts";

/** Members started along with the source find it even when its input was short. */
const LATE_JOIN_MS = 3_000;
/** And nothing of a long input is let go before they are all there. */
const GATHER_MS = 3_000;

export async function runSource(options: SourceOptions): Promise<ExitCode> {
  const urls = serverUrls(options);
  refuseWrongFlags(options);
  checkAccept(options.allowPlaintext, options.accept ?? []);
  const title = requireText(options.title, "--title", 'e.g. --title "harbour sensors"');
  const context = await runContext("source", options);
  const { signals } = context;
  const file = options.file === "-" ? undefined : options.file;
  if (file !== undefined) assertReadable(file);
  const rawBytes = rawPieceBytes(options.sourceId, options.format, options.fragmentBytes);
  await assertFree(options.accept ?? []);
  const engine = await openEngine(options, context);
  return usingEngine(engine, async () => {
    const patience = AbortSignal.timeout(options.waitMs);
    const waited = new WaitedFor(`at ${urls.server ?? urls.oms} within ${options.waitMs} ms`);
    const say = sayOnce(context);
    try {
      const session = await sayingSo(
        context,
        `opening the session at ${urls.server ?? urls.oms}`,
        engine.createSource({
          ...urls,
          title,
          dataSources: readsInput(options)
            ? [
                {
                  sourceId: options.sourceId,
                  contentType: contentTypeOf(options.format),
                  ...(options.dataId === undefined ? {} : { dataId: options.dataId }),
                },
              ]
            : [],
          fragmentBytes: options.fragmentBytes,
          integrity: options.integrity,
          delivery: options.delivery,
          ...(options.maxLagMs === undefined ? {} : { maxLagMs: options.maxLagMs }),
          ...(options.waitPeers === undefined ? {} : { waitPeers: options.waitPeers }),
          ...(options.virtualPeers === undefined
            ? {}
            : { virtualPeers: { count: options.virtualPeers, priority: options.priority } }),
          gatherMs: options.gatherMs ?? (options.waitPeers === undefined ? GATHER_MS : 0),
          node: {
            maxDelayMs: options.maxDelayMs,
            ...(options.stallMs === undefined ? {} : { stallMs: options.stallMs }),
            ...(options.holdMs === undefined ? {} : { holdMs: options.holdMs }),
            ...(options.lingerMs === undefined ? {} : { lingerMs: options.lingerMs }),
          },
          waitMs: options.waitMs,
          onNote: (text, failure) => {
            if (failure !== undefined) waited.failed(failure);
            say(text);
          },
          signal: AbortSignal.any([signals.signal, patience]),
        }),
      );
      return await send(session, options, context, rawBytes);
    } catch (error) {
      if (signals.received !== undefined && isAbort(error)) {
        context.reporter.note("left", {}, "stopped before the session was open: nothing was sent");
        return signals.exitCode(EXIT.ok);
      }
      if (patience.aborted && isAbort(error)) throw waited.error(error);
      throw error;
    }
  });
}

/** Throws USAGE for what was asked for and would do nothing, or could never come about. */
function refuseWrongFlags(options: SourceOptions): void {
  const { accept, end, waitSources, delivery, holdMs, maxLagMs, priority, virtualPeers } = options;
  const { waitPeers = 0, maxLinks = LINKS_MAX_DEFAULT } = options;
  // Behind a virtual peer there may be more than this source is linked to.
  if (waitPeers > maxLinks && (virtualPeers ?? 0) === 0) {
    throw new LocalUsageError("USAGE", {
      detail: `--wait-peers ${waitPeers} needs --max-links ${waitPeers} or more, and it is ${maxLinks}: only peers linked to this source count`,
    });
  }
  if (priority > 0 && virtualPeers === undefined) {
    throw new LocalUsageError("USAGE", {
      detail: "--priority is about virtual peers: say how many, --virtual-peers N",
    });
  }
  if (accept === undefined && (end !== "last" || waitSources !== 1)) {
    const flag = end === "last" ? "--wait-sources" : "--end";
    throw new LocalUsageError("USAGE", {
      detail: `${flag} is about data sources on other machines: say where they come in, --accept PORT`,
    });
  }
  if (!readsInput(options) && (options.format !== "lines" || options.rate !== undefined)) {
    const flag = options.rate === undefined ? "--format" : "--rate";
    throw new LocalUsageError("USAGE", {
      detail: `${flag} is about an input of this process: with --accept say which, --file FILE or --file -`,
    });
  }
  if (delivery === "live" && holdMs !== undefined) {
    throw new LocalUsageError("USAGE", {
      detail: "--hold-ms is about --delivery complete: a live session holds nothing for its peers",
    });
  }
  if (delivery === "complete" && maxLagMs !== undefined) {
    throw new LocalUsageError("USAGE", {
      detail: "--max-lag-ms is about --delivery live: in complete nothing is dropped for its age",
    });
  }
}

/** Whether there is a data source of this process: with --accept only when it was asked for. */
function readsInput({ accept, file }: SourceOptions): boolean {
  return accept === undefined || file !== undefined;
}

async function send(
  session: EngineSource,
  options: SourceOptions,
  context: RunContext,
  rawBytes: number,
): Promise<ExitCode> {
  const { reporter, signals } = context;
  const { title, overlayId } = session;
  const sent: Sent = { data: 0, bytes: 0 };
  const beganMs = performance.now();
  const isInterrupted = (): boolean => signals.received === "SIGINT";
  reporter.note("open", { title, overlayId }, `session "${title}" is open`);
  session.on("link", (link) => reporter.note("link", { ...link }, linkSentence(link)));
  let intake: RemoteIntake | undefined;
  const awaited = new AwaitedPeers(options.waitPeers ?? (options.delivery === "live" ? 0 : 1));
  const stopFollowing = reporter.follow(() =>
    sourceProgress(session.status(), sent, intake?.status(), awaited),
  );
  try {
    signals.onFirst((name) => {
      reporter.note("ending", { why: "signal" }, `asked to end the session (${name})`);
      if (name === "SIGINT") void session.close();
    });
    if (options.accept !== undefined) intake = await openIntake(session, options, context);
    if (readsInput(options)) await readInput(session, options, context, rawBytes, sent);
    if (intake !== undefined && signals.received === undefined) {
      if (readsInput(options)) session.dataSource(options.sourceId).end();
      await intakeEnd(session, intake, context);
    }
    if (isInterrupted()) {
      await session.close();
      reporter.warn(
        "interrupted",
        { ...sent },
        "interrupted: peers are told that data are missing",
      );
      return EXIT.interrupted;
    }
    const lateJoinMs = options.lateJoinMs ?? (options.delivery === "live" ? 0 : LATE_JOIN_MS);
    const ended = session.end({ lateJoinMs });
    signals.onFirst((name) => {
      // What fails in this call fails in the one before.
      if (name !== "SIGTERM") return;
      session.end({ lateJoinMs, waitForPeers: false }).catch(() => undefined);
    });
    await ended;
  } catch (error) {
    // Then the session was closed amid its end.
    if (!isInterrupted()) throw error;
  } finally {
    stopFollowing();
  }
  if (isInterrupted()) return EXIT.interrupted;
  const elapsedMs = performance.now() - beganMs;
  const { traffic, members } = session.status();
  const remote = intake === undefined ? {} : { acceptedData: acceptedBy(intake) };
  const brought = broughtSentence(
    readsInput(options) ? sent : undefined,
    intake === undefined ? undefined : acceptedBy(intake),
  );
  reporter.note(
    "done",
    { ...sent, ...remote, elapsedMs: Math.round(elapsedMs), traffic, members },
    `done: ${brought} in ${secondsText(elapsedMs)}, ` +
      `${bytesText(traffic.bytesToPeers)} sent; ${membersSentence(members, options.delivery)}`,
  );
  return EXIT.ok;
}

/** Sends the input; a signal ends it early, any other fault is the caller's. */
async function readInput(
  session: EngineSource,
  options: SourceOptions,
  context: RunContext,
  rawBytes: number,
  sent: Sent,
): Promise<void> {
  const { reporter, signals } = context;
  const { file, format, rate: ratePerSecond } = options;
  const over = new Over();
  const stopListening = session.on("failed", ({ code, detail }) => over.because(code, detail));
  const input = { file: file === "-" ? undefined : file, format, rawBytes, ratePerSecond, sent };
  try {
    await sendInput(session.dataSource(options.sourceId), input, context, over);
  } finally {
    stopListening();
  }
  if (signals.received !== "SIGINT") {
    const over = signals.received === undefined ? "the input has ended" : "stopped reading";
    reporter.note("read", { ...sent }, `${over} after ${amount(sent)}`);
  }
}

/** Accepts data sources on other machines, and says what becomes of them. */
async function openIntake(
  session: EngineSource,
  options: SourceOptions,
  { reporter }: RunContext,
): Promise<RemoteIntake> {
  const intake = await session.acceptDataSources({
    listen: options.accept ?? [],
    end: options.end,
    waitSources: options.waitSources,
    ...(options.dataId === undefined ? {} : { dataId: options.dataId }),
  });
  const addresses = intake.listening.map(formatAddress);
  reporter.note("accepting", { addresses }, `accepting data sources at ${addresses.join(", ")}`);
  intake.on("source", ({ sourceId, state, detail }) => {
    const why = detail === "" ? "" : ` (${detail})`;
    reporter.note("source", { sourceId, state, detail }, `data source ${sourceId}: ${state}${why}`);
    const { sources } = intake.status();
    const missing = options.waitSources - sources.length;
    if (options.end !== "last" || missing <= 0 || !sources.every(({ ended }) => ended)) return;
    const sentence = `all that came have ended; ${missing} more to come before the session ends (--wait-sources ${options.waitSources})`;
    reporter.note("waiting", { missing }, sentence);
  });
  intake.on("refused", ({ code, detail }) => {
    reporter.warn("refused", { code, detail }, `refused a data source: ${code} ${detail}`);
  });
  return intake;
}

/** Waits for what ends the session: its data sources, its owner by a signal, or a failure. */
async function intakeEnd(
  session: EngineSource,
  intake: RemoteIntake,
  { reporter, signals }: RunContext,
): Promise<void> {
  let stopListening: () => void = () => undefined;
  const failed = new Promise<never>((_resolve, reject) => {
    stopListening = session.on("failed", ({ code, detail }) => {
      reject(new OperationError(code, { detail }));
    });
  });
  const signalled = new Promise<"signal">((resolve) => signals.onFirst(() => resolve("signal")));
  try {
    const why = await Promise.race([intake.finished, signalled, failed]);
    const sentences = {
      last: "every data source has ended",
      ordered: "a data source orders the end of the session",
    };
    if (why !== "signal") reporter.note("ending", { why }, sentences[why]);
  } finally {
    stopListening();
  }
}

function acceptedBy(intake: RemoteIntake): number {
  return intake.status().counters.dataAccepted;
}

export function linkSentence(link: {
  readonly peerId: string;
  readonly state: string;
  readonly detail: string;
}): string {
  const detail = link.detail === "" ? "" : ` (${link.detail})`;
  return `peer ${link.peerId.slice(0, 8)} is ${link.state}${detail}`;
}
