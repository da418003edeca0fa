/** Sessions against the real servers: how they are made, and what was said to whom. */

import { type MsgpackValue, readMsgpack } from "../../support/msgpack-reader.ts";
import { type Node, World } from "../harness.ts";
import type { Messenger } from "../messages.ts";
import { IXS, OMS, type Servers, startServers } from "../server-node.ts";

export const TYPES = {
  registerOverlay: 0x10,
  removeOverlay: 0x11,
  registerPeer: 0x20,
  report: 0x21,
  removePeer: 0x22,
  status: 0x23,
  create: 0x41,
  refresh: 0x42,
  removeSession: 0x43,
  join: 0x45,
  memberRefresh: 0x46,
  leave: 0x48,
  registerIndex: 0x50,
} as const;

export interface Said {
  readonly atMs: number;
  readonly type: number;
  readonly fields: MsgpackValue[];
}

/** Messages from one machine to another, read by independent code. */
export function said(world: World, from: Messenger, to: Messenger, type?: number): Said[] {
  return world.messages.log
    .filter((message) => message.from === from && message.to === to)
    .map(({ atMs, bytes }) => {
      const fields = readMsgpack(bytes) as MsgpackValue[];
      return { atMs, type: fields[0] as number, fields };
    })
    .filter((message) => type === undefined || message.type === type);
}

export interface Scene {
  readonly world: World;
  readonly servers: Servers;
}

export function scene(options: Parameters<typeof startServers>[1] = {}): Scene {
  const world = new World();
  return { world, servers: startServers(world, options) };
}

/** A node of its own creates a session, or `at` does. */
export function createSession(
  world: World,
  more: {
    readonly at?: Node;
    readonly sessionId?: number;
    readonly sources?: readonly string[];
    readonly waitPeers?: number;
    readonly waitMs?: number;
    readonly keys?: Node["keys"];
    readonly resumes?: boolean;
  } = {},
): Node {
  const node = more.at ?? world.node(more.keys === undefined ? {} : { keys: more.keys });
  node.command({ kind: "setListen", addresses: [node.address] });
  node.command({
    kind: "createSession",
    sessionId: more.sessionId ?? 1,
    oms: OMS,
    ixs: IXS,
    title: "weather",
    dataSources: (more.sources ?? ["s"]).map((sourceId) => ({
      sourceId,
      dataId: "default",
      contentType: "",
      description: `what ${sourceId} sends`,
    })),
    fragmentBytes: 4096,
    integrity: "checksum",
    delivery: "complete",
    substreams: 8,
    maxLagMs: 1_000,
    waitPeers: more.waitPeers ?? 1,
    waitMs: more.waitMs ?? 0,
    resumes: more.resumes ?? false,
    node: { windowFragments: 256, windowBytes: 256 * 1024, repairMs: 2_000 },
  });
  return node;
}

/** A node of its own joins, or `at` does once more. */
export function joinSession(
  world: World,
  waitMs = 60_000,
  {
    at,
    sessionId = 1,
    ...more
  }: {
    readonly at?: Node;
    readonly sessionId?: number;
    readonly followsRestarts?: boolean;
    readonly dial?: readonly string[];
  } = {},
): Node {
  const node = at ?? world.node();
  node.command({ kind: "setListen", addresses: [node.address] });
  node.command({
    kind: "joinSession",
    sessionId,
    ixs: IXS,
    title: "weather",
    dataSourceId: "",
    dataId: "",
    from: "oldest",
    waitMs,
    ...more,
    node: { windowFragments: 256, windowBytes: 256 * 1024, repairMs: 2_000 },
  });
  // One that has a session already goes on as it does.
  if (at !== undefined) return node;
  node.onEvent = (event) => {
    if (event.kind !== "sessionOpen") return;
    node.overlayId = event.overlayId;
    node.take();
  };
  return node;
}

export function opened(world: World, node: Node, sources: readonly string[] = ["s"]): void {
  world.run(() => node.has("sessionOpen"));
  node.overlayId = node.eventsOf("sessionOpen")[0]?.overlayId ?? "";
  for (const id of sources) {
    if (node.overlay.source?.sources.find(id) === undefined) node.register(id);
  }
}
