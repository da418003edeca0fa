/** Runs `mp2p status`: once, or again and again until a signal. */

import { LocalUsageError, Mp2pError, OperationError } from "../base/errors.ts";
import { readServiceKey } from "../host/node-service-key.ts";
import { type OverlayStatus, StatusClient } from "../host/status-client.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import { sentenceOf } from "./reporter.ts";
import { isAbort, type RunContext, runContext } from "./run-kit.ts";
import type { StatusCommandOptions } from "./status-command.ts";
import {
  activityText,
  contributionOf,
  figuresOf,
  peerText,
  roleText,
  statusText,
} from "./status-table.ts";

/** Moves to the top of a terminal and clears it. */
const CLEAR = "\x1b[H\x1b[2J\x1b[3J";

export async function runStatus(options: StatusCommandOptions): Promise<ExitCode> {
  const context = await runContext("status", options);
  const { signals } = context;
  const client = new StatusClient({
    oms: omsUrl(options),
    ...(options.pams === undefined ? {} : { pams: options.pams }),
    serviceKey: readServiceKey(options.serviceKeyFile, true),
    peersMax: options.peers,
    order: options.order,
    allowPlaintext: options.allowPlaintext,
    signal: signals.signal,
  });
  let isRead = true;
  process.stdout.once("error", () => {
    isRead = false;
  });
  do {
    try {
      await show(client, options, context);
    } catch (error) {
      if (isAbort(error)) break;
      const isPassing = error instanceof Mp2pError && error.retryable;
      if (!options.watch || !isPassing) throw error;
      context.reporter.warn("trouble", { code: error.code }, sentenceOf(error));
    }
    if (options.watch) await pause(options.intervalMs, signals.signal);
    // Whoever read along may be gone.
  } while (options.watch && signals.received === undefined && isRead);
  return signals.exitCode(EXIT.ok);
}

function omsUrl({ server, oms }: StatusCommandOptions): string {
  const url = oms ?? server;
  if (url !== undefined) return url;
  throw new LocalUsageError("USAGE", {
    detail: "--server is missing: name the server, e.g. --server ws://127.0.0.1:7900",
  });
}

async function show(
  client: StatusClient,
  options: StatusCommandOptions,
  { reporter }: RunContext,
): Promise<void> {
  if (options.peer !== undefined) {
    const found = await client.peer(options.peer);
    if (found.length === 0) {
      throw new OperationError("UNKNOWN_PEER", { detail: "it reports to no activity server here" });
    }
    if (options.json) {
      for (const { overlay, status } of found) {
        const { overlayId, title } = overlay;
        const contributionPermille = contributionOf(status);
        reporter.result("peer", { overlayId, title, ...status, contributionPermille }, "");
      }
    } else reporter.result("peer", {}, peerText(found));
    return;
  }
  const overlays = await client.overlays();
  const cacheServers = await client.cacheServers();
  if (options.json) {
    for (const each of overlays) tell(each, reporter);
    for (const each of cacheServers) reporter.result("cacheServer", { ...each }, "");
    return;
  }
  const isLive = options.watch && process.stdout.isTTY;
  if (isLive) process.stdout.write(CLEAR);
  reporter.result("status", {}, statusText(overlays, cacheServers));
}

function tell(
  { overlay, activity, trouble }: OverlayStatus,
  reporter: RunContext["reporter"],
): void {
  const registered = activity?.registered;
  reporter.result("overlay", { ...overlay, registered, trouble }, "");
  const { overlayId } = overlay;
  for (const peer of activity?.peers ?? []) {
    const words = { role: roleText(peer.role), activity: activityText(peer.activity) };
    reporter.result("peer", { overlayId, ...figuresOf(peer), ...words }, "");
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
  });
}
