/** The receiving side, case by case; fragments are built byte by byte. */

import { describe, expect, it } from "vitest";
import type { TakenBefore } from "../../src/stream/source-book.ts";
import { buildFragment, type RecordPlan } from "../kernel/fragment-builder.ts";
import { createMemory, EPOCH_US, Producer, payloadOf, Receiver } from "./world.ts";

const declare = (
  number: number,
  id: string,
  base: number,
  { contentType = "", numbering = 0 } = {},
): RecordPlan => ({
  kind: "source",
  number,
  id,
  contentType,
  base,
  timestamp: EPOCH_US,
  numbering,
});
const datum = (number: number, bytes = 4): RecordPlan => ({
  kind: "datum",
  number,
  bytes,
  delta: 0,
});
const end = (number: number, last: number): RecordPlan => ({ kind: "end", number, last });

function receive(
  fragments: readonly (readonly RecordPlan[] | undefined)[],
  start = 0,
  before?: ReadonlyMap<string, TakenBefore>,
): Receiver {
  const receiver = new Receiver(createMemory(), 4096, { start, before });
  fragments.forEach((plans, i) => {
    if (plans !== undefined) receiver.store(start + i, buildFragment(plans, start + i));
  });
  return receiver;
}
const taken = (receiver: Receiver): string[] =>
  receiver.taken.map(({ sourceId, sequence }) => `${sourceId}${sequence}`);

describe("what was taken in an epoch before", () => {
  const before = new Map([["a", { last: 5, numbering: 77 }]]);
  const resumed = (...fragments: (readonly RecordPlan[] | undefined)[]): Receiver =>
    receive(fragments, 0, before);

  it("is dropped when its source goes on, whole fragments and parts of them", () => {
    const receiver = resumed(
      [declare(0, "a", 3), datum(0), datum(0), declare(1, "b", 9), datum(1)],
      [declare(0, "a", 5), datum(0), datum(0), datum(0)],
      [declare(0, "a", 8), datum(0), end(0, 8)],
    );
    receiver.take();
    expect(taken(receiver)).toEqual(["b9", "a6", "a7", "a8"]);
    expect(receiver.gaps).toEqual([]);
    expect(receiver.assembler.sources.get("a")).toMatchObject({ next: 9, ended: true });
  });

  it("and nothing but that: a source that ends there has ended", () => {
    const receiver = resumed([declare(0, "a", 4), datum(0), datum(0), end(0, 5)]);
    receiver.take();
    expect(taken(receiver)).toEqual([]);
    expect(receiver.assembler.sources.get("a")).toMatchObject({ next: 6, ended: true });
  });

  it("what is missing between is said", () => {
    const receiver = resumed([declare(0, "a", 8), datum(0)]);
    receiver.take();
    expect(taken(receiver)).toEqual(["a8"]);
    expect(receiver.gaps).toEqual([{ kind: "data", sourceId: "a", from: 6, to: 7 }]);
  });

  it("a source that begins with 1 is a new one", () => {
    const receiver = resumed([declare(0, "a", 1), datum(0), datum(0)]);
    receiver.take();
    expect(taken(receiver)).toEqual(["a1", "a2"]);
  });

  it("unless it goes by the same numbering: then it goes on, whatever was lost or missed", () => {
    const same = { numbering: 77 };
    const whole = resumed([declare(0, "a", 1, same), ...Array(7).fill(datum(0))]);
    whole.take();
    expect(taken(whole)).toEqual(["a6", "a7"]);
    const holed = resumed(undefined, [declare(0, "a", 4, same), ...Array(4).fill(datum(0))]);
    holed.assembler.skipTo(1);
    holed.take();
    expect(taken(holed)).toEqual(["a6", "a7"]);
    const late = receive([[declare(0, "a", 9, same), datum(0)]], 7, before);
    late.take();
    expect(taken(late)).toEqual(["a9"]);
    expect(whole.gaps).toEqual([]);
    // It came late into this epoch, but what lies between was there.
    expect(late.gaps).toEqual([{ kind: "data", sourceId: "a", from: 6, to: 8 }]);
    const other = resumed([declare(0, "a", 1, { numbering: 78 }), datum(0)]);
    other.take();
    expect(taken(other)).toEqual(["a1"]);
  });

  it("is not guessed after a loss, or by who came later", () => {
    const late = receive([[declare(0, "a", 4), datum(0)]], 7, before);
    late.take();
    expect(taken(late)).toEqual(["a4"]);
    const holed = resumed(undefined, [declare(0, "a", 4), datum(0)]);
    holed.assembler.skipTo(1);
    holed.take();
    expect(taken(holed)).toEqual(["a4"]);
  });
});

describe("Assembler", () => {
  it("lets data of another source past a hole, once, and never the holed source's own", () => {
    const receiver = receive([
      [declare(0, "a", 1), datum(0), declare(1, "b", 1), datum(1)],
      undefined,
      [declare(0, "a", 3), datum(0), declare(1, "b", 2), datum(1), datum(1)],
      [declare(1, "b", 4), datum(1)],
    ]);
    receiver.take();
    expect(taken(receiver)).toEqual(["a1", "b1", "b2", "b3", "b4"]);
    receiver.store(1, buildFragment([declare(0, "a", 2), datum(0)], 1));
    receiver.take();
    expect(taken(receiver)).toEqual(["a1", "b1", "b2", "b3", "b4", "a2", "a3"]);
    expect(receiver.gaps).toEqual([]);
  });

  it("never lets a source past a hole that it may have data in", () => {
    const receiver = receive([
      [declare(0, "a", 1), datum(0), declare(1, "b", 1), datum(1)],
      undefined,
      [declare(1, "b", 3), datum(1)],
      [declare(2, "c", 1), datum(2)],
    ]);
    receiver.take();
    expect(taken(receiver)).toEqual(["a1", "b1"]);
  });

  it("searches on past sources that it has never heard of", () => {
    const receiver = receive([
      [declare(0, "a", 1), datum(0), declare(1, "b", 1), datum(1)],
      undefined,
      [declare(2, "c", 1), datum(2)],
      [declare(3, "d", 1), datum(3)],
      [declare(0, "a", 2), datum(0)],
    ]);
    receiver.take();
    expect(taken(receiver)).toEqual(["a1", "b1", "a2"]);
  });

  it("says a fragment gap at once and data gaps when the next number or the end shows them", () => {
    const receiver = receive([
      [declare(0, "a", 1), datum(0), declare(1, "b", 1), datum(1)],
      undefined,
      undefined,
      [declare(0, "a", 5), datum(0)],
      [declare(1, "b", 9), end(1, 8)],
    ]);
    receiver.take();
    receiver.assembler.skipTo(3);
    expect(receiver.assembler.takeGaps()).toEqual([{ kind: "fragments", from: 1, to: 2 }]);
    receiver.take();
    expect(receiver.gaps).toEqual([
      { kind: "data", sourceId: "a", from: 2, to: 4 },
      { kind: "data", sourceId: "b", from: 2, to: 8 },
    ]);
    expect(taken(receiver)).toEqual(["a1", "b1", "a5"]);
    expect(receiver.assembler.sources.get("b")?.ended).toBe(true);
  });

  it("says the end of a source that lost its last data", () => {
    const receiver = receive([
      [declare(0, "a", 1), datum(0), datum(0)],
      [declare(0, "a", 4), end(0, 7)],
    ]);
    receiver.take();
    expect(receiver.gaps).toEqual([
      { kind: "data", sourceId: "a", from: 3, to: 3 },
      { kind: "data", sourceId: "a", from: 4, to: 7 },
    ]);
  });

  it("goes on with the fragment it is amid when what follows is given up", () => {
    const receiver = receive([
      [declare(0, "a", 1), datum(0), end(0, 1), declare(1, "b", 1), datum(1)],
      undefined,
      undefined,
      [declare(1, "b", 4), datum(1)],
    ]);
    receiver.take(1);
    expect(taken(receiver)).toEqual(["a1"]);
    receiver.assembler.skipTo(3);
    receiver.window.advance(3);
    receiver.take();
    expect(taken(receiver)).toEqual(["a1", "b1", "b4"]);
    expect(receiver.gaps).toEqual([
      { kind: "fragments", from: 1, to: 2 },
      { kind: "data", sourceId: "b", from: 2, to: 3 },
    ]);
  });

  it("knows no gap when only the fragment it is amid is passed", () => {
    const receiver = receive([
      [declare(0, "a", 1), datum(0)],
      [declare(0, "a", 2), datum(0)],
    ]);
    receiver.take(1);
    receiver.assembler.skipTo(1);
    receiver.take();
    expect(taken(receiver)).toEqual(["a1", "a2"]);
    expect(receiver.gaps).toEqual([]);
  });

  it("takes a source that is declared twice in one fragment, gap or type in between", () => {
    const receiver = receive([
      [
        declare(0, "a", 1, { contentType: "t/1" }),
        datum(0),
        declare(0, "a", 2, { contentType: "t/2" }),
        datum(0),
        declare(0, "a", 5, { contentType: "t/1" }),
        datum(0),
      ],
    ]);
    receiver.take();
    expect(receiver.taken.map(({ sequence, contentType }) => [sequence, contentType])).toEqual([
      [1, "t/1"],
      [2, "t/2"],
      [5, "t/1"],
    ]);
    expect(receiver.gaps).toEqual([{ kind: "data", sourceId: "a", from: 3, to: 4 }]);
  });

  it("tells sources apart by id when one number means another from some fragment on", () => {
    const receiver = receive([
      [declare(0, "a", 1), datum(0)],
      [declare(0, "b", 1), datum(0)],
      [declare(0, "a", 2), datum(0), declare(0, "b", 2), datum(0)],
    ]);
    receiver.take();
    expect(taken(receiver)).toEqual(["a1", "b1", "a2", "b2"]);
    expect(receiver.gaps).toEqual([]);
  });

  it("drops a sliced datum that lost a slice, says it once, and goes on behind it", () => {
    const producer = new Producer(createMemory(), 1024);
    const source = producer.source("s");
    producer.merger.write(source, payloadOf(1, 5_000), EPOCH_US);
    producer.merger.write(source, payloadOf(2, 10), EPOCH_US);
    producer.merger.endSource(source);
    producer.merger.finish();
    for (let hole = 0; hole < producer.fragments.length - 1; hole++) {
      const receiver = new Receiver(createMemory(), 1024);
      producer.fragments.forEach((fragment, index) => {
        if (index !== hole) receiver.store(index, fragment);
      });
      receiver.take();
      receiver.assembler.skipTo(hole + 1);
      receiver.take();
      expect(taken(receiver)).toEqual(["s2"]);
      expect(receiver.gaps).toEqual([
        { kind: "fragments", from: hole, to: hole },
        { kind: "data", sourceId: "s", from: 1, to: 1 },
      ]);
      expect(receiver.assembler.ended).toBe(true);
    }
  });

  it("gives all memory back when closed amid a batch", () => {
    const memory = createMemory();
    const before = memory.freeSegments;
    const receiver = new Receiver(memory, 4096);
    receiver.store(0, buildFragment([declare(0, "a", 1), datum(0), datum(0)], 0));
    expect(receiver.assembler.next(0)?.count).toBe(2);
    receiver.close();
    expect(memory.freeSegments).toBe(before);
    memory.checkInvariants();
  });
});
