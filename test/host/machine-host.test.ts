import { describe, expect, onTestFinished, test } from "vitest";
import type { ErrorCode } from "../../src/base/errors.ts";
import {
  type Address,
  type Input,
  type Job,
  MachineBase,
  type Now,
  type Output,
  type StoreResult,
} from "../../src/base/machine.ts";
import { JobRunner } from "../../src/host/job-runner.ts";
import { MachineHost, type MachineHostOptions } from "../../src/host/machine-host.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { MemoryNetwork, MemoryTransport } from "../../src/transport/memory.ts";
import type { Transport } from "../../src/transport/transport.ts";
import { frameOf } from "../transport/frames.ts";
import { PlainArena } from "../transport/plain-arena.ts";

type Command = (machine: Scripted, now: Now) => void;

/** A machine that notes its inputs and does what a command or a reaction tells it. */
class Scripted extends MachineBase<Command, string> {
  readonly inputs: Input<Command>[] = [];
  readonly frames: Uint8Array[] = [];
  deadline = Number.POSITIVE_INFINITY;
  react: ((input: Input<Command>, now: Now) => void) | undefined;
  out(output: Output<string>): void {
    this.emit(output);
  }
  protected override step(input: Input<Command>, now: Now): void {
    this.inputs.push(input);
    if (input.kind === "frames") {
      for (let i = 0; i < input.count; i++) {
        const offset = input.ranges[2 * i] ?? 0;
        this.frames.push(input.memory.slice(offset, offset + (input.ranges[2 * i + 1] ?? 0)));
      }
    }
    if (input.kind === "command") input.command(this, now);
    this.react?.(input, now);
  }
  protected override nextDeadlineMs(): number {
    return this.deadline;
  }
  kinds(): string[] {
    return this.inputs.map(({ kind }) => kind);
  }
}

const signatures = {
  sign: (bytes: Uint8Array) => bytes.slice().reverse(),
  verify: () => true,
};

function start(options: Partial<MachineHostOptions<string>> = {}) {
  const machine = new Scripted();
  const events: string[] = [];
  const crashes: unknown[] = [];
  const waiting: { until: () => boolean; resolve: () => void }[] = [];
  const wake = () => {
    for (const waiter of waiting.splice(0)) {
      if (waiter.until()) waiter.resolve();
      else waiting.push(waiter);
    }
  };
  const host = new MachineHost<Command, string>(machine, {
    transports: [],
    jobs: new JobRunner({ signatures }),
    onEvent: (event) => {
      events.push(event);
    },
    onCrash: (error) => {
      crashes.push(error);
      wake();
    },
    ...options,
  });
  onTestFinished(() => host.close());
  const react = (hook: (input: Input<Command>, now: Now) => void) => {
    machine.react = (input, now) => {
      hook(input, now);
      wake();
    };
  };
  react(() => undefined);
  const until = (condition: () => boolean): Promise<void> =>
    condition()
      ? Promise.resolve()
      : new Promise((resolve) => waiting.push({ until: condition, resolve }));
  return { machine, host, events, crashes, react, until };
}

describe("MachineHost", () => {
  test("a command is carried out before command() returns; its error is the caller's", () => {
    const { host, events } = start();
    let done = false;
    host.command((machine) => {
      done = true;
      machine.out({ kind: "event", event: "one" });
    });
    expect(done).toBe(true);
    expect(events).toEqual(["one"]);
    expect(() =>
      host.command((machine) => {
        machine.out({ kind: "event", event: "before" });
        throw new Error("refused");
      }),
    ).toThrow("refused");
    expect(events).toEqual(["one", "before"]);
    host.command((machine) => machine.out({ kind: "event", event: "after" }));
    expect(events.at(-1)).toBe("after");
  });

  test("whoever hears an event may command at once; events stay in order", () => {
    const heard: string[] = [];
    const { host } = start({
      onEvent: (event) => {
        heard.push(event);
        if (event !== "first") return;
        host.command((machine) => machine.out({ kind: "event", event: "nested" }));
        heard.push("back");
      },
    });
    host.command((machine) => {
      machine.out({ kind: "event", event: "first" });
      machine.out({ kind: "event", event: "second" });
    });
    expect(heard).toEqual(["first", "back", "second", "nested"]);
  });

  test("the timer fires at the deadline, an earlier one replaces it", async () => {
    const { machine, host, react, until } = start();
    let setMs = 0;
    let firedMs = 0;
    react((input, now) => {
      if (input.kind !== "timeout") return;
      firedMs = now.monoMs;
      machine.deadline = Number.POSITIVE_INFINITY;
    });
    host.command((scripted, now) => {
      setMs = now.monoMs;
      scripted.deadline = now.monoMs + 100_000;
    });
    host.command((scripted, now) => {
      scripted.deadline = now.monoMs + 20;
    });
    await until(() => machine.kinds().includes("timeout"));
    expect(firedMs - setMs).toBeGreaterThanOrEqual(20);
    expect(machine.kinds().filter((kind) => kind === "timeout")).toHaveLength(1);
  });

  test("after close no input comes and no timer fires", async () => {
    const { machine, host } = start();
    host.command((scripted, now) => {
      scripted.deadline = now.monoMs + 1;
    });
    host.close();
    const late = (): void =>
      host.command(() => {
        throw new Error("not carried out");
      });
    expect(late).toThrow(expect.objectContaining({ code: "CLOSED" }));
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(machine.kinds()).toEqual(["command"]);
  });

  test("jobs done at once and late come back under their ids", async () => {
    const jobs = new JobRunner({ signatures });
    const inline = jobs.run.bind(jobs);
    jobs.run = (job: Job) =>
      job.kind === "verifySignature" ? Promise.resolve(inline(job)) : inline(job);
    const { machine, host, until } = start({ jobs });
    const bytes = new Uint8Array([1, 2, 3]);
    host.command((scripted) => {
      const check = { publicKey: bytes, bytes, signature: bytes };
      scripted.out({ kind: "job", jobId: 1, job: { kind: "verifySignature", ...check } });
      scripted.out({ kind: "job", jobId: 2, job: { kind: "sign", bytes } });
    });
    await until(() => machine.inputs.length === 3);
    expect(machine.inputs.slice(1)).toEqual([
      { kind: "jobDone", jobId: 2, result: { kind: "sign", signature: new Uint8Array([3, 2, 1]) } },
      { kind: "jobDone", jobId: 1, result: { kind: "verifySignature", valid: true } },
    ]);
  });

  test("store operations come back under their ids; without a store as errors", async () => {
    const operation = { kind: "read", key: "a" } as const;
    const with_ = start({ store: new MemoryStore() });
    with_.host.command((scripted) => scripted.out({ kind: "store", opId: 7, operation }));
    await with_.until(() => with_.machine.inputs.length === 2);
    const result: StoreResult = { kind: "read", record: undefined };
    expect(with_.machine.inputs[1]).toEqual({ kind: "storeDone", opId: 7, result });
    const without = start();
    without.host.command((scripted) => scripted.out({ kind: "store", opId: 8, operation }));
    expect(without.machine.inputs[1]).toMatchObject({ opId: 8, result: { kind: "error" } });
  });

  test("an address of no transport here is UNREACHABLE", () => {
    const { machine, host } = start();
    const address: Address = { transport: "tcp", host: "127.0.0.1", port: 1 };
    host.command((scripted) => scripted.out({ kind: "open", linkId: 1, address }));
    expect(machine.inputs[1]).toMatchObject({ kind: "linkDown", linkId: 1, code: "UNREACHABLE" });
  });

  test("two machines talk over real links: open, frames, sent, close", async () => {
    const network = new MemoryNetwork();
    const transport = () => new MemoryTransport(network, new PlainArena(64 * 1024, 4));
    const a = transport();
    const b = transport();
    const left = start({ transports: [a] });
    const right = start({ transports: [b] });
    onTestFinished(async () => {
      await Promise.all([a.shutdown(), b.shutdown()]);
    });
    const { address } = await b.listen({ transport: "memory", host: "memory", port: 0 });
    right.react((input) => {
      if (input.kind !== "frames") return;
      right.machine.out({ kind: "transmit", linkId: input.linkId, bytes: frameOf(50, 2) });
      right.machine.out({ kind: "close", linkId: input.linkId, abort: false });
    });
    left.react((input) => {
      if (input.kind !== "linkUp") return;
      left.machine.out({ kind: "transmit", linkId: 1, bytes: frameOf(40, 1) });
    });
    left.host.command((scripted) => scripted.out({ kind: "open", linkId: 1, address }));
    await left.until(() => left.machine.kinds().includes("linkDown"));
    await right.until(() => right.machine.kinds().includes("linkDown"));
    expect(left.machine.frames).toEqual([frameOf(50, 2)]);
    expect(right.machine.frames).toEqual([frameOf(40, 1)]);
    expect(left.machine.inputs).toContainEqual({ kind: "sent", linkId: 1, totalBytes: 40 });
    expect(left.crashes).toEqual([]);
  });

  test("a bug met by an input that nobody waits for is told once, then all is quiet", async () => {
    const network = new MemoryNetwork();
    const transport: Transport = new MemoryTransport(network, new PlainArena());
    onTestFinished(() => transport.shutdown());
    const { machine, host, crashes, until } = start({ transports: [transport] });
    machine.react = (input) => {
      if (input.kind === "linkDown") throw new Error(`bug: ${input.code satisfies ErrorCode}`);
    };
    const address: Address = { transport: "memory", host: "memory", port: 9 };
    host.command((scripted) => scripted.out({ kind: "open", linkId: 1, address }));
    await until(() => crashes.length === 1);
    expect(String(crashes[0])).toContain("bug: UNREACHABLE");
    const late = (): void =>
      host.command(() => {
        throw new Error("not carried out");
      });
    const told = { code: "INTERNAL", cause: crashes[0] };
    expect(late).toThrow(expect.objectContaining(told));
    host.close();
    expect(late).toThrow(expect.objectContaining(told));
  });
});
