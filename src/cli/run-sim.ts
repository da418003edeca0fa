/** Runs `mp2p sim`: options to a simulation, its report to a table or JSON. */

import { LocalUsageError } from "../base/errors.ts";
import { KIB } from "../base/units.ts";
import { type LargeOptions, simulate, tableOf } from "../host/node-sim.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import { Reporter } from "./reporter.ts";
import type { SimOptions } from "./sim-command.ts";
import { count, secondsText } from "./units.ts";

/** Where there is no live line, a long run says this often how far it is. */
const PROGRESS_MS = 10_000;

/** A fragment's share that is not payload is small; a minute of stream is so many fragments. */
function fragmentsOf(options: SimOptions): number {
  if (options.minutes === undefined) return options.fragments ?? 1_000;
  return Math.max(1, Math.round((60 * options.minutes * options.streamKib) / options.fragmentKib));
}

export function largeOptionsOf(options: SimOptions): Partial<LargeOptions> & { seed: number } {
  return {
    seed: options.seed,
    peers: options.peers,
    delivery: options.delivery,
    fragments: fragmentsOf(options),
    fragmentBytes: options.fragmentKib * KIB,
    streamBytesPerS: options.streamKib * KIB,
    windowBytes: options.windowKib * KIB,
    fanOutMin: options.fanOut[0],
    fanOutMax: options.fanOut[1],
    uploadMin: options.upload[0],
    uploadMax: options.upload[1],
    outboundOnly: options.outboundOnly,
    churnPerMin: options.churn,
    lossPerMin: options.loss,
    silencePerMin: options.silence,
    stallsPerMin: options.stalls,
    partitionsPerMin: options.partitions,
    massLeave: options.massLeave,
    massJoin: options.massJoin,
    joinMs: 1000 * options.joinSeconds,
  };
}

/** How far a simulation is: of its own time, and of that of this machine. */
export function simProgress(
  reporter: Reporter,
  nowMs: () => number,
): (virtualMs: number, received: number, peers: number) => void {
  const beganMs = nowMs();
  const tell = reporter.paced(PROGRESS_MS, nowMs);
  return (virtualMs, received, peers) =>
    tell(() => {
      const wallMs = Math.round(nowMs() - beganMs);
      const fragments = count(received, "fragment", "fragments");
      return {
        fields: { virtualMs: Math.round(virtualMs), received, peers, wallMs },
        sentence: `${secondsText(virtualMs)} of virtual time, ${count(peers, "peer", "peers")}, ${fragments} received, ${secondsText(wallMs)} on this machine`,
      };
    });
}

export async function runSim(options: SimOptions): Promise<ExitCode> {
  const { fragmentKib, streamKib } = options;
  if (fragmentKib > streamKib) {
    throw new LocalUsageError("USAGE", {
      detail:
        `a fragment of ${fragmentKib} KiB takes longer than a second at ${streamKib} KiB a second, ` +
        `and peers wait no longer for one: give --fragment-kib ${streamKib} or less`,
    });
  }
  const { json, quiet } = options;
  const reporter = new Reporter({ command: "sim", json, quiet });
  const { report, wallMs, rssMiB } = simulate({
    options: largeOptionsOf(options),
    progress: simProgress(reporter, () => performance.now()),
    ...(options.log ? { log: (line) => process.stderr.write(`${line}\n`) } : {}),
  });
  reporter.result(
    "sim",
    { ...report, wallMs, rssMiB },
    `${tableOf(report)}\nthis machine: ${(wallMs / 1000).toFixed(1)} s, ${rssMiB} MiB, ${count(report.events, "event", "events")}`,
  );
  // What the simulation itself finds wrong is never a success; a goal missed is, unless asked for.
  const fails = report.violations.length > 0 || (options.goals && !report.ok);
  return fails ? EXIT.failure : EXIT.ok;
}
