/** A real server machine in the test's world, with a disk that outlives it. */

import type { Input, Machine, Output } from "../../src/base/machine.ts";
import { seededEntropy, seededRng } from "../../src/base/rng.ts";
import { createIxs } from "../../src/servers/ixs.ts";
import { createOms } from "../../src/servers/oms.ts";
import { createPams } from "../../src/servers/pams.ts";
import type { ServerOptions } from "../../src/servers/server-types.ts";
import { Disk } from "../servers/driver.ts";
import { START_US, sha256, verifies, type World } from "./harness.ts";
import type { Messenger } from "./messages.ts";

type ServerMachine = Machine<never, { readonly type: string }>;

export class ServerNode implements Messenger {
  readonly port: number;
  readonly disk = new Disk();
  readonly events: { readonly type: string; readonly [name: string]: unknown }[] = [];
  isAlive = false;
  onEvent: (event: { readonly type: string }) => void = () => undefined;
  deadlineMs = Number.POSITIVE_INFINITY;
  readonly #world: World;
  readonly #build: (options: ServerOptions) => unknown;
  #machine: ServerMachine | undefined;
  #starts = 0;

  constructor(world: World, port: number, build: (options: ServerOptions) => unknown) {
    this.#world = world;
    this.port = port;
    this.#build = build;
    world.messages.listeners.set(port, this);
    world.servers.push(this);
    this.start();
  }

  start(): void {
    const seed = this.port * 1_000 + this.#starts++;
    const rng = seededRng(seed);
    const entropy = seededEntropy(seededRng(seed + 500));
    this.#machine = this.#build({ rng, entropy, sha256 }) as ServerMachine;
    this.isAlive = true;
    this.command({ type: "start" });
  }

  /** kill -9: only what was written remains. */
  kill(): void {
    this.isAlive = false;
    this.#machine = undefined;
    this.deadlineMs = Number.POSITIVE_INFINITY;
    this.#world.messages.reset(this);
  }

  command(command: { readonly type: string; readonly [name: string]: unknown }): void {
    this.input({ kind: "command", command: command as never });
  }

  snapshot<S>(): S {
    this.command({ type: "snapshot", token: 1 });
    return this.events.findLast(({ type }) => type === "snapshot")?.snapshot as S;
  }

  input(input: Input<never>): void {
    const machine = this.#machine;
    if (machine === undefined) return;
    const wallUs = START_US + Math.round(this.#world.nowMs * 1000);
    machine.handle(input, { monoMs: this.#world.nowMs, wallUs });
    for (let output = machine.poll(); output !== undefined; output = machine.poll()) {
      this.#output(machine, output);
    }
    this.deadlineMs = machine.deadlineMs;
  }

  #output(machine: ServerMachine, output: Output<{ readonly type: string }>): void {
    const later = (delayMs: number, run: () => Input<never>): void => {
      this.#world.after(delayMs, () => {
        // What a killed process had under way is lost with it.
        if (this.#machine === machine) this.input(run());
      });
    };
    switch (output.kind) {
      case "transmit":
        this.#world.messages.transmit(this, output.linkId, output.bytes);
        return;
      case "open":
        this.#world.messages.open(this, output.linkId, output.address);
        return;
      case "close":
        this.#world.messages.close(this, output.linkId);
        return;
      case "event":
        this.events.push(output.event as never);
        this.onEvent(output.event);
        return;
      case "job": {
        const { jobId, job } = output;
        if (job.kind !== "verifySignature") throw new Error(`unexpected job ${job.kind}`);
        const valid = verifies(job.publicKey, job.bytes, job.signature);
        later(0.2, () => ({ kind: "jobDone", jobId, result: { kind: "verifySignature", valid } }));
        return;
      }
      case "store": {
        const { opId, operation } = output;
        later(1, () => ({ kind: "storeDone", opId, result: this.disk.apply(operation) }));
        return;
      }
    }
  }
}

export const OMS = { transport: "ws", host: "oms", port: 1 } as const;
export const IXS = { transport: "ws", host: "ixs", port: 2 } as const;
export const PAMS = { transport: "ws", host: "pams", port: 3 } as const;

export interface Servers {
  readonly oms: ServerNode;
  readonly ixs: ServerNode;
  readonly pams: ServerNode;
}

export function startServers(
  world: World,
  options: {
    readonly refreshMs?: number;
    readonly memberLeaseMs?: number;
    readonly reportIntervalMs?: number;
    readonly serviceKey?: Uint8Array;
    readonly withoutPams?: boolean;
  } = {},
): Servers {
  const key = options.serviceKey === undefined ? {} : { serviceKey: options.serviceKey };
  const pams = new ServerNode(world, PAMS.port, (base) =>
    createPams({ ...base, ...key, reportIntervalMs: options.reportIntervalMs ?? 1_000 }),
  );
  const oms = new ServerNode(world, OMS.port, (base) =>
    createOms({
      ...base,
      ...key,
      pamsUrl: options.withoutPams === true ? "" : "ws://pams:3",
      omsUrl: "ws://oms:1",
      refreshMs: options.refreshMs ?? 6_000,
      memberLeaseMs: options.memberLeaseMs ?? 6_000,
    }),
  );
  const ixs = new ServerNode(world, IXS.port, (base) => createIxs(base));
  world.advance(50);
  return { oms, ixs, pams };
}
