/** The other end of a link, played by hand. */

import * as layout from "../../../src/base/layout.ts";
import type { LinkId } from "../../../src/base/machine.ts";
import { overlayTag } from "../../../src/peer/peer.ts";
import { ROLES, type Role } from "../../../src/protocol/common.ts";
import * as r10 from "../../../src/protocol/r10.ts";
import { type Keys, LATENCY_MS, OVERLAY, sha256 } from "./keys.ts";
import type { Node } from "./node.ts";
import { errorOf, type SeenFrame, splitFrames } from "./seen-frames.ts";
import type { End, Wire, World } from "./world.ts";

/** A link's other end that a test plays by hand. */
export class Stranger {
  readonly keys: Keys;
  readonly frames: SeenFrame[] = [];
  closed: string | undefined;
  isUp = false;
  /** Nonce sent in the HELLO that opened. */
  nonce = new Uint8Array(32).fill(7);
  /** What it is to join, and `tag` with it. */
  overlayId = OVERLAY;
  tag = overlayTag(sha256, OVERLAY, 1);
  readonly #world: World;
  #wire: Wire | undefined;

  constructor(world: World, keys: Keys) {
    this.keys = keys;
    this.#world = world;
  }

  /** Opens a link to `node`; gives the node's id of it. */
  connect(node: Node): LinkId {
    const end: End = {
      linkId: 1,
      up: () => {
        this.isUp = true;
      },
      down: (code) => {
        this.closed = code;
      },
      sent: () => undefined,
      received: (bytes) => {
        this.frames.push(...splitFrames(bytes));
      },
    };
    this.#wire = node.acceptFrom(end, { transport: "memory", host: "stranger", port: 9 });
    this.#world.run(() => this.isUp);
    return node.lastInbound;
  }

  send(...frames: readonly Uint8Array[]): this {
    for (const frame of frames) {
      const bytes = frame.slice();
      this.#world.after(LATENCY_MS, () => {
        if (this.#wire?.open === true) this.#wire.b.received(bytes);
      });
    }
    return this;
  }

  hello(step: 0 | 1 | 2, more: Partial<r10.Hello> = {}): Uint8Array {
    return r10.encodeFrame(r10.HELLO, {
      step,
      versionMin: 1,
      version: 1,
      overlayId: this.overlayId,
      sessionEpoch: 1,
      role: 1,
      publicKey: this.keys.publicKey,
      nonce: this.nonce,
      ticket: new Uint8Array(0),
      binding: new Uint8Array(0),
      listen: [],
      agent: "stranger",
      signature: new Uint8Array(0),
      ...more,
    });
  }

  /** The answer the node gave to our HELLO. */
  answer(): r10.Hello {
    const frame = this.frames.find(({ type }) => type === layout.FRAME_TYPES.HELLO);
    if (frame === undefined) throw new Error("no HELLO came");
    return r10.decodeHello(frame.bytes, 0, frame.bytes.length);
  }

  /** Our proof for `step`, as opener. */
  proof(step: 1 | 2, answer: r10.Hello): Uint8Array {
    const side = { overlayId: this.overlayId, sessionEpoch: 1, binding: new Uint8Array(0) };
    return r10.helloProof(
      step,
      { ...side, nonce: this.nonce, peerId: this.keys.peerIdBytes },
      { ...side, nonce: answer.nonce, peerId: sha256(answer.publicKey) },
    );
  }

  /** Connects and proves its identity. */
  join(node: Node, role: Role = ROLES.peer): this {
    this.connect(node);
    this.send(this.hello(0, { role }));
    this.#world.run(() => this.seen(layout.FRAME_TYPES.HELLO));
    const signature = this.keys.sign(this.proof(2, this.answer()));
    this.send(this.hello(2, { role, signature }));
    this.#world.run(() => this.seen(layout.FRAME_TYPES.BUFFERMAP) || this.closed !== undefined);
    return this;
  }

  seen(type: number): boolean {
    return this.frames.some((frame) => frame.type === type);
  }

  of(type: number): SeenFrame[] {
    return this.frames.filter((frame) => frame.type === type);
  }

  /** Code of the ERROR it got, or why there is none. */
  get error(): string {
    return errorOf(this.frames.at(-1));
  }

  close(): void {
    const wire = this.#wire;
    if (wire === undefined || !wire.open) return;
    wire.open = false;
    this.#world.after(LATENCY_MS, () => wire.b.down("LINK_CLOSED"));
  }
}
