import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { seededRng } from "../../src/base/rng.ts";
import { lmdbFileFault } from "../../src/store/lmdb-check.ts";
import { openLmdbStore } from "../../src/store/lmdb-store.ts";
import { put, run } from "./contract.ts";

const ALL = { kind: "range", from: "", to: "\uffff", limit: 1_000 } as const;
const PAGE_BYTES = 4_096;

function newDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "mp2p-check-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A closed store with overwritten, removed and large records, so with free pages too. */
async function someStore(directory: string): Promise<{ file: string; content: string }> {
  const store = await openLmdbStore(directory);
  for (let i = 0; i < 12; i++) {
    const value = new Uint8Array(i === 3 ? 5_000 : 10 + i).fill(i);
    await run(store, put(`key/${i % 5}`, i === 9 ? undefined : value));
  }
  const content = JSON.stringify(await store.execute(ALL));
  await store.close();
  return { file: join(directory, "store.mdb"), content };
}

describe("check of the file", () => {
  test("finds no fault in what LMDB writes, after any commit", async () => {
    const step = fc.record({
      key: fc.tuple(fc.nat(60), fc.constantFrom(1, 40, 400)),
      bytes: fc.option(fc.oneof(fc.nat(100), fc.nat(3_000), fc.nat(40_000))),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(step, { minLength: 1, maxLength: 12 }), { minLength: 5, maxLength: 30 }),
        async (commits) => {
          const directory = mkdtempSync(join(tmpdir(), "mp2p-check-"));
          const file = join(directory, "store.mdb");
          let store = await openLmdbStore(directory);
          try {
            for (const [i, steps] of commits.entries()) {
              await Promise.all(
                steps.map(({ key: [name, length], bytes }) =>
                  store.execute(
                    put(
                      "k".repeat(length) + name,
                      bytes === null ? undefined : new Uint8Array(bytes).fill(i),
                    ),
                  ),
                ),
              );
              expect(lmdbFileFault(file)).toBeUndefined();
              if (i % 10 !== 9) continue;
              await store.close();
              store = await openLmdbStore(directory);
            }
          } finally {
            await store.close();
            rmSync(directory, { recursive: true });
          }
        },
      ),
      { numRuns: 10 },
    );
  });

  test("a flipped bit in any byte is found or harmless: never a wrong value, never a crash", async () => {
    const directory = newDirectory();
    const { file, content } = await someStore(directory);
    const pristine = readFileSync(file);
    const rng = seededRng(7);
    const unnoticed: { readonly at: number; readonly bit: number }[] = [];
    const descriptor = openSync(file, "r+");
    for (let at = 0; at < pristine.length; at++) {
      const byte = pristine[at] ?? 0;
      // Heads of pages, all that is in use or was, and a sample of the empty rest.
      if (byte === 0 && at % PAGE_BYTES >= 192 && at % 16 !== 0) continue;
      const bit = 1 << rng.below(8);
      writeSync(descriptor, Buffer.from([byte ^ bit]), 0, 1, at);
      if (lmdbFileFault(file) === undefined) unnoticed.push({ at, bit });
      writeSync(descriptor, Buffer.from([byte]), 0, 1, at);
    }
    closeSync(descriptor);

    // The rest is for the checksums of records, or changes nothing: heads of the file, then each
    // 32nd byte elsewhere, by really opening it.
    const tried = unnoticed.filter(
      ({ at }, i) => (at % PAGE_BYTES < 192 && at < 8_192) || i % 16 === 0,
    );
    expect(tried.length).toBeGreaterThan(100);
    let opened = 0;
    for (const { at, bit } of tried) {
      const damaged = Buffer.from(pristine);
      damaged[at] = (damaged[at] ?? 0) ^ bit;
      writeFileSync(file, damaged);
      const store = await openLmdbStore(directory).catch((error) => error);
      if (store instanceof Error) {
        expect({ at, error: store }).toMatchObject({ error: { code: "STORE_CORRUPT" } });
        continue;
      }
      opened++;
      expect({ at, content: JSON.stringify(await store.execute(ALL)) }).toEqual({ at, content });
      expect(await store.execute(put("new", new Uint8Array(6_000)))).toMatchObject({
        committed: true,
        revision: 13,
      });
      await store.close();
    }
    expect(opened).toBeGreaterThan(50);
  });

  test("a head that brings back the state before the last commit is refused", async () => {
    const directory = newDirectory();
    const { file } = await someStore(directory);
    const pristine = readFileSync(file);
    const at = (head: number) => head * PAGE_BYTES + 152;
    const [first, second] = [pristine.readBigUInt64LE(at(0)), pristine.readBigUInt64LE(at(1))];
    const [older, newest] = first < second ? [0, second] : [1, first];
    for (const transaction of [newest + 1n, 2n ** 40n]) {
      const damaged = Buffer.from(pristine);
      damaged.writeBigUInt64LE(transaction, at(older));
      writeFileSync(file, damaged);
      await expect(openLmdbStore(directory)).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    }
  });

  test("a file cut short is refused, or lost nothing but free pages", async () => {
    const directory = newDirectory();
    const { file, content } = await someStore(directory);
    const pristine = readFileSync(file);
    let refused = 0;
    const cuts = Array.from({ length: pristine.length / PAGE_BYTES }, (_, i) => i * PAGE_BYTES);
    for (const bytes of [1, 100, PAGE_BYTES - 1, 2 * PAGE_BYTES - 1, ...cuts.slice(1)]) {
      writeFileSync(file, pristine);
      truncateSync(file, bytes);
      const store = await openLmdbStore(directory).catch((error) => error);
      if (store instanceof Error) {
        expect(store).toMatchObject({ code: "STORE_CORRUPT" });
        refused++;
        continue;
      }
      expect(JSON.stringify(await store.execute(ALL))).toBe(content);
      await store.close();
    }
    expect(refused).toBeGreaterThan(6);
  });

  test("an absent and an empty file are new stores", async () => {
    const directory = newDirectory();
    const file = join(directory, "store.mdb");
    expect(lmdbFileFault(file)).toBeUndefined();
    writeFileSync(file, "");
    expect(lmdbFileFault(file)).toBeUndefined();
    const store = await openLmdbStore(directory);
    expect((await run(store, put("a", new Uint8Array(1)))).revision).toBe(1);
    await store.close();
  });
});
