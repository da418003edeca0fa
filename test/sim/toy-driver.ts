/** Runs a toy relay as a member of a swarm: proves checkers, faults and replay without a peer. */

import { EngineMemory } from "../../src/kernel/engine-memory.ts";
import { createJsKernel } from "../../src/kernel/js-kernel.ts";
import type { Body } from "../../src/sim/border.ts";
import type { Driver, Inspection } from "../../src/sim/swarm.ts";
import type { DriverFactory, DriverSetup } from "./run.ts";
import { type ToyDelivery, ToyRelay } from "./toys.ts";

export const toyDriver: DriverFactory = (setup) => new ToyDriver(setup);

class ToyDriver implements Driver {
  consumerPauseMs = 0;
  readonly #setup: DriverSetup;
  #machine: ToyRelay | undefined;

  constructor(setup: DriverSetup) {
    this.#setup = setup;
  }

  body(): Body {
    const { member, options, payloads, directory, swarm } = this.#setup;
    const isSource = member.role === "source";
    const source = directory.addressOf(swarm.source);
    const others = directory
      .suggest(member, options.degree)
      .filter((address) => address !== source);
    this.#machine = new ToyRelay({
      isSource,
      neighbours: isSource || source === undefined ? [] : [source, ...others],
      fragments: options.dataPerSource,
      everyMs: options.everyMs,
      payload: (sequence) => payloads.payload("sensor-0", sequence),
      startMs: member.node.now().monoMs,
    });
    const { memoryBytes, segmentBytes } = options;
    const arena = new EngineMemory(createJsKernel({ memoryBytes }), { segmentBytes });
    return { machine: this.#machine, arena };
  }

  started(): void {
    if (this.#setup.member.role === "peer") this.#setup.swarm.memberStarted(this.#setup.member, 0);
  }

  event(event: unknown): void {
    const { member, swarm } = this.#setup;
    const { sequence, payload, last } = event as ToyDelivery;
    swarm.datum(member, "sensor-0", sequence, payload);
    if (last) swarm.memberEnded(member);
  }

  stopped(): void {
    this.#machine = undefined;
  }

  inspect(): Inspection | undefined {
    const machine = this.#machine;
    if (machine === undefined) return undefined;
    return {
      held: (index) => machine.held(index),
      start: 0,
      limit: Number.POSITIVE_INFINITY,
      heldCount: 0,
      heldBytes: 0,
      windowBytes: 1,
      windowFragments: 1,
      linkQueueBytesMax: Number.POSITIVE_INFINITY,
    };
  }

  leave(): void {
    this.#setup.member.node.crash(false);
    this.stopped();
  }
}
