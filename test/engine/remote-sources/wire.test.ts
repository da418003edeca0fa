/** What data sources say and are told on the wire (R11). */

import { describe, expect, it, vi } from "vitest";
import { createEngine } from "../../../src/index.ts";
import { datumFrame, R11 } from "../../support/raw-data-source.ts";
import { data, later, newTitle, query, raw, scene, serverUrl, text, useServers } from "./scene.ts";

useServers();

describe("on the wire", () => {
  it("P1.1: REGISTER has the source peer make the session known, under the data source's ids", async () => {
    const { title, tcp } = await scene();
    expect(await query(title)).toBe("UNKNOWN_INDEX");
    const link = await raw(tcp);
    link.register("pump", { dataId: "pressure" });
    const { fields } = await link.next(R11.REGISTERED);
    expect(fields.slice(0, 2)).toEqual([1, 0]);
    expect(await query(title)).toBe("1 files, 0 gone");
    expect(await query("", "pump", "pressure")).toBe("1 files, 0 gone");
    // The next one gets an index file of its own; who names no data id gets the source peer's.
    const other = await raw(tcp);
    other.register("valve");
    await other.next(R11.REGISTERED);
    expect(await query("", "valve", "readings")).toBe("1 files, 0 gone");
    expect(await query(title)).toBe("2 files, 0 gone");
  });

  it("P1.1 (negative): a REGISTER that is refused makes nothing known", async () => {
    const { title, tcp, intake } = await scene();
    const link = await raw(tcp);
    link.register("pump", { versions: [2, 9] });
    expect(await link.refusal()).toBe("VERSION_UNSUPPORTED");
    expect(await query(title)).toBe("UNKNOWN_INDEX");
    expect(intake.status().counters.refusedLinks).toBe(1);
  });

  it("R11.a, R11.c, R11.e, R11.f, R11.g: a registered data source's data reach the peers", async () => {
    const { source, tcp, data: receive } = await scene();
    const link = await raw(tcp);
    link.register("pump", { contentType: "text/x" });
    const { fields, bytes } = await link.next(R11.REGISTERED);
    expect(fields[0]).toBe(1);
    expect(Number(fields[2])).toBeGreaterThanOrEqual(262_144);
    expect(Buffer.from(fields[3] as Uint8Array).toString("hex")).toBe(source.overlayId);
    expect(bytes[6]).toBe(0x21);
    const got = receive();
    const stamped = [
      { payload: text("one") },
      { payload: text(""), deltaUs: 5 },
      { payload: text("three"), deltaUs: -7 },
    ];
    link.send(datumFrame(1, stamped, { baseUs: 1_000_000 }));
    await link.until(R11.ACCEPTED, 3);
    await link.until(R11.HELD, 3);
    // A datum that no frame holds comes in pieces.
    const big = Buffer.alloc(300_000, "0123456789");
    const total = big.length;
    for (let offset = 0; offset < total; offset += 100_000) {
      const piece = { payload: big.subarray(offset, offset + 100_000) };
      link.send(datumFrame(4, [piece], { baseUs: 2_000_000, total, offset }));
    }
    await link.until(R11.HELD, 4);
    link.message(R11.TERMINATE, [0, 4]);
    expect((await link.next(R11.TERMINATE)).fields).toEqual([0, 4]);
    await source.end();
    const all = await got;
    expect(
      all.map((one) => [one.sourceId, one.sequence, one.timestampUs, one.contentType]),
    ).toEqual([
      ["pump", 1, 1_000_000, "text/x"],
      ["pump", 2, 1_000_005, "text/x"],
      ["pump", 3, 999_993, "text/x"],
      ["pump", 4, 2_000_000, "text/x"],
    ]);
    expect(all.map(({ payload }) => Buffer.from(payload).toString())).toEqual([
      "one",
      "",
      "three",
      big.toString(),
    ]);
  });

  it("R11.a, R11.c, R11.e, R11.f, R11.g (negative): who has not registered is refused, and so is who has no id", async () => {
    const { source, tcp, ws, intake, data: receive } = await scene();
    for (const at of [tcp, ws]) {
      const early = await raw(at);
      early.send(datumFrame(1, data("early")));
      expect(await early.refusal()).toBe("SOURCE_UNREGISTERED");
      for (const id of ["", "x".repeat(129)]) {
        const nameless = await raw(at);
        nameless.register(id);
        nameless.send(datumFrame(1, data("nameless")));
        expect(await nameless.refusal()).toBe("MESSAGE_MALFORMED");
      }
    }
    expect(intake.status().sources).toEqual([]);
    const link = await raw(tcp);
    link.register("pump");
    await link.next(R11.REGISTERED);
    const got = receive();
    link.send(datumFrame(1, data("good")));
    await link.until(R11.HELD, 1);
    await source.end();
    expect((await got).map(({ payload }) => Buffer.from(payload).toString())).toEqual(["good"]);
  });

  it("R11.b, R11.d: several data sources at a time, over TCP and WebSocket, arrive apart", async () => {
    const { source, intake, tcp, ws, data: receive } = await scene();
    const links = await Promise.all([raw(tcp), raw(ws), raw(tcp), raw(ws)]);
    await Promise.all(
      links.map(async (link, n) => {
        link.register(`s${n}`);
        await link.next(R11.REGISTERED);
      }),
    );
    const got = receive();
    for (let i = 1; i <= 50; i++) {
      links.forEach((link, n) => {
        link.send(datumFrame(2 * i - 1, data(`${n}:${2 * i - 1}`, `${n}:${2 * i}`)));
      });
    }
    await Promise.all(links.map((link) => link.until(R11.HELD, 100)));
    expect(intake.status().sources.map(({ sourceId, linked }) => [sourceId, linked])).toEqual(
      links.map((_, n) => [`s${n}`, true]),
    );
    await source.end();
    const all = await got;
    expect(all.length).toBe(400);
    links.forEach((link, n) => {
      const mine = all.filter(({ sourceId }) => sourceId === `s${n}`);
      expect(mine.map(({ payload }) => Buffer.from(payload).toString())).toEqual(
        Array.from({ length: 100 }, (_, i) => `${n}:${i + 1}`),
      );
      // Each is told that the session is over, and how much of it was taken.
      expect(link.frames.find(({ type }) => type === R11.TERMINATE)?.fields).toEqual([1, 100]);
    });
  });

  it("R11.b, R11.d (negative): one identifier is one data source, whoever comes second", async () => {
    const { tcp, ws, intake } = await scene();
    const first = await raw(tcp);
    first.register("pump");
    await first.next(R11.REGISTERED);
    const second = await raw(ws);
    second.register("pump", { instance: Buffer.alloc(16, 8) });
    expect(await second.refusal()).toBe("SOURCE_REGISTERED");
    // The same run over another link is the same data source: its first link gives way.
    const again = await raw(ws);
    again.register("pump");
    await again.next(R11.REGISTERED);
    expect(await first.refusal()).toBe("DUPLICATE_LINK");
    expect(intake.status().sources.length).toBe(1);
  });

  it("fragments name the numbering of a data source, until one that numbers otherwise goes on with it", async () => {
    const { title, tcp } = await scene();
    const joined = later(await createEngine({ memoryMiB: 32 }));
    const first = await raw(tcp);
    first.register("pump", { instance: Buffer.alloc(16, 7) });
    await first.next(R11.REGISTERED);
    const peer = await joined.join({ server: serverUrl(), title });
    const fragments = peer.fragments();
    const numbering = async (): Promise<number> => {
      const { value } = await fragments.next();
      // The first record of a fragment declares a data source.
      const { buffer, byteOffset } = value.bytes;
      const found = new DataView(buffer, byteOffset).getUint32(40 + 4, true);
      value.release();
      return found;
    };
    first.send(datumFrame(1, data("one")));
    expect(await numbering()).toBe(0x07070707);
    await first.until(R11.ACCEPTED, 1);
    first.close();
    const second = await raw(tcp);
    // Another run that numbers alike.
    const alike = Buffer.concat([Buffer.alloc(4, 7), Buffer.alloc(12, 8)]);
    second.register("pump", { instance: alike });
    expect((await second.next(R11.REGISTERED)).fields[0]).toBe(2);
    second.send(datumFrame(2, data("two")));
    expect(await numbering()).toBe(0x07070707);
    await second.until(R11.ACCEPTED, 2);
    second.close();
    const third = await raw(tcp);
    third.register("pump", { instance: Buffer.alloc(16, 9) });
    expect((await third.next(R11.REGISTERED)).fields[0]).toBe(3);
    third.send(datumFrame(3, data("three")));
    expect(await numbering()).toBe(0);
    third.message(R11.TERMINATE, [0, 3]);
    await third.next(R11.TERMINATE);
  });

  it("P3.1: TERMINATE of a data source ends the session, for peers and at the servers", async () => {
    const { source, intake, tcp, data: receive } = await scene();
    const [a, b] = [await raw(tcp), await raw(tcp)];
    for (const [link, id] of [[a, "a"] as const, [b, "b"] as const]) {
      link.register(id);
      await link.next(R11.REGISTERED);
    }
    const got = receive();
    a.send(datumFrame(1, data("last words")));
    await a.until(R11.HELD, 1);
    a.message(R11.TERMINATE, [1, 1]);
    expect(await intake.finished).toBe("ordered");
    await source.end();
    expect((await a.next(R11.TERMINATE)).fields).toEqual([1, 1]);
    expect((await b.next(R11.TERMINATE)).fields).toEqual([1, 0]);
    expect((await got).length).toBe(1);
    expect(await query("", "a", "readings")).toBe("0 files, 1 gone");
    expect(await query("", "b", "readings")).toBe("0 files, 1 gone");
  });

  it("P3.1: the session ends with its last data source", async () => {
    const { source, intake, tcp, data: receive } = await scene();
    const links = [await raw(tcp), await raw(tcp)];
    for (const [n, link] of links.entries()) {
      link.register(`s${n}`);
      await link.next(R11.REGISTERED);
    }
    const got = receive();
    for (const link of links) {
      link.send(datumFrame(1, data("x")));
      link.message(R11.TERMINATE, [0, 1]);
      expect((await link.next(R11.TERMINATE)).fields).toEqual([0, 1]);
    }
    expect(await intake.finished).toBe("last");
    await source.end();
    expect((await got).length).toBe(2);
  });

  it("the session ends with its last data source also when another that was awaited is refused", async () => {
    // Another key has the ids of "b": they are waited for a second.
    const holder = later(await createEngine({ memoryMiB: 32 }));
    await holder.createSource({
      server: serverUrl(),
      title: newTitle(),
      dataSources: [{ sourceId: "b", dataId: "readings" }],
    });
    const { source, intake, tcp } = await scene({}, 8 << 20, 1_500);
    const said: string[] = [];
    source.on("note", (text) => said.push(text.split(" ")[0] ?? ""));
    intake.on("source", ({ sourceId, state }) => said.push(`${sourceId} ${state}`));
    intake.on("refused", ({ code }) => said.push(`refused ${code}`));
    const [a, b] = [await raw(tcp), await raw(tcp)];
    a.register("a");
    await a.next(R11.REGISTERED);
    b.register("b");
    await vi.waitFor(() => expect(said.at(-1)).toBe("NOT_OWNER"));
    a.message(R11.TERMINATE, [0, 0]);
    expect(await b.refusal()).toBe("NOT_OWNER");
    expect(await intake.finished).toBe("last");
    expect(said.filter((one) => !/ (up|down)$/.test(one))).toEqual([
      "a registered",
      "NOT_OWNER",
      "a ended",
      "refused NOT_OWNER",
    ]);
  });

  it("P3.1 (negative): where the owner ends the session no data source does", async () => {
    const { source, intake, tcp, data: receive } = await scene({ end: "owner" });
    const [a, b] = [await raw(tcp), await raw(tcp)];
    for (const [link, id] of [[a, "a"] as const, [b, "b"] as const]) {
      link.register(id);
      await link.next(R11.REGISTERED);
    }
    a.message(R11.TERMINATE, [1, 0]);
    expect(await a.refusal()).toBe("NOT_OWNER");
    const got = receive();
    b.send(datumFrame(1, data("goes on")));
    await b.until(R11.HELD, 1);
    b.message(R11.TERMINATE, [0, 1]);
    await b.next(R11.TERMINATE);
    const state = await Promise.race([intake.finished, Promise.resolve("not finished")]);
    expect(state).toBe("not finished");
    await source.end();
    expect((await got).length).toBe(1);
  });
});
