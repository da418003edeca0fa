/**
 * The link model of large runs: whole frames, never a piece of one, and DATA by reference.
 *
 * All nodes of such a run share one engine memory, so a fragment exists once however many peers
 * hold it: the sender's view is retained here while it is on the way, and handed to the receiver as
 * the range it is. Nobody writes to a fragment once it was sent, so that is what a copy would be.
 * Control frames are copied to a scratch place of that memory for the time of one input.
 *
 *     transmit -> queue of the link -> uplink of the node (links take turns, control first)
 *              -> latency, jitter -> downlink of the other node -> frames
 *
 * A node's capacity is what its links share; `sent` says when bytes have left through the uplink.
 */

import { FRAME_LENGTH, FRAME_TYPE, FRAME_TYPES } from "../base/layout.ts";
import type { LinkId } from "../base/machine.ts";
import type { EngineMemory } from "../kernel/engine-memory.ts";
import type { EndFactory, EndOptions, NodePort } from "./border.ts";
import { SocketEnd } from "./socket-end.ts";
import {
  type Burst,
  CONTROL_TURN_BYTES,
  type Frame,
  Ground,
  type Turns,
  type Uplink,
} from "./uplink.ts";

/** DATA of one turn: then the next link has its own. */
const TURN_BYTES = 16 * 1024;
/** That control frames have left is told after this, all at once: each telling is an input. */
const SENT_LATER_MS = 20;

/** Ends that carry frames lying in `memory`, which all nodes share. */
export function frameEnds(memory: EngineMemory): EndFactory {
  const ground = new Ground(memory);
  return (node, linkId, options) => new FrameEnd(ground, node, linkId, options);
}

export class FrameEnd extends SocketEnd<Burst> implements Turns {
  declare other: FrameEnd | undefined;
  readonly #ground: Ground;
  readonly #uplink: Uplink;
  #queue: Frame[] = [];
  #queueHead = 0;
  #sentScheduledMs = Number.POSITIVE_INFINITY;
  #inbox: Burst[] = [];
  #reading = false;
  /** Waits for its turn at the uplink. */
  #waits = false;

  constructor(ground: Ground, node: NodePort, linkId: LinkId, options: EndOptions) {
    if (options.mode !== "stream") throw new Error("large runs have stream links only");
    super(node, linkId, options);
    this.#ground = ground;
    this.#uplink = ground.uplink(node);
  }

  /** Whole frames. A view of the shared memory is retained frame by frame until it has arrived. */
  transmit(bytes: Uint8Array): void {
    const { memory } = this.#ground;
    const isShared = bytes.buffer === memory.bytes.buffer;
    for (let at = 0; at < bytes.length; ) {
      const frameBytes = lengthAt(bytes, at);
      if (isShared && bytes[at + FRAME_TYPE] === FRAME_TYPES.DATA) {
        const offset = bytes.byteOffset + at;
        memory.retain(offset, frameBytes);
        this.#queue.push({ control: undefined, offset, bytes: frameBytes });
      } else {
        const control = bytes.subarray(at, at + frameBytes);
        this.#queue.push({ control, offset: 0, bytes: frameBytes });
      }
      at += frameBytes;
    }
    this.queuedBytes += bytes.length;
    this.markDirty();
  }

  flush(): void {
    this.dirty = false;
    if (this.state === "opening" || this.state === "closed" || !this.current) return;
    this.#departControl();
    if (this.queuedBytes > 0) {
      if (this.#waits || this.inFlightBytes >= this.path.windowBytes) return;
      this.#waits = true;
      this.#uplink.offer(this);
      return;
    }
    if (this.state === "closing") {
      this.send({
        frames: [],
        bytes: 0,
        atMs: this.arrivalMs(this.node.world.nowMs),
        last: true,
      });
      this.down("LINK_CLOSED", "closed by this end");
    }
  }

  /** Its turn at the uplink: some DATA leaves. */
  turn(): void {
    this.#waits = false;
    if (this.state === "closed" || !this.current || this.queuedBytes === 0) return;
    const frames: Frame[] = [];
    let bytes = 0;
    while (this.#queueHead < this.#queue.length) {
      const frame = this.#queue[this.#queueHead] as Frame;
      if (frames.length > 0 && bytes + frame.bytes > TURN_BYTES) break;
      frames.push(frame);
      bytes += frame.bytes;
      this.#queueHead++;
    }
    const departedMs = this.#uplink.occupy(bytes);
    this.#took(frames, bytes, departedMs);
    this.node.world.at(departedMs, () => {
      this.sentBytes += bytes;
      this.reportSent();
      this.flush();
    });
  }

  read(): void {
    if (this.#reading) return;
    this.#reading = true;
    while (this.state === "open" && !this.node.paused && this.current) {
      const burst = this.#inbox.shift();
      if (burst === undefined) {
        if (this.finReceived) this.break("LINK_CLOSED", "closed by the other end");
        break;
      }
      this.#hand(burst);
    }
    this.#reading = false;
  }

  /** Control frames at the head of the queue leave at once: they take no turn. */
  #departControl(): void {
    if (this.inFlightBytes >= this.path.windowBytes) return;
    const frames: Frame[] = [];
    let bytes = 0;
    while (this.#queueHead < this.#queue.length && bytes < CONTROL_TURN_BYTES) {
      const frame = this.#queue[this.#queueHead] as Frame;
      if (frame.control === undefined) break;
      frames.push(frame);
      bytes += frame.bytes;
      this.#queueHead++;
    }
    if (bytes === 0) return;
    this.#uplink.occupy(bytes);
    this.#took(frames, bytes, this.node.world.nowMs + bytes / this.node.uplinkBytesPerMs);
    this.sentBytes += bytes;
    this.#reportLater();
  }

  #took(frames: readonly Frame[], bytes: number, departedMs: number): void {
    if (this.#queueHead === this.#queue.length || this.#queueHead > 256) {
      this.#queue.splice(0, this.#queueHead);
      this.#queueHead = 0;
    }
    this.queuedBytes -= bytes;
    this.inFlightBytes += bytes;
    this.send({ frames, bytes, atMs: this.arrivalMs(departedMs), last: false });
  }

  protected override lose({ frames }: Burst): void {
    this.#ground.release(frames);
  }

  /** All links of a node share its downlink. */
  protected override deliver(burst: Burst): void {
    const { node } = this;
    const { world } = node;
    const startMs = Math.max(world.nowMs, node.downlinkFreeMs);
    node.downlinkFreeMs = startMs + burst.bytes / node.downlinkBytesPerMs;
    if (startMs === world.nowMs) this.land(burst);
    else world.at(startMs, () => this.land(burst));
  }

  protected override receive(burst: Burst): void {
    const { node } = this;
    if (burst.last) this.finReceived = true;
    else if (this.#inbox.length === 0 && this.state === "open" && !node.paused && this.current) {
      this.#hand(burst);
      return;
    } else this.#inbox.push(burst);
    this.read();
  }

  /** Hands the frames of one burst to the machine, in one input. */
  #hand(burst: Burst): void {
    const { memory, scratch } = this.#ground;
    const { frames } = burst;
    if (2 * frames.length > this.#ground.ranges.length) {
      this.#ground.ranges = new Uint32Array(4 * frames.length);
    }
    const { ranges } = this.#ground;
    let at = scratch;
    for (let i = 0; i < frames.length; i++) {
      const { control, offset, bytes } = frames[i] as Frame;
      ranges[2 * i + 1] = bytes;
      if (control === undefined) {
        ranges[2 * i] = offset;
        continue;
      }
      memory.bytes.set(control, at);
      ranges[2 * i] = at;
      at += bytes;
    }
    const { node, linkId } = this;
    const { length: count } = frames;
    node.network.observers.frames(node, this, memory.bytes, ranges, count);
    node.input({ kind: "frames", linkId, memory: memory.bytes, ranges, count });
    this.#ground.release(frames);
    this.acknowledge(burst.bytes);
  }

  protected override acknowledge(bytes: number): void {
    const sender = this.other;
    if (sender === undefined) return;
    sender.inFlightBytes -= bytes;
    if (sender.queuedBytes > 0 && !sender.#waits && !sender.dirty) sender.flush();
  }

  #reportLater(): void {
    const { world } = this.node;
    const atMs = world.nowMs + SENT_LATER_MS;
    if (this.#sentScheduledMs <= atMs) return;
    this.#sentScheduledMs = atMs;
    world.at(atMs, () => {
      if (this.#sentScheduledMs !== atMs) return;
      this.#sentScheduledMs = Number.POSITIVE_INFINITY;
      this.reportSent();
    });
  }

  protected override dropQueue(): void {
    this.#ground.release(this.#queue.slice(this.#queueHead));
    this.#queue = [];
    this.#queueHead = 0;
    this.queuedBytes = 0;
  }

  protected override dropInbox(): void {
    for (const burst of this.#inbox) {
      this.#ground.release(burst.frames);
      this.acknowledge(burst.bytes);
    }
    this.#inbox = [];
  }
}

function lengthAt(bytes: Uint8Array, at: number): number {
  const head = at + FRAME_LENGTH;
  return (
    ((bytes[head] as number) |
      ((bytes[head + 1] as number) << 8) |
      ((bytes[head + 2] as number) << 16) |
      ((bytes[head + 3] as number) << 24)) >>>
    0
  );
}
