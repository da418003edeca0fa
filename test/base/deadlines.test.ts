/** The table of deadlines against a plain map. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Deadlines } from "../../src/base/deadlines.ts";

type Name = "a" | "b" | "c";
const name = fc.constantFrom<Name>("a", "b", "c");
const atMs = fc.integer({ min: 0, max: 20 });

const operation = fc.oneof(
  fc.record({ kind: fc.constant("set" as const), name, atMs }),
  fc.record({ kind: fc.constant("setIfEarlier" as const), name, atMs }),
  fc.record({ kind: fc.constant("clear" as const), name, atMs }),
  fc.record({ kind: fc.constant("take" as const), name, atMs }),
);

describe("deadlines", () => {
  test("earliestMs is the minimum of what is set, whatever came before", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (operations) => {
        const table = new Deadlines<Name>();
        const model = new Map<Name, number>();
        for (const step of operations) {
          const before = model.get(step.name);
          if (step.kind === "set") {
            table.set(step.name, step.atMs);
            model.set(step.name, step.atMs);
          } else if (step.kind === "setIfEarlier") {
            table.setIfEarlier(step.name, step.atMs);
            model.set(step.name, Math.min(before ?? Number.POSITIVE_INFINITY, step.atMs));
          } else if (step.kind === "clear") {
            table.clear(step.name);
            model.delete(step.name);
          } else {
            const due = before !== undefined && before <= step.atMs;
            expect(table.take(step.name, step.atMs)).toBe(due);
            if (due) model.delete(step.name);
          }
          expect(table.get(step.name)).toBe(model.get(step.name));
          expect(table.earliestMs()).toBe(Math.min(Number.POSITIVE_INFINITY, ...model.values()));
        }
      }),
      { numRuns: 500 },
    );
  });

  test("a deadline that is taken is gone; one that is not due stays", () => {
    const table = new Deadlines<Name>();
    table.set("a", 10);
    expect(table.take("a", 9.999)).toBe(false);
    expect(table.take("a", 10)).toBe(true);
    expect(table.take("a", 10)).toBe(false);
    expect(table.earliestMs()).toBe(Number.POSITIVE_INFINITY);
  });
});
