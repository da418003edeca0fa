import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  earthquakeSource,
  Replayer,
  type ReplaySource,
  weatherSources,
} from "../../src/intake/replay.ts";
import { bytesOf } from "./cutting.ts";

const example = (name: string): string =>
  readFileSync(new URL(`../../examples/data/${name}`, import.meta.url), "utf8");
const weatherCsv = example("seattle-weather-hourly-normals.csv");
const earthquakesJson = example("earthquakes.json");

const HOUR_MS = 3_600_000;
const text = (payload: Uint8Array): string => new TextDecoder().decode(payload);
const source = (sourceId: string, atMs: readonly number[]): ReplaySource => ({
  sourceId,
  description: sourceId,
  contentType: "application/json",
  events: atMs.map((at, i) => ({ atMs: at, payload: bytesOf(`${sourceId}:${i}\n`) })),
});

describe("weatherSources", () => {
  it("makes twelve data sources that hold every value of the file, once and in order", () => {
    const sources = weatherSources(weatherCsv);
    expect(sources.length).toBe(12);
    expect(new Set(sources.map(({ sourceId }) => sourceId)).size).toBe(12);
    const rows = weatherCsv.trim().split("\n").slice(1);
    for (const [column, name] of ["pressure", "temperature", "wind"].entries()) {
      const replayed = sources
        .filter(({ sourceId }) => sourceId.startsWith(`seattle-${name}-`))
        .flatMap(({ events }) => events.map(({ payload }) => text(payload)));
      expect(replayed).toEqual(
        rows.map((row) => {
          const values = row.split(",");
          return `{"time":"${values[0]}","${name}":${Number(values[column + 1])}}\n`;
        }),
      );
    }
  });

  it("plays an event an hour, each quarter from its own beginning", () => {
    for (const { sourceId, events } of weatherSources(weatherCsv)) {
      expect(events.length, sourceId).toBeGreaterThan(2_100);
      for (const [i, { atMs }] of events.entries()) expect(atMs, sourceId).toBe(i * HOUR_MS);
    }
  });

  it.each([
    ["an empty text", "", "no column date"],
    ["a missing column", "date,pressure,wind\n", "no column temperature"],
    ["a missing value", "date,pressure,temperature,wind\n2010-01-01T01:00:00,1,,3\n", "line 2"],
    [
      "a value that is no number",
      "date,pressure,temperature,wind\n2010-01-01T01:00:00,1,x,3\n",
      "line 2",
    ],
    ["a time that is none", "date,pressure,temperature,wind\nyesterday,1,2,3\n", "line 2: no time"],
  ])("refuses %s", (_name, csv, detail) => {
    expect(() => weatherSources(csv)).toThrow(
      expect.objectContaining({ code: "INPUT_MALFORMED", detail: expect.stringContaining(detail) }),
    );
  });
});

describe("earthquakeSource", () => {
  it("holds every event of the file in order of event time", () => {
    const { features } = JSON.parse(earthquakesJson) as {
      features: { id: string; properties: { time: number; mag: number } }[];
    };
    const { events } = earthquakeSource(earthquakesJson);
    expect(events.length).toBe(1_707);
    const expected = features.toSorted((a, b) => a.properties.time - b.properties.time);
    const beganMs = expected[0]?.properties.time ?? Number.NaN;
    for (const [i, { atMs, payload }] of events.entries()) {
      const feature = expected[i];
      const line = JSON.parse(text(payload)) as { id: string; time: string; magnitude: number };
      expect(line.id).toBe(feature?.id);
      expect(line.magnitude).toBe(feature?.properties.mag);
      expect(Date.parse(line.time)).toBe(feature?.properties.time);
      expect(beganMs + atMs).toBe(feature?.properties.time);
    }
  });

  it.each([
    ["no JSON", "{", "not JSON"],
    ["no features", "{}", "no features"],
    ["a feature without time", '{"features":[{}]}', "feature 0"],
    [
      "a time beyond the calendar",
      '{"features":[{"properties":{"time":1e300},"geometry":{"coordinates":[1,2,3]}}]}',
      "feature 0",
    ],
  ])("refuses %s", (_name, json, detail) => {
    expect(() => earthquakeSource(json)).toThrow(
      expect.objectContaining({ code: "INPUT_MALFORMED", detail: expect.stringContaining(detail) }),
    );
  });
});

describe("Replayer", () => {
  it("gives what is due, in order of time, each datum once", () => {
    const replayer = new Replayer([source("a", [0, 10, 20]), source("b", [5, 10])], {
      startMs: 1_000,
      speed: 2,
    });
    expect(replayer.deadlineMs).toBe(1_000);
    expect(replayer.endMs).toBe(1_010);
    expect(replayer.take(999)).toBeUndefined();
    const taken: string[] = [];
    for (let nowMs = 1_000; replayer.remainingCount > 0; nowMs = replayer.deadlineMs) {
      for (let due = replayer.take(nowMs); due !== undefined; due = replayer.take(nowMs)) {
        expect(due.atMs).toBe(nowMs);
        taken.push(`${due.atMs} ${text(due.payload).trim()}`);
      }
    }
    expect(taken).toEqual(["1000 a:0", "1002.5 b:0", "1005 a:1", "1005 b:1", "1010 a:2"]);
    expect(replayer.deadlineMs).toBe(Number.POSITIVE_INFINITY);
    expect(replayer.take(1e9)).toBeUndefined();
  });

  it("does not depend on when it is asked", () => {
    const times = fc
      .array(fc.nat(1_000), { maxLength: 20 })
      .map((list) => list.sort((a, b) => a - b));
    const lists = fc.array(times, { maxLength: 4 });
    const asks = fc
      .array(fc.nat(3_000), { maxLength: 20 })
      .map((list) => list.sort((a, b) => a - b));
    fc.assert(
      fc.property(lists, asks, fc.constantFrom(0.5, 1, 7), (sourceTimes, askedMs, speed) => {
        const sources = sourceTimes.map((list, i) => source(`s${i}`, list));
        const atOnce = new Replayer(sources, { startMs: 0, speed });
        const stepwise = new Replayer(sources, { startMs: 0, speed });
        const all = Array.from({ length: atOnce.dataCount }, () => atOnce.take(1e9));
        const steps: typeof all = [];
        for (const nowMs of [...askedMs, 1e9]) {
          for (let due = stepwise.take(nowMs); due !== undefined; due = stepwise.take(nowMs)) {
            expect(due.atMs).toBeLessThanOrEqual(nowMs);
            steps.push(due);
          }
        }
        expect(steps).toEqual(all);
        expect(all.length).toBe(sourceTimes.flat().length);
      }),
    );
  });

  it("plays all examples: 27,984 data of 13 sources", () => {
    const sources = [...weatherSources(weatherCsv), earthquakeSource(earthquakesJson)];
    const replayer = new Replayer(sources, { startMs: 0, speed: HOUR_MS });
    expect(replayer.dataCount).toBe(3 * 8_759 + 1_707);
    expect(replayer.endMs).toBe(2_207);
  });

  it.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])("refuses speed %s", (speed) => {
    expect(() => new Replayer([], { startMs: 0, speed })).toThrow(
      expect.objectContaining({ code: "USAGE" }),
    );
  });

  it("is done at once without sources", () => {
    const replayer = new Replayer([], { startMs: 0, speed: 1 });
    expect(replayer.deadlineMs).toBe(Number.POSITIVE_INFINITY);
    expect(replayer.endMs).toBe(Number.NEGATIVE_INFINITY);
  });
});
