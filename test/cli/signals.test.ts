import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import { Signals } from "../../src/cli/signals.ts";

function process() {
  const exits: number[] = [];
  const emitter = Object.assign(new EventEmitter(), {
    exit: (code: number) => {
      exits.push(code);
    },
  });
  const signals = new Signals(emitter as unknown as Pick<NodeJS.Process, "on" | "exit">);
  return { emitter, exits, signals };
}

describe("signals", () => {
  it("ask for an orderly stop first and end at once the second time", () => {
    const { emitter, exits, signals } = process();
    const heard: string[] = [];
    signals.onFirst((name) => heard.push(name));
    emitter.emit("SIGINT");
    expect({ heard, exits, aborted: signals.signal.aborted }).toEqual({
      heard: ["SIGINT"],
      exits: [],
      aborted: true,
    });
    emitter.emit("SIGTERM");
    expect({ heard, exits }).toEqual({ heard: ["SIGINT"], exits: [130] });
  });

  it("decide the exit code: 130 for SIGINT, 0 for SIGTERM, else what the command says", () => {
    const { emitter, signals } = process();
    expect(signals.exitCode(3)).toBe(3);
    emitter.emit("SIGTERM");
    expect(signals.exitCode(3)).toBe(0);
    const other = process();
    other.emitter.emit("SIGINT");
    expect(other.signals.exitCode(0)).toBe(130);
  });

  it("are told to who asks late", () => {
    const { emitter, signals } = process();
    emitter.emit("SIGTERM");
    const heard: string[] = [];
    signals.onFirst((name) => heard.push(name));
    expect(heard).toEqual(["SIGTERM"]);
  });
});
