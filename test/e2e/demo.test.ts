import { afterEach, describe, expect, it } from "vitest";
import { cleanUp, Mp2p } from "./processes.ts";

interface Event {
  readonly event: string;
  readonly name?: string;
  readonly kind?: string;
  readonly pid?: number;
  readonly dataSent?: number;
}

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

  it("keeps the session for its late peer, however long that one takes to start", async () => {
    const demo = new Mp2p(["demo", "--peers", "3", "--speed", "3200000"]);
    const lines = () => demo.output.toString().split("\n").slice(0, -1);
    const events = (name: string) =>
      lines()
        .map((line): Event => JSON.parse(line))
        .filter(({ event }) => event === name);
    const late = () => events("peer").find(({ kind }) => kind === "late")?.pid;
    await demo.until(() => late() !== undefined, "a late peer");
    const pid = late() as number;
    process.kill(pid, "SIGSTOP");
    // The replay is over when its count stands still.
    await demo.until(() => {
      const [before, last] = events("progress").slice(-2);
      return before !== undefined && before.dataSent === last?.dataSent;
    }, "the end of the replay");
    process.kill(pid, "SIGCONT");
    await demo.exit;
    const check = events("check").find(({ name }) => name?.includes("(late)"));
    expect(check, demo.said + demo.output.toString()).toMatchObject({ passed: true });
  }, 90_000);

  it("--keep goes on until a signal, and does not forget a failed verdict", async () => {
    const demo = new Mp2p(["demo", "--peers", "3", "--speed", "3200000", "--keep"]);
    const events = (name: string): Event[] =>
      demo.output
        .toString()
        .split("\n")
        .slice(0, -1)
        .map((line): Event => JSON.parse(line))
        .filter(({ event }) => event === name);
    await demo.until(() => events("peer").length >= 4, "a late peer");
    process.kill(events("peer")[0]?.pid as number, "SIGKILL");
    await demo.until(() => events("keeping").length > 0, "the session that goes on");
    expect(events("verdict")).toMatchObject([{ passed: false }]);
    demo.kill("SIGTERM");
    expect(await demo.exit, demo.said).toBe(1);
    // The demo itself waits 30 s for peers to start, and 30 s for them to be done.
  }, 150_000);

  it("stops in order when interrupted", async () => {
    const demo = new Mp2p(["demo", "--peers", "3"]);
    await demo.until(() => demo.output.includes('"event":"session"'), "a session");
    demo.kill("SIGINT");
    expect(await demo.exit).toBe(130);
  });
});
