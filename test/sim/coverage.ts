/**
 * What occurred in a run, by name: faults, messages, error codes and branches. A swarm that never
 * sees a stall proves nothing about stalls, so runs over many seeds ask for each of these.
 *
 *     fault:reset      message:GONE      error:DUPLICATE_LINK      branch:lagging
 *
 * An error counts when a neighbour said it (ERROR or BYE), when a link went down with it, or when a
 * machine told it to its host.
 */

import type { Input } from "../../src/base/machine.ts";
import type { PeerEvent } from "../../src/peer/commands.ts";
import type { PeerCounters } from "../../src/peer/context.ts";
import type { LinkEnd, NodePort } from "../../src/sim/border.ts";
import type { GapSeen, Member, SwarmObserver } from "../../src/sim/swarm.ts";
import { readMsgpack } from "../support/msgpack-reader.ts";
import { haveFlags, TYPE, TYPE_NAMES } from "./wire.ts";

const BODY = 8;
const HELD_BACK = 1;

/** The branch of a peer machine that each of its counters stands for; undefined: of none. */
const COUNTED: Record<keyof PeerCounters, string | undefined> = {
  fragmentsReceived: undefined,
  fragmentsSent: undefined,
  bytesReceived: undefined,
  bytesSent: undefined,
  duplicates: "duplicate",
  lateFragments: "late fragment",
  corruptFragments: "corrupt fragment",
  malformedFrames: "malformed frame",
  refusedLinks: "refused link",
  unopenedLinks: "unopened link",
  evictedLinks: "evicted link",
  requestsSent: "request",
  requestsServed: "request served",
  requestsBeyondCredit: "request beyond credit",
  requestTimeouts: "request timed out",
  requestsCancelled: "request taken back",
  requestsDoubled: "request doubled",
  busySent: "busy",
  busyReceived: undefined,
  gaps: "gap",
  handshakes: undefined,
  slowLinks: "slow link",
  ignoredFrames: "ignored frame",
  memoryStalls: "memory stall",
};

export class Coverage implements SwarmObserver {
  readonly seen = new Set<string>();

  fault(kind: string): void {
    this.seen.add(`fault:${kind}`);
  }
  branch(name: string): void {
    this.seen.add(`branch:${name}`);
  }

  /** The counters of a machine at its end. */
  counters(counters: Readonly<PeerCounters>): void {
    for (const counter of Object.keys(COUNTED) as (keyof PeerCounters)[]) {
      const name = COUNTED[counter];
      if (name !== undefined && counters[counter] > 0) this.branch(name);
    }
  }

  onFrames(
    _node: NodePort,
    end: LinkEnd,
    memory: Uint8Array,
    ranges: Uint32Array,
    count: number,
  ): void {
    if (end.mode === "message") return;
    for (let i = 0; i < count; i++) {
      const offset = ranges[2 * i] as number;
      const type = memory[offset + 6] as number;
      this.seen.add(`message:${TYPE_NAMES.get(type) ?? type}`);
      if (type === TYPE.HAVE && (haveFlags(memory, offset) & HELD_BACK) !== 0) {
        this.branch("held back by others");
      }
      if (type !== TYPE.ERROR && type !== TYPE.BYE) continue;
      const body = memory.slice(offset + BODY, offset + (ranges[2 * i + 1] as number));
      this.#said(readMsgpack(body));
    }
  }

  onInput(_node: NodePort, input: Input<unknown>): void {
    if (input.kind === "linkDown") this.seen.add(`error:${input.code}`);
  }

  onEvent(_node: NodePort, event: unknown): void {
    const told = event as PeerEvent;
    if (told.kind === "failed" || told.kind === "linkFailed") this.seen.add(`error:${told.code}`);
    else if (told.kind === "needMembers" && told.holding !== undefined) {
      this.branch("asks for other holders");
    } else if (told.kind === "neighbour" && told.state === "recovered") this.branch("recovered");
    else if (told.kind === "writable") this.branch("source held back");
  }

  onGap(_member: Member, gap: GapSeen): void {
    this.branch(`gap of ${gap.kind}`);
  }

  onLagging(): void {
    this.branch("lagging");
  }

  /** The body of ERROR or BYE: whichever of its texts names a code. */
  #said(body: unknown): void {
    if (!Array.isArray(body)) return;
    const code = body.find((field) => typeof field === "string" && /^[A-Z][A-Z_]+$/.test(field));
    if (code !== undefined) this.seen.add(`error:${code}`);
  }
}
