import { describe, expect, it } from "vitest";
import * as r6 from "../../../src/protocol/r6.ts";
import { Identity } from "../driver.ts";
import { anything, fieldsOf, ixs, signed } from "./scene.ts";

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

  it("by overlay only files that name it are found, whatever their title", () => {
    const [here, other] = ["ab".repeat(16), "cd".repeat(16)];
    for (const [dataId, overlayId, title] of [
      ["o1", here, "one"],
      ["o2", here, "two"],
      ["o3", other, "one"],
    ] as const) {
      const indexFile = signed(owner, { title, dataId, overlayId });
      driver.ask(link, r6.REGISTER_INDEX, { indexFile });
    }
    const ids = (query: object) => found(query).map((key) => key.split("/")[1]);
    expect(ids({ overlayId: here })).toEqual(["o1", "o2"]);
    expect(ids({ overlayId: here, title: "one" })).toEqual(["o1"]);
    const none = { ...anything, overlayId: "ef".repeat(16) };
    expect(driver.refusal(link, r6.QUERY_INDEX, none).code).toBe("UNKNOWN_INDEX");
  });

  it("an overlay with more files than an answer holds does not hide another of its title", () => {
    for (let i = 0; i < 20; i++) {
      const file = { title: "crowded", dataId: `c${i}`, overlayId: "a1".repeat(16) };
      driver.ask(link, r6.REGISTER_INDEX, { indexFile: signed(owner, file) });
    }
    const other = { title: "crowded", dataId: "other", overlayId: "a2".repeat(16) };
    driver.ask(link, r6.REGISTER_INDEX, { indexFile: signed(owner, other) });
    const ids = found({ title: "crowded" });
    expect(ids).toHaveLength(r6.QUERY_FILES_MAX);
    expect(ids.filter((key) => key.endsWith("/other"))).toHaveLength(1);
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
