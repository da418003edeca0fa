/** createFeed, the data source's side in the library. */

import { describe, expect, it, vi } from "vitest";
import type { Address } from "../../../src/base/machine.ts";
import { createFeed, type DataFeed, OperationError } from "../../../src/index.ts";
import { later, scene, text, useServers } from "./scene.ts";

useServers();

describe("createFeed", () => {
  const feedTo = async (at: Address, sourceId: string): Promise<DataFeed> =>
    later(await createFeed({ to: `${at.transport}://${at.host}:${at.port}`, sourceId }));

  it("brings data to peers, tells what they hold, and ends with the session", async () => {
    const { source, tcp, ws, intake, data: receive } = await scene();
    const [a, b] = [await feedTo(tcp, "a"), await feedTo(ws, "b")];
    const got = receive();
    const big = new Uint8Array(3 << 20).map((_, i) => i >>> 3);
    for (let i = 1; i <= 500; i++) {
      expect(await a.push(text(`a${i}`), { timestampUs: 1_000 + i })).toBe(i);
      await b.push(i === 250 ? big : text(`b${i}`));
    }
    await a.whenHeld(10);
    expect(a.held).toBeGreaterThanOrEqual(10);
    await Promise.all([a.whenHeld(), b.whenHeld()]);
    expect([a.held, a.accepted, a.next]).toEqual([500, 500, 501]);
    await Promise.all([a.end(), b.end({ session: true })]);
    await expect(a.push(text("late"))).rejects.toMatchObject({ code: "SOURCE_ENDED" });
    expect(["last", "ordered"]).toContain(await intake.finished);
    await source.end();
    const all = await got;
    const ofA = all.filter(({ sourceId }) => sourceId === "a");
    expect(ofA.map((one) => [Buffer.from(one.payload).toString(), one.timestampUs])).toEqual(
      Array.from({ length: 500 }, (_, i) => [`a${i + 1}`, 1_001 + i]),
    );
    const ofB = all.filter(({ sourceId }) => sourceId === "b");
    expect(ofB.length).toBe(500);
    expect(Buffer.compare(ofB[249]?.payload ?? new Uint8Array(0), big)).toBe(0);
  });

  it("back-pressure reaches a data source on another machine", async () => {
    const { tcp, intake, data: receive } = await scene({}, 1 << 20);
    const feed = later(
      await createFeed({ to: `${tcp.host}:${tcp.port}`, sourceId: "a", keepMiB: 4 }),
    );
    const payload = new Uint8Array(50_000);
    // Nobody has joined: overlay, credit and what the feed keeps fill up one after the other.
    while (feed.write(payload).accepted === 1);
    const acceptedBytes = (): number => feed.accepted * payload.length;
    await vi.waitFor(() => {
      expect(intake.status().sources[0]?.queuedBytes).toBeGreaterThan(900_000);
      expect(acceptedBytes()).toBeGreaterThan(3 << 19);
    }, 60_000);
    const keptBytes = feed.status().keptBytes;
    expect(keptBytes).toBeGreaterThan(3 << 20);
    expect(keptBytes).toBeLessThanOrEqual(4 << 20);
    expect(acceptedBytes()).toBeLessThan(5 << 19);
    expect(feed.held).toBe(0);
    expect(feed.write(payload).accepted).toBe(0);
    void receive();
    await feed.writable();
    await feed.push(payload);
    await feed.whenHeld();
    expect(feed.status().keptBytes).toBe(0);
  }, 120_000);

  it("says why it can not be: address, reach, an id that is taken, a session that is over", async () => {
    const { source, tcp } = await scene();
    const to = `${tcp.host}:${tcp.port}`;
    await expect(createFeed({ to: "nowhere", sourceId: "a" })).rejects.toMatchObject({
      code: "USAGE",
    });
    await expect(createFeed({ to: "192.0.2.1:7950", sourceId: "a" })).rejects.toMatchObject({
      code: "PLAINTEXT_REFUSED",
    });
    await expect(createFeed({ to, sourceId: "" })).rejects.toMatchObject({ code: "USAGE" });
    await expect(
      createFeed({ to: "127.0.0.1:1", sourceId: "a", retryMs: 50 }),
    ).rejects.toMatchObject({ code: "UNREACHABLE" });
    const feed = await feedTo(tcp, "a");
    await expect(createFeed({ to, sourceId: "a" })).rejects.toMatchObject({
      code: "SOURCE_REGISTERED",
    });
    const aborted = new AbortController();
    const waiting = createFeed({ to: "127.0.0.1:1", sourceId: "a", signal: aborted.signal });
    aborted.abort();
    await expect(waiting).rejects.toMatchObject({ name: "AbortError" });
    const failed = new Promise<string>((resolve) => {
      feed.on("failed", ({ code }) => resolve(code));
    });
    await source.close();
    expect(await failed).toBe("SESSION_LOST");
    await expect(feed.push(text("x"))).rejects.toBeInstanceOf(OperationError);
  });
});
