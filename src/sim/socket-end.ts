/**
 * One end of a link as a socket sees it: how it comes up, is closed, breaks or vanishes, and what is
 * on the way between two ends. In which pieces bytes leave and are read, and at what speed, is the
 * matter of the two models (border.ts).
 *
 *     opening -> open -> closing (what is queued is sent first) -> closed
 */

import type { ErrorCode } from "../base/errors.ts";
import type { Address, LinkId } from "../base/machine.ts";
import type { EndOptions, LinkEnd, LinkMode, NodePort, PathQuality } from "./border.ts";

/** A close that can't send what is queued ends as a reset after this. */
const CLOSE_TIMEOUT_MS = 30_000;

/** What leaves an end at once. */
export interface InTransit {
  readonly bytes: number;
  readonly atMs: number;
  /** The sender closed after this. */
  readonly last: boolean;
}

export abstract class SocketEnd<B extends InTransit> implements LinkEnd {
  readonly node: NodePort;
  readonly linkId: LinkId;
  readonly mode: LinkMode;
  readonly path: PathQuality;
  readonly remote: Address;
  readonly outbound: boolean;
  other: SocketEnd<B> | undefined;
  silent = false;
  stalledUntilMs = 0;
  queuedBytes = 0;
  protected state: "opening" | "open" | "closing" | "closed" = "opening";
  protected dirty = false;
  protected sentBytes = 0;
  protected inFlightBytes = 0;
  protected finReceived = false;
  readonly #generation: number;
  #sentReported = 0;
  #lastArrivalMs = 0;
  #inTransit: B[] = [];
  #inTransitHead = 0;

  constructor(node: NodePort, linkId: LinkId, options: EndOptions) {
    this.node = node;
    this.linkId = linkId;
    this.mode = options.mode;
    this.path = options.path;
    this.remote = options.remote;
    this.outbound = options.outbound;
    this.#generation = node.generation;
  }

  abstract transmit(bytes: Uint8Array): void;
  abstract flush(): void;
  abstract read(): void;
  /** The machine is about to be told that the link is up. */
  protected opened(): void {}
  /** What was queued is not sent any more. */
  protected abstract dropQueue(): void;
  /** What has arrived is not read any more. */
  protected abstract dropInbox(): void;
  /** The end is closed, and what has arrived of no use. */
  protected discard(): void {
    this.dropInbox();
  }
  /** A burst that nobody will read. */
  protected lose(_burst: B): void {}
  /** A burst is at this end's door. */
  protected deliver(burst: B): void {
    this.land(burst);
  }
  /** A burst is in the inbox. */
  protected abstract receive(burst: B): void;
  /** `bytes` left this end's inbox: the sender's window opens. */
  protected abstract acknowledge(bytes: number): void;

  get accepts(): boolean {
    return this.state === "opening" || this.state === "open";
  }
  get isOpen(): boolean {
    return this.state === "open";
  }
  get current(): boolean {
    return this.node.generation === this.#generation;
  }

  up(notBeforeMs: number): void {
    if (this.state !== "opening" || !this.current) return;
    this.state = "open";
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, notBeforeMs);
    this.opened();
    this.node.network.observers.linkUp(this.node, this);
    this.node.input({
      kind: "linkUp",
      linkId: this.linkId,
      direction: this.outbound ? "outbound" : "inbound",
      remote: this.remote,
    });
    this.flush();
  }

  close(abort: boolean): void {
    if (this.state === "closed" || this.state === "closing") return;
    if (abort || this.state === "opening") {
      this.#abort("closed by this end");
      return;
    }
    this.state = "closing";
    this.dropInbox();
    this.markDirty();
    this.node.world.after(CLOSE_TIMEOUT_MS, () => {
      if (this.state === "closing") this.#abort("closed by this end, not all was sent");
    });
  }

  break(code: ErrorCode, detail: string): void {
    if (this.state === "closed") return;
    this.dropQueue();
    this.down(code, detail);
  }

  vanish(silent: boolean): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.dropQueue();
    this.discard();
    this.node.network.observers.linkDown(this.node, this);
    const { other } = this;
    if (other === undefined) return;
    if (silent) {
      this.silent = true;
      other.silent = true;
      this.node.network.timeOutSilent(other);
    } else this.resetOther();
  }

  /** The other end hears of a reset, unless nothing passes any more. */
  protected resetOther(): void {
    const { other } = this;
    if (other === undefined || this.silent) return;
    this.node.world.after(this.path.latencyMs, () => {
      if (!other.silent) other.break("LINK_RESET", "reset by the other end");
    });
  }

  /** Ends this end; its machine is told in an event of its own. */
  protected down(code: ErrorCode, detail: string): void {
    const { node, linkId } = this;
    this.state = "closed";
    this.discard();
    if (!this.current) return;
    node.network.observers.linkDown(node, this);
    node.world.after(0, () => {
      if (!this.current) return;
      node.ends.delete(linkId);
      node.input({ kind: "linkDown", linkId, code, detail });
    });
  }

  protected markDirty(): void {
    if (this.dirty) return;
    this.dirty = true;
    this.node.markDirty(this);
  }

  /** Tells the machine how much has left, if that is news. */
  protected reportSent(): void {
    if (!this.current || this.state === "closed" || this.#sentReported === this.sentBytes) return;
    this.#sentReported = this.sentBytes;
    this.node.input({ kind: "sent", linkId: this.linkId, totalBytes: this.sentBytes });
  }

  /** When what departs then is there: never before what departed earlier. */
  protected arrivalMs(departedMs: number): number {
    const { latencyMs, jitterMs } = this.path;
    const jitter = jitterMs === 0 ? 0 : jitterMs * this.node.network.pathRng.next();
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, departedMs + latencyMs + jitter);
    return this.#lastArrivalMs;
  }

  protected send(burst: B): void {
    this.#inTransit.push(burst);
    this.node.world.at(burst.atMs, this.#arrive);
  }

  /** A burst has arrived, unless nobody is there any more: then a host answers with a reset. */
  protected land(burst: B): void {
    const { node, other: sender } = this;
    if (this.state !== "closed" && this.state !== "closing") {
      this.receive(burst);
      return;
    }
    this.lose(burst);
    this.acknowledge(burst.bytes);
    if (this.current || !node.alive || burst.last || sender === undefined) return;
    node.world.after(this.path.latencyMs, () => sender.break("LINK_RESET", "reset by the host"));
  }

  /** The burst at the head of the way reaches the other end, unless something holds it. */
  readonly #arrive = (): void => {
    const { other, node } = this;
    const { world } = node;
    if (other === undefined) return;
    if (this.silent) {
      this.lose(this.#takeInTransit());
      // A host that came back knows nothing of this link and says so.
      if (!other.current && other.node.alive) this.break("LINK_RESET", "reset by the host");
      return;
    }
    const heldUntilMs = Math.max(
      this.stalledUntilMs,
      node.network.blockedUntilMs(node, other.node),
    );
    if (heldUntilMs > world.nowMs) {
      world.at(heldUntilMs, this.#arrive);
      return;
    }
    other.deliver(this.#takeInTransit());
  };

  #takeInTransit(): B {
    const burst = this.#inTransit[this.#inTransitHead++] as B;
    if (this.#inTransitHead === this.#inTransit.length || this.#inTransitHead > 256) {
      this.#inTransit.splice(0, this.#inTransitHead);
      this.#inTransitHead = 0;
    }
    return burst;
  }

  #abort(detail: string): void {
    this.dropQueue();
    this.resetOther();
    this.down("LINK_CLOSED", detail);
  }
}
