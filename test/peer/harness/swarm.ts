/** Overlays ready to use, and a data source for them. */

import { NODE_DEFAULTS, type OverlaySettings } from "../../../src/peer/settings.ts";
import { OVERLAY } from "./keys.ts";
import { digest, type Node } from "./node.ts";
import { World } from "./world.ts";

export function settingsOf(
  sourcePeerId: string,
  more: Partial<OverlaySettings> = {},
): OverlaySettings {
  return {
    ...NODE_DEFAULTS,
    windowFragments: 256,
    windowBytes: 256 * 1024,
    overlayId: OVERLAY,
    sessionEpoch: 1,
    fragmentBytes: 4096,
    integrity: "checksum",
    delivery: "complete",
    substreams: 8,
    maxLagMs: 1_000,
    sourcePeerId,
    ...more,
  };
}

/** A source peer and `count` peers, each linked to the source and, if wanted, to each other. */
export function swarm(
  count: number,
  more: Partial<OverlaySettings> & {
    readonly waitPeers?: number;
    readonly gatherMs?: number;
    readonly links?: "all" | "source" | "chain";
  } = {},
): { readonly world: World; readonly source: Node; readonly peers: Node[] } {
  const { waitPeers = count, gatherMs = 0, links = "all", ...rest } = more;
  const world = new World();
  const source = world.node();
  const settings = settingsOf(source.keys.peerId, rest);
  source.open("source", settings, { waitPeers, gatherMs }).register("s");
  const peers = Array.from({ length: count }, () => world.node().open("peer", settings));
  peers.forEach((peer, i) => {
    const before = peers[i - 1];
    if (links !== "chain" || before === undefined) peer.dial(source);
    else peer.dial(before);
    if (links === "all") for (const other of peers.slice(0, i)) peer.dial(other);
  });
  return { world, source, peers };
}

/** Writes `count` data of `bytesOf(i)` bytes as fast as credit allows, then ends if wanted. */
export class Feed {
  readonly written: string[] = [];
  readonly #node: Node;
  readonly #count: number;
  readonly #bytesOf: (i: number) => number;
  readonly #ends: boolean;
  readonly #sourceId: string;
  readonly #overlayId: string;
  #ended = false;

  constructor(
    node: Node,
    count: number,
    bytesOf: (i: number) => number,
    options: {
      readonly ends?: boolean;
      readonly sourceId?: string;
      readonly overlayId?: string;
    } = {},
  ) {
    this.#overlayId = options.overlayId ?? node.overlayId;
    this.#node = node;
    this.#count = count;
    this.#bytesOf = bytesOf;
    this.#ends = options.ends ?? true;
    this.#sourceId = options.sourceId ?? "s";
    const before = node.onEvent;
    node.onEvent = (event) => {
      before(event);
      if (event.kind === "writable" && event.overlayId === this.#overlayId) this.go();
    };
    this.go();
  }

  get isWritten(): boolean {
    return this.written.length === this.#count;
  }

  go(): void {
    while (!this.isWritten) {
      const i = this.written.length;
      const payload = new Uint8Array(this.#bytesOf(i)).fill(i * 7 + 1);
      for (let k = 0; k < Math.min(payload.length, 8); k++) payload[k] = (i >> (k * 4)) & 255;
      if (this.#node.writeTo(this.#overlayId, this.#sourceId, [payload]).accepted === 0) return;
      this.written.push(`${this.#sourceId}/${i + 1}/${digest(payload)}`);
    }
    if (this.#ends && !this.#ended) {
      this.#ended = true;
      this.#node.end(this.#overlayId);
    }
  }
}

export const received = (node: Node, sourceId?: string): string[] =>
  node.taken
    .filter((datum) => sourceId === undefined || datum.sourceId === sourceId)
    .map((datum) => `${datum.sourceId}/${datum.sequence}/${datum.digest}`);
