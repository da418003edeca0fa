/** Data sources that break the protocol, or find no place. */

import { describe, expect, it, vi } from "vitest";
import type { Address } from "../../../src/base/machine.ts";
import { createEngine, createFeed } from "../../../src/index.ts";
import { datumFrame, frameOf, R11, type RawDataSource } from "../../support/raw-data-source.ts";
import { data, later, newTitle, query, raw, scene, serverUrl, text, useServers } from "./scene.ts";

useServers();

describe("what breaks the protocol", () => {
  const registered = async (at: Address, id: string): Promise<RawDataSource> => {
    const link = await raw(at);
    link.register(id);
    await link.next(R11.REGISTERED);
    return link;
  };
  const malformedRegister = frameOf(R11.REGISTER, Buffer.from([0x81, 0xa1, 0x61, 1]));
  const wrongVersion = datumFrame(1, data("x"));
  wrongVersion[5] = 9;

  it.each<[string, Uint8Array, string]>([
    ["a skipped number", datumFrame(2, data("x")), "SEQUENCE_SKIPPED"],
    ["number 0", datumFrame(0, data("x")), "FRAME_MALFORMED"],
    ["no data", datumFrame(1, []), "FRAME_MALFORMED"],
    ["an absurd count", datumFrame(1, data("x"), { count: 0xffff_ffff }), "FRAME_MALFORMED"],
    ["reserved bits", datumFrame(1, data("x"), { reserved: 1 }), "FRAME_MALFORMED"],
    ["lengths that do not add up", frameCut(), "FRAME_MALFORMED"],
    ["a datum of 17 MiB", datumFrame(1, data("x"), { total: 17 << 20 }), "FRAME_MALFORMED"],
    ["a piece beyond its end", datumFrame(1, data("xx"), { total: 1 }), "FRAME_MALFORMED"],
    [
      "a piece out of order",
      datumFrame(1, data("x"), { total: 100, offset: 7 }),
      "FRAME_UNEXPECTED",
    ],
    ["REGISTER twice", malformedRegister, "FRAME_UNEXPECTED"],
    ["TERMINATE of data that never came", terminate(5), "SEQUENCE_SKIPPED"],
    ["a frame of peer links", frameOf(0x07, Buffer.alloc(16)), "FRAME_UNEXPECTED"],
    ["a type that does not exist", frameOf(0x7f, Buffer.alloc(0)), "FRAME_UNEXPECTED"],
  ])("%s: an error, the end of the link, and nobody else notices", async (_what, bad, expected) => {
    const { source, intake, tcp, ws, data: receive } = await scene();
    const good = await registered(tcp, "good");
    for (const at of [tcp, ws]) {
      const link = await registered(at, `bad-${at.transport}`);
      link.send(bad);
      expect(await link.refusal()).toBe(expected);
    }
    const { counters } = intake.status();
    const counted = counters.malformedFrames + counters.sequenceErrors + counters.refusedLinks;
    expect(counted).toBe(2);
    const got = receive();
    good.send(datumFrame(1, data("fine")));
    await good.until(R11.HELD, 1);
    await source.end();
    expect((await got).map(({ sourceId }) => sourceId)).toEqual(["good"]);
  });

  it("an absurd length, a wrong magic or version end a link at its first bytes, without a word", async () => {
    const { tcp, intake } = await scene();
    for (const bytes of [
      Buffer.from("ffffff7fb6012200", "hex"),
      // 999,999 bytes.
      Buffer.from("3f420f00b6012200", "hex"),
      Buffer.from("GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
      wrongVersion,
    ]) {
      const link = await raw(tcp);
      link.send(bytes);
      await link.closed();
      expect(link.frames).toEqual([]);
    }
    expect(intake.status().counters.malformedFrames).toBeGreaterThanOrEqual(3);
  });

  it("more than was granted is refused", async () => {
    const { tcp, intake } = await scene();
    const link = await registered(tcp, "greedy");
    const full = Buffer.alloc(200_000);
    // Nobody has joined: the overlay fills up, and the grants stop.
    for (let n = 1; n < 200 && !link.isClosed; n++) link.send(datumFrame(n, [{ payload: full }]));
    expect(await link.refusal()).toBe("CREDIT_EXCEEDED");
    expect(intake.status().counters.creditExceeded).toBe(1);
    const [report] = intake.status().sources;
    expect(report?.queuedBytes).toBeLessThanOrEqual((1 << 20) + full.length);
  });

  it("a source that has ended takes nothing more, however it comes", async () => {
    const { tcp, data: receive } = await scene();
    const link = await registered(tcp, "brief");
    void receive();
    link.send(datumFrame(1, data("all")));
    link.message(R11.TERMINATE, [0, 1]);
    await link.next(R11.TERMINATE);
    await link.closed();
    const again = await registered(tcp, "brief");
    again.send(datumFrame(1, data("all")));
    again.send(datumFrame(2, data("more")));
    expect(await again.refusal()).toBe("SOURCE_ENDED");
  });
});

function frameCut(): Buffer {
  const frame = datumFrame(1, data("xyz"));
  frame.writeUInt32LE(9, 40);
  return frame;
}

function terminate(last: number): Buffer {
  return frameOf(R11.TERMINATE, Buffer.from([0x92, 0, last]));
}

it("off loopback data sources are accepted only by an engine that was allowed plain text", async () => {
  const open = async (allowPlaintext: boolean) => {
    const engine = later(await createEngine({ memoryMiB: 32, allowPlaintext }));
    return engine.createSource({ server: serverUrl(), title: newTitle(), dataSources: [] });
  };
  const listen = [{ host: "127.0.0.1" }, { transport: "ws", host: "0.0.0.0" }] as const;
  const refusing = await open(false);
  await expect(refusing.acceptDataSources({ listen })).rejects.toMatchObject({
    code: "PLAINTEXT_REFUSED",
  });
  expect((await refusing.acceptDataSources({ listen: [{}] })).listening.length).toBe(1);
  const { listening } = await (await open(true)).acceptDataSources({ listen });
  expect(listening.map(({ host }) => host)).toEqual(["127.0.0.1", "0.0.0.0"]);
});

it("a data source finds a place though others that never sent anything took them all", async () => {
  const { source, tcp, intake, data: receive } = await scene();
  const got = receive();
  const linked = (): number => intake.status().sources.filter((one) => one.linked).length;
  for (let i = 0; i < 250; i++) source.registerDataSource(`own ${i}`);
  for (let i = 0; i < 6; i++) {
    const link = await raw(tcp);
    link.register(`nobody ${i}`);
    await link.next(R11.REGISTERED);
    if (i > 0) link.close();
  }
  await vi.waitFor(() => expect(linked()).toBe(1));
  const standing = async (): Promise<string> => query("", "nobody 1", "readings");
  expect(await standing()).toBe("1 files, 0 gone");
  const feed = later(await createFeed({ to: `${tcp.host}:${tcp.port}`, sourceId: "honest" }));
  expect(await standing()).toBe("0 files, 1 gone");
  await feed.push(text("x"));
  // It has ended, the others have not: one that was forgotten ends the session for nobody.
  let finished = "";
  void intake.finished.then((how) => {
    finished = how;
  });
  await feed.end();
  expect(finished).toBe("");
  await source.end();
  expect((await got).map(({ sourceId, sequence }) => [sourceId, sequence])).toEqual([
    ["honest", 1],
  ]);
});
