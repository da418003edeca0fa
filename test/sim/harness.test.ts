/** The harness itself, on toy machines: clocks, links, jobs, disk, replay. */

import { describe, expect, test } from "vitest";
import type { Address, StoreOperation } from "../../src/base/machine.ts";
import { seededRng } from "../../src/base/rng.ts";
import { EngineMemory } from "../../src/kernel/engine-memory.ts";
import { createJsKernel } from "../../src/kernel/js-kernel.ts";
import { EventHeap } from "../../src/sim/event-heap.ts";
import { CALM_NETWORK, Network, type NetworkOptions } from "../../src/sim/network.ts";
import type { SimNode } from "../../src/sim/node.ts";
import { World } from "../../src/sim/world.ts";
import { SimDisk } from "./disk.ts";
import { JobRunner, nodeKeys, verifySignature } from "./jobs.ts";
import { pieceEnd } from "./piece-end.ts";
import { FloodMachine, type FloodOptions } from "./toys.ts";
import { crc32c } from "./wire.ts";

const FRAME_BYTES = 1000;

function memoryOf(kib = 256): EngineMemory {
  return new EngineMemory(createJsKernel({ memoryBytes: kib * 1024 }), { segmentBytes: 16_384 });
}

interface Pair {
  readonly world: World;
  readonly network: Network;
  readonly sender: FloodMachine;
  readonly receiver: FloodMachine;
  readonly senderNode: SimNode;
  readonly receiverNode: SimNode;
}

function pair(
  seed: number,
  options: Partial<NetworkOptions> = {},
  flood: Partial<FloodOptions> = {},
  transport: Address["transport"] = "tcp",
): Pair {
  const world = new World(seed);
  const network = new Network(world, { ...CALM_NETWORK, ...options }, pieceEnd);
  const senderNode = network.addNode("sender");
  const receiverNode = network.addNode("receiver");
  const target = network.listen(receiverNode, transport, 7900);
  const sender = new FloodMachine({
    target,
    frames: 500,
    frameBytes: FRAME_BYTES,
    queueBytes: 64 * 1024,
    ...flood,
  });
  const receiver = new FloodMachine({
    ...flood,
    target: undefined,
    frames: 0,
    frameBytes: 64,
    queueBytes: 1,
  });
  senderNode.boot({ machine: sender, arena: memoryOf() });
  receiverNode.boot({ machine: receiver, arena: memoryOf() });
  senderNode.command("start");
  return { world, network, sender, receiver, senderNode, receiverNode };
}

describe("event heap", () => {
  test("gives events by time, those of one instant in the order of scheduling", () => {
    const rng = seededRng(1);
    const heap = new EventHeap();
    const expected: { atMs: number; order: number }[] = [];
    const got: { atMs: number; order: number }[] = [];
    for (let order = 0; order < 5000; order++) {
      const event = { atMs: rng.below(300), order };
      expected.push(event);
      heap.push(event.atMs, () => got.push(event));
    }
    while (heap.size > 0) heap.pop()();
    expected.sort((a, b) => a.atMs - b.atMs || a.order - b.order);
    expect(got).toEqual(expected);
  });
});

describe("links", () => {
  test("a stream carries all frames through random pieces, each once", () => {
    for (let seed = 1; seed <= 20; seed++) {
      const { world, sender, receiver } = pair(seed, {
        crumblePathRate: 0.5,
        crumbleRate: 0.9,
        windowBytesMin: 2000,
        windowBytesMax: 100_000,
        jitterMsMax: 20,
      });
      world.run(600_000);
      expect(world.violations).toEqual([]);
      expect(receiver.receivedBytes).toBe(500 * FRAME_BYTES);
      expect(receiver.received).toBe(500);
      expect(sender.sentTotals.at(-1)).toBe(500 * FRAME_BYTES);
    }
  });

  test("a message link carries one message a transmit", () => {
    const { world, receiver } = pair(3, {}, {}, "ws");
    world.run(600_000);
    expect(receiver.received).toBe(Math.ceil(500 / 16));
    expect(receiver.receivedBytes).toBe(500 * FRAME_BYTES);
  });

  test("bandwidth and latency bound the time a transfer takes", () => {
    const { world, receiver } = pair(4, { bytesPerMsMin: 100, bytesPerMsMax: 100.001 });
    const done = world.run(600_000, () => receiver.received === 500);
    expect(done).toBe(true);
    expect(world.nowMs).toBeGreaterThan((500 * FRAME_BYTES) / 100);
    expect(world.nowMs).toBeLessThan((500 * FRAME_BYTES) / 100 + 100);
  });

  test("an uplink is shared by its links", () => {
    const { world, receiver, senderNode } = pair(4);
    senderNode.uplinkBytesPerMs = 50;
    world.run(600_000, () => receiver.received === 500);
    expect(world.nowMs).toBeGreaterThan((500 * FRAME_BYTES) / 50);
  });

  test("a paused reader stops the sender at the window; nothing is lost", () => {
    const { world, receiver, receiverNode, sender } = pair(5, {
      windowBytesMin: 20_000,
      windowBytesMax: 20_001,
    });
    world.run(2);
    receiverNode.pause(20_000);
    world.run(19_999);
    expect(receiver.received).toBeLessThan(100);
    expect(sender.sentTotals.at(-1)).toBeLessThanOrEqual(receiver.receivedBytes + 20_001);
    world.run(600_000);
    expect(receiver.received).toBe(500);
  });

  test("an orderly close delivers what was sent before it; both machines get one linkDown", () => {
    const { world, sender, receiver, senderNode } = pair(6, {}, { frames: 40, queueBytes: 1e6 });
    world.run(10);
    senderNode.command("close");
    world.run(600_000);
    expect(receiver.received).toBe(40);
    expect(receiver.downs).toEqual(["LINK_CLOSED"]);
    expect(sender.downs).toEqual(["LINK_CLOSED"]);
  });

  test("an abort drops what is queued; the other end sees a reset", () => {
    const { world, sender, receiver, senderNode } = pair(6, {
      bytesPerMsMin: 1,
      bytesPerMsMax: 1.1,
    });
    world.run(200);
    senderNode.command("abort");
    world.run(600_000);
    expect(receiver.received).toBeLessThan(40);
    expect(receiver.downs).toEqual(["LINK_RESET"]);
    expect(sender.downs).toEqual(["LINK_CLOSED"]);
  });

  test("nobody listens, or somebody who is down: UNREACHABLE", () => {
    const one = pair(7, { refuseRate: 1 });
    one.world.run(10_000);
    expect(one.sender.downs).toEqual(["UNREACHABLE"]);
    const two = pair(7);
    two.receiverNode.crash(false);
    two.world.run(10_000);
    expect(two.sender.downs).toEqual(["UNREACHABLE"]);
  });

  test("a crash resets links; a silent one is found out late", () => {
    const loud = pair(8, { bytesPerMsMin: 10, bytesPerMsMax: 11 });
    loud.world.run(500);
    loud.receiverNode.crash(false);
    loud.world.run(600);
    expect(loud.sender.downs).toEqual(["LINK_RESET"]);
    const silent = pair(8, { bytesPerMsMin: 10, bytesPerMsMax: 11 });
    silent.world.run(500);
    silent.receiverNode.crash(true);
    silent.world.run(30_000);
    expect(silent.sender.downs).toEqual([]);
    silent.world.run(200_000);
    expect(silent.sender.downs).toEqual(["LINK_RESET"]);
  });

  test("a partition holds bytes back until it heals, in one direction only", () => {
    const { world, network, receiver, sender, senderNode, receiverNode } = pair(9, {
      bytesPerMsMin: 100,
      bytesPerMsMax: 101,
    });
    world.run(100);
    network.block(senderNode, receiverNode, 30_000);
    world.run(200);
    const before = receiver.received;
    world.run(29_999);
    expect(receiver.received).toBe(before);
    world.run(600_000);
    expect(receiver.received).toBe(500);
    expect(sender.downs).toEqual([]);
  });

  test("bytes that change while they are queued are found", () => {
    const { world, network, senderNode } = pair(10, { windowBytesMin: 5000, windowBytesMax: 5001 });
    network.observers.add({
      onTransmit: (node, _end, bytes) => {
        if (node === senderNode) world.after(1, () => bytes.fill(1, bytes.length - 4));
      },
    });
    world.run(20_000);
    expect(world.violations.map(({ checker }) => checker)).toContain("transmit-untouched");
  });

  test("a machine that throws is a violation, and its node is down", () => {
    const { world, senderNode, sender } = pair(11);
    sender.handle = () => {
      throw new Error("planted");
    };
    world.run(1000);
    expect(world.violations[0]?.checker).toBe("machine-throws");
    expect(senderNode.alive).toBe(false);
  });
});

describe("clocks", () => {
  test("a deadline fires at the node's own time in spite of offset and drift, once", () => {
    const world = new World(1);
    const network = new Network(world, CALM_NETWORK, pieceEnd);
    const node = network.addNode("late", { offsetMs: 1e9, driftPpm: 200, wallOffsetMs: 3_600_000 });
    const seen: { monoMs: number; wallUs: number }[] = [];
    let deadlineMs = 1e9 + 10_000;
    node.boot({
      machine: {
        handle: (_input, now) => {
          seen.push(now);
          deadlineMs = Number.POSITIVE_INFINITY;
        },
        poll: () => undefined,
        get deadlineMs() {
          return deadlineMs;
        },
      },
    });
    world.run(20_000);
    expect(seen).toHaveLength(1);
    expect(seen[0]?.monoMs).toBeCloseTo(1e9 + 10_000, 3);
    expect(world.violations).toEqual([]);
  });

  test("a machine whose deadline stays due is found", () => {
    const world = new World(1);
    const network = new Network(world, CALM_NETWORK, pieceEnd);
    const machine = { handle: () => undefined, poll: () => undefined, deadlineMs: 5 };
    network.addNode("circle").boot({ machine });
    world.run(20_000);
    expect(world.violations[0]?.checker).toBe("livelock");
  });
});

describe("jobs", () => {
  test.each(["ed25519", "stand-in"] as const)(
    "signatures (%s) verify, changed bytes do not",
    (kind) => {
      const keys = nodeKeys(kind, 5, "a");
      const other = nodeKeys(kind, 5, "b");
      const bytes = new Uint8Array([1, 2, 3]);
      const signature = keys.sign(bytes);
      expect(signature).toHaveLength(64);
      expect(nodeKeys(kind, 5, "a").sign(bytes)).toEqual(signature);
      expect(verifySignature(kind, keys.publicKey, bytes, signature)).toBe(true);
      expect(verifySignature(kind, other.publicKey, bytes, signature)).toBe(false);
      expect(verifySignature(kind, keys.publicKey, new Uint8Array([1, 2, 4]), signature)).toBe(
        false,
      );
    },
  );

  test("fragments are checksummed and verified by the kernel, in drawn order", () => {
    const world = new World(2);
    const kernel = createJsKernel({ memoryBytes: 65_536 });
    const scratch = { pairs: 60_000, good: 61_000, fragments: 4 };
    const keys = nodeKeys("stand-in", 1, "n");
    const options = { signatures: "stand-in" as const, keys, kernel, scratch };
    const runner = new JobRunner(world, "n", { ...options, delayMsMax: 5, lateRate: 0 });
    const ranges = new Uint32Array(18);
    for (let i = 0; i < 9; i++) {
      ranges.set([1024 + 256 * i, 100 + i], 2 * i);
      kernel.bytes.fill(i, 1024 + 256 * i, 1124 + 257 * i);
    }
    let good: Uint8Array | undefined;
    runner.run({ kind: "checksumFragments", ranges }, () => {
      expect(kernel.view.getUint32(1024 + 8, true)).toBe(crc32c(kernel.bytes, 1036, 1124));
      kernel.bytes[1024 + 256 * 5 + 50] = 99;
      runner.run({ kind: "verifyFragments", ranges }, (result) => {
        if (result.kind === "verifyFragments") good = result.good;
      });
    });
    world.run(100);
    expect(good).toEqual(new Uint8Array([1, 1, 1, 1, 1, 0, 1, 1, 1]));
    expect(world.violations).toEqual([]);
  });

  test("a range that changes under a job is found", () => {
    const world = new World(2);
    const kernel = createJsKernel({ memoryBytes: 65_536 });
    const keys = nodeKeys("stand-in", 1, "n");
    const scratch = { pairs: 60_000, good: 61_000, fragments: 4 };
    const options = { signatures: "stand-in" as const, keys, kernel, scratch };
    const runner = new JobRunner(world, "n", { ...options, delayMsMax: 5, lateRate: 0 });
    runner.run({ kind: "verifyFragments", ranges: new Uint32Array([1024, 100]) }, () => undefined);
    kernel.bytes[1030] = 1;
    world.run(100);
    expect(world.violations.map(({ checker }) => checker)).toEqual(["job-untouched"]);
  });
});

describe("disk", () => {
  const write = (key: string, byte: number, revision = 0): StoreOperation => ({
    kind: "transaction",
    conditions: [{ key, revision }],
    writes: [{ key, value: new Uint8Array([byte]) }],
  });

  test("what was answered survives a crash, what was not is a prefix", () => {
    const survivors = new Set<number>();
    for (let seed = 1; seed <= 40; seed++) {
      const world = new World(seed);
      const disk = new SimDisk(world, "d", { delayMsMax: 10, fullRate: 0 });
      let answered = 0;
      for (let i = 0; i < 10; i++) disk.run(write(`k${i}`, i), () => answered++);
      world.run(world.rng("test").below(60));
      disk.crash();
      const answeredBefore = answered;
      const held = Array.from({ length: 10 }, (_, i) => disk.flushedRecord(`k${i}`) !== undefined);
      const kept = held.lastIndexOf(true) + 1;
      expect(held.slice(0, kept).every(Boolean)).toBe(true);
      expect(kept).toBeGreaterThanOrEqual(answeredBefore);
      world.run(1000);
      expect(answered).toBe(answeredBefore);
      survivors.add(kept - answeredBefore);
    }
    expect(survivors.size).toBeGreaterThan(2);
  });

  test("conditions, ranges and a full disk", () => {
    const world = new World(3);
    const disk = new SimDisk(world, "d", { delayMsMax: 10, fullRate: 0 });
    const results: unknown[] = [];
    const run = (operation: StoreOperation): void => {
      disk.run(operation, (result) => results.push(result));
      world.run(world.nowMs + 100);
    };
    run(write("b", 1));
    run(write("a", 2));
    run(write("a", 3));
    run(write("a", 4, 2));
    run({ kind: "range", from: "a", to: "b\0", limit: 9 });
    disk.options = { delayMsMax: 10, fullRate: 1 };
    run(write("c", 1));
    run({ kind: "read", key: "c" });
    expect(results).toEqual([
      { kind: "transaction", committed: true, revision: 1 },
      { kind: "transaction", committed: true, revision: 2 },
      { kind: "transaction", committed: false, revision: 2 },
      { kind: "transaction", committed: true, revision: 3 },
      {
        kind: "range",
        records: [
          { key: "a", value: new Uint8Array([4]), revision: 3 },
          { key: "b", value: new Uint8Array([1]), revision: 1 },
        ],
      },
      { kind: "error", code: "STORE_FULL", detail: "no space left" },
      { kind: "read", record: undefined },
    ]);
  });
});

describe("replay", () => {
  const options = { crumblePathRate: 0.5, crumbleRate: 0.5, jitterMsMax: 30, windowBytesMin: 3000 };

  test("the same seed gives the same trace, another seed another", () => {
    const hash = (seed: number): string => {
      const { world } = pair(seed, options);
      world.run(600_000);
      return world.trace.hash;
    };
    expect(hash(42)).toBe(hash(42));
    expect(hash(42)).not.toBe(hash(43));
  });
});
