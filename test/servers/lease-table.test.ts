import fc from "fast-check";
import { expect, it } from "vitest";
import { LeaseTable } from "../../src/servers/lease-table.ts";

it("agrees with a plain map of ends over any grants, drops and passing time", () => {
  const step = fc.record({
    key: fc.constantFrom("a", "b", "c", "d", "e"),
    action: fc.constantFrom("grant", "grant", "drop", "pass"),
    ms: fc.integer({ min: 1, max: 50 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const table = new LeaseTable();
      const model = new Map<string, number>();
      let nowMs = 0;
      for (const { key, action, ms } of steps) {
        if (action === "grant") {
          table.grant(key, ms, nowMs);
          model.set(key, nowMs + ms);
        } else if (action === "drop") {
          table.drop(key);
          model.delete(key);
        } else {
          nowMs += ms;
          const ended = new Set<string>();
          for (
            let next = table.takeEnded(nowMs);
            next !== undefined;
            next = table.takeEnded(nowMs)
          ) {
            expect(ended.has(next)).toBe(false);
            ended.add(next);
          }
          const due = [...model].filter(([, endMs]) => endMs <= nowMs).map(([name]) => name);
          expect([...ended].sort()).toEqual(due.sort());
          for (const name of due) model.delete(name);
        }
        expect(table.size).toBe(model.size);
        expect(table.earliestMs()).toBe(Math.min(...model.values(), Number.POSITIVE_INFINITY));
        for (const name of "abcde") {
          expect(table.holds(name, nowMs)).toBe((model.get(name) ?? 0) > nowMs);
        }
      }
    }),
    { numRuns: 500 },
  );
});

it("renewing for ever does not make it grow", () => {
  const table = new LeaseTable();
  for (let nowMs = 0; nowMs < 200_000; nowMs++) table.grant("a", nowMs % 2 === 0 ? 100 : 90, nowMs);
  expect(table.earliestMs()).toBe(200_000 - 1 + 90);
  expect(table.takeEnded(400_000)).toBe("a");
  expect(table.takeEnded(400_000)).toBeUndefined();
  expect(table.earliestMs()).toBe(Number.POSITIVE_INFINITY);
});
