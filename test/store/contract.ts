/** What every store promises. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { StoreOperation, StoreResult } from "../../src/base/machine.ts";
import type { Store } from "../../src/store/store.ts";

type Of<K extends StoreResult["kind"]> = Extract<StoreResult, { kind: K }>;

export async function run<K extends StoreOperation["kind"]>(
  store: Store,
  operation: Extract<StoreOperation, { kind: K }>,
): Promise<Of<K>> {
  const result = await store.execute(operation);
  expect(result).toMatchObject({ kind: operation.kind });
  return result as Of<K>;
}

export const put = (
  key: string,
  value: Uint8Array | undefined,
  revision?: number,
): Extract<StoreOperation, { kind: "transaction" }> => ({
  kind: "transaction",
  conditions: revision === undefined ? [] : [{ key, revision }],
  writes: [{ key, value }],
});

export const text = (value: string) => new Uint8Array(Buffer.from(value));

export function storeContract(name: string, make: () => Promise<Store>): void {
  describe(`${name}: store contract`, () => {
    test("what was written is read, with its revision; an absent key is absent", async () => {
      const store = await make();
      const written = await run(store, put("a", text("one"), 0));
      expect(written).toEqual({ kind: "transaction", committed: true, revision: 1 });
      const read = await run(store, { kind: "read", key: "a" });
      expect(read.record).toEqual({ key: "a", value: text("one"), revision: 1 });
      expect((await run(store, { kind: "read", key: "b" })).record).toBeUndefined();
    });

    test("compare-and-set: a wrong revision changes nothing", async () => {
      const store = await make();
      await run(store, put("a", text("one"), 0));
      for (const revision of [0, 2, 99]) {
        expect((await run(store, put("a", text("two"), revision))).committed).toBe(false);
      }
      expect((await run(store, put("b", text("x"), 1))).committed).toBe(false);
      expect((await run(store, { kind: "read", key: "a" })).record?.value).toEqual(text("one"));
      expect(await run(store, put("a", text("two"), 1))).toMatchObject({
        committed: true,
        revision: 2,
      });
    });

    test("a transaction is all or nothing, over several keys", async () => {
      const store = await make();
      await run(store, put("a", text("1")));
      const both = (revision: number): Extract<StoreOperation, { kind: "transaction" }> => ({
        kind: "transaction",
        conditions: [
          { key: "a", revision: 1 },
          { key: "b", revision },
        ],
        writes: [
          { key: "a", value: undefined },
          { key: "b", value: text("2") },
          { key: "c", value: text("3") },
        ],
      });
      expect((await run(store, both(5))).committed).toBe(false);
      const all = { kind: "range", from: "", to: "z", limit: 10 } as const;
      expect((await run(store, all)).records.map(({ key }) => key)).toEqual(["a"]);
      expect((await run(store, both(0))).committed).toBe(true);
      const { records } = await run(store, all);
      expect(records.map(({ key, revision }) => [key, revision])).toEqual([
        ["b", 2],
        ["c", 2],
      ]);
    });

    test("revisions rise over the whole store, past removals", async () => {
      const store = await make();
      await run(store, put("a", text("1")));
      await run(store, put("a", undefined, 1));
      expect((await run(store, { kind: "read", key: "a" })).record).toBeUndefined();
      expect((await run(store, put("a", text("2"), 0))).revision).toBe(3);
      expect((await run(store, put("never", undefined))).revision).toBe(4);
    });

    test("transactions of one turn see each other in the order they were asked for", async () => {
      const store = await make();
      const results = await Promise.all([
        store.execute(put("a", text("1"), 0)),
        store.execute(put("a", text("2"), 0)),
        store.execute(put("a", text("3"), 1)),
      ]);
      expect(results.map((each) => each.kind === "transaction" && each.committed)).toEqual([
        true,
        false,
        true,
      ]);
    });

    test("ranges are in code unit order, from inclusive, to exclusive, limited", async () => {
      const store = await make();
      // U+FF5E sorts after a surrogate pair by code unit, before it by UTF-8 byte.
      const keys = ["a", "a\0", "aa", "b", "é", "\u{1f600}", "\uff5e"];
      for (const key of [...keys].reverse()) await run(store, put(key, text(key)));
      const range = (from: string, to: string, limit = 100) =>
        run(store, { kind: "range", from, to, limit }).then(({ records }) =>
          records.map(({ key }) => key),
        );
      expect(await range("", "\uffff")).toEqual([...keys].sort());
      expect(await range("a\0", "b")).toEqual(["a\0", "aa"]);
      expect(await range("", "\uffff", 3)).toEqual(["a", "a\0", "aa"]);
      expect(await range("b", "b")).toEqual([]);
      expect(await range("c", "a")).toEqual([]);
    });

    test("values are copied on the way in and out", async () => {
      const store = await make();
      const value = text("mine");
      await run(store, put("a", value));
      value.fill(0);
      const first = (await run(store, { kind: "read", key: "a" })).record;
      expect(first?.value).toEqual(text("mine"));
      first?.value.fill(0);
      expect((await run(store, { kind: "read", key: "a" })).record?.value).toEqual(text("mine"));
    });

    test("operations that can't be right are refused with USAGE", async () => {
      const store = await make();
      const twice = { ...put("a", text("1")), writes: [put("a", text("1")), put("a", undefined)] };
      for (const operation of [
        { kind: "read", key: "" },
        { kind: "read", key: "x".repeat(901) },
        put("", text("")),
        put("a", new Uint8Array(1024 * 1024 + 1)),
        { kind: "range", from: "", to: "z", limit: 0 },
        { ...twice, writes: twice.writes.flatMap(({ writes }) => writes) },
      ] as StoreOperation[]) {
        expect(await store.execute(operation)).toMatchObject({ kind: "error", code: "USAGE" });
      }
      await run(store, put("x".repeat(900), new Uint8Array(0)));
      expect((await run(store, { kind: "read", key: "x".repeat(900) })).record?.value.length).toBe(
        0,
      );
    });

    test("after close operations fail with CLOSED; what was asked before is done", async () => {
      const store = await make();
      const before = store.execute(put("a", text("1")));
      await store.close();
      await store.close();
      expect(await before).toMatchObject({ kind: "transaction", committed: true });
      expect(await store.execute({ kind: "read", key: "a" })).toMatchObject({ code: "CLOSED" });
    });

    test("agrees with a plain map over any sequence of operations", async () => {
      const key = fc.constantFrom("a", "b", "c", "d");
      const step = fc.record({
        key,
        revision: fc.nat(6),
        value: fc.option(fc.uint8Array({ maxLength: 9 })),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
          const store = await make();
          const model = new Map<string, { value: Uint8Array; revision: number }>();
          let last = 0;
          for (const { key: at, revision, value } of steps) {
            const result = await run(store, put(at, value ?? undefined, revision));
            const fits = (model.get(at)?.revision ?? 0) === revision;
            expect(result.committed).toBe(fits);
            if (!fits) continue;
            expect(result.revision).toBe(++last);
            if (value === null) model.delete(at);
            else model.set(at, { value, revision: last });
          }
          const { records } = await run(store, { kind: "range", from: "", to: "z", limit: 9 });
          const expected = [...model].sort(([a], [b]) => (a < b ? -1 : 1));
          expect(records).toEqual(expected.map(([k, record]) => ({ key: k, ...record })));
          await store.close();
        }),
        { numRuns: 25 },
      );
    });
  });
}
