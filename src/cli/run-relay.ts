/**
 * Runs `mp2p join --relay`: a member that passes fragments on and writes nothing. It stays until END
 * and for its neighbours after that, and tells how much went through it.
 */

import { OperationError } from "../base/errors.ts";
import type { Engine, EnginePeer, PeerEvents } from "../host/engine-types.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import type { Progress } from "./reporter.ts";
import type { RunContext } from "./run-kit.ts";
import { linkSentence } from "./run-source.ts";
import { bytesText, count, countText, secondsText, span } from "./units.ts";

/** Shorter silence is usual. */
const NO_NEWS_MS = 5_000;

export async function relay(
  engine: Engine,
  peer: EnginePeer,
  { reporter, signals }: RunContext,
): Promise<ExitCode> {
  const { title, overlayId } = peer;
  const beganMs = performance.now();
  let startedAt = 0;
  let gaps = 0;
  reporter.note("joined", { title, overlayId, peerId: engine.peerId }, `relays "${title}"`);
  peer.on("started", ({ index }) => {
    startedAt = index;
    reporter.note("started", { startedAt }, `starts at fragment ${countText(index)}`);
  });
  peer.on("gap", (gap) => {
    gaps++;
    reporter.warn("gap", { gap }, gapSentence(gap));
  });
  peer.on("link", (link) => reporter.note("link", { ...link }, linkSentence(link)));
  peer.on("note", (text) => reporter.note("note", { text }, text));
  signals.onFirst(() => void peer.leave());
  const stopFollowing = reporter.follow(() => progressOf(engine, peer));
  try {
    await sessionOver(peer);
  } finally {
    stopFollowing();
  }
  const { traffic } = peer.status();
  const elapsedMs = performance.now() - beganMs;
  const left = signals.received !== undefined;
  reporter.note(
    left ? "left" : "done",
    { startedAt, gaps, elapsedMs: Math.round(elapsedMs), traffic },
    `${left ? "left" : "done"}: ${passed(traffic)} in ${secondsText(elapsedMs)}`,
  );
  if (left) return signals.exitCode(EXIT.ok);
  return gaps > 0 ? EXIT.dataLost : EXIT.ok;
}

/** Rejects with what the session failed with. */
async function sessionOver(peer: EnginePeer): Promise<void> {
  let stop = (): void => undefined;
  const failed = new Promise<never>((_, reject) => {
    stop = peer.on("failed", ({ code, detail }) => {
      reject(new OperationError(code, detail === "" ? {} : { detail }));
    });
  });
  try {
    await Promise.race([peer.closed, failed]);
  } finally {
    stop();
  }
}

function progressOf(engine: Engine, peer: EnginePeer): Progress {
  const status = peer.status();
  const { missing, lagMs, fragmentsHeld, neighbours, traffic } = status;
  const noNewsMs = noNewsWorthTelling(status);
  const { rateBytesPerSecond } = engine.status().upload;
  return {
    fields: { fragmentsHeld, missing, lagMs, noNewsMs, neighbours: neighbours.length, traffic },
    sentence: `${passed(traffic)}, ${bytesText(rateBytesPerSecond)}/s out, ${countText(
      missing,
    )} missing${noNewsSentence(noNewsMs)}, ${count(neighbours.length, "neighbour", "neighbours")}`,
  };
}

function passed(traffic: ReturnType<EnginePeer["status"]>["traffic"]): string {
  const { bytesFromPeers, bytesFromSource, bytesToPeers } = traffic;
  return `${bytesText(bytesFromPeers + bytesFromSource)} in, ${bytesText(bytesToPeers)} out`;
}

/** How long nothing was learned from anybody, where that makes "0 missing" mean little. */
export function noNewsWorthTelling({
  noNewsMs,
}: ReturnType<EnginePeer["status"]>): number | undefined {
  return noNewsMs > NO_NEWS_MS ? Math.round(noNewsMs) : undefined;
}

export function noNewsSentence(noNewsMs: number | undefined): string {
  if (noNewsMs === undefined) return "";
  return `, nothing new learned for ${Math.round(noNewsMs / 1_000)} s (no link to the source)`;
}

export function gapSentence(gap: PeerEvents["gap"]): string {
  if (gap.kind === "fragments") {
    const fragments = span(gap.from, gap.to, "fragment", "fragments");
    return `gap: ${fragments} ${gap.from === gap.to ? "is" : "are"} lost`;
  }
  const data = span(gap.from, gap.to, "datum", "data");
  return `gap: ${data} of ${gap.sourceId} ${gap.from === gap.to ? "is" : "are"} lost`;
}
