/** The arena in ordinary memory, by what every transport promises over it. */

import { expect, test } from "vitest";
import { HeapArena } from "../../src/transport/heap-arena.ts";
import { TcpTransport } from "../../src/transport/tcp.ts";
import { transportContract } from "./contract.ts";

transportContract("tcp over ordinary memory", {
  any: { transport: "tcp", host: "127.0.0.1", port: 0 },
  make: (arena) => new TcpTransport(arena),
  arena: () => new HeapArena(4),
});

test("a slot is taken with the first bytes and given back with the last", () => {
  const arena = new HeapArena(1);
  const [one, two] = [arena.open(), arena.open()];
  expect(arena.freeSlots).toBe(1);
  expect(one.reserve(262_144)).toBe(true);
  expect(two.reserve(8)).toBe(false);
  arena.bytes.fill(7, one.writeOffset, one.writeOffset + 100);
  one.commit(100);
  one.consume(60);
  expect(arena.freeSlots).toBe(0);
  expect(one.parsableBytes).toBe(40);
  // A large frame moves what is left to where all of it fits.
  one.commit(524_188 - 100);
  one.consume(524_188 - 100 - 10);
  expect(one.reserve(262_144)).toBe(true);
  expect(one.parsableBytes + one.writableBytes).toBeGreaterThanOrEqual(262_144);
  one.consume(one.parsableBytes);
  expect(arena.freeSlots).toBe(1);
  expect(two.reserve(8)).toBe(true);
  two.close();
  two.close();
  expect(arena.freeSlots).toBe(1);
  expect(one.reserve(1 << 20)).toBe(false);
});
