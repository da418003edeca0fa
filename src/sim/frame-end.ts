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

import type { ErrorCode } from "../base/errors.ts";
import { FRAME_LENGTH, FRAME_TYPE, FRAME_TYPES } from "../base/layout.ts";
import type { Address, LinkId } from "../base/machine.ts";
import type { EngineMemory } from "../kernel/engine-memory.ts";
import type { EndFactory, EndOptions, LinkEnd, LinkMode, NodePort, PathQuality } from "./border.ts";
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
/** A close that can't send what is queued ends as a reset after this. */
const CLOSE_TIMEOUT_MS = 30_000;
/** That control frames have left is told after this, all at once: each telling is an input. */
const SENT_LATER_MS = 20;

/** Ends that carry frames lying in `memory`, which all nodes share. */
export function frameEnds(memory: EngineMemory): EndFactory {
  const ground = new Ground(memory);
  return (node, linkId, options) => new FrameEnd(ground, node, linkId, options);
}

type State = "opening" | "open" | "closing" | "closed";

export class FrameEnd implements LinkEnd, Turns {
  readonly node: NodePort;
  readonly linkId: LinkId;
  readonly mode: LinkMode;
  readonly path: PathQuality;
  readonly remote: Address;
  readonly outbound: boolean;
  other: FrameEnd | undefined;
  silent = false;
  stalledUntilMs = 0;
  readonly #ground: Ground;
  readonly #uplink: Uplink;
  readonly #generation: number;
  #state: State = "opening";
  #queue: Frame[] = [];
  #queueHead = 0;
  #queuedBytes = 0;
  #sentBytes = 0;
  #sentReported = 0;
  #sentScheduledMs = Number.POSITIVE_INFINITY;
  #inFlightBytes = 0;
  #lastArrivalMs = 0;
  #inTransit: Burst[] = [];
  #inTransitHead = 0;
  #inbox: Burst[] = [];
  #finReceived = false;
  #reading = false;
  #dirty = false;
  /** Waits for its turn at the uplink. */
  #waits = false;

  constructor(ground: Ground, node: NodePort, linkId: LinkId, options: EndOptions) {
    if (options.mode !== "stream") throw new Error("large runs have stream links only");
    this.#ground = ground;
    this.#uplink = ground.uplink(node);
    this.node = node;
    this.linkId = linkId;
    this.mode = options.mode;
    this.path = options.path;
    this.remote = options.remote;
    this.outbound = options.outbound;
    this.#generation = node.generation;
  }

  get accepts(): boolean {
    return this.#state === "opening" || this.#state === "open";
  }
  get isOpen(): boolean {
    return this.#state === "open";
  }
  get queuedBytes(): number {
    return this.#queuedBytes;
  }
  get current(): boolean {
    return this.node.generation === this.#generation;
  }

  up(notBeforeMs: number): void {
    if (this.#state !== "opening" || !this.current) return;
    this.#state = "open";
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, notBeforeMs);
    this.node.network.observers.linkUp(this.node, this);
    this.node.input({
      kind: "linkUp",
      linkId: this.linkId,
      direction: this.outbound ? "outbound" : "inbound",
      remote: this.remote,
    });
    this.flush();
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
    this.#queuedBytes += bytes.length;
    this.#markDirty();
  }

  close(abort: boolean): void {
    if (this.#state === "closed" || this.#state === "closing") return;
    if (abort || this.#state === "opening") {
      this.#dropQueue();
      if (this.other !== undefined && !this.silent) this.#resetOther(this.other);
      this.#down("LINK_CLOSED", "closed by this end");
      return;
    }
    this.#state = "closing";
    this.#dropInbox();
    this.#markDirty();
    this.node.world.after(CLOSE_TIMEOUT_MS, () => {
      if (this.#state !== "closing") return;
      this.#dropQueue();
      if (this.other !== undefined && !this.silent) this.#resetOther(this.other);
      this.#down("LINK_CLOSED", "closed by this end, not all was sent");
    });
  }

  break(code: ErrorCode, detail: string): void {
    if (this.#state === "closed") return;
    this.#dropQueue();
    this.#down(code, detail);
  }

  vanish(silent: boolean): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#dropQueue();
    this.#dropInbox();
    this.node.network.observers.linkDown(this.node, this);
    const other = this.other;
    if (other === undefined) return;
    if (silent) {
      this.silent = true;
      other.silent = true;
      this.node.network.timeOutSilent(other);
    } else if (!this.silent) this.#resetOther(other);
  }

  flush(): void {
    this.#dirty = false;
    if (this.#state === "opening" || this.#state === "closed" || !this.current) return;
    this.#departControl();
    if (this.#queuedBytes > 0) {
      if (this.#waits || this.#inFlightBytes >= this.path.windowBytes) return;
      this.#waits = true;
      this.#uplink.offer(this);
      return;
    }
    if (this.#state === "closing") {
      this.#send({
        frames: [],
        bytes: 0,
        atMs: this.#arrivalMs(this.node.world.nowMs),
        last: true,
      });
      this.#down("LINK_CLOSED", "closed by this end");
    }
  }

  /** Its turn at the uplink: some DATA leaves. */
  turn(): void {
    this.#waits = false;
    if (this.#state === "closed" || !this.current || this.#queuedBytes === 0) return;
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
      this.#sentBytes += bytes;
      this.#reportSent();
      this.flush();
    });
  }

  read(): void {
    if (this.#reading) return;
    this.#reading = true;
    while (this.#state === "open" && !this.node.paused && this.current) {
      const burst = this.#inbox.shift();
      if (burst === undefined) {
        if (this.#finReceived) this.break("LINK_CLOSED", "closed by the other end");
        break;
      }
      this.#hand(burst);
    }
    this.#reading = false;
  }

  /** Control frames at the head of the queue leave at once: they take no turn. */
  #departControl(): void {
    if (this.#inFlightBytes >= this.path.windowBytes) return;
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
    this.#sentBytes += bytes;
    this.#reportLater();
  }

  #took(frames: readonly Frame[], bytes: number, departedMs: number): void {
    if (this.#queueHead === this.#queue.length || this.#queueHead > 256) {
      this.#queue.splice(0, this.#queueHead);
      this.#queueHead = 0;
    }
    this.#queuedBytes -= bytes;
    this.#inFlightBytes += bytes;
    this.#send({ frames, bytes, atMs: this.#arrivalMs(departedMs), last: false });
  }

  #arrivalMs(departedMs: number): number {
    const { latencyMs, jitterMs } = this.path;
    const jitter = jitterMs === 0 ? 0 : jitterMs * this.node.network.pathRng.next();
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, departedMs + latencyMs + jitter);
    return this.#lastArrivalMs;
  }

  #send(burst: Burst): void {
    this.#inTransit.push(burst);
    this.node.world.at(burst.atMs, this.#arrive);
  }

  /** The burst at the head of the way reaches the other end, unless something holds it. */
  readonly #arrive = (): void => {
    const other = this.other;
    const world = this.node.world;
    if (other === undefined) return;
    if (this.silent) {
      this.#ground.release(this.#takeInTransit().frames);
      // A host that came back knows nothing of this link and says so.
      if (!other.current && other.node.alive) this.break("LINK_RESET", "reset by the host");
      return;
    }
    const heldUntilMs = Math.max(
      this.stalledUntilMs,
      this.node.network.blockedUntilMs(this.node, other.node),
    );
    if (heldUntilMs > world.nowMs) {
      world.at(heldUntilMs, this.#arrive);
      return;
    }
    const burst = this.#takeInTransit();
    const { node } = other;
    const startMs = Math.max(world.nowMs, node.downlinkFreeMs);
    node.downlinkFreeMs = startMs + burst.bytes / node.downlinkBytesPerMs;
    if (startMs === world.nowMs) other.#accept(burst);
    else world.at(startMs, () => other.#accept(burst));
  };

  #takeInTransit(): Burst {
    const burst = this.#inTransit[this.#inTransitHead++] as Burst;
    if (this.#inTransitHead === this.#inTransit.length || this.#inTransitHead > 256) {
      this.#inTransit.splice(0, this.#inTransitHead);
      this.#inTransitHead = 0;
    }
    return burst;
  }

  #accept(burst: Burst): void {
    const { node, other: sender } = this;
    if (this.#state === "closed" || this.#state === "closing") {
      this.#ground.release(burst.frames);
      this.#acknowledge(burst.bytes);
      // Nobody is there any more: a host answers with a reset.
      if (!this.current && node.alive && !burst.last && sender !== undefined) {
        node.world.after(this.path.latencyMs, () =>
          sender.break("LINK_RESET", "reset by the host"),
        );
      }
      return;
    }
    if (burst.last) this.#finReceived = true;
    else if (this.#inbox.length === 0 && this.#state === "open" && !node.paused && this.current) {
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
    this.#acknowledge(burst.bytes);
  }

  /** `bytes` left this end's inbox: the sender's window opens. */
  #acknowledge(bytes: number): void {
    const sender = this.other;
    if (sender === undefined) return;
    sender.#inFlightBytes -= bytes;
    if (sender.#queuedBytes > 0 && !sender.#waits && !sender.#dirty) sender.flush();
  }

  #markDirty(): void {
    if (this.#dirty) return;
    this.#dirty = true;
    this.node.markDirty(this);
  }

  #reportLater(): void {
    const { world } = this.node;
    const atMs = world.nowMs + SENT_LATER_MS;
    if (this.#sentScheduledMs <= atMs) return;
    this.#sentScheduledMs = atMs;
    world.at(atMs, () => {
      if (this.#sentScheduledMs !== atMs) return;
      this.#sentScheduledMs = Number.POSITIVE_INFINITY;
      this.#reportSent();
    });
  }

  #reportSent(): void {
    if (!this.current || this.#state === "closed" || this.#sentReported === this.#sentBytes) return;
    this.#sentReported = this.#sentBytes;
    this.node.input({ kind: "sent", linkId: this.linkId, totalBytes: this.#sentBytes });
  }

  #resetOther(other: FrameEnd): void {
    this.node.world.after(this.path.latencyMs, () => {
      if (!other.silent) other.break("LINK_RESET", "reset by the other end");
    });
  }

  #dropQueue(): void {
    this.#ground.release(this.#queue.slice(this.#queueHead));
    this.#queue = [];
    this.#queueHead = 0;
    this.#queuedBytes = 0;
  }

  #dropInbox(): void {
    for (const burst of this.#inbox) {
      this.#ground.release(burst.frames);
      this.#acknowledge(burst.bytes);
    }
    this.#inbox = [];
  }

  /** Ends this end; its machine is told in an event of its own. */
  #down(code: ErrorCode, detail: string): void {
    const { node, linkId } = this;
    this.#state = "closed";
    this.#dropInbox();
    if (!this.current) return;
    node.network.observers.linkDown(node, this);
    node.world.after(0, () => {
      if (!this.current) return;
      node.ends.delete(linkId);
      node.input({ kind: "linkDown", linkId, code, detail });
    });
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
