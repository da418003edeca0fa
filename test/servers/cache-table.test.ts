/** What of a row is written when; the disk answers by hand. */

import { describe, expect, it } from "vitest";
import { CacheTable } from "../../src/servers/cache-table.ts";

const NOW = { monoMs: 0, wallUs: 0 };
const CACHE = "cc".repeat(32);
const OFFER = { label: "rack", virtualPeers: ["a1".repeat(32)], overlaysPerPeer: 2 };

type Answer = Parameters<Parameters<ConstructorParameters<typeof CacheTable>[1]>[2]>[0];

describe("a row of the table of cache servers", () => {
  it("that was removed after its first write failed is not written again", () => {
    const writes: ((answer: Answer) => void)[] = [];
    const saved: boolean[] = [];
    const table = new CacheTable(
      "cache/",
      (_writes, now, answered) => writes.push((answer) => answered(answer, now)),
      (_row, isSaved) => saved.push(isSaved),
    );
    const full = { code: "STORE_FULL", detail: "no space" } as const;
    const heard: (string | undefined)[] = [];
    const row = table.offer(CACHE, OFFER);
    table.save(row, NOW, (failure) => heard.push(failure?.code));
    table.remove(row, NOW, (failure) => heard.push(`removed ${failure?.code}`));
    writes[0]?.(full);
    // What wanted to be removed waits for one more write, and somebody else for the next.
    table.save(row, NOW, (failure) => heard.push(failure?.code));
    writes[1]?.(full);
    expect(heard).toEqual(["STORE_FULL", "STORE_CONFLICT", "removed undefined"]);
    expect(writes).toHaveLength(2);
    expect(saved).toEqual([false]);
    expect(table.get(CACHE)).toBeUndefined();
  });
});
