/** Fragmentation at the source peer: what lies in the fragments, read by a decoder of its own. */

import { describe, expect, it } from "vitest";
import { LocalUsageError } from "../../src/base/errors.ts";
import { EngineMemory } from "../../src/kernel/engine-memory.ts";
import { newJsKernel, newWasmKernel } from "../kernel/kernels.ts";
import { type DecodedDatum, decodeFragment } from "../support/fragment-decoder.ts";
import { createMemory, EPOCH_US, Producer, payloadOf, Receiver } from "./world.ts";

const code = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (error instanceof LocalUsageError) return error.code;
    throw error;
  }
  return "nothing thrown";
};
const decoded = (producer: Producer): DecodedDatum[] =>
  producer.fragments.flatMap((fragment) => decodeFragment(fragment).data);

describe("fragmentation", () => {
  it("R11.a: data of various sources and kinds become fragments of one format", () => {
    const producer = new Producer(createMemory(), 4096);
    const temperature = producer.source("temperature", "text/plain");
    const camera = producer.source("camera", "image/jpeg");
    const quakes = producer.source("quakes", "application/json");
    const text = new TextEncoder().encode("21.5");
    const image = payloadOf(7, 30_000);
    const json = new TextEncoder().encode('{"mag":4.2}');
    producer.merger.write(temperature, text, EPOCH_US + 1);
    producer.merger.write(camera, image, EPOCH_US + 2);
    producer.merger.write(quakes, json, EPOCH_US + 3);
    producer.merger.finish();
    const data = decoded(producer);
    const whole = (id: string): Uint8Array =>
      Buffer.concat(data.filter((d) => d.sourceId === id).map((d) => d.payload));
    expect(Buffer.compare(whole("temperature"), text)).toBe(0);
    expect(Buffer.compare(whole("camera"), image)).toBe(0);
    expect(Buffer.compare(whole("quakes"), json)).toBe(0);
    expect(data.map((d) => [d.sourceId, d.contentType, d.sequence, d.timestampUs])).toEqual(
      data.map((d) => {
        if (d.sourceId === "temperature") return ["temperature", "text/plain", 1, EPOCH_US + 1];
        if (d.sourceId === "camera") return ["camera", "image/jpeg", 1, EPOCH_US + 2];
        return ["quakes", "application/json", 1, EPOCH_US + 3];
      }),
    );
  });

  it("R11.a (negative): what is no datum of the format is refused, not converted", () => {
    const producer = new Producer(createMemory(64), 4096);
    const source = producer.source("s");
    const tooLarge = new Uint8Array(16 * 1024 * 1024 + 1);
    expect(code(() => producer.merger.write(source, tooLarge, EPOCH_US))).toBe("DATUM_TOO_LARGE");
    expect(code(() => producer.source("x".repeat(129)))).toBe("USAGE");
    expect(code(() => producer.source(""))).toBe("USAGE");
    expect(code(() => producer.source("t", "y".repeat(129)))).toBe("USAGE");
    producer.merger.finish();
    expect(decoded(producer)).toEqual([]);
  });

  it("P2.1: small data share a fragment, a big one spans several, indices rise by one", () => {
    const producer = new Producer(createMemory(), 2048);
    const source = producer.source("s");
    for (let i = 0; i < 10; i++) producer.merger.write(source, payloadOf(i, 50), EPOCH_US + i);
    producer.merger.flush();
    const big = payloadOf(99, 9_000);
    producer.merger.write(source, big, EPOCH_US + 10);
    producer.merger.finish();
    const fragments = producer.fragments.map(decodeFragment);
    expect(fragments.map(({ index }) => index)).toEqual(fragments.map((_, i) => i));
    expect(fragments[0]?.data.length).toBe(10);
    const slices = fragments.slice(1).flatMap(({ data }) => data);
    expect(slices.length).toBeGreaterThan(4);
    expect(slices.every(({ sequence, slice }) => sequence === 11 && slice?.total === 9_000)).toBe(
      true,
    );
    expect(Buffer.compare(Buffer.concat(slices.map(({ payload }) => payload)), big)).toBe(0);
    expect(producer.fragments.every((fragment) => fragment.length <= 2048)).toBe(true);
    expect(fragments.map(({ isEnd }) => isEnd)).toEqual(
      fragments.map((_, i) => i === fragments.length - 1),
    );
    expect(fragments.every(({ tag }) => tag === "0102030405060708")).toBe(true);
    expect(fragments.every(({ createdUs }) => createdUs === EPOCH_US)).toBe(true);
  });

  it("P2.1 (negative): a fragment beyond the window gets no index and its datum is not taken", () => {
    const producer = new Producer(createMemory(), 1024);
    producer.limit = 1;
    const source = producer.source("s");
    expect(producer.merger.write(source, payloadOf(1, 900), EPOCH_US)).toBe(true);
    expect(producer.merger.write(source, payloadOf(2, 900), EPOCH_US)).toBe(false);
    expect(source.nextSequence).toBe(2);
    expect(producer.merger.nextIndex).toBe(1);
    producer.limit = 3;
    expect(producer.merger.write(source, payloadOf(2, 900), EPOCH_US)).toBe(true);
    producer.merger.finish();
    expect(decoded(producer).map(({ sequence }) => sequence)).toEqual([1, 2]);
  });

  it("every fragment can be taken apart, however often sources change type or time", () => {
    for (const change of ["type", "time"] as const) {
      const memory = createMemory(16);
      const producer = new Producer(memory, 65_536);
      const source = producer.source("s");
      let nowUs = EPOCH_US;
      for (let i = 0; i < 2_000; i++) {
        if (change === "type") producer.sources.setContentType(source, `t/${i % 2}`);
        else nowUs += 3_600_000_000;
        producer.merger.write(source, Uint8Array.of(i & 255), nowUs);
      }
      producer.merger.endSource(source);
      producer.merger.finish();
      const receiver = new Receiver(memory, 65_536);
      producer.fragments.forEach((fragment, index) => {
        expect(decodeFragment(fragment).declarations).toBeLessThanOrEqual(256);
        receiver.store(index, fragment);
        receiver.take();
      });
      expect(receiver.taken.map(({ sequence }) => sequence)).toEqual(
        Array.from({ length: 2_000 }, (_, i) => i + 1),
      );
      expect(receiver.taken.at(-1)?.timestampUs).toBe(nowUs);
      expect(receiver.taken.at(-2)?.contentType).toBe(change === "type" ? "t/0" : "");
    }
  });

  it("a batch of hourly data in a batch call is cut like single writes", () => {
    const memory = createMemory(16);
    const producer = new Producer(memory, 65_536);
    for (let i = 0; i < 600; i++) {
      const source = producer.source(`s${i % 3}`);
      const lengths = Uint32Array.of(1, 1);
      const taken = producer.merger.writeBatch(
        source,
        payloadOf(i, 2),
        lengths,
        EPOCH_US + i * 3_600_000_000,
      );
      expect(taken).toBe(2);
    }
    producer.merger.finish();
    for (const fragment of producer.fragments) {
      expect(decodeFragment(fragment).declarations).toBeLessThanOrEqual(256);
    }
    expect(decoded(producer).length).toBe(1200);
  });

  it("a 16 MiB datum passes a window of 1 MiB while it is freed behind", () => {
    const memory = createMemory(8, 65_536);
    const producer = new Producer(memory, 16_384);
    const source = producer.source("s");
    const receiver = new Receiver(memory, 16_384, { windowBytes: 1 << 20 });
    const big = payloadOf(3, 16 * 1024 * 1024);
    producer.limit = receiver.window.limit;
    expect(producer.merger.write(source, big, EPOCH_US)).toBe(true);
    expect(producer.merger.isSlicing).toBe(true);
    // Nothing else is taken amid it.
    expect(producer.merger.write(source, Uint8Array.of(1), EPOCH_US)).toBe(false);
    expect(producer.merger.writeBatch(source, Uint8Array.of(1), Uint32Array.of(1), EPOCH_US)).toBe(
      0,
    );
    expect(producer.merger.endSource(source)).toBe(false);
    let stored = 0;
    for (let turn = 0; producer.merger.isSlicing; turn++) {
      expect(turn).toBeLessThan(200);
      for (; stored < producer.fragments.length; stored++) {
        receiver.store(stored, producer.fragments[stored] as Uint8Array);
      }
      receiver.window.checkInvariants();
      receiver.take();
      producer.limit = receiver.window.limit;
      producer.merger.pump();
    }
    producer.merger.finish();
    for (; stored < producer.fragments.length; stored++) {
      receiver.store(stored, producer.fragments[stored] as Uint8Array);
    }
    receiver.take();
    expect(receiver.taken.length).toBe(1);
    expect(Buffer.compare(receiver.taken[0]?.payload ?? new Uint8Array(0), big)).toBe(0);
    expect(receiver.assembler.ended).toBe(true);
  });

  it.each(["wasm", "js"] as const)("payloads may lie anywhere, aligned anyhow (%s)", (name) => {
    const kernel = name === "wasm" ? newWasmKernel() : newJsKernel();
    const memory = new EngineMemory(kernel, { segmentBytes: 65_536 });
    const producer = new Producer(memory, 4096);
    const source = producer.source("s");
    const lent = memory.allocate(20_100);
    const ordinary = new Uint8Array(20_100);
    const expected: Uint8Array[] = [];
    for (const where of [ordinary, memory.bytes.subarray(lent, lent + 20_100)]) {
      for (const bytes of [0, 1, 511, 512, 513, 3_000, 9_001, 20_000]) {
        for (let at = 0; at < 8; at++) {
          const payload = payloadOf(8 * bytes + at + 1, bytes);
          where.set(payload, at);
          const view = where.subarray(at, at + bytes);
          if (at % 2 === 0) expect(producer.merger.write(source, view, EPOCH_US)).toBe(true);
          else producer.merger.writeBatch(source, view, Uint32Array.of(bytes), EPOCH_US);
          expected.push(payload);
        }
      }
    }
    producer.merger.finish();
    const all = Buffer.concat(decoded(producer).map(({ payload }) => payload));
    expect(Buffer.compare(all, Buffer.concat(expected))).toBe(0);
  });

  it("a payload may be changed once write has returned", () => {
    const producer = new Producer(createMemory(), 1024);
    producer.limit = 2;
    const payload = payloadOf(1, 5_000);
    const before = payload.slice();
    producer.merger.write(producer.source("s"), payload, EPOCH_US);
    payload.fill(0);
    producer.limit = 100;
    producer.merger.pump();
    producer.merger.finish();
    expect(Buffer.compare(Buffer.concat(decoded(producer).map((d) => d.payload)), before)).toBe(0);
  });

  it("an ended source takes nothing more, and its last number is told", () => {
    const producer = new Producer(createMemory(), 1024);
    const source = producer.source("s");
    const silent = producer.source("silent");
    producer.merger.write(source, payloadOf(1, 10), EPOCH_US);
    expect(producer.merger.endSource(source)).toBe(true);
    expect(producer.merger.endSource(source)).toBe(true);
    expect(producer.merger.endSource(silent)).toBe(true);
    expect(code(() => producer.merger.write(source, payloadOf(1, 1), EPOCH_US))).toBe(
      "SOURCE_ENDED",
    );
    expect(
      code(() =>
        producer.merger.writeBatch(source, payloadOf(1, 2), Uint32Array.of(1, 1), EPOCH_US),
      ),
    ).toBe("SOURCE_ENDED");
    producer.merger.finish();
    expect(decodeFragment(producer.fragments[0] as Uint8Array).ended).toEqual(
      new Map([
        ["s", 1],
        ["silent", 0],
      ]),
    );
  });
});
