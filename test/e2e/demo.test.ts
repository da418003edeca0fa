import { afterEach, describe, expect, it } from "vitest";
import { cleanUp, Mp2p } from "./processes.ts";

afterEach(cleanUp);

describe("the main job", () => {
  it("replays real measurements, has a peer killed and one late, and ends with its verdict", async () => {
    const demo = new Mp2p(["demo", "--peers", "4", "--speed", "1600000"]);
    expect(await demo.exit, demo.said + demo.output.toString()).toBe(0);
    const events = demo.output
      .toString()
      .trim()
      .split("\n")
      .map(
        (line) =>
          JSON.parse(line) as {
            event: string;
            name?: string;
            passed?: boolean;
            kind?: string;
            sources?: string[];
          },
      );
    const named = (name: string) => events.filter(({ event }) => event === name);
    expect(named("session")[0]?.sources).toHaveLength(13);
    expect(named("peer").map(({ kind }) => kind)).toEqual([
      "full-time",
      "full-time",
      "full-time",
      "killed",
      "late",
    ]);
    expect(named("killed")).toHaveLength(1);
    // Three full-time peers and the late one by digest, the source's load, three shares, the end.
    expect(named("check").map(({ passed }) => passed)).toEqual(Array(9).fill(true));
    expect(named("verdict")).toMatchObject([{ passed: true }]);
  }, 90_000);

  it("stops in order when interrupted", async () => {
    const demo = new Mp2p(["demo", "--peers", "3"]);
    await demo.until(() => demo.output.includes('"event":"session"'), "a session");
    demo.kill("SIGINT");
    expect(await demo.exit).toBe(130);
  });
});
