/** Versions over time and restarts, R6.c by model; what a store gives back. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as r6 from "../../../src/protocol/r6.ts";
import type { IxsSnapshot } from "../../../src/servers/ixs.ts";
import { Disk, Identity, type ServerDriver } from "../driver.ts";
import { byKey, ixs, removal, signed, versionOf } from "./scene.ts";

/**
 * The model is a register per key: the highest version a client was told of, by acknowledgement or
 * by an answer. It knows nothing of how the server keeps its records.
 */
class VersionModel {
  readonly driver: ServerDriver;
  readonly owner = new Identity();
  link: number;
  /** Highest version acknowledged or served, per data id. */
  readonly known = new Map<string, number>();
  /** Requests sent and not yet answered. */
  open: {
    readonly id: number;
    readonly dataId: string;
    readonly version: number;
    readonly remove: boolean;
  }[] = [];
  served = 0;
  constructor(seed: number) {
    this.driver = ixs({ limits: { requestBurst: 1e6, inFlightPerLink: 1_000 } }, seed);
    this.link = this.driver.link();
  }

  offer(how: "register" | "update" | "remove", dataId: string, version: number): void {
    const { driver, link, owner } = this;
    const remove = how === "remove";
    const id = remove
      ? driver.send(link, r6.REMOVE_INDEX, removal(owner, version, { dataId }))
      : driver.send(link, how === "register" ? r6.REGISTER_INDEX : r6.UPDATE_INDEX, {
          indexFile: signed(owner, { dataId, version }),
        });
    this.open.push({ id, dataId, version, remove });
  }

  finish(count: number): void {
    for (let i = 0; i < count; i++) this.driver.finishOne();
    this.open = this.open.filter(({ id, dataId, version, remove }) => {
      const reply = this.driver.rawReply(this.link, id);
      if (reply === undefined) return true;
      // A removal acknowledged twice may name a version that a re-registration passed meanwhile.
      if (reply[0] !== 0xff && !remove) this.raise(dataId, version);
      return false;
    });
  }

  raise(dataId: string, version: number): void {
    this.known.set(dataId, Math.max(version, this.known.get(dataId) ?? 0));
  }

  /** R6.c: what is served is never older than anything ever acknowledged or served. */
  query(dataId: string): void {
    const requestId = this.driver.send(this.link, r6.QUERY_INDEX, { ...byKey, dataId });
    const reply = this.driver.rawReply(this.link, requestId) ?? [];
    const known = this.known.get(dataId) ?? 0;
    if (reply[0] === 0xff) {
      // Unknown only while nothing was ever acknowledged.
      expect(known).toBe(0);
      return;
    }
    const [encoded] = reply[2] as Uint8Array[];
    const [gone] = reply[3] as number[][];
    const version = Number(versionOf(encoded) ?? gone?.[2]);
    expect(version).toBeGreaterThanOrEqual(known);
    this.raise(dataId, version);
    this.served++;
  }

  crash(): void {
    this.driver.hold = false;
    this.driver.crash();
    this.driver.hold = true;
    this.link = this.driver.link();
    this.open = [];
  }
}

describe("R6.c: never an older version, in any case", () => {
  it("R6.c: over registrations, updates, removals, late and lost writes and restarts", () => {
    const dataId = fc.constantFrom("a", "b");
    const step = fc.oneof(
      fc.record({
        do: fc.constantFrom("register" as const, "update" as const, "remove" as const),
        dataId,
        version: fc.integer({ min: 1, max: 12 }),
      }),
      fc.record({ do: fc.constant("finish" as const), count: fc.integer({ min: 1, max: 6 }) }),
      fc.record({ do: fc.constant("query" as const), dataId }),
      fc.record({ do: fc.constant("crash" as const) }),
    );
    let served = 0;
    fc.assert(
      fc.property(fc.nat(1e6), fc.array(step, { minLength: 10, maxLength: 60 }), (seed, steps) => {
        const model = new VersionModel(seed);
        model.driver.hold = true;
        for (const action of steps) {
          if (action.do === "finish") model.finish(action.count);
          else if (action.do === "query") model.query(action.dataId);
          else if (action.do === "crash") model.crash();
          else model.offer(action.do, action.dataId, action.version);
        }
        model.driver.hold = false;
        model.driver.settle();
        model.finish(0);
        for (const id of ["a", "b"]) model.query(id);
        served += model.served;
      }),
      { numRuns: 200 },
    );
    expect(served).toBeGreaterThan(200);
  });

  it("R6.c: re-registration after a removal must pass the tombstone, by anybody", () => {
    const driver = ixs();
    const link = driver.link();
    const owner = new Identity();
    driver.ask(link, r6.REGISTER_INDEX, { indexFile: signed(owner, { version: 6 }) });
    driver.ask(link, r6.REMOVE_INDEX, removal(owner, 8));
    driver.crash();
    const again = driver.link();
    const next = new Identity();
    const indexFile = signed(next, { version: 8 });
    expect(driver.refusal(again, r6.REGISTER_INDEX, { indexFile })).toMatchObject({
      code: "VERSION_NOT_RISING",
      detail: "version 8 was registered",
    });
    driver.ask(again, r6.REGISTER_INDEX, { indexFile: signed(next, { version: 9 }) });
    expect(driver.ask(again, r6.QUERY_INDEX, byKey).files.map(versionOf)).toEqual([9]);
  });

  it("R6.c (twin): a write that fails is neither served nor acknowledged, the old one stays", () => {
    const driver = ixs();
    const link = driver.link();
    const owner = new Identity();
    driver.ask(link, r6.REGISTER_INDEX, { indexFile: signed(owner) });
    driver.disk.broken = "STORE_FULL";
    const indexFile = signed(owner, { version: 2 });
    expect(driver.refusal(link, r6.UPDATE_INDEX, { indexFile }).code).toBe("STORE_FULL");
    expect(driver.ask(link, r6.QUERY_INDEX, byKey).files.map(versionOf)).toEqual([1]);
    driver.disk.broken = undefined;
    driver.ask(link, r6.UPDATE_INDEX, { indexFile });
    expect(driver.ask(link, r6.QUERY_INDEX, byKey).files.map(versionOf)).toEqual([2]);
  });

  it("R6.c: another process that wrote a newer version is heard of, not overwritten", () => {
    const disk = new Disk();
    const here = ixs({}, 1, disk);
    const there = ixs({}, 2, disk);
    const owner = new Identity();
    const [a, b] = [here.link(), there.link()];
    here.ask(a, r6.REGISTER_INDEX, { indexFile: signed(owner) });
    there.crash();
    const b2 = there.link();
    expect(b2).not.toBe(b);
    there.ask(b2, r6.UPDATE_INDEX, { indexFile: signed(owner, { version: 7 }) });
    const indexFile = signed(owner, { version: 3 });
    expect(here.refusal(a, r6.UPDATE_INDEX, { indexFile }).code).toBe("STORE_CONFLICT");
    expect(here.ask(a, r6.QUERY_INDEX, byKey).files.map(versionOf)).toEqual([7]);
    expect(here.refusal(a, r6.UPDATE_INDEX, { indexFile }).code).toBe("VERSION_NOT_RISING");
  });
});

it("an index server refuses to start from a damaged or foreign record and names it", () => {
  for (const key of ["ixs/index/abc", "ixs/other"]) {
    const disk = new Disk();
    disk.records.set(key, { key, value: Uint8Array.of(0x93, 1, 2, 3), revision: 1 });
    const driver = ixs({}, 1, disk);
    const failed = driver.events.find((event) => event.type === "failed");
    expect(failed).toMatchObject({ fatal: true, code: "STORE_CORRUPT" });
    expect(failed?.detail).toContain(key);
    expect(driver.events.some((event) => event.type === "ready")).toBe(false);
  }
});

it("loads more records than one page, and removed ones too", () => {
  const driver = ixs({ limits: { requestBurst: 1e6 } });
  const link = driver.link();
  const owner = new Identity();
  for (let i = 0; i < 600; i++) {
    driver.ask(link, r6.REGISTER_INDEX, { indexFile: signed(owner, { dataId: `d${i}` }) });
  }
  driver.crash();
  expect(driver.snapshot<IxsSnapshot>()).toMatchObject({ ready: true, indexFiles: 600 });
});
