/** A source peer with a key of its own, the real servers, and peers that join by title. */

import type { SessionDataSource } from "../../src/peer/session/session-types.ts";
import { type Node, World } from "./harness.ts";
import { IXS, OMS, type Servers, startServers } from "./server-node.ts";

export interface Scene {
  readonly world: World;
  readonly servers: Servers;
}

export function scene(options: Parameters<typeof startServers>[1] = {}): Scene {
  const world = new World();
  return { world, servers: startServers(world, { refreshMs: 60_000, ...options }) };
}

export function source(
  world: World,
  more: { keys?: Node["keys"]; delivery?: "live"; sources?: readonly string[] } = {},
): Node {
  const { sources = ["s", "t"] } = more;
  const node = world.node(more.keys === undefined ? {} : { keys: more.keys });
  node.command({ kind: "setListen", addresses: [node.address] });
  node.command({
    kind: "createSession",
    sessionId: 1,
    oms: OMS,
    ixs: IXS,
    title: "weather",
    dataSources: sources.map(dataSource),
    fragmentBytes: 4096,
    integrity: "checksum",
    delivery: more.delivery ?? "complete",
    substreams: 8,
    maxLagMs: 5_000,
    waitPeers: more.delivery === "live" ? 0 : 1,
    resumes: true,
    node: { windowFragments: 256, windowBytes: 256 * 1024, repairMs: 2_000 },
  });
  world.run(() => node.has("sessionOpen"), 30_000);
  node.overlayId = node.eventsOf("sessionOpen")[0]?.overlayId ?? "";
  for (const sourceId of sources) node.register(sourceId);
  return node;
}

/** A data source that comes when the session is open, as one on a link of its own does. */
export function add(world: World, node: Node, sourceId: string): void {
  const isAdded = (): boolean =>
    node.eventsOf("dataSourceAdded").some((event) => event.sourceId === sourceId);
  const command = {
    kind: "addDataSource",
    sessionId: 1,
    dataSource: dataSource(sourceId),
  } as const;
  node.command(command);
  world.run(isAdded, 10_000);
  node.register(sourceId);
}

export function dataSource(sourceId: string): SessionDataSource {
  return { sourceId, dataId: "default", contentType: "", description: "" };
}

export function join(world: World, more: { followsRestarts?: boolean } = {}): Node {
  const node = world.node();
  node.command({ kind: "setListen", addresses: [node.address] });
  joinAt(node, 1, more);
  node.onEvent = (event) => {
    if (event.kind !== "sessionOpen" && event.kind !== "sessionRestarted") return;
    node.overlayId = event.overlayId;
    if (node.takes) node.take();
  };
  return node;
}

export function joinAt(node: Node, sessionId: number, more: { followsRestarts?: boolean }): void {
  node.command({
    kind: "joinSession",
    sessionId,
    ixs: IXS,
    title: "weather",
    dataSourceId: "",
    dataId: "",
    from: undefined,
    waitMs: 60_000,
    ...more,
    node: { windowFragments: 256, windowBytes: 256 * 1024, repairMs: 2_000 },
  });
}

export function joined(world: World, count: number): Node[] {
  const peers = Array.from({ length: count }, () => join(world));
  world.run(() => peers.every((peer) => peer.has("started")), 10_000);
  return peers;
}

export const taken = (node: Node, from = 0): string[] =>
  node.taken
    .slice(from)
    .map(({ sourceId, sequence, digest }) => `${sourceId}/${sequence}/${digest}`);
