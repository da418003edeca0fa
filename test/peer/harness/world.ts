/** Virtual time, links with a latency, and whose turn it is. */

import type { Address, LinkId } from "../../../src/base/machine.ts";
import { EventHeap } from "../../../src/sim/event-heap.ts";
import { Messages } from "../messages.ts";
import { Keys } from "./keys.ts";
import { Node, type NodeOptions } from "./node.ts";
import { Stranger } from "./stranger.ts";

/** One end of a link. */
export interface End {
  readonly linkId: LinkId;
  received(bytes: Uint8Array): void;
  up(direction: "inbound" | "outbound", remote: Address): void;
  down(code: "LINK_CLOSED" | "LINK_RESET"): void;
  sent(totalBytes: number): void;
}

export interface Wire {
  a: End;
  b: End;
  open: boolean;
}

/** Something with a deadline. */
export interface Timed {
  readonly isAlive: boolean;
  readonly deadlineMs: number;
  input(input: { readonly kind: "timeout" }): void;
}

/** What happens at a link's other end can be delayed, but never overtakes. */
export class World {
  nowMs = 1_000;
  readonly nodes: Node[] = [];
  readonly servers: Timed[] = [];
  readonly messages = new Messages(this);
  readonly #events = new EventHeap();

  /** `keys`: those of a node that crashed, which starts over as this one. */
  node(options: NodeOptions = {}): Node {
    const node = new Node(this, this.nodes.length + 1, options);
    this.nodes.push(node);
    return node;
  }

  stranger(keys = new Keys()): Stranger {
    return new Stranger(this, keys);
  }

  after(delayMs: number, run: () => void): void {
    this.#events.push(this.nowMs + delayMs, run);
  }

  connect(a: End, b: End, remoteOfA: Address, remoteOfB: Address): Wire {
    const wire = { a, b, open: true };
    this.after(1, () => {
      b.up("inbound", remoteOfB);
      a.up("outbound", remoteOfA);
    });
    return wire;
  }

  /** Runs until `done`, at most `maxMs` of virtual time; throws when that is over first. */
  run(done: () => boolean, maxMs = 60_000): void {
    const endMs = this.nowMs + maxMs;
    while (!done()) {
      if (!this.#step(endMs)) {
        throw new Error(
          `not done after ${maxMs} ms: ${this.nodes.map((n) => n.summary()).join("; ")}`,
        );
      }
    }
  }

  advance(ms: number): void {
    const endMs = this.nowMs + ms;
    while (this.#step(endMs));
    this.nowMs = endMs;
  }

  #step(endMs: number): boolean {
    let node: Timed | undefined;
    let nodeMs = Number.POSITIVE_INFINITY;
    for (const timed of [this.nodes, this.servers]) {
      for (const each of timed) {
        if (!each.isAlive || each.deadlineMs >= nodeMs) continue;
        node = each;
        nodeMs = each.deadlineMs;
      }
    }
    const eventMs = this.#events.earliestMs;
    if (Math.min(nodeMs, eventMs) > endMs) return false;
    this.nowMs = Math.max(this.nowMs, Math.min(nodeMs, eventMs));
    if (this.#events.size > 0 && eventMs <= nodeMs) this.#events.pop()();
    else node?.input({ kind: "timeout" });
    return true;
  }
}
