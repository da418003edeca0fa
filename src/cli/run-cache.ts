/** Runs `mp2p cache`: virtual peers until a signal. */

import { ERRORS, OperationError } from "../base/errors.ts";
import { formatAddress } from "../base/machine.ts";
import type { CacheServerReport, RunningCacheServer } from "../host/node-cache-types.ts";
import { readServiceKey } from "../host/node-service-key.ts";
import type { CacheOptions } from "./cache-command.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import type { Progress } from "./reporter.ts";
import { engineOptions, type RunContext, runContext, serverUrls } from "./run-kit.ts";
import { bytesText, count, countText } from "./units.ts";

export async function runCache(options: CacheOptions): Promise<ExitCode> {
  const urls = serverUrls(options);
  const context = await runContext("cache", options);
  const { signals, reporter } = context;
  const { startCacheServer } = await import("../host/node-cache.ts");
  const { label, virtualPeers, overlaysPerPeer, lingerMs, stallMs } = options;
  const cache = await startCacheServer({
    ...urls,
    ...engineOptions(options, context),
    serviceKey: readServiceKey(options.serviceKeyFile, true),
    label,
    virtualPeers,
    overlaysPerPeer,
    node: {
      ...(lingerMs === undefined ? {} : { lingerMs }),
      ...(stallMs === undefined ? {} : { stallMs }),
    },
  });
  try {
    const refused = tell(cache, urls.oms ?? urls.server ?? "", context);
    const stopFollowing = reporter.follow(() => progressOf(cache.status()));
    const stopped = new Promise<void>((resolve) => signals.onFirst(() => resolve()));
    try {
      await Promise.race([refused, stopped]);
    } finally {
      stopFollowing();
    }
    reporter.note("stopping", {}, "leaving all sessions; a second signal ends at once");
  } finally {
    await cache.close();
  }
  return signals.exitCode(EXIT.ok);
}

/** Says what happens. Rejects when the overlay server refuses the offer for good at first. */
function tell(cache: RunningCacheServer, omsUrl: string, context: RunContext): Promise<never> {
  const { reporter } = context;
  const { cacheServerId } = cache;
  let isReady = false;
  cache.on("registered", () => {
    const peers = cache.virtualPeers.map(({ peerId, listening }) => ({
      peerId,
      listening: listening.map(formatAddress),
    }));
    if (isReady) {
      reporter.note("registered", {}, "the overlay server has the offer again");
      return;
    }
    isReady = true;
    const places = peers.flatMap(({ listening }) => listening).join(", ");
    reporter.result(
      "ready",
      { cacheServerId, oms: omsUrl, virtualPeers: peers, pid: process.pid },
      `ready: cache server ${cacheServerId}, ${count(peers.length, "virtual peer", "virtual peers")} at ${places}`,
    );
  });
  cache.on("omsAway", () => {
    reporter.warn(
      "omsAway",
      { oms: omsUrl },
      `no link to the overlay server at ${omsUrl}: trying on`,
    );
  });
  cache.on("ordered", (order) => {
    const { peerId, title, priority } = order;
    const sentence = `virtual peer ${peerId.slice(0, 12)} is ordered into "${title}", priority ${priority}`;
    reporter.note("ordered", { ...order }, sentence);
  });
  cache.on("joined", (place) => {
    const sentence = `virtual peer ${place.peerId.slice(0, 12)} has joined "${place.title}"`;
    reporter.note("joined", { ...place }, sentence);
  });
  cache.on("left", ({ code, detail, ...place }) => {
    const sentence = `virtual peer ${place.peerId.slice(0, 12)} is out of "${place.title}"`;
    if (code === "") reporter.note("left", { ...place }, sentence);
    else {
      const hint = code === "MESSAGE_UNKNOWN" ? "; is the index server elsewhere (--ixs)?" : "";
      const told = detail === "" ? "" : ` (${detail})`;
      const why = `${code}: ${ERRORS[code].sentence}${told}${hint}`;
      reporter.warn("left", { ...place, code, detail }, `${sentence}: ${why}`);
    }
  });
  return new Promise((_, reject) => {
    cache.on("crashed", ({ detail }) => reject(new Error(detail)));
    cache.on("unregistered", ({ code, detail }) => {
      // The cure is another start: with the right key, or to know what that server says now.
      const isFinal = code === "TERM_PASSED" || (!isReady && code === "KEY_REQUIRED");
      if (isFinal) reject(new OperationError(code, { detail }));
      else {
        const why = `${code}: ${ERRORS[code].sentence} (${detail})`;
        reporter.warn("unregistered", { code, detail }, `the offer is refused: ${why}`);
      }
    });
  });
}

function progressOf(status: CacheServerReport): Progress | undefined {
  const { places, registered, virtualPeers } = status;
  const overlays = virtualPeers.flatMap((peer) => peer.overlays);
  if (overlays.length === 0) return undefined;
  const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0);
  const bytesToPeers = sum(overlays.map(({ traffic }) => traffic.bytesToPeers));
  const uploadBytesPerSecond = Math.round(
    sum(virtualPeers.map((peer) => peer.uploadBytesPerSecond)),
  );
  const fragmentsHeld = sum(overlays.map((overlay) => overlay.fragmentsHeld));
  const links = sum(overlays.map(({ neighbours }) => neighbours.length));
  return {
    fields: {
      registered,
      places,
      taken: overlays.length,
      fragmentsHeld,
      links,
      bytesToPeers,
      uploadBytesPerSecond,
    },
    sentence: `${overlays.length} of ${count(places, "place", "places")} taken, ${countText(
      fragmentsHeld,
    )} fragments held, ${count(links, "neighbour", "neighbours")}, ${bytesText(uploadBytesPerSecond)}/s out`,
  };
}
