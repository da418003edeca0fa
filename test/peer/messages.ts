/** WebSocket links between machines in the test's world: whole messages, in order, with a latency. */

import type { Address, Input, LinkId } from "../../src/base/machine.ts";
import type { World } from "./harness.ts";

const LATENCY_MS = 2;

/** A machine that has message links; the host's side of it. */
export interface Messenger {
  readonly isAlive: boolean;
  input(input: Input<never>): void;
}

export interface Message {
  readonly atMs: number;
  readonly from: Messenger;
  readonly to: Messenger;
  readonly bytes: Uint8Array;
}

interface Side {
  readonly owner: Messenger;
  readonly linkId: LinkId;
}

interface Wire {
  readonly sides: readonly [Side, Side];
  isOpen: boolean;
}

export class Messages {
  /** Who listens, by port. */
  readonly listeners = new Map<number, Messenger>();
  /** All that was ever sent. */
  readonly log: Message[] = [];
  readonly #world: World;
  readonly #wires: Wire[] = [];
  #nextInbound = 1_000_000;

  constructor(world: World) {
    this.#world = world;
  }

  open(from: Messenger, linkId: LinkId, address: Address): void {
    const to = this.listeners.get(address.port);
    if (to === undefined || !to.isAlive) {
      this.#later(from, { kind: "linkDown", linkId, code: "UNREACHABLE", detail: "" });
      return;
    }
    const inbound = this.#nextInbound;
    this.#nextInbound += 2;
    this.#wires.push({
      sides: [
        { owner: from, linkId },
        { owner: to, linkId: inbound },
      ],
      isOpen: true,
    });
    const remote = { transport: "ws", host: "10.0.0.1", port: 5_000 } as const;
    this.#later(to, { kind: "linkUp", linkId: inbound, direction: "inbound", remote });
    this.#later(from, { kind: "linkUp", linkId, direction: "outbound", remote: address });
  }

  /** False when the link is none of these. */
  transmit(from: Messenger, linkId: LinkId, bytes: Uint8Array): boolean {
    const [wire, other] = this.#find(from, linkId);
    if (wire === undefined || other === undefined) return false;
    const message = bytes.slice();
    this.log.push({ atMs: this.#world.nowMs, from, to: other.owner, bytes: message });
    this.#world.after(LATENCY_MS, () => {
      if (!wire.isOpen || !other.owner.isAlive) return;
      const memory = new Uint8Array(message.length + 16).fill(0xee);
      memory.set(message, 8);
      const ranges = Uint32Array.of(8, message.length);
      other.owner.input({ kind: "frames", linkId: other.linkId, memory, ranges, count: 1 });
    });
    return true;
  }

  close(from: Messenger, linkId: LinkId): boolean {
    const [wire, other] = this.#find(from, linkId);
    if (wire === undefined || other === undefined) return false;
    this.#later(other.owner, {
      kind: "linkDown",
      linkId: other.linkId,
      code: "LINK_CLOSED",
      detail: "",
    });
    this.#later(from, { kind: "linkDown", linkId, code: "LINK_CLOSED", detail: "" });
    this.#world.after(LATENCY_MS, () => this.#drop(wire));
    return true;
  }

  /** All links of a process that is gone. */
  reset(owner: Messenger): void {
    for (const wire of [...this.#wires]) {
      const side = wire.sides.findIndex((each) => each.owner === owner);
      const other = wire.sides[1 - side];
      if (side < 0 || other === undefined) continue;
      this.#drop(wire);
      this.#later(other.owner, {
        kind: "linkDown",
        linkId: other.linkId,
        code: "LINK_RESET",
        detail: "",
      });
    }
  }

  #drop(wire: Wire): void {
    wire.isOpen = false;
    const at = this.#wires.indexOf(wire);
    if (at >= 0) this.#wires.splice(at, 1);
  }

  #find(owner: Messenger, linkId: LinkId): [Wire, Side] | [undefined, undefined] {
    for (const wire of this.#wires) {
      const side = wire.sides.findIndex((each) => each.owner === owner && each.linkId === linkId);
      const other = wire.sides[1 - side];
      if (side >= 0 && other !== undefined) return [wire, other];
    }
    return [undefined, undefined];
  }

  #later(to: Messenger, input: Input<never>): void {
    this.#world.after(LATENCY_MS, () => {
      if (to.isAlive) to.input(input);
    });
  }
}
