/** From an input to a data source: what an abort leaves of it. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, describe, expect, it } from "vitest";
import { feed, openInput, skipData } from "../../src/host/node-feed.ts";
import type { DataBatch } from "../../src/intake/data-batch.ts";

const folder = mkdtempSync(path.join(tmpdir(), "mp2p-node-feed-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Takes all, but for the first `full` times that it is asked. */
function sink(full = 0) {
  const lengths: number[] = [];
  let left = full;
  const target = {
    writable: () => Promise.resolve(),
    writeBatch: ({ lengths: some }: { readonly lengths: Uint32Array }) => {
      if (left-- > 0) return { accepted: 0 };
      lengths.push(...some);
      return { accepted: some.length };
    },
  };
  return { lengths, target };
}

describe("an abort", () => {
  it("leaves no part of a piece of a file: another run begins with it", async () => {
    const file = path.join(folder, "raw");
    writeFileSync(file, new Uint8Array(3 * 256 * 1024));
    // At any moment of the reading.
    for (let ticks = 0; ticks < 40; ticks++) {
      const controller = new AbortController();
      const { signal } = controller;
      const { lengths, target } = sink();
      const data = openInput({ input: file, format: "raw", rawBytes: 10_000, signal });
      const abortIn = (left: number): void => {
        if (left === 0) controller.abort();
        else queueMicrotask(() => abortIn(left - 1));
      };
      const counting = {
        ...target,
        writeBatch: (batch: { readonly lengths: Uint32Array }) => {
          if (lengths.length === 0) abortIn(ticks);
          return target.writeBatch(batch);
        },
      };
      const error: unknown = await feed(counting, data, { signal }).catch((caught) => caught);
      expect(error).toMatchObject({ code: "ABORTED" });
      expect(new Set(lengths)).toEqual(new Set([10_000]));
    }
  });

  it("leaves all of a stream's raw bytes that were read, at no rate", async () => {
    const controller = new AbortController();
    const stream = new PassThrough();
    const { signal } = controller;
    const { lengths, target } = sink();
    const data = openInput({ input: stream, format: "raw", rawBytes: 10_000, signal });
    const done = feed(target, data, { ratePerSecond: 0.1, hurries: signal });
    stream.write(new Uint8Array(12_000));
    stream.write(new Uint8Array(12_000));
    while (lengths.length === 0) await new Promise((resolve) => setImmediate(resolve));
    controller.abort();
    await done;
    expect(lengths).toEqual([10_000, 10_000, 4_000]);
  });

  it("is no abort any more where the stream has ended, and drops half a line where it has not", async () => {
    for (const ends of [true, false]) {
      const controller = new AbortController();
      const stream = new PassThrough();
      const { signal } = controller;
      const { lengths, target } = sink();
      const data = openInput({ input: stream, format: "lines", rawBytes: 1, signal });
      const done = feed(target, data, { ratePerSecond: 0.1, hurries: signal });
      stream.write("a\nbc\ndef");
      if (ends) stream.end();
      while (lengths.length === 0) await new Promise((resolve) => setImmediate(resolve));
      controller.abort();
      if (ends) await done;
      else await expect(done).rejects.toMatchObject({ code: "ABORTED" });
      expect(lengths).toEqual(ends ? [2, 3, 3] : [2, 3]);
    }
  });

  it("of the writing drops what is not written", async () => {
    const controller = new AbortController();
    const { lengths, target } = sink(3);
    async function* batches(): AsyncGenerator<DataBatch> {
      yield { payloads: new Uint8Array(4), lengths: Uint32Array.of(4), count: 1 };
      controller.abort();
      yield { payloads: new Uint8Array(5), lengths: Uint32Array.of(5), count: 1 };
    }
    const { signal } = controller;
    await expect(feed(target, batches(), { signal })).rejects.toMatchObject({ code: "ABORTED" });
    expect(lengths).toEqual([4]);
  });
});

describe("what the source peer has", () => {
  it("is skipped, amid a batch too; an input with less is not what was sent", async () => {
    async function* batches(): AsyncGenerator<DataBatch> {
      for (let i = 0; i < 2; i++) {
        yield {
          payloads: Uint8Array.of(1, 2, 2, 3, 3, 3),
          lengths: Uint32Array.of(1, 2, 3),
          count: 3,
        };
      }
    }
    const left = async (count: number): Promise<number[]> => {
      const all: number[] = [];
      for await (const { lengths } of skipData(batches(), count)) all.push(...lengths);
      return all;
    };
    expect(await left(0)).toEqual([1, 2, 3, 1, 2, 3]);
    expect(await left(4)).toEqual([2, 3]);
    expect(await left(6)).toEqual([]);
    await expect(left(7)).rejects.toMatchObject({
      code: "INPUT_MALFORMED",
      detail: expect.stringContaining("has 7 data, the input only 6"),
    });
  });
});
