/** Traffic of an overlay in fragments, by where it came from and went to. */

import type { Neighbour } from "./neighbour.ts";

/** Bytes of whole DATA frames. */
export interface Traffic {
  bytesFromSource: number;
  bytesFromPeers: number;
  bytesToPeers: number;
  fragmentsFromSource: number;
  fragmentsFromPeers: number;
  fragmentsToPeers: number;
}

export function noTraffic(): Traffic {
  return {
    bytesFromSource: 0,
    bytesFromPeers: 0,
    bytesToPeers: 0,
    fragmentsFromSource: 0,
    fragmentsFromPeers: 0,
    fragmentsToPeers: 0,
  };
}

export function addTraffic(sum: Traffic, neighbour: Neighbour): void {
  if (neighbour.isSource) {
    sum.bytesFromSource += neighbour.bytesFrom;
    sum.fragmentsFromSource += neighbour.fragmentsFrom;
  } else {
    sum.bytesFromPeers += neighbour.bytesFrom;
    sum.fragmentsFromPeers += neighbour.fragmentsFrom;
  }
  sum.bytesToPeers += neighbour.bytesTo;
  sum.fragmentsToPeers += neighbour.fragmentsTo;
}
