/** Whether everything came, as far as a peer can know it after its source started over. */

import { describe, expect, it } from "vitest";
import { Received } from "../../src/cli/received.ts";
import type { DatumBatch } from "../../src/host/engine-types.ts";

/** A batch of one byte of each [source id, sequence]. */
function batch(...data: readonly (readonly [string, number])[]): DatumBatch {
  return {
    count: data.length,
    sourceIdOf: (i: number) => data[i]?.[0],
    sequenceOf: (i: number) => data[i]?.[1],
    lengthOf: () => 1,
  } as unknown as DatumBatch;
}

const source = (sourceId: string, last: number, ended = false) => ({ sourceId, last, ended });

describe("what a peer received is whole", () => {
  it("without a restart, unless there was a gap", () => {
    const received = new Received();
    received.take(batch(["a", 1], ["a", 2]));
    expect(received.isWhole).toBe(true);
    received.gaps++;
    expect(received.isWhole).toBe(false);
  });

  it("where data sources did not begin with 1, unless it was to have all from the start", () => {
    for (const fromStart of [false, true]) {
      const received = new Received({ fromStart });
      expect(received.take(batch(["a", 5], ["a", 6], ["b", 1], ["c", 2]))).toEqual([
        { sourceId: "a", upTo: 4 },
        { sourceId: "c", upTo: 1 },
      ]);
      expect(received.isWhole).toBe(!fromStart);
      // What went on over a restart was there before.
      received.restarted({ sources: [source("a", 6)] });
      expect(received.take(batch(["a", 7]))).toEqual([]);
    }
    const gone = new Received();
    gone.gaps++;
    // The gap has told of that.
    expect(gone.take(batch(["a", 5]))).toEqual([]);
  });

  it("after a restart when every data source goes on where it was, or had ended", () => {
    const received = new Received();
    received.restarted({ sources: [source("a", 5), source("b", 7), source("c", 9, true)] });
    expect(received.isWhole).toBe(false);
    received.take(batch(["a", 6]));
    expect(received.isWhole).toBe(false);
    received.take(batch(["a", 7], ["b", 8]));
    expect(received.isWhole).toBe(true);
  });

  it("and when one brings nothing new and ends where it was", () => {
    const received = new Received();
    received.restarted({ sources: [source("a", 5), source("b", 7), source("c", 9)] });
    received.take(batch(["c", 1]));
    received.ended([source("a", 5, true), source("b", 7), source("c", 9, true)]);
    expect(received.isWhole).toBe(false);
    received.take(batch(["b", 8]));
    expect(received.isWhole).toBe(false);
    const whole = new Received();
    whole.restarted({ sources: [source("a", 5)] });
    whole.ended([source("a", 5, true)]);
    expect(whole.isWhole).toBe(true);
  });

  it("not when one begins with 1 again, is silent, or was never heard of before", () => {
    const anew = new Received();
    anew.restarted({ sources: [source("a", 5)] });
    anew.take(batch(["a", 1], ["a", 2]));
    expect(anew.isWhole).toBe(false);
    const silent = new Received();
    silent.restarted({ sources: [source("a", 5), source("b", 5)] });
    silent.take(batch(["a", 6]));
    expect(silent.isWhole).toBe(false);
    const nothing = new Received();
    nothing.restarted({ sources: [] });
    nothing.take(batch(["a", 1]));
    expect(nothing.isWhole).toBe(false);
  });

  it("not when one began anew once, whatever comes later", () => {
    const received = new Received();
    received.restarted({ sources: [source("a", 5)] });
    received.take(batch(["a", 1]));
    received.restarted({ sources: [source("a", 1)] });
    received.take(batch(["a", 2]));
    expect(received.isWhole).toBe(false);
  });

  it("of the wanted data sources only", () => {
    const received = new Received();
    received.restarted({ sources: [source("a", 5), source("b", 5)] }, new Set(["a"]));
    received.take(batch(["a", 6], ["b", 1]), new Set(["a"]));
    expect(received.isWhole).toBe(true);
  });
});
