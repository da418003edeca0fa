/**
 * Real peer machines in one process on a virtual clock: frames travel over links with a latency and
 * land in each node's own engine memory, jobs run with real keys and checksums. A `Stranger` is the
 * other end of a link that a test plays by hand.
 */

export { Keys, LATENCY_MS, OVERLAY, START_US, sha256, verifies } from "./harness/keys.ts";
export { Node, type TakenDatum } from "./harness/node.ts";
export { errorOf, type SeenFrame, splitFrames } from "./harness/seen-frames.ts";
export { Stranger } from "./harness/stranger.ts";
export { Feed, received, settingsOf, swarm } from "./harness/swarm.ts";
export { World } from "./harness/world.ts";
