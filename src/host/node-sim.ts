/** Runs the simulator with what it does not have itself: a hash and the wall clock. */

import { createHash } from "node:crypto";
import type { LargeOptions } from "../sim/large/options.ts";
import type { LargeReport } from "../sim/large/report.ts";
import { runLarge } from "../sim/large/run.ts";

export { LARGE_DEFAULTS, type LargeOptions } from "../sim/large/options.ts";
export type { LargeReport } from "../sim/large/report.ts";
export { tableOf } from "../sim/large/table.ts";

/** A report with what this machine spent on it; that part differs from run to run. */
export interface SimulationResult {
  readonly report: LargeReport;
  readonly wallMs: number;
  readonly rssMiB: number;
}

export interface SimulationRequest {
  readonly options: Partial<LargeOptions> & { readonly seed: number };
  readonly log?: (line: string) => void;
  /** About every second of virtual time: how far it is, what peers have got, how many there are. */
  readonly progress?: (virtualMs: number, received: number, peers: number) => void;
}

/** Keeps this thread busy until the run is over. */
export function simulate(request: SimulationRequest): SimulationResult {
  const startedMs = performance.now();
  const { progress } = request;
  const report = runLarge({
    options: request.options,
    sha256: (bytes) => new Uint8Array(createHash("sha256").update(bytes).digest()),
    ...(request.log === undefined ? {} : { log: request.log }),
    ...(progress === undefined
      ? {}
      : {
          progress: (virtualMs, { meter, swarm }) => {
            const alive = swarm.members.filter(({ node }) => node.alive);
            progress(virtualMs, meter.dataFrames, Math.max(0, alive.length - 1));
          },
        }),
  });
  return {
    report,
    wallMs: Math.round(performance.now() - startedMs),
    rssMiB: Math.round(process.memoryUsage().rss / 2 ** 20),
  };
}
