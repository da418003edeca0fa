import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  encodeIndexFile,
  type IndexFileBody,
  indexFileBytes,
} from "../../src/protocol/index-file.ts";
import * as r6 from "../../src/protocol/r6.ts";
import { createIxs, type IxsOptions, type IxsSnapshot } from "../../src/servers/ixs.ts";
import { readMsgpack } from "../support/msgpack-reader.ts";
import { Disk, Identity, ServerDriver } from "./driver.ts";

function ixs(options: Partial<IxsOptions> = {}, seed = 1, disk = new Disk()): ServerDriver {
  return new ServerDriver((base) => createIxs({ ...base, ...options }), seed, disk).start();
}

function file(owner: Identity, changes: Partial<IndexFileBody> = {}): IndexFileBody {
  return {
    formatVersion: 1,
    version: 1,
    title: "Seattle weather",
    omsAddress: "ws://192.0.2.1:7900",
    overlayId: "0f".repeat(16),
    sessionEpoch: 1,
    dataSourceId: "temperature",
    dataId: "hourly",
    fragmentBytes: 16_384,
    description: "Hourly normals of the airport",
    integrity: "checksum",
    delivery: "complete",
    maxLagMs: 10_000,
    substreams: 8,
    sourcePublicKey: owner.publicKey,
    createdUs: 1_700_000_000_000_000,
    ...changes,
  };
}

function signed(owner: Identity, changes: Partial<IndexFileBody> = {}): Uint8Array {
  const body = file(owner, changes);
  return encodeIndexFile(body, owner.sign(indexFileBytes(body)));
}

function removal(owner: Identity, version: number, changes: object = {}) {
  const statement = { version, dataSourceId: "temperature", dataId: "hourly", ...changes };
  const signature = owner.sign(r6.removeProof(statement));
  return { ...statement, publicKey: owner.publicKey, signature };
}

const anything = { version: 0, title: "", dataSourceId: "", dataId: "" };
const byKey = { ...anything, dataSourceId: "temperature", dataId: "hourly" };

/** The fields of an encoded index file, read by independent code. */
function fieldsOf(encoded: Uint8Array): unknown[] {
  const [body] = readMsgpack(encoded) as Uint8Array[];
  return readMsgpack(body ?? new Uint8Array(0)) as unknown[];
}
const versionOf = (encoded: Uint8Array | undefined): unknown =>
  encoded === undefined ? undefined : fieldsOf(encoded)[1];

describe("R6.a: registration of an index file", () => {
  it("R6.a: acknowledged after it is on disk; the answer to a query has each field named", () => {
    const driver = ixs();
    const link = driver.link();
    const owner = new Identity();
    driver.hold = true;
    const requestId = driver.send(link, r6.REGISTER_INDEX, { indexFile: signed(owner) });
    driver.finishOne("job");
    expect(driver.rawReply(link, requestId)).toBeUndefined();
    expect(driver.refusal(link, r6.QUERY_INDEX, byKey).code).toBe("UNKNOWN_INDEX");
    driver.finishOne("store");
    expect(driver.rawReply(link, requestId)).toEqual([0x50 | 0x80, requestId, 1]);
    driver.hold = false;
    const query = driver.send(link, r6.QUERY_INDEX, byKey);
    const raw = driver.rawReply(link, query) ?? [];
    const [encoded] = raw[2] as Uint8Array[];
    const fields = fieldsOf(encoded ?? new Uint8Array(0));
    expect(fields[2]).toBe("Seattle weather");
    expect(fields[3]).toBe("ws://192.0.2.1:7900");
    expect(Buffer.from(fields[4] as Uint8Array).toString("hex")).toBe("0f".repeat(16));
    expect([fields[6], fields[7], fields[8]]).toEqual(["temperature", "hourly", 16_384]);
    expect(fields[9]).toBe("Hourly normals of the airport");
  });

  it("R6.a (twin): a wrong signature or a malformed file registers nothing", () => {
    const driver = ixs();
    const link = driver.link();
    const owner = new Identity();
    const body = file(owner);
    const forged = encodeIndexFile(body, new Identity().sign(indexFileBytes(body)));
    const refuse = (indexFile: Uint8Array): string =>
      driver.refusal(link, r6.REGISTER_INDEX, { indexFile }).code;
    expect(refuse(forged)).toBe("IDENTITY_UNPROVEN");
    const good = signed(owner);
    expect(refuse(good.slice(0, -1))).toBe("MESSAGE_MALFORMED");
    expect(refuse(signed(owner, { formatVersion: 2 }))).toBe("VERSION_UNSUPPORTED");
    for (let at = 0; at < good.length; at += 7) {
      const changed = Uint8Array.from(good);
      changed[at] = (changed[at] ?? 0) ^ 0x01;
      expect(refuse(changed)).toMatch(/IDENTITY_UNPROVEN|MESSAGE_MALFORMED|VERSION_UNSUPPORTED/);
    }
    expect(driver.snapshot<IxsSnapshot>()).toMatchObject({ indexFiles: 0, tombstones: 0 });
  });

  it("R6.a: the same file again is acknowledged again; a limit refuses new keys only", () => {
    const driver = ixs({ indexMax: 1 });
    const link = driver.link();
    const owner = new Identity();
    const indexFile = signed(owner);
    driver.ask(link, r6.REGISTER_INDEX, { indexFile });
    const revision = driver.disk.revision;
    expect(driver.ask(link, r6.REGISTER_INDEX, { indexFile }).version).toBe(1);
    expect(driver.disk.revision).toBe(revision);
    const other = signed(owner, { dataId: "daily" });
    expect(driver.refusal(link, r6.REGISTER_INDEX, { indexFile: other }).code).toBe("OVERLOADED");
    driver.ask(link, r6.UPDATE_INDEX, { indexFile: signed(owner, { version: 2 }) });
  });
});

describe("R6.b: update", () => {
  it("R6.b: a higher version with another title replaces the file", () => {
    const driver = ixs();
    const link = driver.link();
    const owner = new Identity();
    driver.ask(link, r6.REGISTER_INDEX, { indexFile: signed(owner) });
    const indexFile = signed(owner, { version: 5, title: "Seattle, hourly" });
    expect(driver.ask(link, r6.UPDATE_INDEX, { indexFile }).version).toBe(5);
    const found = driver.ask(link, r6.QUERY_INDEX, { ...anything, title: "Seattle, hourly" });
    expect(found.files.map(versionOf)).toEqual([5]);
    const old = { ...anything, title: "Seattle weather" };
    expect(driver.refusal(link, r6.QUERY_INDEX, old).code).toBe("UNKNOWN_INDEX");
  });

  it("R6.b (twin): not lower, not equal, not by another key, not before registration", () => {
    const driver = ixs();
    const link = driver.link();
    const owner = new Identity();
    const update = (indexFile: Uint8Array) => driver.refusal(link, r6.UPDATE_INDEX, { indexFile });
    expect(update(signed(owner)).code).toBe("UNKNOWN_INDEX");
    driver.ask(link, r6.REGISTER_INDEX, { indexFile: signed(owner, { version: 3 }) });
    expect(update(signed(owner, { version: 2 }))).toMatchObject({
      code: "VERSION_NOT_RISING",
      detail: "version 3 was registered",
    });
    expect(update(signed(owner, { version: 3, title: "x" })).code).toBe("VERSION_NOT_RISING");
    const thief = new Identity();
    expect(update(signed(thief, { version: 9 })).code).toBe("NOT_OWNER");
    const indexFile = signed(thief, { version: 9 });
    expect(driver.refusal(link, r6.REGISTER_INDEX, { indexFile }).code).toBe("NOT_OWNER");
    expect(driver.ask(link, r6.QUERY_INDEX, byKey).files.map(versionOf)).toEqual([3]);
  });
});

describe("R6.d: removal", () => {
  it("R6.d: by version, data source id and data id; then the answer is gone, with when", () => {
    const driver = ixs();
    const link = driver.link();
    const owner = new Identity();
    driver.ask(link, r6.REGISTER_INDEX, { indexFile: signed(owner, { version: 4 }) });
    driver.ask(link, r6.REMOVE_INDEX, removal(owner, 4));
    const query = driver.send(link, r6.QUERY_INDEX, byKey);
    const raw = driver.rawReply(link, query) ?? [];
    expect(raw[2]).toEqual([]);
    const [gone] = raw[3] as unknown[][];
    expect(gone?.slice(0, 3)).toEqual(["temperature", "hourly", 4]);
    expect(gone?.[3]).toBeGreaterThan(1_700_000_000_000_000);
    driver.crash();
    const again = driver.link();
    expect(driver.ask(again, r6.QUERY_INDEX, byKey).gone).toHaveLength(1);
    driver.ask(again, r6.REMOVE_INDEX, removal(owner, 4));
    const indexFile = signed(owner, { version: 5 });
    expect(driver.refusal(again, r6.UPDATE_INDEX, { indexFile }).code).toBe("INDEX_GONE");
  });

  it("R6.d (twin): not unsigned, not by another key, not an old version, not what never was", () => {
    const driver = ixs();
    const link = driver.link();
    const owner = new Identity();
    const thief = new Identity();
    const refuse = (request: ReturnType<typeof removal>): string =>
      driver.refusal(link, r6.REMOVE_INDEX, request).code;
    expect(refuse(removal(owner, 4))).toBe("UNKNOWN_INDEX");
    driver.ask(link, r6.REGISTER_INDEX, { indexFile: signed(owner, { version: 4 }) });
    expect(refuse(removal(thief, 4))).toBe("NOT_OWNER");
    expect(refuse({ ...removal(thief, 4), publicKey: owner.publicKey })).toBe("IDENTITY_UNPROVEN");
    expect(refuse(removal(owner, 3))).toBe("VERSION_NOT_RISING");
    expect(refuse({ ...removal(owner, 3), version: 4 })).toBe("IDENTITY_UNPROVEN");
    expect(driver.ask(link, r6.QUERY_INDEX, byKey).files).toHaveLength(1);
  });

  it("an overlay that ended takes its sessions along", () => {
    const driver = ixs();
    const link = driver.link();
    const owner = new Identity();
    driver.ask(link, r6.REGISTER_INDEX, { indexFile: signed(owner) });
    const other = signed(owner, { dataId: "daily", overlayId: "1e".repeat(16) });
    driver.ask(link, r6.REGISTER_INDEX, { indexFile: other });
    driver.command({ type: "overlayGone", overlayId: "0f".repeat(16) });
    expect(driver.ask(link, r6.QUERY_INDEX, byKey)).toMatchObject({ files: [], gone: [{}] });
    expect(driver.snapshot<IxsSnapshot>()).toMatchObject({ indexFiles: 1, tombstones: 1 });
  });
});

it("an overlay said to be gone while the records are loaded takes its sessions along too", () => {
  const disk = new Disk();
  const first = ixs({}, 1, disk);
  first.ask(first.link(), r6.REGISTER_INDEX, { indexFile: signed(new Identity()) });
  const next = new ServerDriver((base) => createIxs(base), 2, disk);
  next.hold = true;
  next.command({ type: "start" });
  next.command({ type: "overlayGone", overlayId: "0f".repeat(16) });
  next.hold = false;
  next.settle();
  expect(next.snapshot<IxsSnapshot>()).toMatchObject({ indexFiles: 0, tombstones: 1 });
});

describe("R6.e: query", () => {
  const driver = ixs();
  const link = driver.link();
  const owner = new Identity();
  for (const dataSourceId of ["temperature", "wind"]) {
    for (const dataId of ["hourly", "daily"]) {
      driver.ask(link, r6.REGISTER_INDEX, {
        indexFile: signed(owner, { dataSourceId, dataId, version: 7 }),
      });
    }
  }
  const found = (query: object): string[] =>
    driver
      .ask(link, r6.QUERY_INDEX, { ...anything, ...query })
      .files.map((encoded) => fieldsOf(encoded).slice(6, 8).join("/"))
      .sort();

  it("R6.e: carries version, title, data source id and data id, each of which narrows", () => {
    expect(found({ title: "Seattle weather" })).toHaveLength(4);
    expect(found({ dataSourceId: "wind" })).toEqual(["wind/daily", "wind/hourly"]);
    expect(found({ dataId: "daily" })).toEqual(["temperature/daily", "wind/daily"]);
    expect(found({ dataSourceId: "wind", dataId: "daily" })).toEqual(["wind/daily"]);
    const all = { version: 7, title: "Seattle weather", dataSourceId: "wind", dataId: "daily" };
    expect(found(all)).toEqual(["wind/daily"]);
  });

  it("R6.e (twin): nothing older than asked, nothing that differs in one field, not all empty", () => {
    const refuse = (query: object) =>
      driver.refusal(link, r6.QUERY_INDEX, { ...anything, ...query });
    expect(refuse({ version: 8, dataSourceId: "wind" })).toMatchObject({
      code: "UNKNOWN_INDEX",
      detail: "the newest version is 7",
    });
    expect(refuse({ title: "Portland", dataSourceId: "wind" }).code).toBe("UNKNOWN_INDEX");
    expect(refuse({ dataSourceId: "wind", dataId: "weekly" }).code).toBe("UNKNOWN_INDEX");
    expect(refuse({}).code).toBe("MESSAGE_MALFORMED");
    expect(refuse({ version: 3 }).code).toBe("MESSAGE_MALFORMED");
  });

  it("more matches than one answer holds say so; a list goes by prefix", () => {
    for (let i = 0; i < 20; i++) {
      const indexFile = signed(owner, { title: "many", dataId: `m${i}` });
      driver.ask(link, r6.REGISTER_INDEX, { indexFile });
    }
    const many = driver.ask(link, r6.QUERY_INDEX, { ...anything, title: "many" });
    expect([many.files.length, many.more]).toEqual([16, true]);
    const description = "d".repeat(4_096);
    for (let i = 0; i < 16; i++) {
      const indexFile = signed(owner, { title: "large", dataId: `l${i}`, description });
      driver.ask(link, r6.REGISTER_INDEX, { indexFile });
    }
    const large = driver.ask(link, r6.QUERY_INDEX, { ...anything, title: "large" });
    expect(large.more).toBe(true);
    expect(large.files.length).toBeGreaterThan(10);
    const list = driver.ask(link, r6.LIST_INDEX, { prefix: "Sea", limit: 3 });
    expect(list.more).toBe(true);
    expect(list.rows.map((row) => `${row.dataSourceId}/${row.dataId}`)).toEqual([
      "temperature/daily",
      "temperature/hourly",
      "wind/daily",
    ]);
  });
});

// --------------------------------------------------------------------------------- R6.c, by model

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

describe("an OMS of another process tells which overlays ended", () => {
  const serviceKey = new Uint8Array(32).fill(0x5e);
  const overlayIds = ["0f".repeat(16)];

  it("their index files are gone once it is acknowledged, over a crash too", () => {
    const driver = new ServerDriver((base) => createIxs({ ...base, serviceKey })).start();
    const link = driver.link();
    const owner = new Identity();
    for (const dataId of ["a", "b"]) {
      driver.ask(link, r6.REGISTER_INDEX, { indexFile: signed(owner, { dataId }) });
    }
    driver.ask(link, r6.REGISTER_INDEX, {
      indexFile: signed(owner, { dataId: "c", overlayId: "ab".repeat(16) }),
    });
    driver.hold = true;
    const request = { overlayIds: [...overlayIds, "cd".repeat(16)], serviceKey };
    const requestId = driver.send(link, r6.OVERLAY_GONE, request);
    driver.finishOne("store");
    expect(driver.rawReply(link, requestId)).toBeUndefined();
    driver.hold = false;
    driver.settle();
    expect(driver.rawReply(link, requestId)).toEqual([0x55 | 0x80, requestId]);
    driver.crash();
    expect(driver.snapshot<IxsSnapshot>()).toMatchObject({ indexFiles: 1, tombstones: 2 });
    driver.ask(driver.link(), r6.OVERLAY_GONE, request);
    expect(driver.snapshot<IxsSnapshot>()).toMatchObject({ indexFiles: 1, tombstones: 2 });
  });

  it("a full disk is told, and all stands until it is told again", () => {
    const driver = new ServerDriver((base) => createIxs({ ...base, serviceKey })).start();
    const link = driver.link();
    driver.ask(link, r6.REGISTER_INDEX, { indexFile: signed(new Identity(), {}) });
    driver.disk.broken = "STORE_FULL";
    const request = { overlayIds, serviceKey };
    expect(driver.refusal(link, r6.OVERLAY_GONE, request).code).toBe("STORE_FULL");
    expect(driver.snapshot<IxsSnapshot>().indexFiles).toBe(1);
    driver.disk.broken = undefined;
    driver.ask(link, r6.OVERLAY_GONE, request);
    expect(driver.snapshot<IxsSnapshot>().indexFiles).toBe(0);
  });

  it("nobody ends sessions without the key, nor where there is none", () => {
    for (const own of [serviceKey, undefined]) {
      const driver = new ServerDriver((base) =>
        createIxs({ ...base, ...(own === undefined ? {} : { serviceKey: own }) }),
      ).start();
      const link = driver.link();
      driver.ask(link, r6.REGISTER_INDEX, { indexFile: signed(new Identity(), {}) });
      for (const shown of [undefined, new Uint8Array(0), new Uint8Array(32)]) {
        const request = { overlayIds, ...(shown === undefined ? {} : { serviceKey: shown }) };
        expect(driver.refusal(link, r6.OVERLAY_GONE, request).code).toBe("KEY_REQUIRED");
      }
      const { indexFiles, counters } = driver.snapshot<IxsSnapshot>();
      expect([indexFiles, counters.keyRefused]).toEqual([1, 3]);
    }
  });
});
