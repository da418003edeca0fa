/** What a feed says while it waits. */

import { describe, expect, it } from "vitest";
import { Outage } from "../../src/cli/feed-waits.ts";

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
