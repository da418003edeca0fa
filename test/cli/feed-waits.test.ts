/** What a feed says while it waits. */

import { describe, expect, it } from "vitest";
import { HeldWait, Outage } from "../../src/cli/feed-waits.ts";

describe("a feed without a link", () => {
  it("says so once, and after each ten seconds of it for how long", () => {
    const outage = new Outage();
    expect(outage.sentence("LINK_CLOSED ", 1_000)).toBe("no link: LINK_CLOSED ");
    for (const atMs of [1_000, 1_200, 2_500, 10_999]) {
      expect(outage.sentence("UNREACHABLE x", atMs)).toBeUndefined();
    }
    expect(outage.sentence("UNREACHABLE x", 11_500)).toBe("no link for 10.5 s: UNREACHABLE x");
    expect(outage.sentence("UNREACHABLE x", 21_000)).toBeUndefined();
    expect(outage.sentence("UNREACHABLE x", 22_000)).toBe("no link for 21.0 s: UNREACHABLE x");
    outage.over();
    expect(outage.sentence("UNREACHABLE x", 23_000)).toBe("no link: UNREACHABLE x");
  });
});

describe("a feed of whose data peers hold nothing more", () => {
  it("says once, after some seconds, that none may be there", () => {
    const wait = new HeldWait();
    const at = (accepted: number, held: number, nowMs: number, linked = true) =>
      wait.sentence({ accepted, held, linked }, nowMs);
    expect([at(0, 0, 0), at(5, 0, 60_000), at(9, 0, 64_999)]).toEqual(Array(3).fill(undefined));
    expect(at(9, 0, 65_000)).toBe(
      "waits for peers: none holds anything yet, so it may be that none has joined the session",
    );
    expect(at(9, 0, 90_000)).toBeUndefined();
    // They go on, and stop again.
    expect([at(9, 7, 91_000), at(9, 7, 95_000)]).toEqual([undefined, undefined]);
    expect(at(9, 7, 96_000)).toContain("none holds more than up to 7,");
    expect([at(9, 9, 97_000), at(9, 9, 120_000)]).toEqual([undefined, undefined]);
    // Without a link nobody knows.
    expect([at(12, 9, 121_000, false), at(12, 9, 140_000, false)]).toEqual([undefined, undefined]);
    expect([at(12, 9, 141_000), at(12, 9, 145_000)]).toEqual([undefined, undefined]);
    expect(at(12, 9, 146_000)).toContain("none holds more than up to 9,");
  });
});
