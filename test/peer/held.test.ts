/** How far others hold what a source peer made: what counts as held. */

import { describe, expect, it } from "vitest";
import { seededRng } from "../../src/base/rng.ts";
import { EngineMemory } from "../../src/kernel/engine-memory.ts";
import { createJsKernel } from "../../src/kernel/js-kernel.ts";
import { HeldWatch } from "../../src/peer/held.ts";
import type { Neighbour } from "../../src/peer/neighbour.ts";
import { encodeBuffermap } from "../../src/protocol/r10-binary.ts";
import type { DataSourceEntry } from "../../src/stream/source-table.ts";
import { FragmentWindow, type WindowMap } from "../../src/stream/window.ts";
import { Keys, received, swarm } from "./harness.ts";

const MADE = 40;
const KEYS = new Keys();

interface Holder {
  readonly have: WindowMap;
  remoteStart: number;
  beganAt: number;
}

/** A source peer that made fragments 0 to 39, datum n in fragment n - 1; neighbours by hand. */
function scene(count: number, minHolders: number) {
  const kernel = createJsKernel({ memoryBytes: 1 << 20 });
  const memory = new EngineMemory(kernel, { segmentBytes: 65_536 });
  const options = { start: 0, fragments: 64, bytes: 65_536, fragmentBytes: 1_024 };
  const window = new FragmentWindow(memory, options);
  const holders: Holder[] = [];
  for (let i = 0; i < count; i++) {
    holders.push({ have: window.createMap(), remoteStart: 0, beganAt: 0 });
  }
  const source = { nextSequence: 1 } as DataSourceEntry;
  const watch = new HeldWatch(window, holders as unknown as Neighbour[], minHolders, [source]);
  const cursor = memory.open();
  for (let index = 0; index < MADE; index++) {
    source.nextSequence = index + 2;
    watch.sealed(index);
    cursor.reserve(64);
    const offset = cursor.writeOffset;
    cursor.commit(64);
    memory.retain(offset, 64);
    cursor.consume(64);
    window.store(index, offset, 64);
  }
  let nowMs = 0;
  const heldTo = (): number => {
    nowMs += 5;
    watch.look(nowMs);
    return watch.sequenceOf(source);
  };
  return { window, holders: holders as [Holder, ...Holder[]], watch, heldTo };
}

describe("held", () => {
  it("is what a neighbour advertised without a hole", () => {
    const { window, holders, heldTo } = scene(1, 1);
    expect(heldTo()).toBe(0);
    window.mark(holders[0].have, 0, 10);
    window.mark(holders[0].have, 12, 20);
    expect(heldTo()).toBe(10);
    window.mark(holders[0].have, 10, 12);
    expect(heldTo()).toBe(20);
  });

  it("is what a neighbour has moved its start above, though it withdrew it by that", () => {
    const { window, holders, heldTo } = scene(1, 1);
    holders[0].remoteStart = 15;
    expect(heldTo()).toBe(15);
    window.mark(holders[0].have, 15, 25);
    expect(heldTo()).toBe(25);
    window.unmark(holders[0].have, 0, 30);
    holders[0].remoteStart = 30;
    expect(heldTo()).toBe(30);
  });

  it("is nothing below where a neighbour began, until others held that", () => {
    const { window, holders, heldTo } = scene(2, 1);
    const other = holders[1] as Holder;
    Object.assign(holders[0], { beganAt: 15, remoteStart: 20 });
    window.mark(holders[0].have, 20, 25);
    expect(heldTo()).toBe(0);
    window.mark(other.have, 0, 14);
    expect(heldTo()).toBe(14);
    window.mark(other.have, 14, 15);
    expect(heldTo()).toBe(25);
  });

  it("is nothing that was there before a member began at the live edge", () => {
    const { world, source } = swarm(0);
    source.overlay.source?.watchHeld(source.overlay.neighbours, 1);
    const write = (): void => {
      source.write("s", new Uint8Array(3_000));
      world.advance(50);
    };
    for (let i = 0; i < 20; i++) write();
    const { settings } = source.overlay;
    const live = world.node().open("peer", settings, { from: "live" }).dial(source);
    world.advance(1_000);
    for (let i = 0; i < 20; i++) write();
    world.run(() => received(live).length === 20, 2_000);
    const heldTo = (): number => source.overlay.source?.heldSequence("s") ?? 0;
    expect(heldTo()).toBe(0);
    world.node().open("peer", settings).dial(source);
    world.run(() => heldTo() === 40, 5_000);
  });

  it("is nothing that was made before a member could take it, wherever it was told to begin", () => {
    const { world, source } = swarm(0);
    source.overlay.source?.watchHeld(source.overlay.neighbours, 1);
    const write = (count: number): void => {
      for (let i = 0; i < count; i++) {
        source.write("s", new Uint8Array(300));
        world.advance(50);
      }
    };
    write(20);
    // Whoever told it of the stream told it of a place 30 fragments beyond its end.
    const peer = world.node().open("peer", source.overlay.settings);
    const liar = world.stranger(KEYS).join(peer);
    liar.send(encodeBuffermap(liar.tag, 50, 1, new Uint8Array(0)));
    world.run(() => peer.has("started"));
    peer.dial(source);
    world.run(() => source.overlay.neighbours.length === 1);
    liar.close();
    write(80);
    world.advance(1_000);
    expect(received(peer)).toHaveLength(50);
    expect(source.overlay.source?.heldSequence("s")).toBe(0);
  });

  it("asks for as many holders as were asked for, of any kind", () => {
    const { window, holders, heldTo } = scene(3, 2);
    window.mark(holders[0].have, 0, 20);
    expect(heldTo()).toBe(0);
    (holders[1] as Holder).remoteStart = 8;
    expect(heldTo()).toBe(8);
    window.mark((holders[2] as Holder).have, 0, 12);
    expect(heldTo()).toBe(12);
  });

  it("is what this node's own window let go, and never falls", () => {
    const { window, holders, watch, heldTo } = scene(1, 1);
    window.mark(holders[0].have, 0, 10);
    expect(heldTo()).toBe(10);
    window.unmark(holders[0].have, 0, 10);
    expect(heldTo()).toBe(10);
    window.advance(22);
    expect(heldTo()).toBe(22);
    expect(watch.look(1_000)).toBe(false);
  });

  it("says the same of any order in which neighbours tell of it", () => {
    for (let seed = 1; seed <= 20; seed++) {
      const rng = seededRng(seed);
      const { window, holders, heldTo } = scene(2, 1);
      let most = 0;
      for (let turn = 0; turn < 10; turn++) {
        const holder = holders[rng.below(2)] as Holder;
        const end = rng.below(MADE + 1);
        if (rng.below(2) === 0) window.mark(holder.have, 0, end);
        else holder.remoteStart = Math.max(holder.remoteStart, end);
        most = Math.max(most, end);
        expect(heldTo(), `seed ${seed}`).toBe(most);
      }
    }
  });
});
