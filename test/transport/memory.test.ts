import { seededRng } from "../../src/base/rng.ts";
import { MemoryNetwork, MemoryTransport } from "../../src/transport/memory.ts";
import { transportContract } from "./contract.ts";

const plain = new MemoryNetwork();
transportContract("memory", {
  any: { transport: "memory", host: "memory", port: 0 },
  make: (arena) => new MemoryTransport(plain, arena),
});

const cutting = new MemoryNetwork();
const rng = seededRng(7);
transportContract("memory in random pieces", {
  any: { transport: "memory", host: "memory", port: 0 },
  make: (arena) =>
    new MemoryTransport(cutting, arena, { pieceBytes: () => 1 + rng.below(128 * 1024) }),
});
