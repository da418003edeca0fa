/** The engine's memory as peer/ sees it: peer touches kernel only through stream. */

export type { EngineMemory } from "../kernel/engine-memory.ts";
