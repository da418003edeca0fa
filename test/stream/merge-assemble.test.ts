/** Merger and assembler together: whatever goes in comes out in order once, or is said to be lost. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeFragment } from "../support/fragment-decoder.ts";
import { createMemory, EPOCH_US, Producer, payloadOf, Receiver, type Taken } from "./world.ts";

type Step =
  | { readonly kind: "write"; readonly source: number; readonly bytes: number }
  | {
      readonly kind: "batch";
      readonly source: number;
      readonly bytes: number;
      readonly count: number;
    }
  | { readonly kind: "type"; readonly source: number; readonly type: number }
  | { readonly kind: "time"; readonly stepUs: number }
  | { readonly kind: "flush" }
  | { readonly kind: "end"; readonly source: number };

const sizes = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 300 }) },
  { weight: 2, arbitrary: fc.integer({ min: 300, max: 5_000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 5_000, max: 100 * 1024 }) },
);
const source = fc.integer({ min: 0, max: 4 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant("write"), source, bytes: sizes }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("batch"),
      source,
      bytes: fc.integer({ min: 0, max: 3_000 }),
      count: fc.integer({ min: 1, max: 40 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("type"),
      source,
      type: fc.integer({ min: 0, max: 3 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("time"),
      stepUs: fc.oneof(fc.integer({ min: -5_000, max: 5_000 }), fc.constant(3_000_000_000)),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("flush") }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("end"), source }) },
) as fc.Arbitrary<Step>;
const plan = fc.record({
  fragmentBytes: fc.constantFrom(1024, 1500, 2048, 4096),
  steps: fc.array(step, { minLength: 1, maxLength: 60 }),
});

/** Carries out the steps; gives what was written, in order, and leaves END sealed. */
function produce(producer: Producer, steps: readonly Step[]): Taken[] {
  const { merger, sources } = producer;
  const written: Taken[] = [];
  let nowUs = EPOCH_US;
  let serial = 0;
  const wrote = (id: string, contentType: string, sequence: number, payload: Uint8Array): void => {
    written.push({ sourceId: id, contentType, sequence, timestampUs: nowUs, payload });
  };
  for (const action of steps) {
    if (action.kind === "flush") merger.flush();
    else if (action.kind === "time") nowUs += action.stepUs;
    else {
      const entry = producer.source(`source-${action.source}`);
      if (entry.ended) continue;
      if (action.kind === "end") expect(merger.endSource(entry)).toBe(true);
      else if (action.kind === "type") sources.setContentType(entry, `type/${action.type}`);
      else if (action.kind === "write") {
        const payload = payloadOf(++serial, action.bytes);
        wrote(entry.id, entry.contentType, entry.nextSequence, payload);
        expect(merger.write(entry, payload, nowUs)).toBe(true);
      } else {
        const lengths = Uint32Array.from({ length: action.count }, (_, i) =>
          Math.floor((action.bytes * (i % 7)) / 6),
        );
        const payloads = payloadOf(
          ++serial,
          lengths.reduce((sum, bytes) => sum + bytes, 0),
        );
        let at = 0;
        lengths.forEach((bytes, i) => {
          const payload = payloads.slice(at, at + bytes);
          wrote(entry.id, entry.contentType, entry.nextSequence + i, payload);
          at += bytes;
        });
        expect(merger.writeBatch(entry, payloads, lengths, nowUs)).toBe(action.count);
      }
    }
  }
  for (const entry of sources.entries()) expect(merger.endSource(entry)).toBe(true);
  expect(merger.finish()).toBe(true);
  return written;
}

const plain = (datum: Taken): unknown => ({
  ...datum,
  payload: Buffer.from(datum.payload).toString("base64"),
});
const perSource = (data: readonly Taken[]): Record<string, unknown[]> => {
  const all: Record<string, unknown[]> = {};
  for (const datum of data) {
    all[datum.sourceId] ??= [];
    all[datum.sourceId]?.push(plain(datum));
  }
  return all;
};

describe("merger and assembler", () => {
  it("give every source's data in order, exactly once, whatever the order of arrival", () => {
    fc.assert(
      fc.property(plan, fc.infiniteStream(fc.nat(1 << 20)), ({ fragmentBytes, steps }, dice) => {
        const memory = createMemory(16);
        const before = memory.freeSegments;
        const producer = new Producer(memory, fragmentBytes);
        const written = produce(producer, steps);
        const receiver = new Receiver(memory, fragmentBytes);
        const roll = (below: number): number => (dice.next().value as number) % below;
        // Fragments arrive shuffled within a distance of 8; the consumer takes now and then.
        const order = producer.fragments.map((_, index) => index);
        for (let i = order.length - 1; i > 0; i--) {
          const j = Math.max(0, i - roll(8));
          [order[i], order[j]] = [order[j] as number, order[i] as number];
        }
        for (const index of order) {
          receiver.store(index, producer.fragments[index] as Uint8Array);
          receiver.nowMs += 60 * roll(2);
          if (roll(3) > 0) receiver.take(1 + roll(4));
        }
        receiver.take();
        expect(receiver.assembler.ended).toBe(true);
        expect(receiver.gaps).toEqual([]);
        expect(perSource(receiver.taken)).toEqual(perSource(written));
        receiver.window.checkInvariants();
        receiver.close();
        producer.merger.close();
        expect(memory.freeSegments).toBe(before);
        memory.checkInvariants();
      }),
      { numRuns: 300 },
    );
  });

  it("say each missing datum exactly once when fragments are lost, and skip none in silence", () => {
    fc.assert(
      fc.property(
        plan,
        fc.infiniteStream(fc.nat(1 << 20)),
        fc.constantFrom(2, 5, 20),
        ({ fragmentBytes, steps }, dice, oneIn) => {
          const memory = createMemory(16);
          const producer = new Producer(memory, fragmentBytes);
          const written = produce(producer, steps);
          const receiver = new Receiver(memory, fragmentBytes);
          const roll = (below: number): number => (dice.next().value as number) % below;
          // END arrives, so that every loss before it comes to light.
          const end = producer.fragments.length - 1;
          const lost = new Set<number>();
          for (let index = 0; index < end; index++) if (roll(oneIn) === 0) lost.add(index);
          for (let index = 0; index <= end; index++) {
            if (!lost.has(index)) receiver.store(index, producer.fragments[index] as Uint8Array);
            receiver.nowMs += 60 * roll(2);
            if (roll(3) > 0) receiver.take(1 + roll(3));
            if (lost.has(receiver.assembler.head) && roll(4) === 0) skip(receiver, lost);
          }
          for (let turn = 0; !receiver.assembler.ended; turn++) {
            expect(turn).toBeLessThan(10_000);
            receiver.take();
            if (lost.has(receiver.assembler.head)) skip(receiver, lost);
          }
          receiver.take();
          const fragmentsLost = receiver.gaps.flatMap((gap) =>
            gap.kind === "fragments" ? range(gap.from, gap.to) : [],
          );
          expect(fragmentsLost).toEqual([...lost].sort((a, b) => a - b));
          checkLosses(producer, lost, written, receiver);
          receiver.close();
          producer.merger.close();
        },
      ),
      { numRuns: 300 },
    );
  });

  it("start a newcomer at any fragment without calling what came before lost", () => {
    fc.assert(
      fc.property(plan, fc.nat(1 << 20), ({ fragmentBytes, steps }, draw) => {
        const memory = createMemory(16);
        const producer = new Producer(memory, fragmentBytes);
        const written = produce(producer, steps);
        const start = draw % producer.fragments.length;
        const receiver = new Receiver(memory, fragmentBytes, { start });
        for (let index = start; index < producer.fragments.length; index++) {
          receiver.store(index, producer.fragments[index] as Uint8Array);
        }
        receiver.take();
        expect(receiver.assembler.ended).toBe(true);
        expect(receiver.gaps).toEqual([]);
        // All that begins at or after the start, and nothing else.
        const begun = new Set<string>();
        for (const fragment of producer.fragments.slice(start)) {
          for (const { sourceId, sequence, slice } of decodeFragment(fragment).data) {
            if (slice === undefined || slice.offset === 0) begun.add(`${sourceId}/${sequence}`);
          }
        }
        const due = written.filter((datum) => begun.has(`${datum.sourceId}/${datum.sequence}`));
        expect(perSource(receiver.taken)).toEqual(perSource(due));
        receiver.close();
        producer.merger.close();
      }),
      { numRuns: 150 },
    );
  });
});

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

/** Gives up the lost fragments from the head on. */
function skip(receiver: Receiver, lost: ReadonlySet<number>): void {
  let to = receiver.assembler.head;
  while (lost.has(to)) to++;
  receiver.assembler.skipTo(to);
}

/**
 * Taken and reported together are what was written, as far as a later number or the end of its
 * source arrived to tell.
 */
function checkLosses(
  producer: Producer,
  lost: ReadonlySet<number>,
  written: readonly Taken[],
  receiver: Receiver,
): void {
  const broken = new Map<string, [string, number]>();
  const told = new Map<string, number>();
  const tell = (id: string, to: number): void => {
    told.set(id, Math.max(told.get(id) ?? 0, to));
  };
  producer.fragments.forEach((fragment, index) => {
    const { data, ended } = decodeFragment(fragment);
    for (const { sourceId, sequence, slice } of data) {
      if (lost.has(index)) broken.set(`${sourceId}/${sequence}`, [sourceId, sequence]);
      else {
        // A slice tells of what came before its datum.
        tell(sourceId, slice === undefined ? sequence : sequence - 1);
      }
    }
    if (!lost.has(index)) for (const [id, last] of ended) tell(id, last);
  });
  const due = written.filter((d) => !broken.has(`${d.sourceId}/${d.sequence}`));
  expect(perSource(receiver.taken)).toEqual(perSource(due));
  const reported = receiver.gaps.flatMap((gap) =>
    gap.kind === "data" ? range(gap.from, gap.to).map((n) => `${gap.sourceId}/${n}`) : [],
  );
  expect(new Set(reported).size).toBe(reported.length);
  const needed = [...broken].filter(([, [id, n]]) => n <= (told.get(id) ?? 0)).map(([key]) => key);
  for (const key of reported) expect(broken.has(key)).toBe(true);
  expect(needed.filter((key) => !reported.includes(key))).toEqual([]);
}
