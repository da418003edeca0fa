/** The machine contract: order of calls, addresses. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AssertionError } from "../../src/base/assert.ts";
import {
  formatAddress,
  type Input,
  MachineBase,
  type Now,
  parseAddress,
} from "../../src/base/machine.ts";

const NOW: Now = { monoMs: 5, wallUs: 7 };
const TIMEOUT = { kind: "timeout" } as const;

/** Answers a command with so many events, and can be asked to break the contract. */
class Counting extends MachineBase<number, number> {
  readonly seen: Now[] = [];
  leaked: (() => void) | undefined;
  inner: (() => void) | undefined;

  protected override step(input: Input<number>, now: Now): void {
    this.seen.push(now);
    this.leaked = () => this.emit({ kind: "event", event: -1 });
    this.inner?.();
    if (input.kind !== "command") return;
    for (let event = 0; event < input.command; event++) this.emit({ kind: "event", event });
  }
  protected override nextDeadlineMs(): number {
    return 42;
  }
}

function drained(machine: Counting): unknown[] {
  const outputs: unknown[] = [];
  for (let output = machine.poll(); output !== undefined; output = machine.poll()) {
    outputs.push(output);
  }
  return outputs;
}

describe("order of calls", () => {
  test("one input, its outputs in order, then the deadline", () => {
    const machine = new Counting();
    expect(machine.deadlineMs).toBe(42);
    machine.handle({ kind: "command", command: 3 }, NOW);
    const event = (n: number): unknown => ({ kind: "event", event: n });
    expect(drained(machine)).toEqual([event(0), event(1), event(2)]);
    expect(machine.deadlineMs).toBe(42);
    expect(machine.poll()).toBeUndefined();
    machine.handle(TIMEOUT, NOW);
    expect(drained(machine)).toEqual([]);
    expect(machine.seen).toEqual([NOW, NOW]);
  });

  test("an input before the drain is a bug, even when nothing was left to drain", () => {
    const machine = new Counting();
    machine.handle({ kind: "command", command: 2 }, NOW);
    machine.poll();
    expect(() => machine.handle(TIMEOUT, NOW)).toThrow(AssertionError);
    drained(machine);
    machine.handle(TIMEOUT, NOW);
    expect(() => machine.handle(TIMEOUT, NOW)).toThrow(AssertionError);
  });

  test("a deadline before the drain is a bug", () => {
    const machine = new Counting();
    machine.handle({ kind: "command", command: 1 }, NOW);
    expect(() => machine.deadlineMs).toThrow(AssertionError);
    machine.poll();
    expect(() => machine.deadlineMs).toThrow(AssertionError);
    machine.poll();
    expect(machine.deadlineMs).toBe(42);
  });

  test("poll from within handle, and output from outside of it, are bugs", () => {
    const machine = new Counting();
    machine.inner = () => {
      expect(() => machine.poll()).toThrow(AssertionError);
    };
    machine.handle(TIMEOUT, NOW);
    drained(machine);
    expect(() => machine.leaked?.()).toThrow(AssertionError);
  });
});

describe("addresses", () => {
  const hostName = fc.stringMatching(/^[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?$/);
  const host = fc.oneof(hostName, fc.ipV4(), fc.ipV6());

  test("what is formatted parses back, IPv6 literals too", () => {
    fc.assert(
      fc.property(
        fc.constantFrom("tcp" as const, "ws" as const, "memory" as const),
        host,
        fc.integer({ min: 0, max: 65_535 }),
        (transport, name, port) => {
          const address = { transport, host: name, port };
          expect(parseAddress(formatAddress(address))).toEqual(address);
        },
      ),
    );
  });

  test("an IPv6 literal stands in brackets", () => {
    const address = { transport: "ws", host: "::1", port: 7900 } as const;
    expect(formatAddress(address)).toBe("ws://[::1]:7900");
    expect(parseAddress("ws://[::1]:7900/")).toEqual(address);
    expect(parseAddress("tcp://[fe80::1%2]:1")?.host).toBe("fe80::1%2");
  });

  test.each([
    "",
    "tcp://",
    "tcp://host",
    "tcp://host:",
    "tcp://host:65536",
    "tcp://host:-1",
    "tcp://:7900",
    "tcp://::1:7900",
    "tcp://[::1:7900",
    "tcp://[]:7900",
    "tcp://[host]:7900",
    "udp://host:7900",
    "http://host:80",
    "host:7900",
    "tcp://host:7900/path",
    " tcp://host:7900",
    "tcp://host:7900 ",
    "tcp://host:7900\n",
  ])("%j is no address", (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });
});
