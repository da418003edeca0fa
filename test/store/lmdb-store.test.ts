import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { LmdbStore, openLmdbStore } from "../../src/store/lmdb-store.ts";
import { put, run, storeContract, text } from "./contract.ts";

function newDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "mp2p-store-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function open(directory: string): Promise<LmdbStore> {
  const store = await openLmdbStore(directory);
  onTestFinished(() => store.close());
  return store;
}

storeContract("lmdb", () => open(newDirectory()));

const writer = new URL("writer.mjs", import.meta.url).pathname;
const builtStore = new URL("../../dist/store/lmdb-store.js", import.meta.url).href;

function startWriter(directory: string): { child: ChildProcess; lines: AsyncIterator<string> } {
  const child = spawn(process.execPath, [writer, builtStore, directory], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  if (child.stdout === null) throw new Error("no output");
  return { child, lines: createInterface(child.stdout)[Symbol.asyncIterator]() };
}

describe("lmdb store", () => {
  test("records outlive the process, revisions go on", async () => {
    const directory = newDirectory();
    const first = await open(directory);
    await run(first, put("a", text("1")));
    await run(first, put("b", text("2")));
    await run(first, put("b", undefined));
    await first.close();
    const second = await open(directory);
    expect((await run(second, { kind: "read", key: "a" })).record?.revision).toBe(1);
    expect((await run(second, put("c", text("3")))).revision).toBe(4);
  });

  test("kill -9: every acknowledged write is there after the restart", async () => {
    const directory = newDirectory();
    let acknowledged = -1;
    for (const enough of [40, 90, 140]) {
      const { child, lines } = startWriter(directory);
      expect((await lines.next()).value).toBe("open");
      for (;;) {
        const line: string = (await lines.next()).value;
        acknowledged = Math.max(acknowledged, Number(line));
        if (Number(line) >= enough) break;
      }
      child.kill("SIGKILL");
      for (let next = await lines.next(); next.done !== true; next = await lines.next()) {
        acknowledged = Math.max(acknowledged, Number(next.value));
      }
      const store = await open(directory);
      for (let i = 0; i <= acknowledged; i++) {
        const { record } = await run(store, { kind: "read", key: `record/${i}` });
        expect(record?.value.length).toBe(200 + (i % 3000));
        expect(record?.value.every((byte) => byte === (i & 0xff))).toBe(true);
      }
      await store.close();
    }
    expect(acknowledged).toBeGreaterThanOrEqual(140);
  });

  test("a second server on the directory is refused with DATA_DIR_IN_USE", async () => {
    const directory = newDirectory();
    const store = await open(directory);
    await expect(openLmdbStore(directory)).rejects.toMatchObject({ code: "DATA_DIR_IN_USE" });
    const { child, lines } = startWriter(directory);
    expect((await lines.next()).value).toBe("failed DATA_DIR_IN_USE");
    if (child.exitCode === null) await new Promise((resolve) => child.once("exit", resolve));
    expect(child.exitCode).toBe(1);
    await run(store, put("a", text("still works")));
    await store.close();
    await open(directory);
  });

  test("the lock names its holder, and holds while the holder is stopped", async () => {
    const directory = newDirectory();
    const { child, lines } = startWriter(directory);
    await lines.next();
    await expect(openLmdbStore(directory)).rejects.toThrow(`process ${child.pid}`);
    child.kill("SIGSTOP");
    await expect(openLmdbStore(directory)).rejects.toMatchObject({ code: "DATA_DIR_IN_USE" });
  });

  test("of many that start over a dead one's lock, one gets the directory", async () => {
    const directory = newDirectory();
    const { child, lines } = startWriter(directory);
    await lines.next();
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
    const results = await Promise.allSettled(
      Array.from({ length: 8 }, () => openLmdbStore(directory)),
    );
    const opened = results.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
    expect(opened).toHaveLength(1);
    for (const each of results) {
      if (each.status === "rejected") expect(each.reason.code).toBe("DATA_DIR_IN_USE");
    }
    await opened[0]?.close();
  });

  test("a directory with a very long path works", async () => {
    const directory = join(newDirectory(), "d".repeat(120));
    const store = await open(directory);
    await run(store, put("a", text("1")));
    await expect(openLmdbStore(directory)).rejects.toMatchObject({ code: "DATA_DIR_IN_USE" });
  });

  test("a directory that the file system refuses to make is DATA_DIR_UNUSABLE, at once", async () => {
    await expect(openLmdbStore("/proc/mp2p/data")).rejects.toMatchObject({
      code: "DATA_DIR_UNUSABLE",
    });
  });

  test("a path that is no directory is DATA_DIR_UNUSABLE", async () => {
    const file = join(newDirectory(), "file");
    writeFileSync(file, "x");
    await expect(openLmdbStore(file)).rejects.toMatchObject({ code: "DATA_DIR_UNUSABLE" });
    await expect(openLmdbStore(join(file, "below"))).rejects.toMatchObject({
      code: "DATA_DIR_UNUSABLE",
    });
  });

  test("any flipped bit of a record refuses the start and names the key", async () => {
    const directory = newDirectory();
    const store = await open(directory);
    const marker = "a value that occurs once in the file";
    await run(store, put("overlay/7", text(marker)));
    await run(store, put("overlay/8", text("another")));
    await store.close();
    const file = join(directory, "store.mdb");
    const pristine = readFileSync(file);
    // Pages are copied on write: older copies may lie about.
    const places: number[] = [];
    for (let at = pristine.indexOf(marker); at >= 0; at = pristine.indexOf(marker, at + 1)) {
      places.push(at);
    }
    expect(places).not.toEqual([]);
    const flips: [number, number][] = [
      [0, 0x01],
      [marker.length - 1, 0x80],
      // Format version, checksum and revision before the value.
      [-16, 0x02],
      [-12, 0x10],
      [-8, 0x01],
    ];
    for (const [offset, bit] of flips) {
      const damaged = Buffer.from(pristine);
      for (const at of places) damaged[at + offset] = (damaged[at + offset] ?? 0) ^ bit;
      writeFileSync(file, damaged);
      const opening = openLmdbStore(directory);
      await expect(opening).rejects.toMatchObject({ code: "STORE_CORRUPT" });
      await expect(opening).rejects.toThrow('"overlay/7"');
    }
    writeFileSync(file, pristine);
    await open(directory);
  });

  test("a file that is no store is refused with STORE_CORRUPT", async () => {
    const directory = newDirectory();
    for (const bytes of [10, 8192, 65_536]) {
      writeFileSync(join(directory, "store.mdb"), Buffer.alloc(bytes, 0x5a));
      await expect(openLmdbStore(directory)).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    }
    writeFileSync(join(directory, "store.mdb"), "");
    await open(directory);
  });

  test("a full disk refuses writes, reads go on, and freed space ends it", async () => {
    const directory = newDirectory();
    const disk = join(directory, "disk");
    mkdirSync(disk);
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]);
    if (mounted.status !== 0) {
      // Not allowed to mount: the same refusal, from a stand-in.
      const store = await openBroken(directory, Object.assign(new Error("full"), { code: 28 }));
      expect(await store.execute(put("b", text("1")))).toMatchObject({ code: "STORE_FULL" });
      expect((await run(store, { kind: "read", key: "a" })).record?.value).toEqual(text("1"));
      return;
    }
    onTestFinished(() => {
      spawnSync("umount", [disk]);
    });
    const ballast = join(disk, "ballast");
    const descriptor = openSync(ballast, "w");
    writeSync(descriptor, Buffer.alloc(500_000));
    closeSync(descriptor);
    const store = await open(disk);
    let written = 0;
    for (;;) {
      const result = await store.execute(put(`record/${written}`, new Uint8Array(50_000).fill(1)));
      if (result.kind === "error") {
        expect(result.code).toBe("STORE_FULL");
        break;
      }
      written++;
      expect(written).toBeLessThan(30);
    }
    expect(written).toBeGreaterThan(1);
    expect(store.writeFailure).toBeDefined();
    const all = { kind: "range", from: "", to: "z", limit: 100 } as const;
    expect((await run(store, all)).records).toHaveLength(written);
    rmSync(ballast);
    expect((await run(store, put("after", text("1")))).committed).toBe(true);
    expect(store.writeFailure).toBeUndefined();
    await store.close();
    const again = await open(disk);
    expect((await run(again, all)).records).toHaveLength(written + 1);
    await again.close();
  });

  test("a disk that has space again is noticed without anyone writing", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const full = Object.assign(new Error("No space left on device"), { code: 28 });
    const store = await openBroken(newDirectory(), full);
    expect(await store.execute(put("b", text("1")))).toMatchObject({ code: "STORE_FULL" });
    expect(store.writeFailure).toBe("No space left on device");
    vi.advanceTimersByTime(999);
    expect(store.writeFailure).toBeDefined();
    vi.advanceTimersByTime(1);
    expect(store.writeFailure).toBeUndefined();
    expect(await run(store, put("b", text("1")))).toMatchObject({ committed: true, revision: 2 });
  });

  test("after an I/O error writes are refused for good, reads go on", async () => {
    const store = await openBroken(
      newDirectory(),
      Object.assign(new Error("Input/output error"), { code: 5 }),
    );
    for (let i = 0; i < 3; i++) {
      expect(await store.execute(put("b", text("1")))).toMatchObject({
        kind: "error",
        code: "STORE_FULL",
        detail: "Input/output error",
      });
    }
    expect(store.writeFailure).toBe("Input/output error");
    expect((await run(store, { kind: "read", key: "a" })).record?.value).toEqual(text("1"));
  });
});

/** A store with one record, "a", whose first commit fails and whose later ones would not. */
async function openBroken(directory: string, error: Error): Promise<LmdbStore> {
  const { open: openEnvironment } = await import("lmdb");
  const seeding = await openLmdbStore(directory);
  await run(seeding, put("a", text("1")));
  await seeding.close();
  const options = { encoding: "binary", keyEncoding: "binary" } as const;
  const root = openEnvironment<Buffer, Buffer>({ path: join(directory, "store.mdb"), ...options });
  const records = root.openDB<Buffer, Buffer>("records", options);
  const meta = root.openDB<Buffer, Buffer>("meta", options);
  const original = root.transactionSync.bind(root);
  let commits = 0;
  root.transactionSync = ((action: () => unknown) => {
    if (commits++ === 0) throw error;
    return original(action);
  }) as typeof root.transactionSync;
  const lock = { release: async () => undefined };
  const store = new LmdbStore(root, records, meta, lock, directory);
  onTestFinished(() => store.close());
  return store;
}
