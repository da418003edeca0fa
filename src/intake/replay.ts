/**
 * The example files as data sources: real measurements, replayed at their own pace or faster.
 *
 * Pure in time: the caller says what time it is, the replayer says what is due by then and when to
 * ask again. Nothing is measured, invented or computed here: each datum is one line of JSON with a
 * time and a value that stand in the file.
 */

import { assert } from "../base/assert.ts";
import { LocalUsageError } from "../base/errors.ts";

export interface ReplayEvent {
  /** After the beginning of the source, in the time of the measurements; rising within a source. */
  readonly atMs: number;
  /** One line of JSON. */
  readonly payload: Uint8Array;
}

export interface ReplaySource {
  readonly sourceId: string;
  /** For people: what is measured, where, in which unit. */
  readonly description: string;
  readonly contentType: "application/json";
  readonly events: readonly ReplayEvent[];
}

export interface ReplayDatum {
  readonly sourceId: string;
  readonly payload: Uint8Array;
  /** When it was due, on the caller's clock. */
  readonly atMs: number;
}

const MEASUREMENTS = {
  pressure: { word: "air pressure", unit: "hPa" },
  temperature: { word: "temperature", unit: "degrees Celsius" },
  wind: { word: "wind speed", unit: "m/s" },
} as const;
type Measurement = keyof typeof MEASUREMENTS;
const QUARTERS = ["q1", "q2", "q3", "q4"] as const;

const encoder = new TextEncoder();

/**
 * Twelve data sources from the hourly normals of Seattle: one for each measurement and quarter of
 * the year, `seattle-temperature-q1` and so on. The quarters run side by side, an hour an event.
 * Throws INPUT_MALFORMED naming the line.
 */
export function weatherSources(csvText: string): ReplaySource[] {
  const [header = "", ...lines] = csvText.split(/\r?\n/);
  const columns = header.split(",");
  const events = new Map<string, ReplayEvent[]>();
  const beginnings = new Map<string, number>();
  const dateColumn = columnOf(columns, "date");
  const measurements = Object.keys(MEASUREMENTS) as Measurement[];
  const measurementColumns = measurements.map((name) => columnOf(columns, name));
  for (const [i, line] of lines.entries()) {
    if (line === "") continue;
    const values = line.split(",");
    const time = values[dateColumn] ?? "";
    // The file's local times have no zone; as UTC their distances are exact.
    const timeMs = Date.parse(`${time}Z`);
    if (Number.isNaN(timeMs)) throw malformed(`line ${i + 2}: no time`);
    const quarter = QUARTERS[Math.floor(new Date(timeMs).getUTCMonth() / 3)];
    assert(quarter !== undefined, "a month belongs to a quarter");
    const beganMs = beginnings.get(quarter) ?? timeMs;
    beginnings.set(quarter, beganMs);
    for (const [m, name] of measurements.entries()) {
      const value = values[measurementColumns[m] ?? -1] ?? "";
      if (value === "" || !Number.isFinite(Number(value))) {
        throw malformed(`line ${i + 2}: no ${name}`);
      }
      append(events, `seattle-${name}-${quarter}`, {
        atMs: timeMs - beganMs,
        payload: encodeLine({ time, [name]: Number(value) }),
      });
    }
  }
  return measurements.flatMap((name) =>
    QUARTERS.map((quarter) => ({
      sourceId: `seattle-${name}-${quarter}`,
      description: `Seattle, ${MEASUREMENTS[name].word} in ${MEASUREMENTS[name].unit}, ${quarter}`,
      contentType: "application/json" as const,
      events: events.get(`seattle-${name}-${quarter}`) ?? [],
    })),
  );
}

/**
 * One data source from the week of earthquakes, `usgs-earthquakes`: an event is a datum, in order of
 * event time. Throws INPUT_MALFORMED.
 */
export function earthquakeSource(jsonText: string): ReplaySource {
  const quakes = earthquakes(jsonText).toSorted((a, b) => a.timeMs - b.timeMs);
  const beganMs = quakes[0]?.timeMs ?? 0;
  return {
    sourceId: "usgs-earthquakes",
    description: "Worldwide, seismic events, magnitude, position and depth in km",
    contentType: "application/json",
    events: quakes.map(({ timeMs, line }) => ({
      atMs: timeMs - beganMs,
      payload: encodeLine(line),
    })),
  };
}

export interface ReplayOptions {
  /** When the replay begins, on the caller's clock. */
  readonly startMs: number;
  /** How much faster than the measurements, above 0; 3,600 plays an hour in a second. */
  readonly speed: number;
}

interface ScheduledDatum extends ReplayDatum {
  readonly sourceNumber: number;
}

/** Replays sources side by side, each from its beginning on. Throws USAGE for a senseless speed. */
export class Replayer {
  readonly #schedule: readonly ScheduledDatum[];
  #position = 0;

  constructor(sources: readonly ReplaySource[], { startMs, speed }: ReplayOptions) {
    if (!(speed > 0 && Number.isFinite(speed))) {
      throw new LocalUsageError("USAGE", { detail: `speed ${speed}: a number above 0` });
    }
    this.#schedule = sources
      .flatMap(({ sourceId, events }, sourceNumber) =>
        events.map(({ atMs, payload }) => ({
          sourceId,
          sourceNumber,
          payload,
          atMs: startMs + atMs / speed,
        })),
      )
      .sort((a, b) => a.atMs - b.atMs || a.sourceNumber - b.sourceNumber);
  }

  /** The next datum due by `nowMs`; undefined when none is. Each datum comes once. */
  take(nowMs: number): ReplayDatum | undefined {
    const next = this.#schedule[this.#position];
    if (next === undefined || next.atMs > nowMs) return undefined;
    this.#position++;
    return { sourceId: next.sourceId, payload: next.payload, atMs: next.atMs };
  }

  /** When the next datum is due; Infinity at the end. */
  get deadlineMs(): number {
    return this.#schedule[this.#position]?.atMs ?? Number.POSITIVE_INFINITY;
  }

  /** Data of the whole replay, and those not taken yet. */
  get dataCount(): number {
    return this.#schedule.length;
  }

  get remainingCount(): number {
    return this.#schedule.length - this.#position;
  }

  /** When the last datum is due; -Infinity when there is none. */
  get endMs(): number {
    return this.#schedule.at(-1)?.atMs ?? Number.NEGATIVE_INFINITY;
  }
}

interface Earthquake {
  readonly timeMs: number;
  readonly line: Record<string, unknown>;
}

function earthquakes(jsonText: string): Earthquake[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(jsonText);
  } catch (cause) {
    throw malformed("not JSON", cause);
  }
  const features = field(parsed, "features");
  if (!Array.isArray(features)) throw malformed("no features");
  return features.map((feature: unknown, i) => {
    const properties = field(feature, "properties");
    const timeMs = field(properties, "time");
    const coordinates = field(field(feature, "geometry"), "coordinates");
    if (
      typeof timeMs !== "number" ||
      Number.isNaN(new Date(timeMs).getTime()) ||
      !Array.isArray(coordinates)
    ) {
      throw malformed(`feature ${i}: no time or no position`);
    }
    const [longitude, latitude, depthKm] = coordinates;
    return {
      timeMs,
      line: {
        time: new Date(timeMs).toISOString(),
        magnitude: field(properties, "mag"),
        place: field(properties, "place"),
        type: field(properties, "type"),
        longitude,
        latitude,
        depthKm,
        id: field(feature, "id"),
      },
    };
  });
}

function field(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return (value as Record<string, unknown>)[name];
}

function columnOf(columns: readonly string[], name: string): number {
  const column = columns.indexOf(name);
  if (column < 0) throw malformed(`no column ${name}`);
  return column;
}

function append(events: Map<string, ReplayEvent[]>, sourceId: string, event: ReplayEvent): void {
  const list = events.get(sourceId);
  if (list === undefined) events.set(sourceId, [event]);
  else list.push(event);
}

function encodeLine(value: Record<string, unknown>): Uint8Array {
  return encoder.encode(`${JSON.stringify(value)}\n`);
}

function malformed(detail: string, cause?: unknown): LocalUsageError {
  return new LocalUsageError("INPUT_MALFORMED", { detail, cause });
}
