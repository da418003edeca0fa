/**
 * createFeed: a data source that is linked to a source peer on another machine (R11), with its own
 * loop and sockets. No engine is needed: it neither joins an overlay nor holds fragments.
 */

import { LocalUsageError, OperationError } from "../base/errors.ts";
import { FEED_KEEP_BYTES_DEFAULT } from "../base/limits.ts";
import { type Address, parseAddress } from "../base/machine.ts";
import { seededRng } from "../base/rng.ts";
import { MIB } from "../base/units.ts";
import { FeedMachine } from "../peer/feed/feed-machine.ts";
import { HeapArena } from "../transport/heap-arena.ts";
import { TcpTransport } from "../transport/tcp.ts";
import { WsClientTransport } from "../transport/ws-client.ts";
import { FeedHandle } from "./engine-feed.ts";
import type { DataFeed, DataFeedOptions } from "./engine-feed-types.ts";
import { FEED_OPTIONS } from "./engine-options.ts";
import { JobRunner } from "./job-runner.ts";
import { MachineHost } from "./machine-host.ts";
import { systemEntropy } from "./node-identity.ts";
import { checkOptions } from "./options.ts";
import { checkPlaintext } from "./plaintext.ts";

/** Data may wait so long for others when the link is busy. */
const MAX_DELAY_MS = 5;
const RETRY_MS = 60_000;
/** The present link and those that are about to be closed. */
const LINKS = 4;

/**
 * Links up and registers (R11.e); resolves when the source peer has said where to go on. Errors:
 * USAGE, PLAINTEXT_REFUSED, UNREACHABLE and the like after retryMs, what the source peer refuses with
 * (SOURCE_REGISTERED, NOT_OWNER, SOURCE_ENDED ...), AbortError.
 */
export async function createFeed(options: DataFeedOptions): Promise<DataFeed> {
  checkOptions("createFeed", options, FEED_OPTIONS);
  const to = feedAddress(options.to);
  checkPlaintext(options.allowPlaintext, [["the source peer at", to.host]]);
  if (options.signal?.aborted === true) throw abortError(options.signal);
  const seed = systemEntropy.bytes(4);
  const machine = new FeedMachine({
    to,
    sourceId: options.sourceId,
    dataId: options.dataId ?? "",
    contentType: options.contentType ?? "",
    description: options.description ?? "",
    held: options.held ?? 0,
    numbering: options.numbering ?? 0,
    passesLost: options.passesLost ?? false,
    keepBytes: options.keepMiB === undefined ? FEED_KEEP_BYTES_DEFAULT : options.keepMiB * MIB,
    maxDelayMs: options.maxDelayMs ?? MAX_DELAY_MS,
    retryMs: options.retryMs ?? RETRY_MS,
    rng: seededRng(new DataView(seed.buffer, seed.byteOffset).getUint32(0)),
    entropy: systemEntropy,
  });
  const transports = [new TcpTransport(new HeapArena(LINKS)), new WsClientTransport()];
  const host = new MachineHost(machine, {
    transports,
    jobs: new JobRunner({ signatures: { sign: undefined, verify: () => false } }),
    onEvent: (event) => {
      if (event.kind === "linkLost") {
        options.logger?.info({ code: event.code, detail: event.detail }, "link lost");
      }
      handle.observe(event);
    },
    onCrash: (error) => {
      handle.fail(new OperationError("INTERNAL", { detail: String(error), cause: error }));
    },
  });
  const handle = new FeedHandle(options.sourceId, machine, {
    command: (command) => host.command(command),
    shutdown: async () => {
      // What was said last is on its way before the sockets go.
      await new Promise((resolve) => setImmediate(resolve));
      host.close();
      await Promise.allSettled(transports.map((transport) => transport.shutdown()));
    },
  });
  const abort = (): void => void handle.close();
  options.signal?.addEventListener("abort", abort, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      const stopNotes = handle.on("linkLost", ({ code, detail }) => {
        options.onNote?.(`${code}${detail === "" ? "" : ` ${detail}`}: trying again`, {
          code,
          detail,
        });
      });
      handle.on("registered", () => {
        stopNotes();
        resolve();
      });
      handle.on("failed", ({ code, detail }) => reject(new OperationError(code, { detail })));
      options.signal?.addEventListener("abort", () => reject(abortError(options.signal)), {
        once: true,
      });
      host.command({ kind: "start" });
    });
  } catch (error) {
    options.signal?.removeEventListener("abort", abort);
    await handle.close();
    throw error;
  }
  return handle;
}

/** Throws LocalUsageError USAGE. */
export function feedAddress(text: string): Address {
  const address = parseAddress(text.includes("://") ? text : `tcp://${text}`);
  if (address === undefined || address.port === 0 || address.transport === "memory") {
    throw new LocalUsageError("USAGE", {
      detail: `${text} is no address of a source peer; it looks like 192.0.2.1:7950 or ws://192.0.2.1:7951`,
    });
  }
  return address;
}

function abortError(signal: AbortSignal | undefined): Error {
  const error = new DOMException("The call was aborted by its signal.", "AbortError");
  if (signal?.reason !== undefined) error.cause = signal.reason;
  return error;
}
