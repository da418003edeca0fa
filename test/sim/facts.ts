/** What checkers are made with. */

import type { Network } from "../../src/sim/network.ts";
import type { Swarm } from "../../src/sim/swarm.ts";
import type { World } from "../../src/sim/world.ts";
import type { Directory } from "./directory.ts";
import type { Payloads } from "./payloads.ts";

export interface SwarmFacts {
  readonly world: World;
  readonly network: Network;
  readonly payloads: Payloads;
  /** Data each data source sends. */
  readonly dataPerSource: ReadonlyMap<string, number>;
  readonly fragmentBytes: number;
  readonly delivery: "complete" | "live";
  readonly swarm: Swarm;
  readonly directory: Directory;
}
