/** A machine of either side of R11 driven by hand, frame by frame. */

import { expect } from "vitest";
import type { Input, Output } from "../../../src/base/machine.ts";
import { AcceptMachine } from "../../../src/peer/feed/accept-machine.ts";
import type { AcceptCommand, AcceptEvent } from "../../../src/peer/feed/accept-types.ts";
import { writeMsgpack } from "../../support/msgpack-writer.ts";
import { frameOf, R11 } from "../../support/raw-data-source.ts";

const OVERLAY = "0".repeat(32);
export const remote = { transport: "tcp", host: "x", port: 1 } as const;

/** A machine of either side with what it put out. */
export class Driven<C, E> {
  readonly outputs: Output<E>[] = [];
  nowMs = 0;
  readonly #machine: {
    handle(input: Input<C>, now: { monoMs: number; wallUs: number }): void;
    poll(): Output<E> | undefined;
  };

  constructor(machine: Driven<C, E>["machineType"]) {
    this.#machine = machine;
  }
  declare readonly machineType: {
    handle(input: Input<C>, now: { monoMs: number; wallUs: number }): void;
    poll(): Output<E> | undefined;
  };

  input(input: Input<C>): void {
    this.nowMs++;
    this.#machine.handle(input, { monoMs: this.nowMs, wallUs: 1 + this.nowMs });
    for (let out = this.#machine.poll(); out !== undefined; out = this.#machine.poll()) {
      this.outputs.push(out);
    }
  }

  frames(linkId: number, ...frames: readonly Uint8Array[]): void {
    const memory = Buffer.concat(frames);
    const ranges = new Uint32Array(2 * frames.length);
    let at = 0;
    frames.forEach((frame, i) => {
      ranges.set([at, frame.length], 2 * i);
      at += frame.length;
    });
    this.input({ kind: "frames", linkId, memory, ranges, count: frames.length });
  }

  /** A data source that is linked and admitted. */
  admitted(this: Driven<AcceptCommand, AcceptEvent>, linkId: number, sourceId: string): void {
    this.input({ kind: "linkUp", linkId, direction: "inbound", remote });
    this.frames(linkId, register(sourceId));
    this.input({ kind: "command", command: { kind: "admit", sourceId, next: 1 } });
  }

  /** Time goes by, with a timeout every half second. */
  wait(ms: number): void {
    for (const endMs = this.nowMs + ms; this.nowMs < endMs; ) {
      this.nowMs = Math.min(endMs, this.nowMs + 500) - 1;
      this.input({ kind: "timeout" });
    }
  }

  isClosed(linkId: number): boolean {
    return this.outputs.some((out) => out.kind === "close" && out.linkId === linkId);
  }
}

export function acceptor(room: () => number): {
  driven: Driven<AcceptCommand, AcceptEvent>;
  machine: AcceptMachine;
  taken: string[];
} {
  const taken: string[] = [];
  const machine = new AcceptMachine({
    overlayId: OVERLAY,
    sessionEpoch: 1,
    mayEndSession: true,
    isLocal: () => false,
    sink: {
      write(sourceId, payloads, lengths) {
        const count = Math.min(lengths.length, room());
        let at = 0;
        for (let i = 0; i < count; i++) {
          const end = at + (lengths[i] as number);
          expect(end).toBeLessThanOrEqual(payloads.length);
          if (sourceId === "good") taken.push(Buffer.from(payloads.subarray(at, end)).toString());
          at = end;
        }
        return count;
      },
    },
  });
  return { driven: new Driven(machine), machine, taken };
}

export const register = (sourceId: string, held = 0): Buffer =>
  frameOf(
    R11.REGISTER,
    writeMsgpack([1, 1, sourceId, "", "text/plain", Buffer.alloc(16, 1), held]),
  );
