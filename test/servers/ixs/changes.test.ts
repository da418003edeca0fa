/** Registration, update and removal of index files: by their owners, and with their overlay. */

import { describe, expect, it } from "vitest";
import { encodeIndexFile, indexFileBytes } from "../../../src/protocol/index-file.ts";
import * as r6 from "../../../src/protocol/r6.ts";
import { createIxs, type IxsSnapshot } from "../../../src/servers/ixs.ts";
import { Disk, Identity, ServerDriver } from "../driver.ts";
import { anything, byKey, fieldsOf, file, ixs, removal, signed, versionOf } from "./scene.ts";

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
