/**
 * Cache servers in whole sessions: the real servers, a source peer, peers, and a cache server whose
 * virtual peers are real peers, on a virtual clock. Messages are read by independent code.
 */

import { FRAME_TYPES } from "../../../src/base/layout.ts";
import { parseAddress } from "../../../src/base/machine.ts";
import type { AllocateOrder, ReleaseOrder } from "../../../src/protocol/r8.ts";
import { createCs } from "../../../src/servers/cs.ts";
import { decodeFragment } from "../../support/fragment-decoder.ts";
import { type MsgpackValue, readMsgpack } from "../../support/msgpack-reader.ts";
import { type Keys, type Node, World } from "../harness.ts";
import type { Messenger } from "../messages.ts";
import { IXS, OMS, ServerNode, type Servers, startServers } from "../server-node.ts";

export const KEY = new Uint8Array(32).fill(7);
export const hex = (bytes: unknown): string => Buffer.from(bytes as Uint8Array).toString("hex");
export const TYPES = {
  removeOverlay: 0x11,
  registerPeer: 0x20,
  join: 0x45,
  register: 0x60,
  withdraw: 0x62,
  allocate: 0x68,
  release: 0x69,
} as const;

/** Fields of messages from one machine to another. */
export function said(world: World, from: Messenger, to: Messenger, type: number): MsgpackValue[][] {
  return world.messages.log
    .filter((message) => message.from === from && message.to === to)
    .map(({ bytes }) => readMsgpack(bytes) as MsgpackValue[])
    .filter((fields) => fields[0] === type);
}

/** A cache server's process: its machine, and a peer for each virtual peer. */
export class CacheServer {
  readonly node: ServerNode;
  readonly peers: Node[];
  readonly #world: World;
  /** Session of a virtual peer in an overlay. */
  readonly #sessions = new Map<string, number>();
  #nextSession = 1;

  constructor(world: World, port: number, peers = 2, overlaysPerPeer = 2, keys: Keys[] = []) {
    this.#world = world;
    this.peers = Array.from({ length: peers }, (_, i) =>
      world.node(keys[i] === undefined ? {} : { keys: keys[i] }),
    );
    this.node = new ServerNode(world, port, (base) =>
      createCs({
        ...base,
        oms: parseAddress("ws://oms:1") ?? OMS,
        serviceKey: KEY,
        cacheServerId: port.toString(16).padStart(64, "0"),
        label: "rack",
        virtualPeers: this.peers.map((peer) => peer.keys.peerId),
        overlaysPerPeer,
        leavingMax: 2,
      }),
    );
    this.node.onEvent = (event) => {
      if (event.type === "enter") this.#enter((event as never as { order: AllocateOrder }).order);
      if (event.type === "leave") this.#leave((event as never as { order: ReleaseOrder }).order);
    };
    for (const peer of this.peers) {
      peer.command({ kind: "setListen", addresses: [peer.address] });
      peer.onEvent = (event) => {
        if (event.kind === "failed") this.#failed(peer, event.overlayId, event.code);
        if (event.kind === "sessionFailed") this.#closed(peer, event.sessionId, event.code);
        if (event.kind === "sessionClosed") this.#closed(peer, event.sessionId, "");
      };
    }
  }

  #enter({ overlayId, peerId, title }: AllocateOrder): void {
    const peer = this.peers.find(({ keys }) => keys.peerId === peerId) as Node;
    const sessionId = this.#nextSession++;
    this.#sessions.set(`${overlayId}/${peerId}`, sessionId);
    this.#world.after(0, () =>
      peer.command({
        kind: "joinSession",
        sessionId,
        ixs: IXS,
        title,
        dataSourceId: "",
        dataId: "",
        from: undefined,
        virtualIn: overlayId,
        consume: false,
        waitMs: 30_000,
        node: { windowFragments: 256, windowBytes: 256 * 1024, repairMs: 2_000 },
      }),
    );
  }

  #leave({ overlayId, peerId, reason }: ReleaseOrder): void {
    const peer = this.peers.find(({ keys }) => keys.peerId === peerId) as Node;
    const sessionId = this.#sessions.get(`${overlayId}/${peerId}`);
    if (reason === 0 || sessionId === undefined) return;
    this.#world.after(0, () => peer.command({ kind: "leaveSession", sessionId }));
  }

  #failed(peer: Node, overlayId: string, code: string): void {
    const sessionId = this.#sessions.get(`${overlayId}/${peer.keys.peerId}`);
    this.#out(peer, overlayId, code);
    if (sessionId === undefined) return;
    this.#world.after(0, () => peer.command({ kind: "leaveSession", sessionId }));
  }

  #closed(peer: Node, sessionId: number, code: string): void {
    for (const [place, each] of this.#sessions) {
      const [overlayId, peerId] = place.split("/") as [string, string];
      if (each === sessionId && peerId === peer.keys.peerId) this.#out(peer, overlayId, code);
    }
  }

  #out(peer: Node, overlayId: string, code: string): void {
    const { peerId } = peer.keys;
    if (!this.#sessions.delete(`${overlayId}/${peerId}`)) return;
    this.#world.after(0, () =>
      this.node.command({ type: "out", overlayId, peerId, code, detail: "" }),
    );
  }

  /** kill -9. */
  kill(): void {
    this.node.kill();
    for (const peer of this.peers) peer.crash();
  }
}

export interface Scene {
  readonly world: World;
  readonly servers: Servers;
  readonly cache: CacheServer;
}

export function scene(options: { withoutPams?: boolean; peers?: number } = {}): Scene {
  const world = new World();
  const { withoutPams = false } = options;
  const servers = startServers(world, { serviceKey: KEY, refreshMs: 6_000, withoutPams });
  const cache = new CacheServer(world, 20, options.peers ?? 2);
  world.run(() => cache.node.events.some(({ type }) => type === "registered"));
  return { world, servers, cache };
}

export function session(
  world: World,
  virtualPeers: number,
  more: { title?: string; waitPeers?: number; priority?: number },
): Node {
  const { title = "weather", waitPeers = 1, priority = 5 } = more;
  const node = world.node();
  node.command({ kind: "setListen", addresses: [node.address] });
  node.command({
    kind: "createSession",
    sessionId: 1,
    oms: OMS,
    ixs: IXS,
    title,
    dataSources: [{ sourceId: `s-${title}`, dataId: "d", contentType: "", description: "" }],
    fragmentBytes: 4096,
    integrity: "checksum",
    delivery: "complete",
    substreams: 8,
    maxLagMs: 1_000,
    waitPeers,
    ...(virtualPeers === 0 ? {} : { virtualPeers: { count: virtualPeers, priority } }),
    node: { windowFragments: 256, windowBytes: 256 * 1024, repairMs: 2_000, holdMs: 10_000 },
  });
  world.run(() => node.has("sessionOpen"));
  node.overlayId = node.eventsOf("sessionOpen")[0]?.overlayId ?? "";
  node.register(`s-${title}`);
  return node;
}

export function joins(world: World, title = "weather", dial?: readonly string[]): Node {
  const node = world.node();
  node.command({ kind: "setListen", addresses: [node.address] });
  node.command({
    kind: "joinSession",
    sessionId: 1,
    ixs: IXS,
    title,
    dataSourceId: "",
    dataId: "",
    from: "oldest",
    waitMs: 60_000,
    ...(dial === undefined ? {} : { dial }),
    node: { windowFragments: 256, windowBytes: 256 * 1024, repairMs: 2_000 },
  });
  node.onEvent = (event) => {
    if (event.kind !== "sessionOpen") return;
    node.overlayId = event.overlayId;
    node.take();
  };
  world.run(() => node.has("sessionOpen"));
  return node;
}

export const isIn = (peer: Node, overlayId: string): boolean =>
  peer.machine.overlays.has(overlayId);
export const bothIn = ({ cache }: Scene, overlayId: string): boolean =>
  cache.peers.every((peer) => isIn(peer, overlayId));

/** Indices of DATA that one node sent, checked by independent code. */
export function indicesSent(node: Node): Set<number> {
  const frames = node.sentOf(FRAME_TYPES.DATA);
  return new Set(frames.map(({ bytes }) => decodeFragment(bytes).index));
}
