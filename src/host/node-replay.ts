/** The example measurements as data sources of a session, replayed on this machine's clock. */

import { readFile } from "node:fs/promises";
import {
  earthquakeSource,
  type ReplayDatum,
  Replayer,
  type ReplaySource,
  weatherSources,
} from "../intake/replay.ts";
import type { EngineSource } from "./engine-types.ts";

export type { ReplaySource };

const DATA_URL = new URL("../../examples/data/", import.meta.url);

/** Thirteen data sources: twelve of Seattle's weather, one of earthquakes. */
export async function exampleSources(): Promise<ReplaySource[]> {
  const read = (name: string): Promise<string> => readFile(new URL(name, DATA_URL), "utf8");
  const [weather, earthquakes] = await Promise.all([
    read("seattle-weather-hourly-normals.csv"),
    read("earthquakes.json"),
  ]);
  return [...weatherSources(weather), earthquakeSource(earthquakes)];
}

export interface ReplayOptions {
  /** How much faster than the measurements. */
  readonly speed: number;
  /** Ends the replay where it is. */
  readonly signal: AbortSignal;
  /** Called after each datum that the session took, in order. */
  readonly onWritten?: (datum: ReplayDatum) => void;
}

/**
 * Writes each measurement when it is due, as late as the session makes it wait. Resolves after the
 * last one, or when aborted. Rejects when the session fails.
 */
export async function replay(
  session: EngineSource,
  sources: readonly ReplaySource[],
  { speed, signal, onWritten }: ReplayOptions,
): Promise<void> {
  const replayer = new Replayer(sources, { startMs: performance.now(), speed });
  while (!signal.aborted && replayer.remainingCount > 0) {
    const datum = replayer.take(performance.now());
    if (datum === undefined) {
      await pause(replayer.deadlineMs - performance.now(), signal);
      continue;
    }
    const source = session.dataSource(datum.sourceId);
    while (source.write(datum.payload).accepted === 0) {
      await source.writable();
      if (signal.aborted) return;
    }
    onWritten?.(datum);
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, Math.max(0, ms));
    signal.addEventListener("abort", done, { once: true });
  });
}
