/**
 * A peer of the demo, as a process of its own: joins like any peer, digests what it gets per data
 * source, and tells its parent how it goes. It writes no output; its data reach nobody else.
 */

import { LocalUsageError, Mp2pError } from "../../base/errors.ts";
import { US_PER_MS } from "../../base/units.ts";
import type { EnginePeer } from "../../host/engine-types.ts";
import { createEngine } from "../../host/node-engine.ts";
import type { DemoPeerOptions } from "../demo-command.ts";
import { EXIT, type ExitCode, exitCodeOf } from "../exit.ts";
import { Received } from "../received.ts";
import { sentenceOf } from "../reporter.ts";
import { DataDigest } from "./digest.ts";
import { Lags } from "./lags.ts";
import { DEMO_WINDOW_BYTES, type PeerMessage, type PeerStatus } from "./peer-messages.ts";

const STATUS_MS = 250;
/** Plenty for a stream of a few megabytes, and little for many processes. */
const MEMORY_MIB = 32;

export async function runDemoPeer(options: DemoPeerOptions): Promise<ExitCode> {
  const { server, title } = options;
  if (server === undefined || title === undefined || process.send === undefined) {
    throw new LocalUsageError("USAGE", { detail: "demo-peer is started by mp2p demo only" });
  }
  // Without its parent a peer of the demo has no purpose. Ctrl-C reaches parent and children alike:
  // the parent decides.
  process.on("disconnect", () => process.exit(EXIT.failure));
  process.on("SIGINT", () => undefined);
  const engine = await createEngine({ memoryMiB: MEMORY_MIB });
  try {
    const peer = await engine.join({
      server,
      title,
      node: { windowBytes: DEMO_WINDOW_BYTES },
    });
    await take(peer, engine.peerId);
    return EXIT.ok;
  } catch (error) {
    const known = error instanceof Mp2pError;
    await tell({
      kind: "failed",
      code: known ? error.code : "INTERNAL",
      message: known ? sentenceOf(error) : String(error),
    });
    return exitCodeOf(error);
  } finally {
    await engine.close();
    process.disconnect();
  }
}

interface Taken {
  first: number;
  last: number;
  readonly digest: DataDigest;
}

async function take(peer: EnginePeer, peerId: string): Promise<void> {
  const received = new Received();
  const lags = new Lags();
  const sources = new Map<string, Taken>();
  let gaps = 0;
  peer.on("gap", () => {
    gaps++;
  });
  peer.on("started", ({ index }) => void tell({ kind: "started", peerId, startedAt: index }));
  const timer = setInterval(() => void tell(statusOf(peer, received, lags)), STATUS_MS);
  try {
    for await (const batch of peer.batches()) {
      received.take(batch);
      const nowUs = (performance.timeOrigin + performance.now()) * US_PER_MS;
      for (let i = 0; i < batch.count; i++) {
        const sourceId = batch.sourceIdOf(i);
        const sequence = batch.sequenceOf(i);
        let taken = sources.get(sourceId);
        if (taken === undefined) {
          taken = { first: sequence, last: sequence, digest: new DataDigest() };
          sources.set(sourceId, taken);
        }
        taken.last = sequence;
        taken.digest.add(batch.payloadOf(i));
        lags.add((nowUs - batch.timestampUsOf(i)) / US_PER_MS);
      }
    }
  } finally {
    clearInterval(timer);
  }
  await tell({
    kind: "completed",
    status: statusOf(peer, received, lags),
    gaps,
    digests: [...sources].map(([sourceId, { first, last, digest }]) => ({
      sourceId,
      first,
      last,
      digest: digest.hex,
    })),
  });
  await peer.closed;
}

function statusOf(peer: EnginePeer, received: Received, lags: Lags): PeerStatus {
  const { fragmentsHeld, missing, consumedTo, neighbours, traffic } = peer.status();
  return {
    kind: "status",
    fragmentsHeld,
    consumed: consumedTo,
    missing,
    data: received.totals.data,
    dataPerSecond: received.rates().rate,
    lagP50Ms: lags.percentile(0.5),
    lagP99Ms: lags.percentile(0.99),
    bytesFromSource: traffic.bytesFromSource,
    bytesFromPeers: traffic.bytesFromPeers,
    fragmentsFromSource: traffic.fragmentsFromSource,
    fragmentsFromPeers: traffic.fragmentsFromPeers,
    neighbours: neighbours.length,
  };
}

function tell(message: PeerMessage): Promise<void> {
  return new Promise((resolve) => {
    if (process.connected) process.send?.(message, () => resolve());
    else resolve();
  });
}
