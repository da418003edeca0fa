/**
 * Runs `mp2p join`: session -> output, until END. What was sent before this peer started is told and
 * is no loss; what is missing after that is exit 3. Afterwards it stays for its neighbours, as long
 * as it lingers.
 */

import { LocalUsageError, OperationError } from "../base/errors.ts";
import type { Engine, EnginePeer, PeerEvents } from "../host/engine-types.ts";
import { drain } from "../host/node-drain.ts";
import { fileSink, type OutputSink, standardOutput } from "../host/node-output.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import type { JoinOptions } from "./join-command.ts";
import { Received } from "./received.ts";
import {
  isAbort,
  openEngine,
  type RunContext,
  runContext,
  sayingSo,
  sayOnce,
  serverUrls,
  usingEngine,
} from "./run-kit.ts";
import { gapSentence, noNewsSentence, noNewsWorthTelling, relay } from "./run-relay.ts";
import { linkSentence } from "./run-source.ts";
import { heldSentence } from "./source-progress.ts";
import { bytesText, count, countText, percentText, secondsText, span } from "./units.ts";

export async function runJoin(options: JoinOptions): Promise<ExitCode> {
  const urls = serverUrls(options.ixs === undefined ? options : { ...options, oms: options.ixs });
  const { title, sourceId, dataId } = options;
  if (title === undefined && sourceId === undefined) {
    throw new LocalUsageError("USAGE", {
      detail: '--title is missing: name the session, e.g. --title "harbour sensors"',
    });
  }
  if (options.relay && (options.out !== undefined || options.format !== "payload")) {
    const flag = options.out === undefined ? "--format" : "--out";
    throw new LocalUsageError("USAGE", { detail: `--relay writes nothing: leave ${flag} away` });
  }
  const wanted = wantedText(options);
  const context = await runContext("join", options);
  const { signals } = context;
  const sink = options.out === undefined ? standardOutput(process.stdout) : fileSink(options.out);
  const say = sayOnce(context);
  const engine = await openEngine(options, context);
  return usingEngine(engine, async () => {
    try {
      const peer = await sayingSo(
        context,
        `looking for the session of ${wanted} at ${urls.server ?? urls.ixs}`,
        engine.join({
          ...urls,
          ...(title === undefined ? {} : { title }),
          ...(sourceId?.[0] === undefined ? {} : { sourceId: sourceId[0] }),
          ...(dataId === undefined ? {} : { dataId }),
          from: options.from,
          consume: !options.relay,
          waitMs: options.waitMs,
          onNote: (text, failure) => {
            if (failure !== undefined) say(text);
          },
          followRestarts: options.onRestart === "follow",
          ...(options.dial === undefined ? {} : { dial: options.dial }),
          node: {
            ...(options.lingerMs === undefined ? {} : { lingerMs: options.lingerMs }),
            ...(options.stallMs === undefined ? {} : { stallMs: options.stallMs }),
          },
          signal: signals.signal,
        }),
      );
      if (options.relay) return await relay(engine, peer, context);
      return await receive(engine, peer, sink, options, context);
    } catch (error) {
      if (signals.received !== undefined && isAbort(error)) return signals.exitCode(EXIT.ok);
      if (error instanceof OperationError && error.code === "UNREACHABLE") {
        const where = `no server at ${urls.server ?? urls.ixs} within ${options.waitMs} ms`;
        throw new OperationError("UNREACHABLE", {
          detail: error.detail === undefined ? where : `${where}: ${error.detail}`,
          cause: error,
        });
      }
      if (error instanceof OperationError && error.code === "UNKNOWN_INDEX") {
        const waited = `${wanted}, waited ${options.waitMs} ms`;
        const detail = `${waited}: not begun yet, over already, or named otherwise`;
        throw new OperationError("UNKNOWN_INDEX", { detail, cause: error });
      }
      throw withFlags(error);
    }
  });
}

/** A title that several sessions have is made plain by flags. */
export function withFlags(error: unknown): unknown {
  if (!(error instanceof OperationError) || error.code !== "TITLE_AMBIGUOUS") return error;
  const detail = `${error.detail ?? ""}: add --source-id or --data-id`;
  return new OperationError("TITLE_AMBIGUOUS", { detail, cause: error });
}

/** How the session was named. */
function wantedText({ title, sourceId, dataId }: JoinOptions): string {
  return [
    ...(title === undefined ? [] : [`title ${title}`]),
    ...(sourceId === undefined ? [] : [`data source id ${sourceId.join(",")}`]),
    ...(dataId === undefined ? [] : [`data id ${dataId}`]),
  ].join(", ");
}

async function receive(
  engine: Engine,
  peer: EnginePeer,
  sink: OutputSink,
  options: JoinOptions,
  context: RunContext,
): Promise<ExitCode> {
  const { reporter, signals } = context;
  const { title, overlayId } = peer;
  const beganMs = performance.now();
  const received = new Received({ fromStart: options.from === "start" });
  reporter.note("joined", { title, overlayId, peerId: engine.peerId }, `joined "${title}"`);
  peer.on("started", ({ index }) => {
    received.startedAt = index;
    if (index === 0) reporter.note("started", { startedAt: 0 }, "starts with the first fragment");
    else {
      const gone = span(0, index - 1, "fragment", "fragments");
      const missed = `${gone} went before and ${index === 1 ? "is" : "are"} missed`;
      reporter.warn("started", { startedAt: index }, `starts at fragment ${index}: ${missed}`);
    }
  });
  peer.on("restarted", ({ sessionEpoch, before }) => {
    received.restarted(before, sources);
    reporter.warn("restarted", { sessionEpoch, before }, restartSentence(sessionEpoch, before));
  });
  peer.on("ended", ({ sources }) => received.ended(sources));
  peer.on("gap", (gap) => {
    received.gaps++;
    reporter.warn("gap", { gap }, gapSentence(gap));
  });
  peer.on("link", (link) => reporter.note("link", { ...link }, linkSentence(link)));
  peer.on("note", (text) => reporter.note("note", { text }, text));
  signals.onFirst(() => void peer.leave());
  const sources = options.sourceId === undefined ? undefined : new Set(options.sourceId);
  const stopFollowing = reporter.follow(() => progressOf(peer, received));
  try {
    await drain(peer, {
      format: options.format,
      sink,
      ...(sources === undefined ? {} : { sources }),
      onBatch: (batch) => {
        for (const missed of received.take(batch, sources)) {
          const { sourceId, upTo } = missed;
          const sentence = `${span(1, upTo, "datum", "data")} of ${sourceId} went before the start`;
          reporter.warn("missed", { ...missed }, sentence);
        }
      },
    });
    await sink.close();
  } catch (error) {
    if (!isAbort(error)) throw error;
    reporter.note("left", {}, "the reader of the output is gone; leaving");
    return signals.exitCode(EXIT.ok);
  } finally {
    stopFollowing();
  }
  if (signals.received !== undefined) {
    reporter.note("left", { ...received.totals }, `left after ${received}`);
    return signals.exitCode(EXIT.ok);
  }
  sayDone(peer, received, performance.now() - beganMs, context);
  await peer.closed;
  return received.isWhole ? EXIT.ok : EXIT.dataLost;
}

function sayDone(
  peer: EnginePeer,
  received: Received,
  elapsedMs: number,
  { reporter }: RunContext,
): void {
  const { traffic } = peer.status();
  const share = traffic.bytesFromPeers / (traffic.bytesFromPeers + traffic.bytesFromSource || 1);
  const { startedAt, gaps, restarts } = received;
  const loss =
    (gaps === 0 ? "" : `, ${count(gaps, "gap", "gaps")}`) +
    (restarts === 0 ? "" : `, ${count(restarts, "restart", "restarts")} of the source`);
  reporter.note(
    "done",
    { ...received.totals, startedAt, gaps, restarts, elapsedMs: Math.round(elapsedMs), traffic },
    `done: ${received} in ${secondsText(elapsedMs)}, ${percentText(share)} from peers${loss}`,
  );
}

function progressOf(
  peer: EnginePeer,
  received: Received,
): { fields: Record<string, unknown>; sentence: string } {
  const status = peer.status();
  const { missing, lagMs, fragmentsHeld, neighbours, traffic, heldBackBy } = status;
  const held = heldBackBy === undefined ? "" : `, ${heldSentence(heldBackBy)}`;
  const noNewsMs = noNewsWorthTelling(status);
  const { rate, byteRate } = received.rates();
  return {
    fields: {
      ...received.totals,
      dataPerSecond: Math.round(rate),
      bytesPerSecond: Math.round(byteRate),
      fragmentsHeld,
      missing,
      lagMs,
      noNewsMs,
      neighbours: neighbours.length,
      heldBackBy,
      traffic,
    },
    sentence: `${received}, ${countText(rate)} data/s, ${bytesText(byteRate)}/s, ${countText(
      missing,
    )} missing, lag ${Math.round(lagMs)} ms${noNewsSentence(noNewsMs)}, ${count(neighbours.length, "neighbour", "neighbours")}${held}`,
  };
}

function restartSentence(epoch: number, before: PeerEvents["restarted"]["before"]): string {
  const came = before.sources.map(({ sourceId, last }) => `${sourceId} up to ${countText(last)}`);
  const had = came.length === 0 ? "nothing came" : `came ${came.join(", ")}`;
  // Another overlay counts from 1 again: only in the same one is an epoch of before a lower number.
  const where = epoch > before.sessionEpoch ? `in epoch ${epoch}` : "in another overlay";
  return `the source started over, ${where}: of all it sent before that ${had}; what it sent beyond is lost, unless it is sent again`;
}
