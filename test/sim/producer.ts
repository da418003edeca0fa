/** Data sources of a source peer: each writes its data at its own pace, as credit allows. */

import type { Rng } from "../../src/base/rng.ts";
import type { Write } from "../../src/peer/commands.ts";
import type { Member, Swarm } from "../../src/sim/swarm.ts";
import { exponentialMs } from "../../src/sim/world.ts";
import type { SwarmOptions } from "./options.ts";
import type { Payloads } from "./payloads.ts";

interface Feed {
  readonly sourceId: string;
  next: number;
  waiting: boolean;
}

/** Data of one write, at most. */
const BATCH_MAX = 16;
const PAUSED_RETRY_MS = 50;
/** Data flow once all first members take part, or after this. */
const START_RETRY_MS = 20;
const START_MS_MAX = 15_000;

export class Producer {
  readonly #swarm: Swarm;
  readonly #member: Member;
  readonly #overlayId: string;
  readonly #options: SwarmOptions;
  readonly #payloads: Payloads;
  readonly #rng: Rng;
  readonly #feeds: Feed[];
  #ended = 0;

  constructor(
    swarm: Swarm,
    member: Member,
    overlayId: string,
    facts: {
      readonly options: SwarmOptions;
      readonly payloads: Payloads;
      readonly sourceIds: readonly string[];
    },
  ) {
    this.#swarm = swarm;
    this.#member = member;
    this.#overlayId = overlayId;
    this.#options = facts.options;
    this.#payloads = facts.payloads;
    this.#rng = swarm.world.rng("producer");
    this.#feeds = facts.sourceIds.map((sourceId) => ({ sourceId, next: 1, waiting: false }));
  }

  start(): void {
    const { node } = this.#member;
    for (const { sourceId } of this.#feeds) {
      node.command({
        kind: "registerDataSource",
        overlayId: this.#overlayId,
        sourceId,
        contentType: "application/octet-stream",
      });
    }
    this.#begin();
  }

  /** What is sent before a member takes part is not owed to it: so data wait for the first ones. */
  #begin(): void {
    const { world, members } = this.#swarm;
    const { peers } = this.#options;
    const missing = members.filter((member) => member.fromStart && !member.started);
    if (members.length <= peers || missing.length > 1) {
      if (world.nowMs < START_MS_MAX) {
        world.after(START_RETRY_MS, () => this.#begin());
        return;
      }
    }
    for (const member of missing) member.fromStart = member.role === "source";
    for (const feed of this.#feeds) this.#later(feed, this.#intervalMs());
  }

  /** The window takes more: who waited goes on. */
  writable(): void {
    for (const feed of this.#feeds) {
      if (!feed.waiting) continue;
      feed.waiting = false;
      this.#later(feed, 0);
    }
  }

  #later(feed: Feed, afterMs: number): void {
    this.#swarm.world.after(afterMs, () => this.#write(feed));
  }

  #intervalMs(): number {
    const { everyMs } = this.#options;
    return everyMs === 0 ? 0 : exponentialMs(this.#rng, everyMs);
  }

  #write(feed: Feed): void {
    const { node } = this.#member;
    if (!node.alive) return;
    if (node.paused) {
      this.#later(feed, PAUSED_RETRY_MS);
      return;
    }
    const total = this.#options.dataPerSource;
    const left = total - feed.next + 1;
    const count = this.#options.everyMs === 0 ? Math.min(left, 1 + this.#rng.below(BATCH_MAX)) : 1;
    const { sourceId } = feed;
    const parts = Array.from({ length: count }, (_, i) =>
      this.#payloads.payload(sourceId, feed.next + i),
    );
    const write: Write = {
      kind: "write",
      overlayId: this.#overlayId,
      sourceId,
      payloads: new Uint8Array(Buffer.concat(parts)),
      lengths: Uint32Array.from(parts, ({ length }) => length),
      timestampUs: node.now().wallUs,
      contentType: undefined,
      accepted: 0,
      credit: 0,
    };
    node.command(write);
    if (write.accepted < 0 || write.accepted > count) {
      this.#swarm.world.violate("write-answer", `${write.accepted} accepted of ${count}`);
    }
    feed.next += write.accepted;
    if (write.accepted > 0) this.#swarm.lastWriteMs = this.#swarm.world.nowMs;
    if (feed.next > total) {
      this.#end(feed);
      return;
    }
    if (write.accepted < count || write.credit === 0) feed.waiting = true;
    else this.#later(feed, this.#intervalMs());
  }

  #end(feed: Feed): void {
    const { node } = this.#member;
    const overlayId = this.#overlayId;
    this.#ended++;
    // The last one may leave its end to that of the session.
    if (this.#ended < this.#feeds.length || this.#rng.below(2) === 0) {
      node.command({ kind: "endSource", overlayId, sourceId: feed.sourceId });
    }
    if (this.#ended === this.#feeds.length) node.command({ kind: "endSession", overlayId });
  }
}
