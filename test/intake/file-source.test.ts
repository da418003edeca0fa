import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { chmod } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readFileBlocks, readStreamBlocks } from "../../src/intake/file-source.ts";
import { bytesOf, join } from "./cutting.ts";

let folder: string;
let filePath: string;
const content = new Uint8Array(1_000_003).map((_, i) => (i * 31) ^ (i >> 8));

beforeAll(() => {
  folder = mkdtempSync(joinPath(tmpdir(), "mp2p-file-source-"));
  filePath = joinPath(folder, "content");
  writeFileSync(filePath, content);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function collect(blocks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const copies: Uint8Array[] = [];
  for await (const block of blocks) {
    // Gives the read ahead time to overwrite a block that is still lent, if it would.
    await new Promise((resolve) => setImmediate(resolve));
    copies.push(block.slice());
  }
  return join(copies);
}

describe("readFileBlocks", () => {
  it.each([1_000, 65_536, 1_000_003, 4_000_000])(
    "reads a file in blocks of %i",
    async (blockBytes) => {
      const bytes = await collect(readFileBlocks(filePath, { blockBytes }));
      expect(Buffer.compare(bytes, content)).toBe(0);
    },
  );

  it("reads an empty file as no blocks", async () => {
    const empty = joinPath(folder, "empty");
    writeFileSync(empty, "");
    expect((await collect(readFileBlocks(empty))).length).toBe(0);
  });

  it("stops in the middle and leaves nothing open", async () => {
    const blocks = readFileBlocks(filePath, { blockBytes: 100 });
    await blocks.next();
    expect(await blocks.return(undefined)).toEqual({ done: true, value: undefined });
    expect((await blocks.next()).done).toBe(true);
  });

  it("names a missing file, a directory, and a path through a file", async () => {
    const cases = [
      [joinPath(folder, "missing"), "does not exist"],
      [folder, "is a directory"],
      [joinPath(filePath, "below"), "a part of its path is a file"],
    ] as const;
    for (const [path, words] of cases) {
      await expect(collect(readFileBlocks(path)), path).rejects.toMatchObject({
        code: "FILE_NOT_FOUND",
        detail: expect.stringMatching(`^${path}: .*${words}`),
      });
    }
  });

  it("names a missing right", async () => {
    const secret = joinPath(folder, "secret");
    writeFileSync(secret, "secret");
    await chmod(folder, 0o755);
    await chmod(secret, 0o000);
    // The superuser may read everything, so the test reads as somebody else.
    const isRoot = process.geteuid?.() === 0;
    if (isRoot) process.seteuid?.(65_534);
    try {
      await expect(collect(readFileBlocks(secret))).rejects.toMatchObject({
        code: "FILE_NOT_FOUND",
        detail: `${secret}: permission denied`,
      });
    } finally {
      if (isRoot) process.seteuid?.(0);
    }
  });

  it("ends with ABORTED: before the first block, between blocks", async () => {
    const before = readFileBlocks(filePath, { signal: AbortSignal.abort() });
    await expect(before.next()).rejects.toMatchObject({ code: "ABORTED" });
    const controller = new AbortController();
    const between = readFileBlocks(filePath, { blockBytes: 100, signal: controller.signal });
    await between.next();
    controller.abort();
    await expect(between.next()).rejects.toMatchObject({ code: "ABORTED" });
  });

  it("an abort does not wait for a silent pipe", async () => {
    const pipe = joinPath(folder, "pipe");
    execFileSync("mkfifo", [pipe]);
    // Opened for both directions, so that neither side waits for the other; nobody writes.
    const writer = openSync(pipe, "r+");
    const controller = new AbortController();
    const next = readFileBlocks(pipe, { signal: controller.signal }).next();
    setImmediate(() => controller.abort());
    await expect(next).rejects.toMatchObject({ code: "ABORTED" });
    // Lets the read that is under way end.
    writeSync(writer, "x");
    closeSync(writer);
  });
});

describe("readStreamBlocks", () => {
  it("gives bytes and text of a stream in order, then destroys it", async () => {
    const stream = Readable.from([Buffer.from("a"), "ü", Buffer.from("b")]);
    expect(await collect(readStreamBlocks(stream, "standard input"))).toEqual(bytesOf("aüb"));
    expect(stream.destroyed).toBe(true);
  });

  it("does not read ahead of its consumer", async () => {
    let madeCount = 0;
    const stream = new Readable({
      highWaterMark: 10,
      read() {
        madeCount++;
        this.push(new Uint8Array(10));
      },
    });
    const blocks = readStreamBlocks(stream, "standard input");
    await blocks.next();
    for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
    expect(madeCount).toBeLessThanOrEqual(3);
    await blocks.return(undefined);
    expect(stream.destroyed).toBe(true);
  });

  it("says what a stream that fails was", async () => {
    const stream = new PassThrough();
    const next = readStreamBlocks(stream, "standard input").next();
    stream.destroy(Object.assign(new Error("read"), { code: "EISDIR" }));
    await expect(next).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
      detail: "standard input: is a directory",
    });
  });

  it("gives what it has read before an abort, and no more", async () => {
    const controller = new AbortController();
    let made = 0;
    const stream = new Readable({
      highWaterMark: 30,
      read() {
        this.push(new Uint8Array(10).fill(++made));
      },
    });
    const blocks = readStreamBlocks(stream, "stdin", { signal: controller.signal });
    const { value: first } = await blocks.next();
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
    const buffered = stream.readableLength;
    expect(buffered).toBeGreaterThanOrEqual(30);
    controller.abort();
    const { value: rest } = await blocks.next();
    expect(rest?.length).toBeGreaterThanOrEqual(buffered);
    expect(rest?.length).toBeLessThanOrEqual(buffered + 10);
    expect(rest?.[0]).toBe((first?.[(first?.length ?? 0) - 1] ?? 0) + 1);
    await expect(blocks.next()).rejects.toMatchObject({ code: "ABORTED" });
  });

  it("an abort does not wait for a silent stream", async () => {
    const controller = new AbortController();
    const stream = new PassThrough();
    const next = readStreamBlocks(stream, "stdin", { signal: controller.signal }).next();
    controller.abort();
    await expect(next).rejects.toMatchObject({ code: "ABORTED" });
    expect(stream.destroyed).toBe(true);
  });
});
