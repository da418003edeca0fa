/**
 * A member that behaves badly within the protocol: from some moment on it reads nothing, closes and
 * dials no link, answers nothing, and pings all the time, so that others find it alive. Nobody owes it
 * anything; what matters is that the others lose nothing by it.
 */

import { PINGS_PER_SECOND_MAX } from "../../src/base/limits.ts";
import type { Input, LinkId, Machine, Now, Output } from "../../src/base/machine.ts";
import type { MonoMs } from "../../src/base/units.ts";
import { encodePing } from "../../src/protocol/r10-binary.ts";
import type { Member } from "../../src/sim/swarm.ts";
import type { World } from "../../src/sim/world.ts";
import { TYPE } from "./wire.ts";

const PING_EVERY_MS = 1_000;
/** More than are answered. */
const PINGS = 2 * PINGS_PER_SECOND_MAX;
const PING_TOKEN_BYTES = 8;

type AnyMachine = Machine<unknown, unknown>;

/** `machine` in a process of `member` that is rude from `atMs` on: it is owed nothing any more. */
export function makeRude(
  world: World,
  member: Member,
  machine: AnyMachine,
  atMs: number,
): AnyMachine {
  const wrapped = new RudeMachine(machine);
  const { node } = member;
  const generation = node.generation + 1;
  const deafen = (): void => {
    for (const { other } of node.ends.values()) {
      if (other !== undefined) other.stalledUntilMs = world.nowMs + 2 * PING_EVERY_MS;
    }
  };
  const goOn = (): void => {
    if (node.generation !== generation) return;
    deafen();
    world.after(PING_EVERY_MS, goOn);
  };
  world.at(Math.max(atMs, world.nowMs), () => {
    if (member.ended || node.generation !== generation) return;
    member.excuses.add("stuck");
    wrapped.isRude = true;
    wrapped.linkCame = deafen;
    goOn();
  });
  return wrapped;
}

class RudeMachine implements AnyMachine {
  isRude = false;
  /** A link is up that it does not read from either. */
  linkCame: () => void = () => undefined;
  readonly #inner: AnyMachine;
  readonly #links = new Set<LinkId>();
  readonly #more: Output<unknown>[] = [];
  #pingMs: MonoMs = 0;

  constructor(inner: AnyMachine) {
    this.#inner = inner;
  }

  handle(input: Input<unknown>, now: Now): void {
    if (input.kind === "linkUp") {
      this.#links.add(input.linkId);
      if (this.isRude) this.linkCame();
    } else if (input.kind === "linkDown") this.#links.delete(input.linkId);
    if (this.isRude && now.monoMs >= this.#pingMs) {
      this.#pingMs = now.monoMs + PING_EVERY_MS;
      for (const linkId of this.#links) this.#ping(linkId);
    }
    if (input.kind !== "timeout" || now.monoMs >= this.#inner.deadlineMs) {
      this.#inner.handle(input, now);
    }
  }

  poll(): Output<unknown> | undefined {
    const more = this.#more.shift();
    if (more !== undefined) return more;
    let output = this.#inner.poll();
    // A link that it dialled anew would take the place of the one on which it does not read.
    while (this.isRude && (output?.kind === "close" || output?.kind === "open")) {
      output = this.#inner.poll();
    }
    return output;
  }

  get deadlineMs(): MonoMs {
    return this.isRude ? Math.min(this.#pingMs, this.#inner.deadlineMs) : this.#inner.deadlineMs;
  }

  #ping(linkId: LinkId): void {
    for (let i = 0; i < PINGS; i++) {
      const bytes = encodePing(TYPE.PING, new Uint8Array(PING_TOKEN_BYTES));
      this.#more.push({ kind: "transmit", linkId, bytes });
    }
  }
}
