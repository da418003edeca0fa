/** The table of the demo: a row a peer, redrawn in place on a terminal. */

import { bytesText, countText, percentText } from "../units.ts";
import type { PeerProcess } from "./peer-process.ts";

const COLUMNS = [
  { title: "peer", width: 8, left: true },
  { title: "state", width: 10, left: true },
  { title: "neighbours", width: 10 },
  { title: "data", width: 8 },
  { title: "data/s", width: 7 },
  { title: "held", width: 6 },
  { title: "missing", width: 7 },
  { title: "lag p50", width: 8 },
  { title: "lag p99", width: 8 },
  { title: "of source", width: 10 },
  { title: "of peers", width: 10 },
  { title: "share", width: 5 },
] as const;

export function tableLines(peers: readonly PeerProcess[]): string[] {
  return [line(COLUMNS.map(({ title }) => title)), ...peers.map((peer) => line(cells(peer)))];
}

function cells(peer: PeerProcess): string[] {
  const { status } = peer;
  if (status === undefined) return [peer.name, peer.state];
  const running = peer.state === "running";
  return [
    peer.name,
    peer.state,
    running ? String(status.neighbours) : "",
    countText(status.data),
    running ? countText(status.dataPerSecond) : "",
    countText(status.fragmentsHeld),
    countText(status.missing),
    `${status.lagP50Ms.toFixed(1)} ms`,
    `${status.lagP99Ms.toFixed(1)} ms`,
    bytesText(status.bytesFromSource),
    bytesText(status.bytesFromPeers),
    percentText(shareFromPeers(status)),
  ];
}

export function shareFromPeers(traffic: {
  readonly bytesFromSource: number;
  readonly bytesFromPeers: number;
}): number {
  return traffic.bytesFromPeers / Math.max(1, traffic.bytesFromPeers + traffic.bytesFromSource);
}

function line(texts: readonly string[]): string {
  return COLUMNS.map((column, i) => {
    const text = texts[i] ?? "";
    return "left" in column ? text.padEnd(column.width) : text.padStart(column.width);
  })
    .join("  ")
    .trimEnd();
}
